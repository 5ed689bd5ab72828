"""Fully connected layers, and dropout."""

import copy
from typing import Any

import npdl.functional as F
from npdl._warn import warn
from npdl.compat import activations, initializations
from npdl.compat.layers._sizes import Shape, optional_int, positive_int
from npdl.compat.layers.base import Parameter, Stateful
from npdl.functional._checks import check_flag

__all__ = [
    "Activated",
    "Activation",
    "Affine",
    "Dense",
    "Dropout",
    "Linear",
    "Softmax",
    "activation_of",
]


class Activated(Stateful):
    """A layer whose last step is an activation.

    The derivative of a softmax is one by definition here, since the gradient that comes from
    :class:`npdl.objectives.SCCE` is already that in the input of the softmax.

    Attributes
    ----------
    activation : Activation
        The activation.
    exact_softmax : bool
        Whether a softmax has its own derivative instead. A model sets it for every softmax that is
        not right before that objective.
    """

    activation: activations.Activation
    _exact_softmax = False

    @property
    def exact_softmax(self) -> bool:
        """Whether a softmax has its own derivative."""
        return self._exact_softmax

    @exact_softmax.setter
    def exact_softmax(self, value: bool) -> None:
        self._exact_softmax = value
        if self.shape is not None:
            self.functional = self.made(self.shape)

    def pure(self) -> F.Layer:
        """Return the functional layer from one input to one output, with its exact derivative."""
        exact = copy.copy(self)
        exact.exact_softmax = True
        return exact.functional  # type: ignore[no-any-return]

    def last(self) -> F.Layer:
        """Return the functional layer of the activation."""
        layer = self.activation.layer
        if layer == F.softmax() and not self.exact_softmax:
            return activations.softmax_before_cross_entropy()
        return layer


class Affine(Stateful):
    """A layer with weights `W`, and with `b` unless ``use_bias=False`` is passed by keyword."""

    options = (*Stateful.options, "use_bias")
    use_bias = True

    def _take(self, options: Any) -> None:
        super()._take(options)
        self.use_bias = check_flag(self.use_bias, f"{type(self).__name__}(8, use_bias=False)")


def activation_of(value: Any) -> activations.Activation:
    """Return an activation; `None` is none, as in Keras."""
    return activations.get("linear" if value is None else value)


class Activation(Activated):
    """An activation as a layer: ``y = f(x)``.

    Parameters
    ----------
    activation : str or Activation
        The activation.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> model = npdl.Model([npdl.layers.Linear(3, n_in=2), npdl.layers.Activation("softmax")])
    >>> model.compile(loss="scce")
    >>> model.predict(np.zeros((1, 2))).round(2)
    array([[0.33, 0.33, 0.33]], dtype=float32)
    """

    def __init__(self, activation: Any) -> None:
        self.activation = activation_of(activation)

    def connect_to(self, prev_layer: Any = None) -> None:
        """Take the sizes of the layer before.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``.

        Warns
        -----
        UserWarning
            If that layer has an activation already, which it was not asked for.
        """
        before = getattr(prev_layer, "activation", None)
        by_default = isinstance(prev_layer, Affine) and "activation" not in prev_layer._arguments()
        if by_default and before is not None and not isinstance(prev_layer, Softmax):
            warn(
                f"{prev_layer} has the activation {before} by default, and {self.activation} "
                f"follows it; {prev_layer}(..., activation=None) has none"
            )
        super().connect_to(prev_layer)

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return self.last()


