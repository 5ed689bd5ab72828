"""Metrics from the confusion matrix: precision, recall, F1 and the correlation of Matthews.

Outputs, targets and weights are as in :func:`accuracy`. With a `threshold`, the outputs are a score
per item for the class 1 of two classes, as in :func:`binary_accuracy`.
"""

from typing import Any, Literal, TypeAlias

import numpy as np

from npdl.functional._checks import check_number, refusal
from npdl.functional._targets import (
    check_probabilities,
    predicted_and_true,
    ratio,
    value_items,
)
from npdl.functional.metrics._metric import metric
from npdl.tree import Array

__all__ = ["confusion_matrix", "f1_score", "matthews_correlation", "precision", "recall"]

Average = Literal["macro", "micro", "weighted", "binary"] | None

# For each class: the total weight of its hits, of its predictions and of its targets.
Counts: TypeAlias = tuple[Array, Array, Array]


def _merged_matrices(a: Array, b: Array) -> Array:
    """Return the sum of the matrices; the smaller one is padded with zeros."""
    size = max(len(a), len(b))
    total: Array = np.pad(a, (0, size - len(a))) + np.pad(b, (0, size - len(b)))
    return total


def _matrix(counts: Array, **options: Any) -> Array:
    return counts


@metric(_matrix, _merged_matrices)
def confusion_matrix(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    classes: int | None = None,
    threshold: float | None = None,
) -> Array:
    """Count the positions for each true class, on the first axis, and predicted class.

    ``Cⱼₖ = Σᵢ wᵢ [tᵢ = j] [pᵢ = k]``, with brackets of value 1 if true and 0 if false. Without
    weights, all `w` are 1.

    Parameters
    ----------
    outputs, targets, weights : arrays
        As in :func:`accuracy`.
    classes : int, optional
        The number of classes; by default the number of scores, or the largest id plus one.
    threshold : float, optional
        The outputs are then scores of the class 1 of two classes, with targets of the same shape
        in [0, 1]. Outputs above it predict the class 1; targets above ½ are of the class 1.

    Returns
    -------
    array of ints (classes, classes), or of floats with weights
        ``[true, predicted]``.

    Raises
    ------
    ValueError
        As in :func:`accuracy`; if ids without `classes` are 10,000 or larger.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1]))
    array([[1, 1],
           [0, 2]])
    """
    name = "confusion_matrix"
    predicted, true, each, size = _ids(name, outputs, targets, weights, classes, threshold)
    counts = np.bincount(true * size + predicted, each, size * size)
    return counts.reshape(size, size)


def _merged_counts(a: Counts, b: Counts) -> Counts:
    """Return the sums of the counts; shorter arrays are padded with zeros."""
    size = max(len(a[0]), len(b[0]))
    hits, predicted, true = (_padded(x, size) + _padded(y, size) for x, y in zip(a, b, strict=True))
    return hits, predicted, true


def _padded(counts: Array, size: int) -> Array:
    return np.pad(counts, (0, size - len(counts)))


def _precision(counts: Counts, average: Average = "macro", **options: Any) -> Any:
    hits, predicted, true = counts
    return _averaged("precision", hits, predicted, true, average)


def _recall(counts: Counts, average: Average = "macro", **options: Any) -> Any:
    hits, _, true = counts
    return _averaged("recall", hits, true, true, average)


def _f1(counts: Counts, average: Average = "macro", **options: Any) -> Any:
    hits, predicted, true = counts
    return _averaged("f1_score", 2 * hits, predicted + true, true, average)


def _correlation(counts: Counts, **options: Any) -> float:
    hits, predicted, true = counts
    if not true.any():
        return 0.0
    # Each vector has its own sum, so that a single class has exactly the share 1.
    p, t = predicted / predicted.sum(), true / true.sum()
    variances = (1 - p @ p) * (1 - t @ t)
    covariance = hits.sum() / true.sum() - p @ t
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0


@metric(_precision, _merged_counts)
def precision(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
    threshold: float | None = None,
) -> Counts:
    """Share of correct positions among all predictions of a class, averaged over classes.

    For the class k, ``Pₖ = Cₖₖ / Σⱼ Cⱼₖ``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights : arrays
        As in :func:`accuracy`.
    average : "macro", "micro", "weighted", "binary" or None
        "macro": mean over the classes. "micro": share over all classes together. "weighted": mean
        weighted by the number of targets of each class. "binary": the value of the class 1 of two
        classes. None: no average.
    classes, threshold
        As in :func:`confusion_matrix`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class without predictions has the value 0, and counts in the mean.

    References
    ----------
    van Rijsbergen: Information retrieval, 1979, chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.precision(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), average=None)
    array([1.        , 0.33333333])
    >>> F.precision(np.array([0.2, 0.7, 0.9]), np.array([0, 0, 1]), average="binary", threshold=0.5)
    0.5
    """
    return _counts("precision", outputs, targets, weights, classes, threshold)


