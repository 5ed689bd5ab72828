"""Metrics: ``accuracy(outputs, targets)``, figures to report, without gradients.

They return Python floats, or an array where it is said. Targets and weights are those of the
losses: a class id for each position or a row of numbers for each, of which the largest counts;
weights for a weighted mean ``Σ wᵢ mᵢ / Σ wᵢ``, which is 0 where all are 0.

Outputs with a score for each class, on the last axis, are floats; the class with the highest one
is predicted, the first of equals. Outputs that are ints are the predicted class ids themselves:
``F.f1_score((p > 0.5).astype(int), targets)``.
"""

from typing import Any

import numpy as np

from npdl.functional.layer import Array, check_float
from npdl.functional.targets import (
    check_probabilities,
    class_targets,
    labels_of,
    mean_scale,
    predicted_and_true,
    ratio,
    value_targets,
)

__all__ = ["absolute_error", "accuracy", "binary_accuracy", "r2_score", "top_k_accuracy"]


def accuracy(outputs: Array, targets: Any, weights: Any = None) -> float:
    """Share of the positions whose predicted class is the target.

    ``a = Σᵢ wᵢ [pᵢ = tᵢ] / Σᵢ wᵢ``, where a bracket is 1 if what it says is true and else 0, and
    all `w` are 1 if none are given.

    Parameters
    ----------
    outputs : array of floats (batch, ..., classes) or of ints (batch, ...)
        Scores, probabilities or logits; or predicted class ids.
    targets : array of ints (batch, ...), or of numbers (batch, ..., classes)
        The class ids; or one-hot rows.
    weights : array (batch,) or further leading axes of outputs, optional
        Not negative.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not match, a label is not one of the classes, or the batch is empty.
    TypeError
        If the outputs are not an array of floats or ints, or labels not ints.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.accuracy(np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([0, 1]))
    0.5
    """
    predicted, true, shape, _ = predicted_and_true("accuracy", outputs, targets, None)
    return _share("accuracy", predicted == true, shape, weights)


def top_k_accuracy(outputs: Array, targets: Any, weights: Any = None, *, k: int = 5) -> float:
    """Share of the positions whose target is among the `k` classes with the highest scores.

    ``a = Σᵢ wᵢ [rᵢ ≤ k] / Σᵢ wᵢ``, where r is the rank of the target's score, 1 for the highest.
    Of equal scores, the first classes count as higher, so that with `k` = 1 it is the accuracy.

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
        From 0 to 1. A target whose score is NaN is not among the highest.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.top_k_accuracy(np.array([[0.5, 0.1, 0.4], [0.5, 0.1, 0.4]]), np.array([2, 1]), k=2)
    0.5
    """
    name = "top_k_accuracy"
    check_float(outputs, name)
    true = labels_of(class_targets(name, outputs, targets))
    n_classes = outputs.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n_classes:
        raise ValueError(f"{name}: k must be an int from 1 to the {n_classes} classes, got {k!r}")
    scores = outputs.reshape(-1, n_classes)
    own = np.take_along_axis(scores, true[:, None], axis=1)
    before = scores > own
    before |= (scores == own) & (np.arange(n_classes) < true[:, None])
    hits = (np.count_nonzero(before, axis=1) < k) & ~np.isnan(own[:, 0])
    return _share(name, hits, outputs.shape[:-1], weights)


def binary_accuracy(
    outputs: Array, targets: Any, weights: Any = None, *, threshold: float = 0.5
) -> float:
    """Share of the elements that are on the side of the threshold where the target is.

    ``a = Σᵢ wᵢ [pᵢ = tᵢ] / Σᵢ wᵢ``, where p and t say whether the output is above the threshold,
    and the target above ½.

    Parameters
    ----------
    outputs : array of floats (batch, ...)
        Probabilities; or logits, with ``threshold=0.0``. Above the threshold is a yes.
    targets : array of numbers or truth values, of the same shape
        In [0, 1]; above ½ is a yes.
    weights : array (batch,) or further leading axes of outputs, optional
        Not negative.
    threshold : float
        Where a yes begins, in the unit of the outputs.

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
    check_float(outputs, name)
    true = value_targets(name, outputs, targets)
    check_probabilities(name, "targets", true, "a target is 0 or 1, or between")
    return _share(name, (outputs > threshold) == (true > 0.5), outputs.shape, weights)


def absolute_error(outputs: Array, targets: Any, weights: Any = None) -> float:
    """Mean of ``e = |p - t|``: the figure of the loss :func:`mean_absolute_error`.

    Parameters
    ----------
    outputs : array of floats (batch, ...)
        The predictions `p`.
    targets : array of numbers, of the same shape
        The values `t`.
    weights : array (batch,) or further leading axes of outputs, optional
        Not negative.

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
    name = "absolute_error"
    check_float(outputs, name)
    errors = np.abs(outputs - value_targets(name, outputs, targets))
    return float(np.sum(errors * mean_scale(name, outputs.shape, weights, outputs.dtype)))


def r2_score(outputs: Array, targets: Any, weights: Any = None) -> float:
    """Coefficient of determination, ``r = 1 - Σ (t - p)² / Σ (t - mean t)²``.

    The last axis holds the quantities, whose scores are averaged, and all others observations; of
    outputs with one axis, all are observations of one quantity.

    Parameters
    ----------
    outputs : array of floats (batch,) or (batch, ..., quantities)
        The predictions `p`.
    targets : array of numbers, of the same shape
        The values `t`.
    weights : array (batch,) or further axes of observations, optional
        Not negative.

    Returns
    -------
    float
        1 for perfect predictions, 0 for those that are no better than the mean, negative for
        worse ones. A quantity that does not vary has 1 if it is predicted exactly and else 0.

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
    check_float(outputs, name)
    true = value_targets(name, outputs, targets)
    shape = outputs.shape if outputs.ndim == 1 else outputs.shape[:-1]
    scale = mean_scale(name, shape, weights, outputs.dtype)
    if not np.any(scale):
        return 0.0
    width = outputs.shape[-1] if outputs.ndim > 1 else 1
    p, t = outputs.reshape(-1, width), true.reshape(-1, width)
    w = np.broadcast_to(np.asarray(scale, p.dtype), shape).reshape(-1, 1)
    # From a row that counts, so that what does not vary is exactly 0.
    shifted = t - t[w.argmax()]
    variance = np.sum(w * (shifted - np.sum(w * shifted, axis=0)) ** 2, axis=0)
    unexplained = np.sum(w * (t - p) ** 2, axis=0)
    scores = 1 - ratio(unexplained, variance)
    scores[(variance == 0) & (unexplained > 0)] = 0
    return float(scores.mean())


def _share(name: str, hits: Array, shape: tuple[int, ...], weights: Any) -> float:
    """Return the (weighted) mean of truth values."""
    scale = mean_scale(name, shape, weights, np.float64)
    if isinstance(scale, float):
        return float(np.count_nonzero(hits) / hits.size)
    return float(np.sum(hits.reshape(shape) * scale))
