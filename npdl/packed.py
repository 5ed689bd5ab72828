"""One update of an optimizer in few calls: small arrays are joined, large ones cut into blocks.

NumPy needs about a microsecond a call, and memory is slower than the second-level cache. So an
optimizer whose rule is the same for each number (``optimizer.elementwise``) is applied to one
vector that holds all small arrays, and to the large ones block by block.

What comes in and goes out are trees, as ever: the arrays of the trees are views into the
vectors. The vectors of the last result are remembered, and used again when that very result comes
back as the next input, so that the arrays need not be joined anew; nothing else depends on it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional.layer import Array, Params
from npdl.functional.transforms import Optimizer, apply_updates
from npdl.tree import Tree

__all__ = ["PackedUpdate"]

# Arrays of fewer numbers are joined; blocks of this size keep a rule's working set in the cache.
SMALL = 1 << 14
BLOCK = 1 << 15


@attrs.frozen
class _Group:
    """Arrays that are updated as one vector: for each, its leaf, its place there, its shape."""

    leaves: list[int]
    places: list[tuple[int, slice, tuple[int, ...]]]

    def join(self, arrays: list[Array]) -> Array:
        """Return one vector of the group's arrays; a view, where there is only one."""
        if len(self.leaves) == 1:
            return arrays[self.leaves[0]].reshape(-1)
        return np.concatenate([arrays[i] for i in self.leaves], axis=None)

    def join_slots(self, state: Any) -> Any:
        """Return the state of the group's vector."""
        return _map_slots(lambda slot: self.join(tree.leaves(slot)), state)

    def split(self, vector: Array, arrays: list[Any]) -> None:
        """Put views into the vector at the group's positions."""
        for i, place, shape in self.places:
            part = vector[place]
            arrays[i] = part if len(shape) == 1 else part.reshape(shape)


@attrs.define
class _Memory:
    """The last result, as trees and as vectors."""

    params: Params
    opt_state: Any
    vectors: list[Array]
    states: list[Any]


class PackedUpdate:
    """``params, opt_state = update(grads, opt_state, params)``, for one optimizer and model.

    Parameters
    ----------
    optimizer : Optimizer
        Any optimizer; one that is not element-wise is used as it is.
    donate : bool
        Whether the arrays of `params` and `opt_state` may be overwritten with the result.
    """

    def __init__(self, optimizer: Optimizer, donate: bool = False) -> None:
        self.optimizer = optimizer
        self.donate = donate
        self._plan: _Plan | None = None
        self._memory: _Memory | None = None

    def __call__(self, grads: Any, opt_state: Any, params: Params) -> tuple[Params, Any]:
        """Return the parameters and the state after one update."""
        memory = self._memory
        known = memory is not None and memory.params is params and memory.opt_state is opt_state
        plan = self._plan
        gradients = plan.gradients(grads) if known and plan is not None else None
        if gradients is None or plan is None:
            plan = _Plan(grads, params) if self.optimizer.elementwise and _plain(params) else None
            if plan is None or not plan.groups:
                updates, opt_state = self.optimizer.update(grads, opt_state, params)
                return apply_updates(params, updates), opt_state
            gradients = plan.gradients(grads) or []
            self._plan, memory = plan, None
        if memory is None:
            leaves = tree.leaves(params)
            vectors = [group.join(leaves) for group in plan.groups]
            states = [group.join_slots(opt_state) for group in plan.groups]
        else:
            vectors, states = memory.vectors, memory.states
        self._memory = None
        results = [
            self._update(group.join(gradients), state, vector)
            for group, state, vector in zip(plan.groups, states, vectors, strict=True)
        ]
        new_vectors = [vector for vector, _ in results]
        new_states = [state for _, state in results]
        self._memory = self._unpack(plan, params, opt_state, new_vectors, new_states, memory)
        return self._memory.params, self._memory.opt_state

    def _update(self, g: Array, state: Any, params: Array) -> tuple[Array, Any]:
        """Update one vector, in blocks where it is long."""
        if params.size <= BLOCK:
            updates, new_state = self.optimizer.update(g, state, params)
            if not self.donate:
                return params + updates, new_state
            params += updates
            return params, _zip_slots(_overwrite, state, new_state)
        new_params = params if self.donate else np.empty_like(params)
        result = state if self.donate else _map_slots(np.empty_like, state)
        new_state = state
        for start in range(0, params.size, BLOCK):
            block = slice(start, start + BLOCK)
            before = _cut(state, block)
            updates, new_state = self.optimizer.update(g[block], before, params[block])
            np.add(params[block], updates, out=new_params[block])
            _zip_slots(_overwrite, _cut(result, block), new_state)
        return new_params, _zip_slots(lambda whole, part: whole, result, new_state)

    def _unpack(
        self,
        plan: "_Plan",
        params: Params,
        opt_state: Any,
        vectors: list[Array],
        states: list[Any],
        memory: _Memory | None,
    ) -> _Memory:
        if self.donate and memory is not None:
            # The trees' arrays are views into the vectors, which have been written: only the
            # counts of the state are new.
            opt_state = _zip_slots(lambda slot, vector: slot, opt_state, states[0])
            return _Memory(params, opt_state, vectors, states)
        new_params = plan.trees(params, vectors)
        # For each slot, its vectors in all groups.
        slots = zip(*(_slots(state) for state in states), strict=True)
        new_state = _map_slots(lambda slot: plan.trees(slot, next(slots)), opt_state)
        new_state = _zip_slots(lambda slot, vector: slot, new_state, states[0])
        return _Memory(new_params, new_state, vectors, states)


