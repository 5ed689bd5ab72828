"""Convolution and pooling agree with PyTorch: outputs, and the gradients of all that goes in."""

import inspect
import itertools
import math

import numpy as np
import pytest
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import layers_with_windows

import npdl.functional as F
from npdl import random, tree
from npdl.functional._initializers import fans

torch = pytest.importorskip("torch")
# PyTorch says so where it pads before, as we do.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

TYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)


# The layers as PyTorch has them. It pads both sides alike; where they differ we pad before.


def pads_of(padding, image, reach, stride):
    """Return (before, after) for each axis."""
    if padding == "valid":
        return [(0, 0)] * len(image)
    if padding == "same":
        totals = [
            max((math.ceil(length / step) - 1) * step + covered - length, 0)
            for length, covered, step in zip(image, reach, stride, strict=True)
        ]
        return [(total // 2, total - total // 2) for total in totals]
    if len(image) == 1:
        return [(padding, padding) if isinstance(padding, int) else padding]
    pair = (padding, padding) if isinstance(padding, int) else padding
    return [(side, side) if isinstance(side, int) else side for side in pair]


def per_axis(value, axes):
    return (value,) * axes if isinstance(value, int) else value


def pad(x, pads, value=0.0):
    return torch.nn.functional.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


def functional(name, axes):
    return getattr(torch.nn.functional, f"{name}{axes}d")


def convolution(x, params, kernel_size, stride, padding, dilation, groups, **_):
    axes = x.ndim - 2
    size, stride, dilation = (per_axis(n, axes) for n in (kernel_size, stride, dilation))
    reach = [(n - 1) * d + 1 for n, d in zip(size, dilation, strict=True)]
    pads = pads_of(padding, x.shape[2:], reach, stride)
    if padding == "same" and set(stride) == {1}:
        theirs = "same"
    elif all(before == after for before, after in pads):
        theirs = [before for before, _ in pads]
    else:
        x, theirs = pad(x, pads), 0
    weight, bias = params["weight"], params.get("bias")
    return functional("conv", axes)(x, weight, bias, stride, theirs, dilation, groups)


def transposed_convolution(
    x, params, kernel_size, stride, padding, output_padding, dilation, groups, **_
):
    size, stride, dilation = (per_axis(n, 2) for n in (kernel_size, stride, dilation))
    extra = per_axis(output_padding, 2)
    reach = [(n - 1) * d + 1 for n, d in zip(size, dilation, strict=True)]
    larger = [n * step for n, step in zip(x.shape[2:], stride, strict=True)]
    pads = pads_of(padding, larger, reach, stride)
    weight, bias = params["weight"], params.get("bias")
    transposed = torch.nn.functional.conv_transpose2d
    if padding != "same" and all(before == after for before, after in pads):
        cut = [before for before, _ in pads]
        return transposed(x, weight, bias, stride, cut, extra, groups, dilation)
    y = transposed(x, weight, None, stride, 0, 0, groups, dilation)
    sizes = larger
    if padding != "same":
        sizes = [n - sum(cut) + e for n, cut, e in zip(y.shape[2:], pads, extra, strict=True)]
    y = pad(
        y,
        [
            (-before, wanted - length + before)
            for wanted, length, (before, _) in zip(sizes, y.shape[2:], pads, strict=True)
        ],
    )
    return y if bias is None else y + bias[:, None, None]


def max_pool(x, params, size, stride, padding):
    axes = x.ndim - 2
    size, stride = per_axis(size, axes), per_axis(size if stride is None else stride, axes)
    pads = pads_of(padding, x.shape[2:], size, stride)
    return functional("max_pool", axes)(pad(x, pads, -math.inf), size, stride)


def avg_pool(x, params, size, stride, padding, count_padding):
    axes = x.ndim - 2
    size, stride = per_axis(size, axes), per_axis(size if stride is None else stride, axes)
    pads = pads_of(padding, x.shape[2:], size, stride)
    mean = functional("avg_pool", axes)
    if all(before == after <= n // 2 for (before, after), n in zip(pads, size, strict=True)):
        half = tuple(before for before, _ in pads)
        return mean(x, size, stride, half, count_include_pad=count_padding)
    y = mean(pad(x, pads), size, stride)
    return y if count_padding else y / mean(pad(torch.ones_like(x), pads), size, stride)


REFERENCES = {
    "conv1d": convolution,
    "conv2d": convolution,
    "conv2d_transpose": transposed_convolution,
    "max_pool1d": max_pool,
    "max_pool2d": max_pool,
    "avg_pool1d": avg_pool,
    "avg_pool2d": avg_pool,
    "global_max_pool": lambda x, params: torch.nn.functional.adaptive_max_pool2d(
        x.flatten(2)[:, :, None], 1
    )[:, :, 0, 0],
    "global_avg_pool": lambda x, params: x.flatten(2).mean(2),
}


def reference(layer, x, params):
    """Apply PyTorch's function with the arguments of our constructor."""
    bound = inspect.signature(layer.call.constructor).bind(**layer.call.keywords)
    bound.apply_defaults()
    return REFERENCES[layer.call.name](x, params, **bound.arguments)


def assert_agrees(layer, shape, dtype, tolerance, batch=5, ties=False):
    """Compare with PyTorch, for images in each order in memory that layers have."""
    generator = random.generator(1)
    params = tree.map(lambda leaf: generator.normal(size=leaf.shape), layer.init(0, shape))
    x = generator.normal(size=(batch, *shape))
    params, x = tree.astype(params, dtype), (np.round(x) if ties else x).astype(dtype)
    g = generator.normal(size=(batch, *layer.out_shape(shape))).astype(dtype)
    their_x = torch.tensor(x, requires_grad=True)
    theirs = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in dict(params).items()}
    their_y = reference(layer, their_x, theirs)
    their_y.backward(torch.tensor(g))
    for images in (x, batch_last(x), rows_first(x)):
        y, cache = layer.apply(params, images)
        grads, dx = layer.backward(params, cache, g)
        pairs = {"y": (y, their_y.detach()), "dx": (dx, their_x.grad)}
        pairs |= {name: (grads[name], leaf.grad) for name, leaf in theirs.items()}
        for name, (ours, expected) in pairs.items():
            scale = float(expected.abs().max())
            np.testing.assert_allclose(
                ours, expected.numpy(), rtol=0, atol=tolerance * scale, err_msg=name, strict=True
            )


def batch_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


def rows_first(x):
    order = (*range(2, x.ndim), 1, 0)
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


# The rows of the table of layers, and more of them.

ROWS = [
    (case.layer, case.shape)
    for case in CASES.values()
    if case.layer.call is not None and case.layer.call.name in REFERENCES
]
STRIDES = (1, 2, (1, 3))
PADDINGS = ("valid", "same", 1, (2, 0), ((0, 1), (3, 2)))
ROWS += [
    (make(8, (3, 2), stride=stride, padding=padding, dilation=dilation, groups=groups), (4, 7, 6))
    for make, stride, padding, dilation, groups in itertools.product(
        (F.conv2d, F.conv2d_transpose), STRIDES, PADDINGS, (1, (2, 3)), (1, 2, 4)
    )
]
ROWS += [
    (F.conv1d(8, 3, stride=stride, padding=padding, dilation=dilation, groups=groups), (4, 11))
    for stride, padding, dilation, groups in itertools.product(
        (1, 3), ("valid", "same", 2, (4, 0)), (1, 2), (1, 2, 4)
    )
]
ROWS += [
    (F.conv2d(4, 3, padding=1), (3, 40, 50)),  # more than one block of patches
    (F.conv2d_transpose(3, 3, padding=1), (4, 40, 50)),
    (F.conv2d(3, 1), (200, 6, 5)),
]
POOLING_PADDINGS = ("valid", "same", 1, ((0, 1), (1, 0)))
SIZES = (2, (3, 2), 3)
ROWS += [
    (F.max_pool2d(size, stride=stride, padding=padding), (3, 7, 9))
    for size, stride, padding in itertools.product(SIZES, (None, 1, (2, 3)), POOLING_PADDINGS)
]
ROWS += [
    (F.avg_pool2d(size, stride=stride, padding=padding, count_padding=count), (3, 7, 9))
    for size, stride, padding, count in itertools.product(
        SIZES, (None, 1, (2, 3)), POOLING_PADDINGS, (False, True)
    )
]
ROWS += [
    (F.max_pool2d(2), (40, 32, 40)),  # more than one block
    (F.max_pool2d(3, stride=1, padding="same"), (40, 32, 40)),
    (F.avg_pool2d(3, stride=2), (40, 32, 40)),
    (F.global_max_pool(), (40, 32, 40)),
    (F.global_avg_pool(), (40, 32, 40)),
]


@pytest.mark.parametrize(("layer", "shape"), ROWS, ids=repr)
def test_outputs_and_gradients_agree(layer, shape):
    assert_agrees(layer, shape, np.float32, 1e-5)
    assert_agrees(layer, shape, np.float64, 1e-10)


# Batches that are large enough for fewer multiplications: three rows, and any columns.

LARGE_BATCHES = [
    (F.conv2d(filters, (3, columns), padding=padding), (8, height, 33), 16)
    for filters, columns, padding, height in (
        (9, 3, "same", 6),
        (9, 3, "same", 7),
        (4, 3, "valid", 5),
        (30, 3, 1, 4),
        (9, 3, ((0, 2), (1, 0)), 6),
        (9, 3, ((2, 1), (2, 3)), 3),
        (9, 3, 4, 1),
        (9, 1, (1, 0), 6),
        (9, 5, "same", 7),
        (9, 35, (1, 2), 4),
    )
]
LARGE_BATCHES += [
    (F.conv2d(12, 3, padding="same", bias=False), (40, 5, 31), 64),  # more than one block
    (F.conv2d(70, 3), (5, 5, 31), 64),
    (F.conv2d_transpose(9, 3, padding=1), (8, 7, 33), 17),
    (F.conv2d_transpose(9, 3), (8, 6, 33), 17),
]
# Few channels.
LARGE_BATCHES += [
    (F.conv2d(8, size, padding=padding, bias=bias), (2, 7, 6), 33)
    for size, padding, bias in (
        (3, "same", True),
        (3, "valid", False),
        ((2, 4), ((0, 1), (3, 2)), True),
        ((5, 2), 6, False),
    )
]
LARGE_BATCHES += [
    (F.conv2d(30, 3, padding=1), (4, 13, 50), 40),  # more than one block
    (F.conv2d(30, (4, 2), padding="same"), (1, 70, 9), 40),
    (F.conv2d(2, 3, padding="same"), (30, 6, 5), 32),
    (F.conv2d_transpose(3, 3), (9, 5, 4), 32),
    (F.conv2d_transpose(7, 3, padding=1), (2, 5, 4), 32),
]


@TYPES
@pytest.mark.parametrize(("layer", "shape", "batch"), LARGE_BATCHES, ids=repr)
def test_large_batches_agree(layer, shape, batch, dtype, tolerance):
    assert_agrees(layer, shape, dtype, tolerance, batch)


MAXIMA = [row for row in ROWS if "max" in row[0].call.name]


@pytest.mark.parametrize(("layer", "shape"), MAXIMA, ids=repr)
def test_of_equal_maxima_the_same_one_has_the_gradient(layer, shape):
    assert_agrees(layer, shape, np.float64, 1e-10, ties=True)


@settings(max_examples=300)
@given(layers_with_windows(), st.integers(1, 4), st.booleans())
def test_any_arguments_agree(drawn, batch, ties):
    assert_agrees(*drawn, np.float64, 1e-10, batch=batch, ties=ties)


CONVOLUTIONS = [row for row in ROWS if row[0].call.name in ("conv1d", "conv2d")]


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=repr)
def test_the_fans_of_weights_are_pytorchs(layer, shape):
    weight = layer.init(0, shape)["weight"]
    theirs = torch.nn.init._calculate_fan_in_and_fan_out(torch.tensor(weight))
    assert fans(weight.shape) == theirs
