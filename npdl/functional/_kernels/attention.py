"""The core of attention: softmax(Q Kᵀ) V for each head.

Queries are (batch, heads, time, d), keys and values (batch, heads, steps, d). All are views into
rows of features. The caller has divided the queries by √d.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl.functional._kernels.blas_sums import sum_of_columns
from npdl.functional._kernels.blocks import ATTENTION_BLOCK
from npdl.functional._kernels.dropout_mask import keep_mask, keep_threshold
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["attend", "attend_backward", "blocked_steps", "by_head", "keep_scales"]


def by_head(rows: Array, source: Array, heads: int, width: int) -> list[Array]:
    """Return a view (batch, heads, time, d) of each block of `width` columns of the rows.

    Batch and time are the first two sizes of `source`.
    """
    times = rows.shape[1] // width
    split = rows.reshape(*source.shape[:2], times, heads, width // heads)
    return [split[:, :, i].transpose(0, 2, 1, 3) for i in range(times)]


def attend(
    qkv: list[Array], blocked: Array | None, keep_scale: Array | None, keep_weights: bool
) -> tuple[Array, list[Array]]:
    """Return the joined outputs of the heads, (batch, time, heads · d), and kept weights."""
    queries, keys, values = qkv
    batch, heads, time, size = queries.shape
    mixed = np.empty((batch, time, heads, size), queries.dtype)
    out = mixed.transpose(0, 2, 1, 3)
    weights = []
    for rows in _examples(queries, keys):
        p = _softmax(queries[rows], keys[rows], _rows_of(blocked, rows))
        if keep_weights:
            weights.append(p)
        np.matmul(p if keep_scale is None else p * keep_scale[rows], values[rows], out=out[rows])
        del p  # the next block may use its memory
    return mixed.reshape(batch, time, heads * size), weights


def attend_backward(
    qkv: list[Array],
    weights: Any,
    keep_scale: Array | None,
    mixed: Array,
    g: Array,
    out: list[Array],
) -> None:
    """Write the gradients of queries, keys and values into `out`."""
    queries, keys, values = qkv
    d_queries, d_keys, d_values = out
    batch, heads, time, size = queries.shape
    g, mixed = (array.reshape(batch, time, heads, size) for array in (g, mixed))
    # The derivative of p = softmax(s) is p (dp - Σ p dp); the sum equals the dot product g · mixed.
    common = np.vecdot(g, mixed).transpose(0, 2, 1)[..., None]
    g = g.transpose(0, 2, 1, 3)
    for rows, p in zip(_examples(queries, keys), weights, strict=True):
        d_scores = np.matmul(g[rows], values[rows].swapaxes(-1, -2))
        used = p
        if keep_scale is not None:
            d_scores *= keep_scale[rows]
            used = p * keep_scale[rows]
        np.matmul(used.swapaxes(-1, -2), g[rows], out=d_values[rows])
        d_scores -= common[rows]
        d_scores *= p
        np.matmul(d_scores, keys[rows], out=d_queries[rows])
        np.matmul(d_scores.swapaxes(-1, -2), queries[rows], out=d_keys[rows])


def _examples(queries: Array, keys: Array) -> Iterator[slice]:
    """Yield slices of the batch."""
    batch, heads, time, _ = queries.shape
    size = max(1, ATTENTION_BLOCK // (heads * time * keys.shape[2]))
    return (slice(start, start + size) for start in range(0, batch, size))


def _softmax(queries: Array, keys: Array, blocked: Array | None) -> Array:
    """Return softmax(Q Kᵀ)."""
    p = _scores(queries, keys, blocked)
    # A shift of the scores does not change the softmax. The shift by the row maximum is the slowest
    # step, so it is applied only if a row sum is out of range.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.exp(p, out=p)
        sums = _row_sums(p)
    # argmin and argmax are the fastest extrema.
    if sums.size and not (sums.item(sums.argmin()) > _LEAST and sums.item(sums.argmax()) < _MOST):
        p = _scores(queries, keys, blocked)
        p -= p.max(axis=-1, keepdims=True)
        with np.errstate(under="ignore"):
            np.exp(p, out=p)
            sums = _row_sums(p)
    p *= np.reciprocal(sums, out=sums)
    return p


# For row sums in this range, terms that are subnormal in float32 are negligible.
_LEAST, _MOST = 1e-20, 1e20


def _scores(queries: Array, keys: Array, blocked: Array | None) -> Array:
    scores: Array = np.matmul(queries, keys.swapaxes(-1, -2))
    if blocked is not None:
        scores += blocked
    return scores


def _row_sums(x: Array) -> Array:
    steps = x.shape[-1]
    sums = sum_of_columns(x.reshape(math.prod(x.shape[:-1]), steps))
    return sums.reshape(*x.shape[:-1], 1)


def _rows_of(blocked: Array | None, rows: slice) -> Array | None:
    return blocked if blocked is None or len(blocked) == 1 else blocked[rows]


def blocked_steps(
    mask: Array | None, causal: bool, qkv: list[Array]
) -> tuple[Array | None, Array | None]:
    """Return the bias of the scores, 0 or -∞, and the mask of queries with an unmasked key.

    The bias is `None` if all keys are allowed, the mask if it is true everywhere.
    """
    queries, keys, _ = qkv
    allowed = None if mask is None else mask[:, None, None, :]
    if causal:
        before = np.tri(queries.shape[2], keys.shape[2], dtype=bool)[None, None]
        allowed = before if allowed is None else allowed & before
    if allowed is None or allowed.all():
        return None, None
    reached: Array = np.any(allowed, axis=-1, keepdims=True)
    # Fully masked queries are not masked here, so that the softmax stays finite. Their output
    # becomes zero later.
    added = np.zeros(allowed.shape, queries.dtype)
    added[~allowed & reached] = -np.inf
    return added, None if reached.all() else reached[:, 0]


def keep_scales(rng: KeyLike, qkv: list[Array], rate: float) -> Array:
    """Return the dropout factor of each attention weight, 0 or 1 / (1 - rate)."""
    queries, keys, _ = qkv
    threshold, scale = keep_threshold(rate)
    kept = keep_mask(rng, (*queries.shape[:3], keys.shape[2]), threshold)
    factors: Array = kept.astype(queries.dtype)
    factors *= scale
    return factors
