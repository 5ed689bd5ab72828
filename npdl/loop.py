"""The loop of `fit`: epochs of steps, and the callbacks that see and steer them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from npdl.callbacks import History, call

__all__ = ["Loop", "Shown", "Trainee"]


class Trainee(Protocol):
    """What the loop trains, on the batches of one epoch after another."""

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, int]]:
        """Yield the batches of an epoch from number `first` on, each with its size."""

    def step(self, batch: Any) -> Mapping[str, Any]:
        """Make a step, and return the figures of the batch."""

    def validate(self) -> Mapping[str, Any]:
        """Return the figures of the validation data; none, where there are no such data."""


class Shown(Protocol):
    """What shows the progress, such as :class:`npdl.progress.Progress`."""

    def step(self, epoch: int, means: dict[str, float]) -> None:
        """Show that a step has been made."""

    def epoch(self, epoch: int, means: dict[str, float]) -> None:
        """Show that an epoch has ended."""


class Loop:
    """Epochs of steps with callbacks: all of `fit` but what a step is.

    Parameters
    ----------
    trainee : Trainee
        What is trained.
    model : object
        What callbacks see of it; it has an attribute `stop_training`.
    callbacks : iterable
        Objects with any of the methods of :class:`npdl.callbacks.Callback`.
    epochs : range
        The numbers of the epochs.
    steps : int
        Number of steps an epoch.
    batch : int
        Number of steps of the first epoch that were made before.
    """

    def __init__(
        self,
        trainee: Trainee,
        model: Any,
        callbacks: Iterable[Any],
        epochs: range,
        steps: int,
        batch: int = 0,
    ) -> None:
        self.trainee, self.model = trainee, model
        self.history = History()
        self.callbacks = [*callbacks, self.history]
        self.epochs, self.steps = epochs, steps
        self.epoch, self.batch = epochs.start, batch
        # Sums over the examples of the epoch so far; it has begun, if its first hook was called.
        self.totals: dict[str, float] = {}
        self.seen = 0
        self.begun = False

    def run(self, progress: Shown, params: Mapping[str, Any] | None = None) -> History:
        """Train, and return the figures of all epochs; `params` is for the callbacks."""
        call(self.callbacks, "set_model", self.model)
        sizes = {"epochs": self.epochs.stop, "steps": self.steps}
        call(self.callbacks, "set_params", sizes | dict(params or {}))
        self.model.stop_training = False
        call(self.callbacks, "on_train_begin", {})
        while self.epoch < self.epochs.stop and not self.model.stop_training:
            self._run_epoch(progress)
        call(self.callbacks, "on_train_end", {})
        return self.history

    def _run_epoch(self, progress: Shown) -> None:
        if not self.begun:
            call(self.callbacks, "on_epoch_begin", self.epoch, {})
            self.begun = True
        logs: dict[str, Any] = {}
        for batch, size in self.trainee.batches(self.epoch, self.batch):
            call(self.callbacks, "on_train_batch_begin", self.batch, {})
            try:
                figures = self.trainee.step(batch)
            except Exception as error:
                step = self.epoch * self.steps + self.batch
                error.add_note(f"in step {step} of fit, in epoch {self.epoch}")
                raise
            self.seen += size
            for name, value in figures.items():
                self.totals[name] = self.totals.get(name, 0.0) + float(value) * size
            logs = {name: total / self.seen for name, total in self.totals.items()}
            call(self.callbacks, "on_train_batch_end", self.batch, logs)
            progress.step(self.epoch, logs)
            self.batch += 1
        validation = self.trainee.validate()
        logs |= {f"val_{name}": float(value) for name, value in validation.items()}
        call(self.callbacks, "on_epoch_end", self.epoch, logs)
        progress.epoch(self.epoch, logs)
        self.epoch, self.batch, self.begun = self.epoch + 1, 0, False
        self.totals, self.seen = {}, 0
