"""The adaptive parts: each number's step is scaled by what its own gradients were like.

Where a small ε keeps a quotient finite, papers and libraries differ on whether it stands inside the
root or outside; each docstring says which, and the older rules let you choose.

>>> import npdl.functional as F
>>> F.chain(F.scale_by_adam(beta2=0.99), F.scale_by_learning_rate(1e-3)).elementwise
True
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npdl.functional.layer import Array, Params
from npdl.functional.rules import finite_rate
from npdl.functional.schedules import Schedule, check_number
from npdl.functional.transforms import Optimizer, elementwise
from npdl.record import constructor

__all__ = [
    "AdadeltaState",
    "AdagradState",
    "AdamState",
    "AdamaxState",
    "LionState",
    "NadamState",
    "RmspropState",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_rmsprop",
]


class AdagradState(NamedTuple):
    """State of :func:`scale_by_adagrad`."""

    squares: Params


@constructor
def scale_by_adagrad(
    epsilon: float = 1e-10, initial_squares: float = 0.0, epsilon_inside: bool = False
) -> Optimizer:
    """Divide by the root of the sum of all squares: ``s = s + g²``, ``u = g / (√s + epsilon)``.

    Parameters
    ----------
    epsilon : float
        Keeps the quotient finite, positive.
    initial_squares : float
        The first value of `s`, not negative.
    epsilon_inside : bool
        Whether to divide by ``√(s + epsilon)`` instead.

    References
    ----------
    Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic
    optimization, 2011, figure 1, with diagonal matrices.

    Examples
    --------
    >>> part = scale_by_adagrad()
    >>> part.update(np.array([-4.0, 0.0]), part.init(np.zeros(2)))[0]
    array([-1.,  0.])
    """
    epsilon = check_number(epsilon, "scale_by_adagrad(epsilon=1e-10)", "above 0")
    initial_squares = check_number(
        initial_squares, "scale_by_adagrad(initial_squares=0.1)", "of at least 0"
    )

    def rule(count: int, g: Array, p: Array | None, s: Array) -> tuple[Array, Array]:
        s = s + g * g
        root = _root(s, epsilon, epsilon_inside)
        return np.divide(g, root, out=root), s

    return elementwise(rule, AdagradState, initial_squares)


def _root(squares: Array, epsilon: float, inside: bool) -> Array:
    """Return a new array with the root of squares, and epsilon inside it or outside."""
    if inside:
        root = squares + epsilon
        return np.sqrt(root, out=root)
    root = np.sqrt(squares)
    root += epsilon
    return root


def _moving(average: Array, value: Array, decay: float) -> Array:
    """Return ``decay * average + (1 - decay) * value``."""
    average = average * decay
    average += value * (1 - decay)
    return average


class RmspropState(NamedTuple):
    """State of :func:`scale_by_rmsprop`."""

    squares: Params


@constructor
def scale_by_rmsprop(
    decay: float = 0.99, epsilon: float = 1e-8, epsilon_inside: bool = False
) -> Optimizer:
    """Divide by the root mean square: ``s = decay s + (1 - decay) g²``, ``u = g / (√s + ε)``.

    Parameters
    ----------
    decay : float
        How much of the mean stays, in [0, 1).
    epsilon : float
        The ε, positive.
    epsilon_inside : bool
        Whether to divide by ``√(s + ε)`` instead.

    References
    ----------
    Tieleman, Hinton: Neural networks for machine learning, 2012, lecture 6.5.

    Examples
    --------
    >>> part = scale_by_rmsprop(decay=0.75)
    >>> part.update(np.array([3.0, 0.0]), part.init(np.zeros(2)))[0].round(6)
    array([2., 0.])
    """
    decay = check_number(decay, "scale_by_rmsprop(decay=0.99)", "in [0, 1)")
    epsilon = check_number(epsilon, "scale_by_rmsprop(epsilon=1e-8)", "above 0")

    def rule(count: int, g: Array, p: Array | None, s: Array) -> tuple[Array, Array]:
        s = _moving(s, g * g, decay)
        root = _root(s, epsilon, epsilon_inside)
        return np.divide(g, root, out=root), s

    return elementwise(rule, RmspropState)


class AdadeltaState(NamedTuple):
    """State of :func:`scale_by_adadelta`."""

    count: int  # type: ignore[assignment]
    squares: Params
    squared_steps: Params


@constructor
def scale_by_adadelta(
    decay: float = 0.9, epsilon: float = 1e-6, learning_rate: float | Schedule = 1.0
) -> Optimizer:
    """Scale by the ratio of the root mean squares of steps and of gradients.

    ``s = decay s + (1 - decay) g²``, ``u = η g √(d + ε) / √(s + ε)``, and then
    ``d = decay d + (1 - decay) u²``.

    Parameters
    ----------
    decay : float
        How much of the means stays, in [0, 1).
    epsilon : float
        The ε, positive; inside both roots, as in the paper.
    learning_rate : float or schedule
        The η of steps that count with it in `d`. The paper has none, and PyTorch applies its own
        afterwards, as :func:`scale_by_learning_rate` does. The sign stays that of the gradient.

    References
    ----------
    Zeiler: ADADELTA: An adaptive learning rate method, 2012, algorithm 1.

    Examples
    --------
    >>> part = scale_by_adadelta(decay=0.75, epsilon=1e-6)
    >>> part.update(np.array([4.0]), part.init(np.zeros(1)))[0].round(6)
    array([0.002])
    """
    decay = check_number(decay, "scale_by_adadelta(decay=0.9)", "in [0, 1)")
    epsilon = check_number(epsilon, "scale_by_adadelta(epsilon=1e-6)", "above 0")
    rate = finite_rate(learning_rate, "scale_by_adadelta")
    plain = not callable(learning_rate) and learning_rate == 1

    def rule(count: int, g: Array, p: Array | None, s: Array, d: Array) -> tuple[Array, ...]:
        s = _moving(s, g * g, decay)
        u = _root(d, epsilon, inside=True)
        u /= _root(s, epsilon, inside=True)
        u *= g
        if not plain:
            u *= rate(count)
        return u, s, _moving(d, u * u, decay)

    return elementwise(rule, AdadeltaState)


class AdamState(NamedTuple):
    """State of :func:`scale_by_adam`."""

    count: int  # type: ignore[assignment]
    first_moment: Params
    second_moment: Params


@constructor
def scale_by_adam(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Divide the mean gradient by the root mean square.

    ``m = β₁ m + (1 - β₁) g``, ``v = β₂ v + (1 - β₂) g²``, and with both freed from the bias
    towards their zero start, ``u = m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)``.

    Parameters
    ----------
    beta1, beta2 : float
        How much of the means stays, in [0, 1).
    epsilon : float
        The ε, positive; outside the root, as in the paper.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 1.

    Examples
    --------
    >>> part = scale_by_adam()
    >>> u, state = part.update(np.array([-3.0, 0.0]), part.init(np.zeros(2)))
    >>> u.round(6), state.count
    (array([-1.,  0.]), 1)
    """
    beta1, beta2, epsilon = _check_betas("scale_by_adam", beta1, beta2, epsilon)

    def rule(count: int, g: Array, p: Array | None, m: Array, v: Array) -> tuple[Array, ...]:
        t = count + 1
        correction1, correction2 = 1 - beta1**t, 1 - beta2**t
        # The corrections of the whole arrays become two factors of the denominator.
        u = g * (1 - beta1)
        m = m * beta1
        m += u
        np.multiply(g, g, out=u)
        u *= 1 - beta2
        v = v * beta2
        v += u
        np.sqrt(v, out=u)
        u *= correction1 / math.sqrt(correction2)
        u += correction1 * epsilon
        return np.divide(m, u, out=u), m, v

    return elementwise(rule, AdamState)


