"""Muon: updates of matrices with all singular values near one."""

from typing import Any, NamedTuple

import numpy as np

from npdl import tree
from npdl._calls import explained
from npdl._constructor import constructor
from npdl.functional._checks import check_flag, check_int, check_number
from npdl.functional._layer import Params
from npdl.functional.optimizers._combining import chain
from npdl.functional.optimizers._optimizer import (
    Optimizer,
    Select,
    State,
    Updates,
    aligned,
    checked_gradient,
    foreign,
)
from npdl.functional.optimizers._schedules import Schedule
from npdl.functional.optimizers._transforms import add_decayed_weights, scale_by_learning_rate
from npdl.tree import Array

__all__ = ["MuonState", "muon", "scale_by_muon"]

# The coefficients of Jordan's quintic polynomial: singular values reach 0.7 to 1.2 in five steps.
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315


class MuonState(NamedTuple):
    """State of :func:`scale_by_muon`."""

    momentum: Params


@constructor
def scale_by_muon(*, decay: float = 0.95, nesterov: bool = True, steps: int = 5) -> Optimizer:
    """Orthogonalize the mean gradient of each matrix.

    ``m = β m + (1 - β) g``, and ``u = 0.2 √max(rows, columns) O(β m + (1 - β) g)``. Here O replaces
    all singular values by numbers near one. It starts with ``X = M / ‖M‖``, and each step computes
    ``X = a X + (b A + c A²) X`` with ``A = X Xᵀ``.

    Parameters
    ----------
    decay : float
        The momentum β, in [0, 1).
    nesterov : bool
        Whether to look ahead; otherwise ``u = 0.2 √max(rows, columns) O(m)``.
    steps : int
        Number of steps of the iteration.

    Notes
    -----
    The transform is for the weights of hidden layers; :func:`by_path` has other optimizers for the
    other arrays. An array with more than two axes, such as the kernels of a convolution, is a
    matrix (first axis, all others). A vector is a matrix of one row, and its direction remains.

    References
    ----------
    Jordan et al.: Muon: An optimizer for hidden layers in neural networks, 2024. Liu et al.: Muon
    is scalable for LLM training, 2025, equation 4, for the factor, which gives the update the size
    of an update of Adam.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_muon()
    >>> u, _ = transform.update(np.diag([100.0, 10.0]), transform.init(np.zeros((2, 2))))
    >>> u.round(1) + 0
    array([[0.2, 0. ],
           [0. , 0.2]])
    """
    decay = check_number(decay, "scale_by_muon(decay=0.95)", "in [0, 1)")
    nesterov = check_flag(nesterov, "scale_by_muon(nesterov=True)")
    steps = check_int(steps, "scale_by_muon(steps=5)", least=1)

    def init(params: Params) -> MuonState:
        return MuonState(tree.map(lambda p: np.zeros_like(p, subok=False), params))

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        if type(state) is not MuonState:
            raise foreign(state, MuonState)
        like = state.momentum
        means, updates = tree.leaves(like), aligned("gradients", grads, like)
        parameters = means if params is None else tree.leaves(params)
        for i, g in enumerate(updates):
            if g is not None:
                g, _ = checked_gradient(g, parameters[i], [means[i]], like, i)
                means[i] = _mean(means[i], g, decay)
                ahead = _mean(means[i], g, decay) if nesterov else means[i]
                updates[i] = _orthogonalized(ahead, steps)
        return tree.unflatten(like, updates), MuonState(tree.unflatten(like, means))

    return Optimizer(init, update)


def _mean(mean: Array, value: Array, decay: float) -> Array:
    return np.asarray(mean * decay + value * (1 - decay))


def _orthogonalized(array: Array, steps: int) -> Array:
    """Return the nearly orthogonal matrix of an array, in its shape, times the factor."""
    rows = len(array) if array.ndim > 1 else 1
    x = np.ascontiguousarray(array.reshape(rows, -1) if array.size else np.zeros((1, 1)))
    wide = x.shape[0] <= x.shape[1]
    largest = np.abs(x).max()
    if largest == 0:
        return np.zeros_like(array)
    x = (x if wide else x.T) / largest  # the squares neither overflow nor underflow
    x /= np.sqrt(np.add.reduce(x * x, axis=None))
    for _ in range(steps):
        a = x @ x.T
        b = a * _CUBIC
        b += (a @ a) * _QUINTIC
        x = x * _LINEAR + b @ x
    x *= 0.2 * max(x.shape) ** 0.5
    return np.ascontiguousarray(x if wide else x.T).reshape(array.shape)


@explained
def muon(
    learning_rate: float | Schedule = 1e-3,
    *,
    decay: float = 0.95,
    nesterov: bool = True,
    steps: int = 5,
    weight_decay: float = 0.1,
    mask: Select | None = None,
) -> Optimizer:
    """Muon: momentum with orthogonal updates, for the matrices of hidden layers.

    With the learning rate η, the weight decay λ, and the update `u` of :func:`scale_by_muon`::

        p = p - η (u + λ p)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates. Rates of AdamW are a good start.
    decay, nesterov, steps
        See :func:`scale_by_muon`.
    weight_decay : float
        The rate of decay of the parameters, times the learning rate.
    mask : str, tuple of str or callable, optional
        Selection of the parameters to decay, as in :func:`add_decayed_weights`.

    References
    ----------
    Jordan et al.: Muon: An optimizer for hidden layers in neural networks, 2024. Liu et al.: Muon
    is scalable for LLM training, 2025, equation 4.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.by_path({"*weight": F.muon(1e-3), "*": F.adamw(1e-3)})
    by_path(optimizers={'*weight': chain(scale_by_muon(), add_decayed_weights(rate=0.1),
            scale_by_learning_rate(learning_rate=0.001)), '*': chain(scale_by_adam(),
            add_decayed_weights(rate=0.01), scale_by_learning_rate(learning_rate=0.001))})
    """
    steps = check_int(steps, "muon(1e-3, steps=5)", least=1)
    weight_decay = check_number(weight_decay, "muon(weight_decay=0.1)", "of at least 0")
    return chain(
        scale_by_muon(decay=decay, nesterov=nesterov, steps=steps),
        add_decayed_weights(weight_decay, mask=mask),
        scale_by_learning_rate(learning_rate),
    )
