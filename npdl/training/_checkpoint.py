"""The checkpoints of a run of training: writing, finding, checking and reading them.

A directory holds files ``step-000000120.npz``, named after the number of completed steps. Each is
a file of :mod:`npdl.checkpoint`. It holds the training state at the top level:
``npdl.checkpoint.load(path, like=state, partial=True)`` reads a :class:`npdl.training.TrainState`
from it. Under ``run`` it holds the position of the run, with the states of callbacks.
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
from npdl.checkpoint._files.limits import CheckpointError, VersionError
from npdl.checkpoint._save_and_load import check_tree
from npdl.functional._checks import check_int
from npdl.training._position import OtherRunError, Position, check_same, encode_run, read_run

__all__ = [
    "ChangedCallbackWarning",
    "Checkpoint",
    "DamagedCheckpointWarning",
    "FinishedRunWarning",
    "FreshStartWarning",
    "OtherEnvironmentWarning",
    "ResumeWarning",
    "UnwrittenCheckpointWarning",
]

_NAME = re.compile(r"step-(\d{9,})\.npz")


class ResumeWarning(UserWarning):
    """Base class of the warnings about resuming a run."""


class FreshStartWarning(ResumeWarning):
    """The directory has no checkpoint, so training starts from the beginning."""


class FinishedRunWarning(ResumeWarning):
    """The run has ended already, so nothing is trained."""


class DamagedCheckpointWarning(ResumeWarning):
    """The newest checkpoint could not be read, so training continues from an older one."""


class OtherEnvironmentWarning(ResumeWarning):
    """The checkpoint was written in another environment, so results may differ in the last bits."""


class ChangedCallbackWarning(ResumeWarning):
    """The arguments of a callback that controls the run differ from those in the checkpoint."""


class UnwrittenCheckpointWarning(UserWarning):
    """The last checkpoint or file of a run could not be written; the result is still returned."""


def _positive_or_none(record: Any, field: Any, value: Any) -> None:
    if value is not None:
        _positive(record, field, value)


def _positive(record: Any, field: Any, value: Any) -> None:
    check_int(value, f"Checkpoint(…, {field.name}=2)", least=1)


@attrs.frozen
class Checkpoint:
    """The directory of checkpoints, how often `fit` writes them, and how many are kept.

    A checkpoint is written to a temporary file, forced to the disk, read back and compared. Then
    it is renamed, and only then are older ones removed. The end of a run writes one too.

    Parameters
    ----------
    directory : str or PathLike
        A directory for this run alone; a missing one is created.
    every_steps : int, optional
        Number of steps between checkpoints, also in the middle of an epoch.
    every_epochs : int, optional
        Number of epochs between checkpoints; `None` to write none after epochs. Each checkpoint
        holds the whole history, so choose a larger number for a run of very many short epochs.
    keep : int
        Number of the newest checkpoints to keep.
    best : str, optional
        A metric, such as ``"val_loss"``. A checkpoint is written after each epoch that improves
        it, and the best one is kept too.
    mode : {"auto", "min", "max"}
        Whether the best value is the smallest or the largest; ``"auto"`` decides by the name.
    limit : int, optional
        Largest number of bytes of the arrays in the states of callbacks, for writing and for
        reading; unlimited by default. A file never expands to more bytes than it declares.

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
        """Return the files, from the oldest to the newest; none without a directory.

        The files are not read.

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
            If the directory holds no such file.
        """
        for path in reversed(self.paths()):
            with contextlib.suppress(CheckpointError):
                best = read_run(path)[0].best
                if best is not None and (file := self._path(best[1])).exists():
                    return file
        raise FileNotFoundError(f"{self.directory} holds no checkpoint of a best epoch")

    def is_better(self, value: float, best: tuple[float, int] | None) -> bool:
        """Whether a value of the metric is better than the best one so far; NaN never is."""
        if value != value:
            return False
        sign = 1 if direction(str(self.best), self.mode) == "min" else -1
        return best is None or sign * value < sign * best[0]

    def prepare(self, resume: bool, names: Iterable[str], trained: Mapping[str, Any]) -> None:
        """Create the directory, and raise unless checkpoints can be written and found there.

        Parameters
        ----------
        resume : bool
            Whether the directory may hold checkpoints already.
        names : iterable of str
            The names of the loss and metrics of the run.
        trained : tree
            The tree to be written.
        """
        check_tree(trained)
        if self.best is not None and self.best not in names:
            raise ValueError(f"Checkpoint(best={self.best!r}): {missing_figure(self.best, names)}")
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
                f"trained. Choose another directory, or make this one writable",
            ) from error
        if not resume and (found := self._listed()):
            raise FileExistsError(
                f"{self.directory} holds checkpoints already, the newest is {found[-1].name}; pass "
                f"resume=True to continue from it, or choose another directory"
            )

    def write(
        self, trained: Mapping[str, Any], position: Position, settings: Mapping[str, str]
    ) -> None:
        """Write a checkpoint, and then remove the outdated ones."""
        run = encode_run(position, settings, self.limit)
        checkpoint.save(self._path(position.step), {**trained, "run": run})
        self._remove_older(position)

    def _remove_older(self, position: Position) -> None:
        """Remove all files except the newest ones and the file of the best epoch."""
        kept = {position.step, *(position.best or ())[1:]}
        for path in self._listed()[: -self.keep]:
            if path not in map(self._path, kept):
                # A file that cannot be removed now is tried again at the next checkpoint.
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _listed(self) -> list[Path]:
        """Return the files; none if the directory is writable but cannot be listed."""
        try:
            return self.paths()
        except PermissionError:
            return []

    def find(
        self, settings: Mapping[str, str], like: Mapping[str, Any], callbacks: Iterable[str]
    ) -> tuple[Position, dict[str, Any]] | None:
        """Return the position and the trained tree of the newest valid checkpoint.

        If the directory holds none, a warning is issued, and `None` is returned. After a valid
        one is read, damaged ones are renamed. Outdated files are removed.

        Raises
        ------
        OtherRunError
            If it belongs to another run. The error lists the differences.
        VersionError
            If another version of npdl wrote it.
        CheckpointError
            If all checkpoints are damaged.
        OSError
            If the newest one cannot be read at the moment; its contents may be valid.
        """
        damaged: list[tuple[Path, Exception]] = []
        for path in reversed(self.paths()):
            try:
                found = self.read(path, settings, like, callbacks)
            except (OtherRunError, VersionError):
                raise
            except OSError as error:
                error.add_note(
                    f"{path} could not be read, and nothing was changed or trained; try again, or "
                    f"move the file away to continue from an older one"
                )
                raise
            except CheckpointError as error:
                damaged.append((path, error))
                continue
            for bad, reason in damaged:
                aside = bad.replace(free_name(bad.with_name(f"{bad.name}.damaged")))
                warn(
                    f"training continues from {path.name}, because {bad.name} could not be read, "
                    f"and was renamed to {aside.name}: {reason}",
                    DamagedCheckpointWarning,
                )
            if different := _elsewhere(path):
                warn(
                    f"{path} was written in another environment: {'; '.join(different)}. Training "
                    f"continues, but its numbers may differ in their last bits from the numbers "
                    f"of a run in one environment",
                    OtherEnvironmentWarning,
                )
            # The run may have been killed between a write and the removal of older files.
            self._remove_older(found[0])
            return found
        if damaged:
            reasons = "".join(f"\n  {bad.name}: {reason}" for bad, reason in damaged)
            raise CheckpointError(
                f"none of the checkpoints in {self.directory} can be read, and nothing was changed:"
                f"{reasons}\nRestore one from a copy, or start again in another directory."
            )
        warn(
            f"resume=True, but {self.directory} holds no checkpoint: training starts from the "
            f"beginning",
            FreshStartWarning,
        )
        return None

    def say_finished(self, position: Position, epochs: int) -> None:
        """Warn that a run of this number of epochs has ended already."""
        reason = (
            "a callback had ended it, and it stays ended"
            if position.stopped
            else f"this call asks for epochs={epochs}; with more epochs it continues"
        )
        warn(
            f"nothing is trained, and the saved result is returned: the run in "
            f"{self.directory} has ended already, with epoch {position.epoch - position.first}; "
            f"{reason}",
            FinishedRunWarning,
        )

    def read(
        self, path: Path, settings: Mapping[str, str], like: Mapping[str, Any], names: Iterable[str]
    ) -> tuple[Position, dict[str, Any]]:
        """Return the position and the trained tree of one checkpoint; it raises as `find` does.

        Parameters
        ----------
        path : Path
            The file.
        settings : dict of str
            Descriptions that must be the same.
        like : tree
            A tree with the structure, shapes and types of the trained tree.
        names : iterable of str
            The names of the callbacks that have a state.
        """
        position, described = read_run(path, self.limit)
        check_same(path, position, described, settings, like, names)
        if path != self._path(position.step):
            raise CheckpointError(
                f"{path} is damaged: it is the checkpoint of step {position.step}"
            )
        return position, checkpoint.load(path, like, partial=True)

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:09d}.npz"


def _elsewhere(path: Path) -> list[str]:
    """Return the differences between this environment and the one of a checkpoint."""
    there, here = checkpoint.environment(path), checkpoint.environment()
    return [
        f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
        for name in [*here, *(there.keys() - here.keys())]
        if there.get(name) != here.get(name)
    ]
