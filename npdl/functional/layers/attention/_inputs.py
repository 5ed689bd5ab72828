"""Inputs of attention: sequences, a mask of keys and a bias of scores, and their checks."""

from typing import Any, NamedTuple

import numpy as np

from npdl.functional._arrays import (
    check_array,
    check_float,
    check_mask,
    check_types,
    describe,
    is_example,
    is_several,
)
from npdl.functional._kernels.masked_steps import Replaced, replace_steps
from npdl.functional._layer import Params
from npdl.functional.layers.attention._projections import Projections
from npdl.tree import Array

__all__ = ["Inputs", "check_inputs", "check_sizes"]

_NAME = "multi_head_attention"


class Inputs(NamedTuple):
    """Checked inputs."""

    # x, and the context of cross-attention.
    sequences: tuple[Array, ...]
    # (batch, steps), true at keys with data.
    mask: Array | None
    # A float bias, which broadcasts to (batch, heads, time, steps), and its shape as it was passed.
    bias: Array | None
    bias_shape: tuple[int, ...]
    # The keys that the bias allows, which broadcasts to (batch, heads, time, steps).
    unbarred: Array | None
    # The number of inputs, 0 for an array in place of a tuple.
    number: int

    @property
    def times(self) -> tuple[int, int]:
        """The number of queries and of keys."""
        return self.sequences[0].shape[1], self.sequences[-1].shape[1]

    def allowed(self, order: Array | None) -> Array | None:
        """Return which keys a query attends to, of those in `order`; `None` for all.

        It broadcasts to (batch, heads, time, steps).
        """
        allowed = self.unbarred
        if order is not None:
            allowed = order[None, None] if allowed is None else allowed & order
        if self.mask is not None:
            mask = self.mask[:, None, None]
            allowed = mask if allowed is None else allowed & mask
        return allowed

    def finite(self, order: Array | None) -> tuple[tuple[Array, ...], Replaced]:
        """Return the sequences without steps that must not reach a matrix product."""
        *first, keys = self.sequences

        def attended() -> Array:
            allowed: Any = self.allowed(order)
            if first or self.mask is None:
                return allowed  # type: ignore[no-any-return]
            return allowed & self.mask[:, None, :, None]  # type: ignore[no-any-return]

        some = order is not None or self.unbarred is not None
        keys, replaced = replace_steps(keys, self.mask, attended if some else None)
        return (*first, keys), replaced

    def gradients(self, dx: list[Array], d_bias: Array | None) -> Any:
        """Return the gradients in the order of the inputs."""
        if not self.number:
            return dx[0]
        d_bias = None if d_bias is None else d_bias.reshape(self.bias_shape)
        return (*dx, None, d_bias)[: self.number]


def check_inputs(params: Params, x: Any, form: Projections) -> Inputs:
    """Return the checked inputs, or raise."""
    count, several = 2 if form.cross else 1, isinstance(x, tuple)
    given = x if several else (x,)
    if not count <= len(given) <= count + 2:
        first, alone = ("x, context", "(x, context)") if form.cross else ("x", "x")
        raise ValueError(
            f"{_NAME}: expected {alone} or ({first}, mask) or ({first}, mask, bias), got "
            f"{describe(x)}"
        )
    sequences, (mask, bias) = given[:count], (*given[count:], None, None)[:2]
    check_types(_NAME, params)
    for array, name in zip(sequences, form.sources, strict=True):
        weight = params[f"{name}weight"]
        check_float(array, _NAME, weight.dtype)
        if array.ndim != 3 or array.shape[2] != weight.shape[0] or array.shape[1] == 0:
            raise ValueError(
                f"{_NAME}: expected (batch, time, {weight.shape[0]}) with a time of one step or "
                f"more, got {describe(array)}"
            )
    if len(sequences[0]) != len(sequences[-1]):
        raise ValueError(
            f"{_NAME}: x and its context are batches of different sizes: {describe(sequences)}"
        )
    check_mask(_NAME, mask, sequences[-1], "keys")
    number = len(given) if several else 0
    if bias is None:
        return Inputs(sequences, mask, None, (), None, number)
    scores = _with_four_axes(bias, sequences, form.heads)
    if bias.dtype == bool:
        return Inputs(sequences, mask, None, bias.shape, scores, number)
    barred = scores == -np.inf
    return Inputs(sequences, mask, scores, bias.shape, ~barred if barred.any() else None, number)


def _with_four_axes(bias: Any, sequences: tuple[Array, ...], heads: int) -> Array:
    """Return the bias with axes for batch, heads, time and steps, or raise."""
    check_array(bias, f"{_NAME}, bias")
    batch, time = sequences[0].shape[:2]
    steps = sequences[-1].shape[1]
    shape, wanted = bias.shape, ((1, batch), (1, heads), (time,), (steps,))
    shape = {2: (1, 1, *shape), 3: (*shape[:1], 1, *shape[1:])}.get(len(shape), shape)
    if len(shape) != 4 or not all(size in sizes for size, sizes in zip(shape, wanted, strict=True)):
        raise ValueError(
            f"{_NAME}: the bias of the scores must be [{time}, {steps}], [{batch}, {time}, "
            f"{steps}] or [{batch}, {heads}, {time}, {steps}], got {describe(bias)}"
        )
    if bias.dtype != bool:
        check_float(bias, f"{_NAME}, bias", sequences[0].dtype)
    scores: Array = bias.reshape(shape)
    return scores


def check_sizes(shape: Any, form: Projections) -> tuple[Any, int, Any, int]:
    """Return the steps and features of an example, then of its keys, or raise."""
    given = tuple(shape) if is_several(shape) else (shape,)
    count = 2 if form.cross else 1
    sequences, (mask, bias) = given[:count], (*given[count:], None, None)[:2]
    if not count <= len(given) <= count + 2 or not all(
        is_example(sequence, axes=2, known=1) for sequence in sequences
    ):
        expected = (
            "((time, features), (steps, features)), and (steps,) at the end for a mask"
            if form.cross
            else "(time, features), or ((time, features), (time,)) with a mask"
        )
        raise ValueError(f"{_NAME}: expected the shape of one example, {expected}, got {shape!r}")
    (steps, features), (keys, others) = sequences[0], sequences[-1]
    if mask is not None and tuple(mask) != (keys,):
        raise ValueError(
            f"{_NAME}: the mask of an example of {keys} keys has the shape ({keys},), got {mask!r}"
        )
    scores = [(*first, steps, keys) for first in ((), (1,), (form.heads,))]
    if bias is not None and tuple(bias) not in scores:
        raise ValueError(
            f"{_NAME}: the bias of the scores of an example has the shape ({steps}, {keys}) or "
            f"({form.heads}, {steps}, {keys}), got {bias!r}"
        )
    if features % form.heads:
        raise ValueError(f"{_NAME}: {form.heads} heads do not divide the {features} features of x")
    if form.rotary is not None and features // form.heads % 2:
        raise ValueError(
            f"{_NAME}: rotary positions rotate pairs of features, so each head needs an even "
            f"number of features, got {features} features of {form.heads} heads"
        )
    return steps, features, keys, others
