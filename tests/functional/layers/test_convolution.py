"""Convolutions: gradients for any arguments, initial weights, memory, and wrong arguments."""

import math

import numpy as np
import pytest
from arrays import normal
from hypothesis import given, settings
from memory import held, peak
from strategies import CONVOLUTIONS, layers_with_windows

import npdl.functional as F
from npdl import random, tree
from npdl.functional._kernels import pooling
from npdl.functional._kernels.conv import correlation, patches, winograd
from npdl.functional._kernels.windows import Window
from npdl.gradcheck import check_gradients


@settings(max_examples=100)
@given(layers_with_windows(CONVOLUTIONS))
def test_gradients_and_shapes_hold_for_any_arguments(drawn):
    layer, shape = drawn
    batch = next(n for n in (2, 3, 4, 5, 6) if n not in shape)
    check_gradients(layer, shape, batch=batch, directions=1)
    y = layer(layer.init(0, shape), normal(batch, *shape))
    assert y.shape == (batch, *layer.out_shape(shape))


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv2d_transpose"])
def test_a_product_of_each_patch_and_the_weight_by_hand(name):
    x = np.float32([1, 2, 3, 5])
    weight, bias = np.float32([10, 1]), np.float32([100])
    expected = {
        "conv1d": [112, 123, 135],
        "conv2d": [112, 123, 135],
        "conv2d_transpose": [110, 121, 132, 153, 105],
    }[name]
    if name == "conv1d":
        y = F.conv1d(1, 2)({"weight": weight[None, None], "bias": bias}, x[None, None])
    else:
        params = {"weight": weight[None, None, None], "bias": bias}
        y = getattr(F, name)(1, (1, 2))(params, x[None, None, None])
    np.testing.assert_array_equal(y.ravel(), expected)


def test_the_input_gradient_is_the_transposed_convolution():
    """One is the other's transpose, with the same weight."""
    forward = F.conv2d(6, 3, stride=2, padding=1, groups=2, bias=False)
    back = F.conv2d_transpose(4, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False)
    params, x = forward.init(0, (4, 8, 6)), normal(5, 4, 8, 6)
    y, cache = forward.apply(params, x)
    np.testing.assert_allclose(forward.backward(params, cache, y)[1], back(params, y), atol=1e-5)


@pytest.mark.parametrize("filters", [5, 40])
def test_the_weight_gradient_needs_no_input_gradient(filters):
    layer = F.conv2d(filters, 3, padding="same")
    params, x = layer.init(0, (9, 7, 33)), normal(16, 9, 7, 33)
    y, cache = layer.apply(params, x)
    grads, _ = layer.backward(params, cache, y)
    alone, dx = layer.backward(params, cache, y, input_grad=False)
    assert dx is None
    for name, leaf in grads.items():
        np.testing.assert_array_equal(leaf, alone[name])


# The fans of the initial weights: the channels of one group, and all filters.

FANS = [
    (F.dense, (200,), (), 200, 40),
    (F.conv1d, (30, 50), (5,), 30 * 5, 40 * 5),
    (F.conv2d, (30, 8, 8), ((3, 2),), 30 * 6, 40 * 6),
    (F.conv2d_transpose, (30, 8, 8), ((3, 2),), 30 * 6, 40 * 6),
]
GROUPED = [
    (F.conv1d, (60, 50), (5,), 15 * 5, 40 * 5),
    (F.conv2d, (60, 8, 8), ((3, 2),), 15 * 6, 40 * 6),
    (F.conv2d_transpose, (60, 8, 8), ((3, 2),), 15 * 6, 40 * 6),
]
ROWS = [(*row, {}) for row in FANS] + [(*row, {"groups": 4}) for row in GROUPED]


