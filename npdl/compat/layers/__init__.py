"""Stateful layers.

>>> from npdl.compat import layers
>>> str(layers.Dense(n_out=10))
'Dense'
"""

from typing import Any

from npdl.compat.layers.base import Layer
from npdl.compat.layers.convolution import Convolution
from npdl.compat.layers.core import Activation, Dense, Dropout, Linear, Softmax
from npdl.compat.layers.embedding import Embedding
from npdl.compat.layers.functional import Functional
from npdl.compat.layers.keras import constructor_named
from npdl.compat.layers.normalization import BatchNormal
from npdl.compat.layers.pooling import MaxPooling, MeanPooling
from npdl.compat.layers.recurrent import GRU, LSTM, BatchLSTM, Recurrent, SimpleRNN
from npdl.compat.layers.shape import DimShuffle, Flatten

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "BatchLSTM",
    "BatchNormal",
    "Convolution",
    "Dense",
    "DimShuffle",
    "Dropout",
    "Embedding",
    "Flatten",
    "Functional",
    "Layer",
    "Linear",
    "MaxPooling",
    "MeanPooling",
    "Recurrent",
    "SimpleRNN",
    "Softmax",
]


def __getattr__(name: str) -> Any:
    constructor = constructor_named(name)
    if constructor is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return constructor
