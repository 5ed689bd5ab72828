"""Callbacks that tell people, files and other programs how training goes."""

import csv
import os
import sys
import threading
import types

import pytest
from classifier import DATA, run

import npdl.callbacks._progress
from npdl.callbacks import Callback, CSVLogger, LambdaCallback, ProgressBar, TensorBoard
from npdl.callbacks._progress import Progress


def rows(path, separator=","):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_line_an_epoch_with_the_figures_of_the_history(tmp_path, separator):
    path = tmp_path / "log.csv"
    _, history = run(epochs=3, callbacks=[CSVLogger(path, separator)], validation=DATA)
    names, *lines = rows(path, separator)
    assert names == ["epoch", *history]
    assert [int(line[0]) for line in lines] == [0, 1, 2]
    for name, values in history.items():
        assert [float(line[names.index(name)]) for line in lines] == values


def test_a_file_is_replaced_or_continued(tmp_path):
    path = tmp_path / "log.csv"
    for append, count in ((False, 2), (True, 4), (True, 6), (False, 2)):
        run(epochs=2, callbacks=[CSVLogger(path, append=append)])
        assert rows(path)[0] == ["epoch", "loss"]
        assert len(rows(path)) == 1 + count


def test_other_columns_are_an_error_that_leaves_the_file(tmp_path):
    path = tmp_path / "log.csv"
    run(epochs=1, callbacks=[CSVLogger(path)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"has the columns .*write to another file"):
        run(epochs=1, callbacks=[CSVLogger(path, append=True)], validation=DATA)
    assert path.read_bytes() == before


def test_lines_written_after_a_checkpoint_are_not_repeated(tmp_path):
    path = tmp_path / "log.csv"
    logger = CSVLogger(path)
    logger.on_train_begin({})
    logger.on_epoch_end(0, {"loss": 3.0})
    state = logger.state()
    logger.on_epoch_end(1, {"loss": 2.0})
    again = CSVLogger(path)
    again.on_train_begin({})
    again.restore(state)
    again.on_epoch_end(1, {"loss": 2.5})
    assert rows(path) == [["epoch", "loss"], ["0", "3.0"], ["1", "2.5"]]


@pytest.mark.parametrize("append", [False, True])
def test_a_checkpoint_holds_the_file_length_before_any_line(tmp_path, append):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,9.0\n", encoding="utf-8")
    logger = CSVLogger(path, append=append)
    logger.on_train_begin({})
    state = logger.state()
    logger.on_epoch_end(0, {"loss": 3.0})
    again = CSVLogger(path, append=append)
    again.on_train_begin({})
    again.restore(state)
    again.on_epoch_end(0, {"loss": 3.0})
    before = [["0", "9.0"]] if append else []
    assert rows(path) == [["epoch", "loss"], *before, ["0", "3.0"]]


def test_the_folder_of_a_log_is_made(tmp_path):
    run(epochs=1, callbacks=[CSVLogger(tmp_path / "a" / "b" / "log.csv")])
    assert len(rows(tmp_path / "a" / "b" / "log.csv")) == 2


@pytest.mark.parametrize("name", ["CSVLogger", "TensorBoard"])
def test_an_unwritable_file_is_an_error_before_training(name, tmp_path):
    if name == "TensorBoard":
        pytest.importorskip("tensorboard")
    steps = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    writes = {"CSVLogger": lambda path: CSVLogger(path / "log.csv"), "TensorBoard": TensorBoard}
    with pytest.raises(OSError, match=r"no file can be written in .*nothing was trained"):
        run(epochs=1, callbacks=[writes[name](tmp_path / "file"), watch])
    assert not steps


def test_an_irregular_log_file_is_refused_before_training(tmp_path):
    steps = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, os.devnull):
        with pytest.raises(OSError, match="not a regular file"):
            run(epochs=1, callbacks=[CSVLogger(path), watch])
    assert not steps


def test_a_separator_is_one_character(tmp_path):
    with pytest.raises(ValueError, match="separator must be one character"):
        CSVLogger(tmp_path / "log.csv", separator=", ")


def test_tensorboard_reads_the_figures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, history = run(epochs=3, callbacks=[TensorBoard(tmp_path)], validation=DATA)
    for part, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(tmp_path / part))
        events.Reload()
        tensors = events.Tensors("epoch_loss")
        assert [event.step for event in tensors] == [0, 1, 2]
        values = [event.tensor_proto.float_val[0] for event in tensors]
        assert values == pytest.approx(history[f"{prefix}loss"], rel=1e-6)


class Interrupts(Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupt_keeps_the_logs_and_closes_the_files(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    threads = threading.active_count()
    board, table = TensorBoard(tmp_path), CSVLogger(tmp_path / "log.csv")
    with pytest.raises(KeyboardInterrupt):
        run(epochs=5, callbacks=[board, table, Interrupts()])
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    assert [event.step for event in events.Tensors("epoch_loss")] == [0, 1]
    assert len(rows(tmp_path / "log.csv")) == 3
    assert threading.active_count() == threads


def test_an_interrupt_takes_the_bar_away(monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = ProgressBar()
    with pytest.raises(KeyboardInterrupt):
        run(epochs=5, callbacks=[bar, Interrupts()])
    assert bar.progress.bar.disable
    assert not tqdm.tqdm._instances


def test_without_its_library_tensorboard_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ImportError, match=r"pip install 'npdl-functional\[tensorboard\]'"):
        TensorBoard()


def test_the_progress_bar_writes_the_lines_of_fit(capsys):
    run(epochs=2, callbacks=[ProgressBar()], validation=DATA)
    lines = capsys.readouterr().out
    run(epochs=2, progress=True, validation=DATA)
    assert lines == capsys.readouterr().out != ""


def test_in_a_notebook_there_is_a_bar(monkeypatch, capsys):
    tqdm = pytest.importorskip("tqdm")
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(npdl.callbacks._progress, "_installed", lambda name: name == "tqdm")
    with Progress(True, 2, 3) as progress:
        assert isinstance(progress.bar, tqdm.tqdm)
        for _ in range(3):
            progress.step(0, {"loss": 0.5})
        progress.epoch(0, {"loss": 0.5})
    shown = capsys.readouterr()
    assert shown.out == "epoch 1/2  loss 0.5\n"
    assert "3/3" in shown.err


def test_lambda_callback_calls_functions_and_knows_the_hooks():
    seen = []
    run(
        epochs=2,
        callbacks=[
            LambdaCallback(
                on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs))),
                on_train_end=lambda logs: seen.append("end"),
            )
        ],
    )
    assert seen == [(0, ["loss"]), (1, ["loss"]), "end"]
    with pytest.raises(
        TypeError, match=r"no hook 'on_epoch' \(did you mean 'on_epoch_end'\?\); the hooks"
    ):
        LambdaCallback(on_epoch=print)
    with pytest.raises(TypeError, match="on_epoch_end must be a function"):
        LambdaCallback(on_epoch_end=1)
