"""The checkpoints of a run of training: written whole, found again, and only then taken up.

A directory holds files ``step-000000120.npz``, named after the number of steps that were made. Each
is a file of :mod:`npdl.checkpoint`. It holds what is trained at the top, so that
``npdl.checkpoint.load(path, like=state, partial=True)`` reads a :class:`npdl.training.TrainState`
from it, and under ``run`` where the run stands: a text of JSON, and the states of callbacks.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from npdl import checkpoint
from npdl._warn import warn
from npdl.callbacks import direction
from npdl.callbacks._checks import missing_figure
from npdl.checkpoint._files.disk import free_name, remove_abandoned, sync_directory
from npdl.checkpoint._files.limits import CheckpointError
from npdl.checkpoint._trees import check_tree
from npdl.functional._checks import check_int
from npdl.training._resume_header import (
    OtherRunError,
    Position,
    check_same,
    read_header,
    read_run,
    run_tree,
)

__all__ = [
    "ChangedCallbackWarning",
    "Checkpoint",
    "DamagedCheckpointWarning",
    "FinishedRunWarning",
    "FreshStartWarning",
    "MidEpochWarning",
    "OtherEnvironmentWarning",
    "ResumeWarning",
    "UnwrittenCheckpointWarning",
]

_NAME = re.compile(r"step-(\d{9,})\.npz")


class ResumeWarning(UserWarning):
    """What a run that goes on should tell its owner; the base of the others."""


class FreshStartWarning(ResumeWarning):
    """There was no checkpoint to go on from, so training starts from the beginning."""


class FinishedRunWarning(ResumeWarning):
    """The run has come to its end already, so nothing is trained."""


class DamagedCheckpointWarning(ResumeWarning):
    """The newest checkpoint could not be read, so training goes on from an older one."""


class OtherEnvironmentWarning(ResumeWarning):
    """The checkpoint was written elsewhere, where the same numbers may come out with other bits."""


class ChangedCallbackWarning(ResumeWarning):
    """A callback that steers the run had other arguments when the checkpoint was written."""


class MidEpochWarning(ResumeWarning):
    """The given state is in the middle of an epoch, whose first examples are skipped."""


class UnwrittenCheckpointWarning(UserWarning):
    """The last checkpoint of a run could not be written; the result is returned all the same."""


def _positive_or_none(record: Any, field: Any, value: Any) -> None:
    if value is not None:
        _positive(record, field, value)


def _positive(record: Any, field: Any, value: Any) -> None:
    check_int(value, f"Checkpoint(…, {field.name}=2)", least=1)


@attrs.frozen
class Checkpoint:
    """Where and how often `fit` writes checkpoints, and how many of them stay.

    A file is written beside the others, forced to the disk, read back and compared, and then takes
    its name; only then are older ones removed. A run that has come to its end writes one too.

    Parameters
    ----------
    directory : str or PathLike
        A directory for this run alone; it is made, if it is not there.
    every_steps : int, optional
        After how many steps to write one, also in the middle of an epoch.
    every_epochs : int, optional
        After how many epochs; `None` for not at all.
    keep : int
        How many of the newest stay.
    best : str, optional
        A figure, such as ``"val_loss"``: the checkpoint of the epoch with its best value stays too,
        and is written whenever there is a better one.
    mode : {"auto", "min", "max"}
        Whether the best value is the smallest or the largest; ``"auto"`` goes by the name.
    limit : int, optional
        How many bytes the arrays in the states of callbacks may take, where they are written and
        where they are read; any number by default. A file has the bytes that it declares.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.training import Checkpoint, fit
    >>> data = np.eye(4, dtype=np.float32), np.arange(4)
    >>> def train(epochs, resume):
    ...     return fit(
    ...         F.dense(4), F.softmax_cross_entropy, F.adam(0.1), data, epochs=epochs,
    ...         checkpoint=Checkpoint(directory, best="loss"), resume=resume, progress=False,
    ...     )
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = train(3, resume=False)
    ...     state, history = train(5, resume=True)
    ...     [path.name for path in Checkpoint(directory).paths()]
    ['step-000000003.npz', 'step-000000004.npz', 'step-000000005.npz']
    >>> state.step, len(history["loss"])
    (5, 5)
    """

    directory: Path = attrs.field(converter=Path)
    every_steps: int | None = attrs.field(default=None, kw_only=True, validator=_positive_or_none)
    every_epochs: int | None = attrs.field(default=1, kw_only=True, validator=_positive_or_none)
    keep: int = attrs.field(default=3, kw_only=True, validator=_positive)
    best: str | None = attrs.field(default=None, kw_only=True)
    mode: str = attrs.field(default="auto", kw_only=True)
    limit: int | None = attrs.field(default=None, kw_only=True, validator=_positive_or_none)

    def __attrs_post_init__(self) -> None:
        if self.best is not None:
            direction(self.best, self.mode)

    def paths(self) -> list[Path]:
        """Return the files, from the oldest to the newest, unread; none, if there is no directory.

        Raises
        ------
        PermissionError
            If the directory may not be listed.
        """
        try:
            names = [path.name for path in self.directory.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = {int(match[1]): name for name in names if (match := _NAME.fullmatch(name))}
        return [self.directory / found[step] for step in sorted(found)]

    def best_path(self) -> Path:
        """Return the file of the best epoch.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        for path in reversed(self.paths()):
            with contextlib.suppress(CheckpointError):
                best = read_header(path)["best"]
                if best is not None and (file := self._path(best[1])).exists():
                    return file
        raise FileNotFoundError(f"{self.directory} holds no checkpoint of a best epoch")

    def is_better(self, value: float, best: tuple[float, int] | None) -> bool:
        """Whether a value of the figure is better than the best one so far; NaN never is."""
        if value != value:
            return False
        sign = 1 if direction(str(self.best), self.mode) == "min" else -1
        return best is None or sign * value < sign * best[0]

    def prepare(self, resume: bool, figures: Iterable[str], trained: Mapping[str, Any]) -> None:
        """Make the directory, and raise unless checkpoints can be written and found there.

        Parameters
        ----------
        resume : bool
            Whether checkpoints may be there already.
        figures : iterable of str
            The names of the figures of the run.
        trained : tree
            What is to be written.
        """
        check_tree(trained)
        if self.best is not None and self.best not in figures:
            raise ValueError(
                f"Checkpoint(best={self.best!r}): {missing_figure(self.best, figures)}"
            )
        probe = self.directory / f".step-{os.urandom(8).hex()}.tmp"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                with probe.open("xb") as file:
                    file.write(b"npdl")
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
            remove_abandoned(self.directory, ".step-*.tmp")
            sync_directory(self.directory)
            sync_directory(self.directory.resolve().parent)
        except OSError as error:
            raise OSError(
                error.errno,
                f"no checkpoints can be written in {self.directory}: {error.strerror}; nothing was "
                f"trained. Choose another directory, or let this one be written",
            ) from error
        if not resume and (found := self._listed()):
            raise FileExistsError(
                f"{self.directory} holds checkpoints already, the newest of which is "
                f"{found[-1].name}; give resume=True to go on from there, or another directory"
            )

    def write(
        self, trained: Mapping[str, Any], position: Position, settings: Mapping[str, str]
    ) -> None:
        """Write a checkpoint, and then remove those that need not stay."""
        run = run_tree(position, trained, settings, self.limit)
        checkpoint.save(self._path(position.step), {**trained, "run": run})
        self._remove_older(position)

    def _remove_older(self, position: Position) -> None:
        """Remove all files but the newest and that of the best epoch."""
        kept = {position.step, *(position.best or ())[1:]}
        for path in self._listed()[: -self.keep]:
            if path not in map(self._path, kept):
                path.unlink(missing_ok=True)

    def _listed(self) -> list[Path]:
        """Return the files; none, where the directory may be written but not listed."""
        try:
            return self.paths()
        except PermissionError:
            return []

    def find(
        self, settings: Mapping[str, str], like: Mapping[str, Any], callbacks: Iterable[str]
    ) -> tuple[Position, dict[str, Any]] | None:
        """Return where to go on and what was trained, of the newest good checkpoint.

        `None` is returned, and said, where there is none at all. Damaged ones are set aside under
        another name, once a good one has been read. Older ones than are to stay are removed.

        Raises
        ------
        OtherRunError
            If it is one of another run, listing the differences.
        CheckpointError
            If there are checkpoints, but all are damaged.
        OSError
            If the newest one cannot be read now, which says nothing about what is in it.
        """
        damaged: list[tuple[Path, Exception]] = []
        for path in reversed(self.paths()):
            try:
                found = self.read(path, settings, like, callbacks)
            except OtherRunError:
                raise
            except OSError as error:
                error.add_note(
                    f"{path} could not be read, and nothing was changed or trained; try again, or "
                    f"move the file away to go on from an older one"
                )
                raise
            except CheckpointError as error:
                damaged.append((path, error))
                continue
            for bad, reason in damaged:
                aside = bad.replace(free_name(bad.with_name(f"{bad.name}.damaged")))
                warn(
                    f"training goes on from {path.name}, because {bad.name} could not be read, and "
                    f"was renamed to {aside.name}: {reason}",
                    DamagedCheckpointWarning,
                )
            if different := _elsewhere(path):
                warn(
                    f"{path} was written elsewhere: {'; '.join(different)}. Training goes on, but "
                    f"its numbers may differ in their last bits from those of a run that was never "
                    f"moved",
                    OtherEnvironmentWarning,
                )
            # A kill may have come between a write and the removal of older ones.
            self._remove_older(found[0])
            return found
        if damaged:
            reasons = "".join(f"\n  {bad.name}: {reason}" for bad, reason in damaged)
            raise CheckpointError(
                f"none of the checkpoints in {self.directory} can be read, and nothing was changed:"
                f"{reasons}\nRestore one from a copy, or train anew in another directory."
            )
        warn(
            f"resume=True, but {self.directory} holds no checkpoint: training starts from the "
            f"beginning",
            FreshStartWarning,
        )
        return None

    def say_finished(self, position: Position, epochs: int) -> None:
        """Warn that a run of so many epochs is at its end already."""
        reason = (
            "a callback had ended it, and it stays ended"
            if position.stopped
            else f"this call asks for epochs={epochs}; with more of them it goes on"
        )
        warn(
            f"nothing is trained, and the result that is there is returned: the run in "
            f"{self.directory} has ended already, with epoch {position.epoch - position.first}; "
            f"{reason}",
            FinishedRunWarning,
        )

    def read(
        self, path: Path, settings: Mapping[str, str], like: Mapping[str, Any], names: Iterable[str]
    ) -> tuple[Position, dict[str, Any]]:
        """Return where to go on and what was trained, of one checkpoint; for the errors see `find`.

        Parameters
        ----------
        path : Path
            The file.
        settings : dict of str
            What must be the same.
        like : tree
            What is trained is like this.
        names : iterable of str
            The names of the callbacks that have a state.
        """
        header = read_header(path)
        check_same(path, header, settings, like, names)
        position, trained = read_run(path, header, like, self.limit)
        if path != self._path(position.step):
            raise CheckpointError(
                f"{path} is damaged: it is the checkpoint of step {position.step}"
            )
        return position, trained

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:09d}.npz"


def _elsewhere(path: Path) -> list[str]:
    """Return what is different here from where a checkpoint was written."""
    there, here = checkpoint.environment(path), checkpoint.environment()
    return [
        f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
        for name in [*here, *(there.keys() - here.keys())]
        if there.get(name) != here.get(name)
    ]
