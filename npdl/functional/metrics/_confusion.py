"""Metrics from the confusion matrix: precision, recall and F1.

Outputs, targets and weights are as in :func:`accuracy`.
"""

from typing import Any, Literal, TypeAlias

import numpy as np

from npdl.functional._checks import refusal
from npdl.functional._targets import predicted_and_true, ratio
from npdl.functional.metrics._metric import metric
from npdl.tree import Array

__all__ = ["confusion_matrix", "f1_score", "precision", "recall"]

Average = Literal["macro", "micro", "weighted"] | None


def confusion_matrix(outputs: Array, targets: Any, *, classes: int | None = None) -> Array:
    """Count the positions for each true class, on the first axis, and predicted class.

    ``Cⱼₖ = Σᵢ [tᵢ = j] [pᵢ = k]``, with brackets of value 1 if true and 0 if false.

    Parameters
    ----------
    outputs, targets : arrays
        As in :func:`accuracy`.
    classes : int, optional
        The number of classes; by default the number of scores, or the largest id plus one.

    Returns
    -------
    array of ints (classes, classes)
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
    predicted, true, _, found = predicted_and_true(name, outputs, targets, None, classes)
    size = _size(name, found, outputs, classes)
    return np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)


# For each class: the total weight of its hits, of its predictions and of its targets.
Counts: TypeAlias = tuple[Array, Array, Array]


def _merged_counts(a: Counts, b: Counts) -> Counts:
    """Return the sums of the counts; shorter arrays are padded with zeros."""
    size = max(len(a[0]), len(b[0]))
    hits, predicted, true = (_padded(x, size) + _padded(y, size) for x, y in zip(a, b, strict=True))
    return hits, predicted, true


def _padded(counts: Array, size: int) -> Array:
    return np.pad(counts, (0, size - len(counts)))


def _precision(counts: Counts, average: Average = "macro", classes: Any = None) -> Any:
    hits, predicted, true = counts
    return _averaged("precision", hits, predicted, true, average)


def _recall(counts: Counts, average: Average = "macro", classes: Any = None) -> Any:
    hits, _, true = counts
    return _averaged("recall", hits, true, true, average)


def _f1(counts: Counts, average: Average = "macro", classes: Any = None) -> Any:
    hits, predicted, true = counts
    return _averaged("f1_score", 2 * hits, predicted + true, true, average)


@metric(_precision, _merged_counts)
def precision(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
) -> Counts:
    """Share of correct positions among all predictions of a class, averaged over classes.

    For the class k, ``Pₖ = Cₖₖ / Σⱼ Cⱼₖ``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights : arrays
        As in :func:`accuracy`.
    average : "macro", "micro", "weighted" or None
        "macro": mean over the classes. "micro": share over all classes together. "weighted": mean
        weighted by the number of targets of each class. None: no average.
    classes : int, optional
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
    """
    return _counts("precision", outputs, targets, weights, classes)


@metric(_recall, _merged_counts)
def recall(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
) -> Counts:
    """Share of correct positions among all targets of a class, averaged over classes.

    For the class k, ``Rₖ = Cₖₖ / Σⱼ Cₖⱼ``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights, average, classes
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
    return _counts("recall", outputs, targets, weights, classes)


@metric(_f1, _merged_counts)
def f1_score(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    classes: int | None = None,
) -> Counts:
    """Harmonic mean of precision and recall of each class, averaged.

    For the class k, ``Fₖ = 2 Cₖₖ / (Σⱼ Cⱼₖ + Σⱼ Cₖⱼ)``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights, average, classes
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
    return _counts("f1_score", outputs, targets, weights, classes)


def _counts(name: str, outputs: Array, targets: Any, weights: Any, classes: int | None) -> Counts:
    """Return the counts for each class: ints, or floats with weights."""
    predicted, true, each, found = predicted_and_true(name, outputs, targets, weights, classes)
    size = _size(name, found, outputs, classes)
    hit = predicted == true
    of_hits = np.bincount(true[hit], None if each is None else each[hit], size)
    return of_hits, np.bincount(predicted, each, size), np.bincount(true, each, size)


# Without the argument `classes`, at most this number of classes is inferred from ids.
_MOST_CLASSES = 10_000


def _size(name: str, found: int, outputs: Array, classes: int | None) -> int:
    """Return the number of classes; raise if an id makes the number implausibly large."""
    if classes is None and outputs.dtype.kind in "iu" and found > _MOST_CLASSES:
        raise ValueError(
            f"{name}: the largest id is {found - 1}, which makes {found} classes; if this number "
            f"is right, pass {name}(..., classes={found})"
        )
    return found


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
    raise ValueError(
        refusal(average, f"{name}(p, t, average='macro')", "'macro', 'micro', 'weighted' or None")
    )
