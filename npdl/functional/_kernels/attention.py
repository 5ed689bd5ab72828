"""The core of attention: softmax(Q Kᵀ) V for each head.

Keys and values are (batch, heads, steps, d). Queries are (batch, heads, group · time, d): a group
of query heads shares one head of keys and values. The caller has divided the queries by √d.
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

__all__ = [
    "allowed_keys",
    "attend",
    "attend_backward",
    "by_head",
    "by_step",
    "grouped",
    "keep_scales",
    "score_bias",
]


def by_head(rows: Array, source: Array, size: int, heads: tuple[slice, ...]) -> list[Array]:
    """Return a view (batch, heads, time, d) for each slice of heads in the columns of the rows.

    Batch and time are the first two sizes of `source`, and d is `size`.
    """
    split = rows.reshape(*source.shape[:2], rows.shape[1] // size, size).transpose(0, 2, 1, 3)
    return [split[:, some] for some in heads]


def grouped(array: Array, heads: int) -> Array:
    """Return (batch, heads, group · time, d) of an array (batch, heads · group, time, d)."""
    batch, count, time, size = array.shape
    return array if count == heads else array.reshape(batch, heads, count // heads * time, size)


def by_step(array: Array, heads: int) -> Array:
    """Return (batch, time, heads · d) of an array in the layout of :func:`grouped`."""
    batch, shared, time, size = array.shape
    if shared != heads:
        time = time * shared // heads
        array = array.reshape(batch, heads, time, size)
    return array.transpose(0, 2, 1, 3).reshape(batch, time, heads * size)


def attend(
    qkv: list[Array],
    heads: int,
    added: Array | None,
    keep_scale: Array | None,
    keep_weights: bool,
) -> tuple[Array, list[Array]]:
    """Return the outputs of the heads in the layout of the queries, and kept weights.

    Parameters
    ----------
    qkv : list of array
        Queries, keys and values.
    heads : int
        The number of query heads.
    added : array, optional
        A bias of the scores, which broadcasts to (batch, heads, time, steps).
    keep_scale : array, optional
        The dropout factors of the weights.
    keep_weights : bool
        Whether to return the weights of each block of examples.
    """
    queries, keys, values = qkv
    batch, shared, rows, size = queries.shape
    if shared == heads:  # a view, so that `by_step` needs no copy
        mixed = np.empty((batch, rows, heads, size), queries.dtype).transpose(0, 2, 1, 3)
    else:
        mixed = np.empty(queries.shape, queries.dtype)
    weights = []
    for some in _examples(queries, keys):
        p = _softmax(queries[some], keys[some], heads, _rows_of(added, some))
        if keep_weights:
            weights.append(p)
        np.matmul(p if keep_scale is None else p * keep_scale[some], values[some], out=mixed[some])
        del p  # the next block may use its memory
    return mixed, weights


def attend_backward(
    qkv: list[Array],
    weights: list[Array],
    keep_scale: Array | None,
    common: Array,
    g: Array,
    out: list[Array],
    g_weights: Array | None = None,
    d_added: Array | None = None,
) -> None:
    """Write the gradients of queries, keys and values into `out`.

    Parameters
    ----------
    qkv, weights, keep_scale
        As in :func:`attend`.
    common : array
        The sums of outputs times their gradients, (batch, heads, group · time, 1).
    g : array
        The gradient of the outputs, in the layout of the queries.
    out : list of array
        Arrays like `qkv`, which are overwritten.
    g_weights : array, optional
        The gradient of the weights, (batch, heads, group · time, steps).
    d_added : array, optional
        Zeros, to which the gradient of the bias is added.
    """
    queries, keys, values = qkv
    d_queries, d_keys, d_values = out
    # The derivative of p = softmax(s) is p (dp - Σ p dp); the sum equals the dot product g · mixed.
    for some, p in zip(_examples(queries, keys), weights, strict=True):
        d_scores = np.matmul(g[some], values[some].swapaxes(-1, -2))
        used = p
        if keep_scale is not None:
            d_scores *= keep_scale[some]
            used = p * keep_scale[some]
        np.matmul(used.swapaxes(-1, -2), g[some], out=d_values[some])
        d_scores -= common[some]
        if g_weights is not None:
            d_scores += g_weights[some]
            d_scores -= np.vecdot(p.conj(), g_weights[some])[..., None]
        d_scores *= p
        if d_added is not None:
            _add_to(_rows_of(d_added, some), d_scores)
        np.matmul(d_scores, keys[some], out=d_queries[some])
        np.matmul(d_scores.swapaxes(-1, -2), queries[some], out=d_keys[some])


def _examples(queries: Array, keys: Array) -> Iterator[slice]:
    """Yield slices of the batch."""
    batch, heads, time, _ = queries.shape
    size = max(1, ATTENTION_BLOCK // (heads * time * keys.shape[2]))
    return (slice(start, start + size) for start in range(0, batch, size))


def _softmax(queries: Array, keys: Array, heads: int, added: Array | None) -> Array:
    """Return softmax(Q Kᵀ)."""
    p = _scores(queries, keys, heads, added)
    # A shift of the scores does not change the softmax. The shift by the row maximum is the slowest
    # step, so it is applied only if a row sum is out of range.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.exp(p, out=p)
        sums = _row_sums(p)
    # argmin and argmax are the fastest extrema.
    if sums.size and not (sums.item(sums.argmin()) > _LEAST and sums.item(sums.argmax()) < _MOST):
        p = _scores(queries, keys, heads, added)
        p -= p.max(axis=-1, keepdims=True)
        with np.errstate(under="ignore"):
            np.exp(p, out=p)
            sums = _row_sums(p)
    p *= np.reciprocal(sums, out=sums)
    return p


# For row sums in this range, terms that are subnormal in float32 are negligible.
_LEAST, _MOST = 1e-20, 1e20


def _scores(queries: Array, keys: Array, heads: int, added: Array | None) -> Array:
    scores: Array = np.matmul(queries, keys.swapaxes(-1, -2))
    if added is not None:
        per_head = _per_head(scores, heads)
        per_head += added
    return scores


def _per_head(scores: Array, heads: int) -> Array:
    """Return the view (batch, heads, time, steps) of (batch, shared heads, group · time, steps)."""
    batch, shared, rows, steps = scores.shape
    return (
        scores if shared == heads else scores.reshape(batch, heads, rows * shared // heads, steps)
    )


def _row_sums(x: Array) -> Array:
    steps = x.shape[-1]
    sums = sum_of_columns(x.reshape(math.prod(x.shape[:-1]), steps))
    return sums.reshape(*x.shape[:-1], 1)


def _rows_of(added: Any, some: slice) -> Any:
    return added if added is None or len(added) == 1 else added[some]


def _add_to(total: Array, terms: Array) -> None:
    """Add terms in the layout of the scores to an array with fewer examples or heads."""
    terms = terms.reshape(len(terms), -1, *total.shape[2:])
    axes = tuple(i for i in (0, 1) if total.shape[i] == 1 < terms.shape[i])
    total += terms.sum(axis=axes, keepdims=True) if axes else terms


def allowed_keys(
    time: int, steps: int, *, causal: bool = False, window: int | None = None
) -> Array:
    """Return a mask (time, steps), true where a query may attend to a key.

    The queries are the last `time` steps. With a window, the distance is less than `window`.
    """
    before = steps - time
    allowed = np.ones((time, steps), bool)
    if causal:
        allowed = np.tri(time, steps, before, dtype=bool)
    if window is not None:
        allowed &= ~np.tri(time, steps, before - window, dtype=bool)
        if not causal:
            allowed &= np.tri(time, steps, before + window - 1, dtype=bool)
    return allowed


def score_bias(
    allowed: Array | None, bias: Array | None, dtype: Any
) -> tuple[Array | None, Array | None]:
    """Return the bias with -∞ at keys that are not allowed, and a mask of the queries with a key.

    Both may be `None`, without effect. All arrays broadcast to (batch, heads, time, steps).
    """
    if allowed is None or allowed.all():
        return bias, None
    reached: Array = np.any(allowed, axis=-1, keepdims=True)
    # Queries without a key are not masked here, so that the softmax stays finite. Their output
    # becomes zero later.
    if bias is None:
        added = np.zeros(allowed.shape, dtype)
        added[~allowed & reached] = -np.inf
    else:
        added = np.where(allowed, bias, np.where(reached, dtype.type(-np.inf), dtype.type(0)))
    return added, None if reached.all() else reached


def keep_scales(rng: KeyLike, qkv: list[Array], rate: float) -> Array:
    """Return the dropout factor of each attention weight, 0 or 1 / (1 - rate)."""
    queries, keys, _ = qkv
    threshold, scale = keep_threshold(rate)
    kept = keep_mask(rng, (*queries.shape[:3], keys.shape[2]), threshold)
    factors: Array = kept.astype(queries.dtype)
    factors *= scale
    return factors
