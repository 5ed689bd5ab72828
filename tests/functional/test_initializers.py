"""Initializers: the range, the moments, the fans, the key."""

import math

import numpy as np
import pytest

import npdl.functional as F

SHAPES = {
    # shape: (fan_in, fan_out)
    (200, 300): (200, 300),
    (30, 20, 9): (20 * 9, 30 * 9),
    (20, 30, 5, 7): (30 * 35, 20 * 35),
    (6, 8, 3, 5, 7): (8 * 105, 6 * 105),
}
each_shape = pytest.mark.parametrize(("shape", "fans"), SHAPES.items(), ids=str)

BOUNDS = {
    "lecun": (F.lecun_uniform(), lambda fan_in, fan_out: math.sqrt(3 / fan_in)),
    "glorot": (F.glorot_uniform(), lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))),
    "he": (F.he_uniform(), lambda fan_in, fan_out: math.sqrt(6 / fan_in)),
    "uniform": (F.uniform(0.3), lambda fan_in, fan_out: 0.3),
}
DEVIATIONS = {
    "lecun": (F.lecun_normal(), lambda fan_in, fan_out: math.sqrt(1 / fan_in)),
    "glorot": (F.glorot_normal(), lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),
    "he": (F.he_normal(), lambda fan_in, fan_out: math.sqrt(2 / fan_in)),
    "normal": (F.normal(0.3), lambda fan_in, fan_out: 0.3),
}
ALL = [initializer for initializer, _ in [*BOUNDS.values(), *DEVIATIONS.values()]]
ALL += [F.zeros(), F.ones(), F.constant(0.5), F.truncated_normal(0.3), F.orthogonal(2.0)]


def is_mean(values, expected, std):
    """Whether a sample's mean lies within five standard errors."""
    return abs(np.mean(values, dtype=np.float64) - expected) < 5 * std / math.sqrt(values.size)


@each_shape
@pytest.mark.parametrize(("initializer", "bound"), BOUNDS.values(), ids=BOUNDS)
def test_uniform_values_fill_their_range(initializer, bound, shape, fans):
    values, limit = initializer(1, shape), bound(*fans)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert values.max() > 0.99 * limit
    assert values.min() < -0.99 * limit
    assert is_mean(values, 0, limit / math.sqrt(3))
    # The variance of the square of a uniform variable is 4/45 of its limit's fourth power.
    assert is_mean(values**2, limit**2 / 3, limit**2 * math.sqrt(4 / 45))


@each_shape
@pytest.mark.parametrize(("initializer", "deviation"), DEVIATIONS.values(), ids=DEVIATIONS)
def test_normal_values_have_their_deviation(initializer, deviation, shape, fans):
    values, std = initializer(1, shape), deviation(*fans)
    assert is_mean(values, 0, std)
    assert is_mean(values**2, std**2, std**2 * math.sqrt(2))


def test_a_truncated_normal_ends_at_two_deviations():
    values = F.truncated_normal(0.5, mean=3.0)(1, (100_000,))
    assert np.abs(values - 3).max() <= 1 + 1e-6
    assert np.abs(values - 3).max() > 0.99
    assert is_mean(values, 3, 0.5)
    assert np.std(values) == pytest.approx(0.5 * 0.8796, rel=0.01)


def test_a_normal_has_its_mean():
    assert is_mean(F.normal(0.1, mean=-2.0)(1, (10_000,)), -2, 0.1)


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5), (4, 3, 2, 5), (30, 2, 3, 3)], ids=str)
def test_orthogonal_rows_or_columns_have_the_length_of_the_gain(shape):
    matrix = F.orthogonal(1.5)(1, shape).reshape(shape[0], -1).astype(np.float64)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 1.5**2 * np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize("initializer", ALL, ids=repr)
def test_the_key_decides_and_the_type_is_float32(initializer):
    first, same, other = (initializer(key, (6, 5)) for key in (3, (3,), 4))
    assert first.dtype == np.float32
    assert first.flags.writeable
    np.testing.assert_array_equal(first, same)
    is_fixed = initializer in (F.zeros(), F.ones(), F.constant(0.5))
    assert np.array_equal(first, other) == is_fixed


BAD = {
    "scale": (lambda: F.uniform(-1.0), "scale must not be negative, got -1.0"),
    "std": (lambda: F.normal(-0.1), "std must not be negative, got -0.1"),
    "nan": (lambda: F.truncated_normal(math.nan), "std must not be negative, got nan"),
    "a vector": (lambda: F.orthogonal()(0, (3,)), r"two axes or more, got \(3,\)"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
