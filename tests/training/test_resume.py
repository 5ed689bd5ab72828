"""Runs that are stopped and resumed end in the bits of those that never were."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runs
from arrays import same_bits
from checkpoint_files import forge, members, npy
from interrupted import MODEL, EndAt, EndedError, Growing, X, Y, ended, names, train
from runs import RUNS

import npdl
import npdl.functional as F
from npdl import checkpoint, tree
from npdl.checkpoint import CheckpointError
from npdl.training import Checkpoint, fit
from npdl.training._checkpoint import (
    DamagedCheckpointWarning,
    FinishedRunWarning,
    FreshStartWarning,
    OtherEnvironmentWarning,
    ResumeWarning,
)

# Many of these runs are resumed at their end, among other places.
pytestmark = pytest.mark.filterwarnings("ignore::npdl.training._checkpoint.FinishedRunWarning")

each_run = pytest.mark.parametrize("name", RUNS)


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
    assert same_bits(RUNS[name](), whole(name)[0])


@each_run
def test_the_runs_use_every_kind_of_saved_state(name, whole):
    expected, every = whole(name)
    with np.load(every.paths()[-1]) as last:
        values = json.loads(last["run/text"].tobytes())
    state = values["dict"]["callbacks"]["dict"]["Plateau"]["dict"]
    assert state["lowered"] > 0
    assert len(every.paths()) == 24
    assert len(set(expected["history"]["loss"].tolist())) == 6


def each_fifth(paths):
    """Of six epochs with four steps each: each epoch, each place in an epoch, and the end."""
    return [*paths[::5], paths[-1]]


@pytest.mark.parametrize(
    "chosen", [each_fifth, pytest.param(sorted, marks=pytest.mark.slow)], ids=["some", "all"]
)
@each_run
def test_a_run_resumed_at_any_step_is_the_uninterrupted_one(name, chosen, whole, tmp_path):
    expected, every = whole(name)
    for path in chosen(every.paths()):
        directory = tmp_path / path.stem
        directory.mkdir()
        shutil.copy(path, directory)
        found = RUNS[name](checkpoint=Checkpoint(directory, every_epochs=4), resume=True)
        assert same_bits(found, expected), path.name


# A small run, for all that is about files


def test_epochs_count_the_whole_run(tmp_path):
    ended(tmp_path, 6, epochs=5)
    state, history = train(tmp_path, epochs=5, resume=True)
    expected, figures = train(epochs=5)
    assert same_bits(state, expected)
    assert history == figures
    assert state.step == 20


def test_epochs_of_a_run_that_went_on_from_a_state_begin_there(tmp_path):
    state, _ = train(epochs=2)
    ended(tmp_path, 11, epochs=3, state=state)
    found, history = train(tmp_path, epochs=3, state=state, resume=True)
    expected, figures = train(epochs=3, state=state)
    assert same_bits(found, expected)
    assert history == figures
    assert found.step == 20


def test_a_finished_run_is_read_and_continues_to_more_epochs(tmp_path):
    state, history = train(tmp_path)
    for epochs in (3, 2):
        message = f"ended already, with epoch 3; this call asks for epochs={epochs}"
        with pytest.warns(FinishedRunWarning, match=message):
            again, same = train(tmp_path, epochs=epochs, resume=True)
        assert same_bits(again, state)
        assert same == history
    longer, _ = train(tmp_path, epochs=5, resume=True)
    assert same_bits(longer, train(epochs=5)[0])


def test_a_run_that_a_callback_has_ended_stays_ended(tmp_path):
    class Stop:
        def set_model(self, model):
            self.model = model

        def on_train_batch_end(self, batch, logs):
            self.model.stop_training |= self.model.state.step == 6

    expected, _ = train(callbacks=[Stop()])
    train(tmp_path / "a", callbacks=[Stop()])
    assert len(names(tmp_path / "a")) == 3
    for path in Checkpoint(tmp_path / "a").paths():
        directory = tmp_path / path.stem
        directory.mkdir()
        shutil.copy(path, directory)
        assert same_bits(train(directory, callbacks=[Stop()], resume=True)[0], expected)
    with pytest.warns(FinishedRunWarning, match="epoch 2; a callback had ended it, and it stays"):
        train(tmp_path / "a", callbacks=[Stop()], epochs=9, resume=True)


def test_the_end_of_a_run_is_written_though_it_is_not_its_turn(tmp_path):
    train(tmp_path, keywords={"every_steps": 5})
    assert names(tmp_path) == [f"step-{step:09d}.npz" for step in (5, 10, 12)]


def test_nothing_to_resume_starts_fresh_and_says_so(tmp_path):
    with pytest.warns(FreshStartWarning, match=r"runs holds no checkpoint: training starts"):
        state, _ = train(tmp_path / "runs", resume=True)
    assert same_bits(state, train()[0])
    assert issubclass(FreshStartWarning, ResumeWarning)


def test_a_directory_of_another_run_is_not_written_over(tmp_path):
    train(tmp_path, epochs=1)
    before = names(tmp_path)
    with pytest.raises(FileExistsError, match=r"the newest is step-000000004\.npz; pass"):
        train(tmp_path, epochs=1)
    assert names(tmp_path) == before


def test_files_that_a_kill_has_left_are_removed_and_others_stay(tmp_path):
    train(tmp_path, epochs=1, keywords={"keep": 1})
    (tmp_path / ".step-000000009.npz.0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    train(tmp_path, epochs=1, resume=True)
    assert names(tmp_path) == ["notes.txt", "step-000000004.npz"]


# Kept files

STAYS = {
    "the newest": ({}, [10, 11, 12]),
    "one": ({"keep": 1}, [12]),
    "epochs": ({"every_steps": None, "every_epochs": 1, "keep": 9}, [4, 8, 12]),
    "every other": ({"every_steps": None, "every_epochs": 2, "keep": 9}, [8, 12]),
    "both": ({"every_steps": 3, "every_epochs": 1, "keep": 9}, [3, 4, 6, 8, 9, 12]),
    "and the best": ({"keep": 1, "best": "val_loss", "mode": "max"}, [4, 12]),
    "only the best": (
        {"every_steps": None, "keep": 1, "best": "val_loss", "mode": "max"},
        [4, 12],
    ),
}


@pytest.mark.parametrize(("keywords", "steps"), STAYS.values(), ids=STAYS)
def test_the_newest_and_the_best_stay(keywords, steps, tmp_path):
    _, history = train(tmp_path, keywords=keywords, validation=(X, Y))
    assert np.argmax(history["val_loss"]) == 0
    assert names(tmp_path) == [f"step-{step:09d}.npz" for step in steps]
    if "best" in keywords:
        assert Checkpoint(tmp_path).best_path().name == "step-000000004.npz"
    else:
        with pytest.raises(FileNotFoundError, match="no checkpoint of a best epoch"):
            Checkpoint(tmp_path).best_path()


def test_a_file_that_cannot_be_removed_ends_no_run(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        if path.suffix == ".npz":
            raise PermissionError(path)
        remove(path, missing_ok)

    remove = Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        train(tmp_path, epochs=3, keywords={"keep": 1})
    assert len(names(tmp_path)) == 12
    train(tmp_path, epochs=4, keywords={"keep": 1}, resume=True)
    assert len(names(tmp_path)) == 1


def test_the_best_value_of_a_resumed_run_covers_the_whole_run(tmp_path):
    keywords = {"keep": 1, "best": "val_loss", "mode": "max"}
    ended(tmp_path, 7, keywords=keywords, validation=(X, Y))
    train(tmp_path, keywords=keywords, validation=(X, Y), resume=True)
    assert names(tmp_path) == ["step-000000004.npz", "step-000000012.npz"]


def test_the_state_of_the_best_epoch_can_be_read(tmp_path):
    states = []

    class Watch:
        def set_model(self, model):
            self.model = model

        def on_epoch_end(self, epoch, logs):
            states.append(self.model.state)

    keywords = {"best": "val_accuracy", "keep": 1}
    figures = {"accuracy": F.accuracy}
    state, history = train(
        tmp_path, keywords=keywords, validation=(X, Y), metrics=figures, callbacks=[Watch()]
    )
    best = checkpoint.load(Checkpoint(tmp_path).best_path(), like=state, partial=True)
    assert same_bits(best, states[np.argmax(history["val_accuracy"])])


def test_nan_is_never_the_best():
    best = Checkpoint(".", best="loss")
    assert not best.is_better(float("nan"), None)
    assert best.is_better(2.0, None)
    assert not best.is_better(2.0, (2.0, 1))
    assert best.is_better(1.0, (2.0, 1))
    assert not Checkpoint(".", best="loss", mode="max").is_better(1.0, (2.0, 1))


WRONG = {
    "a figure": (
        {"best": "val_loss"},
        ValueError,
        "'val_loss', because the run has no validation data",
    ),
    "a name": ({"best": "score"}, ValueError, "pass mode='min' or mode='max'"),
    "a mode": ({"best": "loss", "mode": "least"}, ValueError, "mode must be 'auto'"),
    "steps": ({"every_steps": 0}, ValueError, "every_steps must be an int of at least 1, .* got 0"),
    "epochs": ({"every_epochs": 0.5}, ValueError, "every_epochs must be an int of at least 1"),
    "keep": ({"keep": 0}, ValueError, "keep must be an int of at least 1"),
}


@pytest.mark.parametrize(("keywords", "error", "message"), WRONG.values(), ids=WRONG)
def test_bad_arguments_are_named(keywords, error, message, tmp_path):
    with pytest.raises(error, match=message):
        train(tmp_path, keywords=keywords)


@pytest.mark.parametrize("options", [{"resume": True}, {"checkpoint": "runs"}])
def test_a_call_without_a_checkpoint_says_how_to_make_one(options):
    with pytest.raises(TypeError, match=r"expected checkpoint=Checkpoint\(directory\), got"):
        fit(MODEL, F.softmax_cross_entropy, F.sgd(0.1), (X, Y), progress=False, **options)


# Checkpoints of other runs


class Waiting(npdl.callbacks.Callback):
    def state(self):
        return {"waited": 3}

    def restore(self, state):
        assert state == {"waited": 3}


class Lacking(Waiting):
    pass


OTHERS = {
    "the model": (
        {"model": F.serial(F.dense(5), F.relu(), F.dense(3))},
        ["model: serial(dense(units=5), tanh(), dense(units=3)) in the checkpoint, serial(dense("],
    ),
    "sizes": (
        {"model": F.serial(F.dense(6), F.tanh(), F.dense(3))},
        ["params/0/weight: float32[4, 5] in the checkpoint, float32[4, 6] here", "opt_state/0/"],
    ),
    "layers": (
        {"model": F.serial(F.dense(3))},
        ["params/2/weight: float32[5, 3] in the checkpoint, none here"],
    ),
    "the optimizer": (
        {"optimizer": F.adam(0.01)},
        ["optimizer: chain(scale_by_adam(), scale_by_learning_rate(learning_rate=0.05)) in"],
    ),
    "the state of the optimizer": (
        {"optimizer": F.sgd(0.05)},
        ["opt_state/0/count: int in the checkpoint, none here"],
    ),
    "the loss": (
        {"loss": lambda outputs, y: F.softmax_cross_entropy(outputs, y)},
        ["loss: <function softmax_cross_entropy> in the checkpoint, <function <lambda>> here"],
    ),
    "the figures": ({"metrics": {"accuracy": F.accuracy}}, ["metrics: loss in the checkpoint, lo"]),
    "the batches": (
        {"batch_size": 4},
        ["data: 20 examples in batches of 5, shuffled in the check"],
    ),
    "the order": ({"shuffle": False}, ["data: 20 examples in batches of 5, shuffled in the"]),
    "the examples": ({"data": (X[1:], Y[1:])}, ["data: 20 examples", "19 examples in batches of"]),
    "the validation": ({"validation": (X, Y)}, ["validation: 0 examples in the checkpoint, 20"]),
    "the key": ({"rng": 1}, ["key: (0,) in the checkpoint, (1,) here"]),
    "the figure of the best": (
        {"keywords": {"best": "loss"}},
        ["best: none in the checkpoint, loss (auto) here"],
    ),
    "a callback less": (
        {"callbacks": []},
        ["callback Waiting: given in the checkpoint, none here"],
    ),
    "a callback more": (
        {"callbacks": [Waiting(), Waiting(), Lacking()]},
        ["callback Waiting 2: none in the checkpoint, given here", "callback Lacking: none"],
    ),
}


@pytest.mark.parametrize(("options", "lines"), OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_run_names_the_differences(options, lines, tmp_path):
    train(tmp_path, epochs=1, callbacks=[Waiting()])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="is a checkpoint of another run:") as caught:
        train(tmp_path, resume=True, **{"callbacks": [Waiting()]} | options)
    for line in lines:
        assert f"\n  {line}" in str(caught.value) or line in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_callbacks_that_watch_other_figures_are_differences_too(tmp_path):
    EarlyStopping = npdl.callbacks.EarlyStopping
    options = {"validation": (X, Y), "metrics": {"accuracy": F.accuracy}}
    train(tmp_path, epochs=1, callbacks=[EarlyStopping(), EarlyStopping("loss")], **options)
    others = [EarlyStopping("val_accuracy"), EarlyStopping("loss", mode="max")]
    with pytest.raises(CheckpointError, match="is a checkpoint of another run:") as caught:
        train(tmp_path, resume=True, callbacks=others, **options)
    first = "metric of EarlyStopping: val_loss (min) in the checkpoint, val_accuracy (max) here"
    second = "metric of EarlyStopping 2: loss (min) in the checkpoint, loss (max) here"
    assert f"\n  {first}\n  {second}\n" in str(caught.value)


def test_a_callback_that_refuses_its_state_keeps_the_model(tmp_path):
    class Refuses(npdl.callbacks.Callback):
        def state(self):
            return {"seen": 1}

        def restore(self, state):
            raise KeyError("watched")

    def model():
        made = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=4)])
        made.compile(optimizer=npdl.optimizers.Momentum(lr=0.1))
        return made

    first = model()
    first.fit(X, Y, epochs=2, verbose=0, checkpoint=Checkpoint(tmp_path), callbacks=[Refuses()])
    second = model()
    weights, generator = second.get_weights(), npdl.utils.random.get_state()
    with pytest.raises(KeyError, match="watched") as caught:
        second.fit(
            X, Y, epochs=3, verbose=0, checkpoint=Checkpoint(tmp_path), resume=True,
            callbacks=[Refuses()],
        )  # fmt: skip
    assert "in restore of the callback Refuses" in caught.value.__notes__[0]
    assert all(map(np.array_equal, second.get_weights(), weights))
    assert not any(map(np.array_equal, first.get_weights(), weights))
    assert npdl.utils.random.get_state() == generator
    assert second.optimizer.iterations == 0


def test_long_descriptions_are_shown_where_they_differ():
    layers = [F.dense(5)] * 30
    a, b = F.serial(*layers, F.dense(6), *layers), F.serial(*layers, F.dense(71), *layers)
    short = npdl.training._position._shortened(repr(a), repr(b))
    assert [len(text) < 120 for text in short] == [True, True]
    assert "dense(units=6)" in short[0]
    assert "dense(units=71)" in short[1]


def test_a_callback_that_has_no_state_may_come_and_go(tmp_path):
    class Quiet(npdl.callbacks.Callback):
        state = None

    ended(tmp_path, 6)
    state, _ = train(tmp_path, resume=True, callbacks=[Quiet()])
    assert same_bits(state, train()[0])


def test_the_states_of_two_callbacks_of_a_class_are_kept_apart(tmp_path):
    class Count(npdl.callbacks.Callback):
        def __init__(self, step):
            self.step, self.count = step, 0

        def on_train_batch_end(self, batch, logs=None):
            self.count += self.step

        def state(self):
            return self.count

        def restore(self, state):
            self.count = state

    with pytest.raises(EndedError):
        train(tmp_path, callbacks=[Count(1), Count(100), EndAt(6)])
    counts = [Count(1), Count(100)]
    train(tmp_path, callbacks=counts, resume=True)
    assert [each.count for each in counts] == [12, 1200]


@pytest.mark.parametrize("newest", [True, False], ids=["the newest", "all"])
def test_a_version_of_the_future_is_refused_by_name(newest, tmp_path):
    ended(tmp_path, 9)
    before = names(tmp_path)
    for path in Checkpoint(tmp_path).paths()[-1 if newest else 0 :]:
        change_header(path, version=99)
    with pytest.raises(CheckpointError, match=r"has version 99 .*, and this npdl reads version 2"):
        train(tmp_path, resume=True)
    assert names(tmp_path) == before


def change(path, **fields):
    """Change fields of a position, as a forger would, with all checksums in order."""
    pairs = members(path)
    with np.load(path) as found:
        values = json.loads(found["run/text"].tobytes())["dict"]
    text = json.dumps({"dict": values | fields}).encode()
    forge(path, (pairs | {"run/text.npy": npy(np.frombuffer(text, np.uint8))}).items())


def change_header(path, **fields):
    pairs = members(path)
    header = json.loads(pairs["npdl.json"])
    forge(path, (pairs | {"npdl.json": json.dumps(header | fields)}).items())


def elsewhere(path, **environment):
    change_header(path, environment=checkpoint.environment(path) | environment)


def test_resuming_elsewhere_warns_of_the_differences(tmp_path):
    ended(tmp_path, 6)
    elsewhere(tmp_path / "step-000000005.npz", threads=77, machine="Plan9 vax", more=1)
    with pytest.warns(OtherEnvironmentWarning) as caught:
        state, _ = train(tmp_path, resume=True)
    message = str(caught.pop(OtherEnvironmentWarning).message)
    assert "threads 77 there, " in message
    assert "machine 'Plan9 vax' there" in message
    assert "more 1 there, None here" in message
    assert "numpy" not in message
    assert same_bits(state, train()[0])


def test_each_warning_points_to_the_call_of_fit(tmp_path):
    def call():
        fit(
            MODEL, F.softmax_cross_entropy, F.sgd(0.1), (X, Y), progress=False, epochs=2,
            checkpoint=Checkpoint(tmp_path), resume=True,
        )  # fmt: skip

    with pytest.warns(FreshStartWarning) as first:
        call()
    older, newest = Checkpoint(tmp_path).paths()
    newest.write_bytes(b"")
    elsewhere(older, threads=77)
    with pytest.warns(ResumeWarning) as second:
        call()
    assert [each.category for each in second] == [DamagedCheckpointWarning, OtherEnvironmentWarning]
    assert [each.filename for each in (*first, *second)] == [__file__] * 3


def test_unsavable_values_are_found_before_training(tmp_path):
    @F.layer
    def odd():
        return F.Layer(
            lambda rng, shape: {"names": np.array(["a"], object)},
            lambda params, x: (x, None),
            lambda params, cache, g: (None, g),
        )

    with pytest.raises(TypeError, match=r"the leaf at \S*0/names is a ndarray of object"):
        train(tmp_path / "run", model=F.serial(odd(), F.dense(3)))
    assert not (tmp_path / "run").exists()


# Damaged checkpoints


def test_the_newest_good_one_is_taken_and_the_damaged_are_named(tmp_path):
    expected, history = train()
    ended(tmp_path, 9, keywords={"keep": 9})
    newest, second = (tmp_path / f"step-{step:09d}.npz" for step in (8, 7))
    newest.write_bytes(newest.read_bytes()[:-30])
    data = bytearray(second.read_bytes())
    data[data.index(b"NUMPY") + 200] ^= 4
    second.write_bytes(data)
    before = newest.read_bytes()
    with pytest.warns(DamagedCheckpointWarning) as caught:
        state, figures = train(tmp_path, resume=True, keywords={"keep": 2})
    for name in ("step-000000008.npz", "step-000000007.npz"):
        (message,) = (m for w in caught if f"because {name}" in (m := str(w.message)))
        assert message.startswith("training continues from step-000000006.npz")
        assert f"was renamed to {name}.damaged: " in message
        assert "is damaged" in message
    assert same_bits(state, expected)
    assert figures == history
    assert (tmp_path / "step-000000008.npz.damaged").read_bytes() == before
    assert [path.name for path in Checkpoint(tmp_path).paths()] == [
        "step-000000011.npz",
        "step-000000012.npz",
    ]


def test_with_damaged_checkpoints_only_each_is_named_and_kept(tmp_path):
    ended(tmp_path, 9)
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    before = names(tmp_path)
    with pytest.raises(CheckpointError, match="none of the checkpoints in") as caught:
        train(tmp_path, resume=True)
    assert names(tmp_path) == before
    assert all(name in str(caught.value) for name in before)


@pytest.mark.parametrize("number", ["EMFILE", "ENFILE", "ESTALE", "EACCES", "ENOMEM", "EIO"])
def test_a_passing_error_of_the_system_is_not_damage(number, tmp_path, monkeypatch):
    ended(tmp_path, 9)
    before = names(tmp_path)
    refused = tmp_path / "step-000000008.npz"
    opened = Path.open

    def open(path, mode="r", *args, **options):
        if path == refused and mode == "rb":
            raise OSError(getattr(errno, number), "not now")
        return opened(path, mode, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open)
        with pytest.raises(OSError, match="not now") as caught:
            train(tmp_path, resume=True)
    assert "nothing was changed or trained; try again, or move the" in caught.value.__notes__[-1]
    assert names(tmp_path) == before
    assert same_bits(train(tmp_path, resume=True)[0], train()[0])


@pytest.mark.parametrize("number", ["EIO", "ESTALE"])
def test_an_error_while_a_checkpoint_is_read_is_not_damage(number, tmp_path, monkeypatch):
    ended(tmp_path, 9)
    before = names(tmp_path)
    calls = []

    def read_array(*args, **options):
        calls.append(args)
        raise OSError(getattr(errno, number), "not now")

    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, "read_array", read_array)
        with pytest.raises(OSError, match="not now"):
            train(tmp_path, resume=True)
    assert calls
    assert names(tmp_path) == before


def test_a_second_damage_at_a_step_leaves_the_file_of_the_first(tmp_path):
    for number in range(3):
        if number:
            ended(tmp_path, 9, resume=True)
        else:
            ended(tmp_path, 9)
        (tmp_path / "step-000000008.npz").write_bytes(b"damage %d" % number)
        with pytest.warns(DamagedCheckpointWarning, match="step-000000008"):
            ended(tmp_path, 8, resume=True)
    aside = [name for name in names(tmp_path) if "damaged" in name]
    assert aside == [f"step-000000008.npz.damaged{end}" for end in ("", "-2", "-3")]
    assert [(tmp_path / name).read_bytes()[-1:] for name in aside] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("epochs", [3, 4], ids=["at the end", "before"])
def test_files_that_a_kill_has_left_beyond_keep_are_removed(epochs, tmp_path):
    keywords = {"keep": 1, "best": "loss", "mode": "max"}
    train(tmp_path, keywords=keywords | {"keep": 99})
    assert len(names(tmp_path)) == 12  # as if a kill had come before each removal
    train(tmp_path, epochs=epochs, keywords=keywords, resume=True)
    assert names(tmp_path) == ["step-000000004.npz", f"step-{4 * epochs:09d}.npz"]


def test_a_checkpoint_of_save_alone_is_none_of_fit(tmp_path):
    checkpoint.save(tmp_path / "step-000000001.npz", {"a": 1})
    with pytest.raises(CheckpointError, match="is damaged, or not a checkpoint of fit"):
        train(tmp_path, resume=True)


FORGED = {
    "an epoch of text": {"epoch": "3"},
    "a negative batch": {"batch": -1},
    "an epoch of digits": {"epoch": {"float": "3ff0000000000000"}},
    "a best of text": {"best": {"tuple": ["a", "b"]}},
    "a best that is a list": {"best": [1.0, 4]},
    "a step that is a path": {"best": {"tuple": [1.0, "../../x"]}},
    "another step": {"step": 5},
    "no callbacks": {"callbacks": None},
    "callbacks that are a list": {"callbacks": [1]},
    "no settings": {"settings": 7},
    "a field of the future": {"more": 1},
    "totals that are a list": {"totals": []},
    "arrays of objects": {"totals": {"dict": {"a": {"array": ["object", [1]]}}}},
    "arrays of nothing": {"totals": {"dict": {"a": {"array": ["float32", [3]]}}}},
    "a negative shape": {"totals": {"dict": {"a": {"array": ["floats", [-3]]}}}},
    "many axes": {"totals": {"dict": {"a": {"array": ["floats", [1] * 99]}}}},
    "a truth value": {"stopped": "no"},
}


@pytest.mark.parametrize("fields", FORGED.values(), ids=FORGED)
def test_a_forged_position_is_refused(fields, tmp_path):
    train(tmp_path, epochs=1, keywords={"keep": 1})
    change(tmp_path / "step-000000004.npz", **fields)
    with pytest.raises(CheckpointError):
        train(tmp_path, resume=True)


class Keeping(npdl.callbacks.Callback):
    """Has a large state."""

    kept = np.zeros(1000)

    def state(self):
        return (self.kept, {"more": [np.float32(3), None]})

    def restore(self, state):
        self.restored = state


def test_the_arrays_of_callbacks_are_bounded_in_both_directions(tmp_path):
    with pytest.raises(
        ValueError, match=r"take 8004 bytes, more than Checkpoint\(limit=8003\) allows"
    ):
        train(tmp_path / "a", callbacks=[Keeping()], keywords={"limit": 8003})
    assert names(tmp_path / "a") == []
    train(tmp_path / "b", callbacks=[Keeping()], keywords={"limit": 8004})
    keeping = Keeping()
    train(tmp_path / "b", callbacks=[keeping], keywords={"limit": 8004}, resume=True)
    assert same_bits(keeping.restored, keeping.state())
    with pytest.raises(CheckpointError, match=r"more than Checkpoint\(limit=\d+\) allows"):
        train(tmp_path / "b", callbacks=[Keeping()], keywords={"limit": 8003}, resume=True)


def test_a_state_that_no_file_can_hold_is_named(tmp_path):
    class Odd(npdl.callbacks.Callback):
        def state(self):
            return {"when": {1, 2}}

    with pytest.raises(TypeError, match=r"but not \{1, 2\}"):
        train(tmp_path, callbacks=[Odd()])
    assert names(tmp_path) == []


# Directories and disks


def places(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    return {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "run"}


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_an_impossible_directory_is_an_error_before_training(place, tmp_path):
    steps = []

    class Watch:
        def on_train_begin(self, logs):
            steps.append(0)

    with pytest.raises(OSError, match="no checkpoints can be written in") as caught:
        train(places(tmp_path)[place], callbacks=[Watch()])
    assert "nothing was trained" in str(caught.value)
    assert not steps


def test_a_read_only_directory_is_an_error_before_training(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):  # by root, whom no mode stops
        opened = Path.open

        def open(path, mode="r", *args, **options):
            if "x" in mode:
                raise PermissionError(13, "Permission denied")
            return opened(path, mode, *args, **options)

        monkeypatch.setattr(Path, "open", open)
    with pytest.raises(PermissionError, match="no checkpoints can be written in"):
        train(tmp_path)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(("limit", "last"), [(7, 2), (8, 3)], ids=["file", "directory"])
def test_a_full_disk_keeps_the_last_good_checkpoint(limit, last, tmp_path, monkeypatch):
    # Three calls before the run, and two for each checkpoint: for the file and for its name.
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > limit:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path)
    assert names(tmp_path) == [f"step-{step + 1:09d}.npz" for step in range(last)]
    state, _ = train(tmp_path, resume=True)
    assert same_bits(state, train()[0])


PROGRAM = """
import resource, sys
sys.path[:0] = {folders!r}
import interrupted
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
interrupted.train({directory!r}, callbacks=[interrupted.Growing()])
"""


def test_a_file_size_limit_keeps_the_last_good_checkpoint(tmp_path):
    directory = tmp_path / "run"
    program = PROGRAM.format(folders=sys.path, directory=str(directory), size=32_000)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8"
    )
    assert "File too large" in ran.stderr
    assert all(name.startswith("step-") for name in names(directory))
    assert 1 < int(Checkpoint(directory).paths()[-1].stem[5:]) < 12
    state, _ = train(directory, callbacks=[Growing()], resume=True)
    assert same_bits(state, train()[0])


def test_bytes_changed_by_a_disk_do_not_replace_a_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    checkpoint.save(path, {"a": np.ones(9)})
    sync = os.fsync

    def flip(descriptor):
        with Path(f"/proc/self/fd/{descriptor}").open("r+b") as file:
            file.seek(-400, 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", flip)
    with pytest.raises(CheckpointError, match="is the disk or the memory broken") as caught:
        checkpoint.save(path, {"a": np.zeros(9)})
    assert "an old file is unchanged" in str(caught.value.__notes__)
    monkeypatch.undo()
    assert same_bits(checkpoint.load(path, like={"a": np.ones(9)}), {"a": np.ones(9)})
    assert names(tmp_path) == ["run.npz"]


# npdl.Model


def test_a_model_is_made_of_a_checkpoint_of_fit(tmp_path):
    found = RUNS["compat"](checkpoint=Checkpoint(tmp_path), epochs=2)
    rng = npdl.utils.get_rng()
    model = npdl.Model.load(Checkpoint(tmp_path).paths()[-1])
    assert same_bits(model.optimizer.get_state(), found["optimizer"])
    npdl.utils.set_rng(rng)


def test_a_model_without_a_configuration_can_be_resumed(tmp_path):
    class Doubled(npdl.layers.Dense):
        def __init__(self, function, **options):
            super().__init__(**options)
            self.function = function

    def trained(epochs, **options):
        npdl.utils.set_seed(0)
        model = npdl.Model([Doubled(abs, n_out=3, n_in=4)])
        model.compile(loss="mse", optimizer="sgd")
        targets = npdl.utils.one_hot(Y, 3)
        model.fit(X, targets, epochs=epochs, batch_size=5, verbose=0, **options)
        return model

    rng = npdl.utils.get_rng()
    try:
        trained(1, checkpoint=Checkpoint(tmp_path))
        found = trained(3, checkpoint=Checkpoint(tmp_path), resume=True)
        assert same_bits(found.get_weights(), trained(3).get_weights())
        with pytest.raises(CheckpointError, match="holds no configuration of a model"):
            npdl.Model.load(Checkpoint(tmp_path).paths()[-1])
        found.load_weights(Checkpoint(tmp_path).paths()[-1])
    finally:
        npdl.utils.set_rng(rng)


def test_a_model_of_other_layers_is_refused_and_left_as_it_was(tmp_path):
    RUNS["compat"](checkpoint=Checkpoint(tmp_path), epochs=1)
    rng = npdl.utils.get_rng()
    npdl.utils.set_seed(0)
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=4)])
    model.compile(optimizer=npdl.optimizers.SGD(lr=0.5))
    weights, generator = model.get_weights(), runs.get_state()
    with pytest.raises(CheckpointError, match="another run") as caught:
        model.fit(X, Y, verbose=0, checkpoint=Checkpoint(tmp_path), resume=True)
    assert "layers: " in str(caught.value)
    assert "optimizer: Adam(lr=0.02) in the checkpoint, SGD(lr=0.5) here" in str(caught.value)
    assert same_bits(model.get_weights(), weights)
    assert runs.get_state() == generator
    npdl.utils.set_rng(rng)


@pytest.mark.parametrize("set_rng", ["global", "generator"])
def test_the_generator_of_any_kind_is_brought_back(set_rng, tmp_path, monkeypatch):
    from npdl.compat.utils import random as settings

    def begin(seed):
        if set_rng == "global":
            np.random.seed(3)  # noqa: NPY002
            npdl.utils.set_rng(np.random)
        else:
            npdl.utils.set_rng(np.random.Generator(np.random.MT19937(3)))

    monkeypatch.setattr(npdl.utils, "set_seed", begin)
    before = np.random.get_state()  # noqa: NPY002
    rng = settings.get_rng()
    try:
        expected = RUNS["compat"](epochs=2)
        every = Checkpoint(tmp_path, every_steps=1, keep=99)
        RUNS["compat"](epochs=2, checkpoint=every)
        for path in every.paths():
            directory = tmp_path / path.stem
            directory.mkdir()
            shutil.copy(path, directory)
            found = RUNS["compat"](epochs=2, checkpoint=Checkpoint(directory), resume=True)
            assert same_bits(found, expected)
    finally:
        settings.set_rng(rng)
        np.random.set_state(before)  # noqa: NPY002


ODD = {
    "numbers": [0, -1, 2**70, 0.1, -0.0, 1e308, 5e-324, float("inf"), -float("inf"), float("nan")],
    "text": ["", "é\0\n", "名", "\ud83d"],
    "nothing": [None, [], (), {}, True, False],
    "nested": {"a": ({"dict": {"tuple": [1]}, "array": 0}, [(), [()]])},
    "arrays": [
        np.array(3.5),
        np.float32(2),
        np.zeros((0, 3), np.int8),
        np.arange(6).reshape(2, 3).T,
        np.array([True]),
        np.ones(2, np.complex64),
    ],
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_the_state_of_a_callback_comes_back_as_it_was(value, tmp_path):
    class Odd(npdl.callbacks.Callback):
        def state(self):
            return value

        def restore(self, state):
            self.restored = state

    train(tmp_path, epochs=1, callbacks=[Odd()])
    odd = Odd()
    train(tmp_path, epochs=1, callbacks=[odd], resume=True)
    assert same_bits(odd.restored, value)


def test_the_arrays_of_a_state_are_in_the_order_of_a_file():
    def update(grads, state, params=None):
        fortran = tree.map(np.asfortranarray, grads)
        return tree.map(lambda g: g * np.float32(-0.1), fortran), fortran

    optimizer = F.Optimizer(lambda params: tree.map(np.zeros_like, params), update)
    state, _ = train(optimizer=optimizer, epochs=1)
    arrays = [leaf for leaf in tree.leaves(state) if isinstance(leaf, np.ndarray)]
    assert len(arrays) == 8
    assert all(array.flags.c_contiguous for array in arrays)


FORGED_STATES = {
    "a count below 0": {"count": -(2**63)},
    "a huge count": {"count": 2**70},
    "an infinite factor": {"rate_factor": float("inf")},
    "a factor that is no number": {"rate_factor": float("nan")},
    "a factor below 0": {"rate_factor": -1.0},
}


@pytest.mark.parametrize("fields", FORGED_STATES.values(), ids=FORGED_STATES)
def test_a_forged_count_or_rate_is_refused_before_a_step(fields, tmp_path, monkeypatch):
    save = checkpoint.save

    def forging(path, contents):
        opt_state = tuple(
            part._replace(count=fields["count"]) if "count" in fields else part
            for part in contents["opt_state"]
        )
        factor = {"rate_factor": fields.get("rate_factor", contents["rate_factor"])}
        save(path, contents | {"opt_state": opt_state} | factor)

    options = {"keywords": {"every_steps": None, "every_epochs": 1, "keep": 1}}
    optimizer = F.adam(F.exponential_decay(0.05, 10, rate=0.9))
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", forging)
        train(tmp_path, epochs=1, optimizer=optimizer, **options)
    steps = []
    watch = npdl.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    with pytest.raises(CheckpointError, match="damaged"):
        train(tmp_path, epochs=2, optimizer=optimizer, callbacks=[watch], resume=True, **options)
    assert not steps
