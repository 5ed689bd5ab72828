"""The terms of losses: a value for each element or row, and its derivative.

All functions return new arrays. The caller has checked the arguments: floats of one type. For
classes, the outputs are (rows, classes), and `t` is probabilities of this shape or ids (rows,).
"""

import functools
import math
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_columns, sum_of_rows, sum_of_vector
from npdl.functional._kernels.scalars import as_scalar
from npdl.tree import Array

__all__ = [
    "EPSILON",
    "absolute_errors",
    "binary_cross_entropies",
    "categorical_cross_entropies",
    "hellinger_distances",
    "huber_errors",
    "is_moderate",
    "sigmoid_cross_entropies",
    "sigmoid_cross_entropies_of_infinite",
    "softmax_cross_entropies",
    "squared_errors",
]


# Smaller probabilities are replaced by this one in logarithms and divisions.
EPSILON = 1e-12


def is_moderate(x: Array) -> bool:
    """Whether all numbers are below 1e30 in magnitude; `False` for long arrays, unchecked.

    The check saves some microseconds: NumPy is slower inside `np.errstate`.
    """
    return x.size <= _MANY and x.item(x.argmax()) < _HUGE and x.item(x.argmin()) > -_HUGE


# The sum of a smaller number and the largest float32 does not overflow.
_HUGE = 1e30
_MANY = 1 << 12


def squared_errors(p: Array, t: Array) -> tuple[Array, Array]:
    """Return ``(p - t)²`` and its derivative, for each element."""
    difference = p - t
    values = difference * difference
    difference *= 2
    return values, difference


def absolute_errors(p: Array, t: Array) -> tuple[Array, Array]:
    """Return ``|p - t|`` and its derivative, for each element."""
    difference = p - t
    return np.abs(difference), np.sign(difference, out=difference)


