"""Weights of other libraries: the layer of each array, and the position of each number.

A table has a rule for each layer. The rule returns the parameters under the names and in the
layouts of the other library:

    "dense": lambda p, given: {"weight": transposed(p["weight"]), "bias": p["bias"]}

The rule is applied to an array of positions instead of the parameters. The result has the expected
names and shapes, and the position of each number of a file. If two arrays have the same positions,
such as two biases, their numbers are added.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl import tree
from npdl.checkpoint._files.containers import opened
from npdl.checkpoint._files.limits import CheckpointError, Kind
from npdl.checkpoint.weights._leaves import Channels, Follow, Leaf, constructor_of, leaf_layers
from npdl.checkpoint.weights._match import Modules, Unit
from npdl.functional._arrays import check_class
from npdl.functional._layer import Layer, Params
from npdl.tree import Array

__all__ = [
    "Given",
    "Named",
    "Rule",
    "Rules",
    "Weights",
    "check_heads",
    "gates",
    "joined",
    "load_foreign",
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


def check_heads(library: str, given: Given) -> None:
    """Raise if attention shares heads of keys and values."""
    if given.get("kv_heads") not in (None, given.get("heads")):
        raise ValueError(
            f"{library}'s attention has as many heads of keys as of queries; build the layer "
            f"without kv_heads"
        )


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
    # Returns all spellings of the names of a rule.
    spellings: Callable[[list[str]], list[list[str]]] = lambda names: [names]
    follow: Follow = lambda *_: None
    # Returns the parameters of a layer with its input channels last instead of first.
    rearranged: Callable[[Leaf, Channels], Params] = lambda leaf, _: leaf.params


def load_foreign(
    source: str | os.PathLike[str] | Mapping[str, Any],
    model: Layer,
    like: Params,
    rules: Rules,
    names: Mapping[str, str] | None,
    flattened: Mapping[str, int] | None = None,
) -> Params:
    """Return parameters with the structure of `like` and the numbers of a file or a mapping."""
    if not isinstance(model, Layer):
        raise TypeError(f"expected the model as a layer, got {model!r}")
    vector, unravel = tree.ravel(like)
    positions = unravel(np.arange(vector.size, dtype=np.min_scalar_type(-vector.size - 1)))
    leaves = leaf_layers(model, positions, rules.layers, rules.follow)
    for argument, given in (("names", names or {}), ("flattened", flattened or {})):
        _check_paths(argument, given, leaves)
    for i, leaf in enumerate(leaves):
        if flattened and leaf.path in flattened:
            leaves[i] = attrs.evolve(leaf, channels=Channels(flattened[leaf.path], True))
    units = [_unit(leaf, rules) for leaf in leaves]
    # Loaded running statistics have a count of one batch.
    counts = [
        leaf.params["count"]
        for leaf in leaves
        if leaf.name == "batch_norm" and "count" in leaf.params
    ]
    _check_reached(like, counts + [array for unit in units for array in unit.positions.values()])
    result = np.zeros_like(vector)
    for count in counts:
        result[count] = 1
    with _opened(source) as (title, kinds, read):
        modules = Modules(title, kinds, rules.canonical, rules.separator)
        for pair in modules.pairs(units, dict(names or {}), like):
            for name, indices in pair.shared():
                result[indices] += read(name)
    return tree.map(np.copy, unravel(result))


def _check_paths(argument: str, given: Mapping[str, Any], leaves: list[Leaf]) -> None:
    paths = [leaf.path for leaf in leaves]
    for path in given:
        if path not in paths:
            raise ValueError(
                f"{argument}: {path!r} is not the path of a layer with parameters; these are "
                f"{', '.join(map(repr, paths))}"
            )


def _unit(leaf: Leaf, rules: Rules) -> Unit:
    rule, where = rules.layers.get(leaf.name), leaf.path or "the model"
    if rule is None:
        raise ValueError(
            f"{where} = {leaf.layer!r} has parameters without names in {rules.library}; a "
            f"combinator of your own must declare its children, as in F.Layer(…, "
            f"parts=F.parts(…)); the children must be npdl's {', '.join(rules.layers)}"
        )
    params = leaf.params
    try:
        if leaf.channels is not None:
            params = rules.rearranged(leaf, leaf.channels)
        weights = rule(_named(params), leaf.arguments)
    except ValueError as error:
        error.add_note(f"in {where} = {leaf.layer!r}")
        raise
    positions = {name: array for name, array in weights.items() if array is not None}
    spellings = [
        dict(zip(names, positions, strict=True)) for names in rules.spellings(list(positions))
    ]
    biases = {name for name in positions if "bias" in name}
    label = repr(leaf.layer) if len(repr(leaf.layer)) < 60 else leaf.name
    may_lack = biases if leaf.name in rules.zero_biases else set()
    return Unit(leaf.path, label, positions, spellings, may_lack)


def _named(params: Params) -> Any:
    if isinstance(params, dict):
        return Named({key: _named(part) for key, part in params.items()})
    return tuple(map(_named, params)) if isinstance(params, tuple | list) else params


def _check_reached(like: Params, positions: list[Array]) -> None:
    """Raise unless each number of the parameters has a position in the other library."""
    reached = np.zeros(tree.count(like), bool)
    for array in positions:
        reached[array] = True
    end = 0
    for path, leaf in tree.items(like):
        start, end = end, end + np.size(leaf)
        if not reached[start:end].all():
            raise ValueError(
                f"`like` does not belong to the model, whose layer has no {path}; pass "
                f"model.init(rng, shape)"
            )


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[tuple[str, dict[str, Kind], Callable[[str], np.ndarray]]]:
    """Yield a title, the types and shapes of all arrays, and a function that reads one."""
    if isinstance(source, Mapping):
        arrays = {name: _array(name, value) for name, value in source.items()}
        kinds: dict[str, Kind] = {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
        yield "the mapping", kinds, arrays.__getitem__
        return
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"expected the path of a .safetensors or .npz file, or a mapping of names to arrays, "
            f"got {type(source).__name__}"
        )
    with opened(source) as container:
        if container.header is not None:
            raise CheckpointError(
                f"{os.fspath(source)} was written by npdl.checkpoint.save; read it with "
                f"npdl.checkpoint.load"
            )
        yield os.fspath(source), container.kinds, container.read


def _array(name: Any, value: Any) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"expected a mapping of names to arrays, but {name!r:.80} is not a string")
    if isinstance(value, np.ndarray):
        check_class(value, f"the entry {name!r}")
    try:
        array = np.asarray(value)
    except Exception as error:
        error.add_note(f"the entry {name!r} cannot be converted to a NumPy array")
        raise
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"expected a mapping of names to arrays of numbers, but {name!r} is a "
            f"{type(value).__name__}"
        )
    return array
