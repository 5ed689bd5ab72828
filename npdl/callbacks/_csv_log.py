"""A log of training as a table in a file, which continues where it ended when a run is resumed.

Lines that were written after the checkpoint are cut off and written anew, so none is there twice.
A file is cut only if it begins with the lines that the run had written before the checkpoint.
"""

import io
import os
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from npdl._warn import warn
from npdl.callbacks._base import Callback, Logs
from npdl.callbacks._checks import make_folder
from npdl.functional._checks import check_flag

__all__ = ["CSVLogger"]


class CSVLogger(Callback):
    """Write a line of comma-separated figures for each epoch, in UTF-8.

    The columns are ``epoch``, which counts from 0 as Keras's does, and the figures of the first
    epoch by name. Each line is on the disk before the next epoch begins.

    Parameters
    ----------
    filename : str or PathLike
        The file; its folder is made, if it is not there.
    separator : str
        A single character between the columns.
    append : bool
        Whether to add lines to a file that is there; otherwise a run that is not resumed replaces
        it.

    Raises
    ------
    ValueError
        If the separator is not a single character, or an epoch has other figures than the columns.
        In a resumed run, if the file has the columns of another run.
    OSError
        If the file cannot be written, before the first epoch.

    Warns
    -----
    UserWarning
        In a resumed run, if the file is lost and begins anew, or if it has changed since the
        checkpoint. A changed file is not cut: the lines are added at its end.

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
    reports_only = True

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"CSVLogger: separator must be one character, got {separator!r}")
        self.path, self.separator = Path(filename), separator
        self.append = check_flag(append, 'CSVLogger("run.csv", append=True)')
        self.figures: list[str] = []
        self._forget(self.append)

    def _forget(self, adds: bool) -> None:
        # Whether the lines go to the end of a file that is there.
        self.adds = adds
        self.columns: list[str] | None = None
        # The bytes that this run found and wrote: how many, and their checksum.
        self.size, self.checksum = 0, 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """See that the file can be written; it is left alone until the first line."""
        # A logger that is new in a resumed run has not written the file that is there.
        self._forget(self.append or bool(self.params.get("resumed")))
        if self.path.exists() and not self.path.is_file():
            raise OSError(
                f"CSVLogger: {self.path} is not a regular file, so no line could be cut off in a "
                f"resumed run; LambdaCallback(on_epoch_end=...) writes anywhere"
            )
        make_folder("CSVLogger", self.path.parent)
        if self.path.exists():
            self.path.open("ab").close()
        if self.adds:
            self.size, self.checksum = self._length(), self._checksum(self._length())

    def check_figures(self, figures: Collection[str]) -> None:
        """Note the figures of the run."""
        self.figures = list(figures)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Raise before the first step if the figures have no columns in the file."""
        if self.adds and self.columns is None:
            found = self._found()
            if found and not set(self.figures) <= set(found):
                raise self._other_columns(found, epoch, ["epoch", *self.figures])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write a line."""
        figures = {"epoch": epoch} | dict(logs or {})
        columns = self.columns or (self._found() if self.adds else None)
        if columns is not None and columns != list(figures):
            raise self._other_columns(columns, epoch, list(figures))
        if columns is None or not self._length():
            self.size, self.checksum = 0, 0
            self._write(figures, "wb")
        self.columns = list(figures)
        self._write(figures.values(), "ab")

    def _other_columns(self, columns: list[str], epoch: int, figures: list[str]) -> ValueError:
        return ValueError(
            f"CSVLogger: {self.path} has the columns {columns!r:.200}, and epoch {epoch} has the "
            f"figures {figures}; write to another file"
        )

    def _write(self, row: Iterable[Any], mode: str) -> None:
        """Write a line, after the end of one that was cut off."""
        import csv

        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerow(row)
        data = text.getvalue().encode("utf-8", "backslashreplace")
        if mode == "ab" and not self._ends_with_a_line():
            data = b"\n" + data
        with self.path.open(mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.size, self.checksum = self.size + len(data), zlib.crc32(data, self.checksum)

    def _length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _ends_with_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _checksum(self, size: int) -> int:
        """Return the checksum of the first bytes of the file."""
        checksum = 0
        if size:
            with self.path.open("rb") as file:
                while size and (data := file.read(min(size, 1 << 20))):
                    checksum, size = zlib.crc32(data, checksum), size - len(data)
        return checksum

    def _found(self) -> list[str] | None:
        """Return the columns of the file, if it has any."""
        import csv

        if not self.path.exists():
            return None
        with self.path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            # In a file of another kind, the first line may be the whole file.
            start = io.StringIO(file.read(csv.field_size_limit()), newline="")
        return next(csv.reader(start, delimiter=self.separator), None)

    def state(self) -> Any:
        """Return the columns, and the size and the checksum of the file."""
        return {"columns": self.columns, "size": self.size, "checksum": self.checksum}

    def restore(self, state: Any) -> None:
        """Cut off the lines after the checkpoint, if the file begins with those before it."""
        columns, size, self.adds = state["columns"], state["size"], self.append
        there = self._length()
        if size and not there:
            warn(f"CSVLogger: {self.path} is lost or empty; it begins anew, without earlier epochs")
        elif columns is not None and self._found() != columns:
            raise ValueError(
                f"CSVLogger: {self.path} is not the log of this run: its columns, separated by "
                f"{self.separator!r}, are {self._found()!r:.200}, and the run has {columns}. The "
                f"file is unchanged; give another name, or resume without this callback"
            )
        elif there >= size and self._checksum(size) == state["checksum"]:
            # Of nothing, every file is a continuation.
            if size:
                os.truncate(self.path, size)
            self.size, self.checksum = size, state["checksum"]
        else:
            warn(
                f"CSVLogger: {self.path} has changed since the checkpoint, and is not cut; lines "
                f"are added at its end, and may be there twice"
            )
            self.size, self.checksum = there, self._checksum(there)
        self.columns = columns
