"""Pooling: which maximum is the first, NaN, layout, means at the border, and wrong arguments."""

import itertools
import math

import numpy as np
import pytest
from arrays import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import held, peak
from strategies import POOLING, layers_with_windows

import npdl.functional as F
from npdl import random
from npdl.gradcheck import check_gradients


def batch_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


def backward(layer, x, g):
    return layer.backward((), layer.apply((), x)[1], g)[1]


@settings(max_examples=100)
@given(layers_with_windows(POOLING))
def test_gradients_and_shapes_hold_for_any_arguments(drawn):
    layer, shape = drawn
    batch = next(n for n in (2, 3, 4, 5, 6) if n not in shape)
    check_gradients(layer, shape, batch=batch, directions=1)
    assert layer((), normal(batch, *shape)).shape == (batch, *layer.out_shape(shape))


# Maxima, against a search through each window


def first_maxima(x, size, stride, pads):
    """Return the maximum of each window, and its place, row by row within the image."""
    (top, bottom), (left, right) = pads
    height, width = x.shape
    rows = range(-top, height + bottom - size[0] + 1, stride[0])
    columns = range(-left, width + right - size[1] + 1, stride[1])
    found = []
    for row, column in itertools.product(rows, columns):
        inside = [
            (i, j)
            for i in range(max(row, 0), min(row + size[0], height))
            for j in range(max(column, 0), min(column + size[1], width))
        ]
        # Python's max returns the first one.
        best = next((p for p in inside if np.isnan(x[p])), None) or max(inside, key=x.__getitem__)
        found.append((x[best], best))
    return found


@st.composite
def windows_and_images(draw):
    """The arguments of a pooling, and an image with many equal numbers."""
    size, stride, image = (draw(st.tuples(st.integers(1, n), st.integers(1, n))) for n in (4, 5, 7))
    pads = tuple(
        # At least as many before as make the window fit.
        (draw(st.integers(max(n - length, 0), n - 1)), draw(st.integers(0, n - 1)))
        for n, length in zip(size, image, strict=True)
    )
    values = st.sampled_from([-1.0, 0.0, 1.0, 2.0, -math.inf, math.nan])
    x = [[draw(values) for _ in range(image[1])] for _ in range(image[0])]
    return size, stride, pads, np.array(x)


@settings(max_examples=200)
@given(windows_and_images(), st.booleans())
def test_the_gradient_goes_to_the_first_maximum_or_nan_by_rows(drawn, last):
    size, stride, pads, image = drawn
    layer = F.max_pool2d(size, stride=stride, padding=pads)
    x = np.stack([image, image[::-1]])[:, None]
    y, cache = layer.apply((), batch_last(x) if last else x)
    g = random.generator(1).normal(size=y.shape)
    dx = layer.backward((), cache, g)[1]
    expected = np.zeros_like(x)
    for i in range(2):
        found = first_maxima(x[i, 0], size, stride, pads)
        np.testing.assert_array_equal(y[i, 0].ravel(), [value for value, _ in found])
        for share, (_, place) in zip(g[i, 0].ravel(), found, strict=True):
            expected[i, 0][place] += share
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)


def test_padding_is_never_the_maximum():
    layer = F.max_pool2d(3, stride=1, padding=1)
    for lowest in (-5.0, -math.inf):
        x = np.full((1, 2, 3, 4), lowest)
        y, cache = layer.apply((), x)
        np.testing.assert_array_equal(y, x)
        assert layer.backward((), cache, np.ones_like(y))[1].sum() == y.size


def test_a_nan_spoils_its_own_windows_only():
    x = normal(2, 3, 6, 8)
    x[1, 2, 3, 5] = np.nan
    for layer in (F.max_pool2d(2), F.avg_pool2d(2)):
        spoilt = np.isnan(layer((), x))
        assert spoilt[1, 2, 1, 2]
        assert spoilt.sum() == 1
    for layer in (F.global_max_pool(), F.global_avg_pool()):
        spoilt = np.isnan(layer((), x))
        assert spoilt[1, 2]
        assert spoilt.sum() == 1


@pytest.mark.parametrize("lay", [np.ascontiguousarray, batch_last])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_global_maximum_is_the_first_one_or_the_first_nan(lay, axes):
    shape = (4, 3, *(5, 2, 7)[:axes])
    x = lay(random.generator(0).integers(0, 3, shape).astype(np.float64))
    x[(1, 2, *(0,) * (axes - 1), 3 % x.shape[-1])] = np.nan
    x[(1, 2, *(-1,) * axes)] = np.nan
    y, cache = F.global_max_pool().apply((), x)
    g = normal(4, 3, seed=1).astype(np.float64)
    dx = F.global_max_pool().backward((), cache, g)[1]
    assert dx.strides == x.strides
    for i, j in itertools.product(range(4), range(3)):
        flat = list(x[i, j].ravel())
        nans = [k for k, value in enumerate(flat) if math.isnan(value)]
        first = nans[0] if nans else flat.index(max(flat))
        assert y[i, j] == flat[first] or nans
        assert np.isnan(y[i, j]) == bool(nans)
        expected = np.zeros(len(flat))
        expected[first] = g[i, j]
        np.testing.assert_array_equal(dx[i, j].ravel(), expected)


