"""Run a script on all cores: ``python -m npdl.run train.py``.

The launcher starts one process per core, a rank, through MPI. All ranks run the script, and
:func:`npdl.training.fit` divides each batch among them. The result has the same bits for any
number of ranks::

    python -m npdl.run train.py                      # as many ranks as cores
    python -m npdl.run -n 4 train.py --epochs 10     # four ranks; --epochs belongs to the script
    python -m npdl.run -n 1 train.py                 # one process without MPI, the same bits
    python -m npdl.run -m package.train              # a module

In the script, ``fit(..., shards=8)`` sets the number of shards of a batch, on which the bits
depend. Otherwise ``--shards``, the environment variable ``NPDL_SHARDS``, or the default of 8 does.
"""

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["available_cores", "main"]

SHARDS = 8  # the default number of shards of a batch
TIMEOUT = 1800.0  # the default time limit in seconds

# One BLAS thread per rank, and the same order of sets of strings on all ranks.
_THREADS = "OPENBLAS_NUM_THREADS OMP_NUM_THREADS MKL_NUM_THREADS VECLIB_MAXIMUM_THREADS"
_COMMON = dict.fromkeys(_THREADS.split(), "1")
_HASHES = {"PYTHONHASHSEED": "0"}
_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_osc": "^ucx",  # this component prints a line
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",  # ranks bind themselves
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a script or a module on several ranks, and return its exit status.

    Parameters
    ----------
    arguments : list of str, optional
        The arguments of the command line.

    Returns
    -------
    int
        The exit status. If a signal ended the job, it ends this process too.

    Examples
    --------
    >>> from npdl.run import main
    >>> main(["--help"])
    Traceback (most recent call last):
    SystemExit: 0
    """
    options, command = _parsed(list(sys.argv[1:] if arguments is None else arguments))
    cores = available_cores()
    ranks = options.ranks or min(cores, options.shards)
    mpiexec = _mpiexec() if ranks > 1 else None
    environment = _HASHES | os.environ | _COMMON | {"NPDL_SHARDS": str(options.shards)}
    if options.says_shards:
        sys.stderr.write(
            f"npdl.run: {ranks} rank{'s' * (ranks > 1)}; fit(...) without shards= cuts each batch "
            f"into {options.shards} shards; --shards sets this number\n"
        )
        sys.stderr.flush()
    python = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]
    if mpiexec is None:
        return _run_alone([*python, *command], environment)
    from npdl.distributed._launcher import launch

    seed = int.from_bytes(os.urandom(4), "little")
    environment = _OPEN_MPI | environment | {"NPDL_RANKS": str(ranks), "NPDL_SEED": str(seed)}
    if ranks == cores and hasattr(os, "sched_getaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        environment |= {"NPDL_CORES": " ".join(map(str, mine))} if len(mine) == ranks else {}
    program = [*python, "-u", "-m", "npdl.distributed._rank", *command]
    end = launch([mpiexec, "-n", str(ranks), *program], ranks, environment, options.timeout)
    sys.stderr.write(end.text)
    sys.stderr.flush()
    if end.signal is not None:
        signal.signal(end.signal, signal.SIG_DFL)
        os.kill(os.getpid(), end.signal)
    return end.status


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use.

    Parameters
    ----------
    root : Path
        The root of the file system, in which a container's limit is looked up (cgroup v2).

    Examples
    --------
    >>> from npdl.run import available_cores
    >>> available_cores() >= 1
    True
    """
    has_mask = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_mask else os.cpu_count() or 1
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return cores
    group = next((line[3:] for line in lines if line.startswith("0::")), "/")
    base = root / "sys/fs/cgroup"
    folder = base / group.lstrip("/")
    for each in (folder, *folder.parents):
        if each.is_relative_to(base):
            cores = min(cores, _quota(each / "cpu.max", cores))
    return max(cores, 1)


def _quota(file: Path, cores: int) -> int:
    """Return the number of cores that a file ``cpu.max`` allows: "200000 100000" allows two."""
    try:
        quota, period = file.read_text(encoding="utf-8").split()
        return int(quota) // int(period)
    except (OSError, ValueError):
        return cores


def _parsed(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the options of the launcher, and the command: ``script args…`` or ``-m module …``."""
    parser = argparse.ArgumentParser(
        prog="python -m npdl.run",
        usage="%(prog)s [-n N] [--shards N] [--timeout SECONDS] (script | -m module) [args ...]",
        description="Run a script on all cores. Each process is a rank, and fit(...) of npdl "
        "divides each batch among the ranks. The result does not depend on their number.",
        epilog="example: python -m npdl.run -n 4 train.py --epochs 10",
        allow_abbrev=False,
    )
    at_least_1 = _number(int, lambda n: n >= 1, "an int of at least 1")
    seconds = _number(float, lambda n: n > 0, "a positive number of seconds")
    parser.add_argument(
        "-n", type=at_least_1, dest="ranks", metavar="N",
        help="number of ranks (default: as many as cores, at most one per shard)",
    )  # fmt: skip
    parser.add_argument(
        "--shards", type=at_least_1, metavar="N",
        help=f"number of shards of each batch, for calls of fit(...) without shards= (default: "
        f"the environment variable NPDL_SHARDS, or {SHARDS})",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="SECONDS",
        help="longest time for which ranks wait for another rank (default: %(default)g)",
    )  # fmt: skip
    first = 0
    while first < len(arguments) and arguments[first][:1] == "-" and arguments[first] != "-m":
        first += 2 if arguments[first] in ("-n", "--shards", "--timeout") else 1
    options = parser.parse_args(arguments[:first])
    command = arguments[first:]
    if not command or command == ["-m"]:
        parser.error("expected a script or a module, as in python -m npdl.run train.py")
    if command[0] != "-m" and not Path(command[0]).exists():
        parser.error(f"the script {command[0]!r} does not exist")
    variable = os.environ.get("NPDL_SHARDS")
    options.says_shards = options.shards is None and not variable
    if options.shards is None:
        try:
            options.shards = at_least_1(variable) if variable else SHARDS
        except argparse.ArgumentTypeError as error:
            parser.error(f"NPDL_SHARDS: {error}")
    return options, command


def _number(
    kind: Callable[[str], Any], is_valid: Callable[[Any], bool], expected: str
) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not is_valid(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


def _run_alone(command: list[str], environment: dict[str, str]) -> int:
    """Run a command in this process; on Windows, in a child."""
    if sys.platform == "win32":
        return subprocess.run(command, env=environment, check=False).returncode
    os.execve(command[0], command, environment)


def _mpiexec() -> str:
    """Return the path of ``mpiexec``: of the extra if it is installed, otherwise from the PATH."""
    if sys.platform == "win32":
        raise SystemExit("npdl.run: several ranks need Linux or macOS; -n 1 runs one process")
    own = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    found = shutil.which("mpiexec", path=own) or shutil.which("mpiexec")
    if found is None or importlib.util.find_spec("mpi4py") is None:
        raise SystemExit(
            "npdl.run: several ranks need mpi4py and an MPI: pip install 'npdl-functional[mpi]'; "
            "-n 1 runs one process without them"
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
