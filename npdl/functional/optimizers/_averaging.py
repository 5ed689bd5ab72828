"""Averages over time: of gradients before an update, and of parameters after it.

>>> import npdl.functional as F
>>> optimizer = F.chain(F.accumulate(F.adam(1e-3), steps=4), F.average_params(0.999))
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np

from npdl import tree
from npdl._constructor import constructor
from npdl.functional._checks import check_int, check_number
from npdl.functional._layer import Params
from npdl.functional.optimizers._combining import check_optimizer
from npdl.functional.optimizers._optimizer import (
    Optimizer,
    State,
    Updates,
    aligned,
    apply_updates,
    checked_gradient,
    foreign,
)
from npdl.tree import Array, Tree

__all__ = ["AccumulateState", "AverageState", "accumulate", "average_params", "averaged", "records"]


class AccumulateState(NamedTuple):
    """State of :func:`accumulate`: the sum of the gradients since the last update."""

    count: int  # type: ignore[assignment]
    total: Tree
    # Whether a parameter had a gradient since the last update.
    reached: Tree
    inner: State


@constructor
def accumulate(optimizer: Optimizer, steps: int) -> Optimizer:
    """Update once per n calls, with the mean of the n gradients.

    ``g = (g₁ + g₂ + … + gₙ) / n``, where n is the number of `steps`. So n batches of equal size
    have the effect of one large batch. In the other calls, the updates are `None` and the
    parameters stay unchanged.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer of the mean gradients; its count is the number of real updates.
    steps : int
        Number of gradients per mean. A gradient `None` counts as zero, unless all are `None`.

    Notes
    -----
    All gradients have the same weight, because an optimizer does not know the batch sizes. The last
    batch of an epoch is often smaller, and its examples then count more than others.

    The gradients after the last update of a run stay in the state. :func:`npdl.training.fit` warns
    about them, and another run with ``fit(state=state)`` continues with them.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer = F.accumulate(F.sgd(1.0), steps=2)
    >>> nothing, state = optimizer.update(np.array([1.0]), optimizer.init(np.zeros(1)))
    >>> update, state = optimizer.update(np.array([3.0]), state)
    >>> nothing, update
    (None, array([-2.]))
    """
    check_optimizer(optimizer, "accumulate: the first argument", "accumulate(adam(1e-3), steps=4)")
    steps = check_int(steps, "accumulate(adam(1e-3), steps=4)", least=1)

    def fresh(count: int, like: Tree, inner: State) -> AccumulateState:
        zeros = tree.map(lambda leaf: np.zeros_like(leaf, subok=False), like)
        return AccumulateState(count, zeros, tree.map(lambda leaf: False, like), inner)

    def init(params: Params) -> AccumulateState:
        return fresh(0, params, optimizer.init(params))

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        if type(state) is not AccumulateState:
            raise foreign(state, AccumulateState)
        count, total, reached, inner = state
        gradients = aligned("gradients", grads, total)
        sums, seen = tree.leaves(total), tree.leaves(reached)
        for i, g in enumerate(gradients):
            if g is not None:
                g, _ = checked_gradient(g, None, [sums[i]], total, i)
                sums[i], seen[i] = np.asarray(sums[i] + g), True
        count += 1
        if count % steps:
            new = AccumulateState(
                count, tree.unflatten(total, sums), tree.unflatten(reached, seen), inner
            )
            return None, new
        pairs = zip(sums, seen, strict=True)
        means = tree.unflatten(total, [s / steps if used else None for s, used in pairs])
        updates, inner = optimizer.update(means, inner, params)
        return updates, fresh(count, total, inner)

    return Optimizer(init, update)


def has_pending(state: State) -> bool:
    """Whether a state has gradients of :func:`accumulate` without an update yet."""
    return any(any(tree.leaves(part.reached)) for part in records(state, AccumulateState))


class AverageState(NamedTuple):
    """State of :func:`average_params`: the average, and booleans of the trained arrays."""

    average: Params
    trained: Tree


@constructor
def average_params(decay: float) -> Optimizer:
    """Keep a moving average of the parameters, for evaluation: ``a = decay a + (1 - decay) p``.

    The transform must be last in a chain, because `p` are the parameters after the update. It
    passes the updates unchanged. The average starts with the parameters after the first update.
    Arrays without any update, such as running statistics, are not averaged but copied from the
    parameters passed to `update`.

    Parameters
    ----------
    decay : float
        In [0, 1); 0.999 averages over about a thousand updates.

    References
    ----------
    Polyak, Juditsky: Acceleration of stochastic approximation by averaging, 1992; with the
    exponential weights that are usual in deep learning.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer, params = F.chain(F.sgd(1.0), F.average_params(0.5)), np.array([4.0])
    >>> state = optimizer.init(params)
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(np.array([1.0]), state, params)
    ...     params = F.apply_updates(params, updates)
    >>> params, F.averaged(state)
    (array([2.]), array([2.5]))
    """
    decay = check_number(decay, "average_params(decay=0.999)", "in [0, 1)")

    def init(params: Params) -> AverageState:
        return AverageState(params, tree.map(lambda leaf: False, params))

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        if params is None:
            raise ValueError("average_params needs the params: update(grads, state, params)")
        if type(state) is not AverageState:
            raise foreign(state, AverageState)
        averages = aligned("state", state.average, params)
        trained = aligned("state", state.trained, params)
        new = tree.leaves(apply_updates(params, grads))
        for i, u in enumerate(aligned("updates", grads, params)):
            if u is None:
                averages[i] = averages[i] if trained[i] else new[i]
            else:
                averages[i] = _mean(averages[i], new[i], decay) if trained[i] else new[i]
                trained[i] = True
        return grads, AverageState(
            tree.unflatten(params, averages), tree.unflatten(params, trained)
        )

    return Optimizer(init, update)


def _mean(average: Array, value: Array, decay: float) -> Array:
    # In this form the average of equal numbers is exact.
    return np.asarray(average + (value - average) * (1 - decay))


def averaged(state: State) -> Params:
    """Return the average of :func:`average_params` from anywhere in a state.

    Parameters
    ----------
    state : tree
        The state of an optimizer, or a record with such a state.

    Raises
    ------
    ValueError
        If the state has no average, or more than one.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer = F.chain(F.adam(1e-3), F.average_params(0.999))
    >>> F.averaged(optimizer.init({"a": np.ones(2)}))
    {'a': array([1., 1.])}
    """
    found = [part.average for part in records(state, AverageState)]
    if len(found) != 1:
        raise ValueError(
            f"expected the state of one average_params, found {len(found)}; a right optimizer is "
            f"chain(adam(1e-3), average_params(0.999)), around by_path if there are groups"
        )
    return found[0]


def records(state: Any, kind: type) -> Iterator[Any]:
    """Yield the records of one type in a state."""
    if isinstance(state, kind):
        yield state
    if isinstance(state, tuple | list | dict):
        for part in state.values() if isinstance(state, dict) else state:
            yield from records(part, kind)
    elif attrs.has(type(state)):
        for field in attrs.fields(type(state)):
            yield from records(getattr(state, field.name), kind)
