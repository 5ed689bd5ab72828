"""Errors of layers, inputs that are accepted on purpose, and the documented signatures."""

import inspect
import json

import numpy as np
import pytest
from arrays import normal64
from compat_layers import BATCH, N_IN, N_OUT, TIME, after

import npdl
import npdl.functional as F
from npdl import layers
from npdl.compat.layers import (
    GRU,
    LSTM,
    BatchLSTM,
    BatchNormal,
    Convolution,
    Dense,
    DimShuffle,
    Dropout,
    Embedding,
    Flatten,
    Functional,
    Linear,
    MaxPooling,
    MeanPooling,
    Recurrent,
    SimpleRNN,
    Softmax,
)


def connected(layer, *shape):
    layer.connect_to(after(*shape))
    return layer


def forward(layer, *shape, x=None):
    connected(layer, *shape)
    return layer.forward(normal64(BATCH, *shape) if x is None else x)


def dense():
    layer = connected(Dense(N_OUT), N_IN)
    layer.forward(normal64(BATCH, N_IN))
    return layer


TABLE = normal64(6, 4)

BAD = {
    "no units": (lambda: Dense(0), "Dense: n_out must be a positive int"),
    "units that are not an int": (lambda: Linear(2.5), "Linear: n_out must be a positive int"),
    "units as a shape": (lambda: Linear((3, 4)), "as in Linear(n_out=32), got (3, 4)"),
    "no features": (lambda: Softmax(3, n_in=0), "Softmax: n_in must be a positive int"),
    "an unknown activation": (lambda: Dense(2, activation="rellu"), "relu, sigmoid"),
    "an activation's class": (lambda: Dense(2, activation=npdl.activations.ReLU), "ReLU()"),
    "an unknown initializer": (lambda: Dense(2, init="glorot"), "glorot_uniform"),
    "a first layer without n_in": (lambda: Dense(2).connect_to(), "Dense(n_out=10, n_in=64)"),
    "a first layer of images": (
        lambda: Convolution(2, (2, 2)).connect_to(),
        "Convolution(8, (3, 3), input_shape=(3, 128, 128))",
    ),
    "a first layer of sequences": (lambda: LSTM(n_out=2).connect_to(), "LSTM(n_out=32, n_in=64)"),
    "a first norm": (lambda: BatchNormal().connect_to(), "BatchNormal(input_shape=(64,))"),
    "a first functional layer": (
        lambda: Functional(F.relu()).connect_to(),
        "Functional(layer, input_shape=(8,))",
    ),
    "a first dropout": (lambda: Dropout(0.5).connect_to(), "there is no layer before it"),
    "an unconnected layer before": (
        lambda: Dense(2).connect_to(LSTM(n_out=2)),
        "LSTM has no out_shape; connect it first",
    ),
    "a tuple as the layer before": (lambda: Flatten().connect_to((3, 4)), "has no out_shape"),
    "an unknown size": (lambda: connected(Dense(2), None), "nb_seq=20"),
    "an unknown image size": (
        lambda: connected(MeanPooling((5, 1)), None, N_IN),
        "MeanPooling: ",
    ),
    "forward before connect_to": (lambda: Dense(2).forward([1]), "Dense.forward: call connect_to"),
    "weights before connect_to": (
        lambda: setattr(Dense(2), "W", normal64(N_IN, 2)),
        "Dense has no W yet; call connect_to",
    ),
    "backward before forward": (
        lambda: connected(Dense(2), N_IN).backward([1]),
        "Dense.backward: call forward",
    ),
    "another number of features": (
        lambda: forward(Dense(2), N_IN, x=normal64(BATCH, 9)),
        "these params take 3 features",
    ),
    "a gradient that would be broadcast": (
        lambda: dense().backward(np.ones((BATCH, 1))),
        "Dense.backward: expected a gradient of the shape (4, 2), got one of the shape (4, 1)",
    ),
    "no gradient": (lambda: dense().backward(None), "got one of the shape ()"),
    "a dropped fraction of 1": (lambda: Dropout(1.0), "p is the dropped fraction"),
    "a negative fraction": (lambda: Dropout(-0.1), "from 0 to below 1"),
    "a filter of three sizes": (lambda: Convolution(2, (2, 2, 2)), "filter_size must be"),
    "no filters": (lambda: Convolution(0, (2, 2)), "nb_filter must be a positive int"),
    "no stride": (lambda: Convolution(2, (2, 2), stride=0), "stride must be a positive int"),
    "an image of two sizes": (
        lambda: Convolution(2, (2, 2), input_shape=(28, 28)),
        "input_shape is (channels, rows, columns)",
    ),
    "an image with a batch": (
        lambda: Convolution(2, (2, 2), input_shape=(32, 1, 28, 28, 1)),
        "input_shape is (channels, rows, columns)",
    ),
    "a filter larger than the image": (
        lambda: connected(Convolution(2, (9, 9)), 1, 8, 8),
        "larger than",
    ),
    "an image without channels": (lambda: connected(Convolution(2, (2, 2)), 8, 8), "conv2d"),
    "one size of a pool": (lambda: MaxPooling((2, 2, 2)), "pool_size must be a pair of ints"),
    "an empty pool": (lambda: MeanPooling((2, 0)), "pool_size must be a positive int"),
    "a block size that does not divide": (
        lambda: connected(MeanPooling((2, 3)), 3, 4, 8),
        "MeanPooling: blocks of 2×3 do not fill 4×8",
    ),
    "a sequence that it does not divide": (
        lambda: forward(MaxPooling((TIME, 1)), TIME, N_IN, x=normal64(BATCH, TIME + 1, N_IN)),
        "MaxPooling: blocks of 5×1 do not fill 6×3",
    ),
    "pooling of features": (lambda: connected(MaxPooling((2, 2)), 8), "3 or 4 axes"),
    "neither a table nor sizes": (
        lambda: Embedding(n_out=4),
        "Embedding(input_size=5000, n_out=64), got input_size=None and n_out=4",
    ),
    "a table with one axis": (lambda: Embedding(np.ones(5)), "embed_words must be a table"),
    "a table of another size": (
        lambda: Embedding(TABLE, input_size=7),
        "input_size=7, but embed_words is (6, 4)",
    ),
    "ids of one axis": (lambda: Embedding(TABLE).forward([1, 2]), "expected ids (batch, time)"),
    "ids that are not ints": (lambda: Embedding(TABLE).forward([[1.5]]), "that are not ints"),
    "ids that are not finite": (lambda: Embedding(TABLE).forward([[np.inf]]), "that are not ints"),
    "a negative id": (lambda: Embedding(TABLE).forward([[-1]]), "the id -1"),
    "an id too large": (lambda: Embedding(TABLE).forward([[0.0, 6.0]]), "the id 6"),
    "a layer of vectors before": (
        lambda: connected(Embedding(TABLE), TIME, N_IN),
        "expected (batch, time), but",
    ),
    "a momentum of one": (lambda: BatchNormal(momentum=1), "a decay factor from 0"),
    "no epsilon": (lambda: BatchNormal(epsilon=0), "epsilon must be a number above 0"),
    "an axis from the end": (lambda: BatchNormal(axis=-1), "axis must be an int from 0"),
    "a missing axis": (
        lambda: connected(BatchNormal(axis=2), N_IN),
        "a known size of axis 2",
    ),
    "a single example": (
        lambda: forward(BatchNormal(), N_IN, x=normal64(1, N_IN)),
        "whose variance is undefined",
    ),
    "examples of another shape": (
        lambda: forward(BatchNormal(), 3, 4, x=normal64(BATCH, 4, 3)),
        "expected examples of the shape (3, 4)",
    ),
    "an unknown argument": (
        lambda: LSTM(n_out=2, unit=3),
        "LSTM: unknown argument 'unit'; the arguments are gate_activation, need_grad, "
        "forget_bias_num, n_out, n_in, nb_batch, nb_seq, init, inner_init, activation, "
        "return_sequence (did you mean 'units'?)",
    ),
    "an argument of gates for a plain layer": (
        lambda: SimpleRNN(n_out=2, gate_activation="tanh"),
        "SimpleRNN: unknown argument 'gate_activation'; the arguments are n_out",
    ),
    "a missing number of units": (lambda: GRU(n_in=2), "GRU: n_out is missing"),
    "a batch of size zero": (lambda: Recurrent(2, nb_batch=0), "nb_batch must be a positive int"),
    "a string as forget bias": (lambda: LSTM(n_out=2, forget_bias_num="one"), "must be a number"),
    "features for a recurrent layer": (
        lambda: connected(SimpleRNN(n_out=2), N_IN),
        "SimpleRNN: expected (batch, time, features)",
    ),
    "a softmax activation": (
        lambda: connected(SimpleRNN(n_out=2, activation="softmax"), TIME, N_IN),
        "must work element by element",
    ),
    "a mask of weights": (
        lambda: connected(LSTM(n_out=2), 1, N_IN).forward(normal64(1, 1, N_IN), [[0.5]]),
        "the mask must be 1 (true)",
    ),
    "a mask of another shape": (
        lambda: connected(GRU(n_out=2), 2, N_IN).forward(normal64(1, 2, N_IN), [[1]]),
        "the mask must be bool[1, 2]",
    ),
    "a state of another shape": (
        lambda: connected(LSTM(n_out=2), 2, N_IN).forward(normal64(1, 2, N_IN), c0=normal64(1, 3)),
        "(batch, units)",
    ),
    "a gradient of a state of another shape": (
        lambda: _lstm().backward(None, dcn=normal64(BATCH, 3)),
        "expected a gradient of the shape (4, 2)",
    ),
    "weights of another shape": (
        lambda: setattr(dense(), "W", np.ones((N_OUT, N_IN))),
        "Dense.W has the shape (3, 2), got an array of (2, 3)",
    ),
    "no axis for the batch": (lambda: Flatten(1), "includes the batch axis"),
    "no axes": (lambda: Flatten(0), "outdim must be a positive int"),
    "more axes than the input": (lambda: connected(Flatten(4), 3), "flatten: 3 leading axes stay"),
    "an axis before the batch": (lambda: DimShuffle(0), "axis must be a positive int"),
    "an axis counted from the end": (lambda: DimShuffle(-1), "axis must be a positive int"),
    "a stateful layer": (lambda: Functional(Dense(2)), "as in Functional(F.relu())"),
    "the configuration of an unknown class": (
        lambda: layers.Layer.from_json({"class": "layers.Dens"}),
        "layers.Dense, ",
    ),
    "a configuration with unknown keys": (
        lambda: layers.Layer.from_json({"class": "layers.Dense", "units": 3}),
        "the arguments are: n_out, n_in, init, activation",
    ),
    "a configuration of a recurrent layer": (
        lambda: layers.Layer.from_json({"class": "layers.GRU", "n_out": 2, "units": 3}),
        "GRU: unknown argument 'units'",
    ),
}


