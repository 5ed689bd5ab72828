"""Rotary positions: a rotation of pairs of features by an angle that grows with the position.

Features i and i + d/2 of a head with d features are a pair. Its angle at position t is
``t · base^(-2i / d)``.
"""

import functools
from typing import Any

import numpy as np

from npdl.tree import Array

__all__ = ["rotate", "rotations"]


def rotations(
    base: float, size: int, dtype: Any, time: int, first: Array | None = None
) -> tuple[Array, Array]:
    """Return the cosines and sines of the angles at `time` positions.

    They broadcast to (batch, heads, time, d/2). The first position of each example is `first`,
    (batch,), or 0.
    """
    if first is None:
        cosines, sines = _tables(base, size, dtype, _power(time))
        return cosines[:time], sines[:time]
    positions = first[:, None, None] + np.arange(time)
    tables = _tables(base, size, dtype, _power(int(first.max(initial=0)) + time))
    return tables[0][positions], tables[1][positions]


def _power(length: int) -> int:
    """Return the next power of two; few tables serve all lengths."""
    return 1 << max(length - 1, 0).bit_length()


@functools.lru_cache(maxsize=16)
def _tables(base: float, size: int, dtype: Any, time: int) -> tuple[Array, Array]:
    # In float32, the angle of position 10⁵ would have an error of 10⁻².
    angles = np.arange(time)[:, None] * base ** (np.arange(0, size, 2) / -size)
    tables = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    for table in tables:
        table.flags.writeable = False
    return tables


def rotate(x: Array, cosines: Array, sines: Array, *, back: bool = False) -> None:
    """Rotate the features of `x` (batch, heads, time, d) in place; or rotate them back."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    across, down = a * sines, b * sines
    a *= cosines
    b *= cosines
    if back:
        a += down
        b -= across
    else:
        a -= down
        b += across
