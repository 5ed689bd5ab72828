"""The directory with all files of a job.

A shell removes it when the launcher and ``mpiexec`` have ended, even if both were killed.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["job_directory", "job_files"]

# Removes a directory ($0) at the end of the input. A dying rank may still create a file.
_JANITOR = 'trap "" HUP INT TERM; cat >/dev/null; rm -rf "$0" || { sleep 1; rm -rf "$0"; }'


@contextlib.contextmanager
def job_directory() -> Iterator[tuple[Path, int]]:
    """Make the directory of a job, in memory if possible; it vanishes with its last user.

    A user of the directory is a process that holds the second result, the end of a pipe.
    """
    memory = "/dev/shm"
    base = memory if os.access(memory, os.W_OK) else tempfile.gettempdir()
    path = Path(base, f"npdl-{os.getpid()}-{os.urandom(4).hex()}")
    janitor = subprocess.Popen(
        ["/bin/sh", "-c", _JANITOR, os.fspath(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert janitor.stdin is not None
    try:
        path.mkdir(mode=0o700)
        yield path, janitor.stdin.fileno()
    finally:
        janitor.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            janitor.wait(5)


def job_files(directory: Path) -> dict[str, str]:
    """Return the variables that name the directory of all files of a job."""
    path = os.fspath(directory)
    return {
        "NPDL_JOB": os.fspath(directory / "s"),
        "PRTE_MCA_prte_tmpdir_base": path,
        "OMPI_MCA_btl_sm_backing_directory": path,
        "OMPI_MCA_osc_sm_backing_directory": path,
        "OMPI_MCA_osc_rdma_backing_directory": path,
        "OMPI_MCA_shmem_mmap_backing_file_base_dir": path,
    }
