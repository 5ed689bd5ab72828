"""Patches of images as matrices that share memory, one matrix per row of positions.

A row of the image is copied once per column of the window, shifted by this column. The image rows
under the window are then contiguous in memory. They are the patches of a row of positions: a matrix
with one row per window pixel and channel. The number of copies of an image is the width of the
window, not its number of pixels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from npdl.functional._kernels.blocks import ROW_PATCH_BLOCK
from npdl.functional._kernels.windows import Window
from npdl.tree import Array

__all__ = ["by_rows", "kernel_matrix", "kernel_of", "row_blocks"]

# Matrix products with fewer columns are slow.
FEWEST_COLUMNS = 512


def by_rows(window: Window, groups: int, columns: int) -> bool:
    """Whether patches by rows fit the window, and a row of positions gives enough columns."""
    fits = groups == 1 and window.dilation[0] == 1 and columns >= FEWEST_COLUMNS
    return fits and min(window.size) > 1


def kernel_matrix(weight: Array) -> Array:
    """Return (1, filters, pixels of the window · channels) of (filters, channels, *size)."""
    return weight.transpose(0, 2, 3, 1).reshape(1, len(weight), -1)


def kernel_of(matrix: Array, shape: tuple[int, ...]) -> Array:
    """Inverse of :func:`kernel_matrix`, for a transposed matrix."""
    filters, channels, *size = shape
    return matrix.reshape(*size, channels, filters).transpose(3, 2, 0, 1)


def row_blocks(windows: Array, window: Window) -> Iterator[tuple[slice, Array]]:
    """Yield blocks of rows of positions, and their patches (rows, pixels · channels, columns).

    Parameters
    ----------
    windows : array (channels, *size, rows, columns, batch)
        The view of all windows of a padded image.
    window : Window
        Size, stride and dilation of these windows.
    """
    channels, height, width, rows, columns, batch = windows.shape
    down = window.stride[0]
    a, b, c, _, d, e = windows.strides
    # (image rows, columns of the window, channels, columns, batch)
    shifted = as_strided(
        windows, ((rows - 1) * down + height, width, channels, columns, batch), (b, c, a, d, e)
    )
    row = width * channels * columns * batch
    count = max((ROW_PATCH_BLOCK // row - height) // down + 1, 1)
    count = -(-rows // -(-rows // count))  # nearly equal blocks
    memory = np.empty(((count - 1) * down + height) * row, windows.dtype)
    for start in range(0, rows, count):
        stop = min(start + count, rows)
        lines = (stop - start - 1) * down + height
        block = memory[: lines * row].reshape(lines, *shifted.shape[1:])
        np.copyto(block, shifted[start * down : start * down + lines])
        size, step = memory.itemsize, columns * batch
        patches = as_strided(
            memory,
            (stop - start, height * width * channels, step),
            (down * row * size, step * size, size),
        )
        yield slice(start, stop), patches
