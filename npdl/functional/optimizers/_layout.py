"""The layout of parameters in vectors: small arrays are joined, large arrays stay alone."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional._kernels.blocks import UPDATE_JOINED
from npdl.functional._layer import Params
from npdl.functional.optimizers._slots import first_slot, map_slots
from npdl.tree import Array, Tree

__all__ = ["Layout", "groups", "plain"]

_is_none = functools.partial(operator.is_, None)


class Layout:
    """The groups of leaves for one structure of parameters."""

    def __init__(self, grads: Any, params: Params) -> None:
        gradients = tree.aligned(grads, params)
        leaves = tree.leaves(params)
        self.build = _builder(params, iter(range(len(leaves))))
        self.nodes = list(_nodes(params, ()))
        self.missing = list(map(_is_none, gradients))
        self.trains_all = not any(self.missing)
        self.groups = groups(gradients, leaves)

    def gradients(self, grads: Any) -> list[Any] | None:
        """Return the gradients in order, or `None` for a different set of missing gradients."""
        found: list[Any] = []
        for path, keys in self.nodes:
            node = grads
            for key in path:
                if node is None:
                    break
                node = node[key]
            found += [None] * len(keys) if node is None else map(node.__getitem__, keys)
        return found if list(map(_is_none, found)) == self.missing else None

    def trees(self, like: Tree, vectors: Sequence[Array]) -> Tree:
        """Return the tree of views into the vectors; untrained leaves come from `like`, if any."""
        if self.trains_all and len(vectors) == 1:
            return self.build(self.groups[0].parts(vectors[0]))
        untrained = [] if self.trains_all or like is None else tree.leaves(like)
        return self.build(self.arrays(vectors, untrained))

    def arrays(self, vectors: Sequence[Array], untrained: list[Array]) -> list[Any]:
        """Return the arrays of all leaves: views into the vectors; others are `None` if missing."""
        arrays: list[Any] = untrained or [None] * len(self.missing)
        for group, vector in zip(self.groups, vectors, strict=True):
            for i, part in zip(group.leaves, group.parts(vector), strict=True):
                arrays[i] = part
        return arrays

    def states(self, like: list[Any], states: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the rules' states with trees for slots, from their states for each vector."""
        found = []
        for old, *new in zip(like, *states, strict=True):
            if old:
                first = first_slot(old)
                slots = zip(*[state[first:] for state in new], strict=True)
                trees = map(self.trees, old[first:], slots)
                old = tuple.__new__(type(old), (*new[0][:first], *trees))
            found.append(old)
        return found


@attrs.frozen(eq=False, repr=False)
class _Group:
    """Arrays that are updated as one vector: leaf, slice of the vector and shape of each."""

    dtype: np.dtype[Any]
    size: int
    leaves: list[int]
    runs: list[tuple[slice, tuple[int, ...]]]

    def join(self, arrays: list[Array]) -> Array:
        """Return one vector of the group's arrays; a view if the group has only one array.

        Raises
        ------
        TypeError, ValueError
            If an array has another type, or the total size differs.
        """
        dtype = self.dtype
        if len(self.leaves) < len(arrays):
            arrays = [arrays[i] for i in self.leaves]
        for array in arrays:
            # "is" takes a third of the time of "=="; equal types can be different objects.
            if array.dtype is not dtype and array.dtype != dtype:
                raise TypeError(f"expected {dtype}, got {array.dtype}")
        vector = arrays[0].reshape(-1) if len(arrays) == 1 else np.concatenate(arrays, axis=None)
        if vector.size != self.size:
            raise ValueError(f"expected {self.size} numbers, got {vector.size}")
        return vector

    def join_slots(self, state: Any) -> Any:
        """Return the state of the group's vector."""
        return map_slots(lambda slot: self.join(tree.leaves(slot)), state)

    def parts(self, vector: Array) -> list[Array]:
        """Return the group's arrays as views into the vector."""
        return [
            vector[run] if len(shape) == 1 else vector[run].reshape(shape)
            for run, shape in self.runs
        ]


def groups(gradients: Sequence[Any], leaves: Sequence[Array]) -> list[_Group]:
    """Group the arrays with a gradient: small arrays of one type together, large arrays alone."""
    joined: dict[Any, list[int]] = {}
    for i, (g, leaf) in enumerate(zip(gradients, leaves, strict=True)):
        if g is not None:
            joined.setdefault((leaf.dtype, -1 if leaf.size < UPDATE_JOINED else i), []).append(i)
    groups = []
    for (dtype, _), members in joined.items():
        runs, end = [], 0
        for i in members:
            start, end = end, end + leaves[i].size
            runs.append((slice(start, end), leaves[i].shape))
        groups.append(_Group(dtype, end, members, runs))
    return groups


def _nodes(params: Params, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], list[Any]]]:
    """Yield paths of containers, and keys of leaves in them, in the order of the leaves."""
    if isinstance(params, np.ndarray):
        yield path, [...]  # a view of the whole array
        return
    keys = tree.sorted_keys(params) if isinstance(params, dict) else range(len(params))
    for is_leaf, run in itertools.groupby(keys, lambda key: isinstance(params[key], np.ndarray)):
        if is_leaf:
            yield path, list(run)
        else:
            for key in run:
                if params[key] is not None:
                    yield from _nodes(params[key], (*path, key))


def _builder(structure: Tree, positions: Iterator[int]) -> Callable[[list[Any]], Tree]:
    """Return a function that builds a tree of this structure: a compiled `tree.unflatten`."""
    if isinstance(structure, dict):
        ordered = tree.sorted_keys(structure)
        if all(isinstance(child, np.ndarray) for child in structure.values()):
            index = {key: next(positions) for key in ordered}
            at = [(key, index[key]) for key in structure]
            return lambda leaves: {key: leaves[i] for key, i in at}
        children = {key: _builder(structure[key], positions) for key in ordered}
        pairs = [(key, children[key]) for key in structure]
        return lambda leaves: {key: child(leaves) for key, child in pairs}
    if isinstance(structure, tuple | list):
        if not tree.leaves(structure):
            return lambda leaves: structure
        kind = type(structure)
        parts = [_builder(child, positions) for child in structure]
        return lambda leaves: kind([part(leaves) for part in parts])
    if structure is None:
        return lambda leaves: None
    position = next(positions)
    return lambda leaves: leaves[position]


def plain(params: Params) -> bool:
    """Whether all containers of the tree are plain dicts, tuples and lists, as in layers."""
    if type(params) is dict:
        return all(map(plain, params.values()))
    if type(params) is tuple or type(params) is list:
        return all(map(plain, params))
    return params is None or isinstance(params, np.ndarray)
