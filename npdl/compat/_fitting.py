"""Training of models: the split of data, batches, metrics, and the line of an iteration."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO

import attrs
import numpy as np

import npdl.functional as F
from npdl.checkpoint._files.limits import CheckpointError
from npdl.compat._checks import Array
from npdl.compat.utils._states import read_generator
from npdl.compat.utils.random import get_rng, get_state, set_state
from npdl.training._scores import Metrics, Scores, Sums, check_metrics

__all__ = [
    "METRICS",
    "Lines",
    "Metrics",
    "Training",
    "accuracy",
    "as_metrics",
    "batch_count",
    "batches",
    "can_be_classes",
    "line",
    "split",
    "weighted",
]


def split(data: tuple[Any, ...], fraction: float) -> tuple[tuple[Any, ...], Any]:
    """Cut a fraction off the end; `None`, if that is less than one example."""
    if not isinstance(fraction, int | float | np.number) or not 0 <= fraction < 1:
        raise ValueError(f"validation_split must be from 0 to below 1, got {fraction!r}")
    count = len(data[0])
    kept = count - int(count * fraction)
    if kept == count:
        return data, None
    x, y, _ = _rows(data, slice(kept, None))
    return _rows(data, slice(kept)), (x, y, None)


def batches(
    data: tuple[Any, ...], size: int, order: Array | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the parts of arrays; without an order, nothing is copied.

    A last example that is left over joins the part before, since a single one has no variance,
    which a batch normalization needs.
    """
    count = len(data[0])
    joins = _joins(count, size)
    for start in range(0, count - joins, size):
        part = slice(start, count if joins and start + size == count - 1 else start + size)
        yield _rows(data, part if order is None else order[part])


