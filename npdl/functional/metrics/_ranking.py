"""Metrics of the order of scores: the areas under the ROC curve and under precision and recall.

They need the scores of all examples at once. So their sums are the scores themselves: per example
of an epoch, one number for each score, its target, and its weight. A checkpoint in mid-epoch
contains them. `fit` computes the results once per epoch, by sorting.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from npdl.functional._checks import refusal
from npdl.functional._targets import class_items
from npdl.functional.metrics._metric import joined, metric
from npdl.functional.metrics._probabilities import binary_items, is_binary, rows_of_probabilities
from npdl.tree import Array

__all__ = ["average_precision", "roc_auc"]

Average = Literal["macro", "weighted"] | None

# Parts of the examples, each with scores (n, columns), targets and weights (n,). The targets are
# booleans (n, columns), or class ids (n,).
Parts: TypeAlias = tuple[tuple[Array, Array, Array | None], ...]


def _ranked(name: str, outputs: Array, targets: Any, weights: Any, logits: bool) -> Parts:
    """Return the scores, targets and weights of all examples whose weight is not 0."""
    if is_binary(outputs):
        p, t, each = binary_items(name, outputs, targets, weights)
        scores, true = p[:, None], t[:, None] > 0.5
    else:
        outputs, true, each = class_items(name, outputs, targets, weights)
        scores = outputs.reshape(-1, outputs.shape[-1])
        if logits or true.ndim == 1:
            rows = rows_of_probabilities(name, outputs, each, logits)
            scores = rows if logits else scores
        if true.ndim == 2:
            true = true > 0.5
        elif scores.shape[1] == 2:
            scores, true = scores[:, 1:], true[:, None] == 1
    if each is not None and not each.all():
        kept = each > 0
        scores, true, each = scores[kept], true[kept], each[kept]
    return ((scores, true, each),)


def _by_column(name: str, parts: Parts, average: Average, area: Callable[..., float]) -> Any:
    """Return the area of each column, or their average; columns without an area do not count."""
    if average not in ("macro", "weighted", None):
        call = f"{name}(p, t, average='macro')"
        raise ValueError(refusal(average, call, "'macro', 'weighted' or None"))
    scores, true = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    each = [np.ones(len(p)) if w is None else w for p, _, w in parts]
    weights = np.concatenate(each)
    columns = range(scores.shape[1])
    hits = [true == k if true.ndim == 1 else true[:, k] for k in columns]
    lost = np.isnan(scores).any(axis=0)
    areas = np.array(
        [area(*_curve(scores[:, k], hits[k], weights)) if not lost[k] else np.nan for k in columns]
    )
    if len(areas) == 1:
        return float(areas[0])
    if average is None:
        return areas
    counts = np.array([weights @ hit for hit in hits]) if average == "weighted" else 1.0
    factors = np.where(np.isnan(areas), 0.0, counts)
    if lost.any() or not factors.any():
        return float("nan")
    return float(np.nansum(factors * areas) / factors.sum())


def _curve(scores: Array, hits: Array, weights: Array) -> tuple[Array, Array]:
    """Return the weights of positives and of negatives down to each distinct score.

    The highest score is the first. Both arrays begin with 0.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, weights, hits = scores[order], weights[order], hits[order]
    last = np.append(ranked[1:] != ranked[:-1], np.ones(min(len(ranked), 1), bool))
    positives, negatives = (
        np.append(0.0, np.cumsum(np.where(of, weights, 0.0))[last]) for of in (hits, ~hits)
    )
    return positives, negatives


def _roc_area(positives: Array, negatives: Array) -> float:
    if not (positives[-1] and negatives[-1]):
        return float("nan")
    hits, false_alarms = positives / positives[-1], negatives / negatives[-1]
    return float(np.diff(false_alarms) @ (hits[1:] + hits[:-1]) / 2)


def _precision_area(positives: Array, negatives: Array) -> float:
    if not positives[-1]:
        return 0.0
    precisions = positives[1:] / (positives[1:] + negatives[1:])
    return float(np.diff(positives) @ precisions / positives[-1])


def _auc(parts: Parts, average: Average = "macro", logits: bool = False) -> Any:
    return _by_column("roc_auc", parts, average, _roc_area)


def _ap(parts: Parts, average: Average = "macro", logits: bool = False) -> Any:
    return _by_column("average_precision", parts, average, _precision_area)


@metric(_auc, joined, each_step=False)
def roc_auc(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    logits: bool = False,
) -> Parts:
    """Area under the ROC curve: the chance that a positive has a higher score than a negative.

    ``a = Σᵢⱼ wᵢ wⱼ ([sᵢ > sⱼ] + ½ [sᵢ = sⱼ]) / Σᵢⱼ wᵢ wⱼ``, over all pairs of a positive i and a
    negative j, with their scores `s`, and brackets of value 1 if true and 0 if false.

    Parameters
    ----------
    outputs : array of floats (batch,), (batch, ..., 1) or (batch, ..., classes)
        Scores of the class 1 of two classes, in any unit, with targets of the same shape. Or the
        probabilities of classes: each class is compared with all others. Or, with targets of the
        same shape, the scores of labels, each in any unit.
    targets : array of ints (batch, ...), or of the shape of the outputs
        Class ids; or numbers in [0, 1], positive above ½: labels, or one-hot rows.
    weights : array, optional
        As in :func:`accuracy`.
    average : "macro", "weighted" or None
        "macro": mean over classes or labels. "weighted": mean weighted by their positives. None: no
        average. Two classes have a single value.
    logits : bool
        Whether the outputs are logits of classes, which are ranked by their softmax.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1; ½ for scores without information; NaN without positives or
        negatives, and such a class does not count in the mean; NaN if a score is NaN.

    Raises
    ------
    ValueError
        As in :func:`accuracy`, and if outputs for class ids are not probabilities.

    References
    ----------
    Hanley, McNeil: The meaning and use of the area under a receiver operating characteristic (ROC)
    curve, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    return _ranked("roc_auc", outputs, targets, weights, logits)


@metric(_ap, joined, each_step=False)
def average_precision(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    average: Average = "macro",
    logits: bool = False,
) -> Parts:
    """Mean of the precisions at all recalls, ``a = Σₙ (Rₙ - Rₙ₋₁) Pₙ``.

    The precision `P` and the recall `R` are of the examples with at least the n-th highest score.

    Parameters
    ----------
    outputs, targets, weights, average, logits
        As in :func:`roc_auc`.

    Returns
    -------
    float, or array (classes,) where `average` is None
        From 0 to 1; 0 without positives, which counts in the mean; NaN if a score is NaN.

    References
    ----------
    Zhu: Recall, precision and average precision, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> round(F.average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])), 4)
    0.8333
    """
    return _ranked("average_precision", outputs, targets, weights, logits)
