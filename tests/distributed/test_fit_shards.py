"""`fit` over shards and ranks: the same bits, separate rows per rank, one writing rank."""

import functools
import re

import numpy as np
import pytest
from arrays import same_bits
from communicators import checked, on_ranks

import npdl.functional as F
from npdl import random, tree
from npdl._data import batches
from npdl.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ReduceLROnPlateau,
)
from npdl.distributed import rows_of
from npdl.training import Checkpoint, ResumeWarning, TrainState, fit, train_step

LOSS = F.softmax_cross_entropy
MODEL = F.serial(F.dense(9), F.batch_norm(), F.relu(), F.dropout(0.3), F.dense(3))
GENERATOR = random.generator(0)
DATA = GENERATOR.normal(size=(30, 5)).astype(np.float32), GENERATOR.integers(3, size=30)


def train(comm=None, data=DATA, **options):
    options = {"epochs": 3, "batch_size": 11, "shards": 4, "rng": 5} | options
    return fit(
        options.pop("model", MODEL), LOSS, F.adam(0.02), data, validation=DATA,
        metrics={"accuracy": F.accuracy}, progress=False, comm=comm, **options,
    )  # fmt: skip


class Source:
    """A data source that records the rows that were read."""

    def __init__(self, data=DATA):
        self.data, self.rows = data, []

    def __len__(self):
        return len(self.data[0])

    def __getitem__(self, rows):
        self.rows.append(rows)
        return tuple(array[rows] for array in self.data)


def rows(count):
    return tuple(np.resize(array, (count, *array.shape[1:])) for array in DATA)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_any_number_of_ranks_gives_the_bits_of_one_process(ranks):
    def callbacks():
        return [
            EarlyStopping("loss", patience=5, restore_best_weights=True),
            ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.3),
        ]

    alone = train(callbacks=callbacks())
    for result in checked(on_ranks(ranks, lambda comm: train(comm, callbacks=callbacks()))):
        assert same_bits(result, alone)


def test_fit_takes_the_same_steps_as_train_step():
    state = TrainState.create(MODEL, F.adam(0.02), (5,), rng=5)
    step = train_step(MODEL, LOSS, F.adam(0.02), shards=4)
    for epoch in range(2):
        order = random.generator(random.fold((5,), "epoch", epoch)).permutation(30)
        for start in range(0, 30, 11):
            rows = order[start : start + 11]
            state, _ = step(state, (DATA[0][rows], DATA[1][rows]))
    assert same_bits(train(epochs=2)[0], state)
    assert not tree.all_close(train(epochs=2, shards=2)[0].params, state.params)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("ranks", [1, 3, 5])
def test_each_rank_reads_only_its_rows_of_a_source(ranks, shuffle):
    sources = [Source() for _ in range(ranks)]
    results = checked(
        on_ranks(ranks, lambda comm: train(comm, sources[comm.Get_rank()], shuffle=shuffle))
    )
    for result in results:
        assert same_bits(result, train(shuffle=shuffle))
    # The first read finds the shape of an example.
    read = [source.rows[1:] for source in sources]
    order = np.arange(30)
    for epoch in range(3):
        if shuffle:
            order = random.generator(random.fold((5,), "epoch", epoch)).permutation(30)
        whole = [order[:11], order[11:22], order[22:]]
        for number, rows in enumerate(whole):
            parts = [each[3 * epoch + number] for each in read[: min(ranks, 4)]]
            np.testing.assert_array_equal(np.concatenate(parts), rows)


def test_arrays_mapped_from_a_file_give_the_same_bits(tmp_path):
    for name, array in zip("xy", DATA, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    assert same_bits(train(data=mapped), train())
    assert same_bits(train(data=mapped, shards=None), train(shards=None))
    assert same_bits(train(data=Source(), shards=None), train(shards=None))


def test_batches_are_the_rows_of_the_rank():
    mine = functools.partial(rows_of, shards=4)
    for order in (None, np.arange(30)[::-1]):
        for first in (0, 2):
            plain = list(batches(DATA, 30, 11, order, first=first))
            assert [size for _, size in plain] == [11, 11, 8][first:]
            assert same_bits(list(batches(DATA, 30, 11, order, mine, first)), plain)


class Watch(Callback):
    first_rank_only = True

    def __init__(self, seen, rank):
        self.seen, self.rank = seen, rank

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.rank)


