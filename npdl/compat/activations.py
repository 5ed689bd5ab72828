"""Activations: what a neuron makes of its input.

>>> import numpy as np
>>> from npdl.activations import ReLU
>>> relu = ReLU()
>>> relu.forward(np.array([-1.0, 2.0]))
array([0., 2.])
>>> relu.derivative()
array([0., 1.])

An activation of your own is a subclass of :class:`Activation` with these two methods. Those here
hold a layer of `npdl.functional` and have no arithmetic of their own.
"""

from typing import Any

import numpy as np

import npdl.functional as F
from npdl.compat._named import Named, find
from npdl.compat.utils.random import as_floats
from npdl.functional._layer import Params, describe, no_params, same_shape

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

Array = np.ndarray[Any, Any]


class Activation(Named):
    """A function of each number: the base class of activations of your own.

    Attributes
    ----------
    last_forward : object
        What :meth:`forward` keeps for :meth:`derivative`; a subclass may keep there what it likes.

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
        """Return the output for an input, and keep what :meth:`derivative` needs.

        Parameters
        ----------
        input : array
            Any shape.

        Returns
        -------
        array
            The same shape.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def derivative(self, input: Any = None) -> Any:
        """Return the derivative for each number of the input.

        Parameters
        ----------
        input : array, optional
            Where to take it; left out, at the input of the last :meth:`forward`.

        Returns
        -------
        array
            The shape of the input.
        """
        raise NotImplementedError(f"{type(self).__name__}.derivative")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration: the class and its arguments, as JSON values."""
        if type(self) is Activation:
            raise NotImplementedError("Activation.to_json")
        return super().to_json()

    @property
    def layer(self) -> F.Layer:
        """The layer of `npdl.functional` that does the same."""
        return stateful(self)


@F.layer
def stateful(activation: Activation) -> F.Layer:
    """Return the layer that calls ``activation.forward`` and at once ``activation.derivative``.

    So the layer is as pure as these two are, and keeps no state between its own functions.

    Raises
    ------
    ValueError
        From `apply`, if either of them does not keep the shape.
    """
    name = type(activation).__name__

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        y = np.asarray(activation.forward(x), x.dtype)
        try:
            slope = activation.derivative()
        except TypeError:  # it needs its input, or had none in the place of it
            slope = activation.derivative(x)
        slope = np.asarray(slope, x.dtype)
        # A derivative may be one number for all.
        for what, array, shapes in (
            ("forward", y, [x.shape]),
            ("derivative", slope, [x.shape, ()]),
        ):
            if array.shape not in shapes:
                raise ValueError(
                    f"{name}.{what} returned {describe(array)} for an input {describe(x)}; an "
                    f"activation keeps the shape"
                )
        return y, slope

    def backward(params: Params, slope: Array, g: Array) -> tuple[None, Array]:
        return None, g * slope

    return F.Layer(no_params, apply, backward, same_shape)


class _Functional(Activation):
    """An activation that calls the layer of `npdl.functional` that :meth:`_make` returns."""

    def _make(self) -> F.Layer:
        raise NotImplementedError

    @property
    def layer(self) -> F.Layer:
        for cls in type(self).__mro__:
            if "_make" in vars(cls):
                return self._make()
            if {"forward", "derivative"} & vars(cls).keys():
                break  # a subclass of the user's does not do what the layer of its base does
        return super().layer

    def forward(self, input: Any) -> Any:
        self.last_forward = self._applied(input)
        return self.last_forward[0]

    def derivative(self, input: Any = None) -> Any:
        y, cache = self._kept() if input is None else self._applied(input)
        dx: Any = self._make().backward((), cache, np.ones_like(np.atleast_1d(y)))[1]
        return dx if np.ndim(y) else dx[0]

    def _applied(self, input: Any) -> tuple[Any, Any]:
        x = as_floats(type(self).__name__, input)
        y, cache = self._make().apply((), np.atleast_1d(x))
        return y if x.ndim else y[0], cache

    def _kept(self) -> tuple[Any, Any]:
        if self.last_forward is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}.derivative: call forward(x) first, or derivative(x)")
        y, cache = self.last_forward
        return y, cache


class Sigmoid(_Functional):
    """Logistic function: ``y = 1 / (1 + e⁻ˣ)``, whose derivative is ``y · (1 - y)``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Sigmoid
    >>> Sigmoid().forward(np.array([0.0, 1000.0]))
    array([0.5, 1. ])
    """

    def _make(self) -> F.Layer:
        return F.sigmoid()

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output for an input, and keep what :meth:`derivative` needs.

        Parameters
        ----------
        input : array
            Any shape.
        *args, **kwargs
            Not used.

        Returns
        -------
        array
            The same shape; numbers from 0 to 1.
        """
        return super().forward(input)


