"""The adaptive transforms: they scale each number's update by its past gradients.

A small ε keeps quotients finite. Papers and libraries differ on its position, inside or outside the
root. Each docstring states the position, and the older rules have an argument for it.

>>> import npdl.functional as F
>>> F.chain(F.scale_by_rmsprop(), F.scale_by_learning_rate(1e-3)).elementwise
True
"""

from typing import NamedTuple

import numpy as np

from npdl._constructor import constructor
from npdl.functional._checks import check_flag, check_number
from npdl.functional._layer import Params
from npdl.functional.optimizers._optimizer import Optimizer, elementwise
from npdl.functional.optimizers._schedules import Schedule
from npdl.functional.optimizers._transforms import finite_rate
from npdl.tree import Array

__all__ = [
    "AdadeltaState",
    "AdagradState",
    "RmspropState",
    "moving",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_rmsprop",
]


class AdagradState(NamedTuple):
    """State of :func:`scale_by_adagrad`."""

    squares: Params


@constructor
def scale_by_adagrad(
    *, epsilon: float = 1e-10, initial_squares: float = 0.0, epsilon_inside: bool = False
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
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_adagrad()
    >>> transform.update(np.array([-4.0, 0.0]), transform.init(np.zeros(2)))[0]
    array([-1.,  0.])
    """
    epsilon = check_number(epsilon, "scale_by_adagrad(epsilon=1e-10)", "above 0")
    initial_squares = check_number(
        initial_squares, "scale_by_adagrad(initial_squares=0.1)", "of at least 0"
    )
    epsilon_inside = check_flag(epsilon_inside, "scale_by_adagrad(epsilon_inside=True)")

    def rule(count: int, g: Array, p: Array | None, s: Array) -> tuple[Array, Array]:
        s = s + g * g
        root = _root(s, epsilon, epsilon_inside)
        return np.divide(g, root, out=root), s

    return elementwise(rule, AdagradState, initial_squares)


def _root(squares: Array, epsilon: float, inside: bool) -> Array:
    """Return a new array √(squares + epsilon), or √squares + epsilon."""
    if inside:
        root = squares + epsilon
        return np.sqrt(root, out=root)
    root = np.sqrt(squares)
    root += epsilon
    return root


def moving(average: Array, value: Array, decay: float) -> Array:
    """Return ``decay * average + (1 - decay) * value``."""
    average = average * decay
    average += value * (1 - decay)
    return average


class RmspropState(NamedTuple):
    """State of :func:`scale_by_rmsprop`."""

    squares: Params


@constructor
def scale_by_rmsprop(
    *, decay: float = 0.99, epsilon: float = 1e-8, epsilon_inside: bool = False
) -> Optimizer:
    """Divide by the root mean square: ``s = decay s + (1 - decay) g²``, ``u = g / (√s + ε)``.

    Parameters
    ----------
    decay : float
        Decay rate of the mean, in [0, 1).
    epsilon : float
        The ε, positive.
    epsilon_inside : bool
        Whether to divide by ``√(s + ε)`` instead.

    Notes
    -----
    If a gradient stays exactly zero, `s` decays to subnormal numbers, as the velocity in
    :func:`trace`. In float32, this takes some 8,700 updates; later updates take six times as long.

    References
    ----------
    Tieleman, Hinton: Neural networks for machine learning, 2012, lecture 6.5.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_rmsprop(decay=0.75)
    >>> transform.update(np.array([3.0, 0.0]), transform.init(np.zeros(2)))[0].round(6)
    array([2., 0.])
    """
    decay = check_number(decay, "scale_by_rmsprop(decay=0.99)", "in [0, 1)")
    epsilon = check_number(epsilon, "scale_by_rmsprop(epsilon=1e-8)", "above 0")
    epsilon_inside = check_flag(epsilon_inside, "scale_by_rmsprop(epsilon_inside=True)")

    def rule(count: int, g: Array, p: Array | None, s: Array) -> tuple[Array, Array]:
        s = moving(s, g * g, decay)
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
    *, decay: float = 0.9, epsilon: float = 1e-6, learning_rate: float | Schedule = 1.0
) -> Optimizer:
    """Scale by the ratio of the root mean squares of updates and of gradients.

    ``s = decay s + (1 - decay) g²``, ``u = η g √(d + ε) / √(s + ε)``, and then
    ``d = decay d + (1 - decay) u²``.

    Parameters
    ----------
    decay : float
        Decay rate of the means, in [0, 1).
    epsilon : float
        The ε, positive; inside both roots, as in the paper.
    learning_rate : float or schedule
        The η; it is also a factor of the updates in `d`. The paper has no learning rate, and
        PyTorch applies one after this transform, as :func:`scale_by_learning_rate` does. The sign
        of the gradient is kept.

    References
    ----------
    Zeiler: ADADELTA: An adaptive learning rate method, 2012, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> transform = F.scale_by_adadelta(decay=0.75, epsilon=1e-6)
    >>> transform.update(np.array([4.0]), transform.init(np.zeros(1)))[0].round(6)
    array([0.002])
    """
    decay = check_number(decay, "scale_by_adadelta(decay=0.9)", "in [0, 1)")
    epsilon = check_number(epsilon, "scale_by_adadelta(epsilon=1e-6)", "above 0")
    rate = finite_rate(learning_rate, "scale_by_adadelta")
    plain = not callable(learning_rate) and learning_rate == 1

    def rule(count: int, g: Array, p: Array | None, s: Array, d: Array) -> tuple[Array, ...]:
        s = moving(s, g * g, decay)
        u = _root(d, epsilon, inside=True)
        u /= _root(s, epsilon, inside=True)
        u *= g
        if not plain:
            u *= rate(count)
        return u, s, moving(d, u * u, decay)

    return elementwise(rule, AdadeltaState)
