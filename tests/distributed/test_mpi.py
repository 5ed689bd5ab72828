"""MPI: the same bits for any number of ranks, and no job hangs."""

import hashlib
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpi_job import STEPS

import npdl
from npdl import tree

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
JOB = Path(__file__).parents[1] / "support" / "mpi_job.py"
ROOT = Path(npdl.__file__).parents[1]

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or MPIEXEC is None,
    reason="needs mpi4py and an MPI: pip install 'npdl-functional[mpi]'",
)


def run(ranks, name, directory):
    """Run a job on some ranks, or without MPI, in a directory and with its own hash seed."""
    program = [sys.executable, str(JOB), name, str(directory)]
    if ranks is not None:
        program = [str(MPIEXEC), "--oversubscribe", "-n", str(ranks), *program]
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": str(ranks or 0),
        "OMPI_MCA_osc": "^ucx",  # it prints an error of its own
        "OMPI_MCA_mpi_yield_when_idle": "1",  # there may be more ranks than processors
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    return subprocess.run(
        program,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        encoding="utf-8",
    )


def digest(file):
    """Return a hash of the bits of a state and a history."""
    state, history = pickle.loads(file.read_bytes())
    assert (state.step, len(history)) == (STEPS, STEPS)
    bits = hashlib.sha256()
    for path, leaf in tree.items((state, history)):
        bits.update(path.encode())
        bits.update(pickle.dumps(leaf))
    return bits.hexdigest()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    directory = tmp_path_factory.mktemp("alone")
    job = run(None, "alone", directory)
    assert job.returncode == 0, job.stderr
    return digest(directory / "alone.pkl")


RANKS = [1, *(pytest.param(ranks, marks=pytest.mark.slow) for ranks in (2, 4, 8)), 3, 9]


@needs_mpi
@pytest.mark.parametrize("ranks", RANKS)
def test_any_number_of_ranks_gives_the_bits_of_one_process(ranks, alone, tmp_path):
    job = run(ranks, "train", tmp_path)
    assert job.returncode == 0, job.stderr
    assert [digest(tmp_path / f"{rank}.pkl") for rank in range(ranks)] == [alone] * ranks


FAILURES = {
    "killed": "signal 9",
    "raises": "rank 1 of 3 failed, and ends the job:\nTraceback",
    "models": "model is serial(flatten(), dense(units=3)) on ranks 0, 2; serial(flatten(), "
    "dense(units=4)) on rank 1",
    "lengths": "lengths is 60 on ranks 0, 1; 61 on rank 2",
}


@needs_mpi
@pytest.mark.parametrize(("name", "message"), FAILURES.items(), ids=FAILURES)
def test_a_failing_rank_ends_the_job_and_is_named(name, message, tmp_path):
    start = time.monotonic()
    job = run(3, name, tmp_path)
    assert job.returncode != 0
    assert message in job.stderr + job.stdout
    assert time.monotonic() - start < 30


@needs_mpi
@pytest.mark.parametrize("memory", ["", ", messages"], ids=["shared memory", "messages"])
def test_a_killed_run_resumes_on_another_number_of_ranks(memory, tmp_path):
    assert run(None, "fit alone", tmp_path).returncode == 0
    expected = pickle.loads((tmp_path / "alone.pkl").read_bytes())
    assert run(2, f"fit dies{memory}", tmp_path).returncode != 0
    assert (tmp_path / "run" / "step-000000004.npz").exists()
    job = run(3, f"fit{memory}", tmp_path)
    assert job.returncode == 0, job.stderr
    for rank in range(3):
        result = pickle.loads((tmp_path / f"{rank}.pkl").read_bytes())
        assert tree.all_close(result, expected, rtol=0, atol=0)
