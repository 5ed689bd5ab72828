"""The terms of losses of vectors, on the last axis: values and derivatives in new arrays."""

import numpy as np

from npdl.tree import Array

__all__ = ["cosine_distances", "normalized_gradient", "triplet_errors", "unit_vectors"]


@np.errstate(over="ignore")
def unit_vectors(x: Array) -> tuple[Array, Array]:
    """Return ``x / ‖x‖`` and ``‖x‖`` (..., 1); the unit vector of zeros is zero.

    Squares of large and small numbers neither overflow nor underflow.
    """
    top = np.maximum.reduce(np.abs(x), axis=-1, keepdims=True)
    zero = top < np.finfo(x.dtype).tiny
    safe = np.where(zero, 1, top)
    unit = x / safe
    length = np.sqrt(np.add.reduce(unit * unit, axis=-1, keepdims=True))
    unit /= np.where(zero, 1, length)
    unit *= ~zero
    return unit, length * safe * ~zero


def normalized_gradient(g: Array, unit: Array, norm: Array) -> Array:
    """Return the gradient in x of a function of ``x / ‖x‖``: ``(g - (g·u) u) / ‖x‖``.

    It is 0 for a vector of zeros.
    """
    g = g - np.add.reduce(g * unit, axis=-1, keepdims=True) * unit
    known = norm != 0
    g *= known
    g /= np.where(known, norm, 1)
    return g


def cosine_distances(p: Array, t: Array) -> tuple[Array, Array]:
    """Return ``1 - p·t / (‖p‖ ‖t‖)`` of each vector, and its derivative in p."""
    (p, norm), (t, _) = unit_vectors(p), unit_vectors(t)
    values = 1 - np.add.reduce(p * t, axis=-1)
    return values, normalized_gradient(-t, p, norm)


def triplet_errors(
    anchor: Array, positive: Array, negative: Array, margin: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Return ``max(‖a - p‖ - ‖a - n‖ + margin, 0)`` of each vector, and its derivatives."""
    (near, close), (away, far) = unit_vectors(anchor - positive), unit_vectors(anchor - negative)
    values = np.maximum(close - far + margin, 0)
    active = ~(values <= 0)  # true for NaN
    near *= active
    away *= active
    return values[..., 0], (near - away, -near, away)
