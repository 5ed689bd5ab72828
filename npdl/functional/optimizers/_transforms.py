"""Transforms of gradients, the elements of a :func:`chain`.

The first transform of a chain gets the gradients. The last one is mostly
:func:`scale_by_learning_rate`; it has the minus sign and returns the updates. Most transforms are
an equation on arrays, ``rule(count, g, p, *slots) -> (u, *slots)``. Its arguments are the number of
previous updates, a gradient, its parameter and its slots in the state.

>>> import npdl.functional as F
>>> F.chain(F.add_decayed_weights(1e-4), F.trace(0.9), F.scale_by_learning_rate(0.1)).elementwise
True
"""

import math
from typing import Any, NamedTuple

import numpy as np

from npdl import tree
from npdl._constructor import constructor
from npdl.functional._checks import check_flag, check_number
from npdl.functional._layer import Params
from npdl.functional.optimizers._combining import masked
from npdl.functional.optimizers._optimizer import (
    Optimizer,
    Rules,
    Select,
    State,
    Updates,
    check_leaf,
    elementwise,
    foreign,
    scaling,
    scheduled,
    sum_of_squares,
)
from npdl.functional.optimizers._schedules import Schedule, as_schedule
from npdl.tree import Array

__all__ = [
    "CountState",
    "NesterovState",
    "TraceState",
    "add_decayed_weights",
    "clip_by_global_norm",
    "clip_by_value",
    "scale",
    "scale_by_learning_rate",
    "trace",
]


@constructor
def scale(factor: float) -> Optimizer:
    """Multiply by a number: ``u = factor * g``.

    Parameters
    ----------
    factor : float
        Any finite number.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale(-0.5)
    >>> transform.update(np.array([2.0]), transform.init(np.zeros(1)))
    (array([-1.]), ())
    """
    factor = check_number(factor, "scale(factor=0.5)", "that is finite")
    return scaling(factor)


class CountState(NamedTuple):
    """State of a transform that only counts the updates."""

    count: int  # type: ignore[assignment]


@constructor
def scale_by_learning_rate(learning_rate: float | Schedule) -> Optimizer:
    """Multiply by the negative learning rate: ``u = -learning_rate * g``.

    Parameters
    ----------
    learning_rate : float or schedule
        Not negative; a schedule is called with the number of previous updates, 0 at first.

    Raises
    ------
    ValueError
        From `update`, if the schedule returns NaN or infinity; the message has the step.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_learning_rate(F.polynomial_decay(0.5, steps=2))
    >>> step, state = transform.update(np.array([2.0]), transform.init(np.zeros(1)))
    >>> step, state
    (array([-1.]), CountState(count=1))
    """
    rate = finite_rate(learning_rate, "scale_by_learning_rate")
    if callable(learning_rate):
        return scheduled(lambda count: -rate(count), CountState)
    return scaling(-rate(0))


def finite_rate(learning_rate: float | Schedule, name: str) -> Schedule:
    """Return a schedule of Python floats that raises for NaN and infinity."""
    schedule = as_schedule(learning_rate, f"{name}(learning_rate=0.1)")
    if not callable(learning_rate):
        return schedule

    def rate(count: int) -> float:
        value = float(schedule(count))
        if not math.isfinite(value):
            raise ValueError(
                f"{name}: the schedule {schedule!r} returned {value} at step {count}; a learning "
                f"rate must be finite"
            )
        return value

    return rate


@constructor
def add_decayed_weights(rate: float, *, mask: Select | None = None) -> Optimizer:
    """Add a fraction of the parameters: ``u = g + rate * p``.

    After the other transforms and before the learning rate, this is decoupled weight decay (AdamW).
    Before the other transforms, it is the gradient of the penalty ``rate / 2 * Σ p²``.

    Parameters
    ----------
    rate : float
        Not negative.
    mask : str, tuple of str or callable, optional
        Selection of the parameters to decay, as in :func:`masked`; for example, ``"*weight"``
        selects paths that end in "weight". By default, all parameters with a gradient decay.

    References
    ----------
    Loshchilov, Hutter: Decoupled weight decay regularization, 2017, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform, params = F.add_decayed_weights(0.1, mask="*weight"), {"weight": np.ones(1)}
    >>> transform.update({"weight": np.zeros(1)}, transform.init(params), params)[0]
    {'weight': array([0.1])}
    """
    rate = check_number(rate, "add_decayed_weights(rate=1e-4)", "of at least 0")
    if mask is not None:
        return masked(add_decayed_weights(rate), mask)

    def rule(count: int, g: Array, p: Array | None) -> tuple[Array]:
        if p is None:
            raise ValueError("add_decayed_weights needs the params: update(grads, state, params)")
        u = p * rate
        u += g
        return (u,)

    return elementwise(rule)


