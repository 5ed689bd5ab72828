"""Callbacks of a run that is resumed: which must be there again, and which may come and go."""

import csv
import os
import shutil

import numpy as np
import pytest
from arrays import same_bits
from interrupted import X, Y, ended, names, train

import npdl
import npdl.functional as F
from npdl.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
)
from npdl.checkpoint import CheckpointError
from npdl.training import (
    ChangedCallbackWarning,
    Checkpoint,
    FinishedRunWarning,
    UnwrittenCheckpointWarning,
)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def run(tmp_path):
    """A run with a log that ended in the third of five epochs, the log as it would be, and it."""
    _, history = train(epochs=5, callbacks=[CSVLogger(tmp_path / "whole.csv")])
    ended(tmp_path / "run", 11, [CSVLogger(tmp_path / "log.csv")], epochs=5)
    return tmp_path / "run", tmp_path / "log.csv", rows(tmp_path / "whole.csv"), history


def resumed(directory, *callbacks):
    state, history = train(directory, epochs=5, callbacks=callbacks, resume=True)
    assert same_bits(state, train(epochs=5)[0])
    return history


def test_a_log_continues_without_a_line_twice(run):
    directory, log, whole, history = run
    # The lines of a run that was killed after the checkpoint, and a line that was cut off.
    log.write_text(log.read_text(encoding="utf-8") + "2,9.0\n3,9", encoding="utf-8")
    assert resumed(directory, CSVLogger(log)) == history
    assert rows(log) == whole


@pytest.mark.parametrize("loss", ["removed", "emptied"])
def test_a_lost_log_starts_again_with_a_warning(loss, run):
    directory, log, whole, history = run
    if loss == "removed":
        log.unlink()
    else:
        log.write_text("", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"CSVLogger: .*log.csv is missing or empty") as caught:
        assert resumed(directory, CSVLogger(log)) == history
    assert caught[0].filename.endswith("interrupted.py")
    assert rows(log) == [whole[0], *whole[3:]]


REPORTS = {
    "none": list,
    "a history": lambda: [History()],
    "another history": lambda: [History(), History()],
    "a bar": lambda: [ProgressBar()],
}


@pytest.mark.parametrize("make", REPORTS.values(), ids=REPORTS)
def test_a_run_is_resumed_without_its_reports_or_with_others(make, run):
    directory, log, _, history = run
    before = log.read_bytes()
    assert resumed(directory, *make()) == history
    assert log.read_bytes() == before


def test_a_new_log_of_a_resumed_run_has_the_later_epochs(run, tmp_path):
    directory, log, whole, history = run
    more = tmp_path / "more.csv"
    assert resumed(directory, CSVLogger(log), CSVLogger(more)) == history
    assert rows(log) == whole
    assert rows(more) == [whole[0], *whole[3:]]


@pytest.mark.parametrize("content", ["epoch,loss\n0,9.0\n1,8.0\n", "a,b\n" * 3500, "note"])
def test_a_log_that_is_new_in_a_resumed_run_replaces_no_file(content, run, tmp_path):
    directory, _, whole, history = run
    other, steps = tmp_path / "other.csv", []
    other.write_text(content, encoding="utf-8")
    shutil.rmtree(directory)
    ended(directory, 8, epochs=5)
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    if content.startswith("epoch"):
        assert resumed(directory, CSVLogger(other)) == history
        assert rows(other) == [*rows(other)[:3], *whole[2:]]
    else:
        with pytest.raises(ValueError, match=r"other.csv has the columns .*write to another file"):
            resumed(directory, CSVLogger(other), watch)
        assert steps == [3]  # the rest of the epoch that had begun
    assert other.read_text(encoding="utf-8").startswith(content)


