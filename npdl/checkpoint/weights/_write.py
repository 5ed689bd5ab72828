"""Parameters of a model as weights of other libraries."""

from collections.abc import Mapping

import numpy as np

from npdl import tree
from npdl.checkpoint.weights._leaves import is_within
from npdl.checkpoint.weights._rules import Rules
from npdl.checkpoint.weights._units import Names, Single, Unit, units_of
from npdl.functional._layer import Layer, Params
from npdl.tree import Array

__all__ = ["foreign_arrays"]


def foreign_arrays(
    params: Params,
    model: Layer,
    rules: Rules,
    names: Names | None,
    flattened: Mapping[str, int] | None,
) -> dict[str, np.ndarray]:
    """Return the parameters under the names and in the layouts of another library."""
    units, singles = units_of(model, params, rules, names, flattened)
    vector, _ = tree.ravel(params)
    modules = {path: name for path, name in (names or {}).items() if isinstance(name, str)}
    arrays: dict[str, np.ndarray] = {}
    for unit in units:
        for local, array in _arrays_of(unit, vector, rules).items():
            module = _module(unit, modules, rules)
            name = f"{module}{rules.separator}{local}" if module else local
            _put(arrays, rules.written(name), array)
    for i, single in enumerate(singles):
        again = any(np.array_equal(single.positions, other.positions) for other in singles[:i])
        for name, positions in zip(single.names, _rows(single), strict=True):
            array = vector.take(positions)
            _put(arrays, name, np.zeros_like(array) if again else array)
    return arrays


def _arrays_of(unit: Unit, vector: Array, rules: Rules) -> dict[str, np.ndarray]:
    """Return the arrays of a layer under the names of a rule."""
    arrays: dict[str, np.ndarray] = {}
    for local, positions in unit.positions.items():
        # The second of two biases with one sum is zero.
        again = any(np.array_equal(positions, unit.positions[earlier]) for earlier in arrays)
        arrays[local] = (
            np.zeros_like(vector, shape=positions.shape) if again else vector.take(positions)
        )
    padding_id = unit.leaf.arguments.get("padding_id")
    if padding_id is not None:
        for table in arrays.values():
            table[padding_id] = 0  # as the layer has it, for any values of the parameter
    arrays = rules.completed(unit.leaf.name, arrays)
    if rules.counter is not None and unit.count is not None:
        arrays[rules.counter] = np.asarray(vector.take(unit.count), np.int64)
    return arrays


def _module(unit: Unit, modules: dict[str, str], rules: Rules) -> str:
    """Return the name of the module of a layer: the given one, or the path."""
    if unit.module is not None:
        return unit.module
    parts = unit.path.split("/") if unit.path else []
    if unit.region is not None:
        around = [path for path in modules if path != unit.path and is_within(unit.path, path)]
        outer = max(around, key=len)
        parts = [unit.region, *parts[len(outer.split("/")) if outer else 0 :]]
    return rules.module(unit.leaf.name, rules.separator.join(filter(None, parts)))


def _rows(single: Single) -> list[Array]:
    """Return the positions for each name: equal parts, as of queries, keys and values."""
    count, length = len(single.names), len(single.positions)
    if length % count:
        raise ValueError(
            f"names: {single.path!r} of {single.unit.label} is an array of {length} rows, which "
            f"are not {count} equal parts for {', '.join(single.names)}; pass one name, and split "
            f"the array"
        )
    return np.split(single.positions, count)


def _put(arrays: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    """Add an array; a name may have several equal arrays, as a tied embedding does."""
    if not np.array_equal(arrays.setdefault(name, array), array, equal_nan=True):
        raise ValueError(f"names: two different arrays have the name {name!r}")
