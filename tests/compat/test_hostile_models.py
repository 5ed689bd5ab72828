"""Malicious configurations: one type of error with its cause, and no side effects."""

import copy
import json
import random

import numpy as np
import pytest
from checkpoint_files import forge, members
from npdl.utils.random import get_dtype, get_state

import npdl
import npdl.functional as F
from npdl import checkpoint
from npdl.checkpoint import CheckpointError


def contents():
    model = npdl.Model(
        [
            npdl.layers.Dense(n_out=4, n_in=3),
            npdl.layers.BatchNormal(),
            npdl.layers.Functional(F.serial(F.dense(3), F.residual(F.relu()))),
            npdl.layers.Softmax(n_out=2),
        ]
    )
    model.compile(loss="scce", optimizer=npdl.optimizers.Adam())
    return model._contents()


CONTENTS = contents()
CONFIG = json.loads(CONTENTS["config"])


def refused(path, **changes):
    """Return the error of loading a model file with changed values."""
    checkpoint.save(path, CONTENTS | changes)
    before = get_state(), get_dtype()
    with pytest.raises(CheckpointError) as caught:
        npdl.Model.load(path)
    assert (get_state(), get_dtype()) == before
    return caught.value


DEEP = 100_000
CONFIGS = {
    "not JSON": "{",
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep layers": '{"layers": [{"class": "layers.Dropout", "p": ' + "[" * 900 + "]" * 900 + "}]}",
    "not a dict": "[1]",
    "a number": "1",
    "no layers": "{}",
    "layers that are a dict": json.dumps(CONFIG | {"layers": {"a": 1}}),
    "layers that are strings": json.dumps(CONFIG | {"layers": ["Dense"]}),
    "layers without a loss": json.dumps({"layers": CONFIG["layers"]}),
    "an empty list of layers": json.dumps(CONFIG | {"layers": []}),
    "an unknown loss": json.dumps(CONFIG | {"loss": {"class": "objectives.Worse"}}),
    "a loss that is a list": json.dumps(CONFIG | {"loss": [1]}),
    "an optimizer that is a layer": json.dumps(CONFIG | {"optimizer": {"class": "layers.Dense"}}),
    "metrics that are numbers": json.dumps(CONFIG | {"metrics": [1]}),
    "a class that is a list": json.dumps(CONFIG | {"layers": [{"class": [1]}]}),
    "a surrogate in a string": json.dumps(CONFIG | {"layers": [{"class": "\ud83d"}]}),
    "a builtin as the loss": json.dumps(
        CONFIG | {"loss": {"class": "objectives.FunctionLoss", "function": "eval"}}
    ),
    "a layer as the loss": json.dumps(
        CONFIG | {"loss": {"class": "objectives.FunctionLoss", "function": "dense"}}
    ),
    "deep classes": '{"layers": ['
    + '{"class": "layers.Activation", "activation": ' * 900
    + "1"
    + "}" * 900
    + "]}",
    "endless units": '{"layers": [{"class": "layers.Dense", "n_out": 1e400, "n_in": 2}]}',
    "huge units": '{"layers": [{"class": "layers.Dense", "n_out": 1' + "0" * 300 + ', "n_in": 2}]}',
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_file_with_an_invalid_configuration_is_named(config, tmp_path):
    path = tmp_path / "model.npz"
    error = refused(path, config=config)
    assert str(path) in str(error)
    assert isinstance(error.__cause__, Exception)


@pytest.mark.parametrize("change", [{"version": 1}, {"version": 3}, {"format": "keras"}])
def test_a_model_of_an_unknown_format_is_refused(change, tmp_path):
    path = tmp_path / "model.npz"
    checkpoint.save(path, CONTENTS)
    pairs = members(path)
    header = json.loads(pairs["npdl.json"]) | change
    forge(path, (pairs | {"npdl.json": json.dumps(header)}).items())
    with pytest.raises(
        CheckpointError, match=r"this npdl reads version 2 of 'npdl\.checkpoint'; load"
    ):
        npdl.Model.load(path)


@pytest.mark.parametrize("dtype", ["float16", "(20000,10000)f8", "O", "S2000000000", "", "no"])
def test_a_file_with_an_invalid_dtype_is_refused(dtype, tmp_path):
    refused(tmp_path / "model.npz", dtype=dtype)


JUNK = [None, True, -1, 10**6, 10**30, 1.5, float("nan"), "x", "", [], [[]], {}, {"class": "x"}]
JUNK += [{"call": "dense"}, {"array": [1.0], "dtype": "O"}, {"items": [[1]]}]


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value, path, junk):
    value = copy.deepcopy(value)
    if not path:
        return junk
    inside = value
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = junk
    return value


def test_a_forged_configuration_loads_or_raises_checkpoint_error(tmp_path):
    path, drawn = tmp_path / "model.npz", random.Random(0)
    checkpoint.save(path, CONTENTS)
    refusals = 0
    for place in places(CONFIG):
        for junk in drawn.sample(JUNK, 3):
            config = json.dumps(changed(CONFIG, place, junk))
            checkpoint.save(path, CONTENTS | {"config": config})
            try:
                npdl.Model.load(path)
            except CheckpointError:
                refusals += 1
    assert refusals > 50


