"""An optimizer's update in few calls: small arrays are joined, large arrays are split into blocks.

NumPy needs about a microsecond per call, and memory is slower than the second-level cache. So an
element-wise optimizer is applied to one vector of all small arrays, and to large arrays block by
block. The parameters of the model are views into these vectors.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional._arrays import describe
from npdl.functional._kernels.blocks import UPDATE_BLOCK, UPDATE_JOINED
from npdl.functional._layer import Params
from npdl.functional.optimizers._optimizer import (
    Link,
    Optimizer,
    Rule,
    checked_gradient,
    linked,
    state_name,
    sum_of_squares,
    update_arrays,
)
from npdl.tree import Array, Tree

__all__ = ["Layout", "Packed", "pack", "plain", "update_in_place"]


@attrs.define(eq=False, repr=False)
class Packed:
    """Parameters and the state of an element-wise optimizer, as trees and as vectors."""

    optimizer: Optimizer
    layout: "Layout"
    links: list[Link]
    params: Params
    vectors: list[Array]
    states: list[list[Any]]  # for each vector, the states of the optimizer's rules
    templates: list[Any]  # earlier states for the tree of parameters
    is_whole: bool = True  # false once a later value overwrites the arrays
    # Completes the states, if this process updates only a part of them.
    fetch: Callable[[], None] | None = None

    def update(self, optimizer: Optimizer, grads: Any, donate: bool) -> "Packed | None":
        """Return the updated value, or `None` if it must be packed again.

        It must be packed again for another optimizer, or for a different set of missing gradients.
        With `donate`, the result overwrites the arrays of this value.
        """
        gradients = self.layout.gradients(grads) if optimizer is self.optimizer else None
        if gradients is None:
            return None
        try:
            joined = [group.join(gradients) for group in self.layout.groups]
            factor = None if optimizer.factor is None else self.factor(gradients)
        except (AttributeError, TypeError, ValueError):
            _check_gradients(gradients, self.params)
            raise
        # With `donate`, an interrupt may leave the arrays partly overwritten.
        self.is_whole = not donate
        vectors, states = [], []
        for g, vector, old in zip(joined, self.vectors, self.states, strict=True):
            if vector.size <= UPDATE_BLOCK:
                g = g if factor is None else g * factor
                u, new = update_arrays(self.links, g, old, vector, donate)
                vectors.append(np.add(vector, u, out=vector if donate else None))
            else:
                changed, new = _update_blocks(self.links, g, old, vector, donate, factor)
                vectors.append(changed)
            states.append(new)
        params = self.params if donate else self.layout.trees(self.params, vectors)
        return Packed(optimizer, self.layout, self.links, params, vectors, states, self.templates)

    def factor(self, gradients: list[Any], squares: list[float] | None = None) -> float | None:
        """Return the factor of all gradients, for an optimizer that has one."""
        found = [np.asarray(g) for g in gradients if g is not None]
        squares = list(map(sum_of_squares, found)) if squares is None else squares
        return self.optimizer.factor(found, squares)  # type: ignore[misc]

    def update_parts(
        self, parts: Sequence[slice], gradients: Sequence[Any], factor: float | None
    ) -> "Packed":
        """Overwrite one part of each vector, and return the updated value.

        Parameters
        ----------
        parts : list of slices
            The part of each vector.
        gradients : list
            The gradient of each part: an array, or an object whose ``[block]`` is an array.
        factor : float, optional
            A number to multiply the gradients by.
        """
        self.is_whole = False
        own = [k for k, part in enumerate(parts) if part.start < part.stop]
        counted: list[Any] = []
        for k in own or [0]:  # an update without numbers counts, too
            cut = [_map_slots(operator.itemgetter(parts[k]), state) for state in self.states[k]]
            vector = self.vectors[k][parts[k]]
            _, counted = _update_blocks(self.links, gradients[k], cut, vector, True, factor)
        states = [list(map(_with_counts, old, counted)) for old in self.states]
        return attrs.evolve(self, states=states, is_whole=True)

    def serves(self, optimizer: Optimizer) -> bool:
        """Whether the value is one of this optimizer; it adopts one with the same kind of state."""
        if optimizer is not self.optimizer:
            if optimizer.rule is None:
                return False
            templates = _nested(self.optimizer.rule, iter(self.templates))
            _check_state(optimizer, templates, self.params)
            self.optimizer, self.links = optimizer, linked(optimizer.rule)
        return True

    def arrays(self) -> list[list[Array]]:
        """Return for each vector of parameters the vector, and the vectors of its slots."""
        return [
            [vector, *_slots(states)]
            for vector, states in zip(self.vectors, self.states, strict=True)
        ]

    def placed(self, arrays: list[list[Array]], fetch: Callable[[], None]) -> "Packed":
        """Return the same value in other arrays, as from :meth:`arrays`.

        The trees have read-only views of them. `fetch` completes the slots.
        """
        vectors = [vector for vector, *_ in arrays]
        states = []
        for (_, *slots), old in zip(arrays, self.states, strict=True):
            new = iter(slots)
            states.append([_map_slots(functools.partial(_next, new), state) for state in old])
        params = self.layout.trees(self.params, tree.read_only(vectors))
        return attrs.evolve(self, params=params, vectors=vectors, states=states, fetch=fetch)

    def opt_state(self) -> Any:
        """Return the state of the optimizer for the tree of parameters."""
        if self.fetch is not None:
            self.fetch()
        states = self.layout.states(self.templates, self.states)
        state = _nested(self.optimizer.rule, iter(states))
        return state if self.fetch is None else tree.read_only(state)


def pack(optimizer: Optimizer, grads: Any, opt_state: Any, params: Params) -> Packed | None:
    """Return the packed parameters and state, or `None` if the optimizer is not element-wise.

    The result is also `None` for trees of other containers and without any gradient.
    """
    if optimizer.rule is None or not plain(params):
        return None
    layout = Layout(grads, params)
    if not layout.groups:
        return None
    _check_gradients(tree.aligned(grads, params), params)
    _check_state(optimizer, opt_state, params)
    leaves = [np.asarray(leaf) for leaf in tree.leaves(params)]
    vectors = [group.join(leaves) for group in layout.groups]
    links, states = linked(optimizer.rule), _flat(optimizer.rule, opt_state)
    joined = [[group.join_slots(state) for state in states] for group in layout.groups]
    # The arrays are views into the vectors: an update of a vector updates them.
    views = layout.trees(params, vectors)
    return Packed(optimizer, layout, links, views, vectors, joined, states)


def _check_gradients(gradients: list[Any], params: Params) -> None:
    """Raise unless each gradient has the shape and type of its parameter."""
    for i, (g, p) in enumerate(zip(gradients, tree.leaves(params), strict=True)):
        if g is not None:
            checked_gradient(g, p, (), params, i)


def _check_state(optimizer: Optimizer, opt_state: Any, params: Params) -> None:
    """Raise unless a state belongs to this optimizer and these parameters."""
    # An update without gradients only compares the structures.
    optimizer.update(None, opt_state, params)
    for slot in _slots(opt_state):
        for (path, leaf), p in zip(tree.items(slot), tree.leaves(params), strict=True):
            if describe(leaf) != describe(p):
                raise ValueError(
                    f"the state of {path} is {describe(leaf)}, but the parameter is {describe(p)}; "
                    f"initialize a new state with optimizer.init(params)"
                )


def update_in_place(optimizer: Optimizer, grads: list[Any], state: Any, params: list[Array]) -> Any:
    """Write the result of an update into the arrays, and return the next state.

    Parameters
    ----------
    optimizer : Optimizer
        An element-wise optimizer.
    grads : list of arrays
        Gradients of the shapes and types of the parameters; `None` keeps a parameter unchanged.
    state : state
        The state from ``optimizer.init(params)`` for this list, or from the previous call. Its
        arrays are overwritten, too.
    params : list of arrays
        The parameters, with any strides.
    """
    links, states = linked(optimizer.rule), _flat(optimizer.rule, state)
    counted = states
    for group in _groups(grads, params):
        vector = group.join(params)
        joined = [_map_slots(group.join, each) for each in states]
        _, counted = _update_blocks(links, group.join(grads), joined, vector, True)
        for slot, new in zip(_slots(state), _slots(counted), strict=True):
            for i, part in zip(group.leaves, group.parts(new), strict=True):
                slot[i] = part
        for i, part in zip(group.leaves, group.parts(vector), strict=True):
            if not np.may_share_memory(part, params[i]):
                params[i][...] = part
    return _nested(optimizer.rule, map(_with_counts, states, counted))


def _flat(rule: Any, state: Any) -> list[Any]:
    """Return the states of the rules of an optimizer in a flat list."""
    if isinstance(rule, Rule):
        return [state]
    if type(state) is not tuple or len(state) != len(rule):
        raise ValueError(
            f"expected the states of {len(rule)} optimizers, got {state_name(state)}, of another "
            f"optimizer; initialize a new state: state = optimizer.init(params)"
        )
    return [each for part in zip(rule, state, strict=True) for each in _flat(*part)]


def _nested(rule: Any, states: Iterator[Any]) -> Any:
    """Return the state of an optimizer from the flat list of its rules' states."""
    if isinstance(rule, Rule):
        return next(states)
    return tuple([_nested(each, states) for each in rule])


