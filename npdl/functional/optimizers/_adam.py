"""The transforms with two moving averages: Adam and its variants, and Lion.

>>> import npdl.functional as F
>>> F.chain(F.scale_by_adam(beta2=0.99), F.scale_by_learning_rate(1e-3)).elementwise
True
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npdl._constructor import constructor
from npdl.functional._checks import check_number
from npdl.functional._kernels.scalars import as_scalar
from npdl.functional._layer import Params
from npdl.functional.optimizers._adaptive import moving
from npdl.functional.optimizers._optimizer import Optimizer, elementwise
from npdl.tree import Array

__all__ = [
    "AdamState",
    "AdamaxState",
    "LionState",
    "NadamState",
    "check_betas",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_lion",
    "scale_by_nadam",
]


class AdamState(NamedTuple):
    """State of :func:`scale_by_adam`: decaying sums of the gradients and of their squares."""

    count: int  # type: ignore[assignment]
    gradients: Params
    squares: Params


@constructor
def scale_by_adam(*, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Divide the mean gradient by the root mean square.

    ``m = β₁ m + (1 - β₁) g``, ``v = β₂ v + (1 - β₂) g²``,
    ``u = m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)`` in the update t, counted from 1. The divisors
    ``1 - βᵗ`` correct the bias towards the initial zeros. The state has ``m / (1 - β₁)`` and
    ``v / (1 - β₂)``, which saves passes over memory.

    Parameters
    ----------
    beta1, beta2 : float
        Decay rates of the means, in [0, 1).
    epsilon : float
        The ε, positive; outside the root, as in the paper.

    Notes
    -----
    Squares of float32 gradients lose digits below 1e-19 and become zero below 1e-22. With an ε of
    at least 1e-12, this has no effect; with a smaller one, multiply the loss by a constant.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_adam()
    >>> u, state = transform.update(np.array([-3.0, 0.0]), transform.init(np.zeros(2)))
    >>> u.round(6), state.count
    (array([-1.,  0.]), 1)
    """
    beta1, beta2, epsilon = check_betas("scale_by_adam", beta1, beta2, epsilon)

    def rule(
        count: int,
        g: Array,
        p: Array | None,
        s: Array,
        q: Array,
        out: Any = (None, None),
        factor: float = 1.0,
    ) -> tuple[Array, ...]:
        t = count + 1
        root = math.sqrt((1 - beta2) / (1 - beta2**t))
        s = np.multiply(s, as_scalar(beta1, s.dtype), out=out[0])
        s += g
        q = np.multiply(q, as_scalar(beta2, q.dtype), out=out[1])
        u = g * g
        q += u
        # All scalar factors are combined into one multiplication at the end.
        np.sqrt(q, out=u)
        u += epsilon / root
        np.divide(s, u, out=u)
        u *= factor * (1 - beta1) / ((1 - beta1**t) * root)
        return u, s, q

    return elementwise(rule, AdamState, in_place=True, takes_factor=True)


def check_betas(
    name: str, beta1: float, beta2: float, epsilon: float
) -> tuple[float, float, float]:
    """Return the options of Adam and its variants as Python floats."""
    return (
        check_number(beta1, f"{name}(beta1=0.9)", "in [0, 1)"),
        check_number(beta2, f"{name}(beta2=0.999)", "in [0, 1)"),
        check_number(epsilon, f"{name}(epsilon=1e-8)", "above 0"),
    )


class NadamState(NamedTuple):
    """State of :func:`scale_by_nadam`."""

    count: int  # type: ignore[assignment]
    first_moment: Params
    second_moment: Params


