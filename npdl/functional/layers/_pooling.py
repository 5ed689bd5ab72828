"""Pooling: reduce each window of an image to its maximum or its mean."""

from collections.abc import Callable
from typing import Any

from npdl.functional._checks import check_flag
from npdl.functional._images import check_images, image_shape, make_window, output_size
from npdl.functional._kernels.image_layout import memory_order
from npdl.functional._kernels.pooling import maxima, maxima_gradient, means, means_gradient
from npdl.functional._kernels.windows import Window, as_images, from_images
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"]


@layer
def max_pool2d(
    size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: str | int | tuple[Any, Any] = "valid",
) -> Layer:
    """Take the maximum of each window of an image: ``y[c, p] = max_k x[c, s·p + k]``.

    Here p is a position of the window, k an element of it and s the stride. The gradient goes to
    the first maximum in row-major order. Padding is never the maximum. The output of a window with
    a NaN is NaN, and its gradient goes to the first NaN.

    Parameters
    ----------
    size : int or pair of ints
        Height and width of the window; one int for both.
    stride : int or pair of ints, optional
        Pixels from one position of the window to the next, down and across. By default the size,
        so that windows do not overlap.
    padding : {"valid", "same"}, int, pair of ints, or pair of pairs of ints
        Rows and columns around the image, fewer than the window has. ``"valid"``: none. ``"same"``:
        the output size is ``ceil(size / stride)``. Ints as in :func:`conv2d`.

    Returns
    -------
    Layer
        From (batch, channels, height, width) to (batch, channels, output height, output width). An
        output has ``(height + padding - size) // stride + 1`` rows, and columns alike. Pixels after
        the last window are ignored. The layer has no parameters.

    Raises
    ------
    ValueError
        If the window is larger than the padded image, or the padding not smaller than the window.

    References
    ----------
    Ranzato, Huang, Boureau, LeCun: Unsupervised learning of invariant feature hierarchies with
    applications to object recognition, 2007, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> F.max_pool2d(2)((), x)
    array([[[[ 5.,  7.],
             [13., 15.]]]], dtype=float32)
    >>> F.max_pool2d(3, stride=2, padding=1).out_shape((64, 112, 112))
    (64, 56, 56)
    """
    return _max_pool("max_pool2d", 2, size, stride, padding)


@layer
def max_pool1d(
    size: int, *, stride: int | None = None, padding: str | int | tuple[int, int] = "valid"
) -> Layer:
    """Take the maximum of each window of a sequence: ``y[c, p] = max_k x[c, s·p + k]``.

    It is :func:`max_pool2d` with one axis. Sequences have their channels first.

    Parameters
    ----------
    size : int
        Length of the window.
    stride : int, optional
        Steps from one position of the window to the next; by default, the size.
    padding : {"valid", "same"}, int, or pair of ints
        Steps before and after, as in :func:`max_pool2d`; a pair is (before, after).

    Returns
    -------
    Layer
        From (batch, channels, length) to (batch, channels, output length). The layer has no
        parameters.

    Raises
    ------
    ValueError
        As in :func:`max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.array([[[1.0, 5.0, 2.0, 2.0, 4.0]]])
    >>> F.max_pool1d(3, stride=2)((), x)
    array([[[5., 4.]]])
    """
    return _max_pool("max_pool1d", 1, size, stride, padding)


@layer
def avg_pool2d(
    size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: str | int | tuple[Any, Any] = "valid",
    count_padding: bool = False,
) -> Layer:
    """Take the mean of each window of an image: ``y[c, p] = 1/n · Σ_k x[c, s·p + k]``.

    Here p is a position of the window, k an element of it and s the stride. The number n counts the
    pixels in the window, without the padding.

    Parameters
    ----------
    size, stride, padding
        As in :func:`max_pool2d`.
    count_padding : bool
        Whether `n` counts the padding, too, as pixels with the value zero. By default it does
        not, so that the output for an image of ones is 1 at the border, too.

    Returns
    -------
    Layer
        From (batch, channels, height, width) to (batch, channels, output height, output width), as
        in :func:`max_pool2d`. The layer has no parameters.

    Raises
    ------
    ValueError
        As in :func:`max_pool2d`.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998,
    section II.A, there with a trained factor.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> F.avg_pool2d(2)((), x)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]], dtype=float32)
    >>> F.avg_pool2d(3, stride=3, padding=1)((), np.ones((1, 1, 4, 4)))
    array([[[[1., 1.],
             [1., 1.]]]])
    >>> F.avg_pool2d((2, 4), stride=1, padding="same").out_shape((3, 28, 28))
    (3, 28, 28)
    """
    return _avg_pool("avg_pool2d", 2, size, stride, padding, count_padding)