def test_a_log_before_its_first_line_replaces_the_file(run, tmp_path):
    directory, log, whole, history = run
    shutil.rmtree(directory)
    log.write_text("a,b\n1,2\n", encoding="utf-8")
    ended(directory, 3, [CSVLogger(log)], epochs=5)
    assert log.read_text(encoding="utf-8") == "a,b\n1,2\n"
    assert resumed(directory, CSVLogger(log)) == history
    assert rows(log) == whole


def test_other_columns_are_found_before_the_first_step(tmp_path):
    log, steps = tmp_path / "log.csv", []
    log.write_text("a,b\n1,2\n", encoding="utf-8")
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    with pytest.raises(ValueError, match=r"log.csv has the columns \['a', 'b'\], but epoch 0 has"):
        train(callbacks=[CSVLogger(log, append=True), watch])
    assert not steps


def test_the_history_of_a_user_is_restored_too(run):
    directory, _, _, history = run
    shutil.rmtree(directory)
    ended(directory, 11, [History()], epochs=5)
    mine = History()
    assert resumed(directory, mine) == history == mine.history


FOREIGN = {
    "other columns": b"date,price\n" + b"2020-01-01,1.5\n" * 900,
    "no table": bytes(range(256)) * 50,
    "no line": b"a" * 14_000,
    "no line of a length that csv reads": b"a" * 200_000,
    "an endless quote": b'"' * 200_000,
    "short": b"x",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_the_run_did_not_write_is_not_cut(content, run, tmp_path):
    directory, _, _, _ = run
    other, steps = tmp_path / "other.csv", []
    other.write_bytes(content)
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    with pytest.raises(ValueError, match=r"other.csv is not the log of this run: its columns,"):
        resumed(directory, CSVLogger(other), watch)
    assert other.read_bytes() == content
    assert not steps


def test_a_log_with_another_separator_is_not_continued(run):
    directory, log, whole, history = run
    content = log.read_bytes()
    with pytest.raises(ValueError, match=r"its columns, separated by ';', are \['epoch,loss'\]"):
        resumed(directory, CSVLogger(log, separator=";"))
    assert log.read_bytes() == content
    assert resumed(directory, CSVLogger(log)) == history
    assert rows(log) == whole


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_a_log_that_was_edited_is_added_to_and_not_cut(ending, run):
    directory, log, whole, history = run
    lines = log.read_text(encoding="utf-8").splitlines()
    before = f"{ending or chr(10)}".join([lines[0], "0,edited", lines[2]]) + ending
    log.write_bytes(before.encode())
    with pytest.warns(UserWarning, match="has changed since the checkpoint, so lines are app"):
        assert resumed(directory, CSVLogger(log)) == history
    assert log.read_bytes().startswith(before.encode())
    assert rows(log)[-3:] == whole[-3:]


def test_a_run_that_does_not_begin_leaves_no_log(tmp_path):
    class CannotBegin(Callback):
        def on_train_begin(self, logs=None):
            raise ValueError("not now")

    with pytest.raises(ValueError, match="not now"):
        train(callbacks=[CSVLogger(tmp_path / "log.csv"), CannotBegin()])
    assert names(tmp_path) == []


def test_a_log_removed_during_a_run_gets_its_columns_again(tmp_path):
    log = tmp_path / "log.csv"
    remove = LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch != 2 or log.unlink())
    train(epochs=3, callbacks=[CSVLogger(log), remove])
    assert [row[0] for row in rows(log)] == ["epoch", "2"]


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_log_continues_after_a_line_without_an_end(ending, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss\n0,9.0" + ending, encoding="utf-8")
    train(epochs=1, callbacks=[CSVLogger(log, append=True)])
    assert [row[0] for row in rows(log)] == ["epoch", "0", "0"]


# Callbacks that steer


def stopping(**options):
    return EarlyStopping("loss", **{"patience": 3} | options)


def slower(**options):
    return ReduceLROnPlateau("loss", **{"patience": 3} | options)


CHANGED = {
    "patience": ([stopping()], [stopping(patience=8)], ["EarlyStopping: patience 3 in the check"]),
    "min_delta": ([stopping()], [stopping(min_delta=0.5)], ["EarlyStopping: min_delta 0.0 in"]),
    "weights": (
        [stopping()],
        [stopping(restore_best_weights=True)],
        ["restore_best_weights False in the checkpoint, True here"],
    ),
    "factor": ([slower()], [slower(factor=0.5)], ["factor 0.1 in the checkpoint, 0.5 here"]),
    "cooldown": ([slower()], [slower(cooldown=2)], ["ReduceLROnPlateau: cooldown 0 in the check"]),
    "min_lr": ([slower()], [slower(min_lr=0.25)], ["min_lr 0.0 in the checkpoint, 0.25 here"]),
    "order": (
        [stopping(), stopping(patience=9)],
        [stopping(patience=9), stopping()],
        ["EarlyStopping: patience 3 in the checkpoint, 9 here", "EarlyStopping 2: patience 9 in"],
    ),
}


@pytest.mark.parametrize(("before", "after", "lines"), CHANGED.values(), ids=CHANGED)
def test_resuming_names_callbacks_with_other_arguments(before, after, lines, tmp_path):
    train(tmp_path, epochs=1, callbacks=before)
    with pytest.warns(ChangedCallbackWarning, match="changed arguments of callbacks: ") as caught:
        train(tmp_path, epochs=2, callbacks=after, resume=True)
    assert all(line in str(caught[0].message) for line in lines)
    assert caught[0].filename.endswith("interrupted.py")


def test_resuming_callbacks_with_equal_arguments_is_silent(tmp_path):
    def callbacks():
        keeper = ModelCheckpoint(tmp_path / "best.npz", "loss", save_best_only=True)
        return [stopping(), slower(factor=0.5), keeper, CSVLogger(tmp_path / "log.csv")]

    train(tmp_path / "run", epochs=1, callbacks=callbacks())
    train(tmp_path / "run", epochs=2, callbacks=callbacks(), resume=True)


class Halving(Callback):
    """A user's callback, which may say which of its arguments decide."""

    def __init__(self, every=2, config=None):
        self.every, self.given = every, config

    def config(self):
        return {"every": self.every}

    def state(self):
        return {"seen": 1}


class Settings(Halving):
    """One whose attribute hides the method."""

    def __init__(self, every=2):
        self.every, self.config = every, {"every": every}


@pytest.mark.parametrize("kind", [Halving, Settings])
def test_the_callback_of_a_user_names_its_arguments(kind, tmp_path):
    train(tmp_path, epochs=1, callbacks=[kind()])
    with pytest.warns(ChangedCallbackWarning, match="every 2 in the checkpoint, 3 here"):
        train(tmp_path, epochs=2, callbacks=[kind(every=3)], resume=True)


@pytest.mark.parametrize("make", [stopping, slower, lambda: ModelCheckpoint("a.npz", "loss")])
def test_a_run_is_not_resumed_without_its_steering_callbacks(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run", epochs=1, callbacks=[make()])
    with pytest.raises(CheckpointError, match="given in the checkpoint, none here"):
        train(tmp_path / "run", epochs=2, resume=True)
    with pytest.raises(CheckpointError, match="none in the checkpoint, given here"):
        train(tmp_path / "run", epochs=2, callbacks=[make(), make()], resume=True)


# States that no file can hold, and checkpoints that cannot be written

ODD = {
    "a set": {"seen": {1, 2}},
    "a function": [len],
    "objects": np.array([object()]),
    "keys of numbers": {1: "one"},
    "strings": np.array(["a"]),
}


@pytest.mark.parametrize("state", ODD.values(), ids=ODD)
def test_an_unsavable_state_is_named_before_the_first_step(state, tmp_path):
    class Seen(Callback):
        def state(self):
            return state

    steps = []
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: steps.append(batch))
    with pytest.raises(TypeError, match="a checkpoint holds dicts") as caught:
        train(tmp_path, callbacks=[Seen(), watch])
    assert caught.value.__notes__[-1] == "in the state of the callback Seen; nothing was trained"
    assert not steps
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=4)])
    model.compile()
    with pytest.raises(TypeError, match="a checkpoint holds dicts"):
        model.fit(X, Y, verbose=0, callbacks=[Seen(), watch], checkpoint=Checkpoint(tmp_path / "b"))
    assert not steps