class Tanh(_Functional):
    """Hyperbolic tangent: ``y = tanh(x)``, whose derivative is ``1 - y²``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Tanh
    >>> Tanh().derivative(np.array([0.0, 1000.0]))
    array([1., 0.])
    """

    def _make(self) -> F.Layer:
        return F.tanh()


class ReLU(_Functional):
    """Rectified linear unit: ``y = max(0, x)``, whose derivative is 1 where x > 0, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import ReLU
    >>> ReLU().forward(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """

    def _make(self) -> F.Layer:
        return F.relu()


class Linear(_Functional):
    """Identity: ``y = x``, whose derivative is 1.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Linear
    >>> Linear().derivative(np.array([-1.0, 2.0]))
    array([1., 1.])
    """

    def _make(self) -> F.Layer:
        return F.linear()


class Softmax(_Functional):
    """Make the numbers of each row positive and add up to one: ``yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)``.

    Rows are along the last axis. The derivative is that of a matrix and not of single numbers;
    :meth:`derivative` returns ones, which together with the gradient ``p - t`` of
    :class:`npdl.objectives.SCCE` is exact. In front of anything else, a model uses the exact one.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Softmax
    >>> Softmax().forward(np.array([[1000.0, 1000.0], [0.0, 1000.0]]))
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    def _make(self) -> F.Layer:
        return F.softmax()

    def derivative(self, input: Any = None) -> Any:
        """Return ones, to go with the gradient ``p - t``.

        Parameters
        ----------
        input : array, optional
            Where to take it; left out, at the input of the last :meth:`forward`.
        """
        y, _ = self._kept() if input is None else self._applied(input)
        return np.ones_like(y)


@F.layer
def softmax_before_cross_entropy() -> F.Layer:
    """Softmax in front of a loss whose gradient ``p - t`` is already that before the softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import softmax_before_cross_entropy
    >>> layer = softmax_before_cross_entropy()
    >>> p, cache = layer.apply((), np.array([[1000.0, 1000.0]]))
    >>> layer.backward((), cache, p - np.array([[0.0, 1.0]]))[1]
    array([[ 0.5, -0.5]])
    """
    softmax = F.softmax()

    def backward(params: Params, cache: Any, g: Array) -> tuple[None, Array]:
        return None, g

    return F.Layer(softmax.init, softmax.apply, backward, softmax.out_shape)


class Elliot(_Functional):
    """Elliot's fast sigmoid: ``y = sx / (1 + |sx|) / 2 + 1/2``.

    Its derivative is ``s / (1 + |sx|)² / 2``.

    Parameters
    ----------
    steepness : float
        The `s`, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import Elliot
    >>> Elliot().forward(np.array([-1.0, 3.0]))
    array([0.25 , 0.875])
    """

    def __init__(self, steepness: float = 1) -> None:
        self.steepness = steepness
        self._make()  # raises where the number is given

    def _make(self) -> F.Layer:
        return F.elliot(self.steepness)


class SymmetricElliot(_Functional):
    """Elliot's function between -1 and 1: ``y = sx / (1 + |sx|)``.

    Its derivative is ``s / (1 + |sx|)²``.

    Parameters
    ----------
    steepness : float
        The `s`, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import SymmetricElliot
    >>> SymmetricElliot(steepness=2).forward(np.array([-0.5, 1.5]))
    array([-0.5 ,  0.75])
    """

    def __init__(self, steepness: float = 1) -> None:
        self.steepness = steepness
        self._make()  # raises where the number is given

    def _make(self) -> F.Layer:
        return F.symmetric_elliot(self.steepness)


class SoftPlus(_Functional):
    """Smooth rectified linear unit: ``y = log(1 + eˣ)``, whose derivative is ``1 / (1 + e⁻ˣ)``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import SoftPlus
    >>> SoftPlus().forward(np.array([-1000.0, 1000.0]))
    array([   0., 1000.])
    """

    def _make(self) -> F.Layer:
        return F.softplus()


class SoftSign(_Functional):
    """Algebraic sigmoid: ``y = x / (1 + |x|)``, whose derivative is ``1 / (1 + |x|)²``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import SoftSign
    >>> SoftSign().forward(np.array([-1.0, 3.0]))
    array([-0.5 ,  0.75])
    """

    def _make(self) -> F.Layer:
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
    """Return an activation: the one given, or a new one by its name.

    Parameters
    ----------
    activation : Activation or str
        A class name or its form in small letters, such as ``"relu"``.

    Raises
    ------
    ValueError
        Listing the names, if it is neither.

    Examples
    --------
    >>> from npdl.activations import get
    >>> type(get("tanh")).__name__
    'Tanh'
    """
    return find(Activation, activation, _NAMES, "ReLU()")