def test_only_the_first_rank_writes_and_all_ranks_resume(tmp_path, capsys):
    seen = []

    def job(comm, epochs, resume, steps=None):
        rank = comm.Get_rank()
        # The other ranks have no directory.
        directory = tmp_path / "run" if rank == 0 else tmp_path / "nowhere" / "run"
        callbacks = [
            Watch(seen, rank),
            CSVLogger(tmp_path / "log.csv" if rank == 0 else tmp_path / "no" / "log.csv"),
            ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.3),
        ]
        checkpoint = Checkpoint(directory, every_steps=1, best="val_loss")
        return fit(
            MODEL, LOSS, F.adam(0.02), DATA, validation=DATA, epochs=epochs, batch_size=11,
            metrics={"accuracy": F.accuracy}, shards=4, rng=5, comm=comm, callbacks=callbacks,
            checkpoint=checkpoint, resume=resume,
        )  # fmt: skip

    plateau = [ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.3)]
    alone = train(epochs=5, callbacks=plateau)
    checked(on_ranks(3, lambda comm: job(comm, 2, False)))
    for path in Checkpoint(tmp_path / "run").paths()[-1:]:
        path.unlink()  # so the run resumes in the middle of the second epoch
    for ranks, epochs in ((2, 4), (4, 5)):
        results = checked(on_ranks(ranks, lambda comm, epochs=epochs: job(comm, epochs, True)))
    for result in results:
        assert same_bits(result, alone)
    assert set(seen) == {0}
    assert len((tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()) == 6
    assert not (tmp_path / "nowhere").exists()
    assert capsys.readouterr().out.count("epoch 1/2") == 1


def test_all_ranks_name_differences_at_the_start():
    def job(comm):
        rank = comm.Get_rank()
        data = DATA if rank != 1 else (DATA[0][:20], DATA[1][:20])
        return train(comm, data, epochs=3 + (rank == 2))

    for result in on_ranks(3, job):
        # `aborting` ends the MPI job; the simulated communicator raises SystemExit.
        assert isinstance(result, SystemExit)
        text = str(result.__context__)
        assert "data is '30 examples in batches of 11, in 4 shards, shuffled' on ranks 0, 2" in text
        assert "20 examples" in text
        assert "epochs is 3 on ranks 0, 1; 4 on rank 2" in text


def test_a_callback_that_changes_one_rank_raises_on_all():
    def job(comm):
        slower = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=9.0)
        return train(comm, callbacks=[slower] if comm.Get_rank() == 0 else [])

    for result in on_ranks(2, job):
        assert isinstance(result, SystemExit)
        assert "trained/rate_factor is 0.5 on rank 0; 1.0 on rank 1" in str(result.__context__)


def test_all_ranks_stop_when_one_stops():
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    def job(comm):
        return train(comm, callbacks=[Stop()] if comm.Get_rank() == 1 else [])

    for result in checked(on_ranks(3, job)):
        assert same_bits(result, train(epochs=1))


def test_comm_without_shards_ends_the_job():
    for result in on_ranks(2, lambda comm: train(comm, shards=None)):
        assert isinstance(result, SystemExit)
        assert "comm was passed without shards" in str(result.__context__)


def test_a_run_with_another_number_of_shards_cannot_resume(tmp_path):
    train(checkpoint=Checkpoint(tmp_path))
    with pytest.raises(ValueError, match="in 4 shards"):
        train(checkpoint=Checkpoint(tmp_path), resume=True, shards=2)


def test_without_a_checkpoint_all_ranks_start_fresh(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    with pytest.warns(ResumeWarning, match="holds no checkpoint"):
        results = on_ranks(2, lambda comm: train(comm, checkpoint=checkpoint, resume=True))
    for result in checked(results):
        assert same_bits(result, train())


SINGLE = {
    "a batch": ({"data": rows(31), "batch_size": 10, "shards": None}, "31 .* of 10 leave", 9),
    "a shard": (
        {"data": rows(30), "batch_size": 12},
        "30 examples in batches of 12 in 4 shards",
        11,
    ),
    "of each batch": ({"data": rows(30), "batch_size": 4}, "batches of 4 in 4 shards leave", 10),
    "too few": ({"data": rows(7), "batch_size": 7}, "7 examples in batches of 7 in 4 shards", None),
    "a source": ({"data": Source(rows(31)), "batch_size": 10}, "31 examples in batches of 10", 11),
}


@pytest.mark.parametrize(("options", "message", "good"), SINGLE.values(), ids=SINGLE)
def test_a_single_example_per_shard_raises_before_training(options, message, good):
    steps = []
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: steps.append(batch))
    with pytest.raises(ValueError, match="a single value per channel") as caught:
        train(callbacks=[watch], **options)
    note = caught.value.__notes__[-1]
    assert re.search(message, note)
    assert not steps
    if good is None:
        assert note.endswith("; pass more examples")
        return
    assert note.endswith(f"; batch_size={good} does not")
    train(**options | {"batch_size": good, "epochs": 1})


def test_one_example_with_several_values_per_channel_trains():
    model = F.serial(F.conv2d(3, 2), F.batch_norm(axis=1), F.flatten(), F.dense(3))
    x = GENERATOR.normal(size=(31, 2, 4, 5)).astype(np.float32)
    fit(model, LOSS, F.sgd(0.1), (x, np.arange(31) % 3), batch_size=10, progress=False)


class Short(Source):
    def __getitem__(self, rows):
        return tuple(array[rows][: max(len(rows) - 1, 1)] for array in self.data)


BAD = {
    "comm": (lambda: fit(MODEL, LOSS, F.sgd(0.1), DATA, comm=3), "must be an MPI communicator"),
    "shards": (lambda: train(shards=0), "shards must be an int of at least 1, .* got 0"),
    "short": (lambda: train(data=Short()), "returned 10 examples for 11 rows"),
    "empty": (lambda: train(data=Source((DATA[0][:0], DATA[1][:0]))), "data is empty"),
    "held out": (
        lambda: fit(MODEL, LOSS, F.sgd(0.1), DATA, validation=Source((DATA[0][:0], DATA[1][:0]))),
        "validation is empty",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_raise(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
