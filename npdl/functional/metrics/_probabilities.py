"""Metrics of probabilities: perplexity and calibration error.

The outputs are probabilities, or logits with ``logits=True``. Other outputs are errors: rows of
probabilities are in [0, 1], and their sum is 1. Values are computed in float64.
"""

from typing import Any

import numpy as np

from npdl.functional._checks import check_int
from npdl.functional._targets import check_probabilities, class_items, labels_of, value_items
from npdl.functional.metrics._metric import metric
from npdl.tree import Array

__all__ = [
    "binary_items",
    "calibration_error",
    "is_binary",
    "perplexity",
    "rows_of_probabilities",
]

# Largest deviation of a row's sum from 1, for softmax in low precision.
_TOLERANCE = 1e-3


def rows_of_probabilities(name: str, outputs: Array, weights: Array | None, logits: bool) -> Array:
    """Return outputs as rows of probabilities in float64; rows of weight 0 are not checked.

    Raises
    ------
    ValueError
        If the outputs are not probabilities, and `logits` is false.
    """
    rows = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
    if logits:
        with np.errstate(invalid="ignore"):  # from -inf - -inf
            rows -= rows.max(axis=1, keepdims=True)
        np.exp(rows, out=rows)
        rows /= rows.sum(axis=1, keepdims=True)
        return rows
    hint = f"for logits, pass {name}(..., logits=True)"
    check_probabilities(name, "outputs", rows, hint)
    sums = rows.sum(axis=1)
    wrong = np.abs(sums - 1) > _TOLERANCE
    if weights is not None:
        wrong &= weights > 0
    if wrong.any():
        raise ValueError(
            f"{name}: expected probabilities of classes, whose sum is 1, got a row with the sum "
            f"{sums[wrong][0]:.4g}; {hint}"
        )
    return rows


def binary_items(
    name: str, outputs: Any, targets: Any, weights: Any
) -> tuple[Array, Array, Array | None]:
    """Return outputs for one class, their targets in [0, 1], and weights, as vectors in float64."""
    p, t, each = value_items(name, outputs, targets, weights)
    check_probabilities(name, "targets", t, "a target is 0 or 1, or between")
    if each is not None:
        each = np.broadcast_to(each, p.shape).reshape(-1)
    p, t = (array.reshape(-1).astype(np.float64) for array in (p, t))
    return p, t, each


def is_binary(outputs: Any) -> bool:
    """Whether outputs have one number per item, for the class 1 of two classes."""
    shape = np.shape(outputs)
    return len(shape) < 2 or shape[-1] == 1


def _exponential(sums: tuple[float, float], **options: Any) -> float:
    total, weight = sums
    with np.errstate(over="ignore"):
        return float(np.exp(total / weight if weight else 0.0))


@metric(_exponential)
def perplexity(
    outputs: Array, targets: Any, weights: Any = None, *, logits: bool = False
) -> tuple[float, float]:
    """Exponential of the mean cross-entropy, ``r = exp(-Σᵢ wᵢ log pᵢ / Σᵢ wᵢ)``.

    The `p` are the probabilities of the targets.

    Parameters
    ----------
    outputs : array of floats (batch, ..., classes)
        Probabilities, whose sum is 1; or logits.
    targets, weights : arrays
        As in :func:`accuracy`.
    logits : bool
        Whether the outputs are logits.

    Returns
    -------
    float
        From 1 for certain and correct predictions; the number of classes for uniform
        probabilities; inf if a target has the probability 0. It is 1 if all weights are 0.

    Raises
    ------
    ValueError
        As in :func:`accuracy`, and if the outputs are not probabilities.

    References
    ----------
    Jelinek, Mercer, Bahl, Baker: Perplexity – a measure of the difficulty of speech recognition
    tasks, 1977.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> round(F.perplexity(np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 0])), 4)
    2.8284
    """
    name = "perplexity"
    outputs, given, each = class_items(name, outputs, targets, weights)
    rows = np.arange(given.shape[0]), labels_of(given)
    if logits:
        z = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
        with np.errstate(invalid="ignore"):  # from -inf - -inf
            z -= z.max(axis=1, keepdims=True)
        entropies = np.log(np.exp(z).sum(axis=1)) - z[rows]
    else:
        p = rows_of_probabilities(name, outputs, each, logits)[rows]
        with np.errstate(divide="ignore"):
            entropies = -np.log(p)
    if each is None:
        return float(entropies.sum()), float(entropies.size)
    entropies[each == 0] = 0
    return float(entropies @ each), float(each.sum())


def _mean_gap(sums: tuple[Array, float], bins: int = 15, logits: bool = False) -> float:
    gaps, weight = sums
    return float(np.abs(gaps).sum() / weight) if weight else 0.0


@metric(_mean_gap)
def calibration_error(
    outputs: Array, targets: Any, weights: Any = None, *, bins: int = 15, logits: bool = False
) -> tuple[Array, float]:
    """Mean difference of confidence and accuracy over bins of equal confidence.

    ``e = Σₖ |Σᵢ wᵢ (aᵢ - pᵢ)| / Σᵢ wᵢ``. The inner sum is over the predictions of bin k, with their
    probability `p`, and `a` of 1 if correct and 0 if not. The bins divide [0, 1] into equal
    intervals, which contain their upper bound.

    Parameters
    ----------
    outputs : array of floats (batch, ..., classes), (batch,) or (batch, ..., 1)
        Probabilities, whose sum is 1; the predicted class is the one with the highest. Or the
        probability of the class 1 of two classes, with targets of the same shape. Then `p` is this
        probability, and `a` is the target. Or logits of either form.
    targets, weights : arrays
        As in :func:`accuracy`; as in :func:`binary_accuracy` for one probability per example.
    bins : int
        The number of intervals.
    logits : bool
        Whether the outputs are logits.

    Returns
    -------
    float
        From 0, for perfect calibration, to 1.

    Raises
    ------
    ValueError
        As in :func:`accuracy`, and if the outputs are not probabilities.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, 2017, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))
    0.25
    """
    name = "calibration_error"
    bins = check_int(bins, f"{name}(p, t, bins=15)")
    if is_binary(outputs):
        p, hits, each = binary_items(name, outputs, targets, weights)
        if logits:
            p = 0.5 + 0.5 * np.tanh(p / 2)
        check_probabilities(name, "outputs", p, f"for logits, pass {name}(..., logits=True)")
    else:
        outputs, given, each = class_items(name, outputs, targets, weights)
        rows = rows_of_probabilities(name, outputs, each, logits)
        predicted = rows.argmax(axis=1)
        p = rows[np.arange(len(rows)), predicted]
        hits = (predicted == labels_of(given)).astype(np.float64)
    gaps = hits - p if each is None else (hits - p) * each
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p)
    return np.bincount(index, gaps, bins), float(len(p) if each is None else each.sum())
