"""Stateful initializers: distributions, fans, names, the generator, user-defined classes."""

import json
import math

import numpy as np
import pytest

import npdl
import npdl.functional as F
from npdl.compat import initializations
from npdl.compat.initializations import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    LecunUniform,
    Normal,
    One,
    Orthogonal,
    Uniform,
    Zero,
    decompose_size,
)

NAMES = {
    "zero": Zero,
    "one": One,
    "uniform": Uniform,
    "normal": Normal,
    "lecun_uniform": LecunUniform,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_normal": HeNormal,
    "he_uniform": HeUniform,
    "orthogonal": Orthogonal,
}
ALL = NAMES | {
    "Uniform, a pair": lambda: Uniform((0.5, 2.0)),
    "Normal, arguments": lambda: Normal(0.2, mean=3.0),
    "Orthogonal, relu": lambda: Orthogonal("relu"),
}
each = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def test_the_table_has_every_initializer():
    classes = {cls.__name__ for cls in NAMES.values()}
    assert classes | {"Initializer", "decompose_size", "get"} == set(initializations.__all__)


# Shapes with fan_in and fan_out by the rule in the documentation of the old release: (in, out),
# (out, in, *field), otherwise the square root of the size.
FANS = [
    ((30, 500), 30, 500),
    ((60, 20, 5, 3), 20 * 15, 60 * 15),
    ((10, 8, 5, 3, 2), 8 * 30, 10 * 30),
    ((10000,), 100, 100),
    ((50, 10, 20), 100, 100),
]
UNIFORM = [
    (LecunUniform(), lambda i, o: math.sqrt(3 / i)),
    (GlorotUniform(), lambda i, o: math.sqrt(6 / (i + o))),
    (HeUniform(), lambda i, o: math.sqrt(6 / i)),
    (Uniform(), lambda i, o: 0.05),
    (Uniform(scale=0.3), lambda i, o: 0.3),
]
NORMAL = [
    (GlorotNormal(), lambda i, o: math.sqrt(2 / (i + o)), 0.0),
    (HeNormal(), lambda i, o: math.sqrt(2 / i), 0.0),
    (Normal(), lambda i, o: 0.01, 0.0),
    (Normal(std=0.2, mean=-3.0), lambda i, o: 0.2, -3.0),
]


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), FANS)
def test_decompose_size_gives_the_old_fans(shape, fan_in, fan_out):
    assert decompose_size(shape) == (fan_in, fan_out)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), FANS)
@pytest.mark.parametrize(("initializer", "bound"), UNIFORM)
def test_uniform_draws_fill_the_range_given_by_the_fans(initializer, bound, shape, fan_in, fan_out):
    array, limit = initializer(shape), bound(fan_in, fan_out)
    assert array.shape == shape
    assert np.abs(array).max() <= np.float32(limit) * (1 + 1e-6)
    assert array.max() > 0.998 * limit
    assert array.min() < -0.998 * limit
    assert abs(array.mean()) < 4 * limit / math.sqrt(3 * array.size)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), FANS)
@pytest.mark.parametrize(("initializer", "std", "mean"), NORMAL)
def test_normal_draws_have_the_deviation_given_by_the_fans(
    initializer, std, mean, shape, fan_in, fan_out
):
    array, expected = initializer(shape).astype(np.float64), std(fan_in, fan_out)
    error = expected / math.sqrt(array.size)
    assert abs(array.mean() - mean) < 4 * error
    assert abs(array.std() - expected) < 4 * error / math.sqrt(2)


def test_uniform_accepts_a_pair_of_bounds():
    array = Uniform((0.5, 2.0))((20000,))
    assert 0.5 <= array.min() < 0.505
    assert 1.995 < array.max() <= 2


@pytest.mark.parametrize(("gain", "length"), [(1.0, 1.0), (3.0, 3.0), ("relu", math.sqrt(2))])
@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (4, 7), (6, 3, 2, 2)])
def test_orthogonal_rows_or_columns_have_the_norm_of_the_gain(gain, length, shape):
    matrix = Orthogonal(gain)(shape).reshape(shape[0], -1)
    small = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    assert np.allclose(small @ small.T, length**2 * np.eye(len(small)), atol=1e-5)


def test_zeros_and_ones():
    assert np.array_equal(Zero()((3, 2)), np.zeros((3, 2)))
    assert np.array_equal(One()((3, 2)), np.ones((3, 2)))


# Properties of all initializers


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_are_new_and_writable_in_the_configured_dtype(make, dtype):
    npdl.utils.set_dtype(dtype)
    array = make()([4, 3])
    assert array.shape == (4, 3)
    assert array.dtype == dtype
    assert array.flags.writeable


