"""Activation functions.

>>> import numpy as np
>>> from npdl.activations import ReLU
>>> relu = ReLU()
>>> relu.forward(np.array([-1.0, 2.0]))
array([0., 2.])
>>> relu.derivative()
array([0., 1.])

Your own activation is a subclass of :class:`Activation` with these two methods. The activations in
this module call a layer of `npdl.functional`.
"""

from typing import Any

import numpy as np

import npdl.functional as F
from npdl.compat._functions import softmax_before_cross_entropy
from npdl.compat._named import Named, find
from npdl.compat.utils.random import as_floats
from npdl.functional._arrays import describe
from npdl.functional._layer import Params, no_params, same_shape
from npdl.tree import Array

__all__ = [
    "Activation",
    "Elliot",
    "Linear",
    "ReLU",
    "Sigmoid",
    "SoftPlus",
    "SoftSign",
    "Softmax",
    "SymmetricElliot",
    "Tanh",
    "get",
    "softmax_before_cross_entropy",
]


class Activation(Named):
    """An elementwise function: the base class of your own activations.

    Attributes
    ----------
    last_forward : object
        The cache of :meth:`forward` for :meth:`derivative`; a subclass may store any object.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Activation, get
    >>> class Square(Activation):
    ...     def forward(self, input):
    ...         self.last_forward = input
    ...         return input**2
    ...
    ...     def derivative(self, input=None):
    ...         return 2 * (self.last_forward if input is None else input)
    >>> square = get(Square())
    >>> square.forward(np.array([3.0])), square.derivative()
    (array([9.]), array([6.]))
    """

    family = "activations"
    last_forward: Any = None

    def forward(self, input: Any) -> Any:
        """Return the output for an input, and store the cache for :meth:`derivative`.

        Parameters
        ----------
        input : array
            The input, of any shape.

        Returns
        -------
        array
            The output, of the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def derivative(self, input: Any = None) -> Any:
        """Return the derivative at each element of the input.

        Parameters
        ----------
        input : array, optional
            The input; the default is the input of the last :meth:`forward`.

        Returns
        -------
        array
            The derivative, of the shape of the input.
        """
        raise NotImplementedError(f"{type(self).__name__}.derivative")

    @property
    def layer(self) -> F.Layer:
        """The same function as a layer of `npdl.functional`."""
        return stateful(self)


@F.layer
def stateful(activation: Activation) -> F.Layer:
    """Return a layer whose `apply` calls ``activation.forward``, then ``activation.derivative``.

    The layer has no state between its functions, so it is pure if these two methods are.

    Raises
    ------
    ValueError
        In `apply`, if either method does not keep the shape.
    """
    name = type(activation).__name__

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        y = np.asarray(activation.forward(x), x.dtype)
        try:
            derivative = activation.derivative()
        except TypeError:  # a user's `derivative` may require its input
            derivative = activation.derivative(x)
        derivative = np.asarray(derivative, x.dtype)
        # A derivative may be a scalar.
        for method, array, shapes in (
            ("forward", y, [x.shape]),
            ("derivative", derivative, [x.shape, ()]),
        ):
            if array.shape not in shapes:
                raise ValueError(
                    f"{name}.{method} returned {describe(array)} for an input {describe(x)}; an "
                    f"activation must keep the shape"
                )
        return y, derivative

    def backward(params: Params, derivative: Array, g: Array) -> tuple[None, Array]:
        return None, g * derivative

    return F.Layer(no_params, apply, backward, same_shape)


class _Functional(Activation):
    """An activation that calls the functional layer of `_build()`."""

    def _build(self) -> F.Layer:
        raise NotImplementedError

    @property
    def layer(self) -> F.Layer:
        for cls in type(self).__mro__:
            if "_build" in vars(cls):
                return self._build()
            if {"forward", "derivative"} & vars(cls).keys():
                break  # a user's subclass differs from the layer of its base class
        return super().layer

    def forward(self, input: Any) -> Any:
        self.last_forward = self._apply(input)
        return self.last_forward[0]

    def derivative(self, input: Any = None) -> Any:
        y, cache = self._last_result() if input is None else self._apply(input)
        dx: Any = self._build().backward((), cache, np.ones_like(np.atleast_1d(y)))[1]
        return dx if np.ndim(y) else dx[0]

    def _apply(self, input: Any) -> tuple[Any, Any]:
        x = as_floats(type(self).__name__, input)
        y, cache = self._build().apply((), np.atleast_1d(x))
        return y if x.ndim else y[0], cache

    def _last_result(self) -> tuple[Any, Any]:
        if self.last_forward is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}.derivative: call forward(x) first, or derivative(x)")
        y, cache = self.last_forward
        return y, cache


class Sigmoid(_Functional):
    """Logistic function: ``y = 1 / (1 + e⁻ˣ)``, with derivative ``y · (1 - y)``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Sigmoid
    >>> Sigmoid().forward(np.array([0.0, 1000.0]))
    array([0.5, 1. ])
    """

    def _build(self) -> F.Layer:
        return F.sigmoid()

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output for an input, and store the cache for :meth:`derivative`.

        Parameters
        ----------
        input : array
            The input, of any shape.
        *args, **kwargs
            Ignored.

        Returns
        -------
        array
            The output, from 0 to 1, of the same shape.
        """
        return super().forward(input)


