"""The program of one rank: ``python -m npdl.distributed._rank``, started by the launcher.

It runs the user's script as ``python script`` does. An error that the script does not catch ends
the whole job.
"""

import atexit
import importlib.machinery
import io
import os
import random
import runpy
import socket
import sys
import threading
import types
import zipfile
from pathlib import Path

import numpy as np

from npdl.distributed._job import Job, join_job

# The variables in which the process starters of Open MPI, and of MPICH and its relatives, number
# the ranks.
_NUMBERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK")


def main(command: list[str]) -> None:
    """Join the job, and run the script or the module."""
    job = _joined()
    # Scripts without seeds draw new numbers in each job, and the same ones on all ranks.
    seed = int(os.environ.pop("NPDL_SEED"))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        _initialize(job)
        _run(command)
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code not in (None, 0):
            job.report(error)
    # Outside of the handler, the frames of the script are gone, and its files are closed.
    sys.exit(1 if job.has_failed else 0)


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
    os.dup(connection.fileno())  # the connection ends with the process, not with its objects
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    threading.Thread(target=job.listen, args=(interval,), daemon=True).start()
    return job


def _initialize(job: Job) -> None:
    """Initialize MPI, and finalize it at the end of the process, after all other functions."""
    import mpi4py

    mpi4py.rc.finalize = False
    from mpi4py import MPI

    job.comm = MPI.COMM_WORLD
    if (size := job.comm.Get_size()) != job.ranks:
        raise RuntimeError(
            f"mpiexec started {job.ranks} ranks, but mpi4py sees {size}: both must belong to one "
            f"MPI, as those of pip install 'npdl-functional[mpi]' do"
        )

    def finalize() -> None:
        if job.is_mine and not job.has_failed:  # after an error, other ranks would not arrive
            job.send(done=True)
            MPI.Finalize()

    atexit.register(finalize)
    join_job(job)


def _run(command: list[str]) -> None:
    """Run ``script args…`` or ``-m module args…``, as the interpreter does.

    The script gets a module ``__main__`` that exists to the end of the process. The temporary one
    of :func:`runpy.run_path` would lose files that are open at an error.
    """
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy._run_module_as_main(command[1])  # type: ignore[attr-defined]
        return
    script = Path(command[0]).absolute()
    sys.argv = command
    if script.is_dir() or zipfile.is_zipfile(script):
        sys.path[0] = str(script)
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    if not sys.flags.safe_path:
        sys.path[0] = str(script.resolve().parent)
    with io.open_code(str(script)) as file:
        code = compile(file.read(), script, "exec")
    loader = importlib.machinery.SourceFileLoader("__main__", str(script))
    vars(module).update(__file__=str(script), __loader__=loader)
    exec(code, vars(module))


if __name__ == "__main__":
    main(sys.argv[1:])
