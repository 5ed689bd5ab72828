"""The loop of `fit`: epochs of steps, and the callbacks that observe and control them."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from npdl._warn import warn
from npdl.callbacks import History, call
from npdl.callbacks._checks import check_logs
from npdl.checkpoint._files.limits import CheckpointError
from npdl.distributed._agreement import check_agreement, is_first
from npdl.distributed._job import alone, arrive, world
from npdl.functional.metrics._metric import Metric
from npdl.training._callback_states import States
from npdl.training._checkpoint import Checkpoint, UnwrittenCheckpointWarning
from npdl.training._position import Position, encode_run
from npdl.training._scores import Sums, merged, results

__all__ = ["Loop", "Shown", "Trainee", "writes"]


class Trainee(Protocol):
    """A model and its data; the loop trains it epoch by epoch, batch by batch."""

    @property
    def view(self) -> Any:
        """The model as callbacks see it, with an attribute `stop_training`."""

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, int]]:
        """Yield the batches of an epoch from number `first` on, each with its size."""

    def step(self, batch: Any, size: int) -> Sums:
        """Run a step on a batch of that size; return the sums of its loss and metrics."""

    def validate(self) -> Mapping[str, Any]:
        """Return the metrics of the validation data; none without validation data."""

    def snapshot(self) -> dict[str, Any]:
        """Return a tree that determines the next step; its arrays may still be in use."""

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Continue from a result of :meth:`snapshot`."""


class Shown(Protocol):
    """A display of the progress, such as :class:`npdl.callbacks._progress.Progress`."""

    def step(self, epoch: int, means: dict[str, float]) -> None:
        """Show that a step has ended."""

    def epoch(self, epoch: int, means: dict[str, float]) -> None:
        """Show that an epoch has ended."""


