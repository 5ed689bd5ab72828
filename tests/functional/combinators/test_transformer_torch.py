"""The blocks agree with PyTorch: outputs, and the gradients of all parameters and inputs."""

import numpy as np
import pytest
from arrays import noisy_params, normal

import npdl.functional as F
from npdl import tree

torch = pytest.importorskip("torch")

TYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)
ACTIVATIONS = pytest.mark.parametrize("activation", ["relu", "gelu"])
NORMS = pytest.mark.parametrize("pre_norm", [True, False], ids=["pre-norm", "post-norm"])
BATCH, TIME, STEPS, FEATURES, HIDDEN, HEADS = 5, 4, 7, 6, 11, 3


def padding(steps):
    """A mask of which each row has another number of steps, at least one."""
    return np.arange(steps) < 1 + np.arange(BATCH)[:, None] % steps


def theirs(params):
    """Name and transpose parameters, or their gradients, as PyTorch does."""
    hidden, _, _, output = params["feed_forward"]
    found = {"linear1.weight": hidden["weight"].T, "linear1.bias": hidden["bias"]}
    found |= {"linear2.weight": output["weight"].T, "linear2.bias": output["bias"]}
    for name, part in (("self_attn", "attention"), ("multihead_attn", "cross_attention")):
        for kind in ("weight", "bias") if part in params else ():
            ours = params[part]
            found[f"{name}.out_proj.{kind}"] = ours[f"output_{kind}"].T
            joined = [
                ours[each] for each in (kind, f"query_{kind}", f"context_{kind}") if each in ours
            ]
            found[f"{name}.in_proj_{kind}"] = np.concatenate(joined, axis=-1).T
    parts = [part for part in ("attention", "cross_attention", "feed_forward") if part in params]
    for i, part in enumerate(parts, start=1):
        norm = params[f"{part}_norm"]
        found |= {f"norm{i}.weight": norm["scale"], f"norm{i}.bias": norm["shift"]}
    return found


def assert_agreement(module, params, grads, pairs, tolerance):
    """Compare outputs and input gradients, and the gradients of all parameters of the module."""
    ours = theirs(grads)
    gradients = {name: weight.grad for name, weight in module.named_parameters()}
    assert ours.keys() == gradients.keys()
    assert sum(array.size for array in ours.values()) == tree.count(params)
    pairs = {name: (ours[name], gradients[name]) for name in ours} | pairs
    for name, (found, expected) in pairs.items():
        expected = expected.detach().numpy()
        assert found.dtype == expected.dtype
        bound = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=name)


def loaded(kind, params, activation, pre_norm, dtype):
    module = kind(
        FEATURES,
        HEADS,
        HIDDEN,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        norm_first=pre_norm,
        dtype=torch.from_numpy(np.zeros(0, dtype)).dtype,
    )
    module.load_state_dict({name: torch.tensor(array) for name, array in theirs(params).items()})
    return module


def blocked(mask):
    return None if mask is None else torch.tensor(~mask)


LATER = torch.tensor(~np.tri(TIME, dtype=bool))


@TYPES
@ACTIVATIONS
@NORMS
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_encoder_block(masked, causal, pre_norm, activation, dtype, tolerance):
    layer = F.transformer_encoder_block(
        HEADS, HIDDEN, activation=getattr(F, activation)(), pre_norm=pre_norm, causal=causal
    )
    params = noisy_params(layer, (TIME, FEATURES), dtype)
    x, g = (normal(BATCH, TIME, FEATURES, dtype=dtype, seed=seed) for seed in (1, 2))
    mask = padding(TIME) if masked else None
    y, cache = layer.apply(params, (x, mask), train=True)
    grads, (dx, no_grad) = layer.backward(params, cache, g)
    assert no_grad is None

    module = loaded(torch.nn.TransformerEncoderLayer, params, activation, pre_norm, dtype)
    their_x = torch.tensor(x, requires_grad=True)
    their_y = module(
        their_x, src_mask=LATER if causal else None, src_key_padding_mask=blocked(mask)
    )
    their_y.backward(torch.tensor(g))
    pairs = {"y": (y, their_y), "dx": (dx, their_x.grad)}
    assert_agreement(module, params, grads, pairs, tolerance)


@TYPES
@ACTIVATIONS
@NORMS
@pytest.mark.parametrize("masked", [False, True])
def test_decoder_block(masked, pre_norm, activation, dtype, tolerance):
    layer = F.transformer_decoder_block(
        HEADS, HIDDEN, activation=getattr(F, activation)(), pre_norm=pre_norm
    )
    params = noisy_params(layer, ((TIME, FEATURES), (STEPS, FEATURES)), dtype)
    x, g = (normal(BATCH, TIME, FEATURES, dtype=dtype, seed=seed) for seed in (1, 2))
    memory = normal(BATCH, STEPS, FEATURES, dtype=dtype, seed=4)
    mask, memory_mask = (padding(TIME), padding(STEPS)) if masked else (None, None)
    y, cache = layer.apply(params, (x, memory, memory_mask, mask), train=True)
    grads, (dx, d_memory, *no_grads) = layer.backward(params, cache, g)
    assert no_grads == [None, None]

    module = loaded(torch.nn.TransformerDecoderLayer, params, activation, pre_norm, dtype)
    their_x, their_memory = (torch.tensor(array, requires_grad=True) for array in (x, memory))
    their_y = module(
        their_x,
        their_memory,
        tgt_mask=LATER,
        tgt_key_padding_mask=blocked(mask),
        memory_key_padding_mask=blocked(memory_mask),
    )
    their_y.backward(torch.tensor(g))
    pairs = {"y": (y, their_y), "dx": (dx, their_x.grad), "memory": (d_memory, their_memory.grad)}
    assert_agreement(module, params, grads, pairs, tolerance)


@TYPES
def test_a_stack_of_encoder_blocks(dtype, tolerance):
    block = F.transformer_encoder_block(HEADS, HIDDEN)
    layer = F.stack(block, block)
    params = noisy_params(layer, (TIME, FEATURES), dtype)
    x, g = (normal(BATCH, TIME, FEATURES, dtype=dtype, seed=seed) for seed in (1, 2))
    mask = padding(TIME)
    y, cache = layer.apply(params, (x, mask))
    grads, (dx, _) = layer.backward(params, cache, g)
    modules = [loaded(torch.nn.TransformerEncoderLayer, one, "relu", True, dtype) for one in params]
    their_x = torch.tensor(x, requires_grad=True)
    inner = modules[0](their_x, src_key_padding_mask=blocked(mask))
    their_y = modules[1](inner, src_key_padding_mask=blocked(mask))
    their_y.backward(torch.tensor(g))
    pairs = {"y": (y, their_y), "dx": (dx, their_x.grad)}
    for module, one, gradients in zip(modules, params, grads, strict=True):
        assert_agreement(module, one, gradients, pairs, tolerance)
