"""Stateful activations: the documented formulas, derivatives, names, user-defined classes."""

import copy
import json
import pickle

import numpy as np
import pytest

import npdl
import npdl.functional as F
from npdl import random
from npdl.compat import activations
from npdl.compat.activations import (
    Activation,
    Elliot,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    SoftPlus,
    SoftSign,
    SymmetricElliot,
    Tanh,
)
from npdl.gradcheck import check_gradients


def softmax_rows(x):
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


# Constructor, documented formula, and names; the last name is the class name.
CASES = [
    (Sigmoid, lambda x: 1 / (1 + np.exp(-x)), "sigmoid Sigmoid"),
    (Tanh, lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), "tan tanh Tanh"),
    (ReLU, lambda x: np.where(x > 0, x, 0), "relu RELU ReLU"),
    (Linear, lambda x: x, "linear Linear"),
    (Softmax, softmax_rows, "softmax Softmax"),
    (Elliot, lambda x: 0.5 * x / (1 + np.abs(x)) + 0.5, "elliot Elliot"),
    (SymmetricElliot, lambda x: x / (1 + np.abs(x)), "symmetric_elliot SymmetricElliot"),
    (SoftPlus, lambda x: np.log(1 + np.exp(x)), "softplus soft_plus SoftPlus"),
    (SoftSign, lambda x: x / (1 + np.abs(x)), "softsign soft_sign SoftSign"),
]
STEEP = [
    (lambda: Elliot(steepness=2.5), lambda x: 1.25 * x / (1 + np.abs(2.5 * x)) + 0.5, ""),
    (lambda: SymmetricElliot(2.5), lambda x: 2.5 * x / (1 + np.abs(2.5 * x)), ""),
]
NAMES = [names.split()[-1] for *_, names in CASES]
each = pytest.mark.parametrize("make", [make for make, *_ in CASES], ids=NAMES)
each_formula = pytest.mark.parametrize(
    ("make", "formula"),
    [(make, formula) for make, formula, _ in CASES + STEEP],
    ids=[*NAMES, "Elliot, steep", "SymmetricElliot, steep"],
)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def numbers(*shape, dtype=np.float64):
    """Random numbers away from the kinks of all activations."""
    x = 2 * random.generator(1).normal(size=shape)
    return (x + 0.01 * np.sign(x)).astype(dtype)


def test_the_table_has_every_activation():
    assert {*NAMES, "Activation", "get", "softmax_before_cross_entropy"} == set(activations.__all__)


@each_formula
@each_dtype
def test_forward_is_the_documented_formula(make, formula, dtype):
    x = numbers(4, 3, dtype=dtype)
    y = make().forward(x)
    assert y.dtype == dtype
    assert np.allclose(
        y, formula(x.astype(np.float64)), rtol=1e-6 if dtype == np.float32 else 1e-12
    )


@each_formula
def test_the_derivative_agrees_with_central_differences(make, formula):
    activation, x, step = make(), numbers(4, 3), 1e-6
    activation.forward(x)
    slope = activation.derivative()
    if isinstance(activation, Softmax):
        # The documented exception: ones, since the gradient p - t of SCCE is complete.
        assert np.array_equal(slope, np.ones((4, 3)))
    else:
        numeric = (formula(x + step) - formula(x - step)) / (2 * step)
        assert np.allclose(slope, numeric, atol=1e-8)


@each_formula
@each_dtype
def test_derivative_of_an_input_keeps_the_cache_of_forward(make, formula, dtype):
    activation, x = make(), numbers(4, 3, dtype=dtype)
    activation.forward(x)
    after = activation.derivative()
    other = activation.derivative(x[:2] * 0.5)
    assert other.shape == (2, 3)
    assert after.dtype == other.dtype == dtype
    assert np.array_equal(activation.derivative(), after)
    assert np.array_equal(activation.derivative(x), after)


@each
def test_the_derivative_does_not_depend_on_later_input_changes(make):
    x = numbers(4, 3)
    activation, expected = make(), make().derivative(x)
    activation.forward(x)
    x[...] = 7
    assert np.array_equal(activation.derivative(), expected)


