"""Attention agrees with PyTorch: outputs, and gradients of parameters and inputs."""

import numpy as np
import pytest
from arrays import noisy_params, normal

import npdl.functional as F
from npdl import tree

torch = pytest.importorskip("torch")

TYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)
BATCH, TIME, STEPS, FEATURES, OTHERS = 5, 4, 7, 6, 9


def padding(batch, steps):
    """A mask of which each row has another number of steps, at least one."""
    return np.arange(steps) < np.arange(1, batch + 1)[:, None]


def theirs(params, heads, others, bias, dtype):
    module = torch.nn.MultiheadAttention(
        FEATURES, heads, bias=bias, kdim=others, vdim=others, batch_first=True
    ).to(torch.tensor(np.zeros(0, dtype)).dtype)
    values = {"out_proj.weight": params["output_weight"].T}
    if "weight" in params:
        values["in_proj_weight"] = params["weight"].T
    else:
        values["q_proj_weight"] = params["query_weight"].T
        values["k_proj_weight"], values["v_proj_weight"] = np.split(params["context_weight"].T, 2)
    if bias:
        values["out_proj.bias"] = params["output_bias"]
        parts = [params[name] for name in ("bias", "query_bias", "context_bias") if name in params]
        values["in_proj_bias"] = np.concatenate(parts)
    module.load_state_dict({name: torch.tensor(array) for name, array in values.items()})
    return module


def their_grads(module, params):
    grads = {name: weight.grad.numpy() for name, weight in module.named_parameters()}
    found = {"output_weight": grads["out_proj.weight"].T}
    if "weight" in params:
        found["weight"] = grads["in_proj_weight"].T
    else:
        found["query_weight"] = grads["q_proj_weight"].T
        both = np.concatenate([grads["k_proj_weight"], grads["v_proj_weight"]])
        found["context_weight"] = both.T
    if "output_bias" in params:
        found["output_bias"] = grads["out_proj.bias"]
        if "bias" in params:
            found["bias"] = grads["in_proj_bias"]
        else:
            found["query_bias"], found["context_bias"] = np.split(grads["in_proj_bias"], [FEATURES])
    return found


def assert_close(ours, expected, tolerance):
    for path, array in tree.items(expected):
        found = dict(tree.items(ours))[path]
        scale = max(1.0, np.abs(array).max())
        np.testing.assert_allclose(found, array, atol=tolerance * scale, rtol=0, err_msg=path)


@TYPES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("size", [1.0, 8.0], ids=["small", "large"])
def test_self_attention(heads, causal, masked, bias, size, dtype, tolerance):
    layer = F.multi_head_attention(heads, causal=causal, bias=bias)
    params = noisy_params(layer, (TIME, FEATURES), dtype)
    x, g = (normal(BATCH, TIME, FEATURES, seed=seed, dtype=dtype) for seed in (1, 2))
    x *= size
    mask = padding(BATCH, TIME) if masked else None
    y, cache = layer.apply(params, (x, mask))
    grads, (dx, _) = layer.backward(params, cache, g)

    module = theirs(params, heads, FEATURES, bias, dtype)
    their_x = torch.tensor(x, requires_grad=True)
    their_y, _ = module(
        their_x,
        their_x,
        their_x,
        key_padding_mask=None if mask is None else torch.tensor(~mask),
        attn_mask=torch.tensor(~np.tri(TIME, dtype=bool)) if causal else None,
    )
    their_y.backward(torch.tensor(g))
    expected = {"y": their_y.detach().numpy(), "dx": their_x.grad.numpy()}
    expected["grads"] = their_grads(module, params)
    # Large scores have fewer digits after the point.
    assert_close({"y": y, "dx": dx, "grads": grads}, expected, tolerance * size)


@TYPES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("others", [FEATURES, OTHERS])
def test_cross_attention(others, masked, bias, dtype, tolerance):
    layer = F.multi_head_attention(2, cross=True, bias=bias)
    params = noisy_params(layer, ((TIME, FEATURES), (STEPS, others)), dtype)
    x, g = (normal(BATCH, TIME, FEATURES, seed=seed, dtype=dtype) for seed in (1, 2))
    context = normal(BATCH, STEPS, others, seed=4, dtype=dtype)
    mask = padding(BATCH, STEPS) if masked else None
    y, cache = layer.apply(params, (x, context, mask))
    grads, (dx, d_context, _) = layer.backward(params, cache, g)

    given = params
    if others == FEATURES:  # PyTorch has one weight then, as if for self attention
        both = np.concatenate([params["query_weight"], params["context_weight"]], axis=1)
        given = {k: v for k, v in params.items() if k not in ("query_weight", "context_weight")}
        given["weight"] = both
    module = theirs(given, 2, others, bias, dtype)
    their_x, their_context = (torch.tensor(array, requires_grad=True) for array in (x, context))
    their_y, _ = module(
        their_x,
        their_context,
        their_context,
        key_padding_mask=None if mask is None else torch.tensor(~mask),
    )
    their_y.backward(torch.tensor(g))
    expected = {"y": their_y.detach().numpy(), "dx": their_x.grad.numpy()}
    expected["context"] = their_context.grad.numpy()
    if others == FEATURES:
        joined = module.in_proj_weight.grad.numpy().T
        expected["weights"] = np.split(joined, [FEATURES], axis=1)
    else:
        expected["weights"] = list(map(their_grads(module, params).get, WEIGHTS))
    found = {"y": y, "dx": dx, "context": d_context, "weights": list(map(grads.get, WEIGHTS))}
    expected["output"] = module.out_proj.weight.grad.numpy().T
    found["output"] = grads["output_weight"]
    if bias:
        expected["bias"] = module.in_proj_bias.grad.numpy()
        found["bias"] = np.concatenate([grads["query_bias"], grads["context_bias"]])
    assert_close(found, expected, tolerance)


WEIGHTS = ("query_weight", "context_weight")
