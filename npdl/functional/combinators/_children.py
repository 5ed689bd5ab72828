"""The common code of all combinators: keys, notes on errors, gradients and statistics of children.

:func:`connected` builds a layer from a declaration. Child *i* gets the key ``fold(rng, i)``. An
error of a child gets a note per combinator: the notes spell the path of the child in the model.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from npdl import random, tree
from npdl._calls import shown
from npdl.functional._arrays import check_arrays, describe
from npdl.functional._checks import check_mode
from npdl.functional._layer import Layer, Params, Shape, keep_params, statistics
from npdl.functional.combinators._parts import Names, Parts, at, bound, found

__all__ = [
    "chain",
    "check_count",
    "check_layers",
    "check_params",
    "connected",
    "is_trained",
    "note_apply",
    "note_backward",
    "short",
]


class _Params:
    """The paths of the children's parameters, and the container that holds them."""

    def __init__(self, parts: Parts) -> None:
        paths = [node.path for node in parts.nodes if node.path is not None]
        self.paths = list(dict.fromkeys(paths))
        self.keys = [path[0] for path in self.paths if len(path) == 1]
        self.whole = self.paths == [()]
        # Longer paths occur in hand-written combinators.
        self.other = not self.whole and len(self.keys) < len(self.paths)
        self.names = None if all(isinstance(key, int) for key in self.keys) else {*self.keys}

    def packed(self, values: list[Any], like: Params = None) -> Params:
        """Return the values of the children as a tree like their parameters."""
        if self.whole or self.other:
            return values[0] if self.whole else None
        if self.names is None:
            return tuple([values[i] for i in sorted(range(len(values)), key=self.keys.__getitem__)])
        named = dict(zip(self.keys, values, strict=True))
        return named if like is None else {key: named.get(key) for key in like}

    def check(self, name: str, params: Params) -> None:
        """Raise unless the parameters are exactly the parameters of all children."""
        if self.whole:
            return
        if self.names is None:
            if type(params) is not tuple or len(params) != len(self.keys):
                check_count(name, len(self.keys), params)
        elif not isinstance(params, dict) or params.keys() != self.names:
            keys = ", ".join(map(str, self.keys))
            raise ValueError(
                f"{name}: expected a dict of the parameters of {keys}, as init(rng, shape) returns "
                f"it, got {describe(params)}; do they belong to another model?"
            )


def check_params(name: str, parts: Parts, params: Params) -> None:
    """Raise unless the parameters belong to the children in a declaration."""
    _Params(parts).check(name, params)


def connected(parts: Parts, *, single: bool = False, exact: bool = True) -> Layer:
    """Build a layer from a declaration.

    Parameters
    ----------
    parts : Parts
        The declaration, with paths of at most one key.
    single : bool
        Whether each child must have one output.
    exact : bool
        Whether parameters without a child are an error.
    """
    name = parts.name
    children = _Params(parts)
    slots = {path: slot for slot, path in enumerate(children.paths)}
    known: Any = functools.cache(parts.given)
    last_reads = functools.cache(lambda count: known(count).last_reads())

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        key = random.key(rng)
        fitting, values = parts.of_shape(shape)
        initialized: dict[Any, Params] = {}
        last = max((i for i, node in enumerate(fitting.nodes) if node.path is not None), default=-1)
        for node in fitting.nodes[: last + 1]:
            given = found(values, node.sources)
            try:
                if node.path is not None and node.path not in initialized:
                    initialized[node.path] = node.layer.init(_key(key, node.number), given)
                values |= bound(name, node.names, node.layer.out_shape(given))
            except Exception as error:
                child = f"{_child(name, node.path)} = {short(node.layer)}"
                error.add_note(f"in {child}, initialized for the shape {given}")
                raise
        return children.packed([initialized[path] for path in slots])

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        if train is not True and (train is not False or rng is not None):
            check_mode(train, rng)
        key = rng if rng is None or type(rng) is tuple else random.key(rng)
        if exact:
            children.check(name, params)
        count = len(x) if isinstance(x, tuple | list) else None
        fitting = known(count)
        if fitting is None:
            raise parts.refusal(x)
        values, caches = bound(name, fitting.inputs, x), []
        ended = None if keep_cache else last_reads(count)
        if not fitting.nodes:
            check_arrays(x, name)
        node = given = p = None
        try:
            for i, node in enumerate(fitting.nodes):
                sources, names = node.sources, node.names
                given = values[sources] if type(sources) is str else found(values, sources)
                path = node.path
                p = params[path[0]] if path else at(params, path)
                if node.plain is not None:
                    y, cache = node.plain(p, given)
                else:
                    child_key = None if key is None else _key(key, node.number)
                    y, cache = node.layer.apply(
                        p, given, train=train, rng=child_key, keep_cache=keep_cache
                    )
                if type(names) is not str:
                    values |= bound(name, names, y)
                elif single and isinstance(y, tuple):
                    raise ValueError(
                        f"{name}: each layer must have one output, but this one returns "
                        f"{describe(y)}"
                    )
                else:
                    values[names] = y
                if ended is None:
                    caches.append(cache)
                else:  # the memory is free for the next layer
                    given = y = cache = None
                    for each in ended[i]:
                        values.pop(each, None)
        except Exception as error:
            if node is not None and node.path:
                note_apply(error, _child(name, node.path), node.layer, p, given)
            raise
        return found(values, fitting.outputs), (caches, count) if keep_cache else None

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        caches, count = cache
        fitting = known(count)
        needed = None if input_grad else _needed(fitting, params)
        flow: dict[str, Any] = {}
        _send(flow, fitting.outputs, g)
        grads: list[Any] = [None] * len(slots)
        for node, kept in zip(reversed(fitting.nodes), reversed(caches), strict=True):
            if type(node.names) is str:
                given = flow.pop(node.names, None)
            else:
                given = _gathered(flow, node.names)
                for each in node.written:
                    flow.pop(each, None)
            if given is None or (needed is not None and needed.isdisjoint(node.written)):
                continue
            wanted = needed is None or not needed.isdisjoint(node.read)
            path = node.path
            p = params[path[0]] if path else at(params, path)
            try:
                part, dx = node.layer.backward(p, kept, given, input_grad=wanted)
            except Exception as error:
                if node.path:
                    note_backward(error, _child(name, node.path), node.layer, given)
                raise
            if path is not None:
                slot = slots[path]
                grads[slot] = part if grads[slot] is None else tree.add(grads[slot], part)
            _send(flow, node.sources, dx)
        gradient = children.packed(grads, params) if parts.trained else None
        return gradient, _gathered(flow, fitting.inputs) if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        fitting, values = parts.of_shape(shape)
        for node in fitting.nodes:
            values |= bound(name, node.names, node.layer.out_shape(found(values, node.sources)))
        return found(values, fitting.outputs)  # type: ignore[no-any-return]

    def update_stats(params: Params, cache: Any) -> Params:
        if cache is None:
            return params
        caches, count = cache
        updated = {path: at(params, path) for path in slots}
        for node, kept in zip(known(count).nodes, caches, strict=True):
            if node.path is not None:
                updated[node.path] = node.layer.update_stats(updated[node.path], kept)
        return children.packed(list(updated.values()))

    def needed(cache: Any) -> Any:
        caches, count = cache
        pairs = zip(known(count).nodes, caches, strict=True)
        return [statistics(node.layer, kept) for node, kept in pairs], count

    update_stats.needed = needed  # type: ignore[attr-defined]
    # Training skips `update_stats` if it is `keep_params`.
    constant = all(node.layer.update_stats is keep_params for node in parts.nodes)
    fold = keep_params if constant else update_stats
    return Layer(init, apply, backward, out_shape, fold, parts)


