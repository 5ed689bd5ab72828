"""The feed-forward network of transformers, which restores the number of features."""

import contextlib
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
def feed_forward(units: int, activation: Layer, dropout: float, bias: bool = True) -> Layer:
    """Apply two dense layers with an activation in between; the number of features is kept.

    `units` is the number of features after the activation.
    """
    inner = dense(2 * units if _halves(activation) else units, bias=bias)
    nodes, last = chain((inner, activation, dropped(dropout)))
    nodes["3"] = (dense_like(bias), (last, "input"), (3,))
    return connected(declared("feed_forward", "input", nodes, "3"))


def _halves(activation: Layer) -> bool:
    """Whether an activation is gated: it halves the number of features."""
    with contextlib.suppress(ValueError):
        return all(tuple(activation.out_shape((2 * n,))) == (n,) for n in (1, 2))
    return False


@layer
def dense_like(bias: bool = True) -> Layer:
    """Apply :func:`dense` to the first input, with as many units as the second has features."""
    of_width = functools.cache(functools.partial(dense, bias=bias))

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

    return Layer(init, apply, backward, out_shape, step=True)
