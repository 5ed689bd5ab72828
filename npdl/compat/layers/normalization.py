"""Batch normalization."""

import math
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.compat import initializations
from npdl.compat.layers._sizes import shape_before
from npdl.compat.layers.base import Parameter, Stateful
from npdl.functional._checks import is_int
from npdl.functional._layer import Params, Shape
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["BatchNormal", "by_position"]


class BatchNormal(Stateful):
    """Normalize over the batch: ``y = gamma (x - mean) / √(variance + ε) + beta``.

    Training mode uses the statistics of the batch and updates the running statistics: ``running =
    momentum · running + (1 - momentum) · batch``, with the unbiased variance of the batch. They
    start at mean 0 and variance 1. Evaluation mode uses the running statistics. They are not in
    `params`, so copy them too when you copy a layer's weights.

    Parameters
    ----------
    epsilon : float
        Constant added to the variance, which may be zero.
    momentum : float
        Decay factor of the running statistics, from 0 to below 1.
    axis : int or str
        With 0, each element of an example has separate statistics over the batch. Otherwise, each
        index along this axis has separate statistics over all other axes: 1 for the channels of
        images, 2 for the features of sequences, ``"channels"`` for both.
    beta_init, gamma_init : str or Initializer
        Initial values of the shift and of the scale.
    input_shape : tuple, optional
        The shape of one example, without the batch, for the first layer of a model.

    Attributes
    ----------
    beta, gamma : array
        Parameters, in this order, of the shape of one example or (size of the axis,).
    dbeta, dgamma : array
        Their gradients, summed over the batch.
    running_mean, running_variance : array
        The running statistics for evaluation mode.

    References
    ----------
    Ioffe, Szegedy: Batch normalization, 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.BatchNormal(input_shape=(2,))
    >>> layer.connect_to()
    >>> layer.forward(np.array([[1.0, 5.0], [3.0, 9.0]])).round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> layer.running_mean
    array([0.2, 0.7], dtype=float32)
    """

    usage = "BatchNormal(input_shape=(64,))"
    beta = Parameter("shift")
    gamma = Parameter("scale")
    running_mean = Parameter("mean", trained=False)
    running_variance = Parameter("variance", trained=False)

    def __init__(
        self,
        epsilon: float = 1e-06,
        momentum: float = 0.9,
        axis: Any = 0,
        beta_init: Any = "zero",
        gamma_init: Any = "one",
        *,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(
                f"BatchNormal: momentum must be a decay factor from 0 to below 1, as in "
                f"BatchNormal(momentum=0.9), got {momentum!r}"
            )
        of_channels = isinstance(axis, str) and axis == "channels"
        if not of_channels and not (is_int(axis) and axis >= 0):
            raise ValueError(
                f"BatchNormal: axis must be an int from 0, as in BatchNormal(axis=1), or "
                f"'channels', got {axis!r}"
            )
        self.epsilon, self.momentum = epsilon, momentum
        self.axis = axis if of_channels else int(axis)
        self.beta_init = initializations.get(beta_init)
        self.gamma_init = initializations.get(gamma_init)
        self.input_sizes = () if input_shape is None else tuple(input_shape)
        # Raises on an invalid epsilon now, not when the layer is connected.
        self._build(())

    def _build(self, shape: Shape) -> F.Layer:
        layer = self._batch_norm(shape)
        return by_position(layer) if self._is_by_position(shape) else layer

    def _batch_norm(self, shape: Shape) -> F.Layer:
        axis = self._axis(1 + len(shape)) or 1
        return F.batch_norm(axis=axis, momentum=1 - self.momentum, epsilon=self.epsilon)

    def _axis(self, axes: int) -> int:
        """Return the axis for arrays with `axes` axes; "channels" is 1 for images, else last."""
        if self.axis == "channels":
            return 2 if axes == 3 else 1
        return self.axis

    def _is_by_position(self, shape: Shape) -> bool:
        return self.axis == 0 and len(shape) != 1

    def pure(self) -> F.Layer:
        """Return the functional layer with one input, one output and the exact derivative."""
        shape = self.shape or ()
        if not self._is_by_position(shape):
            return super().pure()
        layer = F.serial(F.flatten(), self._batch_norm((math.prod(shape),)), F.reshape(shape))
        return layer if self.trainable else F.freeze(layer)

    def pure_params(self) -> Any:
        """Return the parameters of :meth:`pure`."""
        by_position = self._is_by_position(self.shape or ())
        return ((), _flat(self.tree), ()) if by_position else self.tree

    def connect_to(self, prev_layer: Any = None) -> None:
        """Initialize the parameters for the output of the layer before.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``; omitted for a first layer with a known input
            size.
        """
        known_axes = 0 if self.axis else 4
        shape = shape_before(self, prev_layer, self.input_sizes, known_axes, self.usage)
        axis = self._axis(len(shape)) or -1
        if axis >= len(shape) or shape[axis] is None:
            raise ValueError(
                f"BatchNormal: expected a known size of axis {self.axis}, got inputs of the shape "
                f"{shape}"
            )
        # The other sizes have no effect, so that a sequence may have any length.
        self._initialize(tuple(size or 1 for size in shape[1:]))
        self.out_shape = shape

    def _initial_params(self, layer: F.Layer, shape: Shape) -> Any:
        params = super()._initial_params(layer, shape)
        return params | {
            "shift": self.beta_init(params["shift"].shape),
            "scale": self.gamma_init(params["scale"].shape),
            # A count of one batch allows evaluation of a new model.
            "count": np.ones_like(params["count"]),
        }


@F.layer
def by_position(layer: F.Layer) -> F.Layer:
    """Apply a batch norm over features to examples of any shape, with parameters of that shape."""

    def init(rng: KeyLike, shape: Shape) -> Params:
        return _shaped(layer.init(rng, (math.prod(shape),)), shape)

    def apply(params: Params, x: Array, *, train: bool = False) -> tuple[Array, Any]:
        shape = params["mean"].shape
        if x.shape[1:] != shape:
            raise ValueError(
                f"BatchNormal: expected examples of the shape {shape}, as connected, got an input "
                f"of the shape {x.shape}"
            )
        y, cache = layer.apply(_flat(params), x.reshape(len(x), math.prod(shape)), train=train)
        return y.reshape(x.shape), cache

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        shape = params["mean"].shape
        rows = g.reshape(len(g), math.prod(shape))
        grads, dx = layer.backward(_flat(params), cache, rows, input_grad=input_grad)
        return _shaped(grads, shape), None if dx is None else dx.reshape(g.shape)

    def update_stats(params: Params, cache: Any) -> Params:
        return _shaped(layer.update_stats(_flat(params), cache), params["mean"].shape)

    return F.Layer(init, apply, backward, lambda shape: shape, update_stats)


def _flat(params: Params) -> Params:
    return {name: array.reshape(-1) if array.ndim else array for name, array in params.items()}


def _shaped(flat: Params, shape: Shape) -> Params:
    return {
        name: array if array is None or not array.ndim else array.reshape(shape)
        for name, array in flat.items()
    }
