"""Correlations with windows of three rows, moved by one pixel, in fewer multiplications.

Two outputs one above the other, y₀ and y₁, take six products of the four pixels d₀ … d₃ that they
meet with the three numbers w₀, w₁, w₂ of a column of the window. Winograd's four are enough::

    m₀ = w₀ · (d₀ - d₂)                    m₁ = ½ (w₀ + w₁ + w₂) · (d₁ + d₂)
    m₃ = w₂ · (d₁ - d₃)                    m₂ = ½ (w₀ - w₁ + w₂) · (d₂ - d₁)
    y₀ = m₀ + m₁ + m₂                      y₁ = m₁ - m₂ - m₃

Here each is a product of matrices, which sums over channels and columns of the window: that of the
transformed weight with a transformed row. In memory the images are (height, width, channels,
batch). So a row is one run of numbers, its transforms are sums of whole rows, and what a window of
three columns meets of such a sum is one matrix, (columns · channels, batch), that nobody copies.
The gradient in the weight is the transpose of all this.

Lavin, Gray: Fast algorithms for convolutional neural networks, 2016, section 4.1, nested with the
direct method in the other direction.
"""

import itertools
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from npdl.functional.layer import Array
from npdl.functional.layout import aligned, share
from npdl.functional.windows import Window

__all__ = ["fits", "products"]

# Numbers in a part of a row of `x`, or of the output: so many of a few such fit the caches.
BLOCK = 1 << 16
# Below, the products, or the sums of rows, are too small to be worth their calls.
FEWEST = {"channels": 2, "filters": 2, "batch": 16, "row": 1 << 12}


def fits(window: Window, groups: int, shape: tuple[int, ...], filters: int) -> bool:
    """Whether :func:`products` has a window, and is the faster way for (batch, channels, ...)."""
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


def products(
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
    height, width, channels, batch = x.shape
    down, across = window.out(height, width)
    (top, _), (left, _) = window.pads(height, width)
    u: Any = None
    y = du = None
    if weight is not None:
        u, filters = _transformed(weight), len(weight)
        y = aligned((down, across, filters, batch), x.dtype)
    if g is not None:
        filters = g.shape[2]
        du = np.zeros((4, window.size[1] * channels, filters), x.dtype)
    # As many columns at a time as leave the workspaces in the second-level cache.
    length = share(across, BLOCK // max(max(channels, filters) * batch, 1))
    row = aligned((length + window.size[1] - 1, channels, batch), x.dtype)
    m = aligned((4, length, filters, batch), x.dtype)
    parts: Any = None if du is None else aligned((length, *du.shape[1:]), x.dtype)
    zeros = np.zeros(x.shape[1:], x.dtype)
    shift = None if bias is None else np.repeat(bias[:, None], batch, axis=1)
    for first, start in itertools.product(range(0, down, 2), range(0, across, length)):
        part = np.s_[first : first + 2, start : start + length]
        count = min(length, across - start)
        rows = [x[i] if 0 <= i < height else zeros for i in range(first - top, first - top + 4)]
        sums = (_patches(row, pair, start - left, count, window.size[1]) for pair in _pairs(rows))
        cotangents: Any = [None] * 4 if g is None else _pulled_back(g[part])
        for t, (patches, cotangent) in enumerate(zip(sums, cotangents, strict=True)):
            if y is not None:
                np.matmul(u[t], patches, out=m[t, :count])
            if du is not None:
                np.matmul(patches, cotangent, out=parts[:count])
                du[t] += np.add.reduce(parts[:count], axis=0)
        if y is not None:
            _combine(m[:, :count], shift, y[part])
    return y, None if du is None else _transformed_back(du, channels)


_Pair: TypeAlias = tuple[np.ufunc, Array, Array]


def _pairs(d: list[Array]) -> list[_Pair]:
    """Return what makes the four sums of four rows."""
    return [
        (np.subtract, d[0], d[2]),
        (np.add, d[1], d[2]),
        (np.subtract, d[2], d[1]),
        (np.subtract, d[1], d[3]),
    ]


def _patches(row: Array, pair: _Pair, first: int, count: int, columns: int) -> Array:
    """Return what `count` windows, from column `first` on, meet of the sum of two rows.

    It is a view of `row`, of shape (count, columns of the window · channels, batch).
    """
    ufunc, upper, lower = pair
    _, channels, batch = row.shape
    width, last = len(upper), first + count + columns - 1
    inside = slice(min(max(first, 0), width), max(min(last, width), 0))
    begin = inside.start - first
    end = begin + max(inside.stop - inside.start, 0)
    row[:begin] = 0
    row[end : last - first] = 0
    ufunc(upper[inside], lower[inside], out=row[begin:end])
    return as_strided(row, (count, columns * channels, batch), row.strides)


def _pulled_back(g: Array) -> list[Array]:
    """Return the cotangents of the four products: (columns, batch, filters)."""
    # In this order BLAS is twice as fast.
    pair = aligned((2, g.shape[1], g.shape[3], g.shape[2]), g.dtype)
    np.copyto(pair[: len(g)], g.mT)
    pair[len(g) :] = 0
    upper, lower = pair
    both, difference, minus = (aligned(upper.shape, g.dtype) for _ in range(3))
    np.add(upper, lower, out=both)
    np.subtract(upper, lower, out=difference)
    np.negative(lower, out=minus)
    return [upper, both, difference, minus]


def _combine(m: Array, shift: Array | None, y: Array) -> None:
    """Fill two rows of the output, or one."""
    if shift is not None:
        m[1] += shift
    np.add(m[0], m[1], out=m[0])
    np.add(m[0], m[2], out=y[0])
    if len(y) == 2:
        np.subtract(m[1], m[2], out=m[1])
        np.subtract(m[1], m[3], out=y[1])


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


def _transformed_back(du: Array, channels: int) -> Array:
    depth, filters = du.shape[1:]
    du = du.reshape(4, depth // channels, channels, filters)
    dw = np.empty((filters, channels, 3, depth // channels), du.dtype)
    target = dw.transpose(2, 3, 1, 0)
    half = (du[1] + du[2]) * 0.5
    np.add(du[0], half, out=target[0])
    np.add(du[3], half, out=target[2])
    np.multiply(du[1] - du[2], 0.5, out=target[1])
    return dw