def _lstm():
    layer = connected(LSTM(n_out=N_OUT), TIME, N_IN)
    layer.forward(normal64(BATCH, TIME, N_IN))
    return layer


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError, RuntimeError, AttributeError)) as caught:
        call()
    assert message in str(caught.value)


def test_an_error_in_a_layer_names_the_layer_and_its_input():
    with pytest.raises(ValueError, match="features") as caught:
        forward(Dense(2), N_IN, x=normal64(BATCH, 9))
    assert caught.value.__notes__[-1] == "in Dense.forward, given float32[4, 9]"


# The documented signatures. Methods accept additional arguments after them. Of the constructors,
# only BatchNormal does: the `input_shape` of its documentation.
SIGNATURES = {
    Linear: "n_out, n_in=None, init='glorot_uniform'",
    Dense: "n_out, n_in=None, init='glorot_uniform', activation='tanh'",
    Softmax: "n_out, n_in=None, init='glorot_uniform'",
    Dropout: "p=0.0",
    Convolution: (
        "nb_filter, filter_size, input_shape=None, stride=1, init='glorot_uniform', "
        "activation='relu'"
    ),
    Embedding: (
        "embed_words=None, static=None, input_size=None, n_out=None, nb_batch=None, nb_seq=None, "
        "init='uniform'"
    ),
    BatchNormal: "epsilon=1e-06, momentum=0.9, axis=0, beta_init='zero', gamma_init='one'",
    MeanPooling: "pool_size",
    MaxPooling: "pool_size",
    Recurrent: (
        "n_out, n_in=None, nb_batch=None, nb_seq=None, init='glorot_uniform', "
        "inner_init='orthogonal', activation='tanh', return_sequence=False"
    ),
    SimpleRNN: "**kwargs",
    GRU: "gate_activation='sigmoid', need_grad=True, **kwargs",
    LSTM: "gate_activation='sigmoid', need_grad=True, forget_bias_num=1, **kwargs",
    BatchLSTM: "gate_activation='sigmoid', need_grad=True, forget_bias_num=1, **kwargs",
    Flatten: "outdim=2",
    DimShuffle: "axis=1",
    Dropout.forward: "self, input, train=True, *args, **kwargs",
    LSTM.forward: "self, input, mask=None, c0=None, h0=None",
    BatchLSTM.forward: "self, input, c0=None, h0=None",
    BatchLSTM.backward: "self, pre_grad, dcn=None, dhn=None",
    layers.Layer.connect_to: "self, prev_layer",
    Dense.connect_to: "self, prev_layer=None",
    layers.Layer.forward: "self, input, *args, **kwargs",
    layers.Layer.backward: "self, pre_grad, *args, **kwargs",
    Dense.backward: "self, pre_grad, *args, **kwargs",
}