@constructor
def clip_by_value(limit: float) -> Optimizer:
    """Clip each number to ±limit: ``u = min(max(g, -limit), limit)``.

    Parameters
    ----------
    limit : float
        Positive.

    References
    ----------
    Mikolov: Statistical language models based on neural networks, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.clip_by_value(1.0)
    >>> transform.update(np.array([-3.0, 0.5]), transform.init(np.zeros(2)))[0]
    array([-1. ,  0.5])
    """
    limit = check_number(limit, "clip_by_value(limit=1.0)", "above 0")

    def rule(count: int, g: Array, p: Array | None) -> tuple[Array]:
        u = np.maximum(g, -limit)
        return (np.minimum(u, limit, out=u),)

    return elementwise(rule)


@constructor
def clip_by_global_norm(limit: float) -> Optimizer:
    """Scale all gradients down to a maximal global norm: ``u = g * min(1, limit / ‖g‖)``.

    Gradients with a norm of NaN or infinity stay unchanged.

    Parameters
    ----------
    limit : float
        The largest Euclidean norm, positive.

    References
    ----------
    Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks, 2013,
    section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.clip_by_global_norm(1.0)
    >>> transform.update({"a": np.array([3.0]), "b": np.array([4.0]), "c": None}, ())[0]
    {'a': array([0.6]), 'b': array([0.8]), 'c': None}
    """
    limit = check_number(limit, "clip_by_global_norm(limit=1.0)", "above 0")

    def init(params: Params) -> State:
        return ()

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        if type(state) is not tuple or state:
            raise foreign(state, tuple)
        for path, g in tree.items(grads):
            check_leaf(g, f"the gradient of {path}")
        leaves = [np.asarray(g) for g in tree.leaves(grads)]
        number = factor(leaves, list(map(sum_of_squares, leaves)))
        return grads if number is None else tree.map(lambda g: g * number, grads), state

    def factor(gradients: list[Array], squares: list[float]) -> float | None:
        norm = _global_norm(gradients, squares)
        return None if norm <= limit or not math.isfinite(norm) else limit / norm

    return Optimizer(init, update, Rules((), factor))


def _global_norm(gradients: list[Array], squares: list[float]) -> float:
    """Return the Euclidean norm of all numbers, also if the sums of their squares overflow."""
    leaves = [g for g in gradients if g.size]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        total = sum(squares)
        if 1e-20 < total < math.inf:
            return math.sqrt(total)
        largest = max((float(np.abs(g).max()) for g in leaves), default=0.0)
        if not 0 < largest < math.inf:
            return largest
        scaled = (g / largest for g in leaves)
        return largest * math.sqrt(sum(float(np.vdot(g, g)) for g in scaled))


class TraceState(NamedTuple):
    """State of :func:`trace`."""

    velocity: Params


class NesterovState(NamedTuple):
    """State of :func:`trace` with ``nesterov=True``; it cannot resume plain momentum."""

    velocity: Params


@constructor
def trace(decay: float, *, nesterov: bool = False) -> Optimizer:
    """Momentum, a decaying sum of gradients: ``v = decay * v + g``, and ``u = v``.

    Parameters
    ----------
    decay : float
        The momentum, in [0, 1).
    nesterov : bool
        Whether to look ahead: ``u = g + decay * v``, with the new `v`.

    Notes
    -----
    If a gradient stays exactly zero, as for a dead unit or a rare word, `v` decays to subnormal
    numbers. In float32 with a decay of 0.9, this takes some 830 updates. An array of subnormal
    numbers made an update six times as slow (10 ms instead of 1.7 ms for a million numbers). The
    transforms of :func:`adam` and :func:`adadelta` count their updates and clear such numbers every
    128 updates.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep
    learning, 2013, equations 1 to 4, with ``-v`` times the learning rate as their velocity.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.trace(0.5)
    >>> _, state = transform.update(np.array([4.0]), transform.init(np.zeros(1)))
    >>> transform.update(np.array([1.0]), state)
    (array([3.]), TraceState(velocity=array([3.])))
    """
    decay = check_number(decay, "trace(decay=0.9)", "in [0, 1)")
    nesterov = check_flag(nesterov, "trace(0.9, nesterov=True)")

    def rule(
        count: int, g: Array, p: Array | None, v: Array, out: Any = (None,)
    ) -> tuple[Array, Array]:
        v = np.multiply(v, decay, out=out[0])
        v += g
        if not nesterov:
            return v, v
        u = v * decay
        u += g
        return u, v

    return elementwise(rule, NesterovState if nesterov else TraceState, in_place=True)