def _check_betas(
    name: str, beta1: float, beta2: float, epsilon: float
) -> tuple[float, float, float]:
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
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    momentum_decay: float = 0.004,
) -> Optimizer:
    """Adam that looks ahead, as Nesterov's momentum does.

    With `m` and `v` of :func:`scale_by_adam` and a growing momentum
    ``μₜ = β₁ (1 - 0.96^(t momentum_decay) / 2)``, whose product up to t is Πₜ:
    ``u = (μₜ₊₁ m / (1 - Πₜ₊₁) + (1 - μₜ) g / (1 - Πₜ)) / (√(v / (1 - β₂ᵗ)) + ε)``.

    Parameters
    ----------
    beta1, beta2, epsilon : float
        As for :func:`scale_by_adam`.
    momentum_decay : float
        How fast the momentum grows from ``β₁ / 2`` to `β₁`, not negative.

    References
    ----------
    Dozat: Incorporating Nesterov momentum into Adam, 2016, algorithm 2.

    Examples
    --------
    >>> part = scale_by_nadam()
    >>> u, state = part.update(np.array([-3.0, 0.0]), part.init(np.zeros(2)))
    >>> u.round(4), state.count
    (array([-1.0565,  0.    ]), 1)
    """
    beta1, beta2, epsilon = _check_betas("scale_by_nadam", beta1, beta2, epsilon)
    growth = check_number(momentum_decay, "scale_by_nadam(momentum_decay=0.004)", "of at least 0")

    def momentum(t: int) -> float:
        return beta1 * (1 - 0.5 * math.pow(0.96, t * growth))

    product_up_to = _product(momentum)

    def rule(count: int, g: Array, p: Array | None, m: Array, v: Array) -> tuple[Array, ...]:
        t = count + 1
        product = product_up_to(t)
        m = _moving(m, g, beta1)
        v = _moving(v, g * g, beta2)
        root = np.sqrt(v)
        root *= 1 / math.sqrt(1 - beta2**t)
        root += epsilon
        u = m * (momentum(t + 1) / (1 - product * momentum(t + 1)))
        u += g * ((1 - momentum(t)) / (1 - product))
        u /= root
        return u, m, v

    return elementwise(rule, NadamState)


