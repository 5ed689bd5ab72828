"""What attention does between its products with weights: softmax(Q Kᵀ) V for each head.

Queries are (batch, heads, time, d), keys and values (batch, heads, steps, d), all of them views
into rows of features. The queries come divided by √d.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_columns
from npdl.functional._kernels.blocks import ATTENTION_BLOCK
from npdl.random import KeyLike, generator
from npdl.tree import Array

__all__ = ["attend", "attend_backward", "blocked_steps", "by_head", "kept_weights"]


def by_head(rows: Array, source: Array, heads: int, width: int) -> list[Array]:
    """View each `width` columns of rows, as many as `source` has, as (batch, heads, time, d)."""
    times = rows.shape[1] // width
    split = rows.reshape(*source.shape[:2], times, heads, width // heads)
    return [split[:, :, i].transpose(0, 2, 1, 3) for i in range(times)]


def attend(parts: list[Array], blocked: Array | None, kept: Array | None) -> tuple[Array, Any]:
    """Return what the heads give side by side, (batch, time, heads · d), and the weights."""
    queries, keys, values = parts
    batch, heads, time, size = queries.shape
    mixed = np.empty((batch, time, heads, size), queries.dtype)
    out = mixed.transpose(0, 2, 1, 3)
    weights = []
    for some in _examples(queries, keys):
        p = _softmax(queries[some], keys[some], _of(blocked, some))
        weights.append(p)
        np.matmul(p if kept is None else p * kept[some], values[some], out=out[some])
    return mixed.reshape(batch, time, heads * size), weights


def attend_backward(
    parts: list[Array], weights: Any, kept: Array | None, mixed: Array, g: Array, out: list[Array]
) -> None:
    """Write the gradients of queries, keys and values into `out`."""
    queries, keys, values = parts
    d_queries, d_keys, d_values = out
    batch, heads, time, size = queries.shape
    g, mixed = (array.reshape(batch, time, heads, size) for array in (g, mixed))
    # The derivative of p = softmax(s) is p (dp - Σ p dp), and that sum is the product g · mixed.
    common = np.vecdot(g, mixed).transpose(0, 2, 1)[..., None]
    g = g.transpose(0, 2, 1, 3)
    for some, p in zip(_examples(queries, keys), weights, strict=True):
        d_likeness = np.matmul(g[some], values[some].swapaxes(-1, -2))
        used = p
        if kept is not None:
            d_likeness *= kept[some]
            used = p * kept[some]
        np.matmul(used.swapaxes(-1, -2), g[some], out=d_values[some])
        d_likeness -= common[some]
        d_likeness *= p
        np.matmul(d_likeness, keys[some], out=d_queries[some])
        np.matmul(d_likeness.swapaxes(-1, -2), queries[some], out=d_keys[some])


def _examples(queries: Array, keys: Array) -> Iterator[slice]:
    """Yield slices of the batch."""
    batch, heads, time, _ = queries.shape
    size = max(1, ATTENTION_BLOCK // (heads * time * keys.shape[2]))
    return (slice(start, start + size) for start in range(0, batch, size))


def _softmax(queries: Array, keys: Array, blocked: Array | None) -> Array:
    """Return softmax(Q Kᵀ)."""
    p = _likeness(queries, keys, blocked)
    # The softmax is the same with any shift, and mostly none is needed: that is seen by the sums.
    # To shift each row by its maximum takes longer than all the rest.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.exp(p, out=p)
        sums = _row_sums(p)
    if sums.size and not (sums.min() > _LEAST and sums.max() < _MOST):
        p = _likeness(queries, keys, blocked)
        p -= p.max(axis=-1, keepdims=True)
        with np.errstate(under="ignore"):
            np.exp(p, out=p)
            sums = _row_sums(p)
    p *= np.reciprocal(sums, out=sums)
    return p


# In float32, what is beside a sum in this range too small to be a normal number is too small to
# count.
_LEAST, _MOST = 1e-20, 1e20


def _likeness(queries: Array, keys: Array, blocked: Array | None) -> Array:
    likeness: Array = np.matmul(queries, keys.swapaxes(-1, -2))
    if blocked is not None:
        likeness += blocked
    return likeness


def _row_sums(x: Array) -> Array:
    steps = x.shape[-1]
    sums = sum_of_columns(x.reshape(math.prod(x.shape[:-1]), steps))
    return sums.reshape(*x.shape[:-1], 1)


def _of(blocked: Array | None, some: slice) -> Array | None:
    return blocked if blocked is None or len(blocked) == 1 else blocked[some]


def blocked_steps(
    mask: Array | None, causal: bool, parts: list[Array]
) -> tuple[Array | None, Array | None]:
    """Return what is added to the likeness, 0 or -∞, and which steps have something to attend to.

    Either is `None` where it makes no difference.
    """
    queries, keys, _ = parts
    allowed = None if mask is None else mask[:, None, None, :]
    if causal:
        before = np.tri(queries.shape[2], keys.shape[2], dtype=bool)[None, None]
        allowed = before if allowed is None else allowed & before
    if allowed is None or allowed.all():
        return None, None
    reached: Array = np.any(allowed, axis=-1, keepdims=True)
    # What is blocked altogether attends to anything, so that the softmax has numbers.
    added = np.zeros(allowed.shape, queries.dtype)
    added[~allowed & reached] = -np.inf
    some: Array | None = None if reached.all() else reached[:, 0]
    return added, some


_LEVELS = 1 << 16


def kept_weights(rng: KeyLike, parts: list[Array], rate: float) -> Array:
    """Return by how much each weight is scaled, up or to zero, as :func:`dropout` does."""
    queries, keys, _ = parts
    shape = (*queries.shape[:3], keys.shape[2])
    size = math.prod(shape)
    words = generator(rng).bit_generator.random_raw((size + 3) // 4)
    threshold = min(max(round(rate * _LEVELS), 1), _LEVELS - 1)
    kept: Array = (words.view(np.uint16)[:size].reshape(shape) >= threshold).astype(queries.dtype)
    kept *= _LEVELS / (_LEVELS - threshold)
    return kept
