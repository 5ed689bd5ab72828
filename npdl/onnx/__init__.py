"""Export of models to ONNX, for onnxruntime and other runtimes (an extra).

:func:`save` writes a file. Each constructor of layers has a :func:`rule`, a function that adds
nodes to a :class:`Graph`. Combinators have no rules: their declared parts are exported.

A layer of your own needs a rule; the operators of a :class:`Value` add nodes:

>>> import numpy as np
>>> import npdl.functional as F
>>> from npdl import onnx
>>> @onnx.rule("swish")
... def swish(graph, params, x, *, steepness):
...     return x * graph.node("Sigmoid", x * steepness)
"""

from npdl.onnx import _rules as _rules
from npdl.onnx._file import save
from npdl.onnx._graph import Graph
from npdl.onnx._registry import rule
from npdl.onnx._values import Value

__all__ = ["Graph", "Value", "rule", "save"]
