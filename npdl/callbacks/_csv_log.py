"""A training log as a table in a CSV file. A resumed run continues the file.

Lines after the checkpoint are removed and written again, so no line is duplicated. A file is
truncated only if it begins with the lines of the run before the checkpoint.
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
    """Write one line of comma-separated metrics per epoch, in UTF-8.

    The columns are ``epoch``, which counts from 0 as in Keras, and the names of the metrics of the
    first epoch. Each line is on the disk before the next epoch begins.

    Parameters
    ----------
    filename : str or PathLike
        The file; a missing folder is created.
    separator : str
        A single character between the columns.
    append : bool
        Whether to append lines to an existing file. Otherwise a new run replaces the file.

    Raises
    ------
    ValueError
        If the separator is not a single character, or an epoch has other metrics than the columns.
        In a resumed run, if the file has the columns of another run.
    OSError
        If the file cannot be written, before the first epoch.

    Warns
    -----
    UserWarning
        In a resumed run, if the file is missing and a new one starts, or if it has changed since
        the checkpoint. A changed file is not truncated: lines are appended.

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
        self.metrics: list[str] = []
        self._forget(self.append)

    def _forget(self, appends: bool) -> None:
        # Whether lines are appended to an existing file.
        self.appends = appends
        self.columns: list[str] | None = None
        # Number and checksum of the bytes in the file.
        self.size, self.checksum = 0, 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Check that the file is writable; do not change it before the first line."""
        # A logger that is new in a resumed run must not replace an existing file.
        self._forget(self.append or bool(self.params.get("resumed")))
        if self.path.exists() and not self.path.is_file():
            raise OSError(
                f"CSVLogger: {self.path} is not a regular file, so a resumed run could not "
                f"truncate it; use LambdaCallback(on_epoch_end=...) for other outputs"
            )
        make_folder("CSVLogger", self.path.parent)
        if self.path.exists():
            self.path.open("ab").close()
        if self.appends:
            self.size, self.checksum = self._length(), self._checksum(self._length())

    def check_metrics(self, metrics: Collection[str]) -> None:
        """Store the names of the run's metrics."""
        self.metrics = list(metrics)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Raise before the first step if the file lacks columns for the metrics."""
        if self.appends and self.columns is None:
            found = self._found()
            if found and not set(self.metrics) <= set(found):
                raise self._other_columns(found, epoch, ["epoch", *self.metrics])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write a line."""
        values = {"epoch": epoch} | dict(logs or {})
        columns = self.columns or (self._found() if self.appends else None)
        if columns is not None and columns != list(values):
            raise self._other_columns(columns, epoch, list(values))
        if columns is None or not self._length():
            self.size, self.checksum = 0, 0
            self._write(values, "wb")
        self.columns = list(values)
        self._write(values.values(), "ab")

    def _other_columns(self, columns: list[str], epoch: int, metrics: list[str]) -> ValueError:
        return ValueError(
            f"CSVLogger: {self.path} has the columns {columns!r:.200}, but epoch {epoch} has "
            f"{metrics}; write to another file"
        )

    def _write(self, row: Iterable[Any], mode: str) -> None:
        """Write a line, after the end of an incomplete one."""
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
            # In another kind of file, the first line may be very long.
            start = io.StringIO(file.read(csv.field_size_limit()), newline="")
        return next(csv.reader(start, delimiter=self.separator), None)

    def state(self) -> Any:
        """Return the columns, and the size and the checksum of the file."""
        return {"columns": self.columns, "size": self.size, "checksum": self.checksum}

    def restore(self, state: Any) -> None:
        """Remove the lines after the checkpoint, if the file begins with the lines before it."""
        columns, size, self.appends = state["columns"], state["size"], self.append
        length = self._length()
        if size and not length:
            warn(f"CSVLogger: {self.path} is missing or empty; a new file has no earlier epochs")
        elif columns is not None and self._found() != columns:
            raise ValueError(
                f"CSVLogger: {self.path} is not the log of this run: its columns, separated by "
                f"{self.separator!r}, are {self._found()!r:.200}, but the run has {columns}. The "
                f"file is unchanged; pass another name, or resume without this callback"
            )
        elif length >= size and self._checksum(size) == state["checksum"]:
            # With size 0, every file is a continuation.
            if size:
                os.truncate(self.path, size)
            self.size, self.checksum = size, state["checksum"]
        else:
            warn(
                f"CSVLogger: {self.path} has changed since the checkpoint, so lines are appended; "
                f"some epochs may appear twice"
            )
            self.size, self.checksum = length, self._checksum(length)
        self.columns = columns
