"""Correlations with windows of three rows, moved by one pixel, in fewer multiplications.

Two outputs one above the other, y₀ and y₁, take six products of the four pixels d₀ … d₃ that they
meet with the three numbers w₀, w₁, w₂ of a column of the window. Winograd's four are enough::

    m₀ = w₀ · (d₀ - d₂)                    m₁ = ½ (w₀ + w₁ + w₂) · (d₁ + d₂)
    m₃ = w₂ · (d₃ - d₁)                    m₂ = ½ (w₀ - w₁ + w₂) · (d₂ - d₁)
    y₀ = m₀ + m₁ + m₂                      y₁ = m₁ - m₂ + m₃

Here each is a product of matrices, which sums over channels and columns of the window: that of the
transformed weight with a transformed row. In memory the images are (height, width, channels,
batch). So a row is one run of numbers, its transforms are sums of whole rows, and what a window of
three columns meets of such a sum is one matrix, (columns · channels, batch), that nobody copies.
The gradient in the weight is the transpose of all this. Sums of rows round relative to the largest
number of a window, also where its weight is zero; :func:`is_even` tells where that is too coarse.

Lavin, Gray: Fast algorithms for convolutional neural networks, 2016, section 4.1, nested with the
direct method in the other direction.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._kernels.blocks import WINOGRAD_BLOCK
from npdl.functional._kernels.image_layout import empty_aligned, even_block_size
from npdl.functional._kernels.windows import Window
from npdl.tree import Array

__all__ = ["correlate", "fits", "is_even"]

# Below, the products, or the sums of rows, are too small to be worth their calls.
FEWEST = {"channels": 2, "filters": 2, "batch": 16, "row": 1 << 12}


def fits(window: Window, groups: int, shape: tuple[int, ...], filters: int) -> bool:
    """Whether :func:`correlate` has a window, and is the faster way for (batch, channels, ...)."""
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


# Rows of images whose root mean squares differ by more than that are not added to one another.
WIDEST = 1 << 10


def is_even(x: Array) -> bool:
    """Whether neighbouring rows of images, or of a weight, have numbers of about the same size.

    The rows are on the first axis. Their sums round relative to the larger one, and lose a row next
    to one that is 10⁸ times as large. Infinities and NaN have no differences. Rows of zeros are
    exact.
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
    """Return the correlation of `x` with a weight, and the gradient in a weight, if wanted.

    Parameters
    ----------
    x : array of shape (height, width, channels, batch)
        The images.
    window : Window
        How the weight moves.
    weight : array of shape (filters, channels, 3, columns), optional
        What `x` is correlated with.
    bias : array of shape (filters,), optional
        Added to that.
    g : array of shape (places down, places across, filters, batch), optional
        The cotangent of a correlation of `x`.

    Returns
    -------
    y : array of shape (places down, places across, filters, batch), or None
        The correlation, where there is a weight.
    dw : array of shape (filters, channels, 3, columns), or None
        The gradient, where there is a `g`.
    """
    down, across = window.out(*x.shape[:2])
    *_, channels, batch = x.shape
    filters = len(weight) if weight is not None else 0 if g is None else g.shape[2]
    # As many columns at a time as leave the workspaces in the second-level cache.
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
                # The sum of the parts, in which BLAS is faster than NumPy.
                du[t] += sum_of_rows(parts[:count].reshape(count, -1))
        if y is not None:
            _combine(m[:, :count], shift, y[part])
    return y, None if du is None else _transformed_back(du, (filters, channels, *window.size))


def _blocks(x: Array, window: Window, length: int) -> Iterator[tuple[Any, int, Iterator[Array]]]:
    """Yield indices of `length` columns of two rows of places, their number, and the patches.

    There are four patches, what the windows meet of each sum of rows: (count, columns of the window
    · channels, batch), in the same memory.
    """
    height, width, channels, batch = x.shape
    down, across = window.out(height, width)
    (top, _), (left, _) = window.pads(height, width)
    columns = window.size[1]
    zeros = np.zeros(x.shape[1:], x.dtype)
    row = empty_aligned((length + columns - 1, channels, batch), x.dtype)
    patches = as_strided(row, (length, columns * channels, batch), row.strides)

    def sums(first: int, start: int, count: int) -> Iterator[Array]:
        d = [x[i] if 0 <= i < height else zeros for i in range(first - top, first - top + 4)]
        for ufunc, i, j in _SUMS:
            _fill(row[: count + columns - 1], ufunc, d[i], d[j], start - left)
            yield patches[:count]

    for first, start in itertools.product(range(0, down, 2), range(0, across, length)):
        count = min(length, across - start)
        part = np.s_[first : first + 2, start : start + count]
        yield part, count, sums(first, start, count)


# What they are of the rows d.
_SUMS = ((np.subtract, 0, 2), (np.add, 1, 2), (np.subtract, 2, 1), (np.subtract, 3, 1))


def _fill(row: Array, ufunc: np.ufunc, upper: Array, lower: Array, first: int) -> None:
    """Fill `row` with the sums of two rows of pixels from column `first` on, and zeros beyond."""
    begin = min(max(-first, 0), len(row))
    end = max(min(len(upper) - first, len(row)), begin)
    row[:begin] = 0
    row[end:] = 0
    inside = slice(first + begin, first + end)
    ufunc(upper[inside], lower[inside], out=row[begin:end])


def _pull_back(g: Array, cotangents: Array) -> None:
    """Fill in the cotangents of the four products, (columns, batch, filters)."""
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
    """Fill two rows of the output, or one."""
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
