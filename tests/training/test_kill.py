"""Training that is killed at any moment and resumed: no reported step is lost, no bit differs."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import runs
from arrays import same_bits
from runs import RUNS

from npdl import checkpoint
from npdl.training import Checkpoint

PROGRAM = Path(runs.__file__)
ROOT = str(PROGRAM.parents[2])
EPOCHS = 20  # of four steps


def start(name, directory, result, epochs=EPOCHS, **options):
    command = [sys.executable, str(PROGRAM), name, str(directory), str(result), str(epochs)]
    environment = os.environ | {"PYTHONPATH": ROOT}
    environment |= options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


def live(process, lines):
    """Let a process print some lines and kill it then; return all that it printed."""
    found = []
    with process:
        for line in process.stdout:
            found.append(line.strip())
            if len(found) == lines:
                process.send_signal(signal.SIGKILL)
        errors = process.stderr.read()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return found


@pytest.fixture(scope="module")
def server():
    """A process that makes each run in a child."""
    environment = os.environ | {"PYTHONPATH": ROOT}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], env=environment, encoding="utf-8", **pipes
    ) as process:
        yield process


def live_in_child(server, arguments, lines, delay):
    """Let a child print some lines, kill it some time later; return all that it printed."""
    server.stdin.write("\t".join(map(str, arguments)) + "\n")
    server.stdin.flush()
    found = []
    for line in server.stdout:
        words = line.split()
        if words[0] == "ended":
            assert int(words[1]) in (0, signal.SIGKILL)
            return found
        found.append(line.strip())
        if len(found) == lines:
            process = int(found[0].split()[1])
            time.sleep(delay)
            # The number of a child that has ended just now is free, and hardly taken again.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    raise AssertionError(f"the server has ended after {found}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the gradients after the last update of accumulate")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_moment_ends_in_the_same_bits(name, server, tmp_path):
    """The three functional runs are killed 18 times each at least, and so is one of npdl.Model."""
    expected = RUNS[name](epochs=EPOCHS)
    random = np.random.default_rng(list(name.encode()))
    kills = attempt = 0
    while kills < 18:
        attempt += 1
        directory, result = tmp_path / f"run{attempt}", tmp_path / f"result{attempt}.npz"
        reported, finished = 0, False
        while not finished:
            # A step and its checkpoint take about ten milliseconds.
            lines, delay = int(random.integers(1, 7)), float(random.uniform(0, 0.012))
            printed = live_in_child(server, (name, directory, result, EPOCHS), lines, delay)
            written = [int(line.split()[1]) for line in printed if line.startswith("written")]
            # A reported checkpoint exists, or a newer one, so no reported step is repeated.
            assert not written or written[0] > reported
            assert written == sorted(set(written))
            reported = max([reported, *written])
            newest = Checkpoint(directory).paths()[-1:]
            assert reported == 0 or int(newest[0].stem[5:]) >= reported
            finished = "done" in printed
            kills += not finished
        assert same_bits(checkpoint.load(result, like=expected), expected)
        names = [path.name for path in directory.iterdir()]
        assert all(name.startswith("step-") for name in names)
        assert 3 <= len(names) <= 4


def test_neither_the_hash_seed_nor_the_directory_changes_a_bit(tmp_path):
    found = {}
    for seed in ("0", "1", "77"):
        place = tmp_path / seed
        place.mkdir()
        process = start(
            "lstm", "run", "result.npz", epochs=3, env={"PYTHONHASHSEED": seed}, cwd=place
        )
        assert "done" in live(process, 99)
        files = [*Checkpoint(place / "run").paths(), place / "result.npz"]
        found[seed] = {path.name: path.read_bytes() for path in files}
    assert found["0"] == found["1"] == found["77"]
    expected = RUNS["lstm"](epochs=3)
    assert same_bits(checkpoint.load(tmp_path / "0" / "result.npz", like=expected), expected)


def test_a_run_resumes_with_another_directory_and_hash_seed(tmp_path):
    seeds = iter(["5", "6", "random"])
    reported = done = 0
    while not done:
        place = tmp_path / str(reported)
        place.mkdir()
        process = start(
            "mlp", tmp_path / "run", tmp_path / "result.npz", epochs=3,
            env={"PYTHONHASHSEED": next(seeds)}, cwd=place,
        )  # fmt: skip
        printed = live(process, 6 if reported < 6 else 99)
        reported += len(printed)
        done = "done" in printed
    expected = RUNS["mlp"](epochs=3)
    assert same_bits(checkpoint.load(tmp_path / "result.npz", like=expected), expected)
