"""Values, limits, corners and errors of the activations and rectifiers."""

import math

import numpy as np
import pytest

import npdl.functional as F
from npdl import random

INF = math.inf
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def plain_sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def plain_softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def plain_phi(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def plain_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def plain_mish_slope(x):
    t = math.tanh(plain_softplus(x))
    return t + x * (1 - t * t) * plain_sigmoid(x)


SELU = (1.0507009873554805, 1.6732632423543772)

# The layer; the function and its derivative, in the plainest words; then the limits at -∞ and +∞
# of both.
PLAIN = {
    F.linear(): (lambda x: x, lambda x: 1, (-INF, INF), (1, 1)),
    F.sigmoid(): (
        plain_sigmoid,
        lambda x: plain_sigmoid(x) * plain_sigmoid(-x),
        (0, 1),
        (0, 0),
    ),
    F.tanh(): (math.tanh, lambda x: 1 / math.cosh(x) ** 2, (-1, 1), (0, 0)),
    F.softsign(): (
        lambda x: x / (1 + abs(x)),
        lambda x: 1 / (1 + abs(x)) ** 2,
        (-1, 1),
        (0, 0),
    ),
    F.symmetric_elliot(2.5): (
        lambda x: 2.5 * x / (1 + abs(2.5 * x)),
        lambda x: 2.5 / (1 + abs(2.5 * x)) ** 2,
        (-1, 1),
        (0, 0),
    ),
    F.elliot(): (
        lambda x: 0.5 * x / (1 + abs(x)) + 0.5,
        lambda x: 0.5 / (1 + abs(x)) ** 2,
        (0, 1),
        (0, 0),
    ),
    F.elliot(0.4): (
        lambda x: 0.5 * 0.4 * x / (1 + abs(0.4 * x)) + 0.5,
        lambda x: 0.5 * 0.4 / (1 + abs(0.4 * x)) ** 2,
        (0, 1),
        (0, 0),
    ),
    F.hard_sigmoid(): (
        lambda x: min(max(x / 6 + 0.5, 0), 1),
        lambda x: 1 / 6 if -3 < x < 3 else 0,
        (0, 1),
        (0, 0),
    ),
    F.hard_tanh(): (
        lambda x: min(max(x, -1), 1),
        lambda x: 1 if -1 < x < 1 else 0,
        (-1, 1),
        (0, 0),
    ),
    F.relu(): (lambda x: max(x, 0), lambda x: 1 if x > 0 else 0, (0, INF), (0, 1)),
    F.leaky_relu(): (
        lambda x: x if x > 0 else 0.01 * x,
        lambda x: 1 if x > 0 else 0.01,
        (-INF, INF),
        (0.01, 1),
    ),
    F.leaky_relu(0.3): (
        lambda x: x if x > 0 else 0.3 * x,
        lambda x: 1 if x > 0 else 0.3,
        (-INF, INF),
        (0.3, 1),
    ),
    F.elu(): (
        lambda x: x if x > 0 else math.expm1(x),
        lambda x: 1 if x > 0 else math.exp(x),
        (-1, INF),
        (0, 1),
    ),
    F.elu(1.7): (
        lambda x: x if x > 0 else 1.7 * math.expm1(x),
        lambda x: 1 if x > 0 else 1.7 * math.exp(x),
        (-1.7, INF),
        (0, 1),
    ),
    F.selu(): (
        lambda x: SELU[0] * (x if x > 0 else SELU[1] * math.expm1(x)),
        lambda x: SELU[0] * (1 if x > 0 else SELU[1] * math.exp(x)),
        (-SELU[0] * SELU[1], INF),
        (0, SELU[0]),
    ),
    F.softplus(): (plain_softplus, plain_sigmoid, (0, INF), (0, 1)),
    F.silu(): (
        lambda x: x * plain_sigmoid(x),
        lambda x: plain_sigmoid(x) * (1 + x * plain_sigmoid(-x)),
        (0, INF),
        (0, 1),
    ),
    F.hard_silu(): (
        lambda x: x * min(max(x / 6 + 0.5, 0), 1),
        lambda x: x / 3 + 0.5 if -3 < x < 3 else float(x > 0),
        (0, INF),
        (0, 1),
    ),
    F.gelu(): (
        lambda x: x * plain_cdf(x),
        lambda x: plain_cdf(x) + x * plain_phi(x),
        (0, INF),
        (0, 1),
    ),
    F.mish(): (
        lambda x: x * math.tanh(plain_softplus(x)),
        plain_mish_slope,
        (0, INF),
        (0, 1),
    ),
}
each_plain = pytest.mark.parametrize("layer", PLAIN, ids=repr)
each_elementwise = pytest.mark.parametrize("layer", [*PLAIN, F.gelu(approximate=True)], ids=repr)


def slopes(layer, x):
    """The derivative at each element of x."""
    return layer.backward((), layer.apply((), x)[1], np.ones_like(x))[1]


@each_plain
@DTYPES
@pytest.mark.parametrize("spread", [1e-3, 1.0, 15.0])
def test_values_and_derivatives_agree_with_the_plain_formula(layer, dtype, spread):
    function, derivative, _, _ = PLAIN[layer]
    x = (spread * random.generator(3).normal(size=(7, 401))).astype(dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    numbers = x.ravel().tolist()
    expected = np.array([function(number) for number in numbers]).reshape(x.shape)
    np.testing.assert_allclose(layer((), x), expected, rtol=tolerance, atol=tolerance)
    expected = np.array([derivative(number) for number in numbers]).reshape(x.shape)
    np.testing.assert_allclose(slopes(layer, x), expected, rtol=tolerance, atol=2 * tolerance)


@each_elementwise
def test_many_elements_and_one_give_the_same(layer):
    # 9009 elements are beyond the sizes where another way of calculating begins.
    x = random.generator(4).normal(size=(1001, 9)) * 3
    y, slope = layer((), x), slopes(layer, x)
    pick = [0, 227, 228, 910, 911, 1000]
    np.testing.assert_allclose(y[pick], layer((), x[pick]), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(slope[pick], slopes(layer, x[pick]), rtol=1e-13, atol=1e-14)


# Where a value or a derivative tends to zero, it keeps its digits.
SMALL = {
    "sigmoid": (F.sigmoid(), -np.linspace(5, 80, 50), plain_sigmoid),
    "softplus": (F.softplus(), -np.linspace(5, 80, 50), plain_softplus),
    "silu": (F.silu(), -np.linspace(5, 80, 50), lambda x: x * plain_sigmoid(x)),
    "elu": (F.elu(), -np.geomspace(1e-20, 1, 50), math.expm1),
    "gelu": (F.gelu(), -np.linspace(3, 8, 50), lambda x: x * plain_cdf(x)),
    "gelu near 0": (F.gelu(), np.geomspace(1e-20, 1, 50), lambda x: x * plain_cdf(x)),
    "mish": (F.mish(), -np.linspace(5, 80, 50), lambda x: x * math.tanh(plain_softplus(x))),
    "softsign": (F.softsign(), np.geomspace(1e-20, 1, 50), lambda x: x / (1 + x)),
}
SMALL_SLOPES = {
    "sigmoid": (F.sigmoid(), -np.linspace(5, 80, 50), lambda x: plain_sigmoid(x)),
    "softplus": (F.softplus(), -np.linspace(5, 80, 50), plain_sigmoid),
    "softsign": (F.softsign(), np.geomspace(1, 1e9, 50), lambda x: 1 / (1 + x) ** 2),
}


@pytest.mark.parametrize("name", SMALL)
@DTYPES
def test_small_values_keep_their_digits(name, dtype):
    layer, x, function = SMALL[name]
    x = x.astype(dtype)
    expected = [function(number) for number in x.tolist()]
    # Taylor's formula in gelu has an error that is relative to the density.
    tolerance = 5e-6 if dtype == np.float32 else 1e-8 if "gelu" in name else 1e-13
    np.testing.assert_allclose(layer((), x), expected, rtol=tolerance)


@pytest.mark.parametrize("name", SMALL_SLOPES)
@DTYPES
def test_small_derivatives_keep_their_digits(name, dtype):
    layer, x, function = SMALL_SLOPES[name]
    x = x.astype(dtype)
    expected = [function(number) for number in x.tolist()]
    if name == "sigmoid":
        expected = [value * (1 - value) for value in expected]
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(slopes(layer, x), expected, rtol=tolerance)


@each_plain
@DTYPES
@pytest.mark.parametrize("size", [1e3, 1e18, 1e37, INF])
def test_large_inputs_give_the_limits_without_a_warning(layer, dtype, size):
    _, _, limits, slope_limits = PLAIN[layer]
    check_limits(layer, dtype, size, limits, slope_limits)


@DTYPES
@pytest.mark.parametrize("size", [1e3, 1e18, 1e37, INF])
def test_approximate_gelu_has_the_limits_of_gelu(dtype, size):
    check_limits(F.gelu(approximate=True), dtype, size, (0, INF), (0, 1))


def check_limits(layer, dtype, size, limits, slope_limits):
    x = np.array([-size, size], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, slope = layer((), x), slopes(layer, x)
    np.testing.assert_allclose(slope, slope_limits, rtol=1e-6, atol=3e-3 / min(size, 1e30))
    for value, limit, side in zip(y.tolist(), limits, x.tolist(), strict=True):
        if math.isinf(limit) and not math.isinf(size):
            # It grows in proportion: the derivative has reached its limit.
            assert value == pytest.approx(side * slope_limits[int(side > 0)], rel=1e-6)
        else:
            assert value == pytest.approx(
                limit, rel=1e-6, abs=3 / min(size, 1e30) + 2 * float(np.finfo(dtype).eps)
            )


CORNERS = [
    (F.relu(), 0, 0),
    (F.leaky_relu(0.3), 0, 0.3),
    (F.elu(1.7), 0, 1.7),
    (F.selu(), 0, SELU[0] * SELU[1]),
    (F.hard_sigmoid(), -3, 0),
    (F.hard_sigmoid(), 3, 0),
    (F.hard_tanh(), -1, 0),
    (F.hard_tanh(), 1, 0),
    (F.hard_silu(), -3, 0),
    (F.hard_silu(), 3, 1),
]


@pytest.mark.parametrize(("layer", "corner", "slope"), CORNERS, ids=str)
@pytest.mark.parametrize("size", [1, 5000])
def test_the_derivative_at_a_corner_is_the_documented_one(layer, corner, slope, size):
    x = np.full(size, corner, np.float64)
    np.testing.assert_allclose(slopes(layer, x), slope, rtol=1e-15)


@each_elementwise
@DTYPES
@pytest.mark.parametrize("size", [3, 5000])
def test_nan_stays_nan_and_spoils_no_neighbour(layer, dtype, size):
    x = np.full(size, 0.5, dtype)
    x[1] = np.nan
    y = layer((), x)
    assert np.flatnonzero(np.isnan(y)).tolist() == [1]


def test_exact_and_approximate_gelu_differ_as_documented():
    x = np.linspace(-6, 6, 4001)
    difference = np.abs(F.gelu()((), x) - F.gelu(approximate=True)((), x)).max()
    assert 4e-4 < difference < 5e-4


@pytest.mark.parametrize("layer", [F.linear()], ids=repr)
def test_linear_hands_on_the_very_arrays(layer):
    x, g = np.ones(3, np.float32), np.ones(3, np.float32)
    y, cache = layer.apply((), x)
    assert y is x
    assert layer.backward((), cache, g) == (None, g)


def test_softmax_is_a_distribution_along_the_last_axis():
    x = random.generator(5).normal(size=(4, 3, 7)) * 10
    y = F.softmax()((), x)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(-1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(F.log_softmax()((), x), np.log(y), rtol=1e-10, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("shift", [-1e6, -1e4, 1e4, 1e6])
def test_softmax_of_large_numbers_depends_on_differences_alone(dtype, shift):
    x = np.array([[0, 1, 3], [2, -4, 0.5]], dtype)
    for layer in (F.softmax(), F.log_softmax()):
        np.testing.assert_allclose(layer((), x + dtype(shift)), layer((), x), rtol=1e-6)


@DTYPES
def test_softmax_of_extreme_differences_needs_no_warning(dtype):
    x = np.array([[1e30, 0, -1e30], [0, -np.inf, 0]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert F.softmax()((), x).tolist() == [[1, 0, 0], [0.5, 0, 0.5]]
        logs = F.log_softmax()((), x)
        dx = slopes(F.log_softmax(), x)
    np.testing.assert_allclose(logs[0], [0, -1e30, -2e30], rtol=1e-6)
    np.testing.assert_allclose(logs[1], [-math.log(2), -np.inf, -math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dx, [[-2, 1, 1], [-0.5, 1, -0.5]], rtol=1e-6)


def test_the_derivative_of_softmax_is_its_jacobian():
    generator = random.generator(6)
    x, g = generator.normal(size=(2, 5))
    y, cache = F.softmax().apply((), x[None])
    jacobian = np.diag(y[0]) - np.outer(y[0], y[0])
    np.testing.assert_allclose(
        F.softmax().backward((), cache, g[None])[1][0], jacobian @ g, rtol=1e-12
    )
    y, cache = F.log_softmax().apply((), x[None])
    jacobian = np.eye(5) - np.exp(y[0])
    np.testing.assert_allclose(
        F.log_softmax().backward((), cache, g[None])[1][0], jacobian.T @ g, rtol=1e-12
    )


@pytest.mark.parametrize("layer", [*PLAIN, F.softmax(), F.log_softmax()], ids=repr)
def test_inputs_other_than_float_arrays_are_errors(layer):
    with pytest.raises(TypeError, match=f"^{layer.call.name}: expected an array of floats"):
        layer((), np.arange(3))
    with pytest.raises(TypeError, match=f"^{layer.call.name}: expected a NumPy array, got list"):
        layer((), [1.0, 2.0])


BAD = [
    (lambda: F.leaky_relu(0), r"slope must be a number in \(0, 1\); slope 0 is relu.* got 0"),
    (lambda: F.leaky_relu(1.0), r"as in leaky_relu\(slope=0.01\), got 1.0"),
    (lambda: F.leaky_relu(-0.1), "got -0.1"),
    (lambda: F.leaky_relu(math.nan), "got nan"),
    (lambda: F.elu(0), r"elu: alpha must be a number above 0, as in elu\(alpha=1.0\), got 0"),
    (lambda: F.elu(-1.0), "got -1.0"),
    (lambda: F.elu(INF), "got inf"),
    (lambda: F.elliot(0.0), r"elliot: steepness must be a number above 0, .*, got 0.0"),
    (lambda: F.symmetric_elliot(math.nan), "symmetric_elliot: steepness .* got nan"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_refused_where_they_are_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
