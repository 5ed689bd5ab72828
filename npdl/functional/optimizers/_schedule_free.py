"""Schedule-Free optimizers: an average of the iterates replaces the decay of the learning rate.

The parameters are the training point `y`. For evaluation, :func:`schedule_free_params` returns the
average `x`.
"""

from typing import NamedTuple

import numpy as np

from npdl import tree
from npdl._calls import explained
from npdl._constructor import constructor
from npdl.functional._checks import check_number
from npdl.functional._layer import Params
from npdl.functional.optimizers._adam import scale_by_adam
from npdl.functional.optimizers._averaging import records
from npdl.functional.optimizers._combining import chain
from npdl.functional.optimizers._optimizer import (
    Optimizer,
    Select,
    State,
    aligned,
    elementwise,
)
from npdl.functional.optimizers._schedules import Schedule
from npdl.functional.optimizers._transforms import add_decayed_weights, finite_rate
from npdl.tree import Array

__all__ = ["ScheduleFreeState", "schedule_free", "schedule_free_adamw", "schedule_free_params"]


class ScheduleFreeState(NamedTuple):
    """State of :func:`schedule_free`: the difference ``x - y`` of average and parameters."""

    count: int  # type: ignore[assignment]
    offset: Params


@constructor
def schedule_free(learning_rate: float | Schedule, *, beta: float = 0.9) -> Optimizer:
    """Step from `z`, average in `x`, and compute gradients between them, at `y`.

    ``z = z - η g``, ``x = (1 - c) x + c z``, ``y = (1 - β) z + β x``, with the weight
    ``cₜ = ηₜ² / Σₛ ηₛ²`` of the update t, where η is the largest learning rate so far. The
    parameters are `y`. The state has ``x - y``, from which `z` follows, too.

    Parameters
    ----------
    learning_rate : float or schedule
        The η: a number, or a schedule that only warms up. The transform multiplies by it, and is
        the last one of a chain.
    beta : float
        The interpolation β, in (0, 1); the momentum.

    Raises
    ------
    ValueError
        From `update`, if the schedule returns NaN or infinity; the message has the step.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky: The road less scheduled, 2024, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer, params = F.schedule_free(0.5, beta=0.5), np.array([4.0])
    >>> state = optimizer.init(params)
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(np.array([1.0]), state, params)
    ...     params = F.apply_updates(params, updates)
    >>> params, F.schedule_free_params(state, params)
    (array([3.125]), array([3.25]))
    """
    rate = finite_rate(learning_rate, "schedule_free")
    beta = check_number(beta, "schedule_free(0.0025, beta=0.9)", "in (0, 1)")
    weights = _weights(rate)
    ratio = beta / (1 - beta)  # z - y = ratio · (y - x)

    def rule(count: int, g: Array, p: Array | None, offset: Array) -> tuple[Array, Array]:
        share, step = weights(count), rate(count)
        moved = g * step
        u = moved * (beta * (1 - share) - 1)
        u -= offset * (share * ratio)
        moved += u
        moved *= 1 / ratio
        moved += offset
        return u, moved

    return elementwise(rule, ScheduleFreeState)


def _weights(rate: Schedule) -> Schedule:
    """Return a function of the count: the share of this update in the average.

    It caches its last sum, so that the next one needs one addition. The sum is not in the state,
    because it follows from the count.
    """
    start = (-1, 0.0, 0.0)
    last = start

    def share(count: int) -> float:
        nonlocal last
        known = last
        done, total, largest = known if known[0] <= count else start
        for i in range(done + 1, count + 1):
            largest = max(largest, rate(i))
            total += largest**2
        last = (count, total, largest)
        return largest**2 / total if total else 0.0

    return share


def schedule_free_params(state: State, params: Params) -> Params:
    """Return the average of :func:`schedule_free`, for evaluation: ``x = y + (x - y)``.

    Parameters
    ----------
    state : tree
        The state of an optimizer, or a record with such a state.
    params : tree
        The current parameters `y`. Arrays that are not trained stay unchanged.

    Raises
    ------
    ValueError
        If the state has no state of :func:`schedule_free`, or more than one.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> params = {"a": np.ones(2)}
    >>> F.schedule_free_params(F.schedule_free_adamw().init(params), params)
    {'a': array([1., 1.])}
    """
    found = list(records(state, ScheduleFreeState))
    if len(found) != 1:
        raise ValueError(
            f"expected the state of one schedule_free, found {len(found)}; a right call is "
            f"schedule_free_params(state, params), with state = schedule_free_adamw().init(params)"
        )
    leaves = tree.leaves(params)
    offsets = aligned("state", found[0].offset, params)
    pairs = zip(leaves, offsets, strict=True)
    return tree.unflatten(
        params, [leaf if offset is None else np.asarray(leaf + offset) for leaf, offset in pairs]
    )


@explained
def schedule_free_adamw(
    learning_rate: float | Schedule = 2.5e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    mask: Select | None = None,
) -> Optimizer:
    """Schedule-Free AdamW: AdamW at a constant learning rate, with an average for evaluation.

    With the learning rate η, the weight decay λ, and the weights c of :func:`schedule_free`::

        v = β₂ v + (1 - β₂) g²    z = z - η (g / (√(v / (1 - β₂ᵗ)) + ε) + λ y)
        x = (1 - c) x + c z    y = (1 - β₁) z + β₁ x

    The parameters are `y`; :func:`schedule_free_params` returns `x`, for evaluation.

    Parameters
    ----------
    learning_rate : float or schedule
        The η: a number, or a schedule that only warms up, such as ``warmup(2.5e-3, 100)``.
    beta1 : float
        The interpolation of :func:`schedule_free`, in (0, 1).
    beta2, epsilon
        See :func:`scale_by_adam`.
    weight_decay : float
        The λ, the rate of decay of the parameters, times the learning rate.
    mask : str, tuple of str or callable, optional
        Selection of the parameters to decay, as in :func:`add_decayed_weights`.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky: The road less scheduled, 2024, algorithm 1
    and section 4.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.schedule_free_adamw()
    chain(scale_by_adam(beta1=0.0), schedule_free(learning_rate=0.0025))
    """
    beta1 = check_number(beta1, "schedule_free_adamw(beta1=0.9)", "in (0, 1)")
    rate = check_number(weight_decay, "schedule_free_adamw(weight_decay=0.01)", "of at least 0")
    parts = [scale_by_adam(beta1=0.0, beta2=beta2, epsilon=epsilon)]
    if rate:
        parts.append(add_decayed_weights(rate, mask=mask))
    return chain(*parts, schedule_free(learning_rate, beta=beta1))
