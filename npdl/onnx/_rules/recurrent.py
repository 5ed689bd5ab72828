"""Recurrent layers: one rule, with the equations of a cell in the body of ONNX's ``Scan``.

The operators ``LSTM``, ``GRU`` and ``RNN`` know a mask only as a length, and a few activations. A
body has any activation, and a masked step carries the state, wherever it is.
"""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

import npdl.functional as F
from npdl.functional._arrays import is_several
from npdl.functional._layer import Layer
from npdl.onnx._graph import Graph
from npdl.onnx._registry import rule
from npdl.onnx._values import Value

# cell(graph, params, z, *states, ...) -> the next states, where z is xₜ W + b
Cell = Callable[..., tuple[Value, ...]]


@rule(F.rnn)
def rnn(graph: Graph, params: Any, x: Value, *others: Any, **arguments: Any) -> Any:
    return _recurrent(_rnn_cell, 1, graph, params, x, *others, **arguments)


@rule(F.gru)
def gru(graph: Graph, params: Any, x: Value, *others: Any, **arguments: Any) -> Any:
    return _recurrent(_gru_cell, 1, graph, params, x, *others, **arguments)


@rule(F.lstm)
def lstm(graph: Graph, params: Any, x: Value, *others: Any, **arguments: Any) -> Any:
    return _recurrent(_lstm_cell, 2, graph, params, x, *others, **arguments)


def _rnn_cell(
    graph: Graph, params: Any, z: Value, h: Value, *, activation: Layer, **arguments: Any
) -> tuple[Value, ...]:
    return (_activated(graph, activation, z + h @ params["recurrent_weight"]),)


def _gru_cell(
    graph: Graph,
    params: Any,
    z: Value,
    h: Value,
    *,
    units: int,
    reset_after: bool,
    activation: Layer,
    gate_activation: Layer,
    **arguments: Any,
) -> tuple[Value, ...]:
    def parts(array: Any, count: int) -> Any:
        return graph.node("Split", array, [units] * count, outputs=count, axis=1)

    def gate(a: Value) -> Any:
        return _activated(graph, gate_activation, a)

    weight = params["recurrent_weight"]
    z_reset, z_update, z_new = parts(z, 3)
    if reset_after:
        h_reset, h_update, h_new = parts(h @ weight + params["recurrent_bias"], 3)
        reset, update = gate(z_reset + h_reset), gate(z_update + h_update)
        carried = reset * h_new
    else:
        h_reset, h_update = parts(h @ weight[:, : 2 * units], 2)
        reset, update = gate(z_reset + h_reset), gate(z_update + h_update)
        carried = (reset * h) @ weight[:, 2 * units :]
    new = _activated(graph, activation, z_new + carried)
    return (new + update * (h - new),)


def _lstm_cell(
    graph: Graph,
    params: Any,
    z: Value,
    h: Value,
    c: Value,
    *,
    units: int,
    activation: Layer,
    gate_activation: Layer,
    **arguments: Any,
) -> tuple[Value, ...]:
    a = z + h @ params["recurrent_weight"]
    g, *gates = graph.node("Split", a, [units] * 4, outputs=4, axis=1)
    i, f, o = (_activated(graph, gate_activation, gate) for gate in gates)
    c = f * c + i * _activated(graph, activation, g)
    return o * _activated(graph, activation, c), c


def _activated(graph: Graph, activation: Layer, x: Value) -> Value:
    """Add an activation, whose parameters are empty."""
    result: Value = graph.apply(activation, activation.init(0, (1,)), x)
    return result


