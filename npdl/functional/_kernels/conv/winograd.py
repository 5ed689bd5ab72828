"""Correlations with windows of three rows at stride 1, in fewer multiplications.

Let y₀ and y₁ be two outputs, one above the other. They depend on four pixels d₀ … d₃ and on three
weights w₀, w₁, w₂ of a window column. The direct method needs six products, Winograd's four::

    m₀ = w₀ · (d₀ - d₂)                    m₁ = ½ (w₀ + w₁ + w₂) · (d₁ + d₂)
    m₃ = w₂ · (d₃ - d₁)                    m₂ = ½ (w₀ - w₁ + w₂) · (d₂ - d₁)
    y₀ = m₀ + m₁ + m₂                      y₁ = m₁ - m₂ + m₃

Here each product is a matrix product of the transformed weight with a transformed row; it sums over
channels and window columns. In memory the images are (height, width, channels, batch). A row is
therefore one run of numbers, and its transforms are sums of whole rows. The part of such a sum
under a window is one matrix (columns · channels, batch), without a copy. The weight gradient is the
transpose of these steps. Sums of rows round relative to the largest number in a window, even if its
weight is zero; :func:`is_even` detects images for which this error is too large.

Lavin, Gray: Fast algorithms for convolutional neural networks, 2016, section 4.1, nested with the
direct method in the other direction.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._kernels.blocks import WINOGRAD_BLOCK
from npdl.functional._kernels.image_layout import empty_aligned, even_block_size, strided
from npdl.functional._kernels.windows import Window
from npdl.tree import Array

__all__ = ["correlate", "fits", "is_even"]

# With smaller sizes, the calls cost more than the saved multiplications.
FEWEST = {"channels": 2, "filters": 2, "batch": 16, "row": 1 << 12}


def fits(window: Window, groups: int, shape: tuple[int, ...], filters: int) -> bool:
    """Whether :func:`correlate` supports the window and is faster for (batch, channels, ...)."""
    batch, channels, _, width = shape
    return (
        window.size[0] == 3
        and window.stride == window.dilation == (1, 1)
        and groups == 1
        and channels >= FEWEST["channels"]
        and filters >= FEWEST["filters"]
        and batch >= FEWEST["batch"]
        and width * channels * batch >= FEWEST["row"]
    )


# Largest allowed ratio of the root mean squares of two rows that are added.
WIDEST = 1 << 10


def is_even(x: Array) -> bool:
    """Whether neighbouring rows of images, or of a weight, have similar magnitudes.

    The rows are on the first axis. A sum of rows rounds relative to the larger one, and loses a row
    that is 10⁸ times smaller. The result is false for infinities and NaN. Rows of zeros are
    ignored, because their sums are exact.
    """
    rows = x.reshape(len(x), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.sqrt(np.vecdot(rows, rows))
    largest = sizes.max(initial=0)
    if not largest < np.inf:
        return False
    others = np.where(sizes == 0, np.inf, sizes)
    if largest <= WIDEST * others.min(initial=np.inf):
        return True
    return all(
        (sizes[i:] <= WIDEST * others[:-i]).all() and (sizes[:-i] <= WIDEST * others[i:]).all()
        for i in range(1, min(3, len(sizes)))
    )


def correlate(
    x: Array,
    window: Window,
    weight: Array | None = None,
    bias: Array | None = None,
    g: Array | None = None,
) -> tuple[Any, Any]:
    """Return the correlation of `x` with a weight, and the weight gradient, if wanted.

    Parameters
    ----------
    x : array of shape (height, width, channels, batch)
        The images.
    window : Window
        Size, stride, padding and dilation.
    weight : array of shape (filters, channels, 3, columns), optional
        The filters.
    bias : array of shape (filters,), optional
        Added to the outputs.
    g : array of shape (output height, output width, filters, batch), optional
        The gradient of the outputs.

    Returns
    -------
    y : array of shape (output height, output width, filters, batch), or None
        The correlation, if a weight is passed.
    dw : array of shape (filters, channels, 3, columns), or None
        The weight gradient, if `g` is passed.
    """
    down, across = window.out(*x.shape[:2])
    *_, channels, batch = x.shape
    filters = len(weight) if weight is not None else 0 if g is None else g.shape[2]
    # Columns per block, such that the workspaces fit the second-level cache.
    length = even_block_size(across, WINOGRAD_BLOCK // max(max(channels, filters) * batch, 1))
    y: Any = None
    du: Any = None
    if weight is not None:
        u = _transformed(weight)
        y = empty_aligned((down, across, filters, batch), x.dtype)
        m = empty_aligned((4, length, filters, batch), x.dtype)
        shift = None if bias is None else np.repeat(bias[:, None], batch, axis=1)
    if g is not None:
        cotangents = empty_aligned((4, length, batch, filters), x.dtype)
        parts = empty_aligned((length, window.size[1] * channels, filters), x.dtype)
        du = np.zeros((4, parts[0].size), x.dtype)
    for part, count, sums in _blocks(x, window, length):
        if g is not None:
            _pull_back(g[part], cotangents[:, :count])
        for t, patches in enumerate(sums):
            if y is not None:
                np.matmul(u[t], patches, out=m[t, :count])
            if du is not None:
                np.matmul(patches, cotangents[t, :count], out=parts[:count])
                # BLAS adds the parts faster than NumPy.
                du[t] += sum_of_rows(parts[:count].reshape(count, -1))
        if y is not None:
            _combine(m[:, :count], shift, y[part])
    return y, None if du is None else _transformed_back(du, (filters, channels, *window.size))


def _blocks(x: Array, window: Window, length: int) -> Iterator[tuple[Any, int, Iterator[Array]]]:
    """Yield blocks of two rows and `length` columns of positions: indices, columns and patches.

    Each of the four sums of rows gives patches (count, columns of the window · channels, batch),
    in the same memory.
    """
    height, width, channels, batch = x.shape
    down, across = window.out(height, width)
    (top, _), (left, _) = window.pads(height, width)
    columns = window.size[1]
    zeros = np.zeros(x.shape[1:], x.dtype)
    row = empty_aligned((length + columns - 1, channels, batch), x.dtype)
    patches = strided(row, (length, columns * channels, batch), row.strides)

    def sums(first: int, start: int, count: int) -> Iterator[Array]:
        d = [x[i] if 0 <= i < height else zeros for i in range(first - top, first - top + 4)]
        for ufunc, i, j in _SUMS:
            _fill(row[: count + columns - 1], ufunc, d[i], d[j], start - left)
            yield patches[:count]

    for first, start in itertools.product(range(0, down, 2), range(0, across, length)):
        count = min(length, across - start)
        part = np.s_[first : first + 2, start : start + count]
        yield part, count, sums(first, start, count)


# The four sums of the rows d: (function, index, index).
_SUMS = ((np.subtract, 0, 2), (np.add, 1, 2), (np.subtract, 2, 1), (np.subtract, 3, 1))


def _fill(row: Array, ufunc: np.ufunc, upper: Array, lower: Array, first: int) -> None:
    """Fill `row` with the sums of two pixel rows from column `first` on, and zeros outside."""
    begin = min(max(-first, 0), len(row))
    end = max(min(len(upper) - first, len(row)), begin)
    row[:begin] = 0
    row[end:] = 0
    inside = slice(first + begin, first + end)
    ufunc(upper[inside], lower[inside], out=row[begin:end])


def _pull_back(g: Array, cotangents: Array) -> None:
    """Compute the gradients of the four matrix products, (columns, batch, filters)."""
    # In this order of axes BLAS is twice as fast.
    upper, both, difference, lower = cotangents
    np.copyto(upper, g[0].mT)
    if len(g) == 2:
        np.copyto(lower, g[1].mT)
    else:
        lower[:] = 0
    np.add(upper, lower, out=both)
    np.subtract(upper, lower, out=difference)


def _combine(m: Array, shift: Array | None, y: Array) -> None:
    """Compute two rows of the output, or one."""
    if shift is not None:
        m[1] += shift
    np.add(m[0], m[1], out=m[0])
    np.add(m[0], m[2], out=y[0])
    if len(y) == 2:
        np.subtract(m[1], m[2], out=m[1])
        np.add(m[1], m[3], out=y[1])


def _transformed(weight: Array) -> Array:
    """Return the four matrices (filters, columns · channels)."""
    w = weight.transpose(2, 0, 3, 1)
    u = np.empty((4, *w.shape[1:]), weight.dtype)
    u[0], u[3] = w[0], w[2]
    half = (w[0] + w[2]) * 0.5
    middle = w[1] * 0.5
    np.add(half, middle, out=u[1])
    np.subtract(half, middle, out=u[2])
    return u.reshape(4, len(weight), -1)


def _transformed_back(du: Array, shape: tuple[int, ...]) -> Array:
    filters, channels, _, columns = shape
    du = du.reshape(4, columns, channels, filters)
    dw = np.empty(shape, du.dtype)
    target = dw.transpose(2, 3, 1, 0)
    half = (du[1] + du[2]) * 0.5
    np.add(du[0], half, out=target[0])
    np.add(du[3], half, out=target[2])
    np.multiply(du[1] - du[2], 0.5, out=target[1])
    return dw
