"""Stateful objectives: the documented formulas, gradients, targets, names, user-defined classes."""

import json

import numpy as np
import pytest

import npdl
from npdl import random
from npdl.compat import objectives
from npdl.compat.objectives import (
    BCE,
    MSE,
    SCCE,
    BinaryCrossEntropy,
    HeD,
    HellingerDistance,
    MeanSquaredError,
    Objective,
    SoftmaxCategoricalCrossEntropy,
)

ROWS, CLASSES = 5, 3


def probabilities(*shape, seed=0):
    """Return random rows with sum one."""
    e = np.exp(random.generator(seed).normal(size=shape))
    return e / e.sum(axis=-1, keepdims=True)


def between(*shape, seed=0):
    return random.generator(seed).uniform(0.05, 0.95, shape)


def real(*shape, seed=0):
    return random.generator(seed).normal(size=shape)


IDS = np.array([2, 0, 1, 1, 2])
ONE_HOT = np.eye(CLASSES)[IDS]

# Objective, outputs, targets and documented formula.
CASES = {
    "MSE": (MSE, real(ROWS, CLASSES), real(ROWS, CLASSES, seed=1), lambda p, t: (p - t) ** 2),
    "MSE, a vector": (MSE, real(ROWS), real(ROWS, seed=1), lambda p, t: (p - t) ** 2),
    "BCE": (
        BCE,
        between(ROWS, CLASSES),
        between(ROWS, CLASSES, seed=1),
        lambda p, t: -t * np.log(p) - (1 - t) * np.log(1 - p),
    ),
    "SCCE": (
        SCCE,
        probabilities(ROWS, CLASSES),
        probabilities(ROWS, CLASSES, seed=1),
        lambda p, t: np.array([-sum(t[i] * np.log(p[i])) for i in range(len(p))]),
    ),
    "HeD": (
        HeD,
        probabilities(ROWS, CLASSES),
        probabilities(ROWS, CLASSES, seed=1),
        lambda p, t: np.sqrt(((np.sqrt(p) - np.sqrt(t)) ** 2).sum(axis=1) / 2),
    ),
}
each = pytest.mark.parametrize(("cls", "p", "t", "formula"), CASES.values(), ids=CASES)
of_classes = pytest.mark.parametrize("cls", [SCCE, HeD])


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_is_the_documented_formula(cls, p, t, formula, dtype):
    values = cls().forward(p.astype(dtype), t.astype(dtype))
    assert values.dtype == dtype
    assert values.shape == formula(p, t).shape
    assert np.allclose(values, formula(p, t), rtol=1e-5 if dtype == np.float32 else 1e-12)
    assert cls().backward(p.astype(dtype), t.astype(dtype)).dtype == dtype


@each
def test_backward_is_the_gradient_of_the_sum_of_forward(cls, p, t, formula):
    g, numeric, step = cls().backward(p, t), np.empty_like(p), 1e-6
    for place in np.ndindex(p.shape):
        upper, lower = p.copy(), p.copy()
        upper[place] += step
        lower[place] -= step
        difference = cls().forward(upper, t).sum() - cls().forward(lower, t).sum()
        numeric[place] = difference / (2 * step)
    # The documented exceptions, both p - t: half of the derivative of the square, and for SCCE
    # the gradient in the input of the softmax.
    if cls is MSE:
        assert np.allclose(2 * g, numeric, atol=1e-7)
    if cls in (MSE, SCCE):
        assert np.allclose(g, p - t, atol=1e-15)
    else:
        assert np.allclose(g, numeric, atol=1e-7)


def test_the_gradient_of_scce_is_in_the_input_of_the_softmax():
    x, t, step = real(ROWS, CLASSES), probabilities(ROWS, CLASSES, seed=1), 1e-6
    softmax = npdl.activations.Softmax()
    g = SCCE().backward(softmax.forward(x), t) * softmax.derivative()
    for place in np.ndindex(x.shape):
        values = []
        for by in (step, -step):
            moved = x.copy()
            moved[place] += by
            values.append(SCCE().forward(softmax.forward(moved), t).sum())
        assert g[place] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