@pytest.mark.parametrize("documented", SIGNATURES, ids=lambda item: item.__qualname__)
def test_the_signature_starts_as_documented(documented):
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(documented).parameters.values()
    ]
    written = ", ".join(map(str, plain))
    if inspect.isfunction(documented) or documented is BatchNormal:
        written = written[: len(SIGNATURES[documented])]
    assert written == SIGNATURES[documented]


def test_an_embedding_works_without_connect_to():
    layer = Embedding(TABLE, False)
    assert len(layer.params) == len(layer.grads) == len(layer.param_grads) == 1
    assert layer.forward([[1, 2, 3]]).shape == (1, 3, 4)
    fixed = Embedding(TABLE)
    assert fixed.params == fixed.grads == fixed.param_grads == []
    assert fixed.forward([[1, 2, 3]]).shape == (1, 3, 4)
    assert fixed.backward(np.ones((1, 3, 4))) is None
    assert fixed.dW is None
    assert Embedding(input_size=6, n_out=4).params == []


def test_a_table_is_copied_and_not_in_the_configuration():
    table = TABLE.astype(np.float32)
    before = table.copy()
    layer = Embedding(table, False, nb_batch=8, nb_seq=TIME)
    layer.W += 1
    assert np.array_equal(table, before)
    layer.connect_to()
    assert layer.out_shape == (8, TIME, 4)
    assert json.loads(json.dumps(layer.to_json())) == {
        "class": "layers.Embedding",
        "static": False,
        "nb_batch": 8,
        "nb_seq": TIME,
        "input_size": 6,
        "n_out": 4,
    }
    layer.embed_words = TABLE
    assert np.array_equal(layer.W, before)
    layer.forward([[1, 2]])
    layer.backward(np.ones((1, 2, 4)))
    assert layer.d_embed_words is layer.dW


