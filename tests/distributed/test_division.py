"""Divided updates: each rank updates a part of the parameters, and all end in the same bits."""

import functools
import gc
import re
from pathlib import Path

import numpy as np
import pytest
from arrays import same_bits
from communicators import checked, on_ranks
from divided_runs import DATA, MODELS, train

import npdl.functional as F
from npdl import tree
from npdl.callbacks import Callback, EarlyStopping, LambdaCallback
from npdl.training import Checkpoint

ELEMENTWISE = {
    "sgd": F.sgd(0.1),
    "momentum": F.momentum(0.1),
    "nesterov": F.nesterov_momentum(0.1),
    "adagrad": F.adagrad(0.01),
    "rmsprop": F.rmsprop(0.01),
    "adadelta": F.adadelta(),
    "adam": F.adam(F.exponential_decay(0.02, 2, rate=0.5)),
    "adamw": F.adamw(0.01),
    "adamax": F.adamax(0.01),
    "nadam": F.nadam(0.01),
    "lion": F.lion(0.01),
    "chain": F.chain(F.clip_by_value(0.01), F.add_decayed_weights(0.1), F.momentum(0.1)),
}
CLIPPED = {
    "clipped": F.chain(F.clip_by_global_norm(0.5), F.adam(0.01)),
    "nested": F.chain(F.chain(F.clip_by_global_norm(0.5)), F.chain(F.trace(0.9), F.sgd(0.1))),
    "rarely clipped": F.chain(F.clip_by_global_norm(2.0), F.momentum(0.05)),
}
WHOLE = {
    "clipped twice": F.chain(*[F.clip_by_global_norm(0.5)] * 2, F.adam(0.01)),
    "clipped late": F.chain(F.trace(0.9), F.clip_by_global_norm(0.5), F.sgd(0.1)),
    "masked": F.adamw(0.01, mask="*weight"),
    "by path": F.by_path({"*bias": F.sgd(0.1), "*": F.adam(0.01)}),
}


@pytest.mark.parametrize("name", [*ELEMENTWISE, *CLIPPED, *WHOLE])
def test_every_optimizer_gives_the_bits_of_one_process(name, memory, divided):
    optimizer = (ELEMENTWISE | CLIPPED | WHOLE)[name]
    alone = train(optimizer=optimizer)
    for ranks in (2, 3):
        for result in checked(on_ranks(ranks, lambda comm: train(comm, optimizer))):
            assert same_bits(result, alone)
    # The first of six steps finds the layout.
    divides = name in ELEMENTWISE or (name in CLIPPED and memory == "shared memory")
    assert len(divided) == (5 * (2 + 3) if divides else 0)


@pytest.mark.parametrize(
    ("shards", "ranks"), [(1, 2), (8, 1), (8, 2), (7, 3), (5, 4), (8, 8), (7, 9)]
)
def test_any_number_of_ranks_divides_to_the_same_bits(shards, ranks, memory, divided):
    data = tuple(np.resize(array, (40, *array.shape[1:])) for array in DATA)
    run = functools.partial(train, shards=shards, batch_size=24, data=data)
    for result in checked(on_ranks(ranks, run)):
        assert same_bits(result, run())
    assert len(divided) == (3 * ranks if ranks > 1 else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_models_with_unusual_parameters_divide(name, dtype, memory, divided):
    model = MODELS[name]
    params = tree.astype(model.init(0, (5,)), dtype)
    data = DATA[0].astype(dtype), DATA[1]
    run = functools.partial(train, model=model, params=params, data=data)
    for result in checked(on_ranks(3, run)):
        assert same_bits(result, run())
    assert divided


def test_callbacks_read_and_steer_between_divided_updates(memory, divided):
    class Steering(Callback):
        def __init__(self):
            self.states = []

        def on_train_batch_end(self, batch, logs=None):
            self.states.append(self.model.state)
            self.model.scale_learning_rate(0.9)

        def on_epoch_end(self, epoch, logs=None):
            weights = self.model.get_weights()
            self.model.set_weights(tree.map(lambda w: np.array(w * np.float32(0.5)), weights))

    def job(comm=None):
        steering = Steering()
        stopping = EarlyStopping("loss", mode="max", patience=1, restore_best_weights=True)
        result = train(comm, epochs=4, callbacks=[steering, stopping])
        assert steering.model.result is result[0]
        return result, steering.states

    alone = job()
    for result in checked(on_ranks(3, job)):
        assert same_bits(result, alone)
    # Once per epoch, the state is moved into the memory, and the learning rate changes nothing.
    steps = len(alone[1])
    assert len(divided) == 3 * (steps - steps // 3)


class FirstReads(Callback):
    """Collect the states after each step, on the first rank alone."""

    first_rank_only = True

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(self.model.state)


def test_a_single_rank_can_read_the_whole_state(memory):
    def job(comm=None):
        reads = FirstReads()
        train(comm, callbacks=[reads])
        return reads.states

    first, *others = checked(on_ranks(3, job))
    assert same_bits(first, job())
    assert others == [[], []]


def test_a_run_resumes_on_another_number_of_ranks(memory, tmp_path):
    alone = train(epochs=4)
    checkpoint = Checkpoint(tmp_path, every_steps=1)
    for ranks, epochs in ((2, 2), (4, 3), (3, 4)):
        run = functools.partial(train, epochs=epochs, checkpoint=checkpoint, resume=epochs > 2)
        results = checked(on_ranks(ranks, run))
        checkpoint.paths()[-1].unlink()  # so the next run resumes in the middle of an epoch
    for result in results:
        assert same_bits(result, alone)


def test_the_result_belongs_to_its_rank_alone(memory):
    results = [state for state, _ in checked(on_ranks(2, train))]
    for array in tree.leaves((results[0].params, results[0].opt_state)):
        if isinstance(array, np.ndarray):
            array[...] = 7
    assert same_bits(results[1], train()[0])


def test_no_memory_is_left_after_a_run(memory):
    def left():
        gc.collect()
        maps = Path("/proc/self/maps")
        mapped = maps.read_text(encoding="utf-8").count("memfd:npdl") if maps.exists() else 0
        files = Path("/proc/self/fd")
        return mapped, len(list(files.iterdir())) if files.exists() else 0

    def fails(comm):
        return train(comm, callbacks=[LambdaCallback(on_train_batch_end=lambda *_: 1 / 0)])

    before, kept = left(), Callback()
    results = on_ranks(2, lambda comm: train(comm, callbacks=[kept]))
    assert left() == before
    results = on_ranks(2, fails)
    assert [type(result) for result in results] == [SystemExit] * 2
    del results
    assert left() == before


def test_a_change_on_one_rank_is_an_error_on_all(memory):
    def job(comm):
        def change(batch, logs):
            if comm.Get_rank() == 1:
                run.set_weights(tree.map(np.zeros_like, run.get_weights()))

        run = None
        callback = LambdaCallback(on_train_batch_end=change)

        def keep(model):
            nonlocal run
            run = model

        callback.set_model = keep
        return train(comm, callbacks=[callback], batch_size=15)

    for result in on_ranks(3, job):
        assert isinstance(result, SystemExit)
        assert re.search("the ranks differ:\n  params/", str(result.__context__))