def _update_blocks(
    links: list[Link],
    g: Array,
    states: list[Any],
    params: Array,
    donate: bool,
    factor: float | None = None,
) -> tuple[Array, list[Any]]:
    """Update a long vector block by block."""
    new_params = params if donate else np.empty_like(params)
    result = states if donate else [_map_slots(np.empty_like, state) for state in states]
    after = states
    for start in range(0, max(params.size, 1), UPDATE_BLOCK):
        block = slice(start, start + UPDATE_BLOCK)
        cut = [_map_slots(operator.itemgetter(block), state) for state in result]
        if not donate:
            for new, old in zip(_slots(cut), _slots(states), strict=True):
                np.copyto(new, old[block])
        mine = g[block] if factor is None else g[block] * factor
        u, after = update_arrays(links, mine, cut, params[block], True)
        np.add(params[block], u, out=new_params[block])
    return new_params, [_with_counts(*each) for each in zip(result, after, strict=True)]


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
        return _map_slots(lambda slot: self.join(tree.leaves(slot)), state)

    def parts(self, vector: Array) -> list[Array]:
        """Return the group's arrays as views into the vector."""
        return [
            vector[run] if len(shape) == 1 else vector[run].reshape(shape)
            for run, shape in self.runs
        ]


def _groups(gradients: Sequence[Any], leaves: Sequence[Array]) -> list[_Group]:
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