class _Plan:
    """How the leaves of one structure of parameters are grouped."""

    def __init__(self, grads: Any, params: Params) -> None:
        gradients = tree.aligned(grads, params)
        leaves = tree.leaves(params)
        self.paths = _key_paths(params)
        self.build = _builder(params, iter(range(len(leaves))))
        self.missing = [g is None for g in gradients]
        joined: dict[Any, list[int]] = {}
        for i, (g, leaf) in enumerate(zip(gradients, leaves, strict=True)):
            if g is not None:
                joined.setdefault((leaf.dtype, leaf.size < SMALL or i), []).append(i)
        self.groups = []
        for members in joined.values():
            places, end = [], 0
            for i in members:
                start, end = end, end + leaves[i].size
                places.append((i, slice(start, end), leaves[i].shape))
            self.groups.append(_Group(members, places))

    def gradients(self, grads: Any) -> list[Any] | None:
        """Return the gradients in order, or `None` if others are missing than were expected."""
        found = []
        for path, missing in zip(self.paths, self.missing, strict=True):
            g = grads
            for key in path:
                if g is None:
                    break
                g = g[key]
            if (g is None) != missing:
                return None
            found.append(g)
        return found

    def trees(self, like: Tree, vectors: Sequence[Array]) -> Tree:
        """Return the tree of views into the vectors, with the other leaves taken from `like`."""
        arrays: list[Any] = [None] * len(self.paths)
        if any(self.missing):
            arrays = tree.leaves(like)
        for group, vector in zip(self.groups, vectors, strict=True):
            group.split(vector, arrays)
        return self.build(arrays)


def _key_paths(params: Params) -> list[tuple[Any, ...]]:
    """Return the keys that lead to each leaf, in the order of :func:`npdl.tree.leaves`."""

    def walk(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(node, dict):
            for key in sorted(node, key=str):
                yield from walk(node[key], (*path, key))
        elif isinstance(node, tuple | list):
            for i, child in enumerate(node):
                yield from walk(child, (*path, i))
        elif node is not None:
            yield path

    return list(walk(params, ()))


def _builder(structure: Tree, positions: Iterator[int]) -> Callable[[list[Any]], Tree]:
    """Return a function that makes a tree of this structure: `tree.unflatten`, prepared."""
    if isinstance(structure, dict):
        children = {k: _builder(structure[k], positions) for k in sorted(structure, key=str)}
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


def _plain(params: Params) -> bool:
    """Whether the tree is made of dicts, tuples and lists alone, as those of layers are."""
    if type(params) is dict:
        return all(map(_plain, params.values()))
    if type(params) is tuple or type(params) is list:
        return all(map(_plain, params))
    return params is None or isinstance(params, np.ndarray)


# The state of an element-wise optimizer: `()`, a NamedTuple of a count and of trees that mirror
# the parameters, or a tuple of such states.


def _slots(state: Any) -> Iterator[Any]:
    if hasattr(state, "_fields"):
        yield from state[_first_slot(state) :]
    else:
        for part in state:
            yield from _slots(part)


def _first_slot(state: Any) -> int:
    return 1 if state._fields[0] == "count" else 0


def _map_slots(function: Callable[[Any], Any], state: Any) -> Any:
    if hasattr(state, "_fields"):
        first = _first_slot(state)
        return state._make((*state[:first], *map(function, state[first:])))
    return tuple([_map_slots(function, part) for part in state]) if state else state


def _zip_slots(function: Callable[[Any, Any], Any], old: Any, new: Any) -> Any:
    """Map over the slots of two states; the counts are those of the new one."""
    if hasattr(new, "_fields"):
        first = _first_slot(new)
        return new._make((*new[:first], *map(function, old[first:], new[first:])))
    return tuple([_zip_slots(function, *parts) for parts in zip(old, new, strict=True)])


def _cut(state: Any, block: slice) -> Any:
    return _map_slots(lambda slot: slot[block], state)


def _overwrite(old: Array, new: Array) -> Array:
    old[...] = new
    return old