def test_integers_in_float_arrays_are_accepted_as_ids():
    layer = Embedding(TABLE)
    assert np.array_equal(layer.forward([[5.0, 0.0]]), layer.forward([[5, 0]]))


def test_sizes_may_be_numpy_ints():
    layer = connected(Dense(np.int64(N_OUT)), np.prod((3, 4)))
    assert layer.W.shape == (12, N_OUT)
    assert type(layer.out_shape[1]) is int


def test_a_dense_layer_has_an_output_shape_before_connect_to():
    last = Dense(3)
    last.connect_to(Dense(N_OUT))
    assert last.W.shape == (N_OUT, 3)


def test_an_input_shape_may_include_the_batch():
    for shape in ((3, 6, 7), (None, 3, 6, 7), [3, 6, 7]):
        layer = Convolution(2, [2, 2], input_shape=shape)
        layer.connect_to()
        assert layer.out_shape == (None, 2, 5, 6)
    layer.connect_to(after(3, 6, 7))
    assert layer.out_shape == (None, 2, 5, 6)


def test_a_norm_over_features_accepts_any_sequence_length():
    layer = connected(BatchNormal(axis=2), None, N_IN)
    assert layer.out_shape == (None, None, N_IN)
    assert layer.forward(normal64(BATCH, 7, N_IN)).shape == (BATCH, 7, N_IN)