def huber_errors(p: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """Return the Huber loss and its derivative, for each element."""
    difference = p - t
    clipped = np.minimum(difference, delta)
    np.maximum(clipped, -delta, out=clipped)
    # c (d - c/2) covers both pieces: c = d inside, c = ±δ outside.
    difference -= clipped * 0.5
    difference *= clipped
    return difference, clipped


def binary_cross_entropies(p: Array, t: Array, epsilon: float) -> tuple[Array, Array]:
    """Return ``-t log p - (1 - t) log(1 - p)`` and its derivative, for each element."""
    p, other_p, other_t = np.maximum(p, epsilon), np.maximum(1 - p, epsilon), 1 - t
    values = -t * np.log(p)
    values -= other_t * np.log(other_p)
    other_t /= other_p
    other_t -= t / p
    return values, other_t


def sigmoid_cross_entropies(z: Array, t: Array) -> tuple[Array, Array]:
    """Return ``log(1 + exp(z)) - t z`` and its derivative, for each element.

    The value is NaN if a logit is infinite and the loss is 0; then use
    :func:`sigmoid_cross_entropies_of_infinite`.
    """
    if is_moderate(z):
        return _sigmoid_cross_entropies(z, t)
    with np.errstate(invalid="ignore"):  # from 0 · inf
        return _sigmoid_cross_entropies(z, t)


def _sigmoid_cross_entropies(z: Array, t: Array) -> tuple[Array, Array]:
    negative, values = np.minimum(z, 0), np.maximum(z, 0)
    decay = np.exp(negative - values)  # exp(-|z|)
    values -= z * t
    values += np.log1p(decay)
    # exp(min(z, 0)) / (1 + exp(-|z|)) is the sigmoid on both sides of zero.
    g = np.exp(negative, out=negative)
    decay += 1
    g /= decay
    g -= t
    return values, g


def sigmoid_cross_entropies_of_infinite(z: Array, t: Array) -> tuple[Array, Array]:
    """Return the terms of :func:`sigmoid_cross_entropies`, also for infinite logits, but slower."""
    other = np.where(z > 0, 1 - t, t)
    size = np.abs(z)
    values = np.multiply(other, size, out=np.zeros_like(z), where=other != 0)
    values += np.log1p(np.exp(-size))
    return values, sigmoid_cross_entropies(z, t)[1]


def categorical_cross_entropies(p: Array, t: Array, epsilon: float) -> tuple[Array, Array]:
    """Return ``-Σⱼ tⱼ log pⱼ`` of each row, and the derivative."""
    if t.ndim == 2:
        p = np.maximum(p, epsilon)
        g = t / p
        logs = np.log(p, out=p)
        logs *= t
        return -sum_of_columns(logs), np.negative(g, out=g)
    g = np.zeros(p.shape, p.dtype)
    indices = _flat_indices(t, 1, p.shape[1])
    picked = np.maximum(p.reshape(-1)[indices], epsilon)
    g.reshape(-1)[indices] = -1 / picked
    return -np.log(picked), g


def hellinger_distances(p: Array, t: Array, epsilon: float) -> tuple[Array, Array]:
    """Return ``√(½ Σⱼ (√pⱼ - √tⱼ)²)`` of each row, and the derivative."""
    root = np.sqrt(p)
    safe_root = np.maximum(root, math.sqrt(epsilon))
    g = np.ones(p.shape, p.dtype)
    if t.ndim == 2:
        root_t = np.sqrt(t)
        root -= root_t
        g -= np.divide(root_t, safe_root, out=root_t)
    else:
        at = np.arange(len(t)), t
        root[at] -= 1
        g[at] -= 1 / safe_root[at]
    distance = np.sqrt(0.5 * sum_of_columns(root * root))
    factor = np.zeros_like(distance)
    np.divide(0.25, distance, out=factor, where=distance != 0)
    g *= factor[:, None]
    return distance, g


# With at most this number of classes, the memory order (classes, rows) is faster.
_FEW_CLASSES = 32


def softmax_cross_entropies(
    x: Array, t: Array, scale: Any, smoothing: float
) -> tuple[Array, Array]:
    """Return ``log Σⱼ exp(xⱼ) - x_t`` of each row, and the derivative times `scale`.

    The scale is a number, or an array (rows,). Multiplying by it here saves a pass.
    """
    rows, classes = x.shape
    few = classes <= _FEW_CLASSES
    z, axis = (x.T.copy(), 0) if few else (x.copy(), 1)
    if isinstance(scale, float):
        scale = as_scalar(scale, z.dtype)
    top = np.maximum.reduce(z, axis)
    even = smoothing / classes
    if t.ndim == 1:
        flat, indices = z.reshape(-1), _flat_indices(t, *((rows, 1) if few else (1, classes)))
    else:
        t = t.T if few else t
        if smoothing:
            t = t * (1 - smoothing)
            t += even
    if t.ndim == 1 and not smoothing and is_moderate(top):
        # Differences of logits, including -inf, are neither NaN nor overflow.
        z -= top if few else top[:, None]
        score = flat[indices]
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # from differences and 0 · inf
            z -= top if few else top[:, None]
            if t.ndim == 2:
                score = np.add.reduce(t * z, axis)
            else:
                score = flat[indices]
                if smoothing:
                    score *= 1 - smoothing
                    score += np.add.reduce(z, axis) * even
            if (smoothing or t.ndim == 2) and not -math.inf < sum_of_vector(score) < math.inf:
                score = _scores_of_infinite(x, top, t if t.ndim == 1 or not few else t.T, smoothing)
    np.exp(z, out=z)
    total = sum_of_rows(z) if few else sum_of_columns(z)
    losses = np.log(total)
    by_row = scale if few or not scale.ndim else scale[:, None]
    if t.ndim == 1:
        factor = scale / total
        z *= factor if few else factor[:, None]
        flat[indices] -= scale * (1 - smoothing) if smoothing else scale
        if smoothing:
            z -= by_row * even
    else:
        mass = np.add.reduce(t, axis)
        losses *= mass
        factor = scale * mass / total
        z *= factor if few else factor[:, None]
        z -= t * by_row
    losses -= score
    return losses, z.T if few else z


def _scores_of_infinite(x: Array, top: Array, t: Array, smoothing: float) -> Array:
    """Return ``Σⱼ tⱼ (xⱼ - top)`` with 0 · inf = 0 and without overflow of differences.

    Smoothing applies to class ids; probabilities have been smoothed by the caller.
    """
    if t.ndim == 1:
        ids, t = t, np.full(x.shape, smoothing / x.shape[1], x.dtype)
        t[np.arange(len(ids)), ids] += 1 - smoothing
    halves = x * 0.5 - top[:, None] * 0.5
    products = np.multiply(t, halves, out=np.zeros_like(halves), where=t != 0)
    scores: Array = 2 * np.add.reduce(products, axis=1)
    return scores


def _flat_indices(ids: Array, of_class: int, of_row: int) -> Array:
    """Return the index of each row's class in a flat array with these strides."""
    return _starts(len(ids), of_row) + (ids if of_class == 1 else ids * of_class)


@functools.lru_cache(maxsize=8)
def _starts(count: int, step: int) -> Array:
    starts = np.arange(0, count * step, step)
    starts.flags.writeable = False
    return starts
