"""Layers that enlarge images."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random

torch = pytest.importorskip("torch")
nn = torch.nn.functional


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [1, 2, 5, (1, 3), (4, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (4, 1), (3, 7)], ids=str)
def test_upsampling_agrees_with_pytorch(dtype, mode, factor, size):
    x = random.generator((1, *size)).normal(size=(2, 3, *size)).astype(dtype)
    layer, theirs = F.upsample2d(factor, mode), torch.tensor(x, requires_grad=True)
    y, cache = layer.apply((), x)
    expected = nn.interpolate(theirs, scale_factor=factor, mode=mode)
    g = random.generator(2).normal(size=y.shape).astype(dtype)
    expected.backward(torch.tensor(g))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"atol": 1e-12}
    np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(layer.backward((), cache, g)[1], theirs.grad.numpy(), **tolerance)
    assert y.dtype == dtype


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_shuffled_pixels_are_pytorchs(factor):
    x = random.generator(3).normal(size=(2, 2 * factor**2, 3, 4))
    layer = F.pixel_shuffle(factor)
    y, cache = layer.apply((), x)
    np.testing.assert_array_equal(y, nn.pixel_shuffle(torch.tensor(x), factor).numpy())
    np.testing.assert_array_equal(layer.backward((), cache, y)[1], x)


X = np.zeros((2, 3, 4, 5), np.float32)
WRONG = {
    "mode": (lambda: F.upsample2d(2, "cubic"), "mode must be 'nearest' or 'bilinear'.*got 'cubic'"),
    "factor": (lambda: F.upsample2d(0), "upsample2d: factor must be a positive int.*got 0"),
    "fraction": (lambda: F.upsample2d(1.5), "factor must be .*got 1.5"),
    "factor of pixels": (lambda: F.pixel_shuffle(0), "pixel_shuffle: factor .*got 0"),
    "channels": (lambda: F.pixel_shuffle(2)((), X), r"multiple of 4 channels, got float32\[2, 3"),
    "channels of a shape": (lambda: F.pixel_shuffle(2).init(0, (3, 4, 5)), "the shape .3, 4, 5"),
    "one image": (lambda: F.upsample2d()((), X[0]), "one example needs a batch of one"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_errors_with_the_right_call(call, message):
    with pytest.raises(ValueError, match=message):
        call()
