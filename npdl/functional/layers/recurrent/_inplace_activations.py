"""Activations inside recurrent layers. They write into arrays that the layer owns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npdl import tree
from npdl._calls import shown
from npdl.functional._arrays import SINGLE
from npdl.functional._checks import refusal
from npdl.functional._dual import as_dual
from npdl.functional._layer import Layer, Params
from npdl.functional.layers.activations._bounded import sigmoid, tanh
from npdl.tree import Array

__all__ = ["InplaceActivation", "inplace_activation"]


class InplaceActivation(NamedTuple):
    """An elementwise function and its derivative."""

    # apply(x, out) -> cache; x and out may be the same array.
    apply: Callable[[Array, Array], Any]
    # derivative(y, cache, out) writes the derivative; y is the output of `apply`.
    derivative: Callable[[Array, Any, Array], None]


def inplace_activation(name: str, role: str, activation: Layer) -> InplaceActivation:
    """Convert a layer to an in-place activation; raise if it is not an activation."""
    if not isinstance(activation, Layer):
        raise TypeError(refusal(activation, f"{name}(128, {role}=tanh())", "a layer"))
    if activation == tanh():
        return InplaceActivation(_tanh, _tanh_derivative)
    if activation == sigmoid():
        return InplaceActivation(_sigmoid, _sigmoid_derivative)
    params = _elementwise_params(name, role, activation)

    def apply(x: Array, out: Array) -> Any:
        # The cache may hold the input, and the loop overwrites this array.
        out[...], cache = activation.apply(params, as_dual(x.copy()))
        return cache

    def derivative(y: Array, cache: Any, out: Array) -> None:
        out[...] = activation.backward(params, cache, np.ones_like(y))[1]

    return InplaceActivation(apply, derivative)


def _tanh(x: Array, out: Array) -> None:
    np.tanh(x, out)


def _tanh_derivative(y: Array, cache: None, out: Array) -> None:
    np.multiply(y, y, out=out)
    np.subtract(1.0, out, out=out)


# NumPy converts a Python number at each call, which takes as long as a small array.
_HALF = np.array(0.5, np.float32)
_HALF.flags.writeable = False


def _sigmoid(x: Array, out: Array) -> None:
    # σ(x) = ½ + ½ tanh(x/2) avoids the overflow of exp and a slow division.
    half: Any = _HALF if x.dtype is SINGLE else 0.5
    np.multiply(x, half, out)
    np.tanh(out, out)
    out *= half
    out += half


def _sigmoid_derivative(y: Array, cache: None, out: Array) -> None:
    np.multiply(y, y, out=out)
    np.subtract(y, out, out=out)


def _elementwise_params(name: str, role: str, activation: Layer) -> Params:
    """Return the empty parameters of an elementwise layer, or raise for another layer."""
    # In cells the last axis is the batch; a softmax along it would mix the examples.
    x = np.array([[0.5, -0.5], [0.5, 2.0]], np.float32)
    params = activation.init(0, (2,))
    y, trained = None, np.zeros(0)
    if not tree.leaves(params):
        y, trained = activation(params, x), activation(params, x, train=True, rng=0)
    if not (
        isinstance(y, np.ndarray)
        and y.shape == x.shape
        and y[0, 0] == y[1, 0]
        and np.array_equal(y, trained)
    ):
        raise ValueError(
            f"{name}: {role} must work element by element, in training too, and have no "
            f"parameters, as tanh() does, got {shown(activation)}"
        )
    return params
