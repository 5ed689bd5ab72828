"""Fully connected layers, activations and dropout."""

import copy
from typing import Any

import npdl.functional as F
from npdl._warn import warn
from npdl.compat import activations, initializations
from npdl.compat.layers._sizes import optional_int, positive_int
from npdl.compat.layers.base import Parameter, Stateful
from npdl.functional._checks import check_flag
from npdl.functional._layer import Shape

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
    """A layer that ends with an activation.

    The derivative of a softmax is one by definition in this API: the gradient of
    :class:`npdl.objectives.SCCE` is already the gradient in the input of the softmax.

    Attributes
    ----------
    activation : Activation
        The activation.
    exact_softmax : bool
        Whether a softmax has its exact derivative instead. A model sets it for every softmax that
        is not directly before that objective.
    """

    activation: activations.Activation
    _exact_softmax = False

    @property
    def exact_softmax(self) -> bool:
        """Whether a softmax has its exact derivative."""
        return self._exact_softmax

    @exact_softmax.setter
    def exact_softmax(self, value: bool) -> None:
        self._exact_softmax = value
        if self.shape is not None:
            self.functional = self._build_frozen(self.shape)

    def pure(self) -> F.Layer:
        """Return the functional layer with one input, one output and the exact derivative."""
        exact = copy.copy(self)
        exact.exact_softmax = True
        return exact.functional  # type: ignore[no-any-return]

    def _activation_layer(self) -> F.Layer:
        """Return the functional layer of the activation."""
        layer = self.activation.layer
        if layer == F.softmax() and not self.exact_softmax:
            return activations.softmax_before_cross_entropy()
        return layer


class Affine(Stateful):
    """A layer with weights `W` and a bias `b`; the keyword ``use_bias=False`` omits the bias."""

    options = (*Stateful.options, "use_bias")
    use_bias = True

    def _set_options(self, options: Any) -> None:
        super()._set_options(options)
        if "use_bias" in options:
            call = f"{type(self).__name__}(8, use_bias=False)"
            self.use_bias = check_flag(self.use_bias, call)


def activation_of(value: Any) -> activations.Activation:
    """Return an activation; `None` is the identity, as in Keras."""
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
        """Set the sizes from the layer before.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``.

        Warns
        -----
        UserWarning
            If that layer has an activation by default, in addition to this one.
        """
        before = getattr(prev_layer, "activation", None)
        by_default = isinstance(prev_layer, Affine) and "activation" not in prev_layer._arguments()
        if by_default and before is not None and not isinstance(prev_layer, Softmax):
            warn(
                f"{prev_layer} has the activation {before} by default, and {self.activation} "
                f"follows it; {prev_layer}(..., activation=None) has none"
            )
        super().connect_to(prev_layer)

    def _build(self, shape: Shape) -> F.Layer:
        return self._activation_layer()


class Linear(Affine):
    """Affine map over the last axis: ``y = x W + b``.

    Parameters
    ----------
    n_out : int
        Number of output features.
    n_in : int, optional
        Number of input features; required only for the first layer of a model.
    init : str or Initializer
        Initial values of `W`; `b` is initialized to zeros.

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

    usage = "Linear(n_out=10, n_in=64)"
    known_axes = 1
    W = Parameter("0/weight")
    b = Parameter("0/bias")

    def __init__(self, n_out: int, n_in: int | None = None, init: Any = "glorot_uniform") -> None:
        self.n_out = positive_int(self, "n_out", n_out)
        self.n_in = optional_int(self, "n_in", n_in)
        self.input_sizes = () if n_in is None else (n_in,)
        self.init = initializations.get(init)
        self.out_shape = (None, self.n_out)

    def _build(self, shape: Shape) -> F.Layer:
        return F.serial(self._affine())

    def _affine(self) -> F.Layer:
        """Return the functional layer of the affine map."""
        return F.dense(self.n_out, bias=self.use_bias, weight_init=self.init.pure)


class Dense(Linear, Activated):
    """A :class:`Linear` layer with an activation, over the last axis: ``y = f(x W + b)``.

    Parameters
    ----------
    n_out : int
        Number of output features.
    n_in : int, optional
        Number of input features; required only for the first layer of a model.
    init : str or Initializer
        Initial values of `W`; `b` is initialized to zeros.
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

    usage = "Dense(n_out=10, n_in=64)"

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
        # The second argument is the number of features; a string can only be the activation.
        if cls is Dense and len(args) == 2 and isinstance(args[1], str):
            return args[:1], {"activation": args[1], **keywords}
        return args, keywords

    def _build(self, shape: Shape) -> F.Layer:
        return F.serial(self._affine(), self._activation_layer())


class Softmax(Dense):
    """A :class:`Dense` layer with a softmax, which gives class probabilities.

    ``yᵢ = exp(zᵢ) / Σⱼ exp(zⱼ)``, with ``z = x W + b``.

    Parameters
    ----------
    n_out : int
        Number of classes.
    n_in : int, optional
        Number of input features; required only for the first layer of a model.
    init : str or Initializer
        Initial values of `W`; `b` is initialized to zeros.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Softmax(n_out=4, n_in=3)
    >>> layer.connect_to()
    >>> layer.forward(np.zeros((1, 3)))
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    usage = "Softmax(n_out=10, n_in=64)"

    def __init__(self, n_out: int, n_in: int | None = None, init: Any = "glorot_uniform") -> None:
        super().__init__(n_out, n_in, init, activation="softmax")


class Dropout(Stateful):
    """Dropout: in training mode, set random elements to zero and scale the others.

    ``y = x · kept / (1 - p)``, where kept is 0 with probability p, otherwise 1. The expectation of
    the output is the input. In evaluation mode, the layer is the identity.

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

    needs_key = True

    def __init__(self, p: float = 0.0) -> None:
        if not 0 <= p < 1:
            raise ValueError(
                f"Dropout: p is the dropped fraction, from 0 to below 1, as in Dropout(0.1), "
                f"got {p!r}"
            )
        self.p = p

    def _build(self, shape: Shape) -> F.Layer:
        return F.dropout(self.p)

    def forward(self, input: Any, train: bool = True, *args: Any, **kwargs: Any) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            The input, the batch first.
        train : bool
            Whether to run in training mode; in evaluation mode, the output is the input.
        """
        return super().forward(input, train=train)
