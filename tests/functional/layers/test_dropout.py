"""Statistics, sharing and errors of dropout and of Gaussian noise."""

import math

import numpy as np
import pytest

import npdl.functional as F
from npdl import random

# The rate, and how many of 65536 it drops: rounded, but not to none or to all.
ROUNDED = [
    (1e-9, 1),
    (1 / 65536, 1),
    (0.1, 6554),
    (0.25, 16384),
    (0.5, 32768),
    (0.9, 58982),
    (65535 / 65536, 65535),
    (1 - 1e-9, 65535),
]


def kept(rate, shape, key=0, **options):
    """Where dropout keeps the elements."""
    x = np.ones(shape, np.float32)
    return F.dropout(rate, **options)((), x, train=True, rng=key) != 0


def within(count, size, probability, errors=5):
    """Whether a count of successes is within so many standard errors of its mean."""
    spread = math.sqrt(size * probability * (1 - probability))
    return abs(count - size * probability) <= errors * spread


@pytest.mark.parametrize(("rate", "dropped"), ROUNDED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kept_are_scaled_so_that_the_expectation_is_exact(rate, dropped, dtype):
    x = random.generator(1).normal(size=(64, 8192)).astype(dtype)
    y = F.dropout(rate)((), x, train=True, rng=2)
    assert y.dtype == dtype
    here = y != 0
    probability = (65536 - dropped) / 65536
    assert 0 < np.count_nonzero(here) < x.size
    assert within(np.count_nonzero(here), x.size, probability)
    np.testing.assert_allclose(y[here], x[here] / probability, rtol=1e-6)


def test_the_mean_over_many_keys_is_the_input():
    x, layer = np.linspace(-2, 3, 12), F.dropout(0.3)
    keys = 4000
    total = sum(layer((), x, train=True, rng=(8, i)) for i in range(keys))
    rate = 19661 / 65536
    error = np.abs(x) * math.sqrt(rate / (1 - rate) / keys)
    assert (np.abs(total / keys - x) <= 5 * error + 1e-12).all()


def test_masks_of_different_keys_are_independent():
    size = 400_000
    first, second, third = (kept(0.3, size, key) for key in ((0, 1), (0, 2), (1, 1)))
    p = 1 - 19661 / 65536
    for a, b in ((first, second), (first, third), (second, third)):
        assert within(np.count_nonzero(a & b), size, p * p)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 1000])
def test_elements_of_one_mask_are_independent(lag):
    mask = kept(0.3, 400_000)
    p = 1 - 19661 / 65536
    both = np.count_nonzero(mask[lag:] & mask[:-lag])
    # Pairs overlap, so that their counts vary more than the counts of independent pairs.
    assert within(both, len(mask) - lag, p * p, errors=10)


def test_each_element_is_dropped_alike_at_any_position():
    x, layer = np.ones((3, 7), np.float32), F.dropout(0.4)
    counts = sum((layer((), x, train=True, rng=(5, i)) != 0).astype(int) for i in range(2000))
    p = 1 - 26214 / 65536
    assert all(within(count, 2000, p) for count in counts.ravel().tolist())


SHARED = [
    ((2, 3), (40, 50, 6, 7)),
    ((-1, -2), (40, 50, 6, 7)),
    ((1,), (40, 9, 50)),
    ((0,), (9, 2000)),
    ((0, 2), (9, 2000, 5)),
]


@pytest.mark.parametrize(("axes", "shape"), SHARED)
def test_shared_axes_are_dropped_together_and_the_others_apart(axes, shape):
    mask = kept(0.4, shape, shared=axes)
    lines = mask.all(axis=axes)
    assert (lines == mask.any(axis=axes)).all()
    assert within(np.count_nonzero(lines), lines.size, 1 - 26214 / 65536)
    for axis in range(lines.ndim):
        assert (np.diff(lines.astype(int), axis=axis) != 0).any()


def test_shared_axes_count_from_the_end_too():
    shape = (6, 5, 4, 3)
    expected = kept(0.5, shape, shared=(2, 3))
    assert (kept(0.5, shape, shared=(-1, -2)) == expected).all()
    assert (kept(0.5, shape, shared=[2, 3]) == expected).all()


@pytest.mark.parametrize("options", [{}, {"shared": (1,)}])
def test_the_gradient_passes_where_the_input_did(options):
    layer = F.dropout(0.3, **options)
    x, g = random.generator(1).normal(size=(2, 30, 8, 5))
    y, cache = layer.apply((), x, train=True, rng=3)
    _, dx = layer.backward((), cache, g)
    np.testing.assert_allclose(dx, g * (y / x), rtol=1e-12)
    assert layer.backward((), cache, g, input_grad=False) == (None, None)


