import json
import math
import pickle

import numpy as np
import pytest

import npdl.functional as F
from npdl.functional import _initializers as I
from npdl.functional._initializers import fans

ALL = {
    "zeros": I.zeros(),
    "ones": I.ones(),
    "constant": I.constant(0.3),
    "uniform": I.uniform(0.2),
    "normal": I.normal(0.2, mean=0.5),
    "truncated_normal": I.truncated_normal(0.2, mean=0.5),
    "lecun_uniform": I.lecun_uniform(),
    "lecun_normal": I.lecun_normal(),
    "glorot_uniform": I.glorot_uniform(),
    "glorot_normal": I.glorot_normal(),
    "he_uniform": I.he_uniform(),
    "he_normal": I.he_normal(),
    "orthogonal": I.orthogonal(1.5),
}
each = pytest.mark.parametrize("initializer", ALL.values(), ids=ALL)
drawing = pytest.mark.parametrize(
    "name", [name for name in ALL if name not in ("zeros", "ones", "constant")]
)

SHAPE = (40, 500)  # of a matrix: fan_in 40, fan_out 500
KERNEL = (60, 20, 5, 3)  # fan_in 300, fan_out 900


def test_the_table_has_every_initializer():
    assert set(ALL) == set(I.__all__)
    assert set(I.__all__) <= set(F.__all__)


# Fans

FANS = [
    ((), (1, 1)),
    ((7,), (7, 7)),
    ((7, 4), (7, 4)),
    ((7, 4, 3), (12, 21)),
    ((7, 4, 3, 2), (24, 42)),
    ((7, 4, 3, 2, 5), (120, 210)),
    ((0, 4), (1, 4)),
    ((7, 0, 3), (1, 21)),
    ((0,), (1, 1)),
]


@pytest.mark.parametrize(("shape", "expected"), FANS)
def test_fans_follow_the_axes_of_matrices_and_kernels(shape, expected):
    assert fans(shape) == expected


# Checks of all initializers


@each
@pytest.mark.parametrize(
    "shape", [(4, 3), (4, 3, 2), (6, 5, 4, 3), (2, 3, 4, 5, 6), (1, 1), (0, 3), (3, 0)]
)
def test_arrays_are_float32_of_that_shape_contiguous_and_new(initializer, shape):
    array = initializer(0, shape)
    assert type(array) is np.ndarray
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert np.isfinite(array).all()
    assert not np.shares_memory(array, initializer(0, shape))


@each
@pytest.mark.parametrize("shape", [(), (5,)])
def test_vectors_and_numbers_are_made_too_where_that_has_a_sense(initializer, shape):
    if initializer == ALL["orthogonal"]:
        with pytest.raises(ValueError, match="needs a shape of two axes or more"):
            initializer(0, shape)
    else:
        array = initializer(0, shape)
        assert type(array) is np.ndarray
        assert array.shape == shape
        assert array.dtype == np.float32


@each
def test_the_same_key_gives_the_same_bits(initializer):
    assert np.array_equal(initializer((1, 2), SHAPE), initializer((1, 2), SHAPE))
    assert np.array_equal(initializer(3, SHAPE), initializer((3,), SHAPE))


@drawing
def test_another_key_gives_other_numbers(name):
    first, second = ALL[name](1, SHAPE), ALL[name](2, SHAPE)
    assert np.mean(first == second) < 0.01


@drawing
def test_the_numbers_are_not_repeated(name):
    array = ALL[name](1, SHAPE)
    assert len(np.unique(array)) > 0.95 * array.size


@each
def test_repr_config_and_pickle_give_an_equal_initializer(initializer):
    copies = [
        eval(repr(initializer), vars(I)),
        F.from_config(json.loads(json.dumps(initializer.config()))),
        pickle.loads(pickle.dumps(initializer)),
    ]
    for copy in copies:
        assert copy == initializer
        assert np.array_equal(copy(5, SHAPE), initializer(5, SHAPE))


def test_constants():
    assert (I.zeros()(0, SHAPE) == 0).all()
    assert (I.ones()(0, SHAPE) == 1).all()
    assert (I.constant(-0.3)(0, SHAPE) == np.float32(-0.3)).all()


# Distributions. The draws are 20000 for a matrix and 18000 for a kernel.

