"""The matrix products of attention: queries, keys and values of each head, and the output."""

from typing import Any

import attrs
import numpy as np

from npdl.functional._initializers import Initializer
from npdl.functional._kernels.attention import by_head, grouped
from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._kernels.rotary import rotate, rotations
from npdl.functional._layer import Params
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["Projections"]


@attrs.frozen
class Projections:
    """The weights of attention and their matrix products.

    Parameters
    ----------
    heads, shared : int
        The numbers of heads of queries, and of keys and values.
    cross : bool
        Whether keys and values have another source than the queries.
    bias : bool
        Whether each matrix product has a bias.
    rotary : float, optional
        The base of rotary positions.
    sources : tuple of str
        The prefix of the weights of each input sequence.
    blocks : tuple of tuple of slice
        The heads of queries, keys and values in the columns of each of these weights.
    names : set of str
        The names of all parameters.
    """

    heads: int
    shared: int
    cross: bool
    bias: bool
    rotary: float | None
    sources: tuple[str, ...] = attrs.field(init=False)
    blocks: tuple[tuple[slice, ...], ...] = attrs.field(init=False)
    names: frozenset[str] = attrs.field(init=False)

    @sources.default
    def _sources(self) -> tuple[str, ...]:
        return ("query_", "context_") if self.cross else ("",)

    @blocks.default
    def _blocks(self) -> tuple[tuple[slice, ...], ...]:
        first, shared = self.heads, self.shared
        queries, start = slice(0, first), 0 if self.cross else first
        keys = slice(start, start + shared), slice(start + shared, start + 2 * shared)
        return ((queries,), keys) if self.cross else ((queries, *keys),)

    @names.default
    def _names(self) -> frozenset[str]:
        kinds = ("weight", "bias") if self.bias else ("weight",)
        return frozenset(f"{name}{kind}" for name in (*self.sources, "output_") for kind in kinds)

    def init(
        self,
        rng: KeyLike,
        features: int,
        others: int,
        units: int,
        weight_init: Initializer,
        bias_init: Initializer,
    ) -> Params:
        """Return initial weights for these numbers of features."""
        width = features // self.heads * self.shared
        sizes = (("query", features, features), ("key", others, width), ("value", others, width))
        parts = [weight_init(fold(rng, name), (rows, columns)) for name, rows, columns in sizes]
        joined = [parts[:1], parts[1:]] if self.cross else [parts]
        weights = {
            f"{name}weight": np.concatenate(group, axis=1)
            for name, group in zip(self.sources, joined, strict=True)
        }
        weights["output_weight"] = weight_init(fold(rng, "output"), (features, units))
        if not self.bias:
            return weights
        biases = {
            name.replace("weight", "bias"): weight.shape[1:] for name, weight in weights.items()
        }
        return weights | {name: bias_init(fold(rng, name), size) for name, size in biases.items()}

    def forward(
        self, params: Params, sequences: tuple[Array, ...], first: Array | None = None
    ) -> list[Array]:
        """Return queries, keys and values by head; without a context, the queries.

        The position of the first step of each example is `first`, or 0.
        """
        size = len(params["output_weight"]) // self.heads
        projected: list[Array] = []
        for array, name, heads in zip(sequences, self.sources, self.blocks, strict=False):
            rows = as_rows(array).dot(params[f"{name}weight"])
            if self.bias:
                rows += params[f"{name}bias"]
            if not projected:
                rows[:, : self.heads * size] *= size**-0.5  # the queries
            projected += by_head(rows, array, size, heads)
        if self.rotary is not None:
            queries, keys, _ = projected
            tables = rotations(self.rotary, size, queries.dtype, queries.shape[2], first)
            rotate(queries, *tables)
            rotate(keys, *tables)
        projected[0] = grouped(projected[0], self.shared)
        return projected

    def gradients_like(
        self, params: Params, sequences: tuple[Array, ...]
    ) -> tuple[list[Array], list[Array]]:
        """Return new arrays for the gradients of the matrix products, and their views by head."""
        size, dtype = len(params["output_weight"]) // self.heads, params["output_weight"].dtype
        joined: list[Array] = []
        views: list[Array] = []
        for array, name, heads in zip(sequences, self.sources, self.blocks, strict=True):
            columns = params[f"{name}weight"].shape[1]
            rows = np.empty((array.shape[0] * array.shape[1], columns), dtype)
            joined.append(rows)
            views += by_head(rows, array, size, heads)
        return joined, views

    def backward(
        self,
        params: Params,
        sequences: tuple[Array, ...],
        joined: list[Array],
        views: list[Array],
        input_grad: bool,
    ) -> tuple[dict[str, Array], list[Array]]:
        """Return the gradients of the weights and of the sequences; overwrites the given ones."""
        size = len(params["output_weight"]) // self.heads
        if self.rotary is not None:
            tables = rotations(self.rotary, size, views[0].dtype, views[0].shape[2])
            for turned in views[:2]:
                rotate(turned, *tables, back=True)
        joined[0][:, : self.heads * size] *= size**-0.5
        grads: dict[str, Array] = {}
        dx: list[Array] = []
        for array, name, rows in zip(sequences, self.sources, joined, strict=True):
            grads[f"{name}weight"] = as_rows(array).T @ rows
            if self.bias:
                grads[f"{name}bias"] = sum_of_rows(rows)
            if input_grad:
                dx.append((rows @ params[f"{name}weight"].T).reshape(array.shape))
        return grads, dx

    def output(self, params: Params, mixed: Array) -> Array:
        """Return the last matrix product, (batch, time, units)."""
        y = as_rows(mixed).dot(params["output_weight"])
        if self.bias:
            y += params["output_bias"]
        by_step: Array = y.reshape(*mixed.shape[:2], y.shape[1])
        return by_step

    def output_backward(
        self, params: Params, mixed: Array, g: Array
    ) -> tuple[dict[str, Array], Array]:
        """Return the gradients of the output's weights and of `mixed`."""
        rows = as_rows(g)
        grads = {"output_weight": as_rows(mixed).T @ rows}
        if self.bias:
            grads["output_bias"] = sum_of_rows(rows)
        return grads, (rows @ params["output_weight"].T).reshape(mixed.shape)


def as_rows(x: Any) -> Array:
    """Return (batch, time, features) as (batch · time, features)."""
    rows: Array = x.reshape(x.shape[0] * x.shape[1], x.shape[2])
    return rows
