"""Normalization; a batch norm has its stored statistics as constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.onnx._graph import Graph
from npdl.onnx._registry import rule
from npdl.onnx._values import Value


@rule(F.batch_norm)
def batch_norm(
    graph: Graph, params: Any, x: Value, *, axis: int, epsilon: float, **arguments: Any
) -> Any:
    axes = 1 + len(x.shape)
    shape = [-1, *[1] * (axes - 1 - axis % axes)]
    factor = 1 / np.sqrt(params["variance"] + np.float32(epsilon))
    y = (x - params["mean"].reshape(shape)) * (factor * params.get("scale", 1)).reshape(shape)
    return y + params["shift"].reshape(shape) if "shift" in params else y


@rule(F.layer_norm)
def layer_norm(
    graph: Graph, params: Any, x: Value, *, axes: Any, epsilon: float, **arguments: Any
) -> Any:
    return _scaled(_unit(graph, _centered(graph, x, _axes(axes)), _axes(axes), epsilon), params)


@rule(F.rms_norm)
def rms_norm(
    graph: Graph, params: Any, x: Value, *, axes: Any, epsilon: float, **arguments: Any
) -> Any:
    return _scaled(_unit(graph, x, _axes(axes), epsilon), params)


@rule(F.group_norm)
def group_norm(
    graph: Graph, params: Any, x: Value, *, groups: int, epsilon: float, **arguments: Any
) -> Any:
    sizes = x.shape
    rest = -1 if None in sizes else int(np.prod(sizes)) // groups
    rows = graph.node("Reshape", x, [0, groups, rest])
    unit = _unit(graph, _centered(graph, rows, [2]), [2], epsilon)
    unit = graph.node("Reshape", unit, graph.node("Shape", x))
    shape = [-1, *[1] * (len(sizes) - 1)]
    return _scaled(unit, {name: array.reshape(shape) for name, array in params.items()})


def _axes(axes: Any) -> list[int]:
    return [axes] if isinstance(axes, int) else list(axes)


def _centered(graph: Graph, x: Value, axes: Sequence[int]) -> Any:
    x = x - graph.reduce("ReduceMean", x, axes)
    # In float32, a mean of 10⁴ has a rounding error of 10⁻³; this step removes it.
    return x - graph.reduce("ReduceMean", x, axes)


def _unit(graph: Graph, x: Value, axes: Sequence[int], epsilon: float) -> Any:
    """Return x / √(mean(x²) + ε)."""
    return x / graph.node("Sqrt", graph.reduce("ReduceMean", x * x, axes) + epsilon)


def _scaled(unit: Value, params: Any) -> Any:
    y = unit * params["scale"] if "scale" in params else unit
    return y + params["shift"] if "shift" in params else y