UNIFORM = [
    (I.uniform(0.2), SHAPE, 0.2),
    (I.uniform(), SHAPE, 0.05),
    (I.uniform(0.2), KERNEL, 0.2),
    (I.lecun_uniform(), SHAPE, math.sqrt(3 / 40)),
    (I.lecun_uniform(), KERNEL, math.sqrt(3 / 300)),
    (I.glorot_uniform(), SHAPE, math.sqrt(6 / 540)),
    (I.glorot_uniform(), KERNEL, math.sqrt(6 / 1200)),
    (I.he_uniform(), SHAPE, math.sqrt(6 / 40)),
    (I.he_uniform(), KERNEL, math.sqrt(6 / 300)),
]
NORMAL = [
    (I.normal(0.2), SHAPE, 0.2, 0.0),
    (I.normal(0.2, mean=-3.0), SHAPE, 0.2, -3.0),
    (I.normal(), SHAPE, 0.01, 0.0),
    (I.glorot_normal(), SHAPE, math.sqrt(2 / 540), 0.0),
    (I.glorot_normal(), KERNEL, math.sqrt(2 / 1200), 0.0),
    (I.he_normal(), SHAPE, math.sqrt(2 / 40), 0.0),
    (I.he_normal(), KERNEL, math.sqrt(2 / 300), 0.0),
]
# Of a normal distribution cut at two standard deviations, the standard deviation is this part.
_DENSITY, _INSIDE = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
CUT = math.sqrt(1 - 4 * _DENSITY / _INSIDE)
TRUNCATED = [
    # the standard deviation before the cut
    (I.truncated_normal(0.2), SHAPE, 0.2, 0.0),
    (I.truncated_normal(0.2, mean=-3.0), SHAPE, 0.2, -3.0),
    (I.truncated_normal(), SHAPE, 0.01, 0.0),
    (I.lecun_normal(), SHAPE, math.sqrt(1 / 40) / CUT, 0.0),
    (I.lecun_normal(), KERNEL, math.sqrt(1 / 300) / CUT, 0.0),
]


def check_moments(array, mean, std, kurtosis):
    """Mean and standard deviation are within four standard errors of their expectations."""
    count = array.size
    array = array.astype(np.float64)
    assert abs(array.mean() - mean) < 4 * std / math.sqrt(count)
    assert abs(array.std() - std) < 4 * std * math.sqrt((kurtosis - 1) / (4 * count))
    # Along each axis too: no row or column differs from the rest.
    for axis in range(array.ndim):
        rest = tuple(i for i in range(array.ndim) if i != axis)
        means = array.mean(axis=rest)
        assert np.abs(means - mean).max() < 5 * std / math.sqrt(count / array.shape[axis])


@pytest.mark.parametrize(("initializer", "shape", "bound"), UNIFORM, ids=repr)
@pytest.mark.parametrize("seed", [0, 1])
def test_uniform_numbers_fill_their_range(initializer, shape, bound, seed):
    array = initializer(seed, shape)
    assert np.abs(array).max() <= np.float32(bound)
    assert array.max() > 0.999 * bound
    assert array.min() < -0.999 * bound
    check_moments(array, 0, bound / math.sqrt(3), 9 / 5)
    counts, _ = np.histogram(array, bins=20, range=(-bound, bound))
    expected = array.size / 20
    assert (((counts - expected) ** 2) / expected).sum() < 50  # chi squared of 19, p = 0.0001


@pytest.mark.parametrize("seed", [0, 1])
def test_uniform_numbers_lie_between_two_bounds(seed):
    initializer = I.uniform((1.0, 1.5))
    array = initializer(seed, SHAPE)
    assert array.dtype == np.float32
    assert 1.0 <= array.min() < 1.0005
    assert 1.4995 < array.max() <= 1.5
    check_moments(array, 1.25, 0.25 / math.sqrt(3), 9 / 5)
    assert F.from_config(json.loads(json.dumps(initializer.config()))) == initializer
    assert np.array_equal(I.uniform([-0.2, 0.2])(seed, SHAPE), I.uniform(0.2)(seed, SHAPE))


@pytest.mark.parametrize(("initializer", "shape", "std", "mean"), NORMAL, ids=repr)
@pytest.mark.parametrize("seed", [0, 1])
def test_normal_numbers_have_their_mean_and_deviation(initializer, shape, std, mean, seed):
    array = initializer(seed, shape)
    check_moments(array, mean, std, 3)
    standard = (array - mean) / std
    for bound in (1, 2, 3):
        inside = math.erf(bound / math.sqrt(2))
        error = math.sqrt(inside * (1 - inside) / array.size)
        assert abs(np.mean(np.abs(standard) < bound) - inside) < 4 * error


