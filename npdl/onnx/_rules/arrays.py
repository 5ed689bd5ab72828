"""Layers that look up, join or rearrange arrays."""

import functools
import math
import operator
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.functional.combinators._bidirectional import _sequence_of_one
from npdl.functional.combinators._joins import joined as joined_layer
from npdl.onnx._graph import Graph
from npdl.onnx._registry import rule
from npdl.onnx._values import Value

_FLOAT = np.finfo(np.float32)
_SMALLEST, _LARGEST = float(_FLOAT.tiny), float(_FLOAT.max)


@rule(F.embedding)
def embedding(
    graph: Graph, params: Any, ids: Value, *, padding_id: int | None, **arguments: Any
) -> Any:
    table, ids = params["table"], graph.cast(ids, np.int64)
    if padding_id is not None and table[padding_id].any():
        table = np.array(table)
        table[padding_id] = 0
    return graph.node("Gather", table, ids)


@rule(F.unembedding)
def unembedding(graph: Graph, params: Any, x: Value, **arguments: Any) -> Any:
    return x @ graph.node("Transpose", params["table"], perm=[1, 0])


@rule(joined_layer)
def joined(graph: Graph, params: Any, *x: Value, join: str, axis: int, name: str) -> Any:
    if join == "concatenate":
        return graph.node("Concat", *x, axis=axis)
    return functools.reduce({"add": operator.add, "multiply": operator.mul}[join], x)


@rule(F.flatten)
def flatten(graph: Graph, params: Any, x: Value, *, axes: int) -> Any:
    sizes = x.shape[axes - 1 :]
    # 0 keeps the size of an axis, and -1 is the remaining number of elements.
    return graph.node("Reshape", x, [0] * axes + [-1 if None in sizes else math.prod(sizes)])


@rule(F.reshape)
def reshape(graph: Graph, params: Any, x: Value, *, shape: tuple[int, ...]) -> Any:
    sizes = x.shape
    if None not in sizes:  # an empty batch takes no -1
        rest = math.prod(sizes) // abs(math.prod(shape))
        shape = tuple(rest if size == -1 else size for size in shape)
    return graph.node("Reshape", x, [0, *shape])


@rule(F.expand_dims)
def expand_dims(graph: Graph, params: Any, x: Value, *, axis: int) -> Any:
    return graph.node("Unsqueeze", x, [axis])


@rule(F.squeeze)
def squeeze(graph: Graph, params: Any, x: Value, *, axis: int) -> Any:
    return graph.node("Squeeze", x, [axis])


@rule(F.transpose)
def transpose(graph: Graph, params: Any, x: Value, *, axes: tuple[int, ...]) -> Any:
    return graph.node("Transpose", x, perm=axes)


@rule(F.magnitude)
def magnitude(graph: Graph, params: Any, x: Value, *, axis: int) -> Any:
    real, imaginary = graph.node("Split", x, outputs=2, axis=axis)
    # Scaled by the larger part: the squares neither overflow nor underflow.
    largest = graph.node("Max", graph.node("Abs", real), graph.node("Abs", imaginary))
    scale = graph.node("Clip", largest, _SMALLEST, _LARGEST)
    return largest * graph.node("Sqrt", (real / scale) ** 2 + (imaginary / scale) ** 2)


@rule(_sequence_of_one)
def sequence_of_one(graph: Graph, params: Any, x: Value) -> Any:
    return graph.node("Unsqueeze", x, [1])


@rule("npdl.sklearn._regressor.in_units")
def in_units(graph: Graph, params: Any, x: Value, *, mean: Any, deviation: Any) -> Any:
    return x * np.asarray(deviation, np.float32) + np.asarray(mean, np.float32)
