"""The table of stateful layers: how each is made and called, and the names of its arrays.

`tests/compat/test_layers.py` runs every check that a layer must pass over each row.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
from arrays import normal64

import npdl
from npdl import random
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
    SimpleRNN,
    Softmax,
)

BATCH, TIME, N_IN, N_OUT = 4, 5, 3, 2
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]])


def after(*out_shape):
    """A layer before, which has nothing but its output's shape."""
    return SimpleNamespace(out_shape=(None, *out_shape))


@attrs.frozen
class Case:
    """One row: a layer, the shape of an example, its parameters in order, and how to call it."""

    make: Callable[[], Any]
    shape: tuple[int, ...]
    out: tuple[int, ...]
    params: dict[str, tuple[int, ...]] = attrs.field(factory=dict)
    forward: dict[str, Any] = attrs.field(factory=dict)
    # Attributes that are set after the construction.
    set: dict[str, Any] = attrs.field(factory=dict)
    x: Callable[[tuple[int, ...]], Any] | None = None
    # Whether the gradient of one example depends on the others.
    mixes: bool = False
    # Further arrays: statistics of evaluation, and untrained arrays.
    statistics: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    # Whether the input has a gradient.
    differentiable: bool = True

    def made(self):
        layer = self.make()
        for name, value in self.set.items():
            setattr(layer, name, value)
        return layer

    def connected(self, noise=0.3):
        """A connected layer, none of whose parameters is zero."""
        layer = self.made()
        layer.connect_to(after(*self.shape))
        for i, array in enumerate(layer.params):
            array += noise * normal64(*array.shape, seed=i)
        return layer

    def input(self, batch=BATCH):
        shape = (batch, *self.shape)
        return normal64(*shape, seed=7) if self.x is None else self.x(shape)

    def call(self, layer, x=None, train=True):
        """Go forward, with the same random numbers each time."""
        npdl.utils.set_seed(3)
        return layer.forward(self.input() if x is None else x, train=train, **self.forward)


def states():
    return {"c0": normal64(BATCH, N_OUT, seed=4), "h0": normal64(BATCH, N_OUT, seed=5)}


def ids(shape):
    return random.generator(2).integers(0, 6, size=shape)


def named(text, *shapes):
    """The names of a group of parameters for each shape, in order."""
    groups = text.split("; ")
    return {
        name: shape
        for group, shape in zip(groups, shapes, strict=True)
        for name in group.split(", ")
    }


AFFINE = {"W": (N_IN, N_OUT), "b": (N_OUT,)}
SEQUENCE = {"shape": (TIME, N_IN), "out": (TIME, N_OUT)}
SQUARE = (N_OUT, N_OUT)
RNN = named("W; U; b", (N_IN, N_OUT), SQUARE, (N_OUT,))
GATES = named("U_r, U_z, U_h; W_r, W_z, W_h; b_r, b_z, b_h", (N_IN, N_OUT), SQUARE, (N_OUT,))
MEMORY = named(
    "U_g, U_i, U_f, U_o; W_g, W_i, W_f, W_o; b_g, b_i, b_f, b_o", (N_IN, N_OUT), SQUARE, (N_OUT,)
)
ALL_W = {"AllW": (1 + N_IN + N_OUT, 4 * N_OUT)}
IMAGE = (3, 5, 8)
NORMAL = {"mixes": True, "statistics": ("running_mean", "running_variance")}


def activation(name):
    return Case(lambda: Dense(N_OUT, activation=name), (N_IN,), (N_OUT,), AFFINE)


