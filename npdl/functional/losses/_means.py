"""The means of losses: from values and derivatives of items to a loss and its gradient."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional._checks import check_flag, check_number
from npdl.functional._kernels.blas_sums import sum_of_vector
from npdl.functional._kernels.blocks import SOFTMAX_BLOCK
from npdl.functional._kernels.loss_terms import softmax_cross_entropies
from npdl.functional._targets import check_probabilities, class_items, mean_scale, value_items
from npdl.tree import Array

__all__ = [
    "as_rows",
    "cross_entropies_in_blocks",
    "mean_of_elements",
    "mean_of_items",
    "mean_of_rows",
    "scale_of_rows",
    "total",
]


def mean_of_elements(
    name: str,
    errors: Callable[..., tuple[Array, Array]],
    outputs: Array,
    targets: Any,
    weights: Any,
    per_example: bool,
    *options: float,
    check: Callable[[str, Array, Array], None] | None = None,
) -> tuple[Any, Array]:
    """Return the mean of ``errors(outputs, targets, *options)``: new values and derivatives."""
    p, t, each = value_items(name, outputs, targets, weights)
    if check is not None:
        check(name, p, t)
    scale = mean_scale(p.shape, each, p.dtype, per_example)
    values, g = errors(p, t.astype(p.dtype, copy=False), *options)
    g *= scale
    if per_example:
        check_flag(per_example, f"{name}(p, t, per_example=True)")
        values *= scale
        return np.add.reduce(values.reshape(len(p), -1), axis=1), g
    if isinstance(scale, float):
        return np.add.reduce(values, axis=None) * scale, g
    values *= scale
    return np.add.reduce(values, axis=None), g


def mean_of_items(
    name: str, values: Array, gradients: tuple[Array, ...], weights: Array | None, per_example: bool
) -> tuple[Any, tuple[Array, ...]]:
    """Return the mean of values (items), and gradients (items, ...) of this mean.

    The values and gradients are new arrays, and are overwritten.
    """
    if per_example:
        check_flag(per_example, f"{name}(outputs, ..., per_example=True)")
    scale = mean_scale(values.shape, weights, values.dtype, per_example)
    for g in gradients:
        axes = (1,) * (g.ndim - values.ndim)
        g *= scale if isinstance(scale, float) else scale.reshape(scale.shape + axes)
    values *= scale
    if per_example:
        return np.add.reduce(values.reshape(len(values), -1), axis=1), gradients
    return np.add.reduce(values, axis=None), gradients


def mean_of_rows(
    name: str,
    distances: Callable[[Array, Array, float], tuple[Array, Array]],
    probabilities: Array,
    targets: Any,
    weights: Any,
    epsilon: float,
    per_example: bool,
) -> tuple[Any, Array]:
    """Return the mean of ``distances(rows, targets, epsilon)``: new values and derivatives."""
    epsilon = check_number(epsilon, f"{name}(p, t, epsilon=1e-12)", "in (0, 0.5)")
    p, t, each = class_items(name, probabilities, targets, weights)
    check_probabilities(name, "outputs", p, "softmax_cross_entropy takes logits")
    rows = as_rows(p)
    scale = scale_of_rows(name, p, each, per_example)
    values, g = distances(rows, t, epsilon)
    g *= scale if isinstance(scale, float) else scale[:, None]
    return total(values, scale, len(p) if per_example else None), g.reshape(p.shape)


def cross_entropies_in_blocks(
    x: Array, t: Array, scale: Any, smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Return the rows' cross-entropies, and their derivatives times `scale`, in blocks of rows."""
    if x.size <= SOFTMAX_BLOCK:
        return softmax_cross_entropies(x, t, scale, smoothing)
    values, g = np.empty(len(x), x.dtype), np.empty(x.shape, x.dtype)
    step = max(1, SOFTMAX_BLOCK // x.shape[1])
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        row_scale = scale if isinstance(scale, float) else scale[rows]
        values[rows], g[rows] = softmax_cross_entropies(x[rows], t[rows], row_scale, smoothing)
    return values, g


def as_rows(outputs: Array) -> Array:
    """Return (rows, classes)."""
    return outputs if outputs.ndim == 2 else outputs.reshape(-1, outputs.shape[-1])


def scale_of_rows(
    name: str, outputs: Array, weights: Array | None, per_example: bool
) -> float | Array:
    """Return the factor of each row in the mean of all rows, or of the rows of its example."""
    items = outputs.shape[:-1]
    if not per_example:
        return mean_scale((math.prod(items),), weights, outputs.dtype)
    check_flag(per_example, f"{name}(z, t, per_example=True)")
    each = None if weights is None else weights.reshape(items)
    scale = mean_scale(items, each, outputs.dtype, per_example)
    return scale if isinstance(scale, float) else scale.reshape(-1)


def total(values: Array, scale: Any, batch: int | None) -> Any:
    """Return the sum of the values times their factors, or the sums for a batch of examples."""
    if batch is not None:
        return np.add.reduce((values * scale).reshape(batch, -1), axis=1)
    if isinstance(scale, float):
        return sum_of_vector(values) * scale
    return sum_of_vector(values * scale)
