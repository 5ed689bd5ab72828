"""Activations, and the layers that are the identity in evaluation.

Infinite inputs give the limit of a function, as in npdl: where ``∞ · 0`` or ``∞ / ∞`` would appear,
the input is clipped first.
"""

import math
from typing import Any

import npdl.functional as F
from npdl.functional.layers.activations._elementwise import FAR
from npdl.onnx._graph import Graph
from npdl.onnx._registry import Rule, rule
from npdl.onnx._values import Value


def _identity(graph: Graph, params: Any, x: Value, **arguments: Any) -> Value:
    return x


def _operator(op: str, **attributes: Any) -> Rule:
    return lambda graph, params, x: graph.node(op, x, **attributes)


for _constructor in (F.linear, F.dropout, F.gaussian_noise):
    rule(_constructor)(_identity)
rule(F.relu)(_operator("Relu"))
rule(F.selu)(_operator("Selu"))
rule(F.sigmoid)(_operator("Sigmoid"))
rule(F.softplus)(_operator("Softplus"))
rule(F.tanh)(_operator("Tanh"))
rule(F.hard_sigmoid)(_operator("HardSigmoid", alpha=1 / 6, beta=0.5))
rule(F.softmax)(_operator("Softmax", axis=-1))
rule(F.log_softmax)(_operator("LogSoftmax", axis=-1))


@rule(F.hard_tanh)
def hard_tanh(graph: Graph, params: Any, x: Value) -> Any:
    return graph.node("Clip", x, -1.0, 1.0)


@rule(F.leaky_relu)
def leaky_relu(graph: Graph, params: Any, x: Value, *, slope: float) -> Any:
    return graph.node("LeakyRelu", x, alpha=slope)


@rule(F.elu)
def elu(graph: Graph, params: Any, x: Value, *, alpha: float) -> Any:
    return graph.node("Elu", x, alpha=alpha)


@rule(F.softsign)
@rule(F.symmetric_elliot)
def softsign(graph: Graph, params: Any, x: Value, *, steepness: float = 1.0) -> Any:
    far = 1e30 / max(steepness, 1.0)
    return graph.node("Softsign", graph.node("Clip", x, -far, far) * steepness)


@rule(F.elliot)
def elliot(graph: Graph, params: Any, x: Value, *, steepness: float) -> Any:
    return softsign(graph, params, x, steepness=steepness) * 0.5 + 0.5


@rule(F.silu)
def silu(graph: Graph, params: Any, x: Value) -> Any:
    x = graph.node("Max", x, -FAR)
    return x * graph.node("Sigmoid", x)


@rule(F.hard_silu)
def hard_silu(graph: Graph, params: Any, x: Value) -> Any:
    return graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5) * graph.node("Max", x, -3.0)


@rule(F.gelu)
def gelu(graph: Graph, params: Any, x: Value, *, approximate: bool) -> Any:
    x = graph.node("Max", x, -FAR)
    if approximate:
        inner = graph.node("Tanh", (x * x * 0.044715 + 1) * x * math.sqrt(2 / math.pi))
    else:
        inner = graph.node("Erf", x * math.sqrt(0.5))
    return x * (inner + 1) * 0.5


@rule(F.mish)
def mish(graph: Graph, params: Any, x: Value) -> Any:
    x = graph.node("Max", x, -FAR)
    return x * graph.node("Tanh", graph.node("Softplus", x))


@rule(F.glu)
def glu(graph: Graph, params: Any, x: Value, *, activation: F.Layer) -> Any:
    half = x.shape[-1] // 2
    linear, gate = graph.node("Split", x, [half, half], outputs=2, axis=-1)
    return linear * graph.apply(activation, (), gate)
