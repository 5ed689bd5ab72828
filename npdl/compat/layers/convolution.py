"""Convolution of images."""

from typing import Any

import npdl.functional as F
from npdl.compat import initializations
from npdl.compat.layers._sizes import check_channels, positive_int
from npdl.compat.layers.base import Parameter
from npdl.compat.layers.core import Activated, Affine, activation_of
from npdl.functional._checks import check_pair
from npdl.functional._layer import Shape

__all__ = ["Convolution"]


class Convolution(Affine, Activated):
    """Convolution of images with filters, followed by an activation.

    ``y[f, p] = a(b[f] + Σ_c,k w[f, c, k] · x[c, s·p + k])``, with output position p, filter element
    k, stride s and activation a.

    From (batch, channels, rows, columns) to (batch, nb_filter, output rows, output columns).
    Without padding, an output size is ``(size - filter_size) // stride + 1``. With the keyword
    ``padding="same"``, zeros around the image give an output size of ``ceil(size / stride)``.

    Parameters
    ----------
    nb_filter : int
        Number of filters, which is the number of output channels.
    filter_size : pair of ints
        Rows and columns of a filter.
    input_shape : tuple, optional
        (channels, rows, columns) of the input, optionally with the batch size or `None` before
        them; required only for the first layer of a model.
    stride : int
        Step between filter positions, in pixels.
    init : str or Initializer
        Initial values of `W`; `b` is initialized to zeros.
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

    usage = "Convolution(8, (3, 3), input_shape=(3, 128, 128))"
    known_axes = 3
    options = (*Affine.options, "padding")
    padding = "valid"
    W = Parameter("0/weight")
    b = Parameter("0/bias")

    def __init__(
        self,
        nb_filter: int,
        filter_size: tuple[int, int],
        input_shape: tuple[Any, ...] | None = None,
        stride: Any = 1,
        init: Any = "glorot_uniform",
        activation: Any = "relu",
    ) -> None:
        self.nb_filter = positive_int(self, "nb_filter", nb_filter)
        check_pair(filter_size, f"{self}(8, filter_size=(3, 3))")
        self.filter_size = filter_size
        pair = isinstance(stride, tuple | list) and len(stride) == 2 and stride[0] == stride[1]
        self.stride = positive_int(self, "stride", stride[0] if pair else stride, 1)
        self.input_shape = input_shape
        self.input_sizes = _image(input_shape)
        self.init = initializations.get(init)
        self.activation = activation_of(activation)

    def _set_options(self, options: Any) -> None:
        super()._set_options(options)
        if self.padding not in ("valid", "same"):
            raise ValueError(
                f"{self}: padding must be 'valid' or 'same', got {self.padding!r}; "
                f"Functional(F.conv2d(8, 3, padding=1)) accepts numbers"
            )

    def _build(self, shape: Shape) -> F.Layer:
        convolution = F.conv2d(
            self.nb_filter,
            self.filter_size,
            stride=self.stride,
            padding=self.padding,
            bias=self.use_bias,
            weight_init=self.init.pure,
        )
        return F.serial(convolution, self._activation_layer())


def _image(input_shape: Any) -> Shape:
    """Return (channels, rows, columns), or () if the shape is not passed."""
    sizes = () if input_shape is None else tuple(input_shape)
    if len(sizes) not in (0, 3, 4):
        raise ValueError(
            f"Convolution: input_shape is (channels, rows, columns), as in input_shape=(3, 128, "
            f"128), got {input_shape!r}"
        )
    check_channels(sizes[-3:])
    return sizes[-3:]