def test_the_mask_follows_from_key_and_shape_alone():
    x = random.generator(1).normal(size=(9, 7))
    expected = F.dropout(0.5)((), x, train=True, rng=4) != 0
    for other in (np.asfortranarray(x), x.astype(np.float32), np.repeat(x, 2, 1)[:, ::2], 3 * x):
        assert ((F.dropout(0.5)((), other, train=True, rng=4) != 0) == expected).all()


@pytest.mark.parametrize("layer", [F.dropout(0.5), F.gaussian_noise(0.5)], ids=repr)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5])
def test_any_number_of_elements_will_do(layer, size):
    y = layer((), np.ones((size, 3), np.float32), train=True, rng=0)
    assert y.shape == (size, 3)


@pytest.mark.parametrize("layer", [F.dropout(0.5), F.gaussian_noise(0.5)], ids=repr)
def test_inference_hands_on_the_very_arrays(layer):
    x, g = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    y, cache = layer.apply((), x)
    assert y is x
    assert layer.backward((), cache, g)[1] is g


@pytest.mark.parametrize("layer", [F.dropout(0), F.gaussian_noise(0)], ids=repr)
def test_a_layer_without_effect_needs_no_key(layer):
    x = np.ones((2, 3), np.float32)
    assert layer((), x, train=True) is x
    assert layer((), x, train=True, rng=0) is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_normal_with_the_passed_std_and_differs_by_key(dtype):
    x = np.linspace(-1, 1, 200_000).astype(dtype)
    layer = F.gaussian_noise(0.2)
    first, second = (layer((), x, train=True, rng=key) - x for key in (1, 2))
    assert first.dtype == dtype
    for noise in (first, second):
        count = len(noise)
        assert abs(noise.mean()) < 5 * 0.2 / math.sqrt(count)
        assert abs(noise.std() - 0.2) < 5 * 0.2 / math.sqrt(2 * count)
        assert within(np.count_nonzero(np.abs(noise) < 0.2), count, 0.6826895)
    assert abs((first * second).mean()) < 5 * 0.04 / math.sqrt(len(x))
    g = np.ones_like(x)
    assert layer.backward((), layer.apply((), x, train=True, rng=1)[1], g)[1] is g


X = np.ones((2, 3), np.float32)
BAD = [
    (lambda: F.dropout(1), ValueError, r"in \[0, 1\), as in dropout\(rate=0.1\), got 1$"),
    (lambda: F.dropout(1.5), ValueError, "got 1.5"),
    (lambda: F.dropout(-0.1), ValueError, "got -0.1"),
    (lambda: F.dropout(math.nan), ValueError, "got nan"),
    (lambda: F.dropout(0.1, shared=2), ValueError, r"shared must be a tuple of axes.* got 2"),
    (lambda: F.dropout(0.1, shared=(1.0,)), ValueError, r"shared=\(2, 3\)\), got \(1.0,\)"),
    (lambda: F.dropout(0.1, shared=(True,)), ValueError, r"got \(True,\)"),
    (lambda: F.gaussian_noise(-1.0), ValueError, r"gaussian_noise\(std=0.1\), got -1.0"),
    (lambda: F.gaussian_noise(math.inf), ValueError, "got inf"),
    (
        lambda: F.dropout(0.1)((), X, train=True),
        ValueError,
        "dropout needs a key in training: pass rng=",
    ),
    (
        lambda: F.gaussian_noise(0.1)((), X, train=True),
        ValueError,
        "gaussian_noise needs a key in training: pass rng=",
    ),
    (lambda: F.dropout(0.1)((), X, rng=0), ValueError, "train=False"),
    (lambda: F.gaussian_noise(0.1)((), X, rng=0), ValueError, "train=False"),
    (lambda: F.dropout(0.1)((), X, train=1), TypeError, "train must be True or False, got 1"),
    (lambda: F.dropout(0.1)((), np.arange(3)), TypeError, "dropout: expected an array of floats"),
    (lambda: F.gaussian_noise(0.1)((), [1.0]), TypeError, "gaussian_noise: expected a NumPy array"),
    (
        lambda: F.dropout(0.1, shared=(2,))((), X, train=True, rng=0),
        ValueError,
        r"shared=\(2,\) needs axis 2, got float32\[2, 3\]",
    ),
    (
        lambda: F.dropout(0.1, shared=(1, -3))((), X, train=True, rng=0),
        ValueError,
        "needs axis -3",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_calls_are_errors_with_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_missing_key_names_the_place_in_the_model():
    model = F.serial(F.dense(3), F.dropout(0.1))
    with pytest.raises(ValueError, match="needs a key") as caught:
        model.apply(model.init(0, (3,)), X, train=True)
    assert any("serial[1] = dropout(rate=0.1)" in note for note in caught.value.__notes__)