CASES: dict[str, Case] = {
    "Linear": Case(lambda: Linear(N_OUT), (N_IN,), (N_OUT,), AFFINE),
    "Dense": Case(lambda: Dense(N_OUT), (N_IN,), (N_OUT,), AFFINE),
    "Dense, linear": activation("linear"),
    "Dense, sigmoid": activation("sigmoid"),
    "Dense, relu": activation("relu"),
    "Dense, elliot": activation("elliot"),
    "Dense, symmetric elliot": activation("symmetric_elliot"),
    "Dense, softplus": activation("softplus"),
    "Dense, softsign": activation("softsign"),
    "Dense over time": Case(lambda: Dense(N_OUT), **SEQUENCE, params=AFFINE),
    "Softmax": Case(lambda: Softmax(N_OUT), (N_IN,), (N_OUT,), AFFINE, set={"exact_softmax": True}),
    "Dropout": Case(lambda: Dropout(0.3), (N_IN, 4), (N_IN, 4)),
    "Convolution": Case(
        lambda: Convolution(2, (2, 4)),
        IMAGE,
        (2, 4, 5),
        {"W": (2, 3, 2, 4), "b": (2,)},
    ),
    "Convolution, stride and tanh": Case(
        lambda: Convolution(2, (1, 4), stride=2, activation="tanh", init="he_normal"),
        IMAGE,
        (2, 3, 3),
        {"W": (2, 3, 1, 4), "b": (2,)},
    ),
    "MeanPooling": Case(lambda: MeanPooling((5, 2)), IMAGE, (3, 1, 4)),
    "MeanPooling over time": Case(lambda: MeanPooling((TIME, 1)), (TIME, N_IN), (1, N_IN)),
    "MaxPooling": Case(lambda: MaxPooling((1, 4)), IMAGE, (3, 5, 2)),
    "MaxPooling, 3 axes": Case(lambda: MaxPooling((2, 3)), (4, 6), (2, 2)),
    "Embedding": Case(
        lambda: Embedding(static=False, input_size=6, n_out=4, nb_seq=TIME),
        (TIME,),
        (TIME, 4),
        {"W": (6, 4)},
        x=ids,
        differentiable=False,
    ),
    "Embedding, a table": Case(
        lambda: Embedding(normal64(6, 4), False),
        (TIME,),
        (TIME, 4),
        {"W": (6, 4)},
        x=ids,
        differentiable=False,
    ),
    "Embedding, static": Case(
        lambda: Embedding(normal64(6, 4)),
        (TIME,),
        (TIME, 4),
        x=ids,
        differentiable=False,
        untrained=("embed_words",),
    ),
    "BatchNormal": Case(
        BatchNormal, (N_IN,), (N_IN,), {"beta": (N_IN,), "gamma": (N_IN,)}, **NORMAL
    ),
    "BatchNormal of images by position": Case(
        lambda: BatchNormal(epsilon=1e-3),
        (3, 2, 4),
        (3, 2, 4),
        {"beta": (3, 2, 4), "gamma": (3, 2, 4)},
        **NORMAL,
    ),
    "BatchNormal of channels": Case(
        lambda: BatchNormal(axis=1, momentum=0.5),
        IMAGE,
        IMAGE,
        {"beta": (3,), "gamma": (3,)},
        **NORMAL,
    ),
    "BatchNormal of sequences": Case(
        lambda: BatchNormal(axis=2, gamma_init="uniform"),
        (TIME, N_IN),
        (TIME, N_IN),
        {"beta": (N_IN,), "gamma": (N_IN,)},
        **NORMAL,
    ),
    "SimpleRNN": Case(lambda: SimpleRNN(n_out=N_OUT), (TIME, N_IN), (N_OUT,), RNN),
    "SimpleRNN, sequence and mask": Case(
        lambda: SimpleRNN(n_out=N_OUT, return_sequence=True, activation="softsign"),
        **SEQUENCE,
        params=RNN,
        forward={"mask": MASK},
    ),
    "GRU": Case(lambda: GRU(n_out=N_OUT), (TIME, N_IN), (N_OUT,), GATES),
    "GRU, sequence and mask": Case(
        lambda: GRU("softplus", n_out=N_OUT, return_sequence=True),
        **SEQUENCE,
        params=GATES,
        forward={"mask": MASK},
    ),
    "LSTM": Case(lambda: LSTM(n_out=N_OUT), (TIME, N_IN), (N_OUT,), MEMORY),
    "LSTM, sequence, mask and states": Case(
        lambda: LSTM(gate_activation="elliot", n_out=N_OUT, return_sequence=True),
        **SEQUENCE,
        params=MEMORY,
        forward={"mask": MASK.astype(bool), **states()},
    ),
    "BatchLSTM": Case(lambda: BatchLSTM(n_out=N_OUT), (TIME, N_IN), (N_OUT,), ALL_W),
    "BatchLSTM, sequence, mask and states": Case(
        lambda: BatchLSTM(n_out=N_OUT, return_sequence=True, forget_bias_num=0.5),
        **SEQUENCE,
        params=ALL_W,
        forward={"mask": MASK, **states()},
    ),
    "Flatten": Case(Flatten, (3, 2, 4), (24,)),
    "Flatten, outdim": Case(lambda: Flatten(outdim=3), (3, 2, 4), (3, 8)),
    "DimShuffle": Case(DimShuffle, (3, 4), (1, 3, 4)),
    "DimShuffle, axis": Case(lambda: DimShuffle(axis=3), (3, 4), (3, 4, 1)),
    "Functional": Case(
        lambda: Functional(npdl.functional.residual(npdl.functional.dense(N_IN))), (N_IN,), (N_IN,)
    ),
}
