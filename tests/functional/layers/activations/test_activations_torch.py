"""Agreement of the activations with PyTorch, values and input gradients."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random

torch = pytest.importorskip("torch")
nn = torch.nn.functional

PAIRS = {
    F.sigmoid(): torch.sigmoid,
    F.tanh(): torch.tanh,
    F.softsign(): nn.softsign,
    F.symmetric_elliot(3.0): lambda x: nn.softsign(3.0 * x),
    F.elliot(0.5): lambda x: 0.5 * nn.softsign(0.5 * x) + 0.5,
    # PyTorch's own hardsigmoid has 1/6 in float32 in its gradient, for float64 too.
    F.hard_sigmoid(): lambda x: nn.relu6(x + 3) / 6,
    F.hard_tanh(): nn.hardtanh,
    F.softmax(): lambda x: torch.softmax(x, -1),
    F.log_softmax(): lambda x: torch.log_softmax(x, -1),
    F.relu(): torch.relu,
    F.leaky_relu(): nn.leaky_relu,
    F.leaky_relu(0.3): lambda x: nn.leaky_relu(x, 0.3),
    F.elu(): nn.elu,
    F.elu(1.7): lambda x: nn.elu(x, 1.7),
    F.selu(): nn.selu,
    # From the threshold on, PyTorch takes x itself.
    F.softplus(): lambda x: nn.softplus(x, threshold=50),
    F.silu(): nn.silu,
    F.hard_silu(): nn.hardswish,
    F.gelu(): nn.gelu,
    F.gelu(approximate=True): lambda x: nn.gelu(x, approximate="tanh"),
    F.mish(): nn.mish,
}


@pytest.mark.parametrize("layer", PAIRS, ids=repr)
@pytest.mark.parametrize("shape", [(3, 5), (7, 11, 129)], ids=str)
@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_values_and_gradients_agree_with_pytorch(layer, shape, spread, dtype, tolerance):
    generator = random.generator((1, len(shape)))
    x = (spread * generator.normal(size=shape)).astype(dtype)
    g = generator.normal(size=shape).astype(dtype)
    y, cache = layer.apply((), x)
    _, dx = layer.backward((), cache, g)
    there = torch.tensor(x, requires_grad=True)
    expected = PAIRS[layer](there)
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, there.grad.numpy(), rtol=tolerance, atol=tolerance)
