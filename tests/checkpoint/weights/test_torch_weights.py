"""Loading of PyTorch weights: the outputs agree, for every file format."""

import importlib.util
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from arrays import normal, read_only

import npdl.functional as F
from npdl import checkpoint, random, tree
from npdl.checkpoint import CheckpointError, from_torch, to_torch
from npdl.checkpoint._files.containers import opened

torch = pytest.importorskip("torch")
nn = torch.nn

WAYS = ["state_dict", "npz", "safetensors"]
BATCH = 3


def drawn(module, seed=0):
    """Return the module in evaluation mode, with random weights, scales and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.state_dict().items():
        if weight.is_floating_point():
            weight.normal_(0, 0.4, generator=generator)
            if name.endswith("running_var"):
                weight.abs_().add_(0.5)
    return module.eval()


def stored(module, way, directory):
    """Return the weights as one of the accepted arguments of `from_torch`."""
    weights = module.state_dict()
    if way == "state_dict":
        return weights
    path = directory / f"weights.{way}"
    if way == "npz":
        np.savez(path, **weights)
    else:
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    return path


def assert_agreement(found, expected):
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    bound = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


class First(nn.Module):
    """Return the first output of a module; an LSTM also returns its states."""

    def __init__(self, inner, *inputs):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        return self.inner(*inputs)[0]


def recurrent(kind, *sizes, **options):
    return First(kind(*sizes, batch_first=True, **options))


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


class CrossAttention(nn.MultiheadAttention):
    def forward(self, x, context):
        return super().forward(x, context, context)[0]


def attention(kind, *args, **options):
    return kind(*args, batch_first=True, **options)


class Decoder(nn.TransformerDecoderLayer):
    def forward(self, x, context):
        later = torch.ones(x.shape[1], x.shape[1], dtype=bool).triu(1)
        return super().forward(x, context, tgt_mask=later)


class SharedHeads(nn.Module):
    """Causal attention whose heads share keys and values, with the names of Llama."""

    def __init__(self, features, heads, kv_heads, bias):
        super().__init__()
        size = features // heads
        self.heads, self.kv_heads = heads, kv_heads
        self.q_proj = nn.Linear(features, features, bias=bias)
        self.k_proj = nn.Linear(features, kv_heads * size, bias=bias)
        self.v_proj = nn.Linear(features, kv_heads * size, bias=bias)
        self.o_proj = nn.Linear(features, features, bias=bias)

    def forward(self, x):
        q, k, v = (
            projection(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for projection, heads in [
                (self.q_proj, self.heads),
                (self.k_proj, self.kv_heads),
                (self.v_proj, self.kv_heads),
            ]
        )
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, 1) for part in (k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Llama(nn.Module):
    """A block with RMS norms, shared heads and a gated feed-forward network."""

    def __init__(self, features, hidden_units):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(features, eps=1e-5)
        self.self_attn = SharedHeads(features, 4, 2, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(features, eps=1e-5)
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(features, hidden_units, bias=False),
                "up_proj": nn.Linear(features, hidden_units, bias=False),
                "down_proj": nn.Linear(hidden_units, features, bias=False),
            }
        )

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        y = self.post_attention_layernorm(x)
        y = nn.functional.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y)
        return x + self.mlp["down_proj"](y)


IMAGES, SEQUENCES, CONTEXT = (4, 9, 8), (7, 6), (5, 10)
SEQUENCE = {"return_sequence": True}
BLOCK = {"batch_first": True, "dropout": 0.0, "dim_feedforward": 11}
# Layer of npdl, module of PyTorch, and input shapes.
LAYERS = {
    "dense": (F.dense(5), nn.Linear(6, 5), [(6,)]),
    "square dense": (F.dense(6), nn.Linear(6, 6), [SEQUENCES]),
    "dense, no bias": (F.dense(5, bias=False), nn.Linear(6, 5, bias=False), [(6,)]),
    "conv2d": (
        F.conv2d(6, (3, 2), stride=2, groups=2),
        nn.Conv2d(4, 6, (3, 2), 2, groups=2),
        [IMAGES],
    ),
    "conv2d, square": (
        F.conv2d(4, 4, padding=1, bias=False),
        nn.Conv2d(4, 4, 4, padding=1, bias=False),
        [IMAGES],
    ),
    "conv1d": (F.conv1d(5, 3, dilation=2), nn.Conv1d(7, 5, 3, dilation=2), [SEQUENCES]),
    "conv2d_transpose": (
        F.conv2d_transpose(6, 3, stride=2, groups=2),
        nn.ConvTranspose2d(4, 6, 3, 2, groups=2),
        [IMAGES],
    ),
    "batch_norm of images": (F.batch_norm(), nn.BatchNorm2d(4), [IMAGES]),
    "batch_norm": (F.batch_norm(epsilon=1e-2), nn.BatchNorm1d(6, eps=1e-2), [(6,)]),
    "batch_norm, not affine": (
        F.batch_norm(scale=False, shift=False),
        nn.BatchNorm1d(6, affine=False),
        [(6,)],
    ),
    "layer_norm": (F.layer_norm(), nn.LayerNorm(6), [SEQUENCES]),
    "layer_norm of two axes": (F.layer_norm((-2, -1)), nn.LayerNorm([9, 8]), [IMAGES]),
    "layer_norm, no bias": (F.layer_norm(shift=False), nn.LayerNorm(6, bias=False), [SEQUENCES]),
    "group_norm": (F.group_norm(2), nn.GroupNorm(2, 4), [IMAGES]),
    "rms_norm": (F.rms_norm(epsilon=1e-6), nn.RMSNorm(6, eps=1e-6), [SEQUENCES]),
    "embedding": (F.embedding(10, 6), nn.Embedding(10, 6), ["ids"]),
    "rnn": (F.rnn(4, **SEQUENCE), recurrent(nn.RNN, 6, 4), [SEQUENCES]),
    "lstm": (F.lstm(4, **SEQUENCE), recurrent(nn.LSTM, 6, 4), [SEQUENCES]),
    "square lstm": (F.lstm(6, **SEQUENCE), recurrent(nn.LSTM, 6, 6), [SEQUENCES]),
    "lstm, no bias": (F.lstm(4, **SEQUENCE), recurrent(nn.LSTM, 6, 4, bias=False), [SEQUENCES]),
    "gru": (F.gru(4, **SEQUENCE), recurrent(nn.GRU, 6, 4), [SEQUENCES]),
    "gru, no bias": (F.gru(4, **SEQUENCE), recurrent(nn.GRU, 6, 4, bias=False), [SEQUENCES]),
    "both directions": (
        F.bidirectional(F.gru(4, **SEQUENCE)),
        recurrent(nn.GRU, 6, 4, bidirectional=True),
        [SEQUENCES],
    ),
    "three layers": (
        F.serial(*[F.lstm(6, **SEQUENCE)] * 3),
        recurrent(nn.LSTM, 6, 6, num_layers=3),
        [SEQUENCES],
    ),
    "two layers in both directions": (
        F.serial(*[F.bidirectional(F.lstm(3, **SEQUENCE))] * 2),
        recurrent(nn.LSTM, 6, 3, num_layers=2, bidirectional=True),
        [SEQUENCES],
    ),
    "attention": (F.multi_head_attention(2), attention(SelfAttention, 6, 2), [SEQUENCES]),
    "attention, no bias": (
        F.multi_head_attention(2, bias=False),
        attention(SelfAttention, 6, 2, bias=False),
        [SEQUENCES],
    ),
    "cross attention": (
        F.multi_head_attention(3, cross=True),
        attention(CrossAttention, 6, 3),
        [SEQUENCES, (5, 6)],
    ),
    "cross attention to other features": (
        F.multi_head_attention(3, cross=True),
        attention(CrossAttention, 6, 3, kdim=10, vdim=10),
        [SEQUENCES, CONTEXT],
    ),
    "shared heads": (
        F.multi_head_attention(4, kv_heads=2, causal=True, bias=False),
        SharedHeads(8, 4, 2, bias=False),
        [(7, 8)],
    ),
    "shared heads, biases": (
        F.multi_head_attention(4, kv_heads=1, causal=True),
        SharedHeads(8, 4, 1, bias=True),
        [(7, 8)],
    ),
    "encoder block": (
        F.transformer_encoder_block(2, 11, pre_norm=False),
        nn.TransformerEncoderLayer(6, 2, **BLOCK),
        [SEQUENCES],
    ),
    "encoder block, norm first": (
        F.transformer_encoder_block(2, 11),
        nn.TransformerEncoderLayer(6, 2, norm_first=True, **BLOCK),
        [SEQUENCES],
    ),
    "decoder block": (
        F.transformer_decoder_block(2, 11, pre_norm=False),
        Decoder(6, 2, **BLOCK),
        [SEQUENCES, (5, 6)],
    ),
}


class Tagger(nn.Module):
    """Words, two layers in both directions, scores for each word."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 6)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.scores = nn.Linear(10, 4)

    def forward(self, ids):
        return self.scores(self.lstm(self.words(ids))[0])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 6)
        block = nn.TransformerEncoderLayer(6, 2, norm_first=True, **BLOCK)
        self.blocks = nn.TransformerEncoder(block, 12, nn.LayerNorm(6), enable_nested_tensor=False)
        self.scores = nn.Linear(6, 6)

    def forward(self, ids):
        return self.scores(self.blocks(self.words(ids)))


