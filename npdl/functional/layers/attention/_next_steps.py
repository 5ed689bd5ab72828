"""Attention of the next steps of a sequence to stored keys and values.

The state is a dict of ``keys`` and ``values``, (batch, heads, steps, d), and their ``mask``,
(batch, steps), or `None` if all steps have data. With rotary positions, ``position`` (batch,) is
the number of previous steps. An array of the state is never written again, so one state may have
several continuations.
"""

from typing import Any

import numpy as np

from npdl.functional._kernels.attention import allowed_keys
from npdl.functional._kernels.masked_steps import Replaced
from npdl.functional._layer import Params
from npdl.functional.layers.attention._inputs import Inputs
from npdl.functional.layers.attention._projections import Projections
from npdl.tree import Array

__all__ = ["next_context", "next_steps"]

# Queries, keys and values; the allowed keys; the replaced steps; and the next state.
Next = tuple[list[Array], Array | None, Replaced, dict[str, Any]]


def next_steps(
    form: Projections, params: Params, given: Inputs, state: Any, window: int | None
) -> Next:
    """Return the arrays of causal self-attention at the next steps."""
    past: dict[str, Any] = {} if state is None else state
    batch, time, _ = given.sequences[0].shape
    sequences, replaced = given.finite(allowed_keys(time, time, causal=True, window=window))
    position = past.get("position")
    queries, *new = form.forward(params, sequences, position)
    keys, values = stored = _appended(past, new)
    if replaced.lost is not None:
        stored = _appended(past, [_with_lost_steps(array, replaced, given.mask) for array in new])
    steps = keys.shape[2]
    mask = _joined_masks(past.get("mask"), given.mask, batch, steps)
    order = None if time == 1 else allowed_keys(time, steps, causal=True, window=window)
    allowed = given._replace(mask=mask).allowed(order)
    # The next step attends to `window` steps, one of which is itself.
    first = 0 if window is None else max(steps - window + 1, 0)
    following = {
        "keys": stored[0][:, :, first:],
        "values": stored[1][:, :, first:],
        "mask": None if mask is None else mask[:, first:],
    }
    if form.rotary is not None:
        following["position"] = np.zeros(batch, np.int64) if position is None else position
        following["position"] = following["position"] + time
    return [queries, keys, values], allowed, replaced, following


def next_context(
    form: Projections, params: Params, given: Inputs, state: Any, window: int | None
) -> Next:
    """Return the arrays of cross-attention at the next steps; the context is projected once."""
    if state is None:
        sequences, replaced = given.finite(None)
        qkv = form.forward(params, sequences)
        state = {"keys": qkv[1].copy(), "values": qkv[2].copy()}
    else:
        qkv = [*form.forward(params, given.sequences[:1]), state["keys"], state["values"]]
        replaced = Replaced()
    return qkv, given.allowed(None), replaced, state


def _appended(past: dict[str, Any], new: list[Array]) -> list[Array]:
    """Return all keys and values."""
    pairs = zip(("keys", "values"), new, strict=True)
    return [
        np.concatenate([past[name], array] if past else [array], axis=2) for name, array in pairs
    ]


def _with_lost_steps(array: Array, replaced: Replaced, mask: Array | None) -> Array:
    """Return keys or values with NaN at unmasked non-finite steps, for all later queries."""
    odd: Any = replaced.zeros if mask is None else replaced.zeros & mask
    return np.where(odd[:, None, :, None], np.nan, array)


def _joined_masks(past: Array | None, new: Array | None, batch: int, steps: int) -> Array | None:
    """Return the mask of all steps; a mask of `None` is true everywhere."""
    if past is None and new is None:
        return None
    mask = np.ones((batch, steps), bool)
    if past is not None:
        mask[:, : past.shape[1]] = past
    if new is not None:
        mask[:, steps - new.shape[1] :] = new
    return mask
