"""The transposed convolution, which enlarges images."""

import operator
from typing import Any

from npdl.functional._arrays import check_params
from npdl.functional._checks import check_flag, check_function, check_pair
from npdl.functional._images import check_filters, check_images, image_shape, make_window
from npdl.functional._initializers import Initializer, glorot_uniform, zeros
from npdl.functional._kernels.conv.correlation import (
    correlate_with_gradient,
    transposed_correlation,
    weight_gradient,
)
from npdl.functional._kernels.image_layout import sum_of_channels
from npdl.functional._kernels.windows import Pair, Window
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["conv2d_transpose"]


@layer
def conv2d_transpose(
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[Any, Any] = "valid",
    output_padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008 - an immutable value
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Spread filters over a larger image: ``y[f, s·p + d·k] += Σ_c w[c, f, k] · x[c, p]``.

    The layer computes the input gradient of a :func:`conv2d` with the same weight. Here p is a
    pixel of `x`, k an element of the kernel, s the stride and d the dilation.

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel_size : int or pair of ints
        Height and width of a filter; one int for both.
    stride : int or pair of ints
        Output pixels from one input pixel to the next, down and across.
    padding : {"valid", "same"}, int, pair of ints, or pair of pairs of ints
        Output pixels to cut off at the sides. ``"valid"``: none. ``"same"``: the output size is
        ``size · stride``. Ints as in :func:`conv2d`.
    output_padding : int or pair of ints
        Rows and columns to add at the bottom and at the right. Several image sizes give the same
        size after a strided convolution; this argument selects one of them. It is less than the
        stride, and not allowed with ``"same"``.
    dilation : int or pair of ints
        Output pixels from one element of the filter to the next.
    groups : int
        Number of groups of channels. Each group has separate filters.
    bias : bool
        Whether the layer adds a bias to each output channel.
    weight_init, bias_init : Initializer
        Initial values; Glorot's uniform and zeros by default. The fans are computed as for a
        convolution from `channels` to `filters`.

    Returns
    -------
    Layer
        From (batch, channels, height, width) to (batch, filters, …). The output size is
        ``(size - 1) · stride - padding + dilation · (kernel_size - 1) + 1 + output_padding``, with
        the sum of the paddings of both sides. Parameters: ``weight`` (channels, filters // groups,
        kernel height, kernel width) and ``bias`` (filters,).

    Raises
    ------
    ValueError
        If the output would be empty; if the input has other channels than the shape passed to
        `init`; if `groups` does not divide channels and filters.

    References
    ----------
    Zeiler, Krishnan, Taylor, Fergus: Deconvolutional networks, 2010. Dumoulin, Visin: A guide to
    convolution arithmetic for deep learning, 2016, relation 14, for the sizes.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.conv2d_transpose(8, 4, stride=2, padding=1)
    >>> params = model.init(0, (16, 7, 6))
    >>> model(params, np.zeros((5, 16, 7, 6), np.float32)).shape
    (5, 8, 14, 12)
    """
    name = "conv2d_transpose"
    window = make_window(name, 2, kernel_size, stride, padding, dilation, "kernel_size")
    extra = _output_padding(name, window, output_padding)
    filters, groups = check_filters(name, filters, groups)
    bias = check_flag(bias, "conv2d_transpose(16, 3, bias=False)")
    check_function(weight_init, "conv2d_transpose(16, 3, weight_init=he_uniform())")
    check_function(bias_init, "conv2d_transpose(16, 3, bias_init=zeros())")

    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        channels = shape[0]
        part = channels // groups
        # The initializer reads the fans from the shape of a convolution's weight.
        weight = weight_init(fold(rng, "weight"), (filters, part, *window.size))
        weight = weight.reshape(groups, filters // groups, part, *window.size).swapaxes(1, 2)
        params = {"weight": weight.reshape(channels, filters // groups, *window.size)}
        if bias:
            params["bias"] = bias_init(fold(rng, "bias"), (filters,))
        return params

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        channels = params["weight"].shape[0] if "weight" in (params or ()) else 1
        shapes: dict[str, Shape] = {"weight": (channels, filters // groups, *window.size)}
        check_params(name, params, shapes | ({"bias": (filters,)} if bias else {}))
        weight = params["weight"]
        check_images(name, x, 2, weight.shape[0], weight.dtype)
        y = transposed_correlation(
            x, weight, window, groups, _output_size(name, window, extra, x.shape[2:])
        )
        if bias:
            y += params["bias"][:, None, None]
        return y, x

    def backward(
        params: Params, x: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        weight, dx = params["weight"], None
        if input_grad:
            dx, dw = correlate_with_gradient(g, x, weight, window, groups)
        else:
            dw = weight_gradient(g, x, weight, window, groups)
        grads = {"weight": dw}
        if bias:
            grads["bias"] = sum_of_channels(g)
        return grads, dx

    def out_shape(shape: Shape) -> Shape:
        _, *image = image_shape(name, shape, 2, groups)
        return (filters, *_output_size(name, window, extra, (image[0], image[1])))

    return Layer(init, apply, backward, out_shape)


def _output_padding(name: str, window: Window, value: Any) -> Pair:
    extra = check_pair(value, f"{name}(…, output_padding=1)", least=0)
    if any(map(operator.ge, extra, window.stride)) or (
        extra != (0, 0) and window.padding == "same"
    ):
        raise ValueError(
            f"{name}: output_padding must be less than the stride, and 0 where padding is "
            f'"same", got {value!r} with stride={window.stride} and padding={window.padding!r}'
        )
    return extra


def _output_size(name: str, window: Window, extra: Pair, image: Pair) -> Pair:
    """Return the size of the output."""
    if window.padding == "same":
        height, width = image[0] * window.stride[0], image[1] * window.stride[1]
    else:
        pads = window.pads(*image)
        height, width = (
            (image[i] - 1) * window.stride[i] + window.reach[i] + extra[i] - sum(pads[i])
            for i in (0, 1)
        )
    if min(image) < 1 or height < 1 or width < 1:
        raise ValueError(
            f"{name}: images of {image[0]}×{image[1]} (height×width) give an empty output of "
            f"{height}×{width}; use less padding or larger images"
        )
    return height, width
