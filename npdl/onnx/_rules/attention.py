"""Attention, position encodings, and masked steps, which never reach a matrix product."""

import math
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.functional.combinators._transformer import _finite_steps, _lost_steps
from npdl.onnx._graph import Graph
from npdl.onnx._registry import rule
from npdl.onnx._values import Value

_LARGEST = float(np.finfo(np.float32).max)


@rule(F.multi_head_attention)
def multi_head_attention(
    graph: Graph,
    params: Any,
    x: Value,
    *others: Value | None,
    heads: int,
    cross: bool,
    causal: bool,
    **arguments: Any,
) -> Any:
    sources = others if cross else (x, *others)
    mask = None if len(sources) < 2 or sources[1] is None else graph.cast(sources[1], bool)
    context, lost = _replaced(graph, sources[0], mask, causal)
    width = len(params["output_weight"])

    def projected(array: Any, name: str, parts: int) -> Any:
        y = _affine(array, params, name)
        return graph.node("Split", y, [width] * parts, outputs=parts, axis=2) if parts > 1 else y

    def by_head(rows: Value, *order: int) -> Any:
        split = graph.node("Reshape", rows, [0, 0, heads, width // heads])
        return graph.node("Transpose", split, perm=order)

    if cross:
        queries = projected(x, "query_", 1)
        keys, values = projected(context, "context_", 2)
    else:
        queries, keys, values = projected(context, "", 3)
    scores = by_head(queries, 0, 2, 1, 3) * (width // heads) ** -0.5 @ by_head(keys, 0, 2, 3, 1)
    allowed = _allowed(graph, context, mask, causal)
    if allowed is not None:
        scores = graph.node("Where", allowed, scores, -_LARGEST)
    mixed = graph.node("Softmax", scores, axis=-1) @ by_head(values, 0, 2, 1, 3)
    mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
    y = _affine(graph.node("Reshape", mixed, [0, 0, width]), params, "output_")
    if mask is not None and allowed is not None:
        # The output of a query without an unmasked key is zero.
        found = graph.reduce("ReduceMax", graph.cast(allowed, np.float32), [3])
        reached = graph.cast(graph.node("Squeeze", found, [1]), bool)
        y = graph.node("Where", reached, y, 0.0)
    return _with_lost(graph, y, lost)


def _affine(x: Value, params: Any, name: str) -> Any:
    y = x @ params[f"{name}weight"]
    return y + params[f"{name}bias"] if f"{name}bias" in params else y


def _allowed(graph: Graph, keys: Any, mask: Value | None, causal: bool) -> Any:
    """Return which keys a query attends to, or `None` for all."""
    allowed = None if mask is None else graph.node("Unsqueeze", mask, [1, 2])
    if not causal:
        return allowed
    steps = _steps(graph, keys)
    before = graph.node("LessOrEqual", steps, graph.node("Unsqueeze", steps, [1]))
    return before if allowed is None else graph.node("And", allowed, before)


def _steps(graph: Graph, x: Value) -> Any:
    """Return the numbers of the steps, from 0."""
    return graph.node("Range", 0, graph.size(x, 1), 1)


def _replaced(graph: Graph, x: Any, mask: Value | None, causal: bool) -> tuple[Value, Value | None]:
    """Return the sequences with zeros for NaN and infinities, and the steps that become NaN.

    See `npdl/functional/_kernels/masked_steps.py`.
    """
    if mask is None and not causal:
        return x, None

    def beyond(most: float) -> Any:
        within = graph.node("Less", graph.node("Abs", x), most)
        least = graph.reduce("ReduceMin", graph.cast(within, np.float32), [2], keepdims=False)
        return graph.node("Not", graph.cast(least, bool))

    zeros = lost = None
    if mask is not None:
        zeros = graph.node("And", graph.node("Not", mask), beyond(_LARGEST**0.25))
    if causal:
        odd = beyond(math.inf)
        odd = odd if mask is None else graph.node("And", odd, mask)
        lost = graph.node("CumSum", graph.cast(odd, np.float32), 1)
        lost = graph.cast(lost, bool)
        lost = lost if mask is None else graph.node("And", lost, mask)
        zeros = odd if zeros is None else graph.node("Or", zeros, odd)
    return graph.node("Where", graph.node("Unsqueeze", zeros, [2]), 0.0, x), lost


def _with_lost(graph: Graph, y: Value, lost: Value | None) -> Any:
    if lost is None:
        return y
    return graph.node("Where", graph.node("Unsqueeze", lost, [2]), math.nan, y)


@rule(_finite_steps)
def finite_steps(
    graph: Graph, params: Any, x: Value, mask: Value | None = None, *, name: str, causal: bool
) -> Any:
    mask = None if mask is None else graph.cast(mask, bool)
    steps, lost = _replaced(graph, x, mask, causal)
    return steps, mask, lost


@rule(_lost_steps)
def lost_steps(graph: Graph, params: Any, y: Value, lost: Value | None) -> Any:
    return _with_lost(graph, y, lost)


@rule(F.sinusoidal_positions)
def sinusoidal_positions(graph: Graph, params: Any, x: Value) -> Any:
    # In float32, the angle of step 1000 has an error of 10⁻⁴.
    features = np.arange(x.shape[-1])
    frequencies = 10000.0 ** (-(features - features % 2) / len(features))
    phases = features % 2 * (math.pi / 2)  # the cosines
    steps = graph.node("Unsqueeze", graph.cast(_steps(graph, x), np.float64), [1])
    return x + graph.cast(graph.node("Sin", steps * frequencies + phases), np.float32)


@rule(F.learned_positions)
def learned_positions(graph: Graph, params: Any, x: Value, **arguments: Any) -> Any:
    return x + graph.node("Gather", params["table"], _steps(graph, x))