@each
def test_the_seed_determines_the_draws_and_draws_differ(make):
    npdl.utils.set_seed(3)
    first, second = make()((40, 50)), make()((40, 50))
    npdl.utils.set_seed(3)
    assert np.array_equal(make()((40, 50)), first)
    if not isinstance(make(), Zero | One):
        assert np.mean(first == second) < 0.01


def test_a_shape_may_be_an_int():
    assert Normal()(3).shape == (3,)
    assert Zero()(np.int64(3)).shape == (3,)


@each
def test_the_functional_initializer_depends_only_on_its_key(make):
    pure = make().pure
    before = npdl.utils.get_rng().get_state()[1].copy()
    assert np.array_equal(pure((7,), (4, 3)), pure((7,), (4, 3)))
    assert np.array_equal(npdl.utils.get_rng().get_state()[1], before)
    layer = F.dense(3, weight_init=pure)
    assert layer.init(0, (4,))["weight"].shape == (4, 3)


@pytest.mark.parametrize(("name", "cls"), NAMES.items())
def test_every_name_returns_a_new_instance(name, cls):
    for alias in (name, cls.__name__):
        assert type(initializations.get(alias)) is cls
        assert initializations.get(alias) is not initializations.get(alias)


def test_get_copies_an_instance():
    initializer = Normal(3.0)
    own = initializations.get(initializer)
    initializer.std = 5.0
    assert own.std == 3.0


@pytest.mark.parametrize("value", ["xavier", None, 3, Zero, np.zeros])
def test_other_values_raise_and_the_error_lists_the_names(value):
    message = r"initializations: expected an instance.*GlorotUniform.*zero; got"
    with pytest.raises(ValueError, match=message):
        initializations.get(value)


@each
def test_configurations_survive_json(make):
    initializer = make()
    loaded = Initializer.from_json(json.loads(json.dumps(initializer.to_json())))
    assert type(loaded) is type(initializer)
    npdl.utils.set_seed(1)
    expected = initializer((4, 3))
    npdl.utils.set_seed(1)
    assert np.array_equal(loaded((4, 3)), expected)


# User-defined initializers


class Stairs(Initializer):
    """An initializer as in old scripts."""

    def __init__(self, step=0.1):
        self.step = step

    def call(self, size):
        return self.step * np.arange(np.prod(size)).reshape(size)


class Called(Initializer):
    def __call__(self, size):
        return np.ones(size)


class Twice(Normal):
    def call(self, size):
        return 2 * super().call(size)


class Renamed(Zero):
    pass


@pytest.mark.parametrize("initializer", [Stairs(0.5), Called(), Twice()])
def test_a_users_initializer_initializes_a_functional_layer(initializer):
    npdl.utils.set_seed(5)
    weight = F.dense(3, weight_init=initializer.pure).init(0, (4,))["weight"]
    npdl.utils.set_seed(5)
    assert weight.dtype == np.float32
    assert np.array_equal(weight, initializer((4, 3)).astype(np.float32))


def test_a_subclass_without_methods_equals_its_base():
    assert Renamed().pure == F.zeros()


def test_a_users_initializer_survives_json():
    loaded = Initializer.from_json(json.loads(json.dumps(Stairs(step=0.5).to_json())))
    assert np.array_equal(loaded((3,)), [0, 0.5, 1])


class Wrong(Initializer):
    def call(self, size):
        return np.zeros(2)


ERRORS = {
    "a negative scale": (
        lambda: Uniform(-1.0),
        ValueError,
        r"scale must be .* at least 0, .* got -1.0",
    ),
    "bounds the wrong way": (lambda: Uniform((2.0, 1.0)), ValueError, r"got \(2.0, 1.0\)"),
    "three bounds": (lambda: Uniform((1.0, 2.0, 3.0)), ValueError, "a lower and an upper one"),
    "a negative deviation": (
        lambda: Normal(-0.1),
        ValueError,
        "std must be a number of at least 0",
    ),
    "an unknown gain": (lambda: Orthogonal("tanh"), ValueError, "a number or 'relu', got 'tanh'"),
    "an infinite gain": (lambda: Orthogonal(math.inf), ValueError, "got inf"),
    "an orthogonal vector": (lambda: Orthogonal()((3,)), ValueError, "two axes or more"),
    "another shape": (
        lambda: Wrong().pure(0, (4, 3)),
        ValueError,
        r"Wrong: expected an array of the shape \(4, 3\), got float32\[2\]",
    ),
    "the base": (lambda: Initializer()((3,)), NotImplementedError, "Initializer.call"),
    "configuration of the base": (
        lambda: Initializer().to_json(),
        NotImplementedError,
        "Initializer.to_json",
    ),
    "an unknown key": (
        lambda: Initializer.from_json({"class": "initializations.Normal", "sigma": 1}),
        ValueError,
        r"Normal.from_json: .*'sigma'; the arguments are: std, mean",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