def batch_count(count: int, size: int) -> int:
    """Return how many parts :func:`batches` yields."""
    return -(-(count - _joins(count, size)) // size)


def _joins(count: int, size: int) -> bool:
    return count % size == 1 and count > size > 1


def _rows(data: tuple[Any, ...], rows: Any) -> tuple[Any, ...]:
    return tuple(None if array is None else array[rows] for array in data)


def weighted(values: Array, weight: Array | None) -> Array:
    """Multiply the values of each example by its weight; a weight of 0 gives 0, of NaN too."""
    if weight is None:
        return values
    factor, zeros = weight.reshape(-1, *[1] * (values.ndim - 1)), np.zeros_like(values)
    return np.multiply(values, factor, dtype=values.dtype, out=zeros, where=factor != 0)


def accuracy(outputs: Any, targets: Any) -> float:
    """Return the fraction of rows whose largest entry is in the target's column.

    Of outputs with a single column, those count that are on the target's side of 0.5.

    Parameters
    ----------
    outputs : array
        A score for each class, on the last axis.
    targets : array
        One-hot rows, or class indices.

    Examples
    --------
    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    scores, given = np.asarray(outputs), np.asarray(targets)
    if scores.shape[-1:] == (1,) and given.size == scores.size:
        return binary_accuracy(scores, given)
    if given.shape == (*scores.shape[:-1], 1):
        given = given[..., 0]
    labels = given.argmax(axis=-1) if given.ndim == scores.ndim else given
    if labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"accuracy: expected a one-hot row or a class for each row of outputs, got the shapes "
            f"{scores.shape} and {given.shape}"
        )
    return float(np.mean(scores.argmax(axis=-1) == labels))


def binary_accuracy(outputs: Any, targets: Any) -> float:
    """Return the fraction of all outputs that are on their target's side of 0.5.

    Parameters
    ----------
    outputs : array
        Probabilities.
    targets : array
        0 or 1 for each output.

    Examples
    --------
    >>> binary_accuracy([[0.1, 0.9], [0.8, 0.2]], [[0, 1], [1, 1]])
    0.75
    """
    scores, given = np.asarray(outputs), np.asarray(targets)
    if scores.size != given.size:
        raise ValueError(
            f"binary_accuracy: expected 0 or 1 for each output, got the shapes {scores.shape} and "
            f"{given.shape}"
        )
    return float(np.mean((scores.ravel() > 0.5) == (given.ravel() > 0.5)))


def can_be_classes(outputs: Any, targets: Any) -> bool:
    """Whether an accuracy of such outputs says something: there are columns to choose from."""
    shape = np.shape(outputs)
    return len(shape) > 1 and shape[-1] > 1 and np.shape(targets) in (shape, shape[:-1])


def _mean_of(loss: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda outputs, targets: loss(outputs, targets)[0]


def as_metrics(metrics: Any) -> Metrics:
    """Return functions by name, from a name, a list of names and functions, or a dict."""
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        return check_metrics(metrics)
    found: dict[str, Callable[[Any, Any], Any]] = {}
    if not (callable(metrics) or isinstance(metrics, Iterable)):
        raise TypeError(
            f"metrics must be a list of names and functions, as in metrics=['accuracy'], got "
            f"{metrics!r:.80}"
        )
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if isinstance(metric, str) and metric in METRICS:
            found["accuracy" if metric == "acc" else metric] = METRICS[metric]
        elif callable(metric):
            found[getattr(metric, "__name__", str(metric))] = metric
        else:
            raise ValueError(
                f"unknown metric {metric!r}: expected one of {', '.join(METRICS)}, or a function "
                f"of outputs and targets"
            )
    return check_metrics(found)


# The metrics that have a name; errors are means over all elements.
METRICS: Metrics = {
    **dict.fromkeys(("accuracy", "acc", "categorical_accuracy"), accuracy),
    "binary_accuracy": binary_accuracy,
    "sparse_categorical_accuracy": accuracy,
    **dict.fromkeys(("mae", "mean_absolute_error"), _mean_of(F.mean_absolute_error)),
    **dict.fromkeys(("mse", "mean_squared_error"), _mean_of(F.mean_squared_error)),
}


def line(epoch: int, logs: Mapping[str, float]) -> str:
    r"""Return the line of an iteration, in the form that scripts may read.

    Examples
    --------
    >>> line(0, {"loss": 2.3, "accuracy": 0.1})
    'iter 1, train-[loss 2.3000, acc 0.1000]; '
    """
    parts = []
    for part, prefix in (("train", ""), ("valid", "val_")):
        figures = [
            f"{short} {logs[prefix + name]:.4f}"
            for short, name in (("loss", "loss"), ("acc", "accuracy"))
            if prefix + name in logs
        ]
        if figures:
            parts.append(f"{part}-[{', '.join(figures)}]; ")
    return f"iter {epoch + 1}, {''.join(parts)}"


@attrs.define(eq=False, repr=False)
class Training:
    """A model and its data, in the form that the loop of `npdl.training._loop` trains."""

    model: Any
    data: tuple[Any, ...]
    validation: Any
    figures: Metrics
    scores: Scores
    batch_size: int
    shuffle: bool
    # The generator's state before it drew the order of the epoch.
    before: str = ""

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, int]]:
        """Yield the batches of an epoch from number `first` on, each with its size."""
        now = get_state()
        if first:
            set_state(self.before)
        else:
            self.before = now
        order = get_rng().permutation(len(self.data[0])) if self.shuffle else None
        if first:
            set_state(now)
        parts = batches(self.data, self.batch_size, order)
        return ((part, len(part[0])) for part in itertools.islice(parts, first, None))

    @property
    def view(self) -> Any:
        """What callbacks see: the model."""
        return self.model

    def step(self, batch: Any, size: int) -> Sums:
        """Make a step, and return the sums of the loss and of the metrics of the batch."""
        return self.model._step(*batch, self.scores)[1]  # type: ignore[no-any-return]

    def validate(self) -> dict[str, float]:
        """Return the metrics of the validation data, if there are any."""
        if self.validation is None:
            return {}
        x, y, weight = self.validation
        return self.model._evaluated(  # type: ignore[no-any-return]
            x, y, self.figures, self.batch_size, weight
        )

    def snapshot(self) -> dict[str, Any]:
        """Return all state that decides the next step; `Model.load` reads its checkpoint."""
        try:
            config = self.model.to_json()
        except (NotImplementedError, TypeError):
            config = ""  # a layer of the user's has arguments that JSON has no form for
        return {"config": config, **self.model._progress(), "before": self.before}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot, whose generators are read before anything is changed."""
        try:
            for state in filter(None, (snapshot["generator"], snapshot["before"])):
                read_generator(state)
            self.model._take(snapshot)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is damaged: {error}") from error
        self.before = snapshot["before"]
        set_state(snapshot["generator"])


@attrs.frozen(eq=False, repr=False)
class Lines:
    """Prints a line an iteration, where `shown`."""

    shown: bool
    file: TextIO | None

    def step(self, epoch: int, means: Mapping[str, float]) -> None:
        """Print nothing."""

    def epoch(self, epoch: int, means: Mapping[str, float]) -> None:
        """Print the line."""
        if self.shown:
            print(line(epoch, means), file=self.file or sys.stdout)
