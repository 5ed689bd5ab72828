"""Convolution of images and of sequences."""

from typing import Any

from npdl.functional._arrays import check_params
from npdl.functional._checks import check_flag, check_function
from npdl.functional._images import (
    check_filters,
    check_images,
    image_shape,
    make_window,
    output_size,
)
from npdl.functional._initializers import Initializer, glorot_uniform, zeros
from npdl.functional._kernels.conv.correlation import correlate, gradients
from npdl.functional._kernels.image_layout import sum_of_channels
from npdl.functional._kernels.windows import Window, as_images, from_images, remembered
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["conv1d", "conv2d"]


@layer
def conv2d(
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[Any, Any] = "valid",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008 - an immutable value
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Move filters over images: ``y[f, p] = b[f] + Σ_c,k w[f, c, k] · x[c, s·p + d·k]``.

    Here p is an output position, k an element of the kernel, s the stride and d the dilation.

    Parameters
    ----------
    filters : int
        Number of filters, which is the number of output channels.
    kernel_size : int or pair of ints
        Height and width of a filter; one int for both.
    stride : int or pair of ints
        Pixels from one position of the filter to the next, down and across.
    padding : {"valid", "same"}, int, pair of ints, or pair of pairs of ints
        Zeros around the image. ``"valid"``: none. ``"same"``: the output size is
        ``ceil(size / stride)``; an odd row or column of zeros is at the bottom or the right. A pair
        of ints: vertical and horizontal. ``((top, bottom), (left, right))`` gives all four.
    dilation : int or pair of ints
        Pixels from one element of the filter to the next.
    groups : int
        Number of groups of channels. Each group has separate filters. With one channel per group,
        the convolution is depthwise.
    bias : bool
        Whether the layer has the parameter `b`.
    weight_init, bias_init : Initializer
        Initial values; Glorot's uniform and zeros by default.

    Returns
    -------
    Layer
        From (batch, channels, height, width) to (batch, filters, output height, output width). The
        output size is ``(size + padding - dilation · (kernel_size - 1) - 1) // stride + 1``. In
        memory the batch axis of the output is last. Parameters: ``weight`` (filters, channels //
        groups, kernel height, kernel width) and ``bias`` (filters,).

    Raises
    ------
    ValueError
        If the kernel is larger than the padded image; if the input has other channels than the
        shape passed to `init`; if `groups` does not divide channels and filters.

    Notes
    -----
    For kernels of three rows at stride 1 and batches of at least 16 images, Winograd's algorithm
    saves multiplications. The rounding error of an output is then relative to the largest value in
    its window times the largest weight. This holds even if one of the two is multiplied by zero.
    The layer uses direct convolution for infinities in the images or kernels. It also uses it if
    neighbouring rows differ in magnitude by a factor of 1000 on average.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998,
    section II.A. Dumoulin, Visin: A guide to convolution arithmetic for deep learning, 2016,
    relations 6 and 15, for the sizes.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.conv2d(16, 3, padding="same")
    >>> params = model.init(0, (3, 32, 28))
    >>> params["weight"].shape
    (16, 3, 3, 3)
    >>> model(params, np.zeros((5, 3, 32, 28), np.float32)).shape
    (5, 16, 32, 28)
    >>> F.conv2d(16, (5, 3), stride=2, padding=(2, 1)).out_shape((3, 32, 28))
    (16, 16, 14)
    """
    window = make_window("conv2d", 2, kernel_size, stride, padding, dilation, "kernel_size")
    return _convolution("conv2d", window, 2, filters, groups, bias, weight_init, bias_init)


@layer
def conv1d(
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: str | int | tuple[int, int] = "valid",
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008 - an immutable value
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Move filters along sequences: ``y[f, p] = b[f] + Σ_c,k w[f, c, k] · x[c, s·p + d·k]``.

    It is :func:`conv2d` with one axis. Sequences have their channels first.

    Parameters
    ----------
    filters : int
        Number of filters, which is the number of output channels.
    kernel_size : int
        Length of a filter.
    stride : int
        Steps from one position of the filter to the next.
    padding : {"valid", "same"}, int, or pair of ints
        Zeros at both ends, as in :func:`conv2d`. A pair is (before, after):
        ``(dilation · (kernel_size - 1), 0)`` gives a causal convolution.
    dilation : int
        Steps from one element of the filter to the next.
    groups : int
        Number of groups of channels, as in :func:`conv2d`.
    bias : bool
        Whether the layer has the parameter `b`.
    weight_init, bias_init : Initializer
        Initial values; Glorot's uniform and zeros by default.

    Returns
    -------
    Layer
        From (batch, channels, length) to (batch, filters, output length). Recurrent layers use
        (batch, time, features) instead. Parameters: ``weight`` (filters, channels // groups,
        kernel_size) and ``bias`` (filters,).

    Raises
    ------
    ValueError
        As in :func:`conv2d`.

    References
    ----------
    Waibel, Hanazawa, Hinton, Shikano, Lang: Phoneme recognition using time-delay neural networks,
    1989, section II.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.conv1d(16, 3, padding=(4, 0), dilation=2)
    >>> params = model.init(0, (8, 50))
    >>> model(params, np.zeros((5, 8, 50), np.float32)).shape
    (5, 16, 50)
    """
    window = make_window("conv1d", 1, kernel_size, stride, padding, dilation, "kernel_size")
    return _convolution("conv1d", window, 1, filters, groups, bias, weight_init, bias_init)


def _convolution(
    name: str,
    window: Window,
    axes: int,
    filters: int,
    groups: int,
    bias: bool,
    weight_init: Initializer,
    bias_init: Initializer,
) -> Layer:
    """Return the layer. A sequence is computed as an image of height 1."""
    kernel_size = window.size[-axes:]
    filters, groups = check_filters(name, filters, groups)
    bias = check_flag(bias, f"{name}(16, 3, bias=False)")
    check_function(weight_init, f"{name}(16, 3, weight_init=he_uniform())")
    check_function(bias_init, f"{name}(16, 3, bias_init=zeros())")

    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        weight_shape = (filters, shape[0] // groups, *kernel_size)
        params = {"weight": weight_init(fold(rng, "weight"), weight_shape)}
        if bias:
            params["bias"] = bias_init(fold(rng, "bias"), (filters,))
        return params

    @remembered
    def shapes_for(part: int) -> dict[str, Shape]:
        return {"weight": (filters, part, *kernel_size)} | ({"bias": (filters,)} if bias else {})

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        part = params["weight"].shape[1] if "weight" in (params or ()) else 1
        check_params(name, params, shapes_for(part))
        weight = as_images(params["weight"], axes)
        check_images(name, x, axes, weight.shape[1] * groups, weight.dtype)
        images = as_images(x, axes)
        output_size(name, window, images.shape[2:])
        shift = params["bias"] if bias else None
        return from_images(correlate(images, weight, shift, window, groups), axes), x

    def backward(
        params: Params, x: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        weight, images, g = (as_images(part, axes) for part in (params["weight"], x, g))
        dw, dx = gradients(images, g, weight, window, groups, input_grad)
        grads = {"weight": from_images(dw, axes)}
        if bias:
            grads["bias"] = sum_of_channels(g)
        return grads, dx if dx is None else from_images(dx, axes)

    def out_shape(shape: Shape) -> Shape:
        _, height, width = image_shape(name, shape, axes, groups)
        return (filters, *output_size(name, window, (height, width))[-axes:])

    return Layer(init, apply, backward, out_shape)
