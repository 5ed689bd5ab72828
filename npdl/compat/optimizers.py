"""Optimizers, which update the parameter arrays in place.

>>> import numpy as np
>>> from npdl.optimizers import SGD
>>> p = np.array([1.0, 2.0])
>>> SGD(lr=0.5).update([p], [np.array([2.0, -2.0])])
>>> p
array([0., 3.])

The optimizers in this module are chains of transforms of `npdl.functional`. Your own optimizer is a
subclass of :class:`Optimizer`.
"""

from typing import Any

import npdl.functional as F
from npdl.compat._named import find
from npdl.compat._optimizer_base import Functional, Optimizer, Slot, npdl_clip

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Adamax",
    "Momentum",
    "NesterovMomentum",
    "Optimizer",
    "RMSprop",
    "get",
    "npdl_clip",
]


class SGD(Functional):
    """Stochastic gradient descent: ``p = p - lr · g``.

    Parameters
    ----------
    *args, **kwargs
        Arguments of :class:`Optimizer`: `lr`, `clip`, `decay`, `lr_min` and `lr_max`.

    References
    ----------
    Robbins, Monro: A stochastic approximation method, 1951.

    Examples
    --------
    >>> from npdl.optimizers import SGD
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> SGD(lr=0.5).update([p], [np.array([1.0])])
    >>> p
    array([0.5])
    """

    def _transforms(self) -> list[F.Optimizer]:
        return [F.scale_by_learning_rate(self._rate)]


class Momentum(Functional):
    """Gradient descent with momentum: ``v = momentum · v - lr · g``, ``p = p + v``.

    Parameters
    ----------
    momentum : float
        Decay factor of the velocity, in [0, 1). Larger values give longer steps; a learning rate
        multiplied by ``1 - momentum`` compensates for this.
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Polyak: Some methods of speeding up the convergence of iteration methods, 1964.

    Examples
    --------
    >>> from npdl.optimizers import Momentum
    >>> import numpy as np
    >>> p, optimizer = np.array([1.0]), Momentum(0.5, lr=0.25)
    >>> for _ in range(2):
    ...     optimizer.update([p], [np.array([1.0])])
    >>> p
    array([0.375])
    """

    velocity = Slot("velocity")

    def __init__(self, momentum: float = 0.9, *args: Any, **kwargs: Any) -> None:
        self.momentum = momentum
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        # The learning rate comes first, since the velocity sums scaled gradients.
        return [F.scale_by_learning_rate(self._rate), F.trace(self.momentum)]


class NesterovMomentum(Functional):
    """Nesterov momentum: ``v = momentum · v - lr · g``, ``p = p + momentum · v - lr · g``.

    In this form, the gradient `g` is computed at `p`, not at the lookahead point.

    Parameters
    ----------
    momentum : float
        Decay factor of the velocity, in [0, 1).
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Bengio, Boulanger-Lewandowski, Pascanu: Advances in optimizing recurrent networks, 2012,
    equation 7.

    Examples
    --------
    >>> from npdl.optimizers import NesterovMomentum
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> NesterovMomentum(0.5, lr=0.25).update([p], [np.array([1.0])])
    >>> p
    array([0.625])
    """

    velocity = Slot("velocity")

    def __init__(self, momentum: float = 0.9, *args: Any, **kwargs: Any) -> None:
        self.momentum = momentum
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        return [F.scale_by_learning_rate(self._rate), F.trace(self.momentum, nesterov=True)]


class Adagrad(Functional):
    """Adagrad, scaled by the sum of squared gradients.

    ``s = s + g²``, ``p = p - lr · g / √(s + ε)``.

    Parameters
    ----------
    epsilon : float
        The ε, positive.
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic
    optimization, 2011.

    Examples
    --------
    >>> from npdl.optimizers import Adagrad
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> Adagrad(lr=0.5).update([p], [np.array([100.0])])
    >>> p.round(4)
    array([0.5])
    """

    plausible = (0.0, 1e-4)
    cache = Slot("squares")

    def __init__(self, epsilon: float = 1e-6, *args: Any, **kwargs: Any) -> None:
        self.epsilon = epsilon
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        scaling = F.scale_by_adagrad(epsilon=self.epsilon, epsilon_inside=True)
        return [scaling, F.scale_by_learning_rate(self._rate)]


class RMSprop(Functional):
    """RMSprop, scaled by the root mean square of recent gradients.

    ``r = ρ r + (1 - ρ) g²``, ``p = p - lr · g / √(r + ε)``.

    Parameters
    ----------
    rho : float
        Decay factor of the mean square, in [0, 1).
    epsilon : float
        The ε, positive.
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Tieleman, Hinton: Neural networks for machine learning, 2012, lecture 6.5.

    Examples
    --------
    >>> from npdl.optimizers import RMSprop
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> RMSprop(rho=0.75, lr=0.25).update([p], [np.array([100.0])])
    >>> p.round(4)
    array([0.5])
    """

    cache = Slot("squares")

    def __init__(self, rho: float = 0.9, epsilon: float = 1e-6, *args: Any, **kwargs: Any) -> None:
        self.rho, self.epsilon = rho, epsilon
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        scaling = F.scale_by_rmsprop(decay=self.rho, epsilon=self.epsilon, epsilon_inside=True)
        return [scaling, F.scale_by_learning_rate(self._rate)]


