"""Weights of PyTorch's layers, in npdl's: the outputs agree, whatever file they come in."""

import importlib.util
from collections import OrderedDict

import numpy as np
import pytest

import npdl.functional as F
from npdl import checkpoint, random, tree
from npdl.checkpoint import CheckpointError, from_torch

torch = pytest.importorskip("torch")
nn = torch.nn

needs_safetensors = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="safetensors is not installed"
)
WAYS = ["state_dict", "npz", pytest.param("safetensors", marks=needs_safetensors)]
BATCH = 3


def normal(*shape, seed=1):
    return random.generator(seed).normal(size=shape).astype(np.float32)


def drawn(module, seed=0):
    """The module with all weights random, scales and statistics too; in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.state_dict().items():
        if weight.is_floating_point():
            weight.normal_(0, 0.4, generator=generator)
            if name.endswith("running_var"):
                weight.abs_().add_(0.5)
    return module.eval()


def stored(module, way, directory):
    """The weights in one of the ways in which they may be given."""
    weights = module.state_dict()
    if way == "state_dict":
        return weights
    path = directory / f"weights.{way}"
    if way == "npz":
        np.savez(path, **weights)
    else:
        from safetensors.torch import save_file

        save_file(weights, path)
    return path


def assert_agreement(found, expected):
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    bound = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


class First(nn.Module):
    """The first output of a module, as of an LSTM, which returns its states too."""

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


IMAGES, SEQUENCES, CONTEXT = (4, 9, 8), (7, 6), (5, 10)
SEQUENCE = {"return_sequence": True}
BLOCK = {"batch_first": True, "dropout": 0.0, "dim_feedforward": 11}
# npdl's layer, PyTorch's, and the shapes of its inputs.
LAYERS = {
    "dense": (F.dense(5), nn.Linear(6, 5), [(6,)]),
    "square dense": (F.dense(6), nn.Linear(6, 6), [SEQUENCES]),
    "dense, no bias": (F.dense(5, bias=False), nn.Linear(6, 5, bias=False), [(6,)]),
    "conv2d": (F.conv2d(6, (3, 2), stride=2, groups=2), nn.Conv2d(4, 6, (3, 2), 2, groups=2), [IMAGES]),
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


def example(shapes):
    """The shape of an example, and a batch, of one input or of several."""
    if shapes == ["ids"]:
        return (7,), random.generator(2).integers(0, 10, (BATCH, 7))
    shape = tuple(shapes) if len(shapes) > 1 else shapes[0]
    batches = tuple(normal(BATCH, *each, seed=i) for i, each in enumerate(shapes))
    return shape, batches if len(shapes) > 1 else batches[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", [LAYERS | MODELS][0].values(), ids=(LAYERS | MODELS).keys())
def test_outputs_agree(case, way, tmp_path):
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