@pytest.mark.parametrize(("initializer", "shape", "std", "mean"), TRUNCATED, ids=repr)
@pytest.mark.parametrize("seed", [0, 1])
def test_truncated_numbers_end_at_two_deviations(initializer, shape, std, mean, seed):
    array = initializer(seed, shape)
    standard = (array.astype(np.float64) - mean) / std
    assert np.abs(standard).max() <= 2 + 1e-5
    assert np.abs(standard).max() > 1.99
    check_moments(array, mean, CUT * std, 2.06)
    inside = math.erf(1 / math.sqrt(2)) / _INSIDE
    error = math.sqrt(inside * (1 - inside) / array.size)
    assert abs(np.mean(np.abs(standard) < 1) - inside) < 4 * error
    # The values drawn again are not all on one side, nor at the bound.
    assert np.mean(np.abs(standard) > 1.9) < 0.02


def test_a_deviation_of_zero_is_the_mean():
    assert (I.normal(0, mean=2)(0, SHAPE) == 2).all()
    assert (I.truncated_normal(0, mean=2)(0, SHAPE) == 2).all()
    assert (I.uniform(0)(0, SHAPE) == 0).all()


# Orthogonality


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2), 0.5])
@pytest.mark.parametrize(
    "shape", [(5, 5), (9, 4), (4, 9), (6, 3, 2, 2), (16, 3, 2, 2), (1, 7), (7, 1)]
)
def test_the_shorter_side_is_orthogonal_with_norm_gain(shape, gain):
    array = I.orthogonal(gain)(3, shape).astype(np.float64)
    matrix = array.reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert np.allclose(product, gain**2 * np.eye(min(matrix.shape)), atol=1e-6)


def test_orthogonal_matrices_are_uniform_over_the_group():
    """Without the signs of R's diagonal, the first entries would lean to one side."""
    matrices = np.array([I.orthogonal()(i, (3, 3)) for i in range(600)])
    # Each entry has mean 0 and variance 1/3, and half of the determinants are -1.
    assert np.abs(matrices.mean(axis=0)).max() < 4 * math.sqrt(1 / 3 / 600)
    assert np.abs((matrices**2).mean(axis=0) - 1 / 3).max() < 4 * math.sqrt(4 / 45 / 600)
    assert abs(np.mean(np.linalg.det(matrices) > 0) - 0.5) < 4 * 0.5 / math.sqrt(600)


# Errors

BAD = {
    "negative scale": (
        lambda: I.uniform(-0.1),
        "scale must be a number of at least 0, .* got -0.1",
    ),
    "bounds the wrong way": (lambda: I.uniform((1.0, 0.5)), r"got \(1.0, 0.5\)"),
    "three bounds": (
        lambda: I.uniform((0.0, 0.5, 1.0)),
        r"as in uniform\(scale=\(0.0, 1.0\)\), got",
    ),
    "negative std": (lambda: I.normal(-1), "std must be a number of at least 0, .* got -1"),
    "negative truncated": (
        lambda: I.truncated_normal(-1),
        "std must be a number of at least 0, .* got -1",
    ),
    "NaN": (lambda: I.normal(math.nan), "std must be a number of at least 0, .* got nan"),
    "NaN scale": (lambda: I.uniform(math.nan), "scale must be a number of at least 0, .* got nan"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_a_wrong_argument_is_refused_at_construction(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@drawing
def test_values_other_than_keys_are_refused(name):
    with pytest.raises(TypeError, match="expected a key"):
        ALL[name]("seed", SHAPE)


def test_activations_keep_their_scale_through_he_and_glorot():
    """The purpose of the fans: outputs have the variance of the inputs."""
    x = np.random.default_rng(0).normal(size=(400, 300)).astype(np.float32)
    deep, deeper = x, x
    for i in range(10):
        deep = np.maximum(deep @ I.he_normal()(i, (300, 300)), 0)
        deeper = deeper @ I.glorot_normal()(i, (300, 300))
    assert 0.3 < np.mean(deep**2) < 3
    assert 0.3 < np.var(deeper) < 3