@of_classes
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
def test_class_indices_agree_with_one_hot_rows(cls, dtype):
    p, ids = probabilities(ROWS, CLASSES), IDS.astype(dtype)
    assert np.allclose(cls().forward(p, ids), cls().forward(p, ONE_HOT), rtol=1e-14)
    assert np.allclose(cls().backward(p, ids), cls().backward(p, ONE_HOT), rtol=1e-14)
    assert np.allclose(cls().backward(p, list(IDS)), cls().backward(p, ONE_HOT), rtol=1e-14)


@of_classes
def test_items_may_be_time_steps_of_sequences(cls):
    p = probabilities(2, 5, CLASSES)
    ids = np.array([IDS, IDS[::-1]])
    flat = cls().forward(p.reshape(10, CLASSES), ids.reshape(10))
    assert np.array_equal(cls().forward(p, ids), flat.reshape(2, 5))
    g = cls().backward(p.reshape(10, CLASSES), ids.reshape(10))
    assert np.array_equal(cls().backward(p, ids), g.reshape(2, 5, CLASSES))


@each
def test_losses_and_gradients_are_not_divided_by_the_batch(cls, p, t, formula):
    twice = [np.concatenate([array, array]) for array in (p, t)]
    for method in (cls().forward, cls().backward):
        once = method(p, t)
        assert np.allclose(method(*twice), np.concatenate([once, once]), rtol=1e-14)


