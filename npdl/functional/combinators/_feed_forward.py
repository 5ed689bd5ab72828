"""The feed-forward network of transformers, which restores the number of features."""

import functools
from typing import Any

from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.functional.combinators._children import chain, connected
from npdl.functional.combinators._declared import declared
from npdl.functional.layers._dense import dense
from npdl.functional.layers._dropout import dropout as dropped
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["feed_forward"]


@layer
def feed_forward(units: int, activation: Layer, dropout: float) -> Layer:
    """Apply two dense layers with an activation in between; the number of features is kept."""
    nodes, last = chain((dense(units), activation, dropped(dropout)))
    nodes["3"] = (dense_like(), (last, "input"), (3,))
    return connected(declared("feed_forward", "input", nodes, "3"))


@layer
def dense_like() -> Layer:
    """Apply :func:`dense` to the first input, with as many units as the second has features."""
    of_width = functools.cache(dense)

    def init(rng: KeyLike, shape: Shape) -> Params:
        return of_width(shape[1][-1]).init(rng, shape[0])

    def apply(params: Params, x: tuple[Array, Array]) -> tuple[Array, Any]:
        return of_width(x[1].shape[-1]).apply(params, x[0])

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        inner = of_width(g.shape[-1])
        grads, dx = inner.backward(params, cache, g, input_grad=input_grad)
        return grads, (dx, None) if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        return of_width(shape[1][-1]).out_shape(shape[0])

    return Layer(init, apply, backward, out_shape)
