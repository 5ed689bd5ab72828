"""The names and layouts of another library, as functions of npdl's parameters.

A table has a rule for each layer. The rule returns the parameters under the names and in the
layouts of the other library:

    "dense": lambda p, given: {"weight": transposed(p["weight"]), "bias": p["bias"]}

One rule serves both directions, since it is applied to the positions of the numbers instead of the
numbers. See :mod:`npdl.checkpoint.weights._units`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl.checkpoint.weights._leaves import Channels, Follow, Leaf, constructor_of
from npdl.functional._layer import Layer, Params
from npdl.tree import Array

__all__ = [
    "Given",
    "Named",
    "Rule",
    "Rules",
    "Weights",
    "gates",
    "joined",
    "projections",
    "transposed",
    "under",
    "weights_of",
]

Weights: TypeAlias = dict[str, Array | None]


class Named(dict[str, Any]):
    """The parameters of a layer; a missing one is `None`."""

    def __missing__(self, key: str) -> None:
        return None


# The arguments of a layer's constructor.
Given: TypeAlias = dict[str, Any]
# rule(params, given) -> the parameters under the names and in the layouts of the other library.
Rule: TypeAlias = Callable[[Any, Given], Weights]


def transposed(array: Array | None, *axes: int) -> Array | None:
    """Return the transpose, with the axes in this order."""
    return None if array is None else array.transpose(*axes)


def joined(*arrays: Array | None) -> Array | None:
    """Return the concatenation along the last axis of the arrays that are not `None`."""
    present = [array for array in arrays if array is not None]
    return np.concatenate(present, axis=-1) if present else None


def gates(p: Named, ours: str, theirs: str) -> Named:
    """Return the parameters of a recurrent layer with the column blocks of gates reordered."""

    def reordered(array: Array) -> Array:
        blocks = dict(zip(ours, np.split(array, len(ours), axis=-1), strict=True))
        return np.concatenate([blocks[gate] for gate in theirs], axis=-1)

    return Named({key: reordered(array) for key, array in p.items()})


def weights_of(inner: Layer, p: Any, layers: dict[str, Rule]) -> Weights:
    """Return the weights of a layer inside another layer."""
    name, given = constructor_of(inner)
    if name not in layers:
        raise ValueError(f"{inner!r} has no counterpart; the known layers are {', '.join(layers)}")
    return layers[name](p, given)


def under(prefix: str, weights: Weights) -> Weights:
    """Return the arrays, with a prefix to each name."""
    return {prefix + name: array for name, array in weights.items()}


def projections(p: Named, kind: str) -> Sequence[Any]:
    """Return the weights or biases of attention for queries, keys and values."""
    if p[kind] is not None:
        queries = len(p["output_weight"])
        return np.split(p[kind], [queries, (queries + p[kind].shape[-1]) // 2], axis=-1)
    if p[f"query_{kind}"] is None:
        return [None] * 3
    return [p[f"query_{kind}"], *np.split(p[f"context_{kind}"], 2, axis=-1)]


@attrs.frozen
class Rules:
    """The names and layouts of another library."""

    library: str
    separator: str
    layers: dict[str, Rule]
    # Returns a name in the form of the rules, or `None` for an array that is not a weight.
    canonical: Callable[[str], str | None]
    # Layers whose biases may be missing in the other library; they are 0 then.
    zero_biases: frozenset[str]
    # Whether a layer with children is one module: its name, arguments and parameters.
    is_module: Callable[[str, Given, Params], bool] = lambda layer, given, params: True
    # Returns all spellings of the names of a rule.
    spellings: Callable[[list[str]], list[list[str]]] = lambda names: [names]
    follow: Follow = lambda *_: None
    # Returns the parameters of a layer with its input channels last instead of first.
    rearranged: Callable[[Leaf, Channels], Params] = lambda leaf, _: leaf.params
    # For writing: the module of a layer, by its constructor and its path with this separator.
    module: Callable[[str, str], str] = lambda layer, path: path
    # For writing: a name as the other library has it, from the form of the rules.
    written: Callable[[str], str] = lambda name: name
    # For writing: the arrays of a layer, and the arrays that the other library has in addition.
    completed: Callable[[str, dict[str, np.ndarray]], dict[str, np.ndarray]] = (
        lambda layer, arrays: arrays
    )
    # The name of the number of batches in the running statistics.
    counter: str | None = None