def chain(layers: Sequence[Layer], *more: str) -> tuple[dict[str, Any], str]:
    """Return the nodes of layers in a chain, which all read `more`, and the name of the last."""
    nodes: dict[str, Any] = {}
    before = "input"
    for i, child in enumerate(layers):
        nodes[str(i)] = (child, (before, *more) if more else before, (i,))
        before = str(i)
    return nodes, before


def _key(key: Any, number: int | None) -> Any:
    return key if number is None else (*key, number)


def _send(flow: dict[str, Any], names: Names, g: Any) -> None:
    """Accumulate gradients by name."""
    if g is None or names is None:
        return
    if isinstance(names, str):
        other = flow.get(names)
        if type(g) is np.ndarray and type(other) is np.ndarray:
            flow[names] = other + g
        else:
            flow[names] = g if other is None else tree.add(other, g)
        return
    for name, part in zip(names, g, strict=True):
        _send(flow, name, part)


def _gathered(flow: dict[str, Any], names: Names) -> Any:
    """Return the gradients of names; `None` if no name has one."""
    if names is None or isinstance(names, str):
        return flow.get(names)  # type: ignore[arg-type]
    gathered = tuple([_gathered(flow, name) for name in names])
    return None if all(part is None for part in gathered) else gathered


def _needed(parts: Parts, params: Params) -> set[str]:
    """Return the names of the values whose gradients the trained parameters depend on."""
    needed: set[str] = set()
    for node in parts.nodes:
        if not needed.isdisjoint(node.read) or is_trained(node.layer, at(params, node.path)):
            needed.update(node.written)
    return needed


def is_trained(child: Layer, params: Params) -> bool:
    """Whether a layer has parameters that are not frozen."""
    if child.parts is not None and not child.parts.trained:
        return False
    # The common case is checked first, because training calls this function in each step.
    if type(params) is dict and type(next(iter(params.values()), None)) is np.ndarray:
        return True
    return next(tree.items(params), None) is not None


# Errors


def check_layers(name: str, layers: Sequence[Any]) -> None:
    for i, child in enumerate(layers):
        if not isinstance(child, Layer):
            raise TypeError(
                f"{name}: argument {i} is {shown(child)}, not a layer; pass layers, as in "
                f"{name}(dense(8), relu()), and a list of layers as {name}(*layers)"
            )


def check_count(name: str, count: int, params: Params) -> None:
    if not isinstance(params, tuple | list) or len(params) != count:
        raise ValueError(
            f"{name}: expected the parameters of {count} layers, as init(rng, shape) returns them, "
            f"got {describe(params)}; do they belong to another model?"
        )


def _child(name: str, path: Any) -> str:
    return f"{name}[{path[-1]!r}]" if path else name


def note_apply(error: Exception, name: str, child: Layer, params: Params, x: Any) -> None:
    note = f"in {name} = {short(child)}, given {describe(x)}"
    if isinstance(error, KeyError | TypeError | IndexError | ValueError):
        note += f", with params {describe(params)}"
    error.add_note(note)


def note_backward(error: Exception, name: str, child: Layer, g: Any) -> None:
    error.add_note(f"in backward of {name} = {short(child)}, given {describe(g)}")


def short(child: Layer) -> str:
    text = repr(child)
    return text if len(text) <= 72 or child.call is None else f"{child.call.name}(…)"
