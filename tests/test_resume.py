"""Runs that are stopped and resumed end in the bits of those that never were."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import runs
from runs import RUNS, Plateau
from strategies import identical
from test_checkpoint import fail, forge, members

import npdl
import npdl.functional as F
from npdl import checkpoint, resume, tree
from npdl.checkpoint import CheckpointError
from npdl.resume import (
    DamagedCheckpointWarning,
    FreshStartWarning,
    OtherEnvironmentWarning,
    ResumeWarning,
)
from npdl.training import Checkpoint, TrainState, fit

each_run = pytest.mark.parametrize("name", RUNS)


def equal(a, b):
    """Whether two results have the same bits; the form of the state is the same too."""
    return identical(tree.leaves(a), tree.leaves(b)) and tree.paths(a) == tree.paths(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of each run without interruption, and a checkpoint after every step."""
    made = {}

    def of(name):
        if name not in made:
            directory = tmp_path_factory.mktemp(name)
            every = Checkpoint(directory, every_steps=1, keep=1000)
            made[name] = RUNS[name](checkpoint=every), every
        return made[name]

    return of


@each_run
def test_writing_checkpoints_changes_no_bit(name, whole):
    assert equal(RUNS[name](), whole(name)[0])


@each_run
def test_the_runs_use_what_has_to_be_brought_back(name, whole):
    expected, every = whole(name)
    last = json.loads(checkpoint.scalars(every.paths()[-1])["run/header"])
    state = last["callbacks"]["dict"]["Plateau"]["dict"]
    assert state["lowered"] > 0
    assert len(every.paths()) == 24
    assert len(set(expected["history"]["loss"].tolist())) == 6


@each_run
def test_a_run_resumed_at_any_step_is_the_uninterrupted_one(name, whole, tmp_path):
    expected, every = whole(name)
    for path in every.paths():
        directory = tmp_path / path.stem
        directory.mkdir()
        shutil.copy(path, directory)
        found = RUNS[name](checkpoint=Checkpoint(directory, every_epochs=4), resume=True)
        assert equal(found, expected), path.name
