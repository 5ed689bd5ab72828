"""Metrics: ``accuracy(outputs, targets)``, values to report, without gradients.

They return Python floats, or arrays if documented. Targets are as in the losses: a class id for
each position, or a row of numbers whose largest element is the class. Weights give a weighted mean
``Σ wᵢ mᵢ / Σ wᵢ``; it is 0 if all weights are 0. A weight of 0 excludes a position, including NaN
and inf.

Each function is a :class:`Metric`: `fit` merges its sums over the batches of an epoch. Options are
keywords: ``functools.partial(F.f1_score, average="micro")`` is a metric, too.

Outputs of floats are scores, with the classes on the last axis. The class with the highest score is
predicted; ties go to the first class. Outputs of ints are predicted class ids:
``F.f1_score((p > 0.5).astype(int), targets)``.
"""

from typing import Any, TypeAlias

import numpy as np

from npdl.functional._checks import check_number, is_int, refusal
from npdl.functional._targets import (
    check_probabilities,
    class_items,
    labels_of,
    predicted_and_true,
    ratio,
    value_items,
)
from npdl.functional.metrics._metric import metric
from npdl.tree import Array

__all__ = [
    "absolute_error",
    "accuracy",
    "binary_accuracy",
    "r2_score",
    "top_k_accuracy",
    "weighted_sums",
]

# The total weight. For each quantity: the mean of the targets, the sum of their squared distances
# from this mean, and the sum of squared errors.
Moments: TypeAlias = tuple[float, Array, Array, Array]


@metric()
def accuracy(outputs: Array, targets: Any, weights: Any = None) -> tuple[float, float]:
    """Share of the positions with a correct predicted class.

    ``a = Σᵢ wᵢ [pᵢ = tᵢ] / Σᵢ wᵢ``, with brackets of value 1 if true and 0 if false. Without
    weights, all `w` are 1.

    Parameters
    ----------
    outputs : array of floats (batch, ..., classes) or of ints (batch, ...)
        Scores, probabilities or logits; or predicted class ids.
    targets : array of ints (batch, ...), or of numbers (batch, ..., classes)
        The class ids; or one-hot rows.
    weights : array (batch,) or further leading axes of outputs, optional
        Finite and not negative.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not match; if a label is not one of the classes; if the batch is empty; if
        a weight is negative, NaN or inf.
    TypeError
        If the outputs are not an array of floats or ints, or labels not ints; if an array is
        float16, a masked array or a matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.accuracy(np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([0, 1]))
    0.5
    """
    predicted, true, each, _ = predicted_and_true("accuracy", outputs, targets, weights, None)
    return weighted_sums(predicted == true, each)


@metric()
def top_k_accuracy(
    outputs: Array, targets: Any, weights: Any = None, *, k: int = 5
) -> tuple[float, float]:
    """Share of the positions whose target is among the `k` classes with the highest scores.

    ``a = Σᵢ wᵢ [rᵢ ≤ k] / Σᵢ wᵢ``, where r is the rank of the target's score, 1 for the highest.
    Among equal scores, earlier classes have the better rank; ``k=1`` is therefore the accuracy.

    Parameters
    ----------
    outputs : array of floats (batch, ..., classes)
        Scores, probabilities or logits.
    targets, weights : arrays
        As in :func:`accuracy`.
    k : int
        From 1 to the number of classes.

    Returns
    -------
    float
        From 0 to 1. A target with the score NaN is never among the highest.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.top_k_accuracy(np.array([[0.5, 0.1, 0.4], [0.5, 0.1, 0.4]]), np.array([2, 1]), k=2)
    0.5
    """
    name = "top_k_accuracy"
    outputs, given, each = class_items(name, outputs, targets, weights)
    true = labels_of(given)
    n_classes = outputs.shape[-1]
    if not is_int(k) or not 1 <= k <= n_classes:
        expected = f"an int from 1 to the {n_classes} classes"
        raise ValueError(refusal(k, f"{name}(p, t, k=1)", expected))
    scores = outputs.reshape(-1, n_classes)
    own = np.take_along_axis(scores, true[:, None], axis=1)
    before = scores > own
    before |= (scores == own) & (np.arange(n_classes) < true[:, None])
    hits = (np.count_nonzero(before, axis=1) < k) & ~np.isnan(own[:, 0])
    return weighted_sums(hits, each)


