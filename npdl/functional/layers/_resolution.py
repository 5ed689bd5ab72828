"""Layers that enlarge images: they repeat pixels, interpolate, or take pixels from channels."""

import functools
from collections.abc import Callable

import numpy as np

from npdl.functional._arrays import describe
from npdl.functional._checks import check_int, check_pair, refusal
from npdl.functional._images import check_images, image_shape
from npdl.functional._kernels.windows import Pair
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["pixel_shuffle", "upsample2d"]

_MODES = ("nearest", "bilinear")


@layer
def upsample2d(factor: int | Pair = 2, mode: str = "nearest") -> Layer:
    """Enlarge images by repeated or interpolated pixels: ``y[i, j] = x[⌊i / f⌋, ⌊j / f⌋]``.

    With ``mode="bilinear"``, the output is ``y = R x Cᵀ``. A row of R has the weights of the two
    nearest pixels of the position ``(i + ½) / f - ½``, which is clipped to the image. Pixels are
    areas, as with ``align_corners=False`` in PyTorch.

    Parameters
    ----------
    factor : int or pair of ints
        The factor f of the height and of the width.
    mode : {"nearest", "bilinear"}
        Whether pixels are repeated or interpolated.

    Returns
    -------
    Layer
        From (batch, channels, height, width) to (batch, channels, f height, f width). The layer has
        no parameters.

    Raises
    ------
    ValueError
        If the input is not a batch of images.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.upsample2d((1, 2))((), np.array([[[[1.0, 5.0]]]]))
    array([[[[1., 1., 5., 5.]]]])
    >>> F.upsample2d((1, 2), "bilinear")((), np.array([[[[1.0, 5.0]]]]))
    array([[[[1., 2., 4., 5.]]]])
    """
    high, wide = check_pair(factor, "upsample2d(factor=2)")
    if mode not in _MODES:
        raise ValueError(
            refusal(mode, 'upsample2d(2, mode="nearest")', " or ".join(map(repr, _MODES)))
        )

    def out_shape(shape: Shape) -> Shape:
        channels, height, width = image_shape("upsample2d", shape, 2)
        return channels, high * height, wide * width

    def nearest(x: Array) -> Array:
        return np.repeat(np.repeat(x, high, axis=2), wide, axis=3)

    def nearest_back(g: Array, shape: Shape) -> Array:
        n, channels, height, width = shape
        parts = g.reshape(n, channels, height, high, width, wide)
        dx: Array = np.add.reduce(np.add.reduce(parts, axis=5), axis=3)
        return dx

    def bilinear(x: Array) -> Array:
        rows, columns = _weights(x, high, 2), _weights(x, wide, 3)
        y: Array = rows @ (x @ columns.T)
        return y

    def bilinear_back(g: Array, shape: Shape) -> Array:
        like = np.empty(shape, g.dtype)
        dx: Array = (_weights(like, high, 2).T @ g) @ _weights(like, wide, 3)
        return dx

    functions = (nearest, nearest_back) if mode == "nearest" else (bilinear, bilinear_back)
    return _enlarging("upsample2d", out_shape, lambda x: None, *functions)


def _weights(x: Array, factor: int, axis: int) -> Array:
    return _interpolation(x.shape[axis], factor, x.real.dtype.char)


@functools.lru_cache(maxsize=32)
def _interpolation(size: int, factor: int, dtype: str) -> Array:
    """Return the weights (factor size, size) of linear interpolation between pixels."""
    positions = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, max(size - 1, 0))
    weights: Array = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(size))).astype(dtype)
    weights.flags.writeable = False
    return weights


@layer
def pixel_shuffle(factor: int) -> Layer:
    """Take the pixels of a larger image from channels: ``y[c, f i + k, f j + l] = x[m, i, j]``.

    The channel of the input is ``m = f² c + f k + l``. After a convolution, this is a convolution
    at the higher resolution.

    Parameters
    ----------
    factor : int
        The factor f of the height and of the width; f² divides the number of channels.

    Returns
    -------
    Layer
        From (batch, f² channels, height, width) to (batch, channels, f height, f width). The layer
        has no parameters.

    Raises
    ------
    ValueError
        If the input is not a batch of images, or its number of channels is not a multiple of f².

    References
    ----------
    Shi et al.: Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network, 2016, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.pixel_shuffle(2)((), np.arange(4.0).reshape(1, 4, 1, 1))
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    f = check_int(factor, "pixel_shuffle(factor=2)", least=1)

    def out_shape(shape: Shape) -> Shape:
        channels, height, width = image_shape("pixel_shuffle", shape, 2)
        _check_channels(channels, f, f"the shape {tuple(shape)}")
        return channels // f**2, f * height, f * width

    def check(x: Array) -> None:
        _check_channels(x.shape[1], f, describe(x))

    def forward(x: Array) -> Array:
        n, channels, height, width = x.shape
        blocks = x.reshape(n, channels // f**2, f, f, height, width)
        return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(
            n, channels // f**2, f * height, f * width
        )

    def back(g: Array, shape: Shape) -> Array:
        n, channels, height, width = shape
        blocks = g.reshape(n, channels // f**2, height, f, width, f)
        return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(shape)

    return _enlarging("pixel_shuffle", out_shape, check, forward, back)


def _check_channels(channels: int, factor: int, given: str) -> None:
    if channels % factor**2:
        raise ValueError(
            f"pixel_shuffle: factor={factor} needs a multiple of {factor**2} channels, got {given}"
        )


def _enlarging(
    name: str,
    out_shape: Callable[[Shape], Shape],
    check: Callable[[Array], None],
    forward: Callable[[Array], Array],
    back: Callable[[Array, Shape], Array],
) -> Layer:
    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        return ()

    def apply(params: Params, x: Array) -> tuple[Array, Shape]:
        check_images(name, x, 2)
        check(x)
        return forward(x), x.shape

    def backward(
        params: Params, shape: Shape, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        return None, back(g, shape) if input_grad else None

    return Layer(init, apply, backward, out_shape)