def endless(depth):
    inner = outer = []
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    if not depth:
        outer.append(outer)
    return outer


@pytest.mark.parametrize("state", [endless(0), endless(3000)], ids=["of itself", "deep"])
def test_a_state_without_an_end_is_named_before_the_first_step(state, tmp_path):
    class Seen(Callback):
        def state(self):
            return state

    with pytest.raises(ValueError, match="contains itself, or is nested too deep") as caught:
        train(tmp_path, callbacks=[Seen()])
    assert caught.value.__notes__[-1] == "in the state of the callback Seen; nothing was trained"


def test_a_state_that_no_file_can_hold_later_is_named_too(tmp_path):
    class Seen(Callback):
        kept = ()

        def on_epoch_end(self, epoch, logs=None):
            self.kept += ({epoch},)

        def state(self):
            return self.kept

    with pytest.raises(TypeError, match=r"but not \{0\}") as caught:
        train(tmp_path, callbacks=[History(), Seen()])
    assert caught.value.__notes__[0] == "in the state of the callback Seen"
    assert caught.value.state.step == 4


def test_a_state_too_large_to_save_is_found_before_training(tmp_path):
    class Large(Callback):
        def state(self):
            return np.zeros(1000)

    steps = []
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: steps.append(batch))
    with pytest.raises(ValueError, match="pass a larger limit"):
        train(tmp_path, callbacks=[Large(), watch], keywords={"limit": 7999})
    assert not steps


