"""One rank of a job of ``python -m npdl.run``, and its connection to the launcher.

The connection has four purposes. Its end tells the rank that the launcher has ended, and the rank
ends too. The launcher forwards signals. Each second, the rank sends the number of operations with
other ranks that it has reached. An error that ends the job goes to the launcher, which prints one.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

__all__ = [
    "REQUESTS",
    "Job",
    "alone",
    "arrive",
    "caused_elsewhere",
    "current_job",
    "default_shards",
    "join_job",
    "rank",
    "world",
]

# One byte from the launcher: a signal to raise, or a request for the stack of the main thread.
REQUESTS = {b"I": signal.SIGINT, b"T": signal.SIGTERM, b"S": None}

# Frames that start a script, and no frames of the script itself.
_STARTERS = {"<frozen runpy>", contextlib.__file__}
_STARTERS |= {
    str(Path(__file__).with_name(f"{name}.py")) for name in ("_job", "_rank", "_agreement")
}


@attrs.define(eq=False, repr=False)
class Job:
    """The job of this process: its communicator, and its connection to the launcher."""

    rank: int
    ranks: int
    connection: socket.socket
    comm: Any = None
    arrivals: int = 0
    is_alone: bool = False
    has_failed: bool = False
    lock: Any = attrs.field(factory=threading.Lock)
    pid: int = attrs.field(factory=os.getpid)

    @property
    def is_mine(self) -> bool:
        """Whether this process is the rank, not a process that the rank has forked."""
        return self.pid == os.getpid()

    def send(self, **message: Any) -> None:
        """Send a message to the launcher; without a launcher, end this process."""
        try:
            with self.lock:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(1)

    def listen(self, interval: float) -> None:
        """Answer the launcher until it ends, in a separate thread."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while True:
                if selector.select(interval):
                    self._answer(self._received())
                self.send(arrivals=self.arrivals)

    def _received(self) -> bytes:
        try:
            return self.connection.recv(1)
        except OSError:
            return b""

    def _answer(self, request: bytes) -> None:
        main = threading.main_thread().ident
        assert main is not None
        if not request:
            os._exit(1)
        number = REQUESTS[request]
        if number is None:
            self.send(stack=_stack(sys._current_frames().get(main)))
        else:
            signal.pthread_kill(main, number)

    def report(self, error: BaseException) -> None:
        """Report an error to the launcher, which prints it and ends all ranks.

        Only the first rank returns. It must exit, and has time to close the files of the script.
        """
        if not self.has_failed:
            self.has_failed = True
            self.send(**_report(error, self.rank, self.ranks))
        while self.rank:  # until the launcher ends this process
            time.sleep(1)


_job: Job | None = None


def join_job(job: Job) -> None:
    """Make this process a rank of a job."""
    global _job
    _job = job


def current_job() -> Job | None:
    """Return the job of this process, or `None` if no launcher started it."""
    return _job if _job is not None and _job.is_mine else None


def world() -> Any:
    """Return the communicator of the job, or `None` if this process computes alone."""
    job = current_job()
    return None if job is None or job.is_alone else job.comm


def rank() -> int:
    """Return the number of this process in a job of ``python -m npdl.run``: 0 for the first.

    All ranks run the whole script. So a script can leave its own files to the first rank.

    Returns
    -------
    int
        The rank; 0 without the launcher.

    Examples
    --------
    >>> from npdl.distributed import rank
    >>> if rank() == 0:
    ...     print("write the report")
    write the report
    """
    job = current_job()
    return 0 if job is None else job.rank


def arrive() -> None:
    """Count an operation for which ranks wait for each other, before it begins."""
    if _job is not None:
        _job.arrivals += 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let this rank train and predict alone, in a job of ``python -m npdl.run``.

    Within the context, `fit`, `evaluate` and `predict` do not share their batches with other
    ranks. So each rank can train another model, or the first rank can do something in addition.

    Examples
    --------
    >>> from npdl.distributed import alone, rank
    >>> rates = [0.1, 0.01]
    >>> if rank() < len(rates):
    ...     with alone():
    ...         print("train with the rate", rates[rank()])
    train with the rate 0.1
    """
    job = current_job()
    if job is None or job.is_alone:
        yield
        return
    job.is_alone = True
    try:
        yield
    finally:
        job.is_alone = False


def default_shards() -> int | None:
    """Return the number of shards of the environment variable NPDL_SHARDS, or `None`."""
    text = os.environ.get("NPDL_SHARDS")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"NPDL_SHARDS must be an int of at least 1, as in NPDL_SHARDS=8; got {text!r}"
        )
    return int(text)


def caused_elsewhere(error: Exception) -> Exception:
    """Mark an error that repeats the error of another rank, which the launcher prefers."""
    error.is_caused_elsewhere = True  # type: ignore[attr-defined]
    return error


def _report(error: BaseException, rank: int, ranks: int) -> dict[str, Any]:
    """Return the message about an error: its text, the exit status, and the error's origin."""
    if isinstance(error, SystemExit):
        code = error.code
        is_text = code is not None and not isinstance(code, int)
        text, status = (f"{code}\n", 1) if is_text else ("", code or 0)
        return {"text": text, "status": status, "signal": None, "is_echo": False}
    interrupted = isinstance(error, KeyboardInterrupt)
    header = "" if interrupted else f"rank {rank} of {ranks} failed, and ends the job:\n"
    return {
        "text": header + _trace(error),
        "status": 1,
        "signal": int(signal.SIGINT) if interrupted else None,
        "is_echo": hasattr(error, "is_caused_elsewhere"),
    }


def _trace(error: BaseException) -> str:
    """Return the traceback of an error that was caught below the script, from the script on."""
    trace = traceback.TracebackException.from_exception(error)
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename in _STARTERS:
        first = first.tb_next
    frames = [] if first is None else _callers(first.tb_frame.f_back)
    frames += [frame for frame in trace.stack if frame.filename not in _STARTERS]
    trace.stack = traceback.StackSummary.from_list(frames)
    return "".join(trace.format())


def _callers(frame: FrameType | None) -> list[traceback.FrameSummary]:
    """Return the frames of the script that lead to a frame, outermost first."""
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame)) if frame else []
    return [each for each in reversed(frames) if each.filename not in _STARTERS]


def _stack(frame: FrameType | None) -> str:
    return "".join(traceback.format_list(_callers(frame)))
