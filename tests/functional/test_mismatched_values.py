"""Parameters, states and gradients of another layer, optimizer or loss raise an error."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import tree
from npdl.training import TrainState, train_step

X = np.ones((4, 6), np.float32)
IMAGES = np.ones((4, 2, 7, 7), np.float32)
SEQUENCES = np.ones((4, 5, 6), np.float32)
IDS = np.ones((4, 3), int)


def with_bias(shape, dtype=np.float32):
    return {"weight": np.ones((6, 3), np.float32), "bias": np.ones(shape, dtype)}


PARAMS = {
    "other units": (F.dense(3), F.dense(5).init(0, (6,)), X),
    "a bias of one": (F.dense(3), with_bias((1,)), X),
    "a bias for each example": (F.dense(3), with_bias((4, 1)), X),
    "a bias in float64": (F.dense(3), with_bias((3,), np.float64), X),
    "a bias too many": (F.dense(3, bias=False), with_bias((3,)), X),
    "other filters": (F.conv2d(4, 3), F.conv2d(8, 3).init(0, (2, 7, 7)), IMAGES),
    "another kernel": (F.conv2d(4, 3), F.conv2d(4, 5).init(0, (2, 7, 7)), IMAGES),
    "another transposed kernel": (
        F.conv2d_transpose(4, 3),
        F.conv2d_transpose(4, 5).init(0, (2, 7, 7)),
        IMAGES,
    ),
    "another vocabulary": (F.embedding(10, 4), F.embedding(99, 4).init(0, (3,)), IDS),
    "other units of a recurrent layer": (F.lstm(3), F.lstm(4).init(0, (5, 6)), SEQUENCES),
    "another recurrent layer": (
        F.gru(3, reset_after=False),
        F.gru(3).init(0, (5, 6)),
        SEQUENCES,
    ),
}


@pytest.mark.parametrize(("layer", "params", "x"), PARAMS.values(), ids=PARAMS)
def test_params_of_another_layer_are_refused(layer, params, x):
    with pytest.raises(ValueError, match=r"this layer takes params.*of another layer"):
        layer(params, x)


STATES = [
    (F.adagrad(0.1), F.momentum(0.1)),
    (F.rmsprop(0.1), F.adagrad(0.1)),
    (F.adam(0.1), F.nadam(0.1)),
    (F.sgd(0.1), F.adam(0.1)),
]


@pytest.mark.parametrize(("optimizer", "other"), STATES, ids=repr)
def test_the_state_of_another_optimizer_raises(optimizer, other):
    params = {"a": np.ones(3, np.float32)}
    with pytest.raises(ValueError, match="of another optimizer"):
        optimizer.update(params, other.init(params), params)


def test_a_step_refuses_the_state_of_another_optimizer():
    model = F.dense(3)
    state = TrainState.create(model, F.adam(0.1), (6,))
    step = train_step(model, F.softmax_cross_entropy, F.nadam(0.1))
    with pytest.raises(ValueError, match="of another optimizer"):
        step(state, (X, np.arange(4) % 3))


LOSSES = {
    "a number": (lambda y, t: np.float32(1), TypeError, r"\(value, gradient in the outputs\)"),
    "a gradient of another shape": (
        lambda y, t: (np.float32(1), np.ones((4, 1), np.float32)),
        ValueError,
        r"float32\[4, 1\] for the outputs float32\[4, 3\]",
    ),
}


@pytest.mark.parametrize(("loss", "error", "message"), LOSSES.values(), ids=LOSSES)
def test_a_loss_must_return_its_value_and_gradient(loss, error, message):
    model = F.dense(3)
    with pytest.raises(error, match=message):
        F.value_and_grad(model, loss)(model.init(0, (6,)), X, np.arange(4) % 3)


def test_a_string_is_not_accepted_as_a_loss():
    with pytest.raises(TypeError, match="expected a loss, such as"):
        F.value_and_grad(F.dense(3), "mse")


def test_a_users_layer_must_return_its_cache():
    @F.layer
    def double():
        return F.Layer(lambda r, s: (), lambda p, x: 2 * x, lambda p, c, g: (None, 2 * g))

    with pytest.raises(TypeError, match=r"the tuple \(y, cache\)"):
        F.serial(double()).init(0, (6,))


def test_a_constructor_must_return_a_layer():
    @F.layer
    def nothing():
        return 3

    with pytest.raises(TypeError, match=r"nothing is decorated.*must return a Layer"):
        nothing()


def test_dropout_is_refused_as_a_recurrent_activation():
    with pytest.raises(ValueError, match="in training too"):
        F.lstm(3, activation=F.dropout(0.9))


@pytest.mark.parametrize("layer", [F.sigmoid(), F.silu()], ids=repr)
def test_sigmoids_use_the_full_range_of_float64(layer):
    x = np.array([-100.0, -300.0, -1000.0])
    factor = x if layer == F.silu() else np.ones(3)
    np.testing.assert_allclose(layer((), x), factor * np.exp(x), rtol=1e-12, atol=1e-304)


def test_weights_of_other_trees_are_found_in_models():
    model = F.serial(F.dense(4), F.dense(3))
    params = model.init(0, (6,))
    with pytest.raises(ValueError, match="of another layer") as caught:
        model((params[0], tree.map(np.transpose, params[1])), X)
    assert "serial[1] = dense(units=3)" in caught.value.__notes__[0]