def test_ints_and_lists_are_accepted_as_inputs():
    layer = connected(Dense(N_OUT), 2)
    expected = layer.forward(np.array([[1.0, 2.0]], np.float32))
    for x in ([[1, 2]], np.array([[1, 2]], np.uint8), [[1.0, 2.0]]):
        assert np.array_equal(layer.forward(x), expected)


# The int arguments of each class; of recurrent layers, whose arguments are those of their base
RECURRENT = ("n_out", "n_in", "nb_batch", "nb_seq")
INTS = {
    layers.BatchLSTM: RECURRENT,
    layers.BatchNormal: ("axis",),
    layers.Convolution: ("nb_filter", "filter_size", "stride"),
    layers.Dense: ("n_out", "n_in"),
    layers.DimShuffle: ("axis",),
    layers.Embedding: ("input_size", "n_out", "nb_batch", "nb_seq"),
    layers.Flatten: ("outdim",),
    layers.GRU: RECURRENT,
    layers.LSTM: RECURRENT,
    layers.Linear: ("n_out", "n_in"),
    layers.MaxPooling: ("pool_size",),
    layers.MeanPooling: ("pool_size",),
    layers.Recurrent: RECURRENT,
    layers.SimpleRNN: RECURRENT,
    layers.Softmax: ("n_out", "n_in"),
}
NEEDED = {
    "nb_filter": 8, "filter_size": (3, 3), "n_out": 8, "input_size": 5, "pool_size": (2, 2)
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "argument"), [(cls, argument) for cls, names in INTS.items() for argument in names]
)
def test_a_size_is_an_int_and_nothing_else(cls, argument):
    needed = {name: NEEDED[name] for name in INTS[cls] if name in NEEDED}
    optional = argument not in ("axis", "outdim", "stride", *NEEDED)
    for value in (True, np.True_, 1.5, 2.0, "3", -3, *([] if optional else [None])):
        with pytest.raises(
            ValueError, match=rf"^{cls.__name__}: .*as in {cls.__name__}\("
        ) as caught:
            cls(**needed | {argument: value})
        assert f"{argument}=" in str(caught.value)


def test_the_table_of_sizes_has_all_classes_with_an_int():
    with_ints = {
        cls
        for cls in vars(layers).values()
        if isinstance(cls, type) and " int" in f" {inspect.signature(cls)}".replace("[int", " int")
    }
    assert with_ints - {layers.Functional} <= set(INTS)
