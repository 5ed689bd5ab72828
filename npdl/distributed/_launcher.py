"""The launcher's side of a job: it starts ``mpiexec``, observes the ranks, and reports one error.

``mpiexec`` starts and stops the ranks. Each rank connects to a socket in the directory of the job.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from types import FrameType
from typing import IO, Any

import attrs

from npdl.distributed._directory import job_directory, job_files
from npdl.distributed._job import REQUESTS

__all__ = ["End", "launch"]

_KEPT = 1 << 16  # bytes of the error output of mpiexec that are kept
_BOXES = re.compile("^-{74}$.*?^-{74}$\n", re.DOTALL | re.MULTILINE)  # messages of Open MPI
_GRACE = 2.0  # seconds for a further message that explains an event
_SIGNALS = {int(number): byte for byte, number in REQUESTS.items() if number is not None}


@attrs.frozen
class End:
    """The end of a job: a text for the user, the exit status, or the signal that ended it."""

    text: str = ""
    status: int = 0
    signal: int | None = None


def launch(command: list[str], ranks: int, environment: dict[str, str], limit: float) -> End:
    """Run a command on some ranks through ``mpiexec``, and return the end of the job.

    Parameters
    ----------
    command : list of str
        The command, which begins with ``mpiexec``.
    ranks : int
        The number of ranks that it starts.
    environment : dict
        The environment variables of the command.
    limit : float
        The longest time in seconds that ranks wait for another rank.
    """
    for number in range(3):  # the first rank takes these over, so all of them must be open
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with job_directory() as (directory, lifeline), socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(directory / "s"))
        server.listen(ranks)
        supervisor = _Supervisor(server, ranks, limit)
        handlers = {number: signal.signal(number, supervisor.on_signal) for number in _SIGNALS}
        try:
            process = subprocess.Popen(
                command,
                env=environment
                | job_files(directory)
                | {"NPDL_INTERVAL": str(min(1.0, limit / 4))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[lifeline],
                start_new_session=True,  # Ctrl-C in a terminal reaches the launcher alone
            )
            return supervisor.run(process)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


@attrs.define(eq=False)
class _Rank:
    """A connected rank, as its messages describe it."""

    connection: socket.socket
    number: int = -1
    pid: int = 0
    arrivals: int = 0
    since: float = 0.0  # the time of the last change of `arrivals`
    heard: float = 0.0  # the time of the last message
    stack: str | None = None
    is_done: bool = False  # it has run the script
    is_leaving: bool = False  # it has reported an error, and closes its files
    buffer: bytes = b""

    def send(self, request: bytes) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(request)

    @property
    def is_connected(self) -> bool:
        """Whether the process of the rank still has its end of the connection."""
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def messages(self) -> list[dict[str, Any]] | None:
        """Return the messages that have arrived, or `None` at the end of the connection."""
        try:
            data = self.connection.recv(_KEPT)
        except OSError:
            data = b""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None


class _Supervisor:
    """Observes the ranks of one job until its end."""

    def __init__(self, server: socket.socket, count: int, limit: float) -> None:
        self.server, self.count, self.limit = server, count, limit
        self.start = time.monotonic()
        self.ranks: list[_Rank] = []
        self.started = 0
        self.errors = b""  # the last error output of mpiexec and of ranks other than the first
        self.signals: list[int] = []
        self.end: End | None = None
        # An end that holds from a time on, unless another message has the cause.
        self.likely: tuple[float, Callable[[], End]] | None = None
        self.has_cause = False
        self.selector = selectors.DefaultSelector()

    def run(self, process: subprocess.Popen[bytes]) -> End:
        """Observe the job, end all of its processes, and return its end."""
        self.process = process
        self.selector.register(self.server, selectors.EVENT_READ, self._accept)
        self.selector.register(self._stderr, selectors.EVENT_READ, self._read_errors)
        try:
            while self.end is None:
                self._observe()
            return self.end
        finally:
            self._stop()

    @property
    def _stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr

    def _observe(self) -> None:
        """Handle the next messages, and decide whether the job has ended."""
        ended = self.process.poll() is not None
        events = self.selector.select(0 if ended else min(0.2, self.limit / 4))
        for key, _ in events:
            key.data()
        if self.end is not None or (ended and events):
            return
        now = time.monotonic()
        if self.likely is not None:
            moment, end = self.likely
            self.end = end() if ended or now > moment else None
        elif ended:
            self.end = self._end_of_mpiexec()
        else:
            self._check_waiting(now)

    def _accept(self) -> None:
        rank = _Rank(self.server.accept()[0])
        self.selector.register(rank.connection, selectors.EVENT_READ, lambda: self._read(rank))

    def _read_errors(self) -> None:
        data = os.read(self._stderr.fileno(), _KEPT)
        self.errors = (self.errors + data)[-_KEPT:]
        if not data:
            self.selector.unregister(self._stderr)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)

    def _read(self, rank: _Rank) -> None:
        messages = rank.messages()
        rank.heard = time.monotonic()
        for message in messages or ():
            self._handle(rank, message)
        if messages is None:
            self.selector.unregister(rank.connection)
            rank.connection.close()
            self.ranks = [each for each in self.ranks if each is not rank]
            if not rank.is_done:
                self._expect(lambda: self._death(rank))

    def _handle(self, rank: _Rank, message: dict[str, Any]) -> None:
        if "pid" in message:
            rank.number, rank.pid, rank.since = message["rank"], message["pid"], rank.heard
            socket.send_fds(rank.connection, [b"F"], [0, 1, 2] if rank.number == 0 else [])
            self.ranks.append(rank)
            self.started += 1
        elif "text" in message:
            end = End(message["text"], message["status"], message["signal"])
            rank.is_leaving = rank.number == 0
            if message["is_echo"]:
                self._expect(lambda: end)
            elif rank.number:  # if all ranks fail, the report and the output of the first appear
                self._expect(lambda: end, is_cause=True)
            else:
                self.end = self.end or end
        elif "arrivals" in message:
            if message["arrivals"] != rank.arrivals:
                rank.arrivals, rank.since = message["arrivals"], rank.heard
        else:
            rank.stack = message.get("stack", rank.stack)
            rank.is_done = message.get("done", rank.is_done)

    def _expect(self, end: Callable[[], End], is_cause: bool = False) -> None:
        if self.likely is None or (is_cause and not self.has_cause):
            self.likely = time.monotonic() + _GRACE / (4 if is_cause else 1), end
            self.has_cause = is_cause

    def _death(self, rank: _Rank) -> End:
        """Return the end of a job with a rank that ended without a message."""
        if self.signals:
            return End(signal=self.signals[-1])
        status = self.process.returncode or 0
        how = f"was killed by {_name(status - 128)}" if status > 128 else f"exited with {status}"
        errors = "" if status == 128 + signal.SIGKILL else _BOXES.sub("", self._error_text)
        text = f"{errors}rank {rank.number} of {self.count} {how} before the end of the script, "
        return End(f"{text}which ends the job\n", status or 1)

    def _end_of_mpiexec(self) -> End:
        status = self.process.returncode
        if status < 0:
            return End(
                f"mpiexec was killed by {_name(-status)}, which ends the job\n", 128 - status
            )
        return End(self._error_text if status else "", status)

    @property
    def _error_text(self) -> str:
        return self.errors.decode(errors="replace")

    def _check_waiting(self, now: float) -> None:
        """Expect an end if one rank is silent, or keeps the others waiting, for too long."""
        if self.started < self.count and now > self.start + self.limit:
            text = f"only {self.started} of {self.count} ranks started"
            self.end = End(f"{text} in {self.limit:g} seconds, which ends the job\n", 1)
        most = max((rank.arrivals for rank in self.ranks), default=0)
        waiting = [rank.since for rank in self.ranks if rank.arrivals == most]
        late = [rank for rank in self.ranks if rank.arrivals < most]
        if late and now > min(waiting) + self.limit:
            for rank in late:
                rank.send(b"S")
            self._expect(lambda: self._delay(late, "kept the other ranks waiting"))
        silent = [rank for rank in self.ranks if now > rank.heard + self.limit and not rank.is_done]
        if silent:
            self._expect(lambda: self._delay(silent, "did not respond"))

    def _delay(self, late: list[_Rank], how: str) -> End:
        """Return the end of a job with ranks that did not arrive in time."""
        lines = [
            f"rank {rank.number} of {self.count} {how} for more than {self.limit:g} seconds, which "
            f"ends the job; `--timeout` sets this limit\n"
            + (f"rank {rank.number} was here:\n{rank.stack}" if rank.stack else "")
            for rank in late
        ]
        return End("".join(lines), 1)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Forward a signal to all ranks; end the job if it comes again, or before the start."""
        if number in self.signals or self.started < self.count:
            self.end = self.end or End(signal=number)
        for rank in self.ranks:
            rank.send(_SIGNALS[number])
        self.signals.append(number)

    def _stop(self) -> None:
        """End all processes of the job; a rank that leaves has time to close its files."""
        moment = time.monotonic() + _GRACE
        while time.monotonic() < moment and any(
            rank.is_leaving and rank.is_connected for rank in self.ranks
        ):
            time.sleep(0.01)
        for rank in self.ranks:
            if rank.is_connected:
                os.kill(rank.pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.terminate()
        for _ in range(2):
            try:
                self.process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()


def _name(number: int) -> str:
    known = {each.value: f" ({each.name})" for each in signal.Signals}
    return f"signal {number}{known.get(number, '')}"
