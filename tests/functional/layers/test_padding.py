"""Padding and magnitude: NumPy's and PyTorch's values, extreme numbers, and errors."""

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F

PADDINGS = {
    "last axis": ((3, 2), ((0, 0), (0, 0), (0, 0), (3, 2))),
    "one side": ((0, 4), ((0, 0), (0, 0), (0, 0), (0, 4))),
    "two axes": (((1, 2), (4, 0)), ((0, 0), (0, 0), (1, 2), (4, 0))),
    "three axes": (((1, 1), (2, 0), (0, 3)), ((0, 0), (1, 1), (2, 0), (0, 3))),
    "nothing": ((0, 0), ((0, 0),) * 4),
}


@pytest.mark.parametrize("order", ["batch first", "batch last"])
@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize(("padding", "widths"), PADDINGS.values(), ids=PADDINGS)
def test_pad_agrees_with_numpy(padding, widths, mode, order):
    x = normal(2, 3, 4, 5)
    x = np.moveaxis(normal(3, 4, 5, 2), -1, 0) if order == "batch last" else x
    options = {"constant_values": 0.25} if mode == "constant" else {}
    y = F.pad(padding, mode, value=0.25)((), x)
    np.testing.assert_array_equal(y, np.pad(x, widths, mode, **options))
    assert y.dtype == np.float32
    assert y.strides[0] == 4 or order == "batch first"


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_pad_and_its_gradient_agree_with_pytorch(mode):
    torch = pytest.importorskip("torch")
    x, layer = normal(2, 3, 4, 5), F.pad(((1, 3), (4, 2)), mode)
    y, cache = layer.apply((), x)
    g = normal(*y.shape, seed=1)
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.pad(leaf, (4, 2, 1, 3), mode)
    expected.backward(torch.tensor(g))
    np.testing.assert_array_equal(y, expected.detach().numpy())
    dx = layer.backward((), cache, g)[1]
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=0, atol=1e-5)


def test_unknown_sizes_stay_unknown():
    assert F.pad((1, 2), "reflect").out_shape((3, None)) == (3, None)
    assert F.pad(((1, 1), (0, 2))).out_shape((None, 28)) == (None, 30)
    assert F.magnitude().out_shape((None, 7)) == (None, 7)
    assert F.magnitude(-1).out_shape((None, 8)) == (None, 4)


def test_magnitudes_of_extreme_numbers_are_finite():
    x = np.array([[3e38, 1e-40, 0.0, 1e30, 1e38, 0.0, -0.0, -1e30]], np.float32)
    y, cache = F.magnitude().apply((), x)
    np.testing.assert_allclose(y, np.hypot(*np.split(x.astype(np.float64), 2, 1)), rtol=1e-6)
    dx = F.magnitude().backward((), cache, np.ones((1, 4), np.float32))[1]
    expected = [[0.9486833, 1, 0, 0.70710678, 0.31622777, 0, 0, -0.70710678]]
    np.testing.assert_allclose(dx, expected, rtol=1e-5)
    y, cache = F.magnitude().apply((), np.array([[np.inf, np.nan, 1.0, 1.0]]))
    np.testing.assert_array_equal(y, [[np.inf, np.nan]])


X = normal(2, 3, 4)
WRONG = {
    "an int": (lambda: F.pad(2), r"pad: padding must be a pair .* as in pad\(padding=\(\(1, 1\)"),
    "three ints": (lambda: F.pad((1, 2, 3)), r"padding must be a pair .* got \(1, 2, 3\)"),
    "negative": (lambda: F.pad((1, -1)), r"of ints of at least 0, .* got \(1, -1\)"),
    "fractions": (lambda: F.pad((1.0, 2.0)), "padding must be a pair"),
    "booleans": (lambda: F.pad((True, True)), "padding must be a pair"),
    "no pairs": (lambda: F.pad(()), r"padding must be a pair .* got \(\)"),
    "mode": (lambda: F.pad((1, 1), "edge"), "mode must be 'constant' or 'reflect', .* got 'edge'"),
    "value": (lambda: F.pad((1, 1), value=np.inf), "value must be a number that is finite"),
    "few axes": (
        lambda: F.pad(((1, 1),) * 3)((), X),
        r"is for 3 axes after the batch, got float32\[2, 3, 4\]",
    ),
    "long reflection": (
        lambda: F.pad((0, 4), "reflect")((), X),
        "an axis of size 4 has at most 3 elements to reflect, but .* needs 4",
    ),
    "empty reflection": (
        lambda: F.pad((1, 1), "reflect").init(0, (3, 0)),
        "an axis of size 0 has at most 0 elements to reflect",
    ),
    "odd": (lambda: F.magnitude()((), X), r"axis 1 must exist .* got float32\[2, 3, 4\]"),
    "no axis": (lambda: F.magnitude(3)((), X), "axis 3 must exist after the batch"),
    "negative axis": (lambda: F.magnitude(-3)((), X), "axis -3 must exist after the batch"),
    "odd shape": (lambda: F.magnitude().init(0, (5, 2)), r"have an even size, .* got \(5, 2\)"),
    "no axis of a shape": (lambda: F.magnitude(4).out_shape((6,)), "axis 4 must exist"),
    "batch axis": (lambda: F.magnitude(0), "axis must be an int other than 0"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused_with_the_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("layer", [F.pad((1, 1)), F.magnitude(-1)], ids=repr)
def test_half_precision_and_ids_are_refused(layer):
    for x in (X.astype(np.float16), np.ones((2, 4), int)):
        with pytest.raises(TypeError, match=r"(pad|magnitude): "):
            layer((), x)