@pytest.mark.parametrize(("make", "shape", "size", "fan_in", "fan_out", "options"), ROWS)
def test_initial_weights_have_the_fans_of_the_layer(make, shape, size, fan_in, fan_out, options):
    bounds = {
        F.lecun_uniform(): math.sqrt(3 / fan_in),
        F.he_uniform(): math.sqrt(6 / fan_in),
        F.glorot_uniform(): math.sqrt(6 / (fan_in + fan_out)),
    }
    deviations = {
        F.he_normal(): math.sqrt(2 / fan_in),
        F.glorot_normal(): math.sqrt(2 / (fan_in + fan_out)),
    }
    for initializer, bound in bounds.items():
        weight = make(40, *size, weight_init=initializer, **options).init(0, shape)["weight"]
        assert 0.995 * bound < np.abs(weight).max() <= np.float32(bound)
    for initializer, deviation in deviations.items():
        weight = make(40, *size, weight_init=initializer, **options).init(0, shape)["weight"]
        # The standard error of a deviation is 1 / √(2n).
        assert abs(weight.std() / deviation - 1) < 4 / math.sqrt(2 * weight.size)
    default = make(40, *size, **options).init(0, shape)
    assert np.abs(default["weight"]).max() <= np.float32(bounds[F.glorot_uniform()])
    assert not default["bias"].any()


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (F.conv1d(6, 5, groups=2), (4, 9), (6, 2, 5)),
        (F.conv2d(6, (3, 2), groups=2), (4, 9, 7), (6, 2, 3, 2)),
        (F.conv2d_transpose(6, (3, 2), groups=2), (4, 9, 7), (4, 3, 3, 2)),
    ],
    ids=repr,
)
def test_parameters_have_their_documented_shapes(layer, shape, expected):
    params = layer.init(0, shape)
    assert {name: leaf.shape for name, leaf in params.items()} == {"weight": expected, "bias": (6,)}


def test_each_group_of_conv2d_transpose_draws_its_own_weight():
    weight = F.conv2d_transpose(6, 3, groups=3).init(0, (9, 5, 5))["weight"]
    assert weight.shape == (9, 2, 3, 3)
    assert len(np.unique(weight)) > 0.99 * weight.size


WIDE = {
    "same": {"kernel_size": 3, "padding": "same"},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "uneven": {"kernel_size": (2, 4), "padding": ((2, 0), (3, 0))},
    "other height": {"kernel_size": (3, 5), "padding": (0, 2)},
    "wider than the image": {"kernel_size": (1, 9), "padding": "same"},
    "on the left": {"kernel_size": (2, 7), "padding": ((1, 0), (6, 0))},
    "on the right": {"kernel_size": (2, 7), "padding": ((1, 0), (0, 6))},
    "groups": {"kernel_size": 3, "padding": "same", "groups": 2},
}


