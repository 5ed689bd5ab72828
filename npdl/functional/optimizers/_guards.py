"""An optimizer that skips gradients with NaN or infinity."""

from typing import Any, NamedTuple

import numpy as np

from npdl import tree
from npdl._constructor import constructor
from npdl.functional._checks import check_int
from npdl.functional._layer import Params
from npdl.functional.optimizers._combining import check_optimizer
from npdl.functional.optimizers._optimizer import Optimizer, State, Updates, foreign

__all__ = ["SkipState", "skip_not_finite"]


class SkipState(NamedTuple):
    """State of :func:`skip_not_finite`: the number of consecutive skips, and the inner state."""

    skipped: int
    inner: State


@constructor
def skip_not_finite(optimizer: Optimizer, *, limit: int = 10) -> Optimizer:
    """Skip an update if a gradient, or the update itself, has a NaN or an infinity.

    Otherwise ``u = f(g)``, the update of the optimizer. In a skip the updates are `None`, and the
    state of the optimizer and the parameters stay unchanged.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer of the finite gradients; its count is the number of real updates.
    limit : int
        The largest number of consecutive skips, at least 1.

    Raises
    ------
    FloatingPointError
        From `update`, at the first skip beyond the limit.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer = F.skip_not_finite(F.sgd(0.5))
    >>> nothing, state = optimizer.update(np.array([np.nan]), optimizer.init(np.zeros(1)))
    >>> update, state = optimizer.update(np.array([2.0]), state)
    >>> nothing, update
    (None, array([-1.]))
    """
    check_optimizer(optimizer, "skip_not_finite: the argument", "skip_not_finite(adam(1e-3))")
    limit = check_int(limit, "skip_not_finite(adam(1e-3), limit=10)", least=1)

    def init(params: Params) -> SkipState:
        return SkipState(0, optimizer.init(params))

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        if type(state) is not SkipState:
            raise foreign(state, SkipState)
        if _is_finite(grads):
            with np.errstate(over="ignore", invalid="ignore"):
                updates, inner = optimizer.update(grads, state.inner, params)
            if _is_finite(updates) and _is_finite(inner):
                return updates, SkipState(0, inner)
        if state.skipped >= limit:
            raise FloatingPointError(
                f"skip_not_finite: {limit + 1} consecutive updates are not finite, and the limit "
                f"is {limit}; lower the learning rate, or clip with clip_by_global_norm(1.0)"
            )
        return None, SkipState(state.skipped + 1, state.inner)

    return Optimizer(init, update)


def _is_finite(values: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in tree.leaves(values))
