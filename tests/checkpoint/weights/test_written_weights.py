"""Written weights have the names of PyTorch's modules, and compute the same."""

import numpy as np
import pytest
from arrays import normal, read_only

import npdl.functional as F
from npdl import tree
from npdl.checkpoint import to_torch

torch = pytest.importorskip("torch")
nn = torch.nn

S = {"return_sequence": True}
BLOCK = {"batch_first": True, "dropout": 0.0, "dim_feedforward": 11}
ENCODER = nn.TransformerEncoder(
    nn.TransformerEncoderLayer(6, 2, norm_first=True, **BLOCK),
    3,
    nn.LayerNorm(6),
    enable_nested_tensor=False,
)
# Layer of npdl, the shape of an example, `names`, and the module of PyTorch.
NAMED = {
    "a layer": (F.dense(5), (6,), None, nn.Linear(6, 5)),
    "a layer in a module": (F.dense(5), (6,), {"": "fc"}, nn.ModuleDict({"fc": nn.Linear(6, 5)})),
    "sequential": (
        F.serial(
            F.conv2d(5, 3, bias=False),
            F.batch_norm(),
            F.serial(F.relu(), F.conv2d(4, 1)),
            F.flatten(),
            F.dense(3),
        ),
        (2, 4, 5),
        None,
        nn.Sequential(
            nn.Conv2d(2, 5, 3, bias=False),
            nn.BatchNorm2d(5),
            nn.Sequential(nn.ReLU(), nn.Conv2d(5, 4, 1)),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
    ),
    "graph": (
        F.graph("x", {"hidden": (F.dense(5), "x"), "out": (F.dense(3), "hidden")}, "out"),
        (6,),
        None,
        nn.ModuleDict({"hidden": nn.Linear(6, 5), "out": nn.Linear(5, 3)}),
    ),
    "recurrent": (F.lstm(4), (7, 6), None, nn.LSTM(6, 4)),
    "recurrent, second": (
        F.serial(F.dense(6), F.bidirectional(F.gru(4))),
        (7, 6),
        None,
        nn.Sequential(nn.Linear(6, 6), nn.GRU(6, 4, bidirectional=True)),
    ),
    "layers of one recurrent module": (
        F.serial(F.embedding(9, 6), F.bidirectional(F.lstm(5, **S)), F.bidirectional(F.lstm(5))),
        (7,),
        {"0": "words", "1": "lstm.l0", "2": "lstm.l1"},
        nn.ModuleDict(
            {"words": nn.Embedding(9, 6), "lstm": nn.LSTM(6, 5, num_layers=2, bidirectional=True)}
        ),
    ),
    "cells": (
        F.graph("x", {"a": (F.rnn(4), "x"), "b": (F.one_step(F.gru(5)), "a")}, ("b", "a")),
        (7, 6),
        {"b": "cell"},
        nn.ModuleDict({"a": nn.RNN(6, 4), "cell": nn.GRUCell(4, 5)}),
    ),
    "transformer": (
        F.graph(
            "x",
            {
                "blocks": (F.stack(*[F.transformer_encoder_block(2, 11)] * 3), "x"),
                "norm": (F.layer_norm(), "blocks"),
            },
            "norm",
        ),
        (7, 6),
        {"blocks": "encoder.layers", "norm": "encoder.norm"},
        nn.ModuleDict({"encoder": ENCODER}),
    ),
    "attention": (
        F.multi_head_attention(2, bias=False),
        (7, 6),
        None,
        nn.MultiheadAttention(6, 2, bias=False),
    ),
}


def loaded(module, params, model, names=None):
    arrays = to_torch(params, model, names)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    module.load_state_dict(tensors, strict=True)
    return module.eval()


@pytest.mark.parametrize("case", NAMED.values(), ids=NAMED)
def test_written_weights_have_the_names_of_pytorch(case):
    model, shape, names, module = case
    loaded(module, model.init(0, shape), model, names)


NORMS = {
    "batch_norm, no scale": (F.batch_norm(scale=False), nn.BatchNorm1d(6)),
    "batch_norm, no shift": (F.batch_norm(shift=False), nn.BatchNorm1d(6)),
    "batch_norm, neither": (
        F.batch_norm(scale=False, shift=False),
        nn.BatchNorm1d(6, affine=False),
    ),
    "group_norm, no scale": (F.group_norm(2, scale=False), nn.GroupNorm(2, 6)),
    "group_norm, no shift": (F.group_norm(2, shift=False), nn.GroupNorm(2, 6)),
    "layer_norm, no scale": (F.layer_norm(scale=False), nn.LayerNorm(6)),
    "layer_norm, no shift": (F.layer_norm(shift=False), nn.LayerNorm(6, bias=False)),
}


@pytest.mark.parametrize(("model", "module"), NORMS.values(), ids=NORMS)
def test_norms_with_half_of_their_parameters_compute_the_same(model, module):
    x, params = normal(4, 6), model.init(0, (6,))
    params = model.update_stats(params, model.apply(params, x, train=True)[1])
    params = tree.map(lambda leaf: leaf + np.abs(normal(*leaf.shape, seed=5)), params)
    expected = loaded(module, params, model)(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(model(params, x), expected, rtol=0, atol=1e-5)


def test_the_number_of_batches_is_written():
    model, module = F.batch_norm(), nn.BatchNorm1d(6)
    params = model.init(0, (6,))
    assert loaded(module, params, model).num_batches_tracked == 0
    for _ in range(3):
        params = model.update_stats(params, model.apply(params, normal(4, 6), train=True)[1])
    assert loaded(module, params, model).num_batches_tracked.dtype == torch.int64
    assert module.num_batches_tracked >= 1


def test_the_table_of_an_embedding_has_zeros_for_padding():
    model, module = F.embedding(5, 3, padding_id=2), nn.Embedding(5, 3)
    params, ids = read_only({"table": normal(5, 3)}), np.array([[2, 1, 4], [0, 2, 3]])
    expected = loaded(module, params, model)(torch.tensor(ids)).detach().numpy()
    np.testing.assert_array_equal(model(params, ids), expected)


def test_written_arrays_are_new_and_of_the_type_of_params():
    model = F.serial(F.dense(4), F.batch_norm(axis=-1), F.lstm(3))
    params = read_only(tree.astype(model.init(0, (5, 2)), np.float64))
    for name, array in to_torch(params, model).items():
        assert array.dtype == (np.int64 if "num_batches" in name else np.float64), name
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert not any(np.shares_memory(array, leaf) for leaf in tree.leaves(params))


OWN = F.Layer(lambda rng, shape: {"a": np.ones(2)}, print, print)
WRONG = {
    "no layer": (lambda: to_torch((), None), TypeError, "expected the model as a layer, got None"),
    "a layer of a user": (lambda: to_torch({"a": np.ones(2)}, OWN), ValueError, "parts=F.parts"),
    "params of another layer": (
        lambda: to_torch(F.dense(3).init(0, (2,)), F.layer_norm()),
        ValueError,
        "the parameters do not belong to the model, whose layer has no",
    ),
    "params of another model": (
        lambda: to_torch((), F.serial(F.dense(3))),
        ValueError,
        r"the parameters do not belong to the model: the root is serial\(…\), with a tuple of 1",
    ),
    "several types": (
        lambda: to_torch({"weight": np.ones((2, 3)), "bias": np.ones(3, "f4")}, F.dense(3)),
        TypeError,
        "bias is float32, weight is float64",
    ),
    "one name for two layers": (
        lambda: to_torch(
            F.serial(F.dense(3), F.dense(3)).init(0, (3,)),
            F.serial(F.dense(3), F.dense(3)),
            {"0": "fc", "1": "fc"},
        ),
        ValueError,
        r"two different arrays have the name 'fc\.weight'",
    ),
    "the other reset": (
        lambda: to_torch(F.gru(3, reset_after=False).init(0, (4, 2)), F.gru(3, reset_after=False)),
        ValueError,
        "build the layer with reset_after=True",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused_with_the_reason(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
