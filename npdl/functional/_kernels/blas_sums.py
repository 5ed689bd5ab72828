"""Sums as products with ones, which take less time than NumPy's sums.

A product adds its terms one after the other and loses digits of float32, if there are many. So long
sums are products of a few terms each, and then sums of these in float64.
"""

import functools
from typing import Any

import numpy as np

from npdl.tree import Array

__all__ = ["sum_of_columns", "sum_of_rows", "sum_of_vector"]

# The most terms of a single product, and the terms of each product for a longer sum.
_MOST_ROWS, _FEW_ROWS = 512, 16
# Along the last axis, BLAS keeps several running sums.
_MOST_COLUMNS, _FEW_COLUMNS = 2048, 64


@functools.lru_cache(maxsize=64)
def _ones(count: int, dtype: Any) -> Array:
    # In small networks, to make them takes longer than the product.
    vector = np.ones(count, dtype)
    vector.flags.writeable = False
    return vector


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
    # Rows that are `length` apart are added: so the product has long rows, and few of them.
    parts = _ones(_FEW_ROWS, x.dtype).dot(x[:whole].reshape(_FEW_ROWS, length * width))
    total = sum_of_rows(parts.reshape(length, width).astype(np.float64, copy=False))
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
    total = np.add.reduce(parts, 1, np.float64)
    total += x[:, whole:] @ _ones(count - whole, x.dtype)
    result: Array = total.astype(x.dtype, copy=False)
    return result


def sum_of_vector(x: Array) -> Any:
    """Return the sum of a vector."""
    if len(x) <= _MOST_ROWS:  # the call of NumPy's sum takes longer than the product
        return x.dot(_ones(len(x), x.dtype))
    return x.dtype.type(np.add.reduce(x, dtype=np.float64))
