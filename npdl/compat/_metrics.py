"""Metrics of a model by name, for outputs that are probabilities or numbers.

Each is a metric of `npdl.functional` for targets in any form that a model accepts: an axis of
length one is added or removed, and class labels may be floats. All take weights.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.compat._checks import Array, as_targets
from npdl.functional.metrics._metric import quotient, recorded
from npdl.functional.metrics._scores import weighted_sums
from npdl.training._evaluation import tiled
from npdl.training._scores import Metrics, Scores, check_metrics, number_of
from npdl.training._trial import check_merging
from npdl.tree import Tree

__all__ = ["METRICS", "accuracy", "as_metrics", "can_be_classes", "metric_of", "try_metrics"]


def accuracy(outputs: Any, targets: Any, weights: Any = None) -> float:
    """Return the fraction of rows whose largest entry is in the target's column.

    For outputs with a single column, an output counts if both it and its target are above 0.5, or
    neither is.

    Parameters
    ----------
    outputs : array
        A score for each class, on the last axis.
    targets : array
        One-hot rows, or class indices.
    weights : array, optional
        A weight for each row.

    Examples
    --------
    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    scores, given = np.asarray(outputs), np.asarray(targets)
    if scores.shape[-1:] == (1,) and given.size == scores.size:
        return _binary_share("accuracy", scores, given, weights)
    if given.shape == (*scores.shape[:-1], 1):
        given = given[..., 0]
    labels = given.argmax(axis=-1) if given.ndim == scores.ndim else given
    if labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"accuracy: expected a one-hot row or a class for each row of outputs, got the shapes "
            f"{scores.shape} and {given.shape}"
        )
    return float(quotient(_sums(scores.argmax(axis=-1) == labels, weights)))


def binary_accuracy(outputs: Any, targets: Any, weights: Any = None) -> float:
    """Return the fraction of outputs that are on the same side of 0.5 as their targets.

    Parameters
    ----------
    outputs : array
        Probabilities.
    targets : array
        0 or 1 for each output.
    weights : array, optional
        A weight for each row.

    Examples
    --------
    >>> binary_accuracy([[0.1, 0.9], [0.8, 0.2]], [[0, 1], [1, 1]])
    0.75
    """
    return _binary_share("binary_accuracy", np.asarray(outputs), np.asarray(targets), weights)


def _binary_share(name: str, scores: Array, given: Array, weights: Any) -> float:
    if scores.size != given.size:
        raise ValueError(
            f"{name}: expected 0 or 1 for each output, got the shapes {scores.shape} and "
            f"{given.shape}"
        )
    return float(quotient(_sums((scores > 0.5) == (given.reshape(scores.shape) > 0.5), weights)))


def _sums(values: Array, weights: Any) -> tuple[float, float]:
    """Return the sums of values and weights; a weight of 0 leaves out NaN, too."""
    if weights is None:
        return weighted_sums(values, None)
    each = np.asarray(weights, np.float64).reshape(-1, *[1] * (values.ndim - 1))
    return weighted_sums(np.where(each > 0, values, 0), each)


def can_be_classes(outputs: Any, targets: Any) -> bool:
    """Whether outputs have several columns and targets fit them, so that an accuracy is defined."""
    shape = np.shape(outputs)
    return len(shape) > 1 and shape[-1] > 1 and np.shape(targets) in (shape, shape[:-1])


def _of_classes(inner: F.Metric, **single: Any) -> F.Metric:
    """Return a metric of classes; with one column, of the class 1, with options `single`."""

    def sums(outputs: Any, targets: Any, weights: Any = None) -> Tree:
        p, t = np.asarray(outputs), np.asarray(targets)
        if p.shape[-1:] != (1,):
            t = as_targets(True, p.shape[1:], t)
            if inner not in (F.roc_auc, F.average_precision):
                _check_rows(inner, p, t, weights)
            return inner.sums(p, t, weights)
        return inner.sums(p, t.reshape(p.shape) if t.size == p.size else t, weights, **single)

    return F.Metric(sums, inner.result, inner.merge, inner.each_step)


def _check_rows(metric: F.Metric, outputs: Array, targets: Array, weights: Any) -> None:
    """Raise if targets have several classes per example, or none, unless the weight is 0."""
    if targets.shape != outputs.shape:
        return
    sums = targets.sum(axis=-1)
    wrong = np.abs(sums - 1) > 1e-3
    if weights is not None:
        wrong &= np.asarray(weights).reshape(-1, *[1] * (sums.ndim - 1)) > 0
    if wrong.any():
        raise ValueError(
            f"{metric!r}: expected one class for each example, got a row of targets with the sum "
            f"{sums[wrong][0]:.4g}; for labels, use 'auc', 'binary_accuracy', or a metric with a "
            f"threshold, functools.partial(F.f1_score, average='binary', threshold=0.5)"
        )


def _of_class_one(inner: F.Metric) -> F.Metric:
    """Return a mean over classes; with one column, its value for the class 1."""
    of_classes = _of_classes(inner, threshold=0.5)

    def sums(outputs: Any, targets: Any, weights: Any = None) -> Tree:
        counts = of_classes.sums(outputs, targets, weights)
        return tuple(count[1:] for count in counts) if np.shape(outputs)[-1] == 1 else counts

    return F.Metric(sums, inner.result, inner.merge)


