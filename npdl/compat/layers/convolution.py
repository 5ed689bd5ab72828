"""Convolution of images."""

from typing import Any

import npdl.functional as F
from npdl.compat import activations, initializations
from npdl.compat.layers.base import Parameter
from npdl.compat.layers.core import Activated
from npdl.compat.layers.sizes import Shape, positive_int

__all__ = ["Convolution"]


class Convolution(Activated):
    """Move filters over images, and apply an activation; only places inside the image count.

    ``y[f, p] = a(b[f] + Σ_c,k w[f, c, k] · x[c, s·p + k])``, where p is a place, k an element of
    the filter, s the stride and a the activation.

    From (batch, channels, rows, columns) to (batch, nb_filter, places down, places across), with
    ``(size - filter_size) // stride + 1`` places.

    Parameters
    ----------
    nb_filter : int
        Number of filters, which is the number of output channels.
    filter_size : pair of ints
        Rows and columns of a filter.
    input_shape : tuple, optional
        (channels, rows, columns) of the input, also with `None` for the batch before them; the
        first layer of a model needs it, others know it from the layer before.
    stride : int
        Pixels from one place of the filter to the next.
    init : str or Initializer
        Initial values of `W`; `b` begins with zeros.
    activation : str or Activation
        The activation.

    Attributes
    ----------
    W, b : array
        Parameters, (nb_filter, channels, filter rows, filter columns) and (nb_filter,).
    dW, db : array
        Their gradients, summed over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Convolution(8, (3, 5), input_shape=(1, 28, 28))
    >>> layer.connect_to()
    >>> layer.out_shape
    (None, 8, 26, 24)
    """

    as_first = "Convolution(8, (3, 3), input_shape=(3, 128, 128))"
    known_axes = 3
    W = Parameter("0/weight")
    b = Parameter("0/bias")

    def __init__(
        self,
        nb_filter: int,
        filter_size: tuple[int, int],
        input_shape: tuple[Any, ...] | None = None,
        stride: int = 1,
        init: Any = "glorot_uniform",
        activation: Any = "relu",
    ) -> None:
        self.nb_filter = positive_int(self, "nb_filter", nb_filter)
        self.filter_size = filter_size
        self.stride = positive_int(self, "stride", stride)
        self.input_shape = input_shape
        self.told = _image(input_shape)
        self.init = initializations.get(init)
        self.activation = activations.get(activation)
        # Says what is wrong with a filter size now rather than when the layer is connected.
        self.make(())

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return F.serial(
            F.conv2d(
                self.nb_filter, self.filter_size, stride=self.stride, weight_init=self.init.pure
            ),
            self.last(),
        )


def _image(input_shape: Any) -> Shape:
    """Return (channels, rows, columns), or nothing where it is not given."""
    sizes = () if input_shape is None else tuple(input_shape)
    if sizes and (len(sizes) not in (3, 4) or (len(sizes) == 4 and sizes[0] is not None)):
        raise ValueError(
            f"Convolution: input_shape is (channels, rows, columns), as in input_shape=(3, 128, "
            f"128), got {input_shape!r}"
        )
    return sizes[-3:]