LAYER = F.serial(
    F.dense(3, bias=False),
    F.graph(("x",), {"a": (F.dense(3), "x"), "b": (F.add(), ("a", "x"))}, "b"),
    F.dense(2, weight_init=F.constant(0.5)),
).config()


def test_a_forged_layer_loads_or_raises_a_type_or_value_error():
    drawn = random.Random(1)
    refusals = 0
    for place in places(LAYER):
        for junk in drawn.sample(JUNK, 8):
            try:
                F.from_config(changed(LAYER, place, junk))
            except (TypeError, ValueError):
                refusals += 1
    assert refusals > 100


DTYPES = [
    "(20000,10000)f8",
    "S2000000000",
    "U9",
    "O",
    "M8",
    "m8[s]",
    "V",
    "V9",
    "f4,f4",
    "f4",
    "c8",
]


@pytest.mark.parametrize("dtype", [*DTYPES, [["a", "f4"]], {"names": ["a"]}, None, 7])
def test_an_array_argument_of_an_unsupported_type_is_refused(dtype):
    config = {"call": "keeping", "arguments": {"array": {"array": [1.0], "dtype": dtype}}}
    with pytest.raises(ValueError, match="has an array of the type"):
        F.from_config(config, [keeping])


@F.layer
def keeping(array=None):
    """A user's layer with an array argument."""
    return F.relu()


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|b1", "|u1", "<i8", ">u2"])
def test_an_array_argument_of_each_supported_type_is_restored(dtype):
    layer = keeping(np.array([[0, 1], [1, 1]], dtype))
    found = F.from_config(json.loads(json.dumps(layer.config())), [keeping])
    assert found == layer
    assert found.call.keywords["array"].dtype == np.dtype(dtype)


def nested(layer, depth):
    config = layer.config()
    for _ in range(depth):
        config = {"call": "residual", "positional": [config]}
    return config


def test_a_deep_configuration_does_not_raise_recursion_error():
    assert F.from_config(nested(F.relu(), 30)).out_shape((3,)) == (3,)
    with pytest.raises(ValueError, match="nested too deep"):
        F.from_config(nested(F.relu(), 3000))


def in_itself():
    config = {"layers": []}
    config["layers"].append(config)
    return config


@pytest.mark.parametrize("depth", [400, 5000, 100_000])
def test_deep_json_raises_a_value_error(depth):
    lists, dicts = "[" * depth + "]" * depth, '{"a": ' * depth + "1" + "}" * depth
    classes = '{"class": "layers.Activation", "activation": ' * depth + "1" + "}" * depth
    for inner in (lists, dicts, classes):
        for make in (npdl.Model.from_json, npdl.layers.Layer.from_json):
            # Python 3.12 and later can parse 400 levels.
            with pytest.raises(ValueError, match=r"from_json|expected an instance"):
                make('{"layers": [{"class": "layers.Dropout", "p": ' + inner + "}]}")
            with pytest.raises(ValueError, match=r"from_json|expected an instance"):
                make(inner)
    with pytest.raises(ValueError, match=r"from_json"):
        npdl.Model.from_json(in_itself())


NO_COUNTS = [-1, -(2**63), 2**63, 2**70, 10**300]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("iterations", count) for count in NO_COUNTS),
        *(("lr", rate) for rate in (-1.0, float("nan"), float("inf"))),
        *(("count", count) for count in NO_COUNTS),
    ],
)
def test_the_state_of_an_optimizer_is_checked_before_it_is_set(field, value, tmp_path):
    state = copy.deepcopy(CONTENTS["optimizer"])
    if field == "count":
        state["slots"] = tuple(
            part._replace(count=value) if "count" in getattr(part, "_fields", ()) else part
            for part in state["slots"]
        )
    else:
        state[field] = value
    refused(tmp_path / "model.npz", optimizer=state)
    optimizer = npdl.optimizers.Adam()
    before = optimizer.get_state()
    with pytest.raises(ValueError, match="Adam"):
        optimizer.set_state(state)
    assert optimizer.get_state() == before


def kinds():
    layers = npdl.layers
    yield [layers.Embedding(input_size=50, n_out=8, nb_seq=5, static=False), layers.LSTM(n_out=6)]
    yield [layers.Embedding(input_size=500, n_out=8, nb_seq=5), layers.GRU(n_out=6)]
    yield [layers.BatchLSTM(n_out=6, n_in=3, nb_seq=5), layers.Flatten(), layers.Softmax(n_out=2)]
    yield [layers.Functional(F.bidirectional(F.gru(4)), input_shape=(5, 3))]
    yield [layers.Functional(F.transformer_encoder_block(2, 8), input_shape=(5, 4))]
    yield [layers.Dense(n_out=300, n_in=200, init="orthogonal"), layers.BatchNormal()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loading_takes_memory_proportional_to_the_model(dtype, tmp_path):
    npdl.utils.set_dtype(dtype)
    try:
        for made in kinds():
            model = npdl.Model(made)
            model.compile(loss="mse", optimizer="adam")
            model.save(tmp_path / "model.npz")
            found = npdl.Model.load(tmp_path / "model.npz")
            assert all(map(np.array_equal, found.get_weights(), model.get_weights()))
    finally:
        npdl.utils.set_dtype("float32")
