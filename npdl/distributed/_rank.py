"""The program of one rank: ``python -m npdl.distributed._rank``, started by the launcher.

It runs the user's script as ``python script`` does. An error that the script does not catch ends
the whole job.
"""

import atexit
import os
import runpy
import socket
import sys
import threading
from pathlib import Path

from npdl.distributed._job import Job, join_job

# The variables in which the process starters of Open MPI, and of MPICH and its relatives, number
# the ranks.
_NUMBERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK")


def main(command: list[str]) -> None:
    """Join the job, and run the script or the module."""
    job = _joined()
    try:
        _initialize(job)
        _run(command)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            job.fail(stop)
    except BaseException as error:
        job.fail(error)


def _joined() -> Job:
    """Connect to the launcher; the first rank takes over its input, output and terminal."""
    path, ranks = os.environ.pop("NPDL_JOB"), int(os.environ.pop("NPDL_RANKS"))
    interval = float(os.environ.pop("NPDL_INTERVAL"))
    rank = next((int(os.environ[name]) for name in _NUMBERS if name in os.environ), 0)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:  # the launcher has ended
        os._exit(1)
    cores = os.environ.pop("NPDL_CORES", "").split()
    if cores:
        os.sched_setaffinity(0, {int(cores[rank])})
    job = Job(rank, ranks, connection)
    job.send(rank=rank, pid=os.getpid())
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    threading.Thread(target=job.listen, args=(interval,), daemon=True).start()
    return job


def _initialize(job: Job) -> None:
    """Initialize MPI, and finalize it after all other functions at the end of the process."""
    from mpi4py import MPI

    job.comm = MPI.COMM_WORLD
    if (size := job.comm.Get_size()) != job.ranks:
        raise RuntimeError(
            f"mpiexec started {job.ranks} ranks, but mpi4py sees {size}: both must belong to one "
            f"MPI, as those of pip install 'npdl-functional[mpi]' do"
        )

    def finalize() -> None:
        job.send(done=True)
        if not MPI.Is_finalized():
            MPI.Finalize()

    atexit.register(finalize)
    join_job(job)


def _run(command: list[str]) -> None:
    """Run ``script args…`` or ``-m module args…``, as the interpreter does."""
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return
    script = Path(command[0]).absolute()
    sys.argv = command
    if not sys.flags.safe_path:
        sys.path[0] = str(script.resolve().parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
