"""Losses of several outputs, and losses from a forward function alone."""

import functools
import pickle

import numpy as np
import pytest
from arrays import normal64

import npdl.functional as F
from npdl import tree
from npdl.gradcheck import check_loss
from npdl.training import fit

LABELS, VALUES = np.arange(5) % 3, normal64(5, 2, seed=3)
OUTPUTS = normal64(5, 3, seed=1), normal64(5, 2, seed=2)


def test_weighted_losses_are_the_weighted_sum():
    loss = F.weighted_losses((F.softmax_cross_entropy, 2.0), (F.huber, 0.5))
    value, (g, h) = loss(OUTPUTS, LABELS, VALUES)
    first, second = F.softmax_cross_entropy(OUTPUTS[0], LABELS), F.huber(OUTPUTS[1], VALUES)
    assert value == 2 * first[0] + 0.5 * second[0]
    np.testing.assert_array_equal(g, 2 * first[1])
    np.testing.assert_array_equal(h, 0.5 * second[1])
    check_loss(loss, OUTPUTS, LABELS, VALUES)


def test_a_target_with_weights_is_a_tuple():
    loss = F.weighted_losses((F.softmax_cross_entropy, 1), (F.mean_squared_error, 0))
    weights = np.array([1.0, 0.0, 2.0, 1.0, 1.0])
    value, (g, h) = loss(OUTPUTS, (LABELS, weights), VALUES)
    expected, its_g = F.softmax_cross_entropy(OUTPUTS[0], LABELS, weights)
    assert value == expected
    np.testing.assert_array_equal(g, its_g)
    assert not h.any()


def test_weighted_losses_keep_float32_and_can_be_pickled():
    loss = F.weighted_losses((F.softmax_cross_entropy, 0.3), (F.mean_squared_error, 0.7))
    outputs = tree.astype(OUTPUTS, np.float32)
    value, g = pickle.loads(pickle.dumps(loss))(outputs, LABELS, VALUES)
    assert value.dtype == np.float32
    assert {part.dtype for part in g} == {np.dtype(np.float32)}


def test_a_model_of_two_outputs_is_trained_with_them():
    nodes = {"h": (F.dense(8), "x"), "t": (F.tanh(), "h"), "a": (F.dense(3), "t")}
    nodes["b"] = (F.dense(2), "t")
    model = F.graph("x", nodes, ("a", "b"))
    loss = F.weighted_losses((F.softmax_cross_entropy, 1.0), (F.mean_squared_error, 0.1))
    x = normal64(30, 4).astype(np.float32)
    data = x, np.argmax(x[:, :3], axis=1), x[:, :2] ** 2
    state, history = fit(model, loss, F.adam(0.05), data, epochs=20, progress=False)
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    grads = F.per_example_grads(model, loss)(state.params, *data)
    _, mean, _ = F.value_and_grad(model, loss)(state.params, *data)
    close = tree.map(lambda a, b: np.abs(a.mean(0) - b).max() < 1e-5, grads, mean)
    assert all(tree.leaves(close))


WRONG = {
    "no term": (lambda: F.weighted_losses(), TypeError, "expected a loss and a weight"),
    "no pair": (
        lambda: F.weighted_losses(F.huber),
        TypeError,
        r"term 0 must be \(loss, weight\), as in \(F.mean_squared_error, 0.1\), got huber",
    ),
    "negative": (
        lambda: F.weighted_losses((F.huber, -1)),
        ValueError,
        "weight must be a number of at least 0",
    ),
    "one output": (
        lambda: F.weighted_losses((F.huber, 1))(OUTPUTS[1], VALUES),
        ValueError,
        "there are 1 losses, so expected a tuple of 1 outputs and 1 targets, got float64",
    ),
    "targets": (
        lambda: F.weighted_losses((F.huber, 1), (F.huber, 1))(OUTPUTS, VALUES),
        ValueError,
        "there are 2 losses",
    ),
    "no function": (lambda: F.loss_from_function("mse"), TypeError, "expected a function"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused(name):
    pytest.importorskip("autograd")
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()


def test_a_loss_from_a_function_has_the_gradient_of_the_loss_by_hand():
    anp = pytest.importorskip("autograd.numpy")
    loss = F.loss_from_function(lambda y, t: anp.mean((y - t) ** 2))
    for dtype in (np.float32, np.float64):
        y, t = OUTPUTS[1].astype(dtype), VALUES.astype(dtype)
        value, g = loss(y, t)
        expected, by_hand = F.mean_squared_error(y, t)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(g, by_hand, rtol=1e-6)
        assert g.dtype == value.dtype == dtype
    check_loss(loss, OUTPUTS[1], VALUES)


def test_a_loss_from_a_function_of_two_outputs():
    anp = pytest.importorskip("autograd.numpy")

    def contrast(outputs, margin):
        left, right = outputs
        distance = anp.sum(left**2, axis=1) - anp.sum(right**2, axis=1)
        return anp.mean(anp.logaddexp(0.0, margin + distance))

    check_loss(F.loss_from_function(contrast), OUTPUTS, 0.5)


def test_a_loss_from_a_function_has_hessian_products():
    anp = pytest.importorskip("autograd.numpy")
    model = F.serial(F.dense(4), F.tanh(), F.dense(2))
    params = tree.astype(model.init(0, (3,)), np.float64)
    v = tree.map(lambda leaf: normal64(*leaf.shape, seed=5), params)
    x = normal64(5, 3, seed=4)
    own = F.loss_from_function(lambda y, t: anp.mean((y - t) ** 2))
    found, expected = (
        F.hvp(model, loss)(params, v, x, VALUES) for loss in (own, F.mean_squared_error)
    )
    assert tree.all_close(found, expected, 1e-12)


def test_a_function_without_a_number_of_the_right_type_is_refused():
    anp = pytest.importorskip("autograd.numpy")
    y = OUTPUTS[1].astype(np.float32)
    with pytest.raises(
        TypeError, match=r"must return one number .* float32\[5, 2\], .* got float32"
    ):
        F.loss_from_function(lambda y, t: anp.sum(y - t, axis=1))(y, y)
    with pytest.raises(TypeError, match="got float64"):
        F.loss_from_function(lambda y, t: anp.mean(y - t) * np.float64(2))(y, y)


def test_check_loss_finds_wrong_gradients():
    check_loss(F.softmax_cross_entropy, OUTPUTS[0], LABELS)
    check_loss(functools.partial(F.huber, delta=2.0), OUTPUTS[1], VALUES)
    wrong = {
        "is wrong": lambda y, t: (np.mean((y - t) ** 2), y - t),
        "has shape": lambda y, t: (np.mean((y - t) ** 2), (y - t).ravel()),
        "is missing": lambda y, t: (np.mean((y - t) ** 2), None),
        "must return one number": lambda y, t: ((y - t) ** 2, 2 * (y - t)),
    }
    for message, loss in wrong.items():
        with pytest.raises(AssertionError, match=message):
            check_loss(loss, OUTPUTS[1], VALUES)
    with pytest.raises(AssertionError, match="the gradient of outputs 1 is wrong"):
        check_loss(lambda y: (np.sum(y[0] * y[1]), (y[1], y[1])), (np.ones(2), np.ones(2) * 3))
