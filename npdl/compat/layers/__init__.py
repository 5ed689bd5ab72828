"""Stateful layers of the NumpyDL API.

>>> from npdl.compat import layers
>>> str(layers.Dense(n_out=10))
'Dense'
"""

from npdl.compat.layers._functional import Functional
from npdl.compat.layers._keras import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Input,
    MaxPooling2D,
)
from npdl.compat.layers.base import Layer
from npdl.compat.layers.convolution import Convolution
from npdl.compat.layers.core import Activation, Dense, Dropout, Linear, Softmax
from npdl.compat.layers.embedding import Embedding
from npdl.compat.layers.normalization import BatchNormal
from npdl.compat.layers.pooling import MaxPooling, MeanPooling
from npdl.compat.layers.recurrent import GRU, LSTM, BatchLSTM, Recurrent, SimpleRNN
from npdl.compat.layers.shape import DimShuffle, Flatten

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "AveragePooling2D",
    "BatchLSTM",
    "BatchNormal",
    "BatchNormalization",
    "Conv2D",
    "Convolution",
    "Dense",
    "DimShuffle",
    "Dropout",
    "Embedding",
    "Flatten",
    "Functional",
    "Input",
    "Layer",
    "Linear",
    "MaxPooling",
    "MaxPooling2D",
    "MeanPooling",
    "Recurrent",
    "SimpleRNN",
    "Softmax",
]