@layer
def avg_pool1d(
    size: int,
    *,
    stride: int | None = None,
    padding: str | int | tuple[int, int] = "valid",
    count_padding: bool = False,
) -> Layer:
    """Take the mean of each window of a sequence: ``y[c, p] = 1/n · Σ_k x[c, s·p + k]``.

    It is :func:`avg_pool2d` with one axis. Sequences have their channels first.

    Parameters
    ----------
    size, stride, padding
        As in :func:`max_pool1d`.
    count_padding : bool
        Whether `n` counts the padding, too, as steps with the value zero.

    Returns
    -------
    Layer
        From (batch, channels, length) to (batch, channels, output length). The layer has no
        parameters.

    Raises
    ------
    ValueError
        As in :func:`max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.array([[[1.0, 5.0, 3.0, 1.0]]])
    >>> F.avg_pool1d(3, stride=2, padding=(1, 0))((), x)
    array([[[3., 3.]]])
    """
    return _avg_pool("avg_pool1d", 1, size, stride, padding, count_padding)


def _window(name: str, axes: int, size: Any, stride: Any, padding: Any) -> Window:
    window = make_window(name, axes, size, size if stride is None else stride, padding)
    if not isinstance(window.padding, str) and any(
        max(sides) >= length for sides, length in zip(window.padding, window.size, strict=True)
    ):
        raise ValueError(
            f"{name}: padding must be less than the window, because a window of padding alone is "
            f"empty, got {padding=} and {size=}"
        )
    return window


def _max_pool(name: str, axes: int, size: Any, stride: Any, padding: Any) -> Layer:
    window = _window(name, axes, size, stride, padding)

    def apply(params: Params, x: Array) -> tuple[Array, tuple[Array, Array]]:
        check_images(name, x, axes)
        images = as_images(x, axes)
        output_size(name, window, images.shape[2:])
        y = from_images(maxima(images, window), axes)
        return y, (x, y)

    def backward(
        params: Params, cache: tuple[Array, Array], g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        g, x, y = (as_images(part, axes) for part in (g, *cache))
        return None, from_images(maxima_gradient(g, x, y, window), axes)

    return _pooling(name, window, axes, apply, backward)


def _avg_pool(
    name: str, axes: int, size: Any, stride: Any, padding: Any, count_padding: bool
) -> Layer:
    window = _window(name, axes, size, stride, padding)
    count_padding = check_flag(count_padding, f"{name}(3, count_padding=True)")

    def apply(params: Params, x: Array) -> tuple[Array, tuple[Shape, tuple[int, ...]]]:
        check_images(name, x, axes)
        images = as_images(x, axes)
        output_size(name, window, images.shape[2:])
        y = means(images, window, count_padding)
        return from_images(y, axes), (images.shape, memory_order(images))

    def backward(
        params: Params, cache: tuple[Shape, tuple[int, ...]], g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        dx = means_gradient(as_images(g, axes), *cache, window, count_padding)
        return None, from_images(dx, axes)

    return _pooling(name, window, axes, apply, backward)


def _pooling(
    name: str,
    window: Window,
    axes: int,
    apply: Callable[..., tuple[Any, Any]],
    backward: Callable[..., tuple[Any, Any]],
) -> Layer:
    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        return ()

    def out_shape(shape: Shape) -> Shape:
        channels, height, width = image_shape(name, shape, axes)
        return (channels, *output_size(name, window, (height, width))[-axes:])

    return Layer(init, apply, backward, out_shape, keeps_axes=True)