def _of_numbers(inner: Callable[..., Tree], *rest: Any) -> F.Metric:
    """Return a metric of numbers."""

    def sums(outputs: Any, targets: Any, weights: Any = None) -> Tree:
        p = np.asarray(outputs)
        return inner(p, as_targets(False, p.shape[1:], np.asarray(targets)), weights)

    return F.Metric(sums, *rest)


def _squares(outputs: Array, targets: Array, weights: Any) -> tuple[float, float]:
    if outputs.shape != targets.shape:
        raise ValueError(
            f"expected targets of the shape of the outputs, {outputs.shape}, got {targets.shape}"
        )
    return _sums(np.subtract(outputs, targets, dtype=np.float64) ** 2, weights)


def _root(sums: tuple[float, float]) -> float:
    return float(np.sqrt(sums[0] / sums[1])) if sums[1] else 0.0


_ABSOLUTE, _SQUARE = _of_numbers(F.absolute_error.sums), _of_numbers(_squares)
_TOP_K, _F1 = _of_classes(F.top_k_accuracy), _of_class_one(F.f1_score)
_AUC, _AP = _of_classes(F.roc_auc), _of_classes(F.average_precision)
_MATTHEWS = _of_classes(F.matthews_correlation, threshold=0.5)
_R2 = _of_numbers(F.r2_score.sums, F.r2_score.result, F.r2_score.merge)

# Metrics by name; errors are means over all elements.
METRICS: Metrics = {
    **dict.fromkeys(("accuracy", "acc", "categorical_accuracy"), accuracy),
    "sparse_categorical_accuracy": accuracy,
    "binary_accuracy": binary_accuracy,
    **dict.fromkeys(("top_k_categorical_accuracy", "top_k_accuracy"), _TOP_K),
    "sparse_top_k_categorical_accuracy": _TOP_K,
    "precision": _of_class_one(F.precision),
    "recall": _of_class_one(F.recall),
    **dict.fromkeys(("f1", "f1_score"), _F1),
    **dict.fromkeys(("auc", "roc_auc"), _AUC),
    "average_precision": _AP,
    **dict.fromkeys(("mcc", "matthews_correlation"), _MATTHEWS),
    "perplexity": _of_classes(F.perplexity),
    "calibration_error": _of_classes(F.calibration_error),
    **dict.fromkeys(("mae", "mean_absolute_error"), _ABSOLUTE),
    **dict.fromkeys(("mse", "mean_squared_error"), _SQUARE),
    **dict.fromkeys(("rmse", "root_mean_squared_error"), _of_numbers(_squares, _root)),
    **dict.fromkeys(("r2", "r2_score"), _R2),
}
_KNOWN = {name.replace("_", ""): known for name, known in METRICS.items()}


def metric_of(name: str) -> Any:
    """Return a metric by its name, or by Keras's name of its class; `None` for other names."""
    return _KNOWN.get(name.replace("_", "").lower())


for _name, _metric in METRICS.items():
    if isinstance(_metric, F.Metric):
        recorded(_metric, metric_of, _name)


def as_metrics(metrics: Any) -> Metrics:
    """Return a dict of metric functions, from a name, a function, a list of both, or a dict."""
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        named = {name: isinstance(f, str) and metric_of(f) for name, f in metrics.items()}
        return check_metrics({name: named[name] or f for name, f in metrics.items()})
    found: dict[str, Callable[..., Any]] = {}
    if not (callable(metrics) or isinstance(metrics, Iterable)):
        raise TypeError(
            f"metrics must be a list of names and functions, as in metrics=['accuracy'], got "
            f"{metrics!r:.80}"
        )
    for each in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if isinstance(each, str) and (known := metric_of(each)) is not None:
            found["accuracy" if each == "acc" else each] = known
        elif callable(each):
            found[getattr(each, "__name__", str(each))] = each
        else:
            raise ValueError(
                f"unknown metric {each!r}: expected one of {', '.join(METRICS)}, or a function "
                f"of outputs and targets"
            )
    return check_metrics(found)


def try_metrics(
    metrics: Metrics,
    probe: Callable[[Array], Array],
    data: tuple[Any, ...],
    validation: Any,
    batch_size: int,
) -> None:
    """Raise if a metric fails on the validation data, or cannot be averaged over batches.

    Parameters
    ----------
    metrics : dict of callables
        The metrics.
    probe : callable
        Returns outputs for inputs without an update.
    data, validation : tuple of arrays
        Inputs, targets and weights; the validation data may be `None`.
    batch_size : int
        The number of examples whose outputs are computed.
    """
    scores = Scores(metrics, 2)
    if validation is not None:
        outputs = tiled(probe(validation[0][:batch_size]), len(validation[0]))
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                for name, value in scores.values(outputs, validation).items():
                    number_of(name, value)
        except Exception as error:
            error.add_note("found before the first step, with the validation data")
            raise
    if scores.tried:
        check_merging(
            scores,
            probe(data[0][:batch_size]),
            lambda rows: tuple(None if each is None else each[rows] for each in data[1:]),
            len(data[0]),
        )