@metric(_recall, _merged_counts)
def recall(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
    threshold: float | None = None,
) -> Counts:
    """Share of correct positions among all targets of a class, averaged over classes.

    For the class k, ``Rₖ = Cₖₖ / Σⱼ Cₖⱼ``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights, average, classes, threshold
        As in :func:`precision`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class without targets has the value 0, and counts in the mean.

    References
    ----------
    van Rijsbergen: Information retrieval, 1979, chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.recall(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), average=None)
    array([0.33333333, 1.        ])
    """
    return _counts("recall", outputs, targets, weights, classes, threshold)


@metric(_f1, _merged_counts)
def f1_score(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
    threshold: float | None = None,
) -> Counts:
    """Harmonic mean of precision and recall of each class, averaged.

    For the class k, ``Fₖ = 2 Cₖₖ / (Σⱼ Cⱼₖ + Σⱼ Cₖⱼ)``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights, average, classes, threshold
        As in :func:`precision`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class without predictions and targets has 0, and counts in the mean.

    References
    ----------
    van Rijsbergen: Information retrieval, 1979, chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.f1_score(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 0]), average=None)
    array([0.5, 0.5])
    """
    return _counts("f1_score", outputs, targets, weights, classes, threshold)


@metric(_correlation, _merged_counts)
def matthews_correlation(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    classes: int | None = None,
    threshold: float | None = None,
) -> Counts:
    """Correlation of predicted and true classes, ``r = (n c - p·t) / √((n² - p·p) (n² - t·t))``.

    The numbers of positions are n in total and c correct ones; the vectors p and t have the numbers
    of predictions and of targets of each class.

    Parameters
    ----------
    outputs, targets, weights, classes, threshold
        As in :func:`precision`.

    Returns
    -------
    float
        From -1 to 1; 0 if all predictions or all targets are of one class.

    References
    ----------
    Gorodkin: Comparing two K-category assignments by a K-category correlation coefficient, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> round(F.matthews_correlation(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1])), 4)
    0.5774
    """
    return _counts("matthews_correlation", outputs, targets, weights, classes, threshold)


def _counts(
    name: str,
    outputs: Array,
    targets: Any,
    weights: Any,
    classes: int | None,
    threshold: float | None,
) -> Counts:
    """Return the counts for each class: ints, or floats with weights."""
    predicted, true, each, size = _ids(name, outputs, targets, weights, classes, threshold)
    hit = predicted == true
    of_hits = np.bincount(true[hit], None if each is None else each[hit], size)
    return of_hits, np.bincount(predicted, each, size), np.bincount(true, each, size)


# Without the argument `classes`, at most this number of classes is inferred from ids.
_MOST_CLASSES = 10_000


def _ids(
    name: str,
    outputs: Array,
    targets: Any,
    weights: Any,
    classes: int | None,
    threshold: float | None,
) -> tuple[Array, Array, Array | None, int]:
    """Return predicted ids, true ids and weights as vectors, and the number of classes.

    Raises
    ------
    ValueError
        If an id makes this number implausibly large.
    """
    if threshold is None:
        found = predicted_and_true(name, outputs, targets, weights, classes)
        size = found[3]
        if classes is None and outputs.dtype.kind in "iu" and size > _MOST_CLASSES:
            raise ValueError(
                f"{name}: the largest id is {size - 1}, which makes {size} classes; if this number "
                f"is right, pass {name}(..., classes={size})"
            )
        return found
    limit = check_number(threshold, f"{name}(p, t, threshold=0.5)")
    if classes not in (None, 2):
        raise ValueError(f"{name}: a threshold is for 2 classes, got classes={classes!r}")
    scores, given, each = value_items(name, outputs, targets, weights)
    check_probabilities(name, "targets", given, "a target is 0 or 1, or between")
    if each is not None:
        each = np.broadcast_to(each, scores.shape).reshape(-1)
    predicted, true = (above.reshape(-1).astype(np.intp) for above in (scores > limit, given > 0.5))
    return predicted, true, each, 2


def _averaged(name: str, hits: Array, all_of: Array, true: Array, average: Average) -> Any:
    """Return hits / all, for each class or averaged over the classes."""
    if average is None:
        return ratio(hits, all_of)
    if average == "macro":
        return float(ratio(hits, all_of).mean())
    if average == "micro":
        return float(ratio(hits.sum(), all_of.sum()))
    if average == "weighted":
        return float(ratio(ratio(hits, all_of) @ true, true.sum()))
    if average == "binary" and len(hits) <= 2:
        return float(ratio(hits, all_of)[1]) if len(hits) == 2 else 0.0
    expected = "'macro', 'micro', 'weighted', 'binary' for 2 classes, or None"
    raise ValueError(refusal(average, f"{name}(p, t, average='macro')", expected))
