"""Metrics that are counted from the confusion matrix: precision, recall and F1.

Outputs, targets and weights are those of the other metrics.
"""

from typing import Any, Literal

import numpy as np

from npdl.functional.layer import Array
from npdl.functional.targets import mean_scale, predicted_and_true, ratio

__all__ = ["confusion_matrix", "f1_score", "precision", "recall"]

Average = Literal["macro", "micro", "weighted"] | None


def confusion_matrix(outputs: Array, targets: Any, classes: int | None = None) -> Array:
    """Count the positions for each true class, on the first axis, and predicted class.

    ``Cⱼₖ = Σᵢ [tᵢ = j] [pᵢ = k]``, where a bracket is 1 if what it says is true, and else 0.

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

    For the class k, ``Pₖ = Cₖₖ / Σⱼ Cⱼₖ``, with the :func:`confusion_matrix` C.

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

    For the class k, ``Rₖ = Cₖₖ / Σⱼ Cₖⱼ``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights, average, classes
        As in :func:`precision`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class that is never a target has 0, and counts in the mean.

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
    """Harmonic mean of precision and recall of each class, averaged.

    For the class k, ``Fₖ = 2 Cₖₖ / (Σⱼ Cⱼₖ + Σⱼ Cₖⱼ)``, with the :func:`confusion_matrix` C.

    Parameters
    ----------
    outputs, targets, weights, average, classes
        As in :func:`precision`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1. A class that is neither predicted nor a target has 0, and counts in the mean.

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
    counts = _counts("f1_score", outputs, targets, weights, classes)
    true = counts.sum(1)
    return _averaged("f1_score", 2 * np.diagonal(counts), counts.sum(0) + true, true, average)


def _counts(name: str, outputs: Array, targets: Any, weights: Any, classes: int | None) -> Array:
    """Return the confusion matrix: of ints, or of floats if weighted."""
    predicted, true, shape, n_classes = predicted_and_true(name, outputs, targets, classes)
    scale = mean_scale(name, shape, weights, np.float64)
    each = None if isinstance(scale, float) else np.broadcast_to(scale, shape).reshape(-1)
    cells = true * n_classes + predicted
    return np.bincount(cells, each, n_classes**2).reshape(n_classes, n_classes)


def _averaged(name: str, hits: Array, all_of: Array, true: Array, average: Average) -> Any:
    """Return the share of hits in all, for each class or averaged over them."""
    if average is None:
        return ratio(hits, all_of)
    if average == "macro":
        return float(ratio(hits, all_of).mean())
    if average == "micro":
        return float(ratio(hits.sum(), all_of.sum()))
    if average == "weighted":
        return float(ratio(ratio(hits, all_of) @ true, true.sum()))
    raise ValueError(
        f"{name}: average must be 'macro', 'micro', 'weighted' or None, got {average!r}"
    )
