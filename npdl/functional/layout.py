"""The order of an array's axes in memory, which layers of images keep.

Convolutions give images whose batch is the last axis in memory, though the first of the shape, and
whose rows may be the first; the images of a data set lie as their shape says. NumPy's element-wise
functions keep any order and are fast on each, where all their arrays have the same one.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl.functional.layer import Array, Shape

__all__ = ["BLOCK", "aligned", "arranged", "blocks", "laid_like", "memory_order"]

# Numbers in one block: all that is made on the way fits the second-level cache.
BLOCK = 1 << 17


def blocks(x: Array) -> Iterator[tuple[slice, ...]]:
    """Yield indices for parts of the batch, or of the channels: of that which is outer in memory.

    Parameters
    ----------
    x : array of shape (batch, channels, ...)
        What is worked through; the indices fit whatever has its first two axes.
    """
    axis = 0 if x.strides[0] >= x.strides[1] else 1
    length = x.shape[axis]
    count = max(BLOCK * length // max(x.size, 1), 1)
    for start in range(0, length, count):
        yield (slice(None),) * axis + (slice(start, start + count),)


def memory_order(x: Array) -> tuple[int, ...]:
    """Return the axes from the outermost to the innermost."""
    return tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))


def arranged(shape: Shape, order: tuple[int, ...], dtype: Any) -> Array:
    """Return a new array, not filled, with its axes in that order in memory."""
    array = np.empty([shape[axis] for axis in order], dtype)
    return array.transpose([order.index(axis) for axis in range(len(order))])


def aligned(shape: Shape, dtype: Any) -> Array:
    """Return a new array, not filled, that begins with a line of the caches.

    NumPy's arrays begin anywhere, and then vectorised functions take up to three times as long to
    write into them, since each vector lies in two lines.
    """
    size, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    memory = np.empty(size + _LINE // itemsize, dtype)
    start = -memory.ctypes.data % _LINE // itemsize
    return memory[start : start + size].reshape(shape)


_LINE = 64  # bytes


def laid_like(g: Array, y: Array) -> Array:
    """Return `g` in the memory order of `y`: itself, or a copy."""
    if g.strides == y.strides:
        return g
    copy = np.empty_like(y)
    np.copyto(copy, g)
    return copy
