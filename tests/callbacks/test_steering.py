"""Callbacks that act on a run, in `npdl.training.fit` and in the `fit` of a Model."""

import math

import numpy as np
import pytest
from arrays import same_bits
from classifier import DATA, run

import npdl
import npdl.functional as F
from npdl import checkpoint, tree
from npdl.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from npdl.training import fit


class Model:
    """A model for callbacks that records the calls of its methods."""

    def __init__(self):
        self.stop_training, self.learning_rate = False, 1.0
        self.weights = 0
        self.factors = []

    def get_weights(self):
        return np.array(self.weights)

    def set_weights(self, weights):
        self.weights = int(weights)

    def scale_learning_rate(self, factor):
        self.factors.append(factor)
        self.learning_rate *= factor


def after(callback, values, monitor="val_loss", model=None):
    """Call a callback with the values of epochs until it stops, and return the model."""
    model = model or Model()
    callback.set_model(model)
    for epoch, value in enumerate(values):
        model.weights = epoch
        callback.on_epoch_end(epoch, {monitor: value})
        if model.stop_training:
            break
    callback.on_train_end({})
    return model


@pytest.mark.parametrize(
    ("options", "values", "epochs", "best"),
    [
        ({"patience": 2}, [3, 2, 4, 1, 5, 2, 0], 5, 3),
        ({"patience": 0}, [3, 2, 2, 1], 2, 1),
        ({"patience": 1}, [3, 2, 2, 1], 2, 1),
        ({"patience": 2, "min_delta": 1.0}, [5, 4.5, 4.0, 9], 2, 0),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 3], 2, 1),
        ({"patience": 1}, [3, math.nan, 1], 1, 0),
        ({"patience": 9}, [3, 2, 4], 2, 1),
    ],
)
def test_early_stopping_counts_epochs_without_a_better_value(options, values, epochs, best):
    callback = EarlyStopping(**options, restore_best_weights=True)
    model = after(callback, values)
    assert callback.best_epoch == best == model.weights
    assert callback.best == values[best]
    assert callback.stopped_epoch == (epochs if epochs + 1 < len(values) else None)


def test_without_restoring_the_last_weights_stay():
    assert after(EarlyStopping(patience=1), [3, 2, 4, 1]).weights == 2


@pytest.mark.parametrize(
    ("monitor", "values"), {"accuracy": [0.5, 0.6, 0.4], "val_loss": [0.5, 0.4, 0.6]}.items()
)
def test_the_name_of_a_metric_gives_its_direction(monitor, values):
    callback = EarlyStopping(monitor, patience=1)
    after(callback, values, monitor)
    assert callback.best_epoch == 1


@pytest.mark.parametrize(
    ("options", "values", "factors"),
    [
        ({"patience": 2}, [3, 3, 3, 3, 3], [0.1, 0.1]),
        ({"patience": 2, "factor": 0.5}, [3, 4, 2, 4, 1], []),
        ({"patience": 1, "cooldown": 2, "factor": 0.5}, [3, 3, 3, 3, 3, 3], [0.5, 0.5]),
        ({"patience": 1, "factor": 0.25, "min_lr": 0.125}, [3, 3, 3, 3], [0.25, 0.5]),
        ({"patience": 1, "min_delta": 1.0, "factor": 0.5}, [3, 2.5, 1], [0.5]),
    ],
)
def test_a_plateau_makes_the_learning_rate_smaller(options, values, factors):
    assert after(ReduceLROnPlateau(**options), values).factors == factors


