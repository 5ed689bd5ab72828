"""One record of a run: the model, its data, and the division of the data into batches."""

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

from npdl import random, tree
from npdl._data import augmented, batches, is_source, order_of, smallest_part
from npdl.distributed._shards import rows_of
from npdl.functional._layer import Layer, Params, keep_params, value_and_grad
from npdl.functional.optimizers._optimizer import Optimizer
from npdl.training._divided_update import Division
from npdl.training._evaluation import Loss, check_evaluation, evaluate, outputs_of_few
from npdl.training._scores import Metrics, Scores, Sums
from npdl.training._step import summing_step
from npdl.training._train_state import TrainState
from npdl.training._trial import check_merging, spread
from npdl.training._zero_weights import check_left_out

__all__ = ["Plan"]

# Number of examples that are read from a source to try metrics before the first step.
_READ = 64


@attrs.frozen(eq=False, repr=False)
class Plan:
    """All arguments of :func:`npdl.training.fit` that affect the numbers, except the state."""

    model: Layer
    loss: Loss
    optimizer: Optimizer
    data: Any
    count: int  # number of examples
    validation: Any
    metrics: Metrics
    scores: Scores
    key: random.Key
    batch_size: int
    shuffle: bool
    augment: Callable[[random.Key, Any], Any] | None
    check_finite: bool
    shards: int | None
    comm: Any

    @property
    def steps(self) -> int:
        """Number of steps per epoch."""
        return -(-self.count // self.batch_size)

    @property
    def sampling(self) -> str:
        """Description of the batches, for the comparison of two runs."""
        text = f"{self.count} examples in batches of {self.batch_size}"
        text += f", in {self.shards} shards" if self.shards is not None else ""
        return f"{text}, shuffled" if self.shuffle else text

    def start(self, state: TrainState) -> TrainState:
        """Return the state at the start of an epoch: in mid-epoch, at the start of the next one."""
        if not state.step % self.steps:
            return state
        return attrs.evolve(state, step=-(-state.step // self.steps) * self.steps)

    def division(self) -> Division | None:
        """Return the memory of the ranks, if there are several."""
        if self.shards is None or self.comm is None or self.comm.Get_size() == 1:
            return None
        return Division(self.comm, self.shards, closes=True)

    def step(
        self, optimizer: Optimizer, division: Division | None
    ) -> Callable[..., tuple[TrainState, Any, Sums, Any]]:
        """Return a result of :func:`summing_step` that overwrites the arrays of the state."""
        return summing_step(
            # With check_finite, an error must leave the state of the previous step intact.
            self.model, self.loss, optimizer, self.scores, donate=not self.check_finite,
            check_finite=self.check_finite, shards=self.shards, comm=self.comm,
            division=division,
        )  # fmt: skip

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, int]]:
        """Yield the batches of an epoch from number `first` on, each with its size.

        With shards, a rank reads only the examples of its shards.
        """
        order = order_of(self.key, epoch, self.count) if self.shuffle else None
        part: Callable[[int], slice] = slice
        if self.shards is not None:
            part = functools.partial(rows_of, shards=self.shards, comm=self.comm)
        change = None
        if self.augment is not None:
            key = random.fold(self.key, "augment", epoch)
            change = functools.partial(augmented, self.augment, key)
        return batches(self.data, self.count, self.batch_size, order, part, first, change)

    def validate(self, params: Params) -> dict[str, Any]:
        """Return the loss and the metrics of the validation data; none without these data."""
        if self.validation is None:
            return {}
        return evaluate(
            self.model,
            params,
            self.validation,
            loss=self.loss,
            metrics=self.metrics,
            comm=self.comm,
        )

    def check(self, params: Params, example: Any) -> None:
        """Raise before the first step if training or validation would fail later."""
        if self.augment is not None:
            key = random.fold(self.key, "augment", 0)
            augmented(self.augment, key, (example,), np.zeros(1, np.intp))
        if not is_source(self.data):
            gradient = value_and_grad(self.model, self.loss)
            check_left_out(gradient, self.scores.weights_index, params, self.data, self.key)
        if self.validation is not None:
            check_evaluation(self.model, params, self.validation, self.loss, self.metrics, self.key)
        self._check_smallest(params, example)
        if self.scores.tried:
            self._try_metrics(params)

    def _check_smallest(self, params: Params, example: Any) -> None:
        """Raise if a batch or a shard has a single example and the model cannot train on it.

        A batch norm needs several values per channel, from one or several examples.
        """
        shards = self.shards or 1
        smallest = smallest_part(self.count, self.batch_size, shards)
        if smallest > 1 or self.model.update_stats is keep_params:
            return
        try:
            self.model.apply(params, example, train=True, rng=self.key)
        except ValueError as error:
            parts = f"batches of {self.batch_size}" + f" in {shards} shards" * (shards > 1)
            sizes = range(1, min(self.count, 2 * self.batch_size + 8 * shards) + 1)
            nearest = sorted(sizes, key=lambda size: abs(size - self.batch_size))
            good = next((n for n in nearest if smallest_part(self.count, n, shards) > 1), None)
            error.add_note(
                f"found before the first step: {self.count} examples in {parts} leave a batch or "
                f"shard of one; {f'batch_size={good} does not' if good else 'pass more examples'}"
            )
            raise

    def _try_metrics(self, params: Params) -> None:
        """Raise if a metric of the user cannot be merged from batches."""
        data, count = self.data, self.count
        try:
            if is_source(data):
                data, count = tuple(data[spread(count, _READ)]), min(count, _READ)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                few = tree.map(lambda array: array[: self.batch_size], data[0])
                outputs = outputs_of_few(self.model, params, few, self.key)
        except Exception:
            return  # the first step raises it, too

        def targets_of(rows: Any) -> tuple[Any, ...]:
            return tuple(tree.map(lambda array: array[rows], tuple(data[1:])))

        check_merging(self.scores, outputs, targets_of, count)
