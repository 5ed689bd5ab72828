"""`python -m npdl.run`: the bits of one process, one error, and nothing is left behind."""

import importlib.util
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from arrays import same_bits
from communicators import checked, on_ranks

import npdl
import npdl.functional as F
from npdl import run, tree
from npdl.distributed import alone, rank
from npdl.training import evaluate, fit, predict

JOB = Path(__file__).parents[1] / "support" / "run_job.py"
ROOT = Path(npdl.__file__).parents[1]
MEMORY = Path("/dev/shm")
needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None
    or shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    is None,
    reason="needs mpi4py and an MPI: pip install 'npdl-functional[mpi]'",
)


def start(*arguments, command=("-m", "npdl.run"), **variables):
    """Start the launcher with arguments."""
    return subprocess.Popen(
        [sys.executable, *command, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def result(*arguments, given="", **options):
    """Run the launcher; return its exit status, its output and its error output."""
    process = start(*arguments, **options)
    output, errors = process.communicate(given, timeout=120)
    return process.returncode, output, errors


def trained(folder, ranks, *command, name="train", **options):
    """Run a job on some ranks, and return the result, which is equal on all ranks."""
    folder.mkdir(exist_ok=True)
    options = {"command": ("-m", "npdl.run", "-n", ranks)} if ranks else options
    options["command"] = tuple(map(str, options["command"]))
    status, output, errors = result(*command, JOB, name, folder, **options)
    assert status == 0, errors
    files = [folder / f"{rank}.pkl" for rank in range(ranks or 1)]
    first, *others = [pickle.loads(file.read_bytes()) for file in files]
    assert all(same_bits(other, first) for other in others)
    return first, output


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    variables = {"NPDL_SHARDS": "8", "OPENBLAS_NUM_THREADS": "1"}
    return trained(folder, 0, command=(), **variables)


RANKS = [2, *(pytest.param(ranks, marks=pytest.mark.slow) for ranks in (1, 3, 9))]


@needs_mpi
@pytest.mark.parametrize("ranks", RANKS)
def test_a_script_has_the_bits_and_the_output_of_one_process(ranks, one_process, tmp_path):
    expected, text = one_process
    found, output = trained(tmp_path, ranks)
    assert same_bits(found, expected)
    assert output == text


def test_one_rank_runs_without_mpi_to_the_bits_of_its_shards(one_process, tmp_path):
    expected, _ = one_process
    assert same_bits(trained(tmp_path, 1)[0], expected)
    other, _ = trained(tmp_path / "other", 1, "--shards", 3)
    assert not same_bits(other, expected)


SLOW = [pytest.mark.slow]
STATUS = {
    "shows": (5, "rank 0 has 'words', __main__, ['-x', 'y']\n", ""),
    "raises": (1, "", "rank 1 of 2 failed, and ends the job:\nTraceback"),
    "raises_everywhere": (1, "before\n", "rank 0 of 2 failed, and ends the job:\nTraceback"),
    "dies": (137, "", "rank 1 of 2 was killed by signal 9 (SIGKILL) before the end of the script"),
    "leaves": (3, "", "rank 1 of 2 exited with 3 before the end of the script"),
    "text": (1, "", "the data are missing\n"),
    "step": (1, "", "rank 1 of 2 failed, and ends the job:\nTraceback"),
    "shuffles": (1, "", "examples/0 is float32"),
    "hangs": (1, "", "rank 1 of 2 kept the other ranks waiting for more than 6 seconds"),
    "plots": (0, "plotted\n", ""),
    "separates": (0, None, ""),
    "draws": (0, "trained\n", ""),
    "hangs_in_an_update": (1, "", "rank 1 of 2 kept the other ranks waiting for more than 6 "),
    "stops": (1, "", "rank 1 of 2 did not respond for more than 6 seconds"),
}
FAST = ("shows", "raises_everywhere", "dies")
JOBS = [
    pytest.param(name, *expected, marks=[] if name in FAST else SLOW, id=name)
    for name, expected in STATUS.items()
]


@needs_mpi
@pytest.mark.parametrize(("name", "status", "output", "message"), JOBS)
def test_a_job_ends_with_one_status_one_output_and_one_error(
    name, status, output, message, tmp_path
):  # fmt: skip
    rest = {"shows": ["-x", "y"], "raises_everywhere": [tmp_path]}.get(name, [])
    limit = ["--timeout", "6"] if name in ("hangs", "hangs_in_an_update", "stops", "plots") else []
    found = result("-n", 2, "--shards", 4, *limit, JOB, name, *rest, given="words\n")
    assert found[0] == status
    assert output is None or found[1] == output
    assert message in found[2]
    assert found[2].count("Traceback") == ("Traceback" in message or name in ("step", "shuffles"))
    assert ("time.sleep(1000)" in found[2]) == ("hangs" in name)
    if not message:
        assert found[2] == ""
    if name == "raises_everywhere":
        assert (tmp_path / "0.txt").read_text("utf-8") == "not flushed"


def ready(*arguments):
    """Start a job that waits, and return it when all ranks have begun to wait."""
    process = start("-n", 2, "--shards", 4, JOB, "waits", *arguments)
    assert process.stdout.readline() == "ready\n"
    return process


@needs_mpi
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_job_as_it_ends_one_process(number):
    process = ready()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (-number, "")
    assert (
        errors.count("Traceback") == errors.count("KeyboardInterrupt") == (number == signal.SIGINT)
    )
    assert ("in waits" in errors) == (number == signal.SIGINT)
    assert not list(MEMORY.glob(f"npdl-{process.pid}-*"))


def processes(mark):
    """Return the processes that have a variable in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
    return found


@needs_mpi
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_50_killed_jobs_leave_nothing_and_resume(tmp_path):
    whole, _ = trained(tmp_path / "whole", 1, name="resume")
    generator = random.Random(0)
    for number in range(50):
        folder = tmp_path / f"run{number // 10}"
        folder.mkdir(exist_ok=True)
        own = tmp_path / f"tmp{number}"
        own.mkdir()
        job = start("-n", generator.choice([2, 3]), JOB, "resume", folder, TMPDIR=str(own))
        mark = f"TMPDIR={own}".encode()
        time.sleep(generator.uniform(0, 5))
        victims = generator.choice([("launcher",), ("mpiexec",), ("launcher", "mpiexec")])
        found = processes(mark)
        for pid, command in found.items():
            is_mpiexec = b"prterun" in command.split(b"\0")[0]
            if (pid == job.pid and "launcher" in victims) or (is_mpiexec and "mpiexec" in victims):
                os.kill(pid, signal.SIGKILL)
        job.communicate(timeout=120)
        for _ in range(600):
            if not processes(mark):
                break
            time.sleep(0.05)
        assert not processes(mark), victims
        assert not list(own.iterdir()), victims
        assert not list(MEMORY.glob(f"npdl-{job.pid}-*")), victims
        if number % 10 == 9:
            assert same_bits(trained(folder, 2, name="resume")[0], whole)


MODEL = F.serial(F.dense(6), F.batch_norm(), F.tanh(), F.dense(3))
DATA = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32), np.arange(50) % 3


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [7, 20, 50])
def test_ranks_share_the_batches_of_an_evaluation(ranks, batch_size):
    params = MODEL.init(0, (4,))
    params = MODEL.update_stats(params, MODEL.apply(params, DATA[0], train=True)[1])
    sizes = {"batch_size": batch_size}

    def job(comm):
        y = predict(MODEL, params, DATA[0], comm=comm, **sizes)
        return y, evaluate(
            MODEL, params, DATA, loss=F.softmax_cross_entropy, metrics={"accuracy": F.accuracy},
            comm=comm, **sizes,
        )  # fmt: skip

    for found in checked(on_ranks(ranks, job)):
        assert same_bits(found, job(None))


def test_an_error_of_one_rank_in_predict_raises_on_all():
    def job(comm):
        x = DATA[0][:, : 4 - comm.Get_rank()]
        return predict(F.dense(3), F.dense(3).init(0, (4,)), x, batch_size=10, comm=comm)

    first, second = on_ranks(2, job)
    assert "rank 1 failed" in str(first)
    assert isinstance(second, ValueError)


def test_outputs_of_several_arrays_are_shared():
    model = F.graph("x", {"a": (F.dense(2), "x"), "b": (F.dense(3), "a")}, ("b", "a"))
    params = model.init(0, (4,))
    expected = predict(model, params, DATA[0])

    def job(comm):
        return predict(model, params, DATA[0], batch_size=9, comm=comm)

    for found in checked(on_ranks(3, job)):
        assert tree.all_close(found, expected, rtol=1e-5, atol=1e-6)
        assert same_bits(found, job(None))


def test_fit_takes_the_number_of_shards_from_the_environment(monkeypatch):
    def train(**options):
        return fit(
            F.dense(3), F.softmax_cross_entropy, F.adam(0.1), DATA, progress=False, **options
        )

    expected = train(shards=8)
    assert not same_bits(train(), expected)
    monkeypatch.setenv("NPDL_SHARDS", "8")
    assert same_bits(train(), expected)
    assert not same_bits(train(shards=3), expected)
    for wrong in ("0", "-2", "many", "1.5"):
        monkeypatch.setenv("NPDL_SHARDS", wrong)
        with pytest.raises(ValueError, match=f"NPDL_SHARDS=8; got '{wrong}'"):
            train()


def test_without_the_launcher_a_process_is_the_first_rank():
    assert rank() == 0
    with alone():
        assert rank() == 0


WRONG = [
    ((), "expected a script or a module, as in python -m npdl.run train.py"),
    (("-n", "2"), "expected a script or a module"),
    (("-m",), "expected a script or a module"),
    (("missing.py",), "the script 'missing.py' does not exist"),
    (("-n", "0", "train.py"), "expected an int of at least 1, got '0'"),
    (("-n", "two", "train.py"), "expected an int of at least 1, got 'two'"),
    (("--shards", "0", "train.py"), "expected an int of at least 1, got '0'"),
    (("--timeout", "-1", "train.py"), "expected a positive number of seconds, got '-1'"),
    (("--timeout", "nan", "train.py"), "expected a positive number of seconds, got 'nan'"),
    (("--ranks", "2", "train.py"), "unrecognized arguments: --ranks"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_command_line_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(arguments)
    assert message in capsys.readouterr().err


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        run.main(["--help"])
    assert "example: python -m npdl.run -n 4 train.py" in capsys.readouterr().out


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("style", ["functional", "compat"])
def test_an_example_prints_the_same_on_one_and_two_ranks(style, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    example = ROOT / "examples" / "digits_cnn.py"
    options = (example, "--quick", "--shards", 4, "--style", style, "--output", tmp_path)
    outputs = [result("-n", ranks, *options)[:2] for ranks in (1, 2)]
    one, two = (re.sub("after .* s of", "", text) for _, text in outputs)
    assert [status for status, _ in outputs] == [0, 0]
    assert one == two
    assert "test accuracy 0." in one
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has one rank")
def test_without_mpi_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *args, **options: None)
    with pytest.raises(SystemExit, match=r"pip install 'npdl-functional\[mpi\]'; -n 1 runs one"):
        run.main(["-n", "2", str(JOB)])


def test_a_module_and_its_arguments_run(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "script.py").write_text("import sys; print(sys.argv[1:]); sys.exit(4)", "utf-8")
    arguments = ("-n", 1, "--shards=2", "-m", "package.script", "-n", "--shards", "7")
    found = result(*arguments, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert found == (4, "['-n', '--shards', '7']\n", "")


QUOTAS = [
    ("max 100000", "max 100000", None), ("max 100000", "100000 100000", 1),
    ("250000 100000", "max 100000", 2), ("50000 100000", "max 100000", 1), ("", "", None),
]  # fmt: skip


@pytest.mark.parametrize(("outer", "inner", "cores"), QUOTAS)
def test_the_limit_of_a_container_counts(outer, inner, cores, tmp_path, monkeypatch):
    group = tmp_path / "sys" / "fs" / "cgroup" / "a" / "b"
    group.mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n", "utf-8")
    (group.parent / "cpu.max").write_text(outer, "utf-8")
    (group / "cpu.max").write_text(inner, "utf-8")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert run.available_cores(tmp_path) == (cores or 6)
