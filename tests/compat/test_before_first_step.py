"""Errors that would stop `Model.fit` later are raised before the first update."""

import numpy as np
import pytest
from npdl.layers import LSTM, BatchNormal, Dense, Embedding, Softmax

import npdl
import npdl.functional as F

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(24, 3)), np.arange(24) % 2
BAD = X.copy()
BAD[5, 1] = np.nan
WEIGHTS = np.where(np.arange(24) == 5, 0.0, 1.0)


def compiled(loss="scce"):
    model = npdl.Model([Dense(4, n_in=3), BatchNormal(), Softmax(2)])
    model.compile(loss, "sgd")
    return model


def state_of(model):
    return [*map(np.copy, model.get_weights()), model.optimizer.iterations]


def refused(error, match, x=X, y=Y, model=None, **options):
    """Call `fit`, which must raise and leave the model unchanged."""
    model = model or compiled()
    before = state_of(model)
    with pytest.raises(error, match=match) as caught:
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, **options)
    assert all(map(np.array_equal, state_of(model), before))
    return caught.value


# Metrics


def failing(outputs, targets):
    raise RuntimeError("no metric")


METRICS = {
    "raises": (failing, RuntimeError, "no metric"),
    "an array": (lambda outputs, targets: outputs, TypeError, "must be a number"),
    "nothing": (lambda outputs, targets: None, TypeError, "number"),
    "a string": (lambda outputs, targets: "high", (TypeError, ValueError), "number|float"),
    "more arguments": (lambda outputs, targets, more, most: 0.5, TypeError, "missing"),
}


@pytest.mark.parametrize(("metric", "error", "message"), METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_a_metric_that_fails_changes_no_weight(metric, error, message, validation):
    options = {"metrics": {"own": metric}, "validation_split": validation}
    caught = refused(error, message, **options)
    assert "in the metric 'own'" in caught.__notes__ or "'own'" in str(caught)


def test_a_metric_that_fails_only_on_validation_data_raises():
    def few(outputs, targets):
        if len(targets) > 8:
            raise RuntimeError("too many")
        return 0.5

    caught = refused(RuntimeError, "too many", metrics=[few], validation_data=(X, Y))
    assert "found before the first step, with the validation data" in caught.__notes__


# Validation data

WRONG = {
    "fewer columns": (X[:, :2], Y),
    "one axis": (X[:, 0], Y),
    "fewer labels": (X, Y[:7]),
    "a label beyond": (X, Y + 1),
    "labels of another shape": (X, np.ones((24, 3), int)),
    "strings": (X.astype(str), Y),
    "negative weights": (X, Y, np.full(24, -1.0)),
    "fewer weights": (X, Y, np.ones(7)),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_invalid_validation_data_raise_before_the_first_update(data):
    refused((ValueError, TypeError), r"\w", validation_data=data)


def test_weights_of_validation_data_need_a_loss_per_example():
    model = compiled(F.softmax_cross_entropy)
    match = "returns one number for all examples"
    refused(ValueError, match, model=model, validation_data=(X, Y, WEIGHTS))


# Inputs with a weight of 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "weights", [{"sample_weight": WEIGHTS}, {"class_weight": {1: 0.0}}], ids=["sample", "class"]
)
def test_nan_inputs_with_weight_0_raise(value, weights):
    x = np.where(np.isnan(BAD), value, BAD)
    match = rf"X\[5, 1\] is {value}, and the weight there is 0.*leave the example out"
    refused(ValueError, match, x, **weights)
    model = compiled()
    before = state_of(model)
    with pytest.raises(ValueError, match=match):
        model.train_on_batch(x, Y, **weights)
    assert all(map(np.array_equal, state_of(model), before))


def test_evaluation_ignores_nan_inputs_with_weight_0():
    model = compiled()
    with np.errstate(all="ignore"):
        found = model.evaluate(BAD, Y, sample_weight=WEIGHTS)
    assert found == pytest.approx(model.evaluate(X, Y, sample_weight=WEIGHTS))


# Flags

FLAGS = {
    "shuffle": lambda value: compiled().fit(X, Y, 1, shuffle=value, verbose=0),
    "resume": lambda value: compiled().fit(X, Y, 1, resume=value, verbose=0),
    "return_dict": lambda value: compiled().evaluate(X, Y, return_dict=value),
    "return_dict on a batch": lambda value: compiled().test_on_batch(X, Y, return_dict=value),
    "training": lambda value: compiled()(X, training=value),
    "train": lambda value: compiled().layers[0].forward(X, train=value),
    "generator": lambda value: npdl.Model.load("model.npz", generator=value),
    "trainable": lambda value: setattr(compiled().layers[0], "trainable", value),
    "trainable of a model": lambda value: setattr(compiled(), "trainable", value),
    "return_sequence": lambda value: LSTM(n_out=3, return_sequence=value),
    "return_sequences": lambda value: LSTM(units=3, return_sequences=value),
    "need_grad": lambda value: LSTM(n_out=3, need_grad=value),
    "trainable of a new layer": lambda value: Dense(3, trainable=value),
    "static": lambda value: Embedding(input_size=5, n_out=3, static=value),
    "an assigned static": lambda value: setattr(Embedding(input_size=5, n_out=3), "static", value),
    "use_bias": lambda value: Dense(3, use_bias=value),
    "use_bias of images": lambda value: npdl.layers.Convolution(3, 2, use_bias=value),
}


@pytest.mark.parametrize("value", ["batch", "False", 1.0, 2, []], ids=repr)
@pytest.mark.parametrize("call", FLAGS.values(), ids=FLAGS)
def test_a_flag_must_be_true_or_false(call, value):
    with pytest.raises(TypeError, match="must be True or False"):
        call(value)


@pytest.mark.parametrize("value", ["batch", "0", 3, None, 0.5, [0]], ids=repr)
def test_verbose_is_one_of_keras_values(value):
    with pytest.raises(ValueError, match="verbose must be 0, 1, 2 or 'auto'"):
        compiled().fit(X, Y, 1, verbose=value)
    for silent in (0, False):
        compiled().fit(X, Y, 1, verbose=silent)


@pytest.mark.parametrize("value", [1, 2, True, "auto"], ids=repr)
def test_verbose_prints_a_line_for_each_epoch(value, capsys):
    compiled().fit(X, Y, 2, verbose=value)
    assert len(capsys.readouterr().out.splitlines()) == 2
