"""Metrics: ``accuracy(outputs, targets)``, figures to report, without gradients.

They return Python floats, or an array where it is said. Targets and weights are those of the
losses: a class id for each position or a row of numbers for each, of which the largest counts;
weights for a weighted mean ``Σ wᵢ mᵢ / Σ wᵢ``, which is 0 where all are 0.

Outputs with a score for each class, on the last axis, are floats; the class with the highest one
is predicted, the first of equals. Outputs that are ints are the predicted class ids themselves:
``F.f1_score((p > 0.5).astype(int), targets)``.
"""

from typing import Any, Literal

import numpy as np

from npdl.functional.layer import Array, check_float, describe
from npdl.functional.targets import (
    check_probabilities,
    class_ids,
    class_targets,
    mean_scale,
    value_targets,
)

__all__ = [
    "absolute_error",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "f1_score",
    "precision",
    "r2_score",
    "recall",
    "top_k_accuracy",
]

Average = Literal["macro", "micro", "weighted"] | None


def accuracy(outputs: Array, targets: Any, weights: Any = None) -> float:
    """Share of the positions whose predicted class is the target.

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
    predicted, true, shape, _ = _classes("accuracy", outputs, targets, None)
    return _share("accuracy", predicted == true, shape, weights)


def top_k_accuracy(outputs: Array, targets: Any, weights: Any = None, *, k: int = 5) -> float:
    """Share of the positions whose target is among the `k` classes with the highest scores.

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
    true = _labels(class_targets(name, outputs, targets))
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
    """Mean of ``|p - t|``: the figure of the loss :func:`mean_absolute_error`.

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
    """Coefficient of determination, ``1 - Σ (t - p)² / Σ (t - mean t)²``.

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
    scores = 1 - _ratio(unexplained, variance)
    scores[(variance == 0) & (unexplained > 0)] = 0
    return float(scores.mean())


def confusion_matrix(outputs: Array, targets: Any, classes: int | None = None) -> Array:
    """Count the positions for each true class, on the first axis, and predicted class.

    Parameters
    ----------
    outputs, targets : arrays
        As in :func:`accuracy`.
    classes : int, optional
        The number of classes. Left out, that of the scores, or the highest id of any plus one.

    Returns
    -------
    array of ints (classes, classes)
        ``[true, predicted]``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1]))
    array([[1, 1],
           [0, 2]])
    """
    return _counts("confusion_matrix", outputs, targets, None, classes)


def precision(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
) -> Any:
    """Share of the positions predicted to be of a class that are of it, averaged over classes.

    Parameters
    ----------
    outputs, targets, weights : arrays
        As in :func:`accuracy`.
    average : "macro", "micro", "weighted" or None
        The mean over the classes; the share over all classes together; the mean weighted by how
        often each class is a target; or no average.
    classes : int, optional
        As in :func:`confusion_matrix`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class that is never predicted has 0, and counts in the mean.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.precision(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), average=None)
    array([1.        , 0.33333333])
    """
    counts = _counts("precision", outputs, targets, weights, classes)
    return _averaged("precision", np.diagonal(counts), counts.sum(0), counts.sum(1), average)


def recall(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
) -> Any:
    """Share of the positions of a class that are predicted to be of it, averaged over classes.

    Parameters
    ----------
    outputs, targets, weights, average, classes
        As in :func:`precision`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class that is never a target has 0, and counts in the mean.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.recall(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), average=None)
    array([0.33333333, 1.        ])
    """
    counts = _counts("recall", outputs, targets, weights, classes)
    true = counts.sum(1)
    return _averaged("recall", np.diagonal(counts), true, true, average)


def f1_score(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
) -> Any:
    """Harmonic mean of precision and recall, ``2 hits / (predicted + true)``, averaged.

    Parameters
    ----------
    outputs, targets, weights, average, classes
        As in :func:`precision`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class that is neither predicted nor a target has 0, and counts in the mean.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.f1_score(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), average=None)
    array([0.5, 0.5])
    """
    counts = _counts("f1_score", outputs, targets, weights, classes)
    true = counts.sum(1)
    return _averaged("f1_score", 2 * np.diagonal(counts), counts.sum(0) + true, true, average)


def _classes(
    name: str, outputs: Array, targets: Any, classes: int | None
) -> tuple[Array, Array, tuple[int, ...], int]:
    """Return predicted and true ids, both along one axis, their shape, and how many classes."""
    if classes is not None and not (isinstance(classes, int | np.integer) and classes > 0):
        raise ValueError(f"{name}: classes must be a positive int, got {classes!r}")
    if not (isinstance(outputs, np.ndarray) and outputs.dtype.kind in "iub"):
        check_float(outputs, name)
        true = _labels(class_targets(name, outputs, targets))
        n_classes = outputs.shape[-1]
        if classes not in (None, n_classes):
            raise ValueError(f"{name}: the outputs have {n_classes} classes, not {classes}")
        predicted = outputs.argmax(axis=-1).reshape(-1)
        return predicted, true, outputs.shape[:-1], n_classes
    targets = np.asarray(targets)
    if outputs.ndim == 0 or targets.shape != outputs.shape:
        raise ValueError(
            f"{name}: outputs that are ints are class ids and need the shape of the targets, got "
            f"outputs {describe(outputs)} and targets {describe(targets)}; scores are floats"
        )
    if classes is None:
        classes = 1 + max(int(ids.max(initial=0)) for ids in (outputs, targets))
    predicted = class_ids(name, "outputs", outputs, classes)
    return predicted, class_ids(name, "targets", targets, classes), outputs.shape, classes


def _labels(targets: Array) -> Array:
    return targets if targets.ndim == 1 else targets.argmax(axis=1)


def _share(name: str, hits: Array, shape: tuple[int, ...], weights: Any) -> float:
    """Return the (weighted) mean of truth values."""
    scale = mean_scale(name, shape, weights, np.float64)
    if isinstance(scale, float):
        return float(np.count_nonzero(hits) / hits.size)
    return float(np.sum(hits.reshape(shape) * scale))


def _counts(name: str, outputs: Array, targets: Any, weights: Any, classes: int | None) -> Array:
    """Return the confusion matrix: of ints, or of floats if weighted."""
    predicted, true, shape, n_classes = _classes(name, outputs, targets, classes)
    scale = mean_scale(name, shape, weights, np.float64)
    each = None if isinstance(scale, float) else np.broadcast_to(scale, shape).reshape(-1)
    cells = true * n_classes + predicted
    return np.bincount(cells, each, n_classes**2).reshape(n_classes, n_classes)


def _averaged(name: str, hits: Array, all_of: Array, true: Array, average: Average) -> Any:
    """Return the share of hits in all, for each class or averaged over them."""
    if average is None:
        return _ratio(hits, all_of)
    if average == "macro":
        return float(_ratio(hits, all_of).mean())
    if average == "micro":
        return float(_ratio(hits.sum(), all_of.sum()))
    if average == "weighted":
        return float(_ratio(_ratio(hits, all_of) @ true, true.sum()))
    raise ValueError(
        f"{name}: average must be 'macro', 'micro', 'weighted' or None, got {average!r}"
    )


def _ratio(part: Array, whole: Array) -> Array:
    """Divide, with 0 where the whole is 0."""
    zeros = np.zeros(np.shape(whole), np.result_type(part, whole, np.float16))
    return np.divide(part, whole, out=zeros, where=whole != 0)