# Means


def test_border_means_ignore_padding_unless_it_is_counted():
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)  # 1 2 3 / 4 5 6
    options = {"stride": 2, "padding": 1}
    without, counted = (F.avg_pool2d(3, **options, count_padding=count) for count in (False, True))
    np.testing.assert_allclose(without((), x)[0, 0], [[3.0, 4.0]])
    np.testing.assert_allclose(counted((), x)[0, 0], [[12 / 9, 16 / 9]])
    g = np.array([[[[12.0, 36.0]]]])
    np.testing.assert_allclose(backward(without, x, g)[0, 0], [[3, 12, 9], [3, 12, 9]])
    np.testing.assert_allclose(9 * backward(counted, x, g)[0, 0], [[12, 48, 36], [12, 48, 36]])


@pytest.mark.parametrize("padding", ["same", 1, ((0, 2), (1, 0))])
def test_ones_stay_ones_at_the_border(padding):
    y = F.avg_pool2d((3, 4), stride=(1, 2), padding=padding)((), np.ones((2, 3, 5, 7)))
    np.testing.assert_allclose(y, 1, rtol=1e-15)


@pytest.mark.parametrize("lay", [np.ascontiguousarray, batch_last])
def test_the_mean_of_many_numbers_keeps_its_digits(lay):
    x = 1000 + normal(2, 3, 400, 500)
    y = F.global_avg_pool()((), lay(x))
    np.testing.assert_allclose(y, x.mean((2, 3), dtype=np.float64), rtol=1e-6)


# Order in memory

