"""Sums as matrix products with ones, which are faster than NumPy's sums.

A matrix product adds its terms one after the other. In float32, a long sum loses digits. So long
sums are split into matrix products of a few terms, whose results are added in float64.
"""

import functools
from typing import Any

import numpy as np

from npdl.tree import Array

__all__ = ["sum_of_columns", "sum_of_rows", "sum_of_vector", "wide"]

# Most terms of a sum in one product, and the number of terms per product in longer sums.
_MOST_ROWS, _FEW_ROWS = 512, 16
# The same along the last axis, where BLAS keeps several running sums.
_MOST_COLUMNS, _FEW_COLUMNS = 2048, 64


@functools.lru_cache(maxsize=64)
def _ones(count: int, dtype: Any) -> Array:
    # Cached: in small networks, np.ones takes longer than the product.
    vector = np.ones(count, dtype)
    vector.flags.writeable = False
    return vector


def wide(dtype: Any) -> Any:
    """Return the data type of long sums: float64, but complex128 for dual numbers."""
    return np.float64 if dtype.kind == "f" else dtype


def sum_of_rows(x: Array) -> Array:
    """Return the sum over the first axis of a matrix."""
    count = len(x)
    if count <= _MOST_ROWS:
        sums: Array = _ones(count, x.dtype).dot(x)
        return sums
    if x.flags.f_contiguous:
        return sum_of_columns(x.T)
    length, width = count // _FEW_ROWS, x.shape[1]
    whole = length * _FEW_ROWS
    # Rows at a distance of `length` are added, so that the product has few and long rows.
    parts = _ones(_FEW_ROWS, x.dtype).dot(x[:whole].reshape(_FEW_ROWS, length * width))
    total = sum_of_rows(parts.reshape(length, width).astype(wide(x.dtype), copy=False))
    total += _ones(count - whole, x.dtype).dot(x[whole:])
    result: Array = total.astype(x.dtype, copy=False)
    return result


def sum_of_columns(x: Array) -> Array:
    """Return the sum over the last axis of a matrix."""
    rows, count = x.shape
    if count <= _MOST_COLUMNS:
        sums: Array = x.dot(_ones(count, x.dtype))
        return sums
    length = count // _FEW_COLUMNS
    whole = length * _FEW_COLUMNS
    parts = x[:, :whole].reshape(rows, length, _FEW_COLUMNS) @ _ones(_FEW_COLUMNS, x.dtype)
    total = np.add.reduce(parts, 1, wide(x.dtype))
    total += x[:, whole:] @ _ones(count - whole, x.dtype)
    result: Array = total.astype(x.dtype, copy=False)
    return result


def sum_of_vector(x: Array) -> Any:
    """Return the sum of a vector."""
    if len(x) <= _MOST_ROWS:  # NumPy's sum takes longer than the product
        return x.dot(_ones(len(x), x.dtype))
    return x.dtype.type(np.add.reduce(x, dtype=wide(x.dtype)))
