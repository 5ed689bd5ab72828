"""The layers of a model as units: the names of their arrays, and the position of each number.

A rule is applied to an array of positions instead of the parameters. The result has the names and
shapes of the other library, and the position of each number in the vector of all parameters. If two
arrays have the same positions, such as two biases, the parameter is their sum.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.checkpoint.weights._leaves import Channels, Leaf, is_within, leaf_layers
from npdl.checkpoint.weights._rules import Named, Rules
from npdl.functional._layer import Layer, Params
from npdl.tree import Array

__all__ = ["Names", "Single", "Unit", "listed", "units_of"]

Names = Mapping[str, str | tuple[str, ...]]


@attrs.frozen(eq=False)
class Unit:
    """A layer with parameters, and their names in the other library."""

    leaf: Leaf
    label: str
    positions: dict[str, Array]  # for each array, the positions of its numbers in the parameters
    spellings: list[dict[str, str]]  # from the possible names in the file to names in `positions`
    may_lack: set[str]  # names in `positions` that may be missing, but only all together
    module: str | None = None  # the module of this layer, if `names` has it
    region: str | None = None  # the module of a combinator around this layer, if `names` has it

    @property
    def path(self) -> str:
        """The path of the layer in the parameters."""
        return self.leaf.path

    @property
    def count(self) -> Array | None:
        """The position of the number of batches in the running statistics."""
        return self.leaf.params.get("count") if self.leaf.name == "batch_norm" else None

    @property
    def group_key(self) -> Any:
        """The names and shapes of its arrays; only the order distinguishes layers of one key."""
        return self.region, frozenset((name, each.shape) for name, each in self.positions.items())


@attrs.frozen(eq=False)
class Single:
    """An array of a layer, and its name in `names`; several names are joined along axis 0."""

    unit: Unit
    path: str
    names: tuple[str, ...]
    positions: Array


def units_of(
    model: Layer,
    params: Params,
    rules: Rules,
    names: Names | None,
    flattened: Mapping[str, int] | None,
) -> tuple[list[Unit], list[Single]]:
    """Return the layers of a model without the arrays in `names`, and those arrays.

    Raises
    ------
    ValueError
        If a layer has no counterpart, or if an argument does not belong to the model.
    TypeError
        If the model is not a layer, or `names` has other values than names.
    """
    if not isinstance(model, Layer):
        raise TypeError(f"expected the model as a layer, got {model!r}")
    size = tree.count(params)
    _, unravel = tree.ravel(params)
    positions = unravel(np.arange(size, dtype=np.min_scalar_type(-size - 1)))
    names, flattened = dict(names or {}), dict(flattened or {})
    leaves = leaf_layers(
        model,
        positions,
        rules.layers,
        rules.is_module,
        rules.follow,
        [each for each in names if isinstance(each, str)],
    )
    arrays = dict(tree.items(positions))
    _check_names(names, leaves, arrays)
    for path in flattened:
        if path not in [leaf.path for leaf in leaves]:
            raise _no_path("flattened", path, leaves)
    for i, leaf in enumerate(leaves):
        if leaf.path in flattened:
            leaves[i] = attrs.evolve(leaf, channels=Channels(flattened[leaf.path], True))
    modules = {path: str(name) for path, name in names.items() if path not in arrays}
    units = [_unit(leaf, rules, modules) for leaf in leaves]
    _check_reached(arrays, size, units)
    singles = [
        single
        for path, name in names.items()
        if path in arrays
        for unit in units
        if is_within(path, unit.path)
        for single in _singles(unit, path, arrays[path], name, rules.library)
    ]
    return [_rest(unit, singles) for unit in units], singles


def listed(names: Any) -> str:
    """Return the first names of a long list in quotes."""
    names = list(map(repr, names))
    rest = f" and {len(names) - 20} others" if len(names) > 20 else ""
    return ", ".join(names[:20]) + rest


def _check_names(names: dict[str, Any], leaves: list[Leaf], arrays: dict[str, Array]) -> None:
    for path, name in names.items():
        several = path in arrays and type(name) is tuple and name
        if not all(isinstance(each, str) for each in (name if several else (name,))):
            raise TypeError(
                f"names: expected the name of a module or an array for {path!r}, or a tuple of the "
                f"names of several arrays for one array, got {name!r:.80}"
            )
        if not isinstance(path, str) or not (
            path in arrays or any(is_within(leaf.path, path) for leaf in leaves)
        ):
            raise _no_path("names", path, leaves)


def _no_path(argument: str, path: Any, leaves: list[Leaf]) -> ValueError:
    more = "; names also takes paths of combinators and arrays" if argument == "names" else ""
    return ValueError(
        f"{argument}: {path!r} is not the path of a layer with parameters; these are "
        f"{listed(leaf.path for leaf in leaves)}{more}"
    )


def _unit(leaf: Leaf, rules: Rules, modules: dict[str, str]) -> Unit:
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
    around = [path for path in modules if path != leaf.path and is_within(leaf.path, path)]
    return Unit(
        leaf,
        label=repr(leaf.layer) if len(repr(leaf.layer)) < 60 else leaf.name,
        positions=positions,
        spellings=spellings,
        may_lack=biases if leaf.name in rules.zero_biases else set(),
        module=modules.get(leaf.path),
        region=modules[max(around, key=len)] if around else None,
    )


def _named(params: Params) -> Any:
    if isinstance(params, dict):
        return Named({key: _named(part) for key, part in params.items()})
    return tuple(map(_named, params)) if isinstance(params, tuple | list) else params


def _check_reached(arrays: dict[str, Array], size: int, units: list[Unit]) -> None:
    """Raise unless each number of the parameters has a position in the other library."""
    reached = np.zeros(size, bool)
    for unit in units:
        for positions in unit.positions.values():
            reached[positions] = True
        if unit.count is not None:
            reached[unit.count] = True
    for path, positions in arrays.items():
        if not reached[positions].all():
            raise ValueError(
                f"the parameters do not belong to the model, whose layer has no {path}; pass "
                f"model.init(rng, shape)"
            )


def _singles(
    unit: Unit, path: str, ours: Array, name: str | tuple[str, ...], library: str
) -> list[Single]:
    """Return the arrays of the other library with the numbers of one array of npdl."""
    names = (name,) if isinstance(name, str) else tuple(name)
    # An array of npdl has adjacent positions.
    first, last = ours.ravel()[[0, -1]] if ours.size else (0, -1)
    inside = {n: (each >= first) & (each <= last) for n, each in unit.positions.items()}
    inside = {n: mask for n, mask in inside.items() if mask.any()}
    if not inside:
        raise ValueError(f"names: {path!r} of {unit.label} is not an array of {library}")
    theirs = [unit.positions[n] for n in inside]
    if all(mask.all() for mask in inside.values()):
        # The first of two biases with one sum may be the only one.
        summands = all(np.array_equal(each, theirs[0]) for each in theirs)
        if len(names) == len(theirs) or (summands and len(names) < len(theirs)):
            pairs = zip(names, theirs, strict=False)
            return [Single(unit, path, (each,), positions) for each, positions in pairs]
    if len(theirs) == 1:  # some rows, as of the query in a projection of query, key and value
        (mask,) = inside.values()
        rows = mask.reshape(len(mask), -1).all(axis=1)
        if rows.sum() * mask[0].size == mask.sum():
            return [Single(unit, path, names, theirs[0][rows])]
    raise ValueError(
        f"names: {path!r} of {unit.label} is {listed(inside)} in {library}; pass the names of "
        f"these arrays as a tuple of {len(inside)}, or the name of the module for {unit.path!r}"
    )


def _rest(unit: Unit, singles: list[Single]) -> Unit:
    """Return a layer without the arrays that `names` has."""
    taken = [single.positions.ravel() for single in singles if single.unit is unit]
    if not taken:
        return unit
    numbers = np.concatenate(taken)
    rest = {}
    for local, positions in unit.positions.items():
        mask = np.isin(positions, numbers)
        if mask.any() and not mask.all():
            raise ValueError(
                f"names: {local!r} of {unit.path or 'the model'} = {unit.label} has the numbers of "
                f"several arrays of npdl; pass names for all of them"
            )
        if not mask.any():
            rest[local] = positions
    spellings = [
        {name: local for name, local in spelling.items() if local in rest}
        for spelling in unit.spellings
    ]
    return attrs.evolve(unit, positions=rest, spellings=spellings, may_lack=unit.may_lack & {*rest})
