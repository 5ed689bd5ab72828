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
from npdl.functional._kernels.blocks import UPDATE_BLOCK
from npdl.functional._layer import Params
from npdl.functional.optimizers._layout import Layout, groups, plain
from npdl.functional.optimizers._optimizer import (
    Link,
    Optimizer,
    checked_gradient,
    linked,
    sum_of_squares,
    update_arrays,
)
from npdl.functional.optimizers._slots import flat, map_slots, nested, slots, with_counts
from npdl.tree import Array

__all__ = ["Packed", "pack", "update_in_place"]


@attrs.define(eq=False, repr=False)
class Packed:
    """Parameters and the state of an element-wise optimizer, as trees and as vectors."""

    optimizer: Optimizer
    layout: Layout
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
            factor = None if optimizer.elementwise else self.factor(gradients)
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
        return self.optimizer.rule.factor(found, squares)  # type: ignore[union-attr, misc]

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
            cut = [map_slots(operator.itemgetter(parts[k]), state) for state in self.states[k]]
            vector = self.vectors[k][parts[k]]
            _, counted = _update_blocks(self.links, gradients[k], cut, vector, True, factor)
        states = [list(map(with_counts, old, counted)) for old in self.states]
        return attrs.evolve(self, states=states, is_whole=True)

    def serves(self, optimizer: Optimizer) -> bool:
        """Whether the value is one of this optimizer; it adopts one with the same kind of state."""
        if optimizer is not self.optimizer:
            if optimizer.rule is None:
                return False
            templates = nested(self.optimizer.rule, iter(self.templates))
            _check_state(optimizer, templates, self.params)
            self.optimizer, self.links = optimizer, linked(optimizer.rule)
        return True

    def arrays(self) -> list[list[Array]]:
        """Return for each vector of parameters the vector, and the vectors of its slots."""
        return [
            [vector, *slots(states)]
            for vector, states in zip(self.vectors, self.states, strict=True)
        ]

    def placed(self, arrays: list[list[Array]], fetch: Callable[[], None]) -> "Packed":
        """Return the same value in other arrays, as from :meth:`arrays`.

        The trees have read-only views of them. `fetch` completes the slots.
        """
        vectors = [vector for vector, *_ in arrays]
        states = []
        for (_, *placed), old in zip(arrays, self.states, strict=True):
            new = iter(placed)
            states.append([map_slots(functools.partial(_next, new), state) for state in old])
        params = self.layout.trees(self.params, tree.read_only(vectors))
        return attrs.evolve(self, params=params, vectors=vectors, states=states, fetch=fetch)

    def opt_state(self) -> Any:
        """Return the state of the optimizer for the tree of parameters."""
        if self.fetch is not None:
            self.fetch()
        states = self.layout.states(self.templates, self.states)
        state = nested(self.optimizer.rule, iter(states))
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
    links, states = linked(optimizer.rule), flat(optimizer.rule, opt_state)
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
    for slot in slots(opt_state):
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
    links, states = linked(optimizer.rule), flat(optimizer.rule, state)  # type: ignore[arg-type]
    counted = states
    for group in groups(grads, params):
        vector = group.join(params)
        joined = [map_slots(group.join, each) for each in states]
        _, counted = _update_blocks(links, group.join(grads), joined, vector, True)
        for slot, new in zip(slots(state), slots(counted), strict=True):
            for i, part in zip(group.leaves, group.parts(new), strict=True):
                slot[i] = part
        for i, part in zip(group.leaves, group.parts(vector), strict=True):
            if not np.may_share_memory(part, params[i]):
                params[i][...] = part
    return nested(optimizer.rule, map(with_counts, states, counted))


def _next(arrays: Iterator[Array], _: Array) -> Array:
    return next(arrays)


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
    result = states if donate else [map_slots(np.empty_like, state) for state in states]
    after = states
    for start in range(0, max(params.size, 1), UPDATE_BLOCK):
        block = slice(start, start + UPDATE_BLOCK)
        cut = [map_slots(operator.itemgetter(block), state) for state in result]
        if not donate:
            for new, old in zip(slots(cut), slots(states), strict=True):
                np.copyto(new, old[block])
        mine = g[block] if factor is None else g[block] * factor
        u, after = update_arrays(links, mine, cut, params[block], True)
        np.add(params[block], u, out=new_params[block])
    return new_params, [with_counts(*each) for each in zip(result, after, strict=True)]
