"""Agreement of the convolutions with PyTorch: outputs, and the gradients of all that goes in."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random, tree

torch = pytest.importorskip("torch")

OPTIONS = [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1), (3, 1, 1, 1), (2, (1, 2), (2, 1), 2)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), OPTIONS, ids=str)
def test_conv2d_agrees(stride, padding, dilation, groups, dtype, tolerance):
    layer = F.conv2d(6, (3, 2), stride=stride, padding=padding, dilation=dilation, groups=groups)
    params = tree.astype(layer.init(0, (4, 11, 8)), dtype)
    generator = random.generator(1)
    params["bias"] = generator.normal(size=6).astype(dtype)
    x = generator.normal(size=(5, 4, 11, 8)).astype(dtype)
    y, cache = layer.apply(params, x)
    g = generator.normal(size=y.shape).astype(dtype)
    grads, dx = layer.backward(params, cache, g)
    there = [torch.tensor(a, requires_grad=True) for a in (x, params["weight"], params["bias"])]
    expected = torch.nn.functional.conv2d(*there, stride, padding, dilation, groups)
    expected.backward(torch.tensor(g))
    pairs = [(y, expected.detach()), (dx, there[0].grad)]
    pairs += [(grads["weight"], there[1].grad), (grads["bias"], there[2].grad)]
    for ours, theirs in pairs:
        scale = float(theirs.abs().max())
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=tolerance * scale)