class Loop:
    """Epochs of steps with callbacks: all of `fit` except the step itself.

    Parameters
    ----------
    trainee : Trainee
        The model and its data.
    callbacks : iterable
        Objects with any of the methods of :class:`npdl.callbacks.Callback`.
    epochs : range
        The numbers of the epochs.
    steps : int
        Number of steps per epoch.
    metrics : dict of Metric
        The loss and the metrics; their results are computed from sums over an epoch.
    batch : int
        Number of completed steps of the first epoch.
    checkpoint : Checkpoint, optional
        The directory of checkpoints, and how often to write them.
    resume : bool
        Whether to continue from a checkpoint; nothing is changed before :meth:`run`.
    names : iterable of str
        The names of all values of an epoch.
    settings : dict of str
        Descriptions that must be the same in a resumed run.
    comm : communicator, optional
        Its first rank reads and writes, and sends the position to the others.
    """

    def __init__(
        self,
        trainee: Trainee,
        callbacks: Iterable[Any],
        epochs: range,
        steps: int,
        metrics: Mapping[str, Metric],
        batch: int = 0,
        *,
        checkpoint: Checkpoint | None = None,
        resume: bool = False,
        names: Iterable[str] = (),
        settings: Mapping[str, str] | None = None,
        comm: Any = None,
    ) -> None:
        self.trainee, self.model = trainee, trainee.view
        self.history = History()
        self.callbacks = [*callbacks, self.history]
        self.states = States([self.history, *self.callbacks[:-1]])
        self.epochs, self.steps, self.metrics = epochs, steps, metrics
        # Metrics whose results are computed after each step.
        self.shown = [name for name, metric in metrics.items() if metric.each_step]
        self.epoch, self.batch = epochs.start, batch
        # Sums over the examples of the epoch so far; `begun` is set after the epoch's first hook.
        self.totals: Sums = {}
        self.seen = 0
        self.begun = False
        self.finite = True
        self.best: tuple[float, int] | None = None
        self.comm = comm
        checkpoint = _checked(checkpoint, resume)
        self.checkpoint = checkpoint if is_first(comm) else None
        self.settings: Mapping[str, str] = {}
        self.found: tuple[Position, dict[str, Any]] | None = None
        if self.checkpoint is not None:
            kept = self.checkpoint
            best = f"{kept.best} ({kept.mode})" if kept.best else "none"
            self.settings = {**(settings or {}), "best": best, **self.states.watched()}
            self.found = self._prepared(kept, resume, names)
        if resume and comm is not None:
            arrive()
            self.found = comm.bcast(self.found, root=0)
        if self.found is not None:
            first = self.found[0].first
            self.epochs = range(first, first + len(epochs))

    @property
    def step(self) -> int:
        """The number of completed steps."""
        return self.epoch * self.steps + self.batch

    def _prepared(
        self, checkpoint: Checkpoint, resume: bool, names: Iterable[str]
    ) -> tuple[Position, dict[str, Any]] | None:
        """Prepare the directory; return the newest position and snapshot, if the run resumes."""
        like = self.trainee.snapshot()
        checkpoint.prepare(resume, names, like)
        found = checkpoint.find(self.settings, like, self.states.required()) if resume else None
        if found is not None:
            position, count = found[0], len(self.epochs)
            self.states.warn_of_changes(position.callbacks)
            ended = position.stopped or position.epoch >= position.first + count
            if ended and not position.batch:
                checkpoint.say_finished(position, count)
        return found

    def run(self, progress: Shown, params: Mapping[str, Any] | None = None) -> History:
        """Train, and return the metrics of all epochs; `params` is passed to the callbacks."""
        try:
            self._begin(params or {})
            while not self._ended():
                self._run_epoch(progress)
            for callback in self.callbacks:
                self._finish(callback, "on_train_end", {})
        except BaseException as error:
            for failure in self._exit():
                error.add_note(f"and then {failure!r} {failure.__notes__[-1]}")
            raise
        for failure in self._exit(ended=True):
            raise failure
        return self.history

    def _exit(self, ended: bool = False) -> list[Exception]:
        """Let all callbacks close their files; return the errors of those that fail."""
        failures = []
        for callback in self.callbacks:
            try:
                if ended:
                    self._finish(callback, "on_train_exit", {})
                else:
                    _call([callback], "on_train_exit", {})
            except Exception as error:
                error.add_note(f"in on_train_exit of {type(callback).__name__}")
                failures.append(error)
        return failures

    def _begin(self, params: Mapping[str, Any]) -> None:
        _call(self.callbacks, "set_model", self.model)
        sizes = {"epochs": self.epochs.stop, "steps": self.steps}
        sizes |= {"resumed": True} if self.found is not None else {}
        _call(self.callbacks, "set_params", sizes | dict(params))
        self.model.stop_training = False
        _call(self.callbacks, "on_train_begin", {})
        if self.checkpoint is not None:
            self.states.check()
            encode_run(self._position(), self.settings, self.checkpoint.limit)
        if self.found is not None:
            self._restore(*self.found)
        self._agree()

    def _run_epoch(self, progress: Shown) -> None:
        if not self.begun:
            _call(self.callbacks, "on_epoch_begin", self.epoch, {})
            self.begun = True
        for batch, size in self.trainee.batches(self.epoch, self.batch):
            _call(self.callbacks, "on_train_batch_begin", self.batch, {})
            try:
                sums = self.trainee.step(batch, size)
            except Exception as error:
                step = self.epoch * self.steps + self.batch
                error.add_note(f"in step {step} of fit, in epoch {self.epoch}")
                raise
            self.seen += size
            self.totals = merged(self.metrics, self.totals, sums) if self.totals else sums
            logs = self._step_means()
            _call(self.callbacks, "on_train_batch_end", self.batch, logs)
            progress.step(self.epoch, logs)
            self.batch += 1
            if self.batch < self.steps and self._due(self.step):
                self._save()
        logs = self._means()
        self._warn_of_nan(logs)
        validation = self.trainee.validate()
        logs |= {f"val_{name}": float(value) for name, value in validation.items()}
        own = tuple(logs)
        for callback in self.callbacks:
            if self.epoch + 1 >= self.epochs.stop or self.model.stop_training:
                self._finish(callback, "on_epoch_end", self.epoch, logs)
            else:
                _call([callback], "on_epoch_end", self.epoch, logs)
            check_logs(logs, own, callback)
        self._agree()
        progress.epoch(self.epoch, logs)
        self.epoch, self.batch, self.begun = self.epoch + 1, 0, False
        self.totals, self.seen = {}, 0
        self._end_epoch(logs)

    def _finish(self, callback: Any, hook: str, *args: Any) -> None:
        """Call a hook at the end of the run, where a file that cannot be written is a warning."""
        try:
            _call([callback], hook, *args)
        except (OSError, MemoryError, CheckpointError) as error:
            if not writes(callback):
                raise
            self._warn_of_unwritten(f"a file of {type(callback).__name__}", error)

    def _warn_of_unwritten(self, file: str, error: Exception) -> None:
        """Warn that the result of the run is returned, although a file could not be written."""
        warn(
            f"the run has ended with step {self.step}, and its result is returned, but writing "
            f"{file} failed: {type(error).__name__}: {error}",
            UnwrittenCheckpointWarning,
        )

    def _warn_of_nan(self, logs: Mapping[str, Any]) -> None:
        """Warn of the first epoch whose loss is not finite."""
        loss = logs.get("loss", 0.0)
        if self.finite and not math.isfinite(loss) and is_first(self.comm):
            self.finite = False
            warn(
                f"the loss of epoch {self.epoch} is {loss}, and training continues; "
                f"fit(..., check_finite=True) names the first step, layer and array with such a "
                f"number, and callbacks=[TerminateOnNaN()] ends the run",
                RuntimeWarning,
            )

    def _agree(self) -> None:
        """Stop all ranks if one stops, and check that callbacks changed all ranks equally."""
        if self.comm is None or self.comm.Get_size() == 1:
            return
        arrive()
        self.model.stop_training = any(self.comm.allgather(bool(self.model.stop_training)))
        check_agreement(self.comm, trained=self.trainee.snapshot())

    def _means(self) -> dict[str, Any]:
        return results(self.metrics, self.totals)

    def _step_means(self) -> dict[str, Any]:
        totals = self.totals
        if len(totals) > len(self.shown):
            totals = {name: totals[name] for name in self.shown}
        return results(self.metrics, totals)

    def _ended(self) -> bool:
        at_end = self.epoch >= self.epochs.stop or self.model.stop_training
        return at_end and not self.begun

    def _end_epoch(self, logs: Mapping[str, Any]) -> None:
        """Write a checkpoint if one is due, if the epoch is the best so far, or at the end."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return
        better = False
        if checkpoint.best is not None:
            value = float(logs.get(checkpoint.best, math.nan))
            better = checkpoint.is_better(value, self.best)
            self.best = (value, self.step) if better else self.best
        every = checkpoint.every_epochs
        if better or self._ended() or self._due(self.step) or (every and self.epoch % every == 0):
            try:
                self._save()
            except Exception as error:
                if not self._ended():
                    raise
                self._warn_of_unwritten("its last checkpoint", error)

    def _due(self, step: int) -> bool:
        every = self.checkpoint.every_steps if self.checkpoint is not None else None
        return every is not None and step % every == 0

    def _position(self) -> Position:
        return Position(
            step=self.step,
            first=self.epochs.start,
            epoch=self.epoch,
            batch=self.batch,
            seen=self.seen,
            totals=self.totals,
            stopped=bool(self.model.stop_training),
            best=self.best,
            callbacks=self.states.collect(),
        )

    def _save(self) -> None:
        try:
            self.checkpoint.write(self.trainee.snapshot(), self._position(), self.settings)  # type: ignore[union-attr]
        except Exception as error:
            for name in self.states.faults():
                error.add_note(f"in the state of the callback {name}")
            error.add_note(f"in the checkpoint of step {self.step}; the earlier ones are unchanged")
            raise

    def _restore(self, position: Position, snapshot: dict[str, Any]) -> None:
        before = self.trainee.snapshot()
        try:
            self.trainee.restore(snapshot)
            self.best, self.model.stop_training = position.best, position.stopped
            self.states.restore(position.callbacks)
        except BaseException:
            self.trainee.restore(before)
            raise
        self.epoch, self.batch, self.begun = position.epoch, position.batch, position.batch > 0
        self.seen, self.totals = position.seen, dict(position.totals)


def writes(callback: Any) -> bool:
    """Whether only the first rank calls a callback, since it writes or displays."""
    return bool(getattr(callback, "first_rank_only", False))


def _call(callbacks: Iterable[Any], hook: str, *args: Any) -> None:
    """Call a hook; a callback of the first rank alone does not share its predictions."""
    if world() is None:
        call(callbacks, hook, *args)
        return
    for callback in callbacks:
        with alone() if writes(callback) else contextlib.nullcontext():
            call([callback], hook, *args)


def _checked(checkpoint: Any, resume: bool) -> Checkpoint | None:
    if not isinstance(checkpoint, Checkpoint | None) or (resume and checkpoint is None):
        raise TypeError(
            f"expected checkpoint=Checkpoint(directory), got checkpoint={checkpoint!r}"
            f"{' with resume=True' * resume}"
        )
    return checkpoint
