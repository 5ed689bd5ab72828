"""AMSGrad: Adam with divisors that never decrease."""

import math
from typing import NamedTuple

import numpy as np

from npdl._calls import explained
from npdl._constructor import constructor
from npdl.functional._layer import Params
from npdl.functional.optimizers._adam import check_betas
from npdl.functional.optimizers._adaptive import moving
from npdl.functional.optimizers._combining import chain
from npdl.functional.optimizers._optimizer import Optimizer, elementwise
from npdl.functional.optimizers._schedules import Schedule
from npdl.functional.optimizers._transforms import scale_by_learning_rate
from npdl.tree import Array

__all__ = ["AmsgradState", "amsgrad", "scale_by_amsgrad"]


class AmsgradState(NamedTuple):
    """State of :func:`scale_by_amsgrad`."""

    count: int  # type: ignore[assignment]
    first_moment: Params
    second_moment: Params
    largest: Params


@constructor
def scale_by_amsgrad(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Divide the mean gradient by the largest root mean square so far.

    ``m = β₁ m + (1 - β₁) g``, ``v = β₂ v + (1 - β₂) g²``, ``w = max(w, v)``,
    ``u = m / (1 - β₁ᵗ) / (√(w / (1 - β₂ᵗ)) + ε)`` in the update t, counted from 1. As in PyTorch,
    the maximum is taken before the division by ``1 - β₂ᵗ``.

    Parameters
    ----------
    beta1, beta2, epsilon : float
        As for :func:`scale_by_adam`.

    References
    ----------
    Reddi, Kale, Kumar: On the convergence of Adam and beyond, 2018, algorithm 2, with the bias
    corrections of Adam.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_amsgrad()
    >>> u, state = transform.update(np.array([-3.0, 0.0]), transform.init(np.zeros(2)))
    >>> u.round(6), state.count
    (array([-1.,  0.]), 1)
    """
    beta1, beta2, epsilon = check_betas("scale_by_amsgrad", beta1, beta2, epsilon)

    def rule(
        count: int, g: Array, p: Array | None, m: Array, v: Array, w: Array
    ) -> tuple[Array, ...]:
        t = count + 1
        m = moving(m, g, beta1)
        v = moving(v, g * g, beta2)
        w = np.maximum(w, v)
        root = np.sqrt(w)
        root *= 1 / math.sqrt(1 - beta2**t)
        root += epsilon
        u = m * (1 / (1 - beta1**t))
        u /= root
        return u, m, v, w

    return elementwise(rule, AmsgradState)


@explained
def amsgrad(
    learning_rate: float | Schedule = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Optimizer:
    """AMSGrad: Adam with the largest root mean square so far as the divisor.

    With the learning rate η::

        m = β₁ m + (1 - β₁) g    v = β₂ v + (1 - β₂) g²    w = max(w, v)
        p = p - η m / (1 - β₁ᵗ) / (√(w / (1 - β₂ᵗ)) + ε)

    Parameters
    ----------
    learning_rate : float or schedule
        The factor of the updates.
    beta1, beta2, epsilon
        See :func:`scale_by_amsgrad`.

    References
    ----------
    Reddi, Kale, Kumar: On the convergence of Adam and beyond, 2018, algorithm 2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.amsgrad(1e-3)
    chain(scale_by_amsgrad(), scale_by_learning_rate(learning_rate=0.001))
    """
    transform = scale_by_amsgrad(beta1=beta1, beta2=beta2, epsilon=epsilon)
    return chain(transform, scale_by_learning_rate(learning_rate))
