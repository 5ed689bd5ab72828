"""The trial of metrics before the first step: parts of the examples must give the whole value.

The value of an epoch is merged from batches and shards. A function that returns no mean over the
examples, such as an F1 score, would be averaged to a wrong value. So each metric of the user is
computed for some examples at once, and merged from two parts of them.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdl import tree
from npdl.training._evaluation import tiled
from npdl.training._scores import Scores, number_of
from npdl.tree import Array

__all__ = ["check_merging", "spread"]

# Rounding of float32 may change a mean by this factor; other functions change it much more.
_TOLERANCE = 1e-5
# At most this number of examples is tried, fewer if their outputs have more numbers than this.
_EXAMPLES, _NUMBERS = 1024, 1 << 22


def spread(count: int, most: int) -> Array:
    """Return at most so many numbers of examples, in rising order, evenly spread."""
    size = min(count, most)
    return np.arange(size) * count // size


def check_merging(
    scores: Scores, outputs: Any, targets_of: Callable[[Array], tuple[Any, ...]], count: int
) -> None:
    """Raise if the value of a metric differs from the value that is merged from two parts.

    Metrics of npdl are not tried. A metric that raises is left to the first step.

    Parameters
    ----------
    scores : Scores
        The metrics.
    outputs : tree
        Outputs for a few examples.
    targets_of : callable
        Returns the targets of examples for an array of their numbers.
    count : int
        The number of examples.

    Raises
    ------
    ValueError
        With the name of the metric, its values, and the alternatives.
    """
    numbers = sum(y[0].size for y in tree.leaves(outputs))
    rows = spread(count, max(4, min(_EXAMPLES, _NUMBERS // max(numbers, 1))))
    targets, size = targets_of(rows), len(rows)
    if size < 2 or not targets:
        return
    order = np.argsort(tree.leaves(targets[0])[0].reshape(size, -1)[:, 0], kind="stable")
    targets = tuple(tree.map(lambda array: array.take(order, axis=0), targets))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for tried in _tried_outputs(tiled(outputs, size), targets[0]):
            for name in scores.tried:
                _try(scores, name, tried, (None, *targets), size)


def _tried_outputs(outputs: Any, targets: Any) -> Iterator[Any]:
    """Yield outputs in float64: the given ones, and permuted ones with a better first part."""
    outputs = tree.map(lambda y: y.astype(np.float64) if y.dtype.kind == "f" else y, outputs)
    yield outputs
    if not (isinstance(outputs, np.ndarray) and isinstance(targets, np.ndarray)):
        return
    rows, mixed = np.arange(len(outputs)), outputs
    if outputs.ndim > 1:
        width = outputs.shape[-1]
        columns = (np.arange(width) + rows.reshape(-1, *[1] * (outputs.ndim - 1))) % width
        mixed = np.take_along_axis(outputs, np.broadcast_to(columns, outputs.shape), axis=-1)
        if targets.shape == outputs.shape[:-1] and targets.dtype.kind in "iu":
            targets = np.equal(targets[..., None], np.arange(width))
    if targets.shape == outputs.shape:
        mixed = mixed.copy()
        mixed[: _cut(len(mixed)) : 2] = targets[: _cut(len(mixed)) : 2]
    yield mixed


def _cut(count: int) -> int:
    """Return the number of examples of the first part."""
    return max(1, count // 3)


def _try(scores: Scores, name: str, outputs: Any, batch: tuple[Any, ...], count: int) -> None:
    metric, cut = scores.metrics[name], _cut(count)
    is_metric = not scores.is_averaged(name)

    def sums(rows: slice) -> Any:
        part = tuple(tree.map(lambda array: array[rows], batch))
        return scores.sums_of(name, tree.map(lambda y: y[rows], outputs), part)

    try:
        whole = sums(slice(None))
        expected = number_of(name, metric.result(whole))
        parts = [sums(slice(cut)), sums(slice(cut, None))]
        values = [number_of(name, metric.result(part)) for part in parts]
    except Exception:
        return
    try:
        found = number_of(name, metric.result(metric.merge(*parts)))
    except Exception as error:
        error.add_note(_explained(name, is_metric, values, count, None, expected))
        raise
    scale = max(map(abs, (expected, *values)))
    same = found == expected or (math.isnan(found) and math.isnan(expected))
    if not same and not abs(found - expected) <= _TOLERANCE * scale:
        raise ValueError(_explained(name, is_metric, values, count, found, expected))


def _explained(
    name: str,
    is_metric: bool,
    values: list[float],
    count: int,
    found: float | None,
    expected: float,
) -> str:
    parts = f"for two parts of {count} examples it returns {values[0]:.4g} and {values[1]:.4g}, "
    merged = "merged" if is_metric else "their weighted mean is"
    parts += "" if found is None else f"{merged} {found:.4g}, "
    parts += f"but it returns {expected:.4g} for all of them"
    if is_metric:
        return (
            f"the metric {name!r} cannot be merged from batches: {parts}; its sums must be sums "
            f"over the examples, or its merge must combine them; F.collected(function) is a metric "
            f"of all outputs and targets at once"
        )
    return (
        f"the metric {name!r} is not a mean over the examples, and cannot be averaged over "
        f"batches: {parts}; pass a metric of npdl, such as F.f1_score or F.roc_auc, sums with "
        f"F.Metric(sums, result), or F.collected(function), which keeps all outputs and targets"
    )
