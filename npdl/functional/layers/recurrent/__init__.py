"""Recurrent layers: one loop over time, and a cell for each layer."""

from npdl.functional.layers.recurrent._gru import gru
from npdl.functional.layers.recurrent._lstm import lstm
from npdl.functional.layers.recurrent._rnn import rnn

__all__ = [
    "gru",
    "lstm",
    "rnn",
]
