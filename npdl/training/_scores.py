"""The loss and the metrics of batches: their weights, and their sums over an epoch."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl import tree
from npdl.functional.metrics._metric import Metric
from npdl.tree import Tree

__all__ = [
    "Metrics",
    "Scores",
    "Sums",
    "check_loss",
    "check_metrics",
    "index_of_weights",
    "mean_sums",
    "merged",
    "number_of",
    "results",
]

Metrics: TypeAlias = Mapping[str, Callable[..., Any]]
Sums: TypeAlias = dict[str, Tree]


def check_metrics(metrics: Any) -> Metrics:
    """Return metrics as a dict, empty for `None`; raise unless it maps names to functions."""
    call = 'metrics={"accuracy": F.accuracy}'
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict of functions, as in {call}, got {metrics!r}")
    for name, function in metrics.items():
        if not isinstance(name, str) or not callable(function):
            raise TypeError(
                f"metrics: expected a string and a function, as in {call}, got {name!r} and "
                f"{function!r}"
            )
        if name == "loss" or name.startswith("val_"):
            raise ValueError(
                f"metrics: {name!r} is the name of a value that fit reports anyway; rename the "
                f"metric"
            )
    return metrics


class Scores:
    """The metrics of batches ``(x, *targets)``, and the weight of a batch in their means.

    Parameters
    ----------
    metrics : dict of callables
        Metrics, partials of metrics, or functions that return the mean over a batch.
    weights_index : int, optional
        The index of the weights in a batch; `None` without weights.
    numbers : bool
        Whether each result must be a number. This is checked on the first batch, before its
        update.
    """

    def __init__(self, metrics: Metrics, weights_index: int | None, numbers: bool = False) -> None:
        self.weights_index, self._unchecked = weights_index, numbers
        self._scored = {name: _scored(function) for name, function in metrics.items()}
        self.metrics = {"loss": Metric(mean_sums)}
        self.metrics |= {name: scored.metric for name, scored in self._scored.items()}

    def weight(self, *batch: Any) -> float:
        """Return the sum of the weights of a batch; without weights, the number of examples."""
        weights = (
            batch[self.weights_index]
            if self.weights_index is not None and len(batch) > self.weights_index
            else None
        )
        if weights is not None:
            return float(np.sum(weights, dtype=np.float64))
        return float(len(batch[0]) if type(batch[0]) is np.ndarray else _count(batch[0]))

    def sums(self, outputs: Any, batch: tuple[Any, ...]) -> Sums:
        """Return the sums of all metrics on a batch."""
        sums: Sums = {}
        for name, scored in self._scored.items():
            sums[name] = scored.call(name, scored.metric.sums, outputs, batch, self.weights_index)
        if self._unchecked:
            results(self.metrics, sums)
            self._unchecked = False
        return sums

    def sums_of(self, name: str, outputs: Any, batch: tuple[Any, ...]) -> Tree:
        """Return the sums of one metric on a batch."""
        scored = self._scored[name]
        return scored.call(name, scored.metric.sums, outputs, batch, self.weights_index)

    def is_averaged(self, name: str) -> bool:
        """Whether a metric is a function whose values are averaged over batches."""
        return self._scored[name].averaged

    @property
    def tried(self) -> list[str]:
        """The names of the metrics that are not of npdl, and so need a trial."""
        return [name for name, scored in self._scored.items() if not scored.is_own]

    def values(self, outputs: Any, batch: tuple[Any, ...]) -> dict[str, Any]:
        """Return the values of all metrics on a batch."""
        return {
            name: scored.call(name, scored.function, outputs, batch, self.weights_index)
            for name, scored in self._scored.items()
        }


def merged(metrics: Mapping[str, Metric], a: Sums, b: Sums) -> Sums:
    """Return the sums of metrics over the examples of `a` and `b`."""
    return {name: metrics[name].merge(a[name], b[name]) for name in a}


def results(metrics: Mapping[str, Metric], sums: Sums) -> dict[str, Any]:
    """Return the results of metrics, or raise unless each is a number."""
    found: dict[str, Any] = {}
    for name, each in sums.items():
        try:
            found[name] = number_of(name, metrics[name].result(each))
        except Exception as error:
            error.add_note(f"in the metric {name!r}")
            raise
    return found


def number_of(name: str, value: Any) -> float:
    """Return the value of a metric as a float, or raise unless it is a number."""
    if type(value) is float:
        return value
    if np.ndim(value):
        raise TypeError(
            f"the metric {name!r} of a batch must be a number, got an array of shape "
            f"{np.shape(value)}; an epoch has one number per metric, and evaluate takes arrays, too"
        )
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"the metric {name!r} must be a number, got {value!r:.80}") from None


def mean_sums(value: Any, weight: float) -> tuple[Any, float]:
    """Return (mean · weight, weight); with a weight of 0, the mean counts as 0."""
    if not weight:
        return 0.0, weight
    if getattr(value, "ndim", 0):  # a tenth of the time of np.ndim
        return np.asarray(value, np.float64) * weight, weight
    return float(value) * weight, weight


def check_loss(loss: Callable[..., Any]) -> None:
    """Raise if a loss is bound to return a value for each example."""
    if isinstance(loss, functools.partial) and loss.keywords.get("per_example"):
        raise ValueError(
            f"training needs the mean of the loss, got {loss!r}; leave out per_example=True"
        )


def index_of_weights(loss: Callable[..., Any] | None) -> int | None:
    """Return the index of the weights in ``(x, *targets)``, or `None`.

    It is the position of the argument `weights` of the loss. The loss is then a mean over the
    examples, weighted by `weights`. Without a loss, the index is 2, as for the metrics of npdl.
    """
    if loss is None:
        return 2
    names = [parameter.name for parameter in _parameters(loss)]
    return names.index("weights") if "weights" in names else None


@attrs.frozen(eq=False, repr=False)
class _Scored:
    """A function as a metric, its number of targets, and whether it takes weights.

    It is averaged over batches unless it is a :class:`Metric`.
    """

    function: Callable[..., Any]
    metric: Metric
    targets: int
    weighted: bool
    averaged: bool

    @property
    def is_own(self) -> bool:
        """Whether it is a metric of npdl."""
        inner = _inner(self.function)
        used = [inner]
        if isinstance(inner, Metric):
            used = [_inner(f) for f in (inner.sums, inner.result, inner.merge)]
        return all(str(getattr(f, "__module__", "")).startswith("npdl.") for f in used)

    def call(
        self,
        name: str,
        function: Callable[..., Any],
        outputs: Any,
        batch: tuple[Any, ...],
        weights_index: int | None,
    ) -> Any:
        """Call the function, or the sums of the metric, with the outputs and the data."""
        try:
            if weights_index is None or len(batch) <= weights_index:
                return function(outputs, *batch[1 : 1 + self.targets])
            targets = (*batch[1:weights_index], *batch[weights_index + 1 :])[: self.targets]
            if self.weighted and batch[weights_index] is not None:
                return function(outputs, *targets, weights=batch[weights_index])
            return function(outputs, *targets)
        except Exception as error:
            error.add_note(f"in the metric {name!r}")
            raise


def _scored(function: Callable[..., Any]) -> _Scored:
    named = [p for p in _parameters(function) if p.name != "weights"]
    positional = [p for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    weighted = any(p.name == "weights" for p in _parameters(function))
    # A metric gets one target, even if the argument is optional; it gets more if they are required.
    metric, averaged = _as_metric(function, weighted), not isinstance(_inner(function), Metric)
    return _Scored(function, metric, max(1, required - 1), weighted, averaged)


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _as_metric(function: Callable[..., Any], weighted: bool) -> Metric:
    if isinstance(function, Metric):
        return function
    inner = function.func if isinstance(function, functools.partial) else None
    if isinstance(inner, Metric) and not function.args:  # type: ignore[attr-defined]
        return inner.bound(**function.keywords)  # type: ignore[attr-defined]

    def sums(outputs: Any, *targets: Any, **weights: Any) -> Any:
        given = weights.get("weights")
        weight = float(_count(outputs) if given is None else np.sum(given, dtype=np.float64))
        # A function may fail on a mean over no examples, so it is not called.
        value = function(outputs, *targets, **weights) if weight else 0.0
        return mean_sums(value, weight)

    return Metric(sums)


def _count(arrays: Any) -> int:
    """Return the number of examples."""
    return len(tree.leaves(arrays)[0])


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function in C may have no signature
        return []
