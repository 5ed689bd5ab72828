"""Training of models: validation split, batches, metrics, and the output line per epoch."""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import attrs
import numpy as np

from npdl.checkpoint._files.limits import CheckpointError, check_json, check_length
from npdl.compat._checks import Array
from npdl.compat.utils._states import read_generator
from npdl.compat.utils.random import get_rng, get_state, set_state
from npdl.distributed._shards import rows_of
from npdl.functional._checks import check_number
from npdl.training._scores import Metrics, Sums

__all__ = [
    "Lines",
    "Training",
    "batch_count",
    "batch_slices",
    "batches",
    "line",
    "split",
    "weighted",
]


def split(
    data: tuple[Any, ...], weight: Array | None, fraction: float
) -> tuple[tuple[Any, ...], Any]:
    """Split off the last fraction as validation data, with `weight` as their weights.

    The validation data are `None` if they have no example.
    """
    check_number(fraction, "Model.fit(X, Y, validation_split=0.1)", "in [0, 1)")
    count = len(data[0])
    trained = count - int(count * fraction)
    if trained == count:
        return data, None
    return _rows(data, slice(trained)), _rows((*data[:2], weight), slice(trained, None))


def batches(
    data: tuple[Any, ...], size: int, order: Array | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield batches of rows; without an order, the arrays are not copied.

    A single last example is added to the batch before, since batch normalization needs the
    variance of at least two examples.
    """
    for part in batch_slices(len(data[0]), size):
        yield _rows(data, part if order is None else order[part])


def batch_slices(count: int, size: int) -> Iterator[slice]:
    """Yield the slice of each batch of :func:`batches`."""
    merges = _merges_last(count, size)
    for start in range(0, count - merges, size):
        is_merged = merges and start + size == count - 1
        yield slice(start, count if is_merged else min(start + size, count))


def batch_count(count: int, size: int) -> int:
    """Return the number of batches of :func:`batches`."""
    return -(-(count - _merges_last(count, size)) // size)


def _merges_last(count: int, size: int) -> bool:
    return count % size == 1 and count > size > 1


def _rows(data: tuple[Any, ...], rows: Any) -> tuple[Any, ...]:
    return tuple(None if array is None else array[rows] for array in data)


def weighted(values: Array, weight: Array | None) -> Array:
    """Multiply the values of each example by its weight; a weight of 0 gives 0, even for NaN."""
    if weight is None:
        return values
    factor, zeros = weight.reshape(-1, *[1] * (values.ndim - 1)), np.zeros_like(values)
    return np.multiply(values, factor, dtype=values.dtype, out=zeros, where=factor != 0)


def line(epoch: int, logs: Mapping[str, float]) -> str:
    r"""Return the output line of an epoch; scripts may parse its form.

    Examples
    --------
    >>> line(0, {"loss": 2.3, "accuracy": 0.1})
    'iter 1, train-[loss 2.3000, acc 0.1000]; '
    """
    parts = []
    for part, prefix in (("train", ""), ("valid", "val_")):
        values = [
            f"{short} {logs[prefix + name]:.4f}"
            for short, name in (("loss", "loss"), ("acc", "accuracy"))
            if prefix + name in logs
        ]
        if values:
            parts.append(f"{part}-[{', '.join(values)}]; ")
    return f"iter {epoch + 1}, {''.join(parts)}"


@attrs.define(eq=False, repr=False)
class Training:
    """A model and its data, as the loop of `npdl.training._loop` needs them."""

    model: Any
    data: tuple[Any, ...]
    validation: Any
    metrics: Metrics
    stepper: Callable[[tuple[Any, ...], int], Sums]
    batch_size: int
    shuffle: bool
    # The state of the generator before it drew the order of the current epoch.
    before: str = ""
    shards: int | None = None
    comm: Any = None

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, int]]:
        """Return an iterator over the batches of an epoch, from index `first`, and their sizes."""
        now = get_state()
        if first:
            set_state(self.before)
        else:
            self.before = now
        order = get_rng().permutation(len(self.data[0])) if self.shuffle else None
        if first:
            set_state(now)
        slices = batch_slices(len(self.data[0]), self.batch_size)
        return (self._batch(each, order) for each in itertools.islice(slices, first, None))

    def _batch(self, part: slice, order: Array | None) -> tuple[Any, int]:
        """Return the examples of a batch and its size; with shards, the examples of this rank."""
        size = part.stop - part.start
        if self.shards is not None:
            own = rows_of(size, self.shards, self.comm)
            part = slice(part.start + own.start, part.start + own.stop)
        return _rows(self.data, part if order is None else order[part]), size

    @property
    def view(self) -> Any:
        """The object that callbacks get: the model."""
        return self.model

    def step(self, batch: Any, size: int) -> Sums:
        """Update the parameters once; return the sums of the loss and metrics of the batch."""
        return self.stepper(batch, size)

    def validate(self) -> dict[str, float]:
        """Return the metrics of the validation data; empty without validation data."""
        if self.validation is None:
            return {}
        x, y, weight = self.validation
        return self.model._evaluate(  # type: ignore[no-any-return]
            x, y, self.metrics, self.batch_size, weight
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the complete state of training; `Model.load` can read its checkpoint."""
        try:
            config = self.model.to_json()
            # JSON may need two characters for each one.
            check_length(2 * len(config))
            check_json(config)
        except (NotImplementedError, TypeError, ValueError):
            config = ""  # a file cannot hold an argument of a user's layer
        return {"config": config, **self.model._progress(), "before": self.before}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restore a snapshot; its generators are checked before any change."""
        try:
            for state in filter(None, (snapshot["generator"], snapshot["before"])):
                read_generator(state)
            self.model._restore(snapshot)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is damaged: {error}") from error
        self.before = snapshot["before"]
        set_state(snapshot["generator"])


@attrs.frozen(eq=False, repr=False)
class Lines:
    """Prints a line per epoch, if `shown`."""

    shown: bool
    file: TextIO | None

    def step(self, epoch: int, means: Mapping[str, float]) -> None:
        """Do nothing."""

    def epoch(self, epoch: int, means: Mapping[str, float]) -> None:
        """Print the line of the epoch."""
        if self.shown:
            print(line(epoch, means), file=self.file or sys.stdout)