class Fails(Callback):
    """Has a state that cannot be written after a step."""

    def __init__(self, step, error):
        self.step, self.error, self.count = step, error, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1

    def state(self):
        if self.count >= self.step:
            raise self.error
        return self.count

    def restore(self, state):
        self.count = state


ERRORS = [
    OSError(28, "No space left on device"),
    ValueError("the header takes 23220122 bytes, more than 16777216"),
    MemoryError(),
    TypeError("a checkpoint holds dicts"),
]


@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
def test_an_unwritten_last_checkpoint_keeps_the_result_of_a_run(error, tmp_path):
    expected, history = train()
    with pytest.warns(UnwrittenCheckpointWarning, match="has ended with step 12") as caught:
        state, figures = train(tmp_path, callbacks=[Fails(12, error)])
    assert type(error).__name__ in str(caught[0].message)
    assert caught[0].filename.endswith("interrupted.py")
    assert same_bits(state, expected)
    assert figures == history
    assert names(tmp_path)[-1] == "step-000000011.npz"
    again, figures = train(tmp_path, callbacks=[Fails(99, error)], resume=True)
    assert same_bits(again, expected)
    assert figures == history


def test_an_unwritten_last_checkpoint_keeps_the_best_weights(tmp_path):
    def callbacks(step):
        best = EarlyStopping("loss", mode="max", restore_best_weights=True, patience=9)
        return [best, Fails(step, OSError(28, "full"))]

    expected, _ = train(callbacks=callbacks(99))
    with pytest.warns(UnwrittenCheckpointWarning):
        state, _ = train(tmp_path, callbacks=callbacks(12))
    assert same_bits(state, expected)


