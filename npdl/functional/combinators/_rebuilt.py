"""Layers with changed functions or changed children, built from the declaration of their parts."""

import functools
from collections.abc import Callable
from typing import Any

import attrs

from npdl import tree
from npdl._constructor import Call
from npdl.functional._dual import as_dual
from npdl.functional._layer import Layer, Params, keep_params
from npdl.functional.combinators._children import connected
from npdl.functional.combinators._parts import Node, Parts

__all__ = [
    "changed",
    "first_call",
    "in_dual_numbers",
    "rebuilt",
    "rebuilt_by_node",
    "with_stored_statistics",
]


def rebuilt(layer: Layer, change: Callable[[Layer], Layer]) -> Layer:
    """Return a layer with the function `change` applied to each child.

    Children that are not trained use their stored statistics.
    """
    return rebuilt_by_node(layer, lambda node, child: change(child))


def rebuilt_by_node(layer: Layer, change: Callable[[Node, Layer], Layer]) -> Layer:
    """Return a layer with ``change(node, child)`` in place of each child, as :func:`rebuilt`."""
    parts: Parts = layer.parts
    nodes = tuple(
        attrs.evolve(
            node,
            layer=change(node, node.layer if parts.trained else with_stored_statistics(node.layer)),
        )
        for node in parts.nodes
    )
    call = first_call(layer)
    name = parts.name or ("Layer" if call is None else call.name)
    built = connected(attrs.evolve(parts, nodes=nodes, name=name), exact=False)
    if parts.around is not None:
        built = attrs.evolve(parts.around(built), parts=built.parts)
    return changed(
        layer,
        apply=built.apply,
        backward=built.backward,
        update_stats=built.update_stats,
        parts=built.parts,
    )


def with_stored_statistics(layer: Layer) -> Layer:
    """Return the layer with constant running statistics, in training too."""
    if layer.update_stats is keep_params:
        return layer
    if layer.parts is not None:
        stored = rebuilt(layer, with_stored_statistics)
        return attrs.evolve(stored, update_stats=keep_params)

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: Any = None, keep_cache: bool = True
    ) -> tuple[Any, Any]:
        return layer.apply(params, x, keep_cache=keep_cache)

    return changed(layer, apply=apply, update_stats=keep_params)


def changed(layer: Layer, **functions: Any) -> Layer:
    """Return a layer with other functions; it has the same repr, but is not equal."""
    call = layer.call
    if call is not None:
        construct = call.constructor

        @functools.wraps(construct)
        def again(*args: Any, **kwargs: Any) -> Any:
            return construct(*args, **kwargs)

        call = attrs.evolve(call, constructor=again)
    return attrs.evolve(layer, call=call, **functions)


def in_dual_numbers(layer: Layer) -> Layer:
    """Return the layer with outputs and gradients marked as dual numbers, also inside."""
    if layer.parts is not None:
        return rebuilt(layer, in_dual_numbers)

    def apply(params: Params, x: Any, **mode: Any) -> tuple[Any, Any]:
        return tree.map(as_dual, layer.apply(params, x, **mode))  # type: ignore[no-any-return]

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        found = layer.backward(params, cache, g, input_grad=input_grad)
        return tree.map(as_dual, found)  # type: ignore[no-any-return]

    return changed(layer, apply=apply, backward=backward)


def first_call(layer: Layer) -> Call | None:
    """Return the innermost constructor call that built a layer."""
    call = layer.call
    while call is not None and call.inner is not None:
        call = call.inner
    return call
