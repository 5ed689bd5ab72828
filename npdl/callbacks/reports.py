"""Callbacks that tell people, files and other programs how training goes.

They change nothing in the run. A file goes on where it ended when a run is resumed: what had been
written after the checkpoint is written anew, not twice.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from npdl.callbacks.base import HOOKS, Callback
from npdl.callbacks.checks import make_folder, unknown_hook
from npdl.functional._checks import check_flag
from npdl.progress import Progress

__all__ = ["CSVLogger", "LambdaCallback", "ProgressBar", "TensorBoard"]

Logs = Mapping[str, Any] | None


class CSVLogger(Callback):
    """Write a line of comma-separated figures for each epoch.

    The columns are ``epoch``, which counts from 0 as Keras's does, and the figures of the first
    epoch by name. Each line is on the disk before the next epoch begins.

    Parameters
    ----------
    filename : str or PathLike
        The file; its folder is made, if it is not there.
    separator : str
        A single character between the columns.
    append : bool
        Whether to go on in a file that is there; otherwise it is replaced.

    Raises
    ------
    ValueError
        If the separator is not a single character, or an epoch has other figures than the columns.
    OSError
        If the file cannot be written, before the first epoch.

    Examples
    --------
    >>> from npdl.callbacks import CSVLogger
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.training import fit
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "log.csv"
    >>> data = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])
    >>> _ = fit(
    ...     F.dense(2), F.softmax_cross_entropy, F.sgd(0.1), data, epochs=2,
    ...     callbacks=[CSVLogger(path)], progress=False,
    ... )
    >>> path.read_text(encoding="utf-8").splitlines()[0]
    'epoch,loss'
    """

    first_rank_only = True

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"CSVLogger: separator must be one character, got {separator!r}")
        self.path, self.separator = Path(filename), separator
        self.append = check_flag(append, 'CSVLogger("run.csv", append=True)')
        self.columns: list[str] | None = None
        self.begun, self.start = False, 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """See that the file can be written; what is in it is left alone until the first line."""
        self.columns, self.begun = None, False
        make_folder("CSVLogger", self.path.parent)
        with self.path.open("a", encoding="utf-8") as file:
            self.start = file.tell()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write a line."""
        figures = {"epoch": epoch} | dict(logs or {})
        if not self.begun:
            self.begun = True
            self._begin(list(figures))
        if self.columns != list(figures):
            raise ValueError(
                f"CSVLogger: {self.path} has the columns {self.columns}, and epoch {epoch} has the "
                f"figures {list(figures)}; write to another file"
            )
        with self.path.open("a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(figures.values())
            file.flush()
            os.fsync(file.fileno())

    def _begin(self, columns: list[str]) -> None:
        """Write the names of the columns, unless the file goes on."""
        with self.path.open(newline="", encoding="utf-8") as file:
            import csv

            first = next(csv.reader(file, delimiter=self.separator), None)
        if self.append and first is not None:
            self.columns = first
            return
        self.columns = columns
        with self.path.open("w", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(columns)

    def _writer(self, file: Any) -> Any:
        import csv

        return csv.writer(file, delimiter=self.separator, lineterminator="\n")

    def state(self) -> Any:
        """Return the columns, and how long the file is."""
        if not self.begun:
            return {"columns": None, "size": self.start if self.append else 0}
        return {"columns": self.columns, "size": self.path.stat().st_size}

    def restore(self, state: Any) -> None:
        """Cut off what was written after the checkpoint."""
        if state["columns"] is not None:
            self.columns, self.begun = list(state["columns"]), True
        if self.path.stat().st_size < state["size"]:
            raise ValueError(
                f"CSVLogger: {self.path} is shorter than when the checkpoint was written; put the "
                f"file back, or resume without this callback"
            )
        os.truncate(self.path, state["size"])
        self.start = state["size"]


class TensorBoard(Callback):
    """Write the figures of each epoch for TensorBoard; needs the library of that name, an extra.

    ``tensorboard --logdir DIRECTORY`` shows them, those of the validation data in the same chart.

    Parameters
    ----------
    log_dir : str or PathLike
        A directory, which is made; the figures go to ``train`` and ``validation`` in it.

    Raises
    ------
    ImportError
        If the library is not installed.
    OSError
        If the directory cannot be written, before the first epoch.
    """

    first_rank_only = True

    def __init__(self, log_dir: str | os.PathLike[str] = "logs") -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs its library: pip install 'npdl-functional[tensorboard]'"
            ) from error
        self._make = Writer
        self.log_dir = Path(log_dir)
        self.writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open no file yet: which ones there are follows from the figures."""
        self.writers = {}
        make_folder("TensorBoard", self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the figures, and the learning rate where the model knows it."""
        figures = dict(logs or {})
        with contextlib.suppress(AttributeError, ValueError):
            figures["learning_rate"] = self.model.learning_rate
        for name, value in figures.items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self.writers:
                self.writers[part] = self._make(str(self.log_dir / part))
            self.writers[part].add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for writer in self.writers.values():
            writer.flush()

    def on_train_exit(self, logs: Logs = None) -> None:
        """Close the files."""
        for writer in self.writers.values():
            writer.close()


class ProgressBar(Callback):
    """Show how far training has come, with the figures so far.

    In a terminal and in a notebook this is a bar where tqdm is installed, with a line for each
    epoch above it; in a log file it is the lines alone. `npdl.training.fit` shows the same unless
    ``progress=False``; in a `Model`, pass ``verbose=0`` beside it.

    Examples
    --------
    >>> from npdl.callbacks import ProgressBar
    >>> import numpy as np
    >>> import npdl
    >>> model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3, init="zero")])
    >>> model.compile(loss="mse", optimizer=npdl.optimizers.SGD(lr=0.0))
    >>> data = np.ones((8, 3)), np.ones((8, 2))
    >>> history = model.fit(*data, max_iter=2, verbose=0, callbacks=[ProgressBar()])
    epoch 1/2  loss 1  accuracy 1
    epoch 2/2  loss 1  accuracy 1
    """

    first_rank_only = True

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.epoch = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open the bar."""
        self.progress = Progress(True, self.params["epochs"], self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move on."""
        if self.progress is not None:
            self.progress.step(self.epoch, dict(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write a line."""
        if self.progress is not None:
            self.progress.epoch(epoch, dict(logs or {}))

    def on_train_exit(self, logs: Logs = None) -> None:
        """Close the bar."""
        if self.progress is not None:
            self.progress.close()


class LambdaCallback(Callback):
    """Call functions of yours.

    Parameters
    ----------
    **hooks : callable
        Functions under the names of the methods of :class:`Callback`: ``on_epoch_end=function``
        is called with ``(epoch, logs)``.

    Raises
    ------
    TypeError
        If there is no such method, or it is given something that cannot be called.

    Examples
    --------
    >>> from npdl.callbacks import LambdaCallback
    >>> shown = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> shown.on_epoch_end(0, {"loss": 1.5})
    0 {'loss': 1.5}
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"LambdaCallback: {unknown_hook(name)}")
            if not callable(function):
                raise TypeError(f"LambdaCallback: {name} must be a function, got {function!r}")
            setattr(self, name, function)