def test_the_best_parameters_are_from_the_best_epoch():
    states = []

    class Keep(Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(self.model.state)

    stopping = EarlyStopping("loss", patience=2, restore_best_weights=True)
    optimizer = F.sgd(lambda step: 0.1 if step < 20 else -0.5)
    state, history = run(
        epochs=50, optimizer=optimizer, callbacks=[Keep(), stopping], shuffle=False
    )
    best = int(np.argmin(history["loss"]))
    assert stopping.best_epoch == best < len(history["loss"]) - 1 < 49
    assert same_bits(state.params, states[best].params)


def test_a_plateau_in_a_real_run_changes_the_next_step():
    slower = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    state, _ = run(epochs=3, optimizer=F.sgd(0.25), callbacks=[slower])
    # The first epoch is better than none; after the second one, half the rate.
    first, _ = run(epochs=2, optimizer=F.sgd(0.25))
    then, _ = run(epochs=1, optimizer=F.sgd(0.125), state=first)
    assert same_bits(state.params, then.params)
    assert slower.model.learning_rate == 0.0625


def test_both_act_on_a_model_of_compat_too():
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.eye(2)[np.arange(40) % 2]
    model = npdl.Model()
    model.add(npdl.layers.Dense(n_out=8, n_in=3, activation="tanh"))
    model.add(npdl.layers.Softmax(n_out=2))
    model.compile(loss="scce", optimizer=npdl.optimizers.SGD(lr=0.5))
    slower = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    stopping = EarlyStopping("loss", patience=3, min_delta=1e9, restore_best_weights=True)
    best = []

    class Keep(Callback):
        def on_epoch_end(self, epoch, logs=None):
            best.append(model.get_weights())

    history = model.fit(x, y, epochs=20, verbose=0, callbacks=[slower, stopping, Keep()])
    assert len(history.epoch) == 4
    assert model.learning_rate == 0.0625
    assert all(map(np.array_equal, model.get_weights(), best[0]))


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_restored_callback_acts_like_one_that_saw_everything(cut):
    values = [5, 6, 4, 4.5, 4.2, 4.1, 3.9, 4, 4]
    for make in (
        lambda: EarlyStopping(patience=4, restore_best_weights=True),
        lambda: ReduceLROnPlateau(patience=1, cooldown=1, factor=0.5),
    ):
        whole, part, rest = make(), make(), make()
        expected = after(whole, values)
        model = after(part, values[:cut])
        model.stop_training = False
        rest.set_model(model)
        rest.restore(part.state())
        for epoch in range(cut, len(values)):
            model.weights = epoch
            rest.on_epoch_end(epoch, {"val_loss": values[epoch]})
        rest.on_train_end({})
        assert rest.state() == whole.state()
        assert model.factors == expected.factors
        assert model.weights == expected.weights


def test_model_checkpoint_writes_each_epoch_or_the_best_ones(tmp_path):
    every = ModelCheckpoint(tmp_path / "every-{epoch}-{loss:.3f}.npz")
    best = ModelCheckpoint(tmp_path / "best.npz", "loss", save_best_only=True)
    state, history = run(epochs=3, callbacks=[every, best])
    names = [f"every-{i + 1}-{loss:.3f}.npz" for i, loss in enumerate(history["loss"])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", *names]
    assert int(np.argmin(history["loss"])) == 2
    for name in (names[-1], "best.npz"):
        assert same_bits(checkpoint.load(tmp_path / name, like=state.params), state.params)
    worse = ModelCheckpoint(tmp_path / "best.npz", "loss", save_best_only=True, mode="max")
    run(epochs=3, callbacks=[worse])
    one, _ = run(epochs=1)
    assert same_bits(checkpoint.load(tmp_path / "best.npz", like=one.params), one.params)


def test_a_loss_that_is_not_finite_ends_training_at_once():
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="the loss is nan"):
        fit(
            F.dense(2),
            lambda y, t: (np.float32(np.nan if len(seen) == 2 else 1), np.zeros_like(y)),
            F.sgd(0.1),
            DATA,
            batch_size=8,
            callbacks=[Watch(), TerminateOnNaN()],
            progress=False,
        )
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    {
        "patience": (lambda: EarlyStopping(patience=-1), "patience must be an int of at least 0"),
        "delta": (lambda: EarlyStopping(min_delta=-1), "min_delta must be a number of at least 0"),
        "mode": (lambda: EarlyStopping(mode="best"), "mode must be 'auto', 'min' or 'max'"),
        "near": (lambda: EarlyStopping("val_los"), r"'val_los' \(did you mean 'val_loss'\?\)"),
        "name": (lambda: EarlyStopping("speed"), "pass mode='min' or mode='max'"),
        "factor": (lambda: ReduceLROnPlateau(factor=1.0), r"factor must be a number in \(0, 1\)"),
        "true": (lambda: ReduceLROnPlateau(cooldown=True), "cooldown must be an int"),
        "suffix": (lambda: ModelCheckpoint("model.h5"), r"must end in .npz or .safetensors"),
    }.values(),
    ids=lambda value: None,
)
def test_bad_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_the_best_epoch_are_copies():
    stopping = EarlyStopping("loss", patience=1, restore_best_weights=True)
    run(epochs=2, callbacks=[stopping], validation=DATA)
    kept = tree.map(np.copy, stopping.best_weights)
    run(epochs=2)
    assert same_bits(kept, stopping.best_weights)


def test_early_stopping_forgets_an_earlier_run():
    stopping = EarlyStopping("loss", patience=2, restore_best_weights=True)
    first, _ = run(epochs=3, callbacks=[stopping])
    second, history = run(epochs=3, rng=1, callbacks=[stopping])
    assert len(history["loss"]) == 3
    assert not np.array_equal(tree.leaves(first.params)[-1], tree.leaves(second.params)[-1])


def functional(callbacks, **options):
    return run(callbacks=callbacks, **options)


def compat(callbacks, validation=None, epochs=1, **options):
    model = npdl.Model([npdl.layers.Softmax(n_out=3, n_in=6)])
    model.compile()
    before = model.get_weights()
    try:
        return model.fit(
            *DATA, epochs=epochs, verbose=0, callbacks=callbacks, validation_data=validation,
            **options,
        )  # fmt: skip
    except (ValueError, TypeError, OSError):
        assert all(map(np.array_equal, model.get_weights(), before))
        raise