CNN = [
    *(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()),
    nn.Linear(6 * 4 * 4, 5),
]
BIDIRECTIONAL = F.bidirectional(F.lstm(5, return_sequence=True))
MODELS = {
    "tagger": (
        F.serial(F.embedding(10, 6), BIDIRECTIONAL, F.freeze(F.serial(BIDIRECTIONAL, F.dense(4)))),
        Tagger(),
        ["ids"],
    ),
    "convolutional network": (
        F.serial(
            *(F.conv2d(6, 3, padding=1, bias=False), F.batch_norm(), F.relu(), F.max_pool2d(2)),
            F.serial(F.conv2d(6, 3, padding=1, bias=False), F.batch_norm(), F.relu()),
            *(F.flatten(), F.dense(5)),
        ),
        nn.Sequential(*CNN),
        [IMAGES],
    ),
    "twelve equal layers": (
        F.serial(*[F.residual(F.dense(6), F.tanh())] * 12),
        nn.Sequential(*[nn.Linear(6, 6) for _ in range(12)]),
        None,
    ),
    "transformer": (
        F.graph(
            "ids",
            {
                "words": (F.embedding(10, 6), "ids"),
                "blocks": (F.stack(*[F.transformer_encoder_block(2, 11)] * 12), "words"),
                "norm": (F.layer_norm(), "blocks"),
                "scores": (F.dense(6), "norm"),
            },
            "scores",
        ),
        Encoder(),
        ["ids"],
    ),
}


