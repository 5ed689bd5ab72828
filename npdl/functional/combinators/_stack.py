"""Layers one after another that all read the same further inputs, such as a mask."""

from typing import Any

from npdl import random, tree
from npdl.functional._layer import Layer, Params, Shape, describe, keep_params, layer
from npdl.functional.combinators._serial import check_layers, sequence

__all__ = ["stack"]


@layer
def stack(*layers: Layer) -> Layer:
    """Apply layers one after another, with further inputs for each: ``y = … f₂(f₁(x, m), m)``.

    The input is ``(x, m, …)``, where only `x` is replaced from layer to layer, or `x` alone, and
    then this is :func:`serial`. So a mask reaches all blocks of a transformer, or all recurrent
    layers that return sequences. The gradient of a further input is the sum over the layers.

    Parameters
    ----------
    *layers : Layer
        Layers of these inputs and one output; none at all gives `x`.

    Returns
    -------
    Layer
        Its output is the last layer's. Its parameters are the tuple of the layers' parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.stack(F.lstm(8, return_sequence=True), F.lstm(4, return_sequence=True))
    >>> params = model.init(0, ((5, 3), (5,)))
    >>> x, mask = np.zeros((2, 5, 3), np.float32), np.ones((2, 5), bool)
    >>> model(params, (x, mask)).shape
    (2, 5, 4)
    """
    check_layers("stack", layers)
    inner = sequence("stack", [*map(_carrying, layers)])

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        y, caches = inner.apply(params, x, train=train, rng=rng)
        return (y[0], (caches, len(x))) if isinstance(x, tuple) else (y, (caches, 0))

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        caches, count = cache
        g = (g, *[None] * (count - 1)) if count else g
        return inner.backward(params, caches, g, input_grad=input_grad)

    def out_shape(shape: Shape) -> Shape:
        out = inner.out_shape(shape)
        return out[0] if _several(shape) else out

    def update_stats(params: Params, cache: Any) -> Params:
        return inner.update_stats(params, None if cache is None else cache[0])

    idle = inner.update_stats is keep_params
    stats = keep_params if idle else update_stats
    return Layer(inner.init, apply, backward, out_shape, stats)


def _carrying(child: Layer) -> Layer:
    """Let a layer give its further inputs beside its output."""

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        y, cache = child.apply(params, x, train=train, rng=rng)
        if isinstance(y, tuple):
            raise ValueError(f"stack: each layer has one output, but this one gives {describe(y)}")
        return ((y, *x[1:]) if isinstance(x, tuple) else y), cache

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        if not isinstance(g, tuple):
            return child.backward(params, cache, g, input_grad=input_grad)
        if g[0] is None:
            return None, g
        grads, dx = child.backward(params, cache, g[0], input_grad=input_grad)
        if dx is None:
            return grads, (None, *g[1:])
        return grads, (dx[0], *map(tree.add, g[1:], dx[1:]))

    def out_shape(shape: Shape) -> Shape:
        out = child.out_shape(shape)
        return (out, *shape[1:]) if _several(shape) else out

    return Layer(child.init, apply, backward, out_shape, child.update_stats, call=child.call)


def _several(shape: Shape) -> bool:
    return bool(shape) and isinstance(shape[0], tuple | list)
