"""Callbacks: called by `fit` in Keras's order, with a view of the run that cannot corrupt it."""

import copy
import math

import numpy as np
import pytest
from arrays import same_bits
from classifier import DATA, MODEL, run

import npdl
import npdl.functional as F
from npdl import tree
from npdl.callbacks import Callback, EarlyStopping, History
from npdl.training import TrainState, fit
from npdl.training._learning_rate import rate_of, scale_rate


class Log(Callback):
    """Records the calls."""

    def __init__(self):
        self.calls = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            self.calls.append(name.removeprefix("on_"))
        return super().__getattribute__(name)


def test_callbacks_are_called_in_keras_order():
    log = Log()
    run(epochs=2, batch_size=30, callbacks=[log])
    batch = ["train_batch_begin", "train_batch_end"]
    epoch = ["epoch_begin", *batch, *batch, "epoch_end"]
    assert log.calls == ["train_begin", *epoch, *epoch, "train_end", "train_exit"]
    assert log.params == {"epochs": 2, "steps": 2}


def test_callbacks_receive_indices_and_mean_values_so_far():
    seen = []

    class Watch:
        def on_epoch_begin(self, epoch, logs):
            seen.append((epoch, logs))

        def on_train_batch_end(self, batch, logs):
            seen.append((batch, logs["loss"]))

        def on_epoch_end(self, epoch, logs):
            seen.append((epoch, logs))

    _, history = run(epochs=2, batch_size=30, callbacks=[Watch()], validation=DATA)
    means = [value for _, value in seen[1:3]]
    assert seen[0] == (0, {})
    assert seen[3] == (0, {name: values[0] for name, values in history.items()})
    assert means[1] == history["loss"][0] != means[0]
    assert [number for number, _ in seen] == [0, 0, 1, 0, 1, 0, 1, 1]


class Ends(Callback):
    """Raises in the third epoch."""

    def __init__(self, error):
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2:
            raise self.error

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


@pytest.mark.parametrize("kind", [FloatingPointError, KeyboardInterrupt])
def test_an_error_calls_the_exits_but_not_on_train_end(kind):
    stopping = EarlyStopping("loss", patience=9, restore_best_weights=True)
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=6)])
    model.compile(optimizer=npdl.optimizers.SGD(lr=0.1))
    error = kind("mine")
    ends = Ends(error)
    for train in (
        lambda **options: run(epochs=5, **options),
        lambda **options: model.fit(*DATA, epochs=5, verbose=0, **options),
    ):
        log, history = Log(), History()
        with pytest.raises(kind) as caught:
            train(callbacks=[log, stopping, history, ends])
        assert caught.value is error
        assert log.calls[-2:] == ["train_batch_end", "train_exit"]
        assert len(history.history["loss"]) == 2
        assert stopping.best == min(history.history["loss"])
    # The model has the last weights, and the best ones are available.
    assert not np.array_equal(model.get_weights()[0], stopping.best_weights[0])
    model.set_weights(stopping.best_weights)


class CannotExit(Callback):
    def on_train_exit(self, logs=None):
        raise OSError("the disk is full")


def test_a_failing_exit_hides_neither_error_nor_other_exits():
    log = Log()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(epochs=5, callbacks=[CannotExit(), log, Ends(KeyboardInterrupt())])
    (note,) = caught.value.__notes__
    assert note == "and then OSError('the disk is full') in on_train_exit of CannotExit"
    assert log.calls[-1] == "train_exit"
    with pytest.raises(OSError, match="the disk is full"):
        run(epochs=1, callbacks=[CannotExit(), log])
    assert log.calls[-2:] == ["train_end", "train_exit"]


def test_a_callback_that_cannot_begin_lets_the_others_exit():
    class CannotBegin(Callback):
        def on_train_begin(self, logs=None):
            raise ValueError("not now")

    log = Log()
    with pytest.raises(ValueError, match="not now"):
        run(epochs=1, callbacks=[log, CannotBegin()])
    assert log.calls == ["train_begin", "train_exit"]


def test_a_callback_ends_training_after_the_epoch():
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training |= self.model.state.step == 8

    state, history = run(epochs=9, callbacks=[Stop()])
    assert state.step == 14
    assert len(history["loss"]) == 2


def test_a_callback_that_reads_everything_changes_no_bit():
    class Reader(Callback):
        kept = ()

        def on_train_batch_end(self, batch, logs=None):
            if self.model.state.step % 3:
                state = self.model.state
                self.kept += ((state, copy.deepcopy(state)),)
            self.model.get_weights()[0]["weight"][:] = np.nan

    reader = Reader()
    state, history = run(epochs=3, callbacks=[reader])
    expected, plain = run(epochs=3)
    assert same_bits(state, expected)
    assert history == plain
    for seen, then in reader.kept:
        assert same_bits(seen, then)
    assert len(reader.kept) == 14


def test_the_state_that_a_callback_sees_cannot_be_written():
    class Writer(Callback):
        def on_train_batch_end(self, batch, logs=None):
            for part in (self.model.state.params, self.model.state.opt_state):
                for leaf in tree.leaves(part):
                    if isinstance(leaf, np.ndarray):
                        with pytest.raises(ValueError, match="read-only"):
                            leaf[...] = 0

    run(epochs=1, callbacks=[Writer()])