def test_an_unwritten_last_checkpoint_keeps_the_history(tmp_path):
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=4)])
    model.compile()
    full = Fails(1, OSError(28, "full"))
    with pytest.warns(UnwrittenCheckpointWarning) as caught:
        history = model.fit(
            X, Y, epochs=2, verbose=0, callbacks=[full],
            checkpoint=Checkpoint(tmp_path, every_epochs=None),
        )  # fmt: skip
    assert len(history.history["loss"]) == 2
    assert caught[0].filename == __file__


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full from a moment on: `disk.full = True`."""

    class Disk:
        full = False

    real = os.fsync

    def fsync(file):
        if Disk.full:
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return Disk


def fills(disk, epoch):
    """A callback that fills the disk at the end of an epoch."""

    def fill(at, logs):
        disk.full = at >= epoch

    return LambdaCallback(on_epoch_end=fill)


def test_an_unwritten_last_file_of_weights_keeps_the_result(disk, tmp_path):
    expected, history = train()
    keeper = ModelCheckpoint(tmp_path / "weights.npz", "loss")
    with pytest.warns(UnwrittenCheckpointWarning, match="a file of ModelCheckpoint failed") as told:
        state, found = train(callbacks=[fills(disk, 2), keeper])
    assert "OSError: [Errno 28] No space left on device" in str(told[0].message)
    assert "has ended with step 12" in str(told[0].message)
    assert same_bits(state, expected)
    assert found == history
    # A callback may end the run early.
    disk.full = False
    end = LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(end.model, "stop_training", True))
    with pytest.warns(UnwrittenCheckpointWarning, match="has ended with step 4"):
        state, found = train(callbacks=[end, fills(disk, 0), keeper])
    assert len(found["loss"]) == 1
    # Before the end, it is an error.
    disk.full = False
    with pytest.raises(OSError, match="No space left") as caught:
        train(callbacks=[fills(disk, 1), keeper])
    assert caught.value.state.step == 8


def test_an_unwritten_last_line_of_a_log_keeps_the_result(tmp_path):
    class FullLog(CSVLogger):
        def _write(self, row, mode):
            if self.rows == 3:
                raise OSError(28, "No space left on device")
            self.rows += 1
            super()._write(row, mode)

        def on_train_exit(self, logs=None):
            raise OSError(5, "Input/output error")

        rows = 0

    with pytest.warns(UnwrittenCheckpointWarning, match="a file of FullLog failed") as told:
        state, _ = train(callbacks=[FullLog(tmp_path / "log.csv")])
    assert [("No space" in str(w.message), "Input" in str(w.message)) for w in told] == [
        (True, False),
        (False, True),
    ]
    assert same_bits(state, train()[0])


def test_an_unwritten_file_keeps_the_result_of_a_model(disk, tmp_path):
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=4)])
    model.compile()
    keeper = ModelCheckpoint(tmp_path / "weights.npz", "loss")
    with pytest.warns(UnwrittenCheckpointWarning, match="a file of ModelCheckpoint failed"):
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[fills(disk, 1), keeper])
    assert len(history.history["loss"]) == 2


def test_an_unwritten_file_keeps_the_result_of_an_estimator(disk, tmp_path):
    pytest.importorskip("sklearn")
    from npdl.sklearn import NpdlClassifier

    class Fills(LambdaCallback):
        def __init__(self):
            super().__init__(on_epoch_end=lambda epoch, logs: setattr(disk, "full", epoch == 1))

        def __deepcopy__(self, memo):
            return self

    keeper = ModelCheckpoint(tmp_path / "weights.npz", "loss")
    estimator = NpdlClassifier(hidden=(4,), epochs=2, callbacks=[Fills(), keeper])
    with pytest.warns(UnwrittenCheckpointWarning, match="a file of ModelCheckpoint failed"):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == 2


@pytest.mark.parametrize("step", [6, 8])
def test_an_unwritten_checkpoint_is_an_error_with_the_state(step, tmp_path):
    error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught:
        train(tmp_path, callbacks=[Fails(step, error)])
    assert caught.value is error
    assert f"in the checkpoint of step {step}; the earlier ones are" in error.__notes__[-1]
    assert error.state.step == step
    assert len(error.history["loss"]) == step // 4
    # Training continues from the state of the error, or from the checkpoint before it.
    if step == 8:
        assert same_bits(train(epochs=1, state=error.state)[0], train()[0])
    assert same_bits(train(tmp_path, callbacks=[Fails(99, error)], resume=True)[0], train()[0])


def test_interrupting_the_last_checkpoint_raises(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        train(tmp_path, callbacks=[Fails(12, KeyboardInterrupt())])
    assert same_bits(caught.value.state, train()[0])


def test_a_finished_run_needs_no_checkpoint_to_be_written(tmp_path):
    state, _ = train(tmp_path, callbacks=[Fails(99, OSError())])
    with pytest.warns(FinishedRunWarning):
        assert same_bits(train(tmp_path, callbacks=[Fails(99, OSError())], resume=True)[0], state)


# Values in the logs


@pytest.mark.parametrize(
    "value", ["warmup", None, 3, True, np.float32(0.5), np.array(2), np.bool_(True), float("nan")]
)
def test_numbers_and_strings_in_the_logs_are_kept(value, tmp_path, capsys):
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(phase=value))
    log = CSVLogger(tmp_path / "log.csv")
    _, history = train(tmp_path / "run", callbacks=[note, log])
    assert repr(history["phase"]) == repr([getattr(value, "item", lambda: value)()] * 3)
    _, again = train(tmp_path / "run", epochs=5, callbacks=[note, log], resume=True)
    assert repr(again["phase"]) == repr([history["phase"][0]] * 5)
    assert len(rows(tmp_path / "log.csv")) == 6
    fit = F.dense(3), F.softmax_cross_entropy, F.sgd(0.1), (X, Y)
    npdl.training.fit(*fit, callbacks=[note])
    assert re_line(value) in capsys.readouterr().out


def re_line(value):
    number = getattr(value, "item", lambda: value)()
    return f"phase {number:.4g}" if isinstance(number, int | float) else f"phase {number}"


REFUSED = {
    "a function": ("phase", len),
    "an array": ("phase", np.ones(2)),
    "a list": ("phase", [1]),
    "bytes": ("phase", b"warmup"),
    "complex": ("phase", 1j),
    "a key of a number": (3, 1.0),
    "the loss": ("loss", "low"),
}


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize(("key", "value"), REFUSED.values(), ids=REFUSED)
def test_other_values_in_the_logs_are_named_with_their_key(key, value, progress):
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({key: value}))
    with pytest.raises(TypeError, match=rf"LambdaCallback put .* under {key!r} into the logs"):
        npdl.training.fit(
            F.dense(3), F.softmax_cross_entropy, F.sgd(0.1), (X, Y), callbacks=[note],
            progress=progress,
        )  # fmt: skip
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=4)])
    model.compile()
    with pytest.raises(TypeError, match=rf"put .* under {key!r} into the logs"):
        model.fit(X, Y, epochs=2, verbose=int(progress), callbacks=[note])


def test_a_figure_that_is_watched_must_be_a_number():
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(score="good"))
    watch = EarlyStopping("score", mode="max")
    with pytest.raises(TypeError, match="EarlyStopping: the metric 'score' must be a number, got"):
        train(callbacks=[note, watch])


@pytest.mark.parametrize("value", ["warmup", len, np.ones(3), "two\nlines"])
def test_progress_shows_any_value_of_a_batch(value, capsys):
    bar = ProgressBar()
    note = LambdaCallback(on_train_batch_end=lambda batch, logs: logs.update(phase=value))
    npdl.training.fit(
        F.dense(3), F.softmax_cross_entropy, F.sgd(0.1), (X, Y), callbacks=[note, bar],
        progress=True,
    )  # fmt: skip
    assert len(capsys.readouterr().out.splitlines()) == 2