class Linear(Affine):
    """Multiply by a matrix and add a vector: ``y = x W + b``, over the last axis.

    Parameters
    ----------
    n_out : int
        Number of output features.
    n_in : int, optional
        Number of input features; the first layer of a model needs it, others know it from the
        layer before.
    init : str or Initializer
        Initial values of `W`; `b` begins with zeros.

    Attributes
    ----------
    W, b : array
        Parameters, (n_in, n_out) and (n_out,).
    dW, db : array
        Their gradients, summed over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Linear(n_out=5, n_in=3)
    >>> layer.connect_to()
    >>> layer.forward(np.zeros((2, 3))).shape
    (2, 5)
    """

    as_first = "Linear(n_out=10, n_in=64)"
    known_axes = 1
    W = Parameter("0/weight")
    b = Parameter("0/bias")

    def __init__(self, n_out: int, n_in: int | None = None, init: Any = "glorot_uniform") -> None:
        self.n_out = positive_int(self, "n_out", n_out)
        self.n_in = optional_int(self, "n_in", n_in)
        self.told = () if n_in is None else (n_in,)
        self.init = initializations.get(init)
        self.out_shape = (None, self.n_out)

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return F.serial(self.affine())

    def affine(self) -> F.Layer:
        """Return the functional layer of the matrix and the vector."""
        return F.dense(self.n_out, bias=self.use_bias, weight_init=self.init.pure)


class Dense(Linear, Activated):
    """A :class:`Linear` layer and an activation: ``y = f(x W + b)``, over the last axis.

    Parameters
    ----------
    n_out : int
        Number of output features.
    n_in : int, optional
        Number of input features; the first layer of a model needs it, others know it from the
        layer before.
    init : str or Initializer
        Initial values of `W`; `b` begins with zeros.
    activation : str or Activation
        The activation.

    Attributes
    ----------
    W, b : array
        Parameters, (n_in, n_out) and (n_out,).
    dW, db : array
        Their gradients, summed over the batch.
    activation : Activation
        The activation; also under its old name ``act_layer``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Dense(n_out=5, n_in=3, activation="relu")
    >>> layer.connect_to()
    >>> layer.forward(np.zeros((2, 3))).shape
    (2, 5)
    """

    as_first = "Dense(n_out=10, n_in=64)"

    def __init__(
        self,
        n_out: int,
        n_in: int | None = None,
        init: Any = "glorot_uniform",
        activation: Any = "tanh",
    ) -> None:
        super().__init__(n_out, n_in, init)
        self.activation = self.act_layer = activation_of(activation)

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # The second argument is a number of features; a name can only be the activation.
        if cls is Dense and len(args) == 2 and isinstance(args[1], str):
            return args[:1], {"activation": args[1], **keywords}
        return args, keywords

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return F.serial(self.affine(), self.last())


class Softmax(Dense):
    """A :class:`Dense` layer whose activation is the softmax: class probabilities.

    ``yᵢ = exp(zᵢ) / Σⱼ exp(zⱼ)``, with ``z = x W + b``.

    Parameters
    ----------
    n_out : int
        Number of classes.
    n_in : int, optional
        Number of input features; the first layer of a model needs it, others know it from the
        layer before.
    init : str or Initializer
        Initial values of `W`; `b` begins with zeros.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Softmax(n_out=4, n_in=3)
    >>> layer.connect_to()
    >>> layer.forward(np.zeros((1, 3)))
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    as_first = "Softmax(n_out=10, n_in=64)"

    def __init__(self, n_out: int, n_in: int | None = None, init: Any = "glorot_uniform") -> None:
        super().__init__(n_out, n_in, init, activation="softmax")


class Dropout(Stateful):
    """Set elements to zero at random, in training, and scale up the rest.

    ``y = x · kept / (1 - p)``, where kept is 0 with the probability p, and else 1. The expectation
    of the output is the input, and evaluation is the identity.

    Parameters
    ----------
    p : float
        The dropped fraction, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Dropout(0.5)
    >>> layer.connect_to(npdl.layers.Dense(n_out=4, n_in=3))
    >>> x = np.ones((2, 4), np.float32)
    >>> layer.forward(x, train=False) is x
    True
    """

    draws = True

    def __init__(self, p: float = 0.0) -> None:
        if not 0 <= p < 1:
            raise ValueError(
                f"Dropout: p is the dropped fraction, from 0 to below 1, as in Dropout(0.1), "
                f"got {p!r}"
            )
        self.p = p

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return F.dropout(self.p)

    def forward(self, input: Any, train: bool = True, *args: Any, **kwargs: Any) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            The input, the batch first.
        train : bool
            Whether this is training; in evaluation, the output is the input.
        """
        return super().forward(input, train=train)
