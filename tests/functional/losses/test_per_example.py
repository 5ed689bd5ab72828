"""Losses of each example: the loss of the example alone, and its gradient."""

import functools

import numpy as np
import pytest
from arrays import read_only
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random
from npdl.training import TrainState, fit, train_step

ELEMENTS = {
    "mean_squared_error": F.mean_squared_error,
    "mean_absolute_error": F.mean_absolute_error,
    "huber": functools.partial(F.huber, delta=0.3),
    "binary_cross_entropy": functools.partial(F.binary_cross_entropy, epsilon=1e-3),
    "sigmoid_cross_entropy": F.sigmoid_cross_entropy,
    "poisson_nll": F.poisson_nll,
    "quantile_loss": functools.partial(F.quantile_loss, level=0.8),
    "focal_loss": F.focal_loss,
}
CLASSES = {
    "softmax_cross_entropy": F.softmax_cross_entropy,
    "softmax, smoothed": functools.partial(F.softmax_cross_entropy, label_smoothing=0.1),
    "categorical_cross_entropy": F.categorical_cross_entropy,
    "hellinger_distance": F.hellinger_distance,
    "kl_divergence": F.kl_divergence,
}
LOSSES = ELEMENTS | CLASSES
EACH = pytest.mark.parametrize("name", LOSSES)


def case(name, shape, weights, dtype=np.float64, one_hot=False):
    """Outputs, targets and weights of a batch; some weights are 0, also all of an example."""
    generator = random.generator((7, *shape, weights))
    p = generator.random(shape)
    t = generator.random(shape)
    if name in CLASSES:
        p = F.softmax()((), p)
        t = generator.integers(shape[-1], size=shape[:-1])
        t = np.eye(shape[-1])[t] if one_hot else t
    w = None
    if weights:
        w = generator.random(shape[:weights]) * (generator.random(shape[:weights]) > 0.3)
        w[0] = 0
    return read_only((p.astype(dtype), t.astype(dtype) if t.dtype.kind == "f" else t, w))


@EACH
@settings(max_examples=15)
@given(data=st.data())
def test_each_value_is_the_loss_of_the_example_alone(name, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    shape = (*shape[:-1], shape[-1] + 1)
    axes = len(shape) - (name in CLASSES)
    p, t, w = case(name, shape, data.draw(st.integers(0, axes)), one_hot=data.draw(st.booleans()))
    values, g = LOSSES[name](p, t, w, per_example=True)
    assert values.shape == shape[:1]
    assert g.shape == p.shape
    for i in range(shape[0]):
        rows = slice(i, i + 1)
        value, alone = LOSSES[name](p[rows], t[rows], None if w is None else w[rows])
        assert values[i] == pytest.approx(value, rel=1e-12, abs=1e-15)
        np.testing.assert_allclose(g[rows], alone, rtol=1e-12, atol=1e-15)


@EACH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weights", [0, 1, 2])
def test_the_mean_of_the_values_is_the_loss(name, dtype, weights):
    p, t, _ = case(name, (5, 6, 3), weights, dtype)
    values, g = LOSSES[name](p, t, per_example=True)
    loss, gradient = LOSSES[name](p, t)
    assert (values.dtype, g.dtype) == (dtype, dtype)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert np.mean(values) == pytest.approx(loss, rel=tolerance)
    np.testing.assert_allclose(g / 5, gradient, rtol=tolerance, atol=1e-12)


@EACH
def test_weights_of_examples_leave_their_values_alone(name):
    p, t, _ = case(name, (4, 3), 0)
    plain, g = LOSSES[name](p, t, per_example=True)
    values, weighted = LOSSES[name](p, t, np.array([0, 1e-300, 2, 1e300]), per_example=True)
    np.testing.assert_allclose(values, [0, *plain[1:]], rtol=1e-12)
    np.testing.assert_allclose(weighted[1:], g[1:], rtol=1e-12)
    assert not weighted[0].any()


@EACH
def test_a_weight_of_zero_leaves_out_nan(name):
    p, t, _ = case(name, (4, 5, 3), 0)
    mask = np.arange(5) < np.array([[5], [2], [0], [3]])
    q = np.where(mask[..., None], p, np.nan)
    values, g = LOSSES[name](q, t, mask, per_example=True)
    expected, gradient = LOSSES[name](p, t, mask, per_example=True)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(g, gradient)
    assert values[2] == 0


def test_values_of_many_rows_are_computed_in_blocks():
    generator = random.generator(1)
    z = generator.normal(size=(300, 40, 50)).astype(np.float32)
    t = generator.integers(50, size=(300, 40))
    values, g = F.softmax_cross_entropy(z, t, per_example=True)
    loss, gradient = F.softmax_cross_entropy(z, t)
    assert np.mean(values) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(g, gradient * 300, rtol=1e-5, atol=1e-9)


def test_values_of_infinite_logits_are_exact():
    z, t = np.array([[np.inf, -np.inf], [np.inf, 1.0], [0.0, 0.0]]), np.array([[1, 0]] * 3)
    values, _ = F.sigmoid_cross_entropy(z, t, per_example=True)
    np.testing.assert_allclose(values, [0, np.log1p(np.e) / 2, np.log(2)], rtol=1e-12)


@EACH
def test_the_argument_is_a_boolean(name):
    p, t, _ = case(name, (4, 3), 0)
    with pytest.raises(TypeError, match=r"per_example must be True or False.*got 1"):
        LOSSES[name](p, t, per_example=1)


def test_training_needs_the_mean():
    x, y = np.ones((4, 3), np.float32), np.zeros(4, int)
    loss = functools.partial(F.softmax_cross_entropy, per_example=True)
    for call in (
        lambda: fit(F.dense(2), loss, F.sgd(0.1), (x, y), progress=False),
        lambda: train_step(F.dense(2), loss, F.sgd(0.1)),
    ):
        with pytest.raises(ValueError, match="training needs the mean of the loss"):
            call()


def test_hard_examples_are_chosen_by_their_losses():
    x = random.generator(0).normal(size=(30, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = F.dense(2)
    params = TrainState.create(model, F.sgd(0.1), (3,)).params
    values, _ = F.softmax_cross_entropy(model(params, x), y, per_example=True)
    hard = np.argsort(values)[-10:]
    assert F.softmax_cross_entropy(model(params, x[hard]), y[hard])[0] > values.mean()