@pytest.mark.parametrize("options", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_with_short_rows_equal_images_in_a_batch(options, dtype):
    layer = F.conv2d(6, **options)
    params, x = tree.astype(layer.init(0, (4, 7, 5)), dtype), normal(40, 4, 7, 5).astype(dtype)
    # A number that is not finite must not reach the neighbouring rows and channels.
    x[:, 1, 3, 4], x[:, 2, 6, 0] = np.inf, np.nan
    many = layer(params, x)
    assert np.isfinite(many).any()
    for rows in (slice(0, 1), slice(1, 6)):
        few = layer(params, x[rows])
        atol = 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(few, many[rows], rtol=0, atol=atol, equal_nan=True)


# Memory

# The layer, the shape of a batch, and the numbers in the patches for one pixel of all channels.
LARGE = [
    (F.conv2d(16, 3, padding=1), (128, 16, 32, 32), 9),
    (F.conv2d(16, 5, padding=1, stride=2), (128, 16, 32, 32), 25 / 4),
    (F.conv2d(64, 5, padding=2), (32, 16, 32, 32), 25),
    (F.conv1d(16, 9, padding=4), (128, 16, 1024), 9),
    (F.conv2d_transpose(16, 3, padding=1), (128, 16, 32, 32), 9),
]
each_large = pytest.mark.parametrize(("layer", "shape", "elements"), LARGE, ids=repr)


@each_large
def test_the_cache_holds_no_more_than_the_input(layer, shape, elements):
    x = normal(*shape)
    _, cache = layer.apply(layer.init(0, shape[1:]), x)
    assert held(cache) <= x.nbytes


@each_large
def test_patches_of_the_whole_batch_are_never_made(layer, shape, elements):
    params, x = layer.init(0, shape[1:]), normal(*shape)
    # A padded copy of the input that lies batch last, and the patches of one block, 8 MiB.
    besides = 1.4 * x.nbytes + (9 << 20)
    forward, (y, cache) = peak(lambda: layer.apply(params, x))
    assert forward < y.nbytes + besides
    back, _ = peak(lambda: layer.backward(params, cache, y))
    # The gradient of the input, and a padded copy of the gradient that comes in.
    assert back < 1.4 * (x.nbytes + y.nbytes) + besides < 0.9 * elements * x.nbytes


REMEMBERED = [
    *(getattr(Window, name) for name in ("pads", "out", "is_point", "can_mirror", "mirrored")),
    *(Window.offsets, pooling._steps, pooling._unpadded),
    *(correlation._fast_algorithm, patches._geometry, patches._blocks, patches._one_block),
]


@pytest.mark.parametrize(
    "layer",
    [
        *(F.conv2d(3, 2), F.conv2d(3, 2, padding="same"), F.conv2d(3, 2, stride=2)),
        *(F.conv2d(3, 1), F.conv2d(4, 2, groups=2), F.conv1d(3, 2), F.conv2d_transpose(3, 2)),
        *(F.max_pool2d(2), F.max_pool2d(3, stride=1, padding=1), F.avg_pool2d(2, padding="same")),
    ],
    ids=repr,
)
def test_the_geometry_of_windows_is_computed_once(layer):
    shape = (2, 9) if "1d" in layer.call.name else (2, 9, 8)
    params = layer.init(0, shape)
    misses = []
    for seed in range(3):
        y, cache = layer.apply(params, normal(5, *shape, seed=seed))
        layer.backward(params, cache, y)
        misses.append(sum(function.cache_info().misses for function in REMEMBERED))
    assert misses[1] == misses[2]


# Wrong arguments, shapes and inputs: the message names the layer and the sizes.

ARGUMENTS = [
    (lambda: F.conv2d(0, 3), "conv2d: filters must be a positive int, .* got 0"),
    (lambda: F.conv2d(4.0, 3), "conv2d: filters must be .* got 4.0"),
    (lambda: F.conv2d(True, 3), "conv2d: filters must be .* got True"),
    (lambda: F.conv1d(-2, 3), "conv1d: filters must be .* got -2"),
    (lambda: F.conv2d_transpose(None, 3), "conv2d_transpose: filters must be .* got None"),
    (lambda: F.conv2d(4, 0), "conv2d: kernel_size must be a positive int, or a pair .* got 0"),
    (lambda: F.conv2d(4, (3,)), r"conv2d: kernel_size .* \(height, width\).* got \(3,\)"),
    (lambda: F.conv2d(4, (3, 3, 3)), r"conv2d: kernel_size .* got \(3, 3, 3\)"),
    (lambda: F.conv2d(4, 2.5), "conv2d: kernel_size .* got 2.5"),
    (lambda: F.conv2d(4, "33"), "conv2d: kernel_size .* got '33'"),
    (lambda: F.conv1d(4, (3, 3)), r"conv1d: kernel_size must be a positive int, .*got \(3, 3\)"),
    (lambda: F.conv2d(4, 3, stride=0), "conv2d: stride must be a positive int.* got 0"),
    (lambda: F.conv2d(4, 3, stride=(1, -1)), r"conv2d: stride .* got \(1, -1\)"),
    (lambda: F.conv1d(4, 3, stride=0), "conv1d: stride must be a positive int, .* got 0"),
    (lambda: F.conv2d_transpose(4, 3, stride=0), "conv2d_transpose: stride .* got 0"),
    (lambda: F.conv2d(4, 3, dilation=0), "conv2d: dilation must be a positive int.* got 0"),
    (lambda: F.conv2d(4, 3, padding=-1), r'conv2d: padding must be "valid", "same", .* got -1'),
    (lambda: F.conv2d(4, 3, padding="full"), "conv2d: padding must be .* got 'full'"),
    (lambda: F.conv2d(4, 3, padding=(1, 2, 3)), r"conv2d: padding .* got \(1, 2, 3\)"),
    (lambda: F.conv2d(4, 3, padding=((1, 2),)), r"conv2d: padding .* got \(\(1, 2\),\)"),
    (lambda: F.conv2d(4, 3, padding=((1, -1), 0)), r"conv2d: padding .* got \(\(1, -1\), 0\)"),
    (lambda: F.conv2d(4, 3, padding=1.0), "conv2d: padding .* got 1.0"),
    (lambda: F.conv1d(4, 3, padding=((1, 1),)), r"conv1d: padding .* \(before, after\).* got"),
    (lambda: F.conv2d(4, 3, groups=0), "conv2d: groups must be a positive int.* got 0"),
    (lambda: F.conv2d(4, 3, groups=3), "conv2d: groups must divide the filters, got filters=4 and"),
    (lambda: F.conv1d(4, 3, groups=8), "conv1d: groups must divide .* filters=4 and groups=8"),
    (
        lambda: F.conv2d_transpose(4, 3, output_padding=1),
        r"conv2d_transpose: output_padding must be less than the stride.* got 1 with stride=\(1, 1",
    ),
    (
        lambda: F.conv2d_transpose(4, 3, stride=2, output_padding=-1),
        "conv2d_transpose: output_padding must be an int of at least 0.* got -1",
    ),
    (
        lambda: F.conv2d_transpose(4, 3, stride=2, output_padding=1, padding="same"),
        "output_padding must be less than the stride, and 0 where padding is",
    ),
]


@pytest.mark.parametrize(("call", "message"), ARGUMENTS)
def test_wrong_arguments_are_refused_where_they_are_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()


SHAPES = [
    (F.conv2d(4, (5, 3)), (2, 4, 7), "conv2d: the window of 5×3 is larger than .* image of 4×7"),
    (F.conv2d(4, 3, padding=1), (2, 0, 7), r"conv2d: .* positive sizes, got \(2, 0, 7\)"),
    (F.conv2d(4, 3, dilation=(1, 3)), (2, 4, 6), r"3×3, dilated by \(1, 3\) is larger .* of 4×6"),
    (F.conv2d(4, 5, padding=(0, 1)), (2, 4, 3), "window of 5×5 .* padded image of 4×5"),
    (F.conv1d(4, 9), (2, 8), "conv1d: the window of 1×9 is larger than the padded image of 1×8"),
    (F.conv2d(4, 3, groups=2), (3, 7, 7), r"conv2d: groups must divide the channels, .* 3 channel"),
    (F.conv1d(4, 3, groups=4), (6, 9), r"conv1d: groups .*\(6, 9\) has 6 channels, and groups=4"),
    (F.conv2d_transpose(4, 3, groups=2), (3, 7, 7), "conv2d_transpose: groups must divide"),
    (
        F.conv2d(4, 3),
        (7, 7),
        r"conv2d: expected .* \(channels, height, width\).* got \(7, 7\)",
    ),
    (F.conv2d(4, 3), (5, 3, 7, 7), r"conv2d: expected the shape of one example.* got \(5, 3, 7, 7"),
    (F.conv1d(4, 3), (7,), r"conv1d: expected .* \(channels, length\).* got \(7,\)"),
    (F.conv2d(4, 3), 7, "conv2d: expected the shape of one example.* got 7"),
    (F.conv2d(4, 3), (3, 7.0, 7), r"conv2d: expected .* got \(3, 7.0, 7\)"),
    (
        F.conv2d_transpose(4, 2, padding=3),
        (2, 4, 6),
        "conv2d_transpose: images of 4×6 .* give an empty output of -1×1",
    ),
]


@pytest.mark.parametrize(("layer", "shape", "message"), SHAPES)
def test_shapes_that_do_not_fit_are_errors_of_init_and_out_shape(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.out_shape(shape)
    with pytest.raises(ValueError, match=message):
        layer.init(0, shape)


SHAPE = (2, 5, 7)
IMAGE = normal(3, *SHAPE)
INPUTS = [
    (IMAGE[0], ValueError, r"expected \(batch, channels, height, width\), .*x\[None\]"),
    (IMAGE[0, 0], ValueError, r"expected \(batch, .*got float32\[5, 7\]$"),
    (IMAGE[None], ValueError, r"expected \(batch, .*got float32\[1, 3, 2, 5, 7\]$"),
    (np.moveaxis(IMAGE, 1, 3), ValueError, r"take 2 channels \(axis 1\), .* float32\[3, 5, 7, 2\]"),
    (IMAGE.astype(int), TypeError, r"expected an array of floats, got int64\[3, 2, 5, 7\]"),
    (IMAGE > 0, TypeError, "expected an array of floats, got bool"),
    (IMAGE.astype(np.float64), TypeError, "nothing is promoted silently"),
    (IMAGE.tolist(), TypeError, "expected a NumPy array, got list"),
]


@pytest.mark.parametrize("make", [F.conv2d, F.conv2d_transpose])
@pytest.mark.parametrize(("x", "error", "message"), INPUTS)
def test_wrong_input_is_named(make, x, error, message):
    layer = make(4, 3)
    with pytest.raises(error, match=f"^{make.__name__}: .*{message}"):
        layer(layer.init(0, SHAPE), x)


def test_wrong_input_of_sequences_is_named():
    layer = F.conv1d(4, 3)
    params = layer.init(0, (2, 8))
    with pytest.raises(ValueError, match=r"conv1d: expected \(batch, channels, length\), .*\[None"):
        layer(params, normal(2, 8))
    with pytest.raises(ValueError, match=r"conv1d: .* take 2 channels \(axis 1\), .*\[3, 8, 2\]"):
        layer(params, normal(3, 8, 2))
    with pytest.raises(TypeError, match=r"conv1d: expected an array of floats, got int64\[3, 2, 8"):
        layer(params, np.ones((3, 2, 8), int))


def test_an_image_too_small_for_the_kernel_is_named_in_apply():
    layer = F.conv2d(4, 3)
    params = layer.init(0, (2, 5, 7))
    with pytest.raises(ValueError, match=r"conv2d: the window of 3×3 is larger than .* of 2×7"):
        layer(params, normal(3, 2, 2, 7))


def identity(channels):
    kernel = np.zeros((channels, channels, 3, 3), np.float32)
    kernel[range(channels), range(channels), 1, 1] = 1
    return {"weight": kernel}


SAME = F.conv2d(8, 3, padding="same", bias=False)
ROWS = {"one": np.s_[:, :, 11], "two": np.s_[:, :, 4:6], "the last": np.s_[:, :, -1]}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("large", [1e4, 1e8, 1e20, 3e38, 1e-8])
def test_a_row_of_another_size_does_not_disturb_its_neighbours(rows, large):
    x = np.ones((32, 8, 32, 32), np.float32)
    x[rows] = large
    for size in (1, 16, 32):
        y, cache = SAME.apply(identity(8), x[:size])
        assert np.allclose(y, x[:size], rtol=1e-6, atol=0)
        if large < 1e18:
            _, dx = SAME.backward(identity(8), cache, x[:size])
            assert np.allclose(dx, x[:size], rtol=1e-6, atol=0)


@pytest.mark.parametrize("large", [1e4, 1e8, 1e-8])
@pytest.mark.parametrize("make", [F.conv2d, F.conv2d_transpose])
def test_a_large_row_of_a_kernel_does_not_disturb_its_neighbours(large, make):
    layer = make(8, 3, padding="same" if make is F.conv2d else 1, bias=False)
    params = identity(8)
    params["weight"][:, :, 2] = large * params["weight"][:, :, 1]
    x = np.ones((16, 8, 32, 32), np.float32)
    x[:, :, ::2] = 0  # so the large row meets zeros at every other row of the output
    y, cache = layer.apply(params, x)
    _, dx = layer.backward(params, cache, x)
    for some in (y, dx):
        inside = some[:, :, 2:-2]
        small, other = (1, large) if some[0, 0, 3, 5] == 1 else (large, 1)
        assert np.allclose(inside[:, :, 1::2], small, rtol=1e-6, atol=0)
        assert np.allclose(inside[:, :, ::2], other, rtol=1e-6, atol=0)


def test_the_weight_gradient_keeps_small_parts_by_a_large_row():
    x, g = np.ones((16, 8, 32, 32), np.float32), np.zeros((16, 8, 32, 32), np.float32)
    x[:, :, 11] = 1e8
    g[:, :, 12] = 1
    expected = np.full(3, 16 * 32.0)
    expected[0] *= 1e8
    cache = SAME.apply(identity(8), x)[1]
    dw = SAME.backward(identity(8), cache, g)[0]["weight"]
    assert np.allclose(dw[0, 0, :, 1], expected, rtol=1e-5)
    turned = F.conv2d_transpose(8, 3, padding=1, bias=False)
    cache = turned.apply(identity(8), g)[1]
    dw = turned.backward(identity(8), cache, x)[0]["weight"]
    assert np.allclose(dw[0, 0, :, 1], expected, rtol=1e-5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_are_the_same_in_any_batch(value):
    layer = F.conv2d(8, 3, padding="same")
    params = layer.init(0, (8, 16, 32))
    params["weight"] = np.abs(params["weight"])
    x = np.ones((32, 8, 16, 32), np.float32)
    x[:, :, 7] = value
    one, many = layer(params, x[:1]), layer(params, x)[:1]
    assert np.allclose(one, many, equal_nan=True)
    assert np.isfinite(many[:, :, :6]).all()
    assert not np.isfinite(many[:, :, 6:9]).any()


def test_the_fast_way_is_taken_where_rows_are_of_one_size():
    image = random.generator(0).normal(size=(9, 4, 3, 2)).astype(np.float32)
    assert winograd.is_even(image)
    image[:4] = 0
    assert winograd.is_even(image)
    slowly = image * np.logspace(0, 16, 9, dtype=np.float32)[:, None, None, None]
    assert not winograd.is_even(slowly)
    image[6] *= 100
    assert winograd.is_even(image)
    image[8] *= 1e6
    assert not winograd.is_even(image)
    assert winograd.is_even(np.zeros((5, 4, 3, 2), np.float32))