both = pytest.mark.parametrize("train", [functional, compat])


class Steps(Callback):
    """Counts the steps that are made."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


FIGURES = {
    "near": (
        lambda path: EarlyStopping("val_los", mode="min"),
        r"'val_los' \(did you mean 'val_loss'\?",
    ),
    "far": (
        lambda path: ReduceLROnPlateau("f1", mode="max"),
        "'f1'; the metrics are loss, .*val_loss",
    ),
    "of the best": (
        lambda path: ModelCheckpoint(path / "a.npz", "val_acc", save_best_only=True),
        "ModelCheckpoint: no metric 'val_acc'",
    ),
    "of a name": (
        lambda path: ModelCheckpoint(path / "{epoch}-{val_los:.2f}.npz"),
        r"cannot be filled in: no metric 'val_los' \(did you mean 'val_loss'\?\)",
    ),
    "as an int": (
        lambda path: ModelCheckpoint(path / "{loss:d}.npz"),
        "cannot be filled in: Unknown format code 'd'",
    ),
    "without a name": (lambda path: ModelCheckpoint(path / "{}.npz"), "cannot be filled in: "),
}


@both
@pytest.mark.parametrize(("make", "message"), FIGURES.values(), ids=FIGURES)
def test_an_unknown_metric_is_named_before_the_first_step(train, make, message, tmp_path):
    steps = Steps()
    with pytest.raises(ValueError, match=message):
        train([steps, make(tmp_path)], validation=DATA)
    assert steps.count == 0
    assert list(tmp_path.iterdir()) == []


@both
def test_a_validation_metric_without_data_names_the_remedy(train):
    with pytest.raises(ValueError, match=r"no validation data \(validation=\(x, y\) in.*are loss"):
        train([EarlyStopping()])


class Adds(Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["f1_error"] = 1.0 / (epoch + 1)


@pytest.mark.parametrize("train", [functional, compat])
def test_a_figure_that_another_callback_adds_may_be_watched(train, tmp_path):
    stopping = EarlyStopping("f1_error")
    keeper = ModelCheckpoint(tmp_path / "{epoch}-{f1_error:.2f}.npz")
    train([Adds(), stopping, keeper], epochs=3)
    assert stopping.best == 1 / 3
    assert len(list(tmp_path.iterdir())) == 3
    # It comes too late for those that are called before.
    with pytest.raises(ValueError, match="no metric 'f1_error'"):
        train([stopping, Adds()])


def test_a_metric_no_callback_added_is_named_after_one_epoch():
    steps = Steps()
    with pytest.raises(
        ValueError, match=r"'f1_eror' \(did you mean 'f1_error'\?\); the metrics are loss,"
    ):
        run(epochs=3, callbacks=[steps, Adds(), EarlyStopping("f1_eror", mode="min")])
    assert steps.count == 7


@both
def test_folders_are_made(train, tmp_path):
    train([ModelCheckpoint(tmp_path / "a" / "b" / "{epoch}.npz")], epochs=2)
    train([ModelCheckpoint(tmp_path / "c" / "{epoch}" / "d.npz")], epochs=2)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.npz"))
    assert found == ["a/b/1.npz", "a/b/2.npz", "c/1/d.npz", "c/2/d.npz"]


@both
def test_an_impossible_folder_is_an_error_before_the_first_step(train, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    steps = Steps()
    with pytest.raises(OSError, match=r"ModelCheckpoint: no file can be written in .*nothing was"):
        train([steps, ModelCheckpoint(tmp_path / "file" / "{epoch}.npz")])
    assert steps.count == 0


class Misspelt(Callback):
    def on_epoch_ends(self, epoch, logs=None):
        pass


class Bare:
    def on_epoch_end(self, epoch, logs):
        pass

    def on_train_start(self):
        pass


UNCALLED = {
    "no list": (EarlyStopping(), "must be a list, as in"),
    "a class": ([EarlyStopping], r"pass an instance: EarlyStopping\(\)"),
    "a function": ([lambda epoch, logs: None], r"LambdaCallback\(on_epoch_end=function\)"),
    "a name": (["early_stopping"], "'early_stopping' would never be called: it has none of the"),
    "a text": ("early_stopping", "'e' would never be called: it has none of the hooks on_train_"),
    "nothing": ([None], "None would never be called"),
    "misspelt": (
        [Misspelt()],
        r"Misspelt has a method 'on_epoch_ends' .* mean 'on_epoch_end'\?\); the hooks are on_tr",
    ),
    "another's": ([Bare()], r"Bare has a method 'on_train_start'"),
}


@both
@pytest.mark.parametrize(("wrong", "message"), UNCALLED.values(), ids=UNCALLED)
def test_unknown_methods_of_a_callback_are_refused(train, wrong, message):
    with pytest.raises(TypeError, match=message):
        train(wrong)