@each
@each_dtype
def test_large_numbers_give_finite_results_without_a_warning(make, dtype):
    x = np.array([[-1000.0, 0.0, 1000.0], [-1e30, 1.0, 1e30]], dtype)
    activation = make()
    assert np.isfinite(activation.forward(x)).all()
    assert np.isfinite(activation.derivative()).all()


@each
def test_inputs_are_not_modified(make):
    x = numbers(4, 3)
    x.flags.writeable = False
    activation = make()
    y = activation.forward(x)
    y.flags.writeable = False
    assert activation.derivative().flags.writeable
    assert np.array_equal(y, make().forward(x))


@each
def test_ints_lists_and_single_numbers_become_floats(make):
    activation = make()
    assert activation.forward([[1, -2]]).dtype == np.float32
    assert activation.derivative(np.array([[1, -2]])).dtype == np.float32
    npdl.utils.set_dtype("float64")
    assert activation.forward([[1, -2]]).dtype == np.float64
    assert activation.forward(0.5) == activation.forward(np.array([0.5]))[0]
    assert activation.derivative() == activation.derivative(np.array([0.5]))[0]
    assert activation.derivative(-0.5).shape == ()


@each
def test_any_number_of_axes_and_empty_batches_are_accepted(make):
    x = numbers(5, 2, 4, 3)
    rows = make().forward(x.reshape(40, 3)).reshape(5, 2, 4, 3)
    assert np.allclose(make().forward(x), rows, rtol=1e-15)
    assert make().forward(np.zeros((0, 3))).shape == (0, 3)
    assert make().derivative(np.zeros((0, 3))).shape == (0, 3)


def test_sigmoid_ignores_additional_arguments():
    assert Sigmoid().forward(np.zeros(1), 3, more=4) == 0.5


# Names and configurations


@pytest.mark.parametrize(
    ("name", "cls"), [(name, cls) for cls, _, names in CASES for name in names.split()]
)
def test_every_name_returns_a_new_instance(name, cls):
    first = activations.get(name)
    assert type(first) is cls
    assert first is not activations.get(name)


def test_get_copies_an_instance():
    activation = Elliot(steepness=3)
    own = activations.get(activation)
    activation.steepness = 5
    assert own.steepness == 3


@pytest.mark.parametrize("value", ["swish", "", None, 3, ReLU, np.tanh])
def test_other_values_raise_and_the_error_lists_the_names(value):
    with pytest.raises(ValueError, match=r"activations: expected an instance.*ReLU.*tanh; got"):
        activations.get(value)


@pytest.mark.parametrize("make", [make for make, *_ in CASES + STEEP])
def test_configurations_survive_json(make):
    activation, x = make(), numbers(4, 3)
    config = json.loads(json.dumps(activation.to_json()))
    loaded = Activation.from_json(config)
    assert type(loaded) is type(activation)
    assert np.array_equal(loaded.forward(x), activation.forward(x))


@each
def test_copies_and_pickles_include_the_state(make):
    activation = make()
    activation.forward(numbers(4, 3))
    for twin in (copy.deepcopy(activation), pickle.loads(pickle.dumps(activation))):
        assert np.array_equal(twin.derivative(), activation.derivative())


# The functional layer


@each
def test_the_layer_agrees_with_the_activation(make):
    activation, x = make(), numbers(4, 3)
    assert np.array_equal(activation.layer((), x), activation.forward(x))
    check_gradients(activation.layer, (3,), x=x)


def test_softmax_before_cross_entropy_passes_the_gradient():
    layer, x, g = activations.softmax_before_cross_entropy(), numbers(4, 3), numbers(4, 3)
    y, cache = layer.apply((), x)
    assert np.array_equal(y, F.softmax()((), x))
    assert layer.backward((), cache, g)[1] is g
    assert layer.out_shape((3,)) == (3,)
    assert pickle.loads(pickle.dumps(layer)) == layer


# User-defined activations


class Square(Activation):
    """An activation as in old scripts: derivative() after forward(x)."""

    def forward(self, x):
        self.last_forward = x
        return x**2

    def derivative(self, x=None):
        return 2 * (self.last_forward if x is None else x)


class NeedsInput(Square):
    def derivative(self, x):
        return 2 * x


class NeverKeeps(Square):
    def forward(self, x):
        return x**2

    def derivative(self, x=None):
        return np.multiply(2, x)


class Promotes(Square):
    def forward(self, x):
        self.last_forward = x.astype(np.float64)
        return self.last_forward**2