CASES = LAYERS | MODELS


def example(shapes):
    """Return the shape of an example and a batch, for one input or several."""
    if shapes == ["ids"]:
        return (7,), random.generator(2).integers(0, 10, (BATCH, 7))
    shape = tuple(shapes) if len(shapes) > 1 else shapes[0]
    batches = tuple(normal(BATCH, *each, seed=i) for i, each in enumerate(shapes))
    return shape, batches if len(shapes) > 1 else batches[0]


def test_shared_parameters_are_one_module():
    model = F.graph(
        "ids",
        {
            "words": (F.embedding(10, 6), "ids"),
            "norm": (F.layer_norm(), "words"),
            "scores": (F.unembedding(10), "norm", "words"),
        },
        "scores",
    )
    words, norm = drawn(nn.Embedding(10, 6)), drawn(nn.LayerNorm(6))
    weights = {"wte.weight": words.weight, "ln.weight": norm.weight, "ln.bias": norm.bias}
    weights = {name: array.detach().numpy() for name, array in weights.items()}
    params = from_torch(weights, model, model.init(0, (7,)))
    ids = random.generator(2).integers(0, 10, (BATCH, 7))
    expected = norm(words(torch.tensor(ids))) @ words.weight.T
    np.testing.assert_allclose(model(params, ids), expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_agree_with_pytorch(case, way, tmp_path):
    model, module, shapes = case
    module = drawn(module)
    shape, x = example(shapes or [(6,)])
    like = model.init(0, shape)
    params = from_torch(stored(module, way, tmp_path), model, like)
    assert tree.paths(params) == tree.paths(like)
    if shapes is None:  # a residual for each layer
        expected = torch.tensor(x)
        for layer in module:
            expected = expected + torch.tanh(layer(expected))
    else:
        expected = module(*map(torch.tensor, x if isinstance(x, tuple) else (x,)))
    assert_agreement(model(params, x), expected)


# A layer that read no biases writes zeros.
EQUAL = {
    name: case for name, case in CASES.items() if name not in ("lstm, no bias", "gru, no bias")
}


@pytest.mark.parametrize("case", EQUAL.values(), ids=EQUAL)
def test_written_weights_are_loaded_strictly_and_agree(case):
    model, module, shapes = case
    shape, x = example(shapes or [(6,)])
    params = from_torch(drawn(module).state_dict(), model, model.init(0, shape))
    arrays = to_torch(params, model)
    again = from_torch(arrays, model, params)
    assert tree.paths(again) == tree.paths(params)
    assert tree.all_close(again, params, rtol=0, atol=0)
    named = dict(zip(module.state_dict(), map(torch.from_numpy, arrays.values()), strict=True))
    module.load_state_dict(named, strict=True)
    if shapes is not None:
        expected = module(*map(torch.tensor, x if isinstance(x, tuple) else (x,)))
        assert_agreement(model(params, x), expected)


def test_other_libraries_read_saved_files(tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    path = tmp_path / "run.safetensors"
    params = F.serial(F.dense(3), F.batch_norm(), F.lstm(2)).init(0, (7, 5))
    saved = {"params": params, "step": 3, "mask": np.array([True, False]), "ids": np.arange(4)}
    checkpoint.save(path, saved)
    found = load_file(path)
    arrays = {key: leaf for key, leaf in tree.items(saved) if isinstance(leaf, np.ndarray)}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert str(found[name].dtype) == f"torch.{array.dtype}"
        np.testing.assert_array_equal(found[name].numpy(), array)
    flax = pytest.importorskip("safetensors.flax") if importlib.util.find_spec("jax") else None
    if flax is not None:
        for name, array in flax.load_file(path).items():
            np.testing.assert_array_equal(np.asarray(array), arrays[name])


def test_running_statistics_are_loaded_and_updated():
    model, module = F.batch_norm(), drawn(nn.BatchNorm1d(6)).train()
    params = from_torch(module.state_dict(), model, model.init(0, (6,)))
    x = normal(BATCH, 6)
    y, cache = model.apply(params, x, train=True)
    assert_agreement(y, module(torch.tensor(x)))
    params = model.update_stats(params, cache)
    assert_agreement(params["mean"], module.running_mean)
    assert_agreement(params["variance"], module.running_var)


def test_arrays_are_cast_to_the_type_of_like_without_loss():
    model, module = F.dense(5), drawn(nn.Linear(6, 5))
    like = model.init(0, (6,))
    for half in (module.half().state_dict(), module.float().state_dict()):
        for dtype in (np.float32, np.float64):
            params = from_torch(half, model, tree.astype(like, dtype))
            assert params["weight"].dtype == dtype
            np.testing.assert_array_equal(params["weight"], half["weight"].numpy().T)
    with pytest.raises(CheckpointError, match=r"weight is float64, but weight of .* is float32"):
        from_torch(module.double().state_dict(), model, like)


def test_loaded_arrays_are_new_and_sources_unchanged():
    module, model = drawn(nn.LSTM(3, 4)), F.lstm(4)
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    before = {name: array.copy() for name, array in weights.items()}
    read_only(weights)
    like = read_only(tree.map(lambda leaf: leaf + 0, model.init(0, (None, 3))))
    params = from_torch(weights, model, like)
    for leaf in tree.leaves(params):
        assert leaf.flags.writeable
        assert leaf.flags.owndata
        leaf[...] = 7
    assert all(np.array_equal(weights[name], before[name]) for name in weights)


def arrays(**shapes):
    return {name.replace("__", "."): np.ones(shape, "f4") for name, shape in shapes.items()}


TWO = F.serial(F.dense(4), F.relu(), F.dense(4, bias=False))  # of 4 features
FULL = arrays(a__weight=(4, 4), a__bias=(4,), b__weight=(4, 4))


# Changes of FULL, and the lines of the error in addition to "nothing was loaded".
FAULTS = {
    "missing": ({"a.bias": None}, ["missing: a.bias, [4], for 0/bias of dense(units=4)"]),
    "unexpected": ({"c.weight": (2, 3)}, ["unexpected: c.weight, float32[2, 3]"]),
    "of another shape": (
        {"a.weight": (4, 5)},
        ["of another shape: a.weight is [4, 5], but 0/weight of dense(units=4) needs [4, 4]"],
    ),
    "several": (
        {"a.bias": (1,), "b.weight": None, "c.table": (3,)},
        [
            "missing: weight, [4, 4], for 2/weight of dense(units=4, bias=False)",
            "unexpected: c.table, float32[3]",
            "of another shape: a.bias is [1], but 0/bias of dense(units=4) needs [4]",
        ],
    ),
    "empty": (dict.fromkeys(FULL), ["missing: weight, [4, 4], for 0/weight", "for 2/weight"]),
}


@pytest.mark.parametrize("way", ["mapping", "npz"])
@pytest.mark.parametrize(("changes", "lines"), FAULTS.values(), ids=FAULTS)
def test_all_mismatches_are_listed_with_both_names(changes, lines, way, tmp_path):
    shapes = {name: array.shape for name, array in FULL.items()} | changes
    source = {name: np.ones(shape, "f4") for name, shape in shapes.items() if shape is not None}
    if way == "npz":
        np.savez(tmp_path / "w.npz", **source)
        source = tmp_path / "w.npz"
    with pytest.raises(CheckpointError) as caught:
        from_torch(source, TWO, TWO.init(0, (4,)))
    title = str(source) if way == "npz" else "the mapping"
    first, *found = str(caught.value).split("\n")
    assert first == f"{title} does not fit the model; nothing was loaded:"
    assert "names=" in found[-1]
    assert len(found) - 1 == len(lines) or changes == dict.fromkeys(FULL)
    for line in lines:
        assert any(line in each for each in found)


def test_missing_arrays_of_a_recurrent_layer_are_named():
    model, weights = F.lstm(4), nn.LSTM(3, 4).state_dict()
    del weights["bias_hh_l0"]
    with pytest.raises(CheckpointError, match=r"missing: l0\.bias_hh, \[16\], for bias of lstm"):
        from_torch(weights, model, model.init(0, (None, 3)))


def test_order_or_numbers_in_names_distinguish_equal_layers():
    model = F.serial(*[F.dense(2, bias=False)] * 3)
    like = model.init(0, (2,))

    def order(*names):
        source = {f"{name}.weight": np.full((2, 2), i, "f4") for i, name in enumerate(names)}
        params = from_torch(source, model, like)
        return [names[int(part["weight"][0, 0])] for part in params]

    assert order("10", "2", "0") == ["10", "2", "0"]
    assert order("0", "10", "2") == ["0", "2", "10"]
    assert order("fc.10", "fc.11", "fc.9") == ["fc.9", "fc.10", "fc.11"]
    assert order("block", "block_1", "block_10") == ["block", "block_1", "block_10"]
    assert order("v1_10.a", "v1_9.a", "v2_1.a") == ["v1_9.a", "v1_10.a", "v2_1.a"]
    for names in [("a", "b", "c"), ("fc1.b", "fc1.c", "fc2.a"), ("a.0", "b.0", "b.1")]:
        with pytest.raises(
            CheckpointError, match=r"do not determine their order.*names=\{'0': '.*', '2': '"
        ):
            order(*names)


def test_the_argument_names_assigns_modules_to_layers():
    model = F.graph(
        "x",
        {
            "query": (F.dense(2, bias=False), "x"),
            "tied": (F.serial(F.dense(2, bias=False)), "query"),
            "last": (F.dense(2, bias=False), "tied"),
        },
        "last",
    )
    like = model.init(0, (2,))
    source = {f"{name}.weight": np.full((2, 2), i, "f4") for i, name in enumerate("abc")}
    params = from_torch(source, model, like, names={"query": "c", "tied/0": "a", "last": "b"})
    found = [params["query"], params["tied"][0], params["last"]]
    assert [part["weight"][0, 0] for part in found] == [2, 0, 1]
    # With one name, the other layers are still ambiguous; with two names, they are not.
    with pytest.raises(CheckpointError, match=r"a, c, for query = dense.*last = dense"):
        from_torch(source, model, like, names={"tied/0": "b"})
    params = from_torch(source, model, like, names={"tied/0": "b", "query": "c"})
    assert params["last"]["weight"][0, 0] == 0


def test_blocks_that_pytorch_lacks_are_matched_by_layers():
    block = F.transformer_encoder_block(
        *(4, 11), norm=F.rms_norm(epsilon=1e-5), activation=F.swiglu(), bias=False, kv_heads=2,
        causal=True,
    )  # fmt: skip
    model = F.stack(block, block)
    module = drawn(nn.ModuleDict({"layers": nn.ModuleList([Llama(8, 11), Llama(8, 11)])}))
    names = {}
    for i in range(2):
        ours, theirs = f"{i}", f"layers.{i}"
        names |= {
            ours: theirs,
            f"{ours}/attention_norm": f"{theirs}.input_layernorm",
            f"{ours}/feed_forward_norm": f"{theirs}.post_attention_layernorm",
            f"{ours}/feed_forward/0/weight": (
                f"{theirs}.mlp.up_proj.weight",
                f"{theirs}.mlp.gate_proj.weight",
            ),
        }
    x = normal(BATCH, 7, 8)
    params = from_torch(module.state_dict(), model, model.init(0, (7, 8)), names)
    expected = torch.tensor(x)
    for layer in module["layers"]:
        expected = layer(expected)
    assert_agreement(model(params, x), expected)


def test_a_model_without_parameters_accepts_an_empty_dict():
    assert from_torch(nn.ReLU().state_dict(), F.relu(), ()) == ()
    with pytest.raises(CheckpointError, match=r"unexpected: weight, float32\[5, 6\]"):
        from_torch(nn.Linear(6, 5).state_dict(), F.relu(), ())


def test_each_layer_of_a_recurrent_module_can_be_named():
    model = F.serial(*[F.rnn(4, return_sequence=True)] * 2)
    like, weights = model.init(0, (None, 4)), drawn(nn.RNN(4, 4, num_layers=2)).state_dict()
    swapped = from_torch(weights, model, like, names={"0": "l1", "1": "l0"})
    np.testing.assert_array_equal(swapped[0]["weight"], weights["weight_ih_l1"].numpy().T)
    np.testing.assert_array_equal(swapped[1]["weight"], weights["weight_ih_l0"].numpy().T)


@F.layer
def own():
    """A user's layer."""
    inner = F.serial(F.dense(4), F.relu())
    return F.Layer(inner.init, inner.apply, inner.backward, inner.out_shape)


@F.layer
def own_recurrent(reverse=False):
    """A user's recurrent layer."""
    inner = F.lstm(4, reverse=reverse)
    return F.Layer(inner.init, inner.apply, inner.backward, inner.out_shape)


LIKE = TWO.init(0, (4,))
WEIGHTS = {"weight": np.ones((4, 4), "f4"), "bias": np.ones(4, "f4")}
BAD = {
    "no names": (lambda: from_torch({1: np.ones(3)}, TWO, LIKE), TypeError, "1 is not a string"),
    "no path": (lambda: from_torch(nn.Linear(4, 4), TWO, LIKE), TypeError, "mapping of names to"),
    "a suffix of pickles": (lambda: from_torch("w.pt", TWO, LIKE), ValueError, "unknown suffix"),
    "no model": (lambda: from_torch(FULL, LIKE, LIKE), TypeError, "expected the model as a layer"),
    "nested": (
        lambda: from_torch({"state_dict": FULL}, TWO, LIKE),
        TypeError,
        "'state_dict' is a dict",
    ),
    "params of another model": (
        lambda: from_torch(FULL, TWO, LIKE[:2]),
        ValueError,
        r"the root is serial\(…\), with a tuple of 3, not a tuple of 2",
    ),
    "params of another layer": (
        lambda: from_torch(WEIGHTS, F.dense(4), F.batch_norm().init(0, (4,))),
        ValueError,
        "whose layer has no count",
    ),
    "params that are no dict": (
        lambda: from_torch(WEIGHTS, F.dense(4), (np.ones(4, "f4"),)),
        ValueError,
        r"dense\(…\), with a dict, not a tuple of 1",
    ),
    "a layer of one's own": (
        lambda: from_torch(FULL, F.serial(own()), F.serial(own()).init(0, (4,))),
        ValueError,
        r"0 = own\(\) has parameters without names in PyTorch",
    ),
    "a layer of one's own in both directions": (
        lambda: from_torch(
            FULL,
            F.bidirectional(own_recurrent()),
            F.bidirectional(own_recurrent()).init(0, (None, 4)),
        ),
        ValueError,
        r"own_recurrent\(\) has no counterpart",
    ),
    "the other reset": (
        lambda: from_torch(
            nn.GRU(4, 4).state_dict(),
            F.gru(4, reset_after=False),
            F.gru(4, reset_after=False).init(0, (None, 4)),
        ),
        ValueError,
        "build the layer with reset_after=True",
    ),
    "names of no layer": (
        lambda: from_torch(FULL, TWO, LIKE, names={"1": "a"}),
        ValueError,
        r"names: '1' is not the path of a layer with parameters; these are '0', '2'",
    ),
    "names of no module": (
        lambda: from_torch(FULL, TWO, LIKE, names={"0": "d"}),
        ValueError,
        r"names: the mapping has no module 'd'; it has .*'a', .*'b'",
    ),
    "names of another module": (
        lambda: from_torch(FULL, TWO, LIKE, names={"0": "b"}),
        CheckpointError,
        r"missing: b\.bias, \[4\], for 0/bias",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_files_of_npdl_and_damaged_files_differ(tmp_path):
    path = tmp_path / "w.npz"
    checkpoint.save(path, LIKE)
    with pytest.raises(CheckpointError, match=r"was written by npdl\.checkpoint\.save"):
        from_torch(path, TWO, LIKE)
    np.savez(path, **FULL)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match="is damaged"):
        from_torch(path, TWO, LIKE)
    np.savez(path, **FULL | {"a.bias": np.array([None] * 4)})
    with pytest.raises(CheckpointError, match=r"another type: a\.bias is object, but 0/bias"):
        from_torch(path, TWO, LIKE)
    with pytest.raises(FileNotFoundError):
        from_torch(tmp_path / "none.npz", TWO, LIKE)


WRONG = {
    "a module": ({"0": "head"}, ValueError, "has no module 'head'; it has"),
    "a path": ({"7": "a"}, ValueError, "names: '7' is not the path of a layer"),
    "a part of a path": ({"0/": "a"}, ValueError, "names: '0/' is not the path of a layer"),
}


@pytest.mark.parametrize(("names", "error", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_wrong_names_raise_equally_for_files_and_mappings(names, error, message, suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **FULL)
    else:
        pytest.importorskip("safetensors.numpy").save_file(FULL, path)
    for source in (FULL, path):
        with pytest.raises(error, match=message) as caught:
            from_torch(source, TWO, LIKE, names=names)
        assert not isinstance(caught.value, CheckpointError)


def test_an_invalid_model_is_not_reported_as_file_damage(tmp_path):
    np.savez(tmp_path / "w.npz", **FULL)
    with pytest.raises(TypeError, match="expected the model as a layer"):
        from_torch(tmp_path / "w.npz", None, LIKE)
    for error in (KeyError("mine"), OSError(24, "Too many open files")):
        with pytest.raises(type(error)), opened(tmp_path / "w.npz"):
            raise error


def test_deeply_nested_names_take_no_memory(tmp_path):
    np.savez(tmp_path / "w.npz", **{"a." * 20_000 + "weight": np.ones(2)})
    with pytest.raises(CheckpointError, match="20001 parts; the limits are 500 and 32"):
        from_torch(tmp_path / "w.npz", TWO, LIKE)


def test_a_file_that_does_not_fit_takes_no_memory(tmp_path):
    path, shape = tmp_path / "w.npz", (1 << 40,)
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        with archive.open("weight.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(CheckpointError, match=rf"weight is \[{shape[0]}\], but"):
        from_torch(path, F.dense(4), F.dense(4).init(0, (4,)))


def test_examples_of_the_documentation_run(tmp_path, monkeypatch):
    path = Path(__file__).parents[3] / "docs" / "weights.md"
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        exec(example, names)
    assert names["params"][0]["weight"].shape == (4, 4)
