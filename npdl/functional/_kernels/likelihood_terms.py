"""The terms of likelihoods, quantiles and imbalanced classes: values and derivatives.

All functions return new arrays, for floats of one type and shape; the caller has checked them.
"""

import numpy as np

from npdl.functional._kernels.loss_terms import (
    is_moderate,
    sigmoid_cross_entropies,
    sigmoid_cross_entropies_of_infinite,
)
from npdl.tree import Array

__all__ = ["dice_distances", "focal_errors", "gaussian_errors", "poisson_errors", "quantile_errors"]

# The lower bound of log-variances in exponentials: the squares of exp(40) fit into float32.
_LEAST = -80.0
# Larger log-rates have infinite rates, and must not make the difference inf - inf.
_MOST = 1e4


@np.errstate(over="ignore")
def gaussian_errors(mean: Array, log_variance: Array, t: Array) -> tuple[Array, Array, Array]:
    """Return ``½ (s + (t - m)² exp(-s))`` and its derivatives in m and s, for each element."""
    root = np.exp(np.maximum(log_variance, _LEAST) * -0.5)
    standard = mean - t
    standard *= root
    root *= standard
    standard *= standard
    values = log_variance + standard
    values *= 0.5
    standard -= 1
    standard *= -0.5
    return values, root, standard


@np.errstate(over="ignore")
def poisson_errors(z: Array, t: Array) -> tuple[Array, Array]:
    """Return ``exp(z) - t z`` and its derivative, for each element, with 0 · inf = 0."""
    rate = np.exp(z)
    product = np.multiply(t, np.minimum(z, _MOST), out=np.zeros_like(z), where=t != 0)
    values = rate - product
    rate -= t
    return values, rate


def quantile_errors(p: Array, t: Array, level: float) -> tuple[Array, Array]:
    """Return ``max(q (t - p), (q - 1) (t - p))`` and its derivative, for each element."""
    difference = p - t
    sign = np.sign(difference)
    # 1 - q above the target, -q below it, and 0 at it.
    g = np.abs(sign)
    g *= 0.5 - level
    g += 0.5 * sign
    difference *= g
    return difference, g


def focal_errors(z: Array, t: Array, gamma: float, alpha: float) -> tuple[Array, Array]:
    """Return ``a (1 - p_t)^γ`` times the cross-entropy, and its derivative, for each element."""
    terms = sigmoid_cross_entropies if is_moderate(z) else sigmoid_cross_entropies_of_infinite
    values, g = terms(z, t)
    decay = np.exp(-np.abs(z))
    larger, smaller = 1 / (1 + decay), decay / (1 + decay)
    positive = z > 0
    p, q = np.where(positive, larger, smaller), np.where(positive, smaller, larger)
    missed = p * (1 - t) + q * t
    factor = missed**gamma * (t * alpha + (1 - t) * (1 - alpha))
    # The derivative of missed^γ is γ missed^γ (1 - 2t) p q / missed.
    ratio = np.divide(p * q, missed, out=np.zeros_like(missed), where=missed != 0)
    g += np.multiply(values, ratio, out=np.zeros_like(ratio), where=ratio != 0) * (
        gamma * (1 - 2 * t)
    )
    g *= factor
    return np.multiply(values, factor, out=values, where=values != 0), g


def dice_distances(p: Array, t: Array, smooth: float) -> tuple[Array, Array]:
    """Return ``1 - (2 Σ p t + s) / (Σ p + Σ t + s)`` of each row, and its derivative."""
    both = 2 * np.add.reduce(p * t, axis=1) + smooth
    sizes = np.add.reduce(p, axis=1) + np.add.reduce(t, axis=1) + smooth
    score = both / sizes
    g = score[:, None] - 2 * t
    g /= sizes[:, None]
    return 1 - score, g
