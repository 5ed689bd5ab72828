"""The random mask of dropout, from 16 bits of the generator for each element."""

import math

import numpy as np

from npdl.random import KeyLike, generator
from npdl.tree import Array

__all__ = ["keep_mask", "keep_threshold"]

_LEVELS = 1 << 16


def keep_threshold(rate: float) -> tuple[int, float]:
    """Return the smallest kept number of 16 bits, and the factor of the kept elements.

    The factor follows from the rate rounded to a multiple of 1/65536.
    """
    threshold = min(max(round(rate * _LEVELS), 1), _LEVELS - 1)
    return threshold, _LEVELS / (_LEVELS - threshold)


def keep_mask(rng: KeyLike, shape: tuple[int, ...], threshold: int) -> Array:
    """Return booleans, true for kept elements; a 64-bit word of the generator gives four."""
    size = math.prod(shape)
    words = generator(rng).bit_generator.random_raw((size + 3) // 4)
    return words.view(np.uint16)[:size].reshape(shape) >= threshold