@constructor
def scale_by_nadam(
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    momentum_decay: float = 0.004,
) -> Optimizer:
    """Adam with Nesterov's momentum, which looks ahead.

    ``u = (μₜ₊₁ m / (1 - Πₜ₊₁) + (1 - μₜ) g / (1 - Πₜ)) / (√(v / (1 - β₂ᵗ)) + ε)``, with `m` and `v`
    as in :func:`scale_by_adam`. The momentum ``μₜ = β₁ (1 - 0.96^(t momentum_decay) / 2)`` grows,
    and Πₜ is the product of all μ up to t.

    Parameters
    ----------
    beta1, beta2, epsilon : float
        As for :func:`scale_by_adam`.
    momentum_decay : float
        Growth rate of the momentum from ``β₁ / 2`` to `β₁`, not negative.

    References
    ----------
    Dozat: Incorporating Nesterov momentum into Adam, 2016, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_nadam()
    >>> u, state = transform.update(np.array([-3.0, 0.0]), transform.init(np.zeros(2)))
    >>> u.round(4), state.count
    (array([-1.0565,  0.    ]), 1)
    """
    beta1, beta2, epsilon = check_betas("scale_by_nadam", beta1, beta2, epsilon)
    growth = check_number(momentum_decay, "scale_by_nadam(momentum_decay=0.004)", "of at least 0")

    def momentum(t: int) -> float:
        return beta1 * (1 - 0.5 * math.pow(0.96, t * growth))

    product_up_to = _product(momentum)

    def rule(count: int, g: Array, p: Array | None, m: Array, v: Array) -> tuple[Array, ...]:
        t = count + 1
        product = product_up_to(t)
        m = moving(m, g, beta1)
        v = moving(v, g * g, beta2)
        root = np.sqrt(v)
        root *= 1 / math.sqrt(1 - beta2**t)
        root += epsilon
        u = m * (momentum(t + 1) / (1 - product * momentum(t + 1)))
        u += g * ((1 - momentum(t)) / (1 - product))
        u /= root
        return u, m, v

    return elementwise(rule, NadamState)


def _product(factor: Callable[[int], float]) -> Callable[[int], float]:
    """Return a function of t, the product of ``factor(1)`` to ``factor(t)``.

    It caches its last value, so that the next one needs a single multiplication. The product is not
    a transform of the state, because it follows from the count.
    """
    last = (0, 1.0)

    def product(t: int) -> float:
        nonlocal last
        known = last
        start, value = known if known[0] <= t else (0, 1.0)
        for i in range(start + 1, t + 1):
            value *= factor(i)
        last = (t, value)
        return value

    return product


class AdamaxState(NamedTuple):
    """State of :func:`scale_by_adamax`."""

    count: int  # type: ignore[assignment]
    first_moment: Params
    largest: Params


@constructor
def scale_by_adamax(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Divide the mean gradient by the decaying maximum of the gradients.

    ``m = β₁ m + (1 - β₁) g``, ``s = max(β₂ s, |g| + ε)``, ``u = m / (1 - β₁ᵗ) / s``.

    Parameters
    ----------
    beta1, beta2 : float
        Decay rates of the mean and of the maximum, in [0, 1).
    epsilon : float
        The ε, positive. As in PyTorch, it prevents a division by zero for gradients of zero.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_adamax()
    >>> transform.update(np.array([-3.0, 0.0]), transform.init(np.zeros(2)))[0].round(6)
    array([-1.,  0.])
    """
    beta1, beta2, epsilon = check_betas("scale_by_adamax", beta1, beta2, epsilon)

    def rule(count: int, g: Array, p: Array | None, m: Array, s: Array) -> tuple[Array, ...]:
        m = moving(m, g, beta1)
        size = np.abs(g)
        size += epsilon
        s = s * beta2
        np.maximum(s, size, out=s)
        u = m * (1 / (1 - beta1 ** (count + 1)))
        u /= s
        return u, m, s

    return elementwise(rule, AdamaxState)


class LionState(NamedTuple):
    """State of :func:`scale_by_lion`."""

    momentum: Params


@constructor
def scale_by_lion(*, beta1: float = 0.9, beta2: float = 0.99) -> Optimizer:
    """Take the sign of a mean: ``u = sign(β₁ m + (1 - β₁) g)``, then ``m = β₂ m + (1 - β₂) g``.

    Parameters
    ----------
    beta1, beta2 : float
        Weight of the mean in the update, and decay rate of the mean, in [0, 1).

    Notes
    -----
    If a gradient stays exactly zero, `m` decays to subnormal numbers, as the velocity in
    :func:`trace`. In float32, this takes some 8,700 updates; later updates take three times as
    long.

    References
    ----------
    Chen et al.: Symbolic discovery of optimization algorithms, 2023, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_lion()
    >>> transform.update(np.array([-3.0, 0.0, 0.1]), transform.init(np.zeros(3)))[0]
    array([-1.,  0.,  1.])
    """
    beta1 = check_number(beta1, "scale_by_lion(beta1=0.9)", "in [0, 1)")
    beta2 = check_number(beta2, "scale_by_lion(beta2=0.99)", "in [0, 1)")

    def rule(count: int, g: Array, p: Array | None, m: Array) -> tuple[Array, Array]:
        u = moving(m, g, beta1)
        np.sign(u, out=u)
        return u, moving(m, g, beta2)

    return elementwise(rule, LionState)