LAYERS = [
    (F.max_pool2d(2), (32, 64, 32)),
    (F.max_pool2d(3, stride=1, padding=1), (32, 64, 32)),
    (F.max_pool2d((2, 3), stride=(2, 4)), (8, 5, 11)),
    (F.avg_pool2d(2), (32, 64, 32)),
    (F.avg_pool2d(3, stride=1, padding=1), (32, 64, 32)),
    (F.max_pool1d(2), (32, 2048)),
    (F.avg_pool1d(3, stride=1), (32, 2048)),
    (F.global_max_pool(), (32, 64, 32)),
    (F.global_avg_pool(), (32, 64, 32)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=repr)
def test_images_keep_their_order_in_memory_and_their_numbers(layer, shape):
    """Several blocks of the batch or of the channels, and gradients in either order."""
    x = normal(9, *shape)
    y, cache = layer.apply((), x)
    g = normal(*y.shape, seed=1)
    dx = layer.backward((), cache, g)[1]
    assert y.flags.c_contiguous
    assert dx.strides == x.strides
    last = batch_last(x)
    last_y, last_cache = layer.apply((), last)
    assert last_y.strides == batch_last(y).strides
    np.testing.assert_allclose(last_y, y, rtol=1e-6, atol=1e-6)
    for gradient in (g, batch_last(g)):
        last_dx = layer.backward((), last_cache, gradient)[1]
        assert last_dx.strides == last.strides
        np.testing.assert_allclose(last_dx, dx, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(layer.backward((), cache, gradient)[1], dx)


def test_adjacent_windows_equal_a_reshaped_image():
    x = normal(9, 32, 64, 48)
    windows = x.reshape(9, 32, 32, 2, 16, 3)
    np.testing.assert_array_equal(F.max_pool2d((2, 3))((), x), windows.max((3, 5)))
    np.testing.assert_allclose(F.avg_pool2d((2, 3))((), x), windows.mean((3, 5)), atol=1e-6)


# Memory

EVERY = [*LAYERS, (F.max_pool2d(5, stride=1, padding=2), (32, 64, 32))]


@pytest.mark.parametrize(("layer", "shape"), EVERY, ids=repr)
@pytest.mark.parametrize("lay", [np.ascontiguousarray, batch_last])
def test_caches_and_temporary_arrays_are_small(layer, shape, lay):
    x = lay(normal(64, *shape))
    forward, (y, cache) = peak(lambda: layer.apply((), x))
    assert held(cache) <= (x.nbytes + y.nbytes if "max" in layer.call.name else 0)
    back, (_, dx) = peak(lambda: layer.backward((), cache, y))
    # In addition to the results there are the arrays of one block, of 1/2 MiB.
    blocks = 2 << 20
    assert forward <= y.nbytes + blocks
    assert back <= dx.nbytes + blocks


# Wrong arguments, shapes and inputs

ARGUMENTS = [
    (lambda: F.max_pool2d(0), "max_pool2d: size must be a positive int, or a pair .* got 0"),
    (lambda: F.max_pool2d((2, 0)), r"max_pool2d: size .* got \(2, 0\)"),
    (lambda: F.max_pool2d(2.0), "max_pool2d: size .* got 2.0"),
    (lambda: F.max_pool2d((2, 2, 2)), r"max_pool2d: size .* got \(2, 2, 2\)"),
    (lambda: F.max_pool1d((2, 2)), r"max_pool1d: size must be a positive int, .* got \(2, 2\)"),
    (lambda: F.avg_pool2d(True), "avg_pool2d: size .* got True"),
    (lambda: F.avg_pool2d(2, stride=0), "avg_pool2d: stride must be a positive int.* got 0"),
    (lambda: F.avg_pool1d(2, stride=-1), "avg_pool1d: stride must be a positive int, .* got -1"),
    (lambda: F.max_pool2d(2, padding="full"), "max_pool2d: padding must be .* got 'full'"),
    (lambda: F.max_pool2d(2, padding=-1), "max_pool2d: padding must be .* got -1"),
    (lambda: F.max_pool2d(2, padding=2), "max_pool2d: padding must be less than the window.*=2"),
    (lambda: F.avg_pool2d((2, 3), padding=(2, 0)), r"less than the window.*\(2, 0\) .*\(2, 3\)"),
    (lambda: F.avg_pool2d(3, padding=((0, 0), (1, 3))), "avg_pool2d: padding must be less than"),
    (
        lambda: F.max_pool1d(3, padding=(0, 3)),
        r"max_pool1d: .* padding=\(0, 3\) and size=3",
    ),
    (lambda: F.avg_pool1d(1, padding=1), "avg_pool1d: padding must be less than the window"),
]


@pytest.mark.parametrize(("call", "message"), ARGUMENTS)
def test_wrong_arguments_are_refused_where_they_are_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()


SHAPES = [
    (F.max_pool2d((5, 3)), (2, 4, 7), "max_pool2d: the window of 5×3 is larger than .* of 4×7"),
    (F.avg_pool2d(4, padding=1), (2, 1, 7), "avg_pool2d: the window of 4×4 .* image of 3×9"),
    (F.max_pool1d(9), (2, 8), "max_pool1d: the window of 1×9 is larger than .* image of 1×8"),
    (F.avg_pool2d(2), (7, 7), r"avg_pool2d: expected .* \(channels, height, width\).* got \(7, 7"),
    (F.max_pool2d(2), (0, 7, 7), r"max_pool2d: .* positive sizes, got \(0, 7, 7\)"),
    (F.avg_pool1d(2), (3, 7, 7), r"avg_pool1d: .* \(channels, length\).* got \(3, 7, 7\)"),
    (F.global_max_pool(), (3,), r"global_max_pool: expected .* after the channels, got \(3,\)"),
    (F.global_avg_pool(), (3, 0), r"global_avg_pool: expected .* positive sizes .* got \(3, 0\)"),
    (F.global_avg_pool(), 3, "global_avg_pool: expected the shape of one example.* got 3"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), SHAPES)
def test_shapes_that_do_not_fit_are_errors_of_init_and_out_shape(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.out_shape(shape)
    with pytest.raises(ValueError, match=message):
        layer.init(0, shape)


FLAT = [F.max_pool2d(2), F.avg_pool2d(2)]
ALONG = [F.max_pool1d(2), F.avg_pool1d(2)]
GLOBAL = [F.global_max_pool(), F.global_avg_pool()]
INPUTS = [
    (FLAT, normal(2, 5, 7), ValueError, r"expected \(batch, channels, height, width\), .*x\[None"),
    (FLAT, normal(5, 7), ValueError, r"expected \(batch, .* got float32\[5, 7\]$"),
    (FLAT, normal(3, 2, 1, 7), ValueError, "the window of 2×2 is larger than .* image of 1×7"),
    (ALONG, normal(2, 7), ValueError, r"expected \(batch, channels, length\), .*x\[None\]"),
    (ALONG, normal(3, 2, 1), ValueError, "the window of 1×2 is larger than .* image of 1×1"),
    (GLOBAL, normal(2, 7), ValueError, r"expected \(batch, channels, ...\), .*got float32\[2, 7"),
    (GLOBAL, normal(2, 3, 0), ValueError, r"none of them empty, got float32\[2, 3, 0\]"),
    (FLAT, np.ones((3, 2, 5, 7), int), TypeError, r"array of floats, got int64\[3, 2, 5, 7\]"),
    (ALONG, np.ones((3, 2, 5), bool), TypeError, r"array of floats, got bool\[3, 2, 5\]"),
    (GLOBAL, np.ones((3, 2, 5), int), TypeError, r"array of floats, got int64\[3, 2, 5\]"),
    (FLAT + GLOBAL, [[[[1.0, 2.0]]]], TypeError, "expected a NumPy array, got list"),
]


@pytest.mark.parametrize(
    ("layer", "x", "error", "message"),
    [(layer, *row) for layers, *row in INPUTS for layer in layers],
)
def test_wrong_input_is_named(layer, x, error, message):
    with pytest.raises(error, match=f"^{layer.call.name}: .*{message}"):
        layer((), x)
