"""Layers, losses, optimizers and schedules as pure functions, in one flat namespace.

>>> import npdl.functional as F
>>> F.serial(F.dense(128), F.relu(), F.dense(10))
serial(dense(units=128), relu(), dense(units=10))
"""

from npdl.functional.activations import tanh
from npdl.functional.combinators import freeze, parallel, residual, serial
from npdl.functional.dense import dense
from npdl.functional.graph import graph
from npdl.functional.layer import Layer, layer, value_and_grad
from npdl.record import from_config

__all__ = [
    "Layer",
    "dense",
    "freeze",
    "from_config",
    "graph",
    "layer",
    "parallel",
    "residual",
    "serial",
    "tanh",
    "value_and_grad",
]