@rule(F.scan)
def scan(
    graph: Graph,
    params: Any,
    x: Value,
    *others: Any,
    cell: Layer,
    state: Any,
    return_sequence: bool,
    return_state: bool,
    reverse: bool,
) -> Any:
    """Scan the time axis with the nodes of the cell as body; the last output is carried, too."""
    mask, given = (*others, None, None)[:2]
    several = is_several(state)
    shapes = state if several else (state,)
    features = tuple(x.shape)[1:]
    y_shape = cell.out_shape((features, state))[0]
    zeros = [_zeros(graph, x, shape) for shape in (*shapes, y_shape)]
    carried = zeros if given is None else [*(given if several else (given,)), zeros[-1]]
    read = [_time_first(graph, x, 1 + len(x.shape))]
    if mask is not None:
        read.append(_time_first(graph, graph.cast(mask, bool), 2))
    body = graph.body()
    before = [body.input("Scan/state", shape, np.float32) for shape in (*shapes, y_shape)]
    step = [
        body.input("Scan/step", features, x.dtype),
        *(body.input("Scan/mask", (), bool) for _ in read[1:]),
    ]
    y, after = body.apply(cell, params, (step[0], tuple(before[:-1]) if several else before[0]))
    new = [*(after if several else (after,)), y]
    if mask is not None:
        new = [
            body.node("Where", _columns(body, step[1], shape), one, old)
            for shape, one, old in zip((*shapes, y_shape), new, before, strict=True)
        ]
    for each, shape in zip(
        [*new, *new[-1:] * return_sequence], [*shapes, y_shape, y_shape], strict=False
    ):
        body.output("Scan/next", attrs.evolve(each, shape=shape))
    results = graph.node(
        "Scan",
        *carried,
        *read,
        outputs=len(body.outputs),
        dtype=np.float32,
        body=body,
        num_scan_inputs=len(read),
        scan_input_directions=[int(reverse)] * len(read),
        scan_output_directions=[int(reverse)] if return_sequence else None,
    )
    count = len(shapes)
    y = results[count]
    if return_sequence:
        y = _time_first(graph, results[-1], 2 + len(y_shape))
    return (y, results[:count] if several else results[0]) if return_state else y


def _zeros(graph: Graph, x: Value, shape: Any) -> Any:
    """Return zeros (batch, *shape), with the batch of `x`."""
    batch = graph.node("Unsqueeze", graph.size(x, 0), [0])
    sizes = graph.node("Concat", batch, list(shape), axis=0)
    return graph.node("ConstantOfShape", sizes, dtype=np.float32)


def _time_first(graph: Graph, x: Any, rank: int) -> Any:
    """Exchange batch and time."""
    return graph.node("Transpose", x, perm=[1, 0, *range(2, rank)])


def _columns(graph: Graph, mask: Value, shape: Any) -> Any:
    """Return a mask (batch,) with an axis for each axis of an example."""
    axes = list(range(1, 1 + len(shape)))
    return graph.node("Unsqueeze", mask, axes) if axes else mask


def _recurrent(
    cell: Cell,
    count: int,
    graph: Graph,
    params: Any,
    x: Value,
    mask: Value | None = None,
    state: Any = None,
    *,
    units: int,
    return_sequence: bool,
    return_state: bool,
    reverse: bool,
    **arguments: Any,
) -> Any:
    """Scan the time axis: the states go from step to step, z and the mask are read step by step."""
    # The time axis is first: with another scan axis, onnxruntime crashes on empty sequences.
    z = graph.node("Transpose", x, perm=[1, 0, 2]) @ params["weight"] + params["bias"]
    if state is None:
        states = (_zeros(graph, x, (units,)),) * count
    else:
        states = state if isinstance(state, tuple) else (state,)
    read = [z]
    if mask is not None:
        steps = graph.node("Transpose", graph.cast(mask, bool), perm=[1, 0])
        read.append(graph.node("Unsqueeze", steps, [2]))
    body = graph.body()
    before = [body.input("Scan/state", (units,), np.float32) for _ in states]
    step = [body.input("Scan/step", None, each.dtype) for each in read]
    after: Any = cell(body, params, step[0], *before, units=units, **arguments)
    if mask is not None:
        after = [
            body.node("Where", step[1], new, old) for new, old in zip(after, before, strict=True)
        ]
    for each in (*after, *after[:return_sequence]):
        body.output("Scan/next", attrs.evolve(each, shape=(units,)))
    results = graph.node(
        "Scan",
        *(states + tuple(read)),
        outputs=len(body.outputs),
        dtype=np.float32,
        body=body,
        num_scan_inputs=len(read),
        scan_input_directions=[int(reverse)] * len(read),
        scan_output_directions=[int(reverse)] if return_sequence else None,
    )
    results = results if isinstance(results, tuple) else (results,)
    last = results[:count] if count > 1 else results[0]
    y = results[0]
    if return_sequence:
        y = graph.node("Transpose", results[-1], perm=[1, 0, 2])
    return (y, last) if return_state else y
