"""Helpers of normalizations: arrays as (outer, features, inner), and sums per feature."""

import math
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_columns, sum_of_rows
from npdl.tree import Array

__all__ = ["as_outer_features_inner", "exponents", "feature_dots", "feature_sums", "scaled_epsilon"]


def as_outer_features_inner(x: Array, start: int, stop: int) -> Array:
    """Return `x` as (outer, features, inner); the feature axes are start to stop - 1."""
    shape = x.shape
    return x.reshape(
        math.prod(shape[:start]), math.prod(shape[start:stop]), math.prod(shape[stop:])
    )


def feature_sums(x: Array) -> Array:
    """Return the sum for each feature of (outer, features, inner)."""
    outer, features, inner = x.shape
    if inner == 1:
        return sum_of_rows(x[:, :, 0])
    rows = sum_of_columns(x.reshape(outer * features, inner))
    return sum_of_rows(rows.reshape(outer, features))


def feature_dots(a: Array, b: Array) -> Array:
    """Return the sum of a·b for each feature of (outer, features, inner)."""
    outer, features, inner = a.shape
    dots: Array
    if inner > 1:
        return sum_of_rows(np.vecdot(a.conj(), b))
    # A running sum of 60,000 float32 numbers loses two digits; sums of partial sums keep them.
    many = outer // 64 if outer > 256 else 1
    blocks = (many, outer // max(many, 1), features)
    whole = many * blocks[1]
    parts = np.einsum("mnc,mnc->mc", a[:whole].reshape(blocks), b[:whole].reshape(blocks))
    dots = sum_of_rows(parts)
    if whole < outer:
        dots += np.einsum("nc,nc->c", a[whole:, :, 0], b[whole:, :, 0])
    return dots


def exponents(x: Array, squares: Array, axes: tuple[int, ...]) -> Array:
    """Return exponents e such that x / 2ᵉ is below 1, for numbers whose squares overflow.

    Parameters
    ----------
    x : array
        The numbers to be divided by 2ᵉ.
    squares : array
        Their mean squares over the axes. The exponent of a finite mean square is 0.
    axes : tuple of int
        The axes that share one exponent.
    """
    peak = np.abs(x).max(axis=axes, initial=0)
    powers: Array = np.frexp(peak)[1]
    powers[np.isfinite(squares) | ~np.isfinite(peak)] = 0
    return powers


def scaled_epsilon(epsilon: float, powers: Array, dtype: Any) -> Array:
    """Return the epsilon for numbers that were divided by powers of two.

    It is at least the square of the rounding error, because smaller variances are rounding noise.
    """
    least = np.where(powers == 0, 0, np.finfo(dtype).eps ** 2)
    scaled: Array = np.maximum(np.ldexp(epsilon, -2 * powers), least).astype(dtype)
    return scaled