def _product(factor: Callable[[int], float]) -> Callable[[int], float]:
    """Return a function of t that is the product of ``factor(1)`` to ``factor(t)``.

    It remembers its last value, from which the next one is a single multiplication; a state need
    not hold what follows from its count.
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
def scale_by_adamax(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Divide the mean gradient by the largest one, which fades out slowly.

    ``m = β₁ m + (1 - β₁) g``, ``s = max(β₂ s, |g| + ε)``, ``u = m / (1 - β₁ᵗ) / s``.

    Parameters
    ----------
    beta1, beta2 : float
        How much of the mean and of the largest gradient stays, in [0, 1).
    epsilon : float
        The ε, positive: PyTorch's, without which a gradient of zero is divided by zero.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 2.

    Examples
    --------
    >>> part = scale_by_adamax()
    >>> part.update(np.array([-3.0, 0.0]), part.init(np.zeros(2)))[0].round(6)
    array([-1.,  0.])
    """
    beta1, beta2, epsilon = _check_betas("scale_by_adamax", beta1, beta2, epsilon)

    def rule(count: int, g: Array, p: Array | None, m: Array, s: Array) -> tuple[Array, ...]:
        m = _moving(m, g, beta1)
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
def scale_by_lion(beta1: float = 0.9, beta2: float = 0.99) -> Optimizer:
    """Take the sign of a mean: ``u = sign(β₁ m + (1 - β₁) g)``, then ``m = β₂ m + (1 - β₂) g``.

    Parameters
    ----------
    beta1, beta2 : float
        How much of the mean counts in the step, and how much of it stays, in [0, 1).

    References
    ----------
    Chen et al.: Symbolic discovery of optimization algorithms, 2023, algorithm 2.

    Examples
    --------
    >>> part = scale_by_lion()
    >>> part.update(np.array([-3.0, 0.0, 0.1]), part.init(np.zeros(3)))[0]
    array([-1.,  0.,  1.])
    """
    beta1 = check_number(beta1, "scale_by_lion(beta1=0.9)", "in [0, 1)")
    beta2 = check_number(beta2, "scale_by_lion(beta2=0.99)", "in [0, 1)")

    def rule(count: int, g: Array, p: Array | None, m: Array) -> tuple[Array, Array]:
        u = _moving(m, g, beta1)
        np.sign(u, out=u)
        return u, _moving(m, g, beta2)

    return elementwise(rule, LionState)
