"""Outputs and weights of all heads, with zeros at queries without a key."""

from typing import NamedTuple

import numpy as np

from npdl.functional._kernels.attention import (
    attend,
    attend_backward,
    by_step,
    grouped,
    score_bias,
)
from npdl.functional._kernels.masked_steps import Replaced
from npdl.tree import Array

__all__ = ["Mixed", "all_weights", "mix", "mix_backward"]


class Mixed(NamedTuple):
    """The outputs of all heads, and the arrays that their gradients need."""

    qkv: list[Array]
    # (batch, time, heads · d)
    outputs: Array
    # The weights of each block of examples, before dropout; empty if they are not kept.
    weights: list[Array]
    keep_scale: Array | None
    # Queries with a key, which broadcasts to (batch, heads, time, 1); `None` for all.
    reached: Array | None


def mix(
    qkv: list[Array],
    heads: int,
    allowed: Array | None,
    bias: Array | None,
    keep_scale: Array | None,
    keep_weights: bool,
) -> Mixed:
    """Return softmax(Q Kᵀ + b) V; `allowed` and `bias` broadcast to (batch, heads, time, steps)."""
    added, reached = score_bias(allowed, bias, qkv[0].dtype)
    mixed, weights = attend(qkv, heads, added, keep_scale, keep_weights)
    outputs = by_step(mixed, heads)
    if reached is not None and reached.shape[1] > 1:
        outputs *= _per_feature(reached, outputs, heads)
    return Mixed(qkv, outputs, weights, keep_scale, reached)


def mix_backward(
    mixed: Mixed,
    heads: int,
    g: Array,
    g_weights: Array | None,
    out: list[Array],
    d_bias: Array | None,
) -> None:
    """Write the gradients of queries, keys and values into `out`, and add to zeros `d_bias`.

    The gradient of the outputs `g` is overwritten.
    """
    queries, keys, _ = mixed.qkv
    shared = keys.shape[1]
    if mixed.reached is not None:
        if mixed.reached.shape[1] > 1:
            g *= _per_feature(mixed.reached, g, heads)
        g_weights = None if g_weights is None else g_weights * mixed.reached
    by_head = (*g.shape[:2], heads, queries.shape[3])
    g = g.reshape(by_head)
    common = np.vecdot(g.conj(), mixed.outputs.reshape(by_head)).transpose(0, 2, 1)[..., None]
    g = g.transpose(0, 2, 1, 3)
    own = out
    if shared != heads:
        common, g = grouped(common, shared), grouped(g, shared)
        g_weights = None if g_weights is None else grouped(g_weights, shared)
        own = [np.empty(queries.shape, queries.dtype), *out[1:]]
    attend_backward(mixed.qkv, mixed.weights, mixed.keep_scale, common, g, own, g_weights, d_bias)
    if shared != heads:
        out[0][...] = own[0].reshape(out[0].shape)


def all_weights(mixed: Mixed, heads: int, replaced: Replaced) -> Array:
    """Return the weights (batch, heads, time, steps): zero without a key, NaN at lost queries."""
    queries, keys, _ = mixed.qkv
    rows, steps = queries.shape[2], keys.shape[2]
    batch, shared = keys.shape[:2]
    weights = mixed.weights[0] if len(mixed.weights) == 1 else None
    if weights is None:
        empty = np.empty((0, shared, rows, steps), queries.dtype)
        weights = np.concatenate([empty, *mixed.weights])
    weights = weights.reshape(batch, heads, rows * shared // heads, steps)
    if mixed.reached is not None:
        weights = weights * mixed.reached
    return replaced.outputs(weights.swapaxes(1, 2)).swapaxes(1, 2)


def _per_feature(reached: Array, outputs: Array, heads: int) -> Array:
    """Return the mask of queries of each head for arrays (batch, time, heads · d)."""
    by_head = reached[..., 0].transpose(0, 2, 1)
    return np.repeat(by_head, outputs.shape[2] // heads, axis=2)
