"""Sums as products with ones, which take less time than NumPy's sums."""

import functools
from typing import Any

import numpy as np

from npdl.functional.layer import Array

__all__ = ["ones", "sum_of_rows"]


def ones(count: int, dtype: Any) -> Array:
    """Return a vector of ones that nobody writes to."""
    return _few_ones(count, dtype) if count <= 4096 else np.ones(count, dtype)


@functools.lru_cache(maxsize=64)
def _few_ones(count: int, dtype: Any) -> Array:
    # In small networks, to make them takes longer than the product.
    vector = np.ones(count, dtype)
    vector.flags.writeable = False
    return vector


def sum_of_rows(x: Array) -> Array:
    """Return the sum over the first axis of a matrix."""
    sums: Array = ones(len(x), x.dtype).dot(x)
    return sums
