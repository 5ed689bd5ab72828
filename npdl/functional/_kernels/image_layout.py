"""The memory order of an array's axes. Image layers keep the order of their input.

Images of a data set have the memory order of their shape: (batch, channels, height, width).
Convolutions return images with the batch as last axis in memory: (channels, height, width, batch)
or, by rows, (height, width, channels, batch). NumPy's element-wise functions keep any order, and
are fast if all their arrays have the same order.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_columns, sum_of_rows
from npdl.functional._kernels.blocks import IMAGE_BLOCK, LAYOUT_IMAGES, LAYOUT_PIXELS
from npdl.functional._kernels.windows import Pair
from npdl.tree import Array

__all__ = [
    "as_rows",
    "batch_first",
    "batch_last",
    "empty_aligned",
    "empty_in_order",
    "even_block_size",
    "from_rows",
    "image_blocks",
    "memory_order",
    "strided",
    "sum_of_channels",
    "with_layout_of",
]


def image_blocks(x: Array) -> Iterator[tuple[slice, ...]]:
    """Yield indices of blocks along the batch or the channels: the outer axis of the two in memory.

    Parameters
    ----------
    x : array of shape (batch, channels, ...)
        The images. The indices fit all arrays with the same first two axes.
    """
    axis = 0 if x.strides[0] >= x.strides[1] else 1
    length = x.shape[axis]
    count = max(IMAGE_BLOCK * length // max(x.size, 1), 1)
    for start in range(0, length, count):
        yield (slice(None),) * axis + (slice(start, start + count),)


def memory_order(x: Array) -> tuple[int, ...]:
    """Return the axes from the outermost to the innermost."""
    return tuple(sorted(range(x.ndim), key=x.strides.__getitem__, reverse=True))


def empty_in_order(shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> Array:
    """Return a new uninitialized array with the given memory order of its axes."""
    array = np.empty([shape[axis] for axis in order], dtype)
    return array.transpose([order.index(axis) for axis in range(len(order))])


def empty_aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return a new uninitialized array, aligned to a cache line.

    NumPy's arrays are not aligned to cache lines. Vectorised functions then take up to three times
    as long to write into them, because each vector spans two lines.
    """
    size, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    memory = np.empty(size + _LINE // itemsize, dtype)
    start = -memory.ctypes.data % _LINE // itemsize
    return memory[start : start + size].reshape(shape)


_LINE = 64  # bytes


def strided(array: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """Return a view of a contiguous array; `as_strided` of NumPy takes seven times as long."""
    return np.ndarray(shape, array.dtype, array, strides=strides)


def with_layout_of(g: Array, y: Array) -> Array:
    """Return `g` in the memory order of `y`: itself, or a copy."""
    if g.strides == y.strides:
        return g
    copy = np.empty_like(y)
    np.copyto(copy, g)
    return copy


def batch_last(x: Array, pads: tuple[Pair, Pair] = ((0, 0), (0, 0))) -> Array:
    """Return (channels, height, width, batch), contiguous and padded with zeros.

    The result is a view if `x` has this memory order and all pads are zero.
    """
    source = x.transpose(1, 2, 3, 0)
    (top, bottom), (left, right) = pads
    padded = top + bottom + left + right > 0
    if source.flags.c_contiguous and not padded:
        return source
    channels, height, width, batch = source.shape
    y = np.empty((channels, top + height + bottom, left + width + right, batch), x.dtype)
    if padded:
        y[:, :top] = 0
        y[:, top + height :] = 0
        y[:, :, :left] = 0
        y[:, :, left + width :] = 0
    _copy(source, y[:, top : top + height, left : left + width])
    return y


def batch_first(x: Array) -> Array:
    """Return the view (batch, channels, height, width)."""
    return x.transpose(3, 0, 1, 2)


def as_rows(x: Array) -> Array:
    """Return (height, width, channels, batch), contiguous: a view if `x` has this memory order."""
    rows = x.transpose(2, 3, 1, 0)
    if rows.flags.c_contiguous:
        return rows
    copy = empty_aligned(rows.shape, x.dtype)
    _copy(x.transpose(1, 2, 3, 0), copy.transpose(2, 0, 1, 3))
    return copy


def from_rows(x: Array) -> Array:
    """Return the view (batch, channels, height, width)."""
    return x.transpose(3, 2, 0, 1)


def sum_of_channels(g: Array) -> Array:
    """Return the sum over all axes but the channels: the gradient of a bias."""
    batch, channels, *image = g.shape
    rows = g.transpose(2, 3, 1, 0)
    if rows.flags.c_contiguous:
        sums = sum_of_rows(rows.reshape(math.prod(image), channels * batch))
        return sum_of_columns(sums.reshape(channels, batch))
    size = math.prod(image) * batch
    return sum_of_columns(batch_last(g).reshape(channels, size))


def _copy(source: Array, target: Array) -> None:
    """Copy between layouts in pieces that stay in the first-level cache."""
    channels, height, width, batch = source.shape
    if batch < 2 or source.strides[3] <= min(source.strides[:3]):
        np.copyto(target, source)
    elif batch < 8:
        for image in range(batch):
            target[..., image] = source[..., image]
    else:
        rows = max(1, min(height, LAYOUT_PIXELS // width))
        planes = max(1, LAYOUT_PIXELS // (rows * width))
        for channel, row, image in itertools.product(
            range(0, channels, planes), range(0, height, rows), range(0, batch, LAYOUT_IMAGES)
        ):
            piece = np.s_[
                channel : channel + planes, row : row + rows, :, image : image + LAYOUT_IMAGES
            ]
            np.copyto(target[piece], source[piece])


def even_block_size(length: int, most: int) -> int:
    """Return the size of nearly equal blocks of at most about `most` that cover `length`."""
    parts = -(-length // max(most, 1))
    return -(-length // max(parts, 1)) or 1