def test_weights_that_a_callback_sets_are_trained_from_there():
    class Rewind(Callback):
        def on_train_begin(self, logs=None):
            self.weights = self.model.get_weights()

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.set_weights(self.weights)

    rewind = Rewind()
    state, _ = run(epochs=3, callbacks=[rewind], optimizer=F.sgd(0.1))
    first = TrainState.create(MODEL, F.sgd(0.1), (6,), rng=3)
    assert same_bits(rewind.weights, first.params)
    expected, _ = run(
        epochs=1, optimizer=F.sgd(0.1), state=TrainState(14, first.params, (), first.rng)
    )
    assert same_bits(state.params, expected.params)


WEIGHTS = {
    "another structure": (lambda w: w[:-1], "4"),
    "another shape": (
        lambda w: tree.map(lambda a: a[..., None], w),
        r"expected float32\[8\] at 0/bias, got float32\[8, 1\]",
    ),
    "another type": (lambda w: tree.map(lambda a: a.astype(float), w), "got float64"),
}


@pytest.mark.parametrize(("change", "message"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_of_another_model_are_refused(change, message):
    class Set(Callback):
        def on_epoch_end(self, epoch, logs=None):
            before = self.model.get_weights()
            with pytest.raises(ValueError, match=message):
                self.model.set_weights(change(self.model.get_weights()))
            assert same_bits(self.model.get_weights(), before)

    run(epochs=1, callbacks=[Set()])


OPTIMIZERS = {
    "a number": (F.sgd(0.5), F.sgd(0.125), 0.125),
    "behind others": (F.adamw(0.5, weight_decay=0.1), F.adamw(0.125, weight_decay=0.1), 0.125),
    "within": (F.accumulate(F.adam(0.5), 2), F.accumulate(F.adam(0.125), 2), 0.125),
    "several": (
        F.by_path({"*/bias": F.sgd(0.5), "*": F.momentum(1.0)}),
        F.by_path({"*/bias": F.sgd(0.125), "*": F.momentum(0.25)}),
        0.25,
    ),
}


@pytest.mark.parametrize(("optimizer", "expected", "rate"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_scaled_optimizer_is_the_one_of_the_smaller_rate(optimizer, expected, rate):
    assert scale_rate(optimizer, 0.25) == expected
    assert rate_of(expected, 0) == rate


class Halve(Callback):
    """Halves the learning rate after every other epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch % 2:
            self.model.scale_learning_rate(0.5)
        logs["rate"] = self.model.learning_rate


@pytest.mark.parametrize("make", [F.adam, F.momentum, lambda rate: F.adamw(rate, mask="*/weight")])
def test_a_scaled_rate_equals_a_new_optimizer_from_there(make):
    state, history = run(epochs=3, optimizer=make(0.04), callbacks=[Halve()])
    half, _ = run(epochs=2, optimizer=make(0.04))
    expected, _ = run(epochs=1, optimizer=make(0.02), state=half)
    assert same_bits(state, expected)
    assert history["rate"] == [0.04, 0.02, 0.02]


def test_a_schedule_is_scaled_at_every_step():
    falling = F.polynomial_decay(0.5, steps=70)
    _, history = run(epochs=3, optimizer=F.sgd(falling), callbacks=[Halve()])
    assert history["rate"] == [falling(7), falling(14) / 2, falling(21) / 2]


@pytest.mark.parametrize("factor", [-1, math.nan, math.inf, "half", None])
def test_a_factor_must_be_a_number(factor):
    class Scale(Callback):
        def on_epoch_end(self, epoch, logs=None):
            with pytest.raises(ValueError, match=r"scale_learning_rate\(factor=0\.5\)"):
                self.model.scale_learning_rate(factor)

    run(epochs=1, callbacks=[Scale()])
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=6)])
    model.compile()
    model.fit(*DATA, epochs=1, verbose=0, callbacks=[Scale()])


def test_an_optimizer_without_a_rate_has_none_to_scale():
    with pytest.raises(ValueError, match="no learning rate was found in trace"):
        scale_rate(F.trace(0.9), 0.5)


def test_a_compat_model_has_the_same_names():
    class Both(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.weights = self.model.get_weights()
                self.model.scale_learning_rate(0.5)
            logs["rate"] = self.model.learning_rate
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            self.model.set_weights(self.weights)

    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=6)])
    model.compile(optimizer=npdl.optimizers.SGD(lr=0.5))
    both = Both()
    history = model.fit(*DATA, epochs=5, verbose=0, callbacks=[both])
    assert history.history["rate"] == [0.25, 0.25]
    assert same_bits(model.get_weights(), both.weights)
    state, history = run(epochs=5, callbacks=[both], optimizer=F.sgd(0.5))
    assert history["rate"] == [0.25, 0.25]
    assert same_bits(state.params, both.weights)


def test_a_history_is_restored():
    history = History()
    history.on_epoch_end(0, {"loss": 2.0})
    other = History()
    other.restore(history.state())
    other.on_epoch_end(1, {"loss": 1.0})
    assert other.history == {"loss": [2.0, 1.0]}
    assert other.epoch == [0, 1]
    assert history.epoch == [0]


def test_a_callback_without_the_base_class_is_called():
    class Bare:
        def on_epoch_end(self, epoch, logs):
            self.last = epoch

    bare = Bare()
    fit(F.dense(3), F.softmax_cross_entropy, F.sgd(0.1), DATA, callbacks=[bare], progress=False)
    assert bare.last == 0
