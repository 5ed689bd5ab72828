"""Correlations of images with few channels: one matrix product at each window position.

In memory the images are (height, width, channels, batch). At each position, a row of the window is
then one run of numbers for all images. The runs of all rows form a matrix (rows · columns ·
channels, batch). Its matrix product with the weight is the output at this position. A last row of
ones is multiplied by the bias, so that no sum is needed.

Each pixel is copied once per window element; with few channels, these copies are cheap. For larger
strides and for windows along one axis, the conversion to this memory order costs more than it
saves.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._kernels.blocks import FEW_CHANNELS_BLOCK
from npdl.functional._kernels.conv.rows import kernel_matrix, kernel_of
from npdl.functional._kernels.image_layout import empty_aligned, even_block_size, strided
from npdl.functional._kernels.windows import Window
from npdl.tree import Array

__all__ = ["correlate", "fits"]

# With more rows, the copies of pixels take longer than other algorithms.
MOST_ROWS = 40
# With fewer images, the calls cost more than the matrix products save.
FEWEST_IMAGES = 32


def fits(window: Window, groups: int, shape: tuple[int, ...]) -> bool:
    """Whether :func:`correlate` supports the window and is faster for (batch, channels, ...)."""
    return (
        min(window.size) > 1
        and window.stride == window.dilation == (1, 1)
        and groups == 1
        and math.prod(window.size) * shape[1] <= MOST_ROWS
        and shape[0] >= FEWEST_IMAGES
    )


def correlate(
    x: Array,
    window: Window,
    weight: Array | None = None,
    bias: Array | None = None,
    g: Array | None = None,
) -> tuple[Any, Any]:
    """Return the correlation of `x` with a weight, and the weight gradient, if wanted.

    Parameters and results are as in ``winograd.correlate``, with a weight of shape (filters,
    channels, rows, columns).
    """
    y: Any = None
    dw: Any = None
    depth = math.prod(window.size) * x.shape[2]
    if weight is not None:
        matrix = kernel_matrix(weight)[0]
        if bias is not None:
            matrix = np.concatenate([matrix, bias[:, None]], axis=1)
        y = empty_aligned((*window.out(*x.shape[:2]), len(weight), x.shape[3]), x.dtype)
    if g is not None:
        dw = np.zeros((g.shape[2], depth), x.dtype)
    for part, patches in _patches(x, window, bias is not None):
        if y is not None:
            np.matmul(matrix, patches, out=y[part])
        if g is not None:
            parts = (g[part] @ patches[:, :, :depth].mT).reshape(-1, dw.size)
            # BLAS adds the parts faster than NumPy.
            dw += sum_of_rows(parts).reshape(dw.shape)
    return y, None if g is None else kernel_of(dw.T, (g.shape[2], x.shape[2], *window.size))


def _patches(x: Array, window: Window, with_ones: bool) -> Iterator[tuple[Any, Array]]:
    """Yield indices of a block of positions, and the patches of these positions.

    The patches have the shape (down, across, pixels of the window · channels, batch), with an
    optional last row of ones. All blocks share one memory.
    """
    down, across = window.out(*x.shape[:2])
    x = _padded(x, window)
    *_, channels, batch = x.shape
    rows, columns = window.size
    depth = rows * columns * channels
    length = even_block_size(across, FEW_CHANNELS_BLOCK // (depth * batch))
    height = even_block_size(down, FEW_CHANNELS_BLOCK // (depth * batch * length))
    memory = empty_aligned((height, length, depth + with_ones, batch), x.dtype)
    memory[:, :, depth:] = 1
    # For each position, a run of numbers per row of the window.
    run, (a, b, _, c) = columns * channels * batch, x.strides
    sources = strided(x, (down, across, rows, run), (a, b, a, c))
    targets = strided(memory, (height, length, rows, run), (*memory.strides[:2], run * c, c))
    for top, left in itertools.product(range(0, down, height), range(0, across, length)):
        part = np.s_[top : top + height, left : left + length]
        source = sources[part]
        block = np.s_[: source.shape[0], : source.shape[1]]
        np.copyto(targets[block], source)
        yield part, memory[block]


def _padded(x: Array, window: Window) -> Array:
    height, width, channels, batch = x.shape
    (top, bottom), (left, right) = window.pads(height, width)
    if not top + bottom + left + right:
        return x
    padded = np.zeros((top + height + bottom, left + width + right, channels, batch), x.dtype)
    padded[top : top + height, left : left + width] = x
    return padded
