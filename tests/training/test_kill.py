"""Training that is killed at any moment, and goes on: nothing reported is lost, no bit differs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import runs
from runs import RUNS, equal

from npdl import checkpoint
from npdl.training import Checkpoint

PROGRAM = Path(runs.__file__)
EPOCHS = 20  # of four steps


def start(name, directory, result, epochs=EPOCHS, **options):
    command = [sys.executable, str(PROGRAM), name, str(directory), str(result), str(epochs)]
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parent.parent)}
    environment |= options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


def live(process, lines, delay):
    """Let a process print some lines, kill it some time later; return all that it printed."""
    found = []
    with process:
        for line in process.stdout:
            found.append(line.strip())
            if len(found) == lines:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
        errors = process.stderr.read()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the gradients after the last update of accumulate")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_moment_ends_in_the_same_bits(name, tmp_path):
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
            printed = live(start(name, directory, result), lines, delay)
            written = [int(line.split()[1]) for line in printed if line.startswith("written")]
            # What was reported is there, or something newer, so no step of it is made again.
            assert not written or written[0] > reported
            assert written == sorted(set(written))
            reported = max([reported, *written])
            newest = Checkpoint(directory).paths()[-1:]
            assert reported == 0 or int(newest[0].stem[5:]) >= reported
            finished = "done" in printed
            kills += not finished
        assert equal(checkpoint.load(result, like=expected), expected)
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
        assert "done" in live(process, 99, 0)
        files = [*Checkpoint(place / "run").paths(), place / "result.npz"]
        found[seed] = {path.name: path.read_bytes() for path in files}
    assert found["0"] == found["1"] == found["77"]
    expected = RUNS["lstm"](epochs=3)
    assert equal(checkpoint.load(tmp_path / "0" / "result.npz", like=expected), expected)


def test_a_run_goes_on_in_another_directory_with_another_hash_seed(tmp_path):
    seeds = iter(["5", "6", "random"])
    reported = done = 0
    while not done:
        place = tmp_path / str(reported)
        place.mkdir()
        process = start(
            "mlp", tmp_path / "run", tmp_path / "result.npz", epochs=3,
            env={"PYTHONHASHSEED": next(seeds)}, cwd=place,
        )  # fmt: skip
        printed = live(process, 6 if reported < 6 else 99, 0)
        reported += len(printed)
        done = "done" in printed
    expected = RUNS["mlp"](epochs=3)
    assert equal(checkpoint.load(tmp_path / "result.npz", like=expected), expected)