class Layout:
    """The groups of leaves for one structure of parameters."""

    def __init__(self, grads: Any, params: Params) -> None:
        gradients = tree.aligned(grads, params)
        leaves = tree.leaves(params)
        self.build = _builder(params, iter(range(len(leaves))))
        missing = [g is None for g in gradients]
        self.expected = list(zip(_key_paths(params), missing, strict=True))
        self.trains_all = not any(missing)
        self.groups = _groups(gradients, leaves)

    def gradients(self, grads: Any) -> list[Any] | None:
        """Return the gradients in order, or `None` for a different set of missing gradients."""
        found = []
        for path, missing in self.expected:
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
        """Return the tree of views into the vectors; untrained leaves come from `like`, if any."""
        if self.trains_all and len(vectors) == 1:
            return self.build(self.groups[0].parts(vectors[0]))
        untrained = [] if self.trains_all or like is None else tree.leaves(like)
        return self.build(self.arrays(vectors, untrained))

    def arrays(self, vectors: Sequence[Array], untrained: list[Array]) -> list[Any]:
        """Return the arrays of all leaves: views into the vectors; others are `None` if missing."""
        arrays: list[Any] = untrained or [None] * len(self.expected)
        for group, vector in zip(self.groups, vectors, strict=True):
            for i, part in zip(group.leaves, group.parts(vector), strict=True):
                arrays[i] = part
        return arrays

    def states(self, like: list[Any], states: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the rules' states with trees for slots, from their states for each vector."""
        found = []
        for old, *new in zip(like, *states, strict=True):
            if old:
                first = _first_slot(old)
                slots = zip(*[state[first:] for state in new], strict=True)
                trees = map(self.trees, old[first:], slots)
                old = tuple.__new__(type(old), (*new[0][:first], *trees))
            found.append(old)
        return found


def _key_paths(params: Params) -> list[tuple[Any, ...]]:
    """Return the path of keys of each leaf, in the order of :func:`npdl.tree.leaves`."""

    def walk(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(node, dict):
            for key in tree.sorted_keys(node):
                yield from walk(node[key], (*path, key))
        elif isinstance(node, tuple | list):
            for i, child in enumerate(node):
                yield from walk(child, (*path, i))
        elif node is not None:
            yield path

    return list(walk(params, ()))


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


# The state of an element-wise optimizer is `()`, a NamedTuple, or a tuple of such states. The
# NamedTuple has a count, and trees with the structure of the parameters.


def _slots(state: Any) -> Iterator[Any]:
    if hasattr(state, "_fields"):
        yield from state[_first_slot(state) :]
    else:
        for part in state:
            yield from _slots(part)


def _first_slot(state: Any) -> int:
    return 1 if state._fields[0] == "count" else 0


def _next(arrays: Iterator[Array], _: Array) -> Array:
    return next(arrays)


def _map_slots(function: Callable[[Any], Any], state: Any) -> Any:
    if hasattr(state, "_fields"):
        first = _first_slot(state)
        return state._make((*state[:first], *map(function, state[first:])))
    return tuple([_map_slots(function, part) for part in state]) if state else state


def _with_counts(state: Any, counted: Any) -> Any:
    """Return the state of a rule with the count of another state."""
    if hasattr(state, "_fields"):
        first = _first_slot(state)
        return state._make((*counted[:first], *state[first:]))
    return state
