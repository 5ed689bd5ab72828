"""Shared heads, rotary positions, windows, biases and weights agree with PyTorch's autograd."""

import numpy as np
import pytest
from arrays import noisy_params, normal

import npdl.functional as F
from npdl import tree

torch = pytest.importorskip("torch")

TYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)
BATCH, TIME, STEPS, HEADS, SIZE, OTHERS = 3, 5, 7, 4, 6, 9
FEATURES = HEADS * SIZE


def rotated(x, base):
    """Rotary positions as in the modules of Hugging Face's Llama."""
    frequencies = base ** (-torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    angles = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * frequencies
    both = torch.cat([angles, angles], dim=-1)
    turned = torch.cat([-x[..., SIZE // 2 :], x[..., : SIZE // 2]], dim=-1)
    return x * both.cos().to(x.dtype) + turned * both.sin().to(x.dtype)


def their_attention(params, x, context, added, shared, base):
    """Return outputs and weights; `added` is the bias of the scores with -∞."""

    def by_head(array, heads):
        return array.reshape(BATCH, -1, heads, SIZE).transpose(1, 2)

    widths = [FEATURES, shared * SIZE, shared * SIZE]
    if "weight" in params:
        q, k, v = (x @ params["weight"] + params["bias"]).split(widths, dim=2)
    else:
        q = x @ params["query_weight"] + params["query_bias"]
        k, v = (context @ params["context_weight"] + params["context_bias"]).chunk(2, dim=2)
    q, k, v = by_head(q, HEADS), by_head(k, shared), by_head(v, shared)
    if base is not None:
        q, k = rotated(q, base), rotated(k, base)
    k, v = (array.repeat_interleave(HEADS // shared, dim=1) for array in (k, v))
    scores = q @ k.transpose(2, 3) / SIZE**0.5
    weights = (scores if added is None else scores + added).softmax(dim=-1)
    mixed = (weights @ v).transpose(1, 2).reshape(BATCH, -1, FEATURES)
    return mixed @ params["output_weight"] + params["output_bias"], weights


def order(causal, window):
    ages = np.arange(TIME)[:, None] - np.arange(TIME)
    allowed = ages >= 0 if causal else np.ones((TIME, TIME), bool)
    return allowed if window is None else allowed & (np.abs(ages) < window)


OPTIONS = {
    "shared heads": {"kv_heads": 2},
    "one shared head": {"kv_heads": 1, "causal": True},
    "rotary": {"rotary": 10.0},
    "window": {"window": 2},
    "causal window": {"window": 3, "causal": True},
    "all": {"kv_heads": 2, "rotary": 100.0, "window": 3, "causal": True},
}
BIASES = {
    "none": None,
    "for all": (TIME, TIME),
    "per example": (BATCH, TIME, TIME),
    "per head": (1, HEADS, TIME, TIME),
    "per example and head": (BATCH, HEADS, TIME, TIME),
}


@TYPES
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("options", OPTIONS)
def test_self_attention_with_options(options, bias, dtype, tolerance):
    options, shape = OPTIONS[options], BIASES[bias]
    layer = F.multi_head_attention(HEADS, units=8, return_weights=True, **options)
    params = noisy_params(layer, (TIME, FEATURES), dtype)
    x, g = normal(BATCH, TIME, FEATURES, dtype=dtype), normal(BATCH, TIME, 8, seed=2, dtype=dtype)
    g_weights = normal(BATCH, HEADS, TIME, TIME, seed=3, dtype=dtype)
    added = None if shape is None else normal(*shape, seed=4, dtype=dtype)
    given = (x,) if added is None else (x, None, added)
    (y, weights), cache = layer.apply(params, given)
    grads, dx = layer.backward(params, cache, (g, g_weights))

    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    their_x = torch.tensor(x, requires_grad=True)
    allowed = order(options.get("causal", False), options.get("window"))
    total = torch.tensor(np.where(allowed, 0, -np.inf).astype(dtype))
    if added is not None:
        their_bias = torch.tensor(added, requires_grad=True)
        total = total + (their_bias[:, None] if their_bias.ndim == 3 else their_bias)
    shared = options.get("kv_heads", HEADS)
    expected = their_attention(leaves, their_x, None, total, shared, options.get("rotary"))
    torch.autograd.backward(expected, [torch.tensor(g), torch.tensor(g_weights)])
    pairs = {"y": (y, expected[0]), "weights": (weights, expected[1]), "dx": (dx[0], their_x.grad)}
    pairs |= {name: (grads[name], leaf.grad) for name, leaf in leaves.items()}
    if added is not None:
        pairs["bias of the scores"] = (dx[2], their_bias.grad)
    for name, (found, other) in pairs.items():
        other = other.detach().numpy()
        assert found.dtype == other.dtype == dtype
        assert found.shape == other.shape, name
        bound = tolerance * max(1.0, np.abs(other).max())
        np.testing.assert_allclose(found, other, rtol=0, atol=bound, err_msg=name)


@TYPES
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_cross_attention_with_shared_heads_and_a_bias(shared, dtype, tolerance):
    layer = F.multi_head_attention(HEADS, kv_heads=shared, cross=True)
    params = noisy_params(layer, ((TIME, FEATURES), (STEPS, OTHERS)), dtype)
    x, g = (normal(BATCH, TIME, FEATURES, seed=seed, dtype=dtype) for seed in (1, 2))
    context = normal(BATCH, STEPS, OTHERS, seed=3, dtype=dtype)
    added = normal(BATCH, TIME, STEPS, seed=4, dtype=dtype)
    y, cache = layer.apply(params, (x, context, None, added))
    grads, dx = layer.backward(params, cache, g)

    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    inputs = [torch.tensor(array, requires_grad=True) for array in (x, context, added)]
    expected, _ = their_attention(leaves, *inputs[:2], inputs[2][:, None], shared, None)
    expected.backward(torch.tensor(g))
    pairs = {name: (grads[name], leaf.grad) for name, leaf in leaves.items()}
    pairs |= {"y": (y, expected), "dx": (dx[0], inputs[0].grad), "dc": (dx[1], inputs[1].grad)}
    pairs["bias of the scores"] = (dx[3], inputs[2].grad)
    for name, (found, other) in pairs.items():
        other = other.detach().numpy()
        bound = tolerance * max(1.0, np.abs(other).max())
        np.testing.assert_allclose(found, other, rtol=0, atol=bound, err_msg=name)


def test_boolean_biases_are_masks_of_pytorch():
    layer = F.multi_head_attention(HEADS)
    params, x = noisy_params(layer, (TIME, FEATURES)), normal(BATCH, TIME, FEATURES, dtype="f8")
    for shape in list(BIASES.values())[1:]:
        allowed = normal(*shape, seed=5) > -0.5
        allowed[..., 0] = True  # PyTorch's softmax without any key is NaN
        leaves = tree.map(torch.tensor, params)
        mask = torch.tensor(np.where(allowed, 0.0, -np.inf))
        mask = mask[:, None] if mask.ndim == 3 else mask
        expected, _ = their_attention(leaves, torch.tensor(x), None, mask, HEADS, None)
        np.testing.assert_allclose(layer(params, (x, None, allowed)), expected, rtol=1e-9)