@metric()
def binary_accuracy(
    outputs: Array, targets: Any, weights: Any = None, *, threshold: float = 0.5
) -> tuple[float, float]:
    """Share of the elements with a correct predicted boolean.

    ``a = Σᵢ wᵢ [pᵢ = tᵢ] / Σᵢ wᵢ``, where p is true for outputs above the threshold, and t for
    targets above ½.

    Parameters
    ----------
    outputs : array of floats (batch, ...)
        Probabilities; or logits, with ``threshold=0.0``.
    targets : array of numbers or booleans, of the same shape
        In [0, 1]; true above ½.
    weights : array (batch,) or further leading axes of outputs, optional
        Finite and not negative.
    threshold : float
        In the unit of the outputs; outputs above it predict true.

    Returns
    -------
    float
        From 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.binary_accuracy(np.array([0.9, 0.2, 0.3, 0.1]), np.array([1, 0, 1, 0]))
    0.75
    """
    name = "binary_accuracy"
    threshold = check_number(threshold, f"{name}(p, t, threshold=0.5)")
    outputs, true, each = value_items(name, outputs, targets, weights)
    check_probabilities(name, "targets", true, "a target is 0 or 1, or between")
    return weighted_sums((outputs > threshold) == (true > 0.5), each)


@metric()
def absolute_error(outputs: Array, targets: Any, weights: Any = None) -> tuple[float, float]:
    """Mean of ``e = |p - t|``, the value of the loss :func:`mean_absolute_error`.

    Parameters
    ----------
    outputs : array of floats (batch, ...)
        The predictions `p`.
    targets : array of numbers, of the same shape
        The values `t`.
    weights : array (batch,) or further leading axes of outputs, optional
        Finite and not negative.

    Returns
    -------
    float
        The mean over all elements, in their unit.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.absolute_error(np.array([1.0, 3.0]), np.array([0.0, 3.0]))
    0.5
    """
    outputs, true, each = value_items("absolute_error", outputs, targets, weights)
    return weighted_sums(np.abs(np.subtract(outputs, true, dtype=np.float64)), each)


def _merged_moments(a: Moments, b: Moments) -> Moments:
    """Return the moments of both sets of observations."""
    if not (a[0] and b[0]):
        return a if a[0] else b
    total = a[0] + b[0]
    part = b[0] / total
    difference = b[1] - a[1]
    squares = a[2] + b[2] + difference**2 * (a[0] * part)
    return total, a[1] + difference * part, squares, a[3] + b[3]


def _r2(moments: Moments) -> float:
    weight, _, squares, unexplained = moments
    if not weight:
        return 0.0
    scores = 1 - ratio(unexplained, squares)
    scores[(squares == 0) & (unexplained > 0)] = 0
    return float(scores.mean())


@metric(_r2, _merged_moments)
def r2_score(outputs: Array, targets: Any, weights: Any = None) -> Moments:
    """Coefficient of determination, ``r = 1 - Σ (t - p)² / Σ (t - mean t)²``.

    The last axis has the quantities, and the others the observations; the scores of the quantities
    are averaged. Outputs with one axis are observations of one quantity.

    Parameters
    ----------
    outputs : array of floats (batch,) or (batch, ..., quantities)
        The predictions `p`.
    targets : array of numbers, of the same shape
        The values `t`.
    weights : array (batch,) or further axes of observations, optional
        Finite and not negative.

    Returns
    -------
    float
        1 for perfect predictions, 0 for predictions as good as the mean, negative for worse ones. A
        constant quantity has the score 1 if all predictions are exact, and 0 otherwise.

    References
    ----------
    Wright: Correlation and causation, 1921.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.r2_score(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5
    """
    name = "r2_score"
    outputs, true, each = value_items(name, outputs, targets, weights, int(np.ndim(outputs) > 1))
    width = outputs.shape[-1] if outputs.ndim > 1 else 1
    p, t = (x.reshape(-1, width).astype(np.float64, copy=False) for x in (outputs, true))
    if each is None:
        w = np.ones((len(t), 1))
    else:
        shape = outputs.shape if outputs.ndim == 1 else outputs.shape[:-1]
        w = np.broadcast_to(each, shape).reshape(-1, 1)
        p, t, w = (array[w[:, 0] > 0] for array in (p, t, w))
    if not len(t):
        return 0.0, np.zeros(width), np.zeros(width), np.zeros(width)
    weight = float(w.sum())
    # Differences from one target, so that the variance of constant targets is exactly 0.
    shifted = t - t[0]
    mean = np.sum(w * shifted, axis=0) / weight
    squares = np.sum(w * (shifted - mean) ** 2, axis=0)
    return weight, t[0] + mean, squares, np.sum(w * (t - p) ** 2, axis=0)


def weighted_sums(values: Array, weights: Array | None) -> tuple[float, float]:
    """Return the (weighted) sum of values and the sum of the weights."""
    if weights is not None:
        weights = np.broadcast_to(weights, values.shape)
        return float(np.sum(values * weights)), float(np.sum(weights))
    whole = float(values.size)
    if values.dtype == bool:
        return float(np.count_nonzero(values)), whole
    return float(np.sum(values, dtype=np.float64)), whole
