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
    kv_heads: int | None,
    cross: bool,
    causal: bool,
    window: int | None,
    rotary: float | None,
    return_weights: bool,
    **arguments: Any,
) -> Any:
    sources = others if cross else (x, *others)
    mask, bias = (*sources[1:], None, None)[:2]
    mask = None if mask is None else graph.cast(mask, bool)
    if bias is not None and len(bias.shape) == 2:
        bias = graph.node("Unsqueeze", bias, [1])
    order = _both(graph, _order(graph, sources[0], causal, window), _not_barred(graph, bias))
    context, lost = _replaced(graph, sources[0], mask, order, masks_queries=not cross)
    width, shared = len(params["output_weight"]), heads if kv_heads is None else kv_heads
    size = width // heads

    def projected(array: Any, name: str, *counts: int) -> Any:
        y = _affine(array, params, name)
        sizes = [count * size for count in counts]
        return graph.node("Split", y, sizes, outputs=len(sizes), axis=2) if counts[1:] else y

    def by_head(rows: Value, count: int, turned: bool = False) -> Any:
        y = graph.node("Reshape", rows, [0, 0, count, size])
        y = graph.node("Transpose", y, perm=[0, 2, 1, 3])
        y = _rotated(graph, y, rotary, size) if turned and rotary else y
        return y if count == heads else graph.node("Gather", y, _shared(heads, count), axis=1)

    if cross:
        queries = projected(x, "query_", heads)
        keys, values = projected(context, "context_", shared, shared)
    else:
        queries, keys, values = projected(context, "", heads, shared, shared)
    keys = graph.node("Transpose", by_head(keys, shared, True), perm=[0, 1, 3, 2])
    scores = by_head(queries, heads, True) * size**-0.5 @ keys
    scores = scores if bias is None else scores + bias
    allowed = _both(graph, order, None if mask is None else graph.node("Unsqueeze", mask, [1, 2]))
    if allowed is not None:
        scores = graph.node("Where", allowed, scores, -_LARGEST)
    weights = graph.node("Softmax", scores, axis=-1)
    mixed = weights @ by_head(values, shared)
    reached = None
    if allowed is not None and not (mask is None and bias is None):
        # The output of a query without an allowed key is zero.
        reached = graph.reduce("ReduceMax", graph.cast(allowed, np.float32), [3])
        weights = weights * reached
        mixed = mixed * reached
    mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
    y = _affine(graph.node("Reshape", mixed, [0, 0, width]), params, "output_")
    if reached is not None:
        y = y * graph.reduce("ReduceMax", reached, [1], keepdims=False)
    y = _with_lost(graph, y, lost)
    return (y, weights) if return_weights else y


def _affine(x: Value, params: Any, name: str) -> Any:
    y = x @ params[f"{name}weight"]
    return y + params[f"{name}bias"] if f"{name}bias" in params else y


def _shared(heads: int, count: int) -> Any:
    """Return the head of keys and values of each head of queries."""
    return np.arange(heads) // (heads // count)


def _rotated(graph: Graph, x: Value, base: float, size: int) -> Any:
    """Return (batch, heads, time, d) with rotary positions."""
    frequencies = base ** (np.arange(0, size, 2) / -size)
    steps = graph.node("Unsqueeze", graph.cast(_steps(graph, x, 2), np.float64), [1])
    sines, cosines = (
        graph.cast(graph.node("Sin", steps * frequencies + phase), np.float32)
        for phase in (0.0 * frequencies, 0.0 * frequencies + math.pi / 2)
    )
    half = size // 2
    a, b = graph.node("Split", x, [half, half], outputs=2, axis=3)
    return graph.node("Concat", a * cosines - b * sines, b * cosines + a * sines, axis=3)


def _both(graph: Graph, first: Value | None, second: Value | None) -> Any:
    """Return the conjunction of masks, where `None` is true everywhere."""
    if first is None or second is None:
        return second if first is None else first
    return graph.node("And", first, second)


def _order(graph: Graph, keys: Any, causal: bool, window: int | None) -> Any:
    """Return the mask (time, time) of steps that a step attends to, or `None` for all."""
    if not causal and window is None:
        return None
    steps = _steps(graph, keys)
    ages = graph.node("Sub", graph.node("Unsqueeze", steps, [1]), steps)
    order = None
    if causal:
        order = graph.node("Less", -1, ages)
    elif window is not None:
        order = graph.node("Less", -window, ages)
    return order if window is None else _both(graph, order, graph.node("Less", ages, window))


def _not_barred(graph: Graph, bias: Any) -> Any:
    """Return the keys whose bias is not -∞."""
    return None if bias is None else graph.node("Not", graph.node("Less", bias, -_LARGEST))


def _steps(graph: Graph, x: Value, axis: int = 1) -> Any:
    """Return the numbers of the steps, from 0."""
    return graph.node("Range", 0, graph.size(x, axis), 1)


def _replaced(
    graph: Graph, x: Any, mask: Value | None, order: Value | None, *, masks_queries: bool = True
) -> tuple[Value, Value | None]:
    """Return the sequences with zeros for NaN and infinities, and the steps that become NaN.

    See `npdl/functional/_kernels/masked_steps.py`.
    """
    if mask is None and order is None:
        return x, None

    def beyond(most: float) -> Any:
        within = graph.node("Less", graph.node("Abs", x), most)
        least = graph.reduce("ReduceMin", graph.cast(within, np.float32), [2], keepdims=False)
        return graph.node("Not", graph.cast(least, bool))

    zeros = lost = None
    if mask is not None:
        zeros = graph.node("And", graph.node("Not", mask), beyond(_LARGEST**0.25))
    if order is not None:
        odd = _both(graph, beyond(math.inf), mask)
        reaching = graph.node("And", order, graph.node("Unsqueeze", odd, [1, 2]))
        lost = graph.reduce("ReduceMax", graph.cast(reaching, np.float32), [1, 3], keepdims=False)
        lost = _both(graph, graph.cast(lost, bool), mask if masks_queries else None)
        zeros = odd if zeros is None else graph.node("Or", zeros, odd)
    return graph.node("Where", graph.node("Unsqueeze", zeros, [2]), 0.0, x), lost


def _with_lost(graph: Graph, y: Value, lost: Value | None) -> Any:
    if lost is None:
        return y
    return graph.node("Where", graph.node("Unsqueeze", lost, [2]), math.nan, y)


@rule(_finite_steps)
def finite_steps(
    graph: Graph,
    params: Any,
    x: Value,
    mask: Value | None = None,
    *,
    name: str,
    causal: bool,
    window: int | None,
) -> Any:
    mask = None if mask is None else graph.cast(mask, bool)
    steps, lost = _replaced(graph, x, mask, _order(graph, x, causal, window))
    return steps, mask, lost


@rule(_lost_steps)
def lost_steps(graph: Graph, params: Any, y: Value, lost: Value | None) -> Any:
    return _with_lost(graph, y, lost)


@rule(F.class_token)
def class_token(graph: Graph, params: Any, x: Value, **arguments: Any) -> Any:
    batch = graph.node("Unsqueeze", graph.size(x, 0), [0])
    shape = graph.node("Concat", batch, [1, x.shape[-1]], axis=0)
    return graph.node("Concat", graph.node("Expand", params["token"], shape), x, axis=1)


@rule(F.first_step)
def first_step(graph: Graph, params: Any, x: Value) -> Any:
    return graph.node("Gather", x, 0, axis=1)


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