class Tanh(_Functional):
    """Hyperbolic tangent: ``y = tanh(x)``, with derivative ``1 - y²``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Tanh
    >>> Tanh().derivative(np.array([0.0, 1000.0]))
    array([1., 0.])
    """

    def _build(self) -> F.Layer:
        return F.tanh()


class ReLU(_Functional):
    """Rectified linear unit: ``y = max(0, x)``, with derivative 1 where x > 0, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import ReLU
    >>> ReLU().forward(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """

    def _build(self) -> F.Layer:
        return F.relu()


class Linear(_Functional):
    """Identity: ``y = x``, with derivative 1.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Linear
    >>> Linear().derivative(np.array([-1.0, 2.0]))
    array([1., 1.])
    """

    def _build(self) -> F.Layer:
        return F.linear()


class Softmax(_Functional):
    """Softmax over the last axis: ``yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)``, positive with sum one.

    The derivative is a matrix per row, not a number per element. :meth:`derivative` returns ones,
    which is exact together with the gradient ``p - t`` of :class:`npdl.objectives.SCCE`. Before any
    other objective or layer, a model uses the exact derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Softmax
    >>> Softmax().forward(np.array([[1000.0, 1000.0], [0.0, 1000.0]]))
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    def _build(self) -> F.Layer:
        return F.softmax()

    def derivative(self, input: Any = None) -> Any:
        """Return ones, the factor of the gradient ``p - t``.

        Parameters
        ----------
        input : array, optional
            The input; the default is the input of the last :meth:`forward`.
        """
        y, _ = self._last_result() if input is None else self._apply(input)
        return np.ones_like(y)


class Elliot(_Functional):
    """Elliot's fast sigmoid: ``y = sx / (1 + |sx|) / 2 + 1/2``.

    Its derivative is ``s / (1 + |sx|)² / 2``.

    Parameters
    ----------
    steepness : float
        The steepness `s`, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Elliot
    >>> Elliot().forward(np.array([-1.0, 3.0]))
    array([0.25 , 0.875])
    """

    def __init__(self, steepness: float = 1) -> None:
        self.steepness = steepness
        self._build()  # raises on an invalid argument

    def _build(self) -> F.Layer:
        return F.elliot(self.steepness)


class SymmetricElliot(_Functional):
    """Elliot's function between -1 and 1: ``y = sx / (1 + |sx|)``.

    Its derivative is ``s / (1 + |sx|)²``.

    Parameters
    ----------
    steepness : float
        The steepness `s`, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import SymmetricElliot
    >>> SymmetricElliot(steepness=2).forward(np.array([-0.5, 1.5]))
    array([-0.5 ,  0.75])
    """

    def __init__(self, steepness: float = 1) -> None:
        self.steepness = steepness
        self._build()  # raises on an invalid argument

    def _build(self) -> F.Layer:
        return F.symmetric_elliot(self.steepness)


class SoftPlus(_Functional):
    """Smooth rectified linear unit: ``y = log(1 + eˣ)``, with derivative ``1 / (1 + e⁻ˣ)``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import SoftPlus
    >>> SoftPlus().forward(np.array([-1000.0, 1000.0]))
    array([   0., 1000.])
    """

    def _build(self) -> F.Layer:
        return F.softplus()


class SoftSign(_Functional):
    """Algebraic sigmoid: ``y = x / (1 + |x|)``, with derivative ``1 / (1 + |x|)²``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import SoftSign
    >>> SoftSign().forward(np.array([-1.0, 3.0]))
    array([-0.5 ,  0.75])
    """

    def _build(self) -> F.Layer:
        return F.softsign()


_NAMES: dict[str, type[Activation]] = {
    **dict.fromkeys(("sigmoid", "Sigmoid"), Sigmoid),
    **dict.fromkeys(("tan", "tanh", "Tanh"), Tanh),
    **dict.fromkeys(("relu", "ReLU", "RELU"), ReLU),
    **dict.fromkeys(("linear", "Linear"), Linear),
    **dict.fromkeys(("softmax", "Softmax"), Softmax),
    **dict.fromkeys(("elliot", "Elliot"), Elliot),
    **dict.fromkeys(("symmetric_elliot", "SymmetricElliot"), SymmetricElliot),
    **dict.fromkeys(("soft_plus", "softplus", "SoftPlus"), SoftPlus),
    **dict.fromkeys(("soft_sign", "softsign", "SoftSign"), SoftSign),
}


def get(activation: Any) -> Activation:
    """Return a copy of an activation, or a new activation by its name.

    Parameters
    ----------
    activation : Activation or str
        An instance, a class name, or its lower-case form, such as ``"relu"``.

    Raises
    ------
    ValueError
        If it is neither; the message lists the names.

    Examples
    --------
    >>> from npdl.activations import get
    >>> type(get("tanh")).__name__
    'Tanh'
    """
    return find(Activation, activation, _NAMES, "ReLU()")