@each
def test_inputs_are_not_modified_and_results_are_new(cls, p, t, formula):
    p, t = p.copy(), t.copy()
    p.flags.writeable = t.flags.writeable = False
    for method in (cls().forward, cls().backward):
        result = method(p, t)
        assert result.flags.writeable
        assert not np.shares_memory(result, p)
        assert not np.shares_memory(result, t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wrong_0_and_1_outputs_have_finite_loss_and_gradient(dtype):
    p, t = np.array([[0.0, 1.0], [1.0, 0.0]], dtype), np.array([[1.0, 0.0], [1.0, 0.0]], dtype)
    for cls in (BCE, SCCE, HeD):
        values, g = cls().forward(p, t), cls().backward(p, t)
        assert np.isfinite(values).all()
        assert np.isfinite(g).all()
        assert values[0].min() > 0.99
        assert np.allclose(values[1], 0, atol=1e-6)
    assert np.allclose(SCCE(epsilon=1e-4).forward(p, t), [-np.log(1e-4), 0])
    assert np.allclose(BCE(epsilon=1e-4).forward(p, t)[0], -np.log(1e-4))
    large = np.array([[1e15, -1e15]], dtype)
    assert np.array_equal(MSE().backward(large, -large), 2 * large)


def test_ints_and_lists_are_accepted():
    assert MSE().forward([[1, 3]], [[0, 1]]).dtype == np.float32
    npdl.utils.set_dtype("float64")
    assert MSE().forward([[1, 3]], [[0, 1]]).dtype == np.float64
    assert BCE().forward(np.array([0.5]), np.array([True])) == pytest.approx(np.log(2))


# Names and configurations

NAMES = {
    MSE: "mse MSE mean_squared_error MeanSquaredError",
    HeD: "hellinger_distance HellingerDistance hed HeD",
    BCE: "binary_cross_entropy BinaryCrossEntropy bce BCE",
    SCCE: "softmax_categorical_cross_entropy SoftmaxCategoricalCrossEntropy scce SCCE",
}


def test_the_short_names_are_aliases_of_the_classes():
    assert MSE is MeanSquaredError
    assert HeD is HellingerDistance
    assert BCE is BinaryCrossEntropy
    assert SCCE is SoftmaxCategoricalCrossEntropy


@pytest.mark.parametrize(
    ("name", "cls"), [(name, cls) for cls, names in NAMES.items() for name in names.split()]
)
def test_every_name_returns_a_new_instance(name, cls):
    assert type(objectives.get(name)) is cls
    assert objectives.get(name) is not objectives.get(name)


def test_get_copies_an_instance():
    objective = SCCE(epsilon=1e-5)
    own = objectives.get(objective)
    objective.epsilon = 1e-3
    assert own.epsilon == 1e-5


@pytest.mark.parametrize("value", ["hinge", None, 3, SCCE, np.mean])
def test_other_values_raise_and_the_error_lists_the_names(value):
    with pytest.raises(ValueError, match=r"objectives: expected an instance.*BCE.*scce.*; got"):
        objectives.get(value)


@pytest.mark.parametrize("objective", [MSE(), HeD(), BCE(1e-6), SCCE(epsilon=1e-6)])
def test_configurations_survive_json(objective):
    loaded = Objective.from_json(json.loads(json.dumps(objective.to_json())))
    assert type(loaded) is type(objective)
    assert vars(loaded).get("epsilon") == vars(objective).get("epsilon")


class Weighted(Objective):
    """A user-defined objective."""

    def __init__(self, weight):
        self.weight = weight

    def forward(self, outputs, targets):
        return self.weight * np.abs(outputs - targets)

    def backward(self, outputs, targets):
        return self.weight * np.sign(outputs - targets)


def test_a_users_objective_survives_json():
    loaded = Objective.from_json(json.loads(json.dumps(Weighted(3.0).to_json())))
    assert np.array_equal(loaded.backward(np.array([1.0]), np.array([2.0])), [-3.0])


P = probabilities(ROWS, CLASSES)
ERRORS = {
    "MSE of (n,) and (n, 1)": (
        lambda: MSE().forward(np.ones(5), np.ones((5, 1))),
        ValueError,
        r"MSE: .* not broadcast; got outputs float64\[5\] and targets float64\[5, 1\]; use targets",
    ),
    "MSE backward of other lengths": (
        lambda: MSE().backward(np.ones((5, 3)), np.ones((4, 3))),
        ValueError,
        r"MSE: outputs and targets need one shape",
    ),
    "BCE of other shapes": (
        lambda: BCE().forward(np.ones(3), np.ones(4)),
        ValueError,
        "BCE: .*one",
    ),
    "SCCE with fewer labels": (
        lambda: SCCE().forward(P, IDS[:4]),
        ValueError,
        r"SCCE: expected outputs \(batch, ..., classes\).*float64\[5, 3\] and targets int64\[4\]",
    ),
    "SCCE backward with a label too large": (
        lambda: SCCE().backward(P, np.array([0, 1, 2, 3, 0])),
        ValueError,
        r"SCCE: targets\[3\] is 3, but there are 3 classes, labelled 0 to 2",
    ),
    "HeD with a negative label": (
        lambda: HeD().backward(P, np.array([0, -1, 2, 1, 0])),
        ValueError,
        r"HeD: targets\[1\] is -1",
    ),
    "HeD with other classes": (lambda: HeD().forward(P, np.eye(5)), ValueError, "HeD: expected"),
    "labels that are floats": (
        lambda: SCCE().forward(P, IDS.astype(float)),
        TypeError,
        r"SCCE: class labels are ints, got targets float64\[5\]; convert them with",
    ),
    "scores in place of probabilities": (
        lambda: SCCE().forward(5 * P, IDS),
        ValueError,
        r"SCCE: outputs must be in \[0, 1\].*; end the model with a softmax",
    ),
    "BCE of scores": (
        lambda: BCE().backward(np.array([-0.5]), np.array([1])),
        ValueError,
        r"BCE: outputs must be in \[0, 1\], got values from -0.5 to -0.5; end the model with a sig",
    ),
    "BCE with targets of ±1": (
        lambda: BCE().forward(np.array([0.5]), np.array([-1])),
        ValueError,
        r"BCE: targets must be in \[0, 1\]",
    ),
    "strings as outputs": (
        lambda: MSE().forward("a", "b"),
        TypeError,
        "MSE: expected an array",
    ),
    "no epsilon": (lambda: SCCE(epsilon=0), ValueError, "SCCE: epsilon must be a number in"),
    "a large epsilon": (lambda: BCE(0.5), ValueError, "BCE: epsilon must be a number in"),
    "forward of the base": (lambda: Objective().forward(1, 1), NotImplementedError, "Objective.fo"),
    "backward of the base": (lambda: Objective().backward(1, 1), NotImplementedError, "Objective."),
    "configuration of the base": (lambda: Objective().to_json(), NotImplementedError, "to_json"),
    "an unknown key": (
        lambda: Objective.from_json({"class": "objectives.BinaryCrossEntropy", "eps": 1}),
        ValueError,
        r"BinaryCrossEntropy.from_json: .*'eps'; the arguments are: epsilon",
    ),
    "a missing key": (
        lambda: Objective.from_json({"class": "objectives.Weighted"}),
        ValueError,
        r"Weighted.from_json: .*'weight'; the arguments are: weight",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