class Shifted(Square):
    """An activation with a scalar derivative."""

    def forward(self, x):
        return x + 3

    def derivative(self, x=None):
        return 1


class Doubled(ReLU):
    """A library activation with another forward and the (wrong) derivative of the base."""

    def forward(self, x):
        return 2 * super().forward(x)


class Renamed(Tanh):
    pass


@pytest.mark.parametrize("cls", [Square, NeedsInput, NeverKeeps, Promotes])
def test_the_layer_of_a_users_activation_has_exact_gradients(cls):
    layer = F.serial(F.dense(4), cls().layer, F.dense(2))
    check_gradients(layer, (3,))
    x = numbers(4, 3, dtype=np.float32)
    y, cache = cls().layer.apply((), x)
    assert y.dtype == cls().layer.backward((), cache, x)[1].dtype == np.float32
    assert np.allclose(y, x**2)


def test_a_derivative_may_be_a_scalar():
    check_gradients(F.serial(F.dense(4), Shifted().layer, F.dense(2)), (3,))


def test_one_activation_can_be_used_twice_in_a_network():
    square = Square()
    check_gradients(F.serial(F.dense(4), square.layer, F.dense(2), square.layer), (3,))


def test_overridden_methods_of_a_subclass_are_called():
    x = numbers(4, 3)
    assert np.array_equal(Doubled().layer((), x), 2 * np.maximum(x, 0))
    assert Renamed().layer == F.tanh()


def test_a_users_activation_survives_json_and_pickle():
    loaded = Activation.from_json(json.loads(json.dumps(Square().to_json())))
    assert type(loaded) is Square
    layer = pickle.loads(pickle.dumps(Square().layer))
    assert layer((), np.array([3.0])) == 9


class Shrinks(Square):
    def forward(self, x):
        return x[:, :1]


class Narrow(Square):
    def derivative(self, x=None):
        return np.ones((2, 1))


ERRORS = {
    "a forward that changes the shape": (
        lambda: Shrinks().layer((), np.ones((2, 3))),
        ValueError,
        r"Shrinks.forward returned float64\[2, 1\] for an input float64\[2, 3\]",
    ),
    "a derivative that has another shape": (
        lambda: Narrow().layer((), np.ones((2, 3))),
        ValueError,
        r"Narrow.derivative returned float64\[2, 1\] for an input",
    ),
    "derivative() first": (
        lambda: Tanh().derivative(),
        RuntimeError,
        r"Tanh.derivative: call forward\(x\) first, or derivative\(x\)",
    ),
    "derivative() of a softmax first": (lambda: Softmax().derivative(), RuntimeError, "forward"),
    "string": (lambda: ReLU().forward("abc"), TypeError, "ReLU: expected an array of numbers"),
    "None": (lambda: ReLU().forward(None), TypeError, "ReLU: expected an array of numbers"),
    "no steepness": (lambda: Elliot(0), ValueError, "steepness must be a number above 0"),
    "negative steepness": (
        lambda: SymmetricElliot(-1),
        ValueError,
        "steepness must be a number above 0",
    ),
    "forward of the base": (lambda: Activation().forward(1), NotImplementedError, "Activation.for"),
    "derivative of the base": (
        lambda: Activation().derivative(),
        NotImplementedError,
        "Activation.derivative",
    ),
    "configuration of the base": (
        lambda: Activation().to_json(),
        NotImplementedError,
        "Activation.to_json",
    ),
    "an unknown class": (
        lambda: Activation.from_json({"class": "activations.Swish"}),
        ValueError,
        r"unknown class 'activations.Swish'; known classes are .*activations.Tanh",
    ),
    "a class of another kind": (
        lambda: Activation.from_json({"class": "objectives.MeanSquaredError"}),
        ValueError,
        "unknown class 'objectives.MeanSquaredError'",
    ),
    "an unknown key": (
        lambda: Activation.from_json({"class": "activations.Elliot", "slope": 1}),
        ValueError,
        r"Elliot.from_json: .*'slope'; the arguments are: steepness",
    ),
    "a key for a class without arguments": (
        lambda: Activation.from_json({"class": "activations.Tanh", "slope": 1}),
        ValueError,
        r"Tanh.from_json: .*; the arguments are: none",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