class Adadelta(Functional):
    """Adadelta, scaled by the root mean squares of recent gradients and updates.

    ``r = ρ r + (1 - ρ) g²``, ``u = lr · g √(s + ε) / √(r + ε)``, ``s = ρ s + (1 - ρ) u²`` and
    ``p = p - u``. The paper has no learning rate, which is ``lr=1.0`` here.

    Parameters
    ----------
    rho : float
        Decay factor of the mean squares, in [0, 1); 0.95 in the paper.
    epsilon : float
        The ε, positive; the first update is about √ε.
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Zeiler: ADADELTA: An adaptive learning rate method, 2012, algorithm 1.

    Examples
    --------
    >>> from npdl.optimizers import Adadelta
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> Adadelta(rho=0.75, lr=1.0).update([p], [np.array([100.0])])
    >>> p.round(4)
    array([0.998])
    """

    cache = Slot("squares")
    delta = Slot("squared_steps")

    def __init__(self, rho: float = 0.9, epsilon: float = 1e-6, *args: Any, **kwargs: Any) -> None:
        self.rho, self.epsilon = rho, epsilon
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        return [
            F.scale_by_adadelta(decay=self.rho, epsilon=self.epsilon, learning_rate=self._rate),
            F.scale(-1.0),
        ]


class Adam(Functional):
    """Adam: the mean gradient over the root mean square, both with bias correction.

    ``m = β₁ m + (1 - β₁) g``, ``v = β₂ v + (1 - β₂) g²`` and, in update t,
    ``p = p - lr · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)``.

    Parameters
    ----------
    beta1, beta2 : float
        Decay factors of the mean and the mean square, in [0, 1).
    epsilon : float
        The ε, positive.
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 1.

    Examples
    --------
    >>> from npdl.optimizers import Adam
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> Adam(lr=0.5).update([p], [np.array([100.0])])
    >>> p.round(4)
    array([0.5])
    """

    ms = Slot("gradients", "beta1")
    vs = Slot("squares", "beta2")

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        scaling = F.scale_by_adam(beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon)
        return [scaling, F.scale_by_learning_rate(self._rate)]


class Adamax(Functional):
    """Adamax: Adam with the largest recent gradient in place of the root mean square.

    ``m = β₁ m + (1 - β₁) g``, ``u = max(β₂ u, |g| + ε)`` and, in update t,
    ``p = p - lr · m / (1 - β₁ᵗ) / u``.

    Parameters
    ----------
    beta1, beta2 : float
        Decay factors of the mean and of the largest gradient, in [0, 1).
    epsilon : float
        The ε, positive. The paper has no ε and would divide a zero gradient by zero.
    *args, **kwargs
        Arguments of :class:`Optimizer`.

    References
    ----------
    Kingma, Ba: Adam: A method for stochastic optimization, 2014, algorithm 2.

    Examples
    --------
    >>> from npdl.optimizers import Adamax
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> Adamax(lr=0.5).update([p], [np.array([100.0])])
    >>> p.round(4)
    array([0.5])
    """

    ms = Slot("first_moment")
    vs = Slot("largest")

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        super().__init__(*args, **kwargs)

    def _transforms(self) -> list[F.Optimizer]:
        scaling = F.scale_by_adamax(beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon)
        return [scaling, F.scale_by_learning_rate(self._rate)]


NAMES: dict[str, type[Optimizer]] = {
    **dict.fromkeys(("sgd", "SGD"), SGD),
    **dict.fromkeys(("momentum", "Momentum"), Momentum),
    **dict.fromkeys(("nesterov_momentum", "NesterovMomentum"), NesterovMomentum),
    **dict.fromkeys(("adagrad", "Adagrad"), Adagrad),
    **dict.fromkeys(("rmsprop", "RMSprop"), RMSprop),
    **dict.fromkeys(("adadelta", "Adadelta"), Adadelta),
    **dict.fromkeys(("adam", "Adam"), Adam),
    **dict.fromkeys(("adamax", "Adamax"), Adamax),
}


def get(optimizer: Any) -> Optimizer:
    """Return a copy of an optimizer, or a new optimizer by its name.

    Parameters
    ----------
    optimizer : Optimizer or str
        An instance, a class name, or its lower-case form, such as ``"nesterov_momentum"``.

    Raises
    ------
    ValueError
        If it is neither; the message lists the names.

    Examples
    --------
    >>> from npdl.optimizers import get
    >>> type(get("adam")).__name__
    'Adam'
    """
    return find(Optimizer, optimizer, NAMES, "SGD(lr=0.01)")
