"""Gradients of the parameters of one layer, for each example of a batch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import tree
from npdl._calls import signature_of
from npdl.functional._images import make_window
from npdl.functional._kernels.conv.correlation import transposed_correlation, weight_gradient
from npdl.functional._kernels.windows import Window, as_images, from_images
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._feed_forward import dense_like
from npdl.functional.derivatives._ensemble import ensemble
from npdl.functional.layers import (
    batch_norm,
    conv1d,
    conv2d,
    conv2d_transpose,
    dense,
    embedding,
    group_norm,
    layer_norm,
    learned_positions,
    rms_norm,
)
from npdl.functional.layers._embedding import sums_of_ids
from npdl.tree import Array

__all__ = ["gradients_of", "squares_of"]

Arguments = dict[str, Any]
# rule(layer, arguments of its constructor, params, x, g) -> gradients, batch first
Rule = Callable[[Layer, Arguments, Params, Any, Any], Params]


def gradients_of(
    layer: Layer, params: Params, kept: Any, g: Any, input_grad: bool
) -> tuple[Params, Any]:
    """Return the gradients of the parameters for each example, and the input gradient.

    Parameters
    ----------
    layer : Layer
        A layer without parts.
    params : tree
        Its parameters.
    kept : tuple
        The input, the mode, the key and the cache.
    g : array or tuple of arrays
        The gradient of the outputs.
    input_grad : bool
        Whether to compute the input gradient.
    """
    x, train, _, cache = kept
    if layer.call is not None and layer.call.constructor is ensemble:
        raise ValueError(
            "ensemble: its outputs have the model as first axis, not the examples; compute the "
            "gradients of each model: tree.map(lambda leaf: leaf[i], params) are its parameters"
        )
    if not tree.leaves(params):
        return layer.backward(params, cache, g, input_grad=input_grad)
    call = layer.call
    rule = None if call is None else _RULES.get(call.constructor)
    if call is None or rule is None or not len(tree.leaves(g)[0]):
        grads = _looped(layer, params, kept, g)
    elif train and call.constructor is batch_norm:
        raise ValueError(
            "batch_norm: in training, each output depends on all examples of the batch, so an "
            "example has no gradient; use group_norm or layer_norm, or pass train=False"
        )
    else:
        grads = rule(layer, _arguments(call), params, x, g)
    if not input_grad:
        return grads, None
    if call is not None and call.constructor in _IMAGE_AXES:
        return grads, _image_gradient(_arguments(call), _IMAGE_AXES[call.constructor], params, x, g)
    return grads, layer.backward(params, cache, g)[1]


def squares_of(
    layer: Layer, params: Params, kept: Any, g: Any, input_grad: bool
) -> tuple[Params, Any]:
    """Return the squared norms of the gradients of :func:`gradients_of`, of shape (batch,)."""
    x, _, _, cache = kept
    if layer.call is not None and layer.call.constructor is dense and g.ndim == 2:
        # The gradient of the weight is an outer product.
        of_bias = np.vecdot(g, g)
        squares = {"weight": np.vecdot(x, x) * of_bias, "bias": of_bias}
        grads: Params = {name: squares[name] for name in params}
        return grads, layer.backward(params, cache, g)[1] if input_grad else None
    grads, dx = gradients_of(layer, params, kept, g, input_grad)

    def square(array: Array) -> Any:
        rows = array.reshape(len(array), math.prod(array.shape[1:]))
        return np.vecdot(rows, rows)

    return tree.map(square, grads), dx


def _arguments(call: Any) -> Arguments:
    bound = signature_of(call.constructor).bind(*call.positional, **call.keywords)
    bound.apply_defaults()
    return bound.arguments


def _looped(layer: Layer, params: Params, kept: Any, g: Any) -> Params:
    """Return the gradients of any layer, one example after another."""
    x, train, rng, cache = kept
    each = []
    for i in range(len(tree.leaves(g)[0])):
        if train and rng is not None:
            # The noise of the batch is in the cache, so the other examples get no gradient.
            alone = tree.map(lambda array: _alone(array, i), g)  # noqa: B023
            each.append(layer.backward(params, cache, alone, input_grad=False)[0])
        else:
            row_x, row_g = (tree.map(lambda array: array[i : i + 1], part) for part in (x, g))  # noqa: B023
            _, row_cache = layer.apply(params, row_x, train=train)
            each.append(layer.backward(params, row_cache, row_g, input_grad=False)[0])
    if not each:
        return tree.map(lambda leaf: np.zeros((0, *leaf.shape), leaf.dtype), params)
    return tree.map(lambda *parts: np.stack(parts), *each)


def _alone(g: Array, i: int) -> Array:
    """Return the gradient with zeros for all examples but one."""
    alone = np.zeros_like(g)
    alone[i] = g[i]
    return alone


# Rules


def _dense(layer: Layer, arguments: Arguments, params: Params, x: Array, g: Array) -> Params:
    """Return ``xᵢ gᵢᵀ``, summed over the axes between batch and features."""
    if g.ndim == 2:
        weight = x[:, :, None] * g[:, None, :]
        return {"weight": weight, "bias": g} if "bias" in params else {"weight": weight}
    count = math.prod(g.shape[1:-1])
    rows, cotangent = (part.reshape(len(g), count, part.shape[-1]) for part in (x, g))
    grads = {"weight": rows.mT @ cotangent}
    return grads | ({"bias": cotangent.sum(axis=1)} if "bias" in params else {})


def _dense_like(layer: Layer, arguments: Arguments, params: Params, x: Any, g: Array) -> Params:
    return _dense(layer, arguments, params, x[0], g)


_IMAGE_AXES: dict[Any, int] = {conv1d: 1, conv2d: 2}


def _convolution(layer: Layer, arguments: Arguments, params: Params, x: Array, g: Array) -> Params:
    axes = x.ndim - 2
    parts = (as_images(part, axes) for part in (x, g, params["weight"]))
    return _with_bias(params, from_images(_weights(arguments, axes, *parts), axes), g)


def _image_gradient(arguments: Arguments, axes: int, params: Params, x: Array, g: Array) -> Array:
    """Return the input gradient alone; `backward` would compute the weight gradient, too."""
    images, cotangent, weight = (as_images(part, axes) for part in (x, g, params["weight"]))
    window = _window(arguments, axes)
    dx = transposed_correlation(cotangent, weight, window, arguments["groups"], images.shape[2:])
    return from_images(dx, axes)


def _transposed(layer: Layer, arguments: Arguments, params: Params, x: Array, g: Array) -> Params:
    # The layer is the input gradient of a convolution, which reads `g`.
    return _with_bias(params, _weights(arguments, 2, g, x, params["weight"]), g)


def _weights(arguments: Arguments, axes: int, x: Array, g: Array, weight: Array) -> Array:
    """Return the weight gradients (batch · filters, ...): the examples are groups of channels."""
    batch = len(x)
    images, cotangent = (part.reshape(1, batch * part.shape[1], *part.shape[2:]) for part in (x, g))
    tiled = np.empty((batch * len(weight), *weight.shape[1:]), weight.dtype)  # only its shape
    groups = batch * arguments["groups"]
    return weight_gradient(images, cotangent, tiled, _window(arguments, axes), groups)


def _window(arguments: Arguments, axes: int) -> Window:
    size, stride, padding, dilation = (
        arguments[key] for key in ("kernel_size", "stride", "padding", "dilation")
    )
    return make_window("convolution", axes, size, stride, padding, dilation, "kernel_size")


def _with_bias(params: Params, dw: Array, g: Array) -> Params:
    shape = params["weight"].shape
    grads = {"weight": dw.reshape(len(g), *shape)}
    if "bias" in params:
        grads["bias"] = g.reshape(*g.shape[:2], math.prod(g.shape[2:])).sum(axis=2)
    return grads


def _normalization(
    layer: Layer, arguments: Arguments, params: Params, x: Array, g: Array
) -> Params:
    """Return the sums of g x̂ and of g over the axes without features."""
    neutral = {"scale": np.ones_like, "shift": np.zeros_like}
    plain = {name: neutral.get(name, np.array)(array) for name, array in params.items()}
    if not {"scale", "shift"} & params.keys():
        return dict.fromkeys(params)
    unit = layer(plain, x)
    shape = next(params[name].shape for name in ("scale", "shift") if name in params)
    axis = arguments.get("axis", 1) % x.ndim
    kept = range(x.ndim - len(shape), x.ndim) if "axes" in arguments else (axis,)
    summed = tuple(i for i in range(1, x.ndim) if i not in kept)
    grads: dict[str, Any] = dict.fromkeys(params)
    if "scale" in params:
        grads["scale"] = np.sum(g * unit, axis=summed)
    if "shift" in params:
        grads["shift"] = np.sum(g, axis=summed)
    return grads


def _embedding(layer: Layer, arguments: Arguments, params: Params, ids: Array, g: Array) -> Params:
    """Return the sums of the rows of each id; an id counts separately in each example."""
    vocabulary, units = params["table"].shape
    batch = len(ids)
    padding_id = arguments["padding_id"]
    if padding_id is not None:
        g = g * (ids != padding_id)[..., None]
    offset = vocabulary * np.arange(batch).reshape(-1, *(1,) * (ids.ndim - 1))
    flat = (ids.astype(np.intp) + offset).reshape(-1)
    sums = sums_of_ids(flat, g.reshape(ids.size, units), batch * vocabulary)
    return {"table": sums.reshape(batch, vocabulary, units)}


def _positions(layer: Layer, arguments: Arguments, params: Params, x: Array, g: Array) -> Params:
    table = np.zeros((len(g), *params["table"].shape), g.dtype)
    table[:, : g.shape[1]] = g
    return {"table": table}


_RULES: dict[Any, Rule] = {
    dense: _dense,
    dense_like: _dense_like,
    conv1d: _convolution,
    conv2d: _convolution,
    conv2d_transpose: _transposed,
    batch_norm: _normalization,
    group_norm: _normalization,
    layer_norm: _normalization,
    rms_norm: _normalization,
    embedding: _embedding,
    learned_positions: _positions,
}
