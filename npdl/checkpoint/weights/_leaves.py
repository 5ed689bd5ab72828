"""The layers of a model with parameters, in execution order."""

import inspect
from collections.abc import Callable, Container, Iterable
from typing import Any, TypeAlias

import attrs

from npdl import tree
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._parts import Parts, at, flat

__all__ = ["UNKNOWN", "Channels", "Follow", "Leaf", "constructor_of", "is_within", "leaf_layers"]


@attrs.frozen
class Channels:
    """The channels of an array: they come first here, and last in the other library."""

    # 0 if the assignment of numbers to channels is not known.
    count: int
    # Whether flatten has merged the other axes with the channel axis.
    flat: bool


UNKNOWN = Channels(0, False)

# follow(layer, arguments, before) -> after: the channels of a layer's output. `None` if both
# libraries have the numbers of an example in the same order.
Follow: TypeAlias = Callable[[Layer, dict[str, Any], Channels | None], Channels | None]

# is_module(name, arguments, params): whether a combinator is one module of the other library.
IsModule: TypeAlias = Callable[[str, dict[str, Any], Params], bool]


@attrs.frozen
class Leaf:
    """A layer with parameters, and its path in the model."""

    path: str
    name: str  # the name of its constructor; empty for constructors outside npdl
    layer: Layer
    arguments: dict[str, Any]
    params: Params
    channels: Channels | None  # the channels of its input


def leaf_layers(
    model: Layer,
    params: Params,
    known: Container[str],
    is_module: IsModule,
    follow: Follow,
    inside: Iterable[str],
) -> list[Leaf]:
    """Return all layers with parameters in a model.

    Parameters
    ----------
    model : Layer
        The model; the result has the children of a combinator instead of the combinator.
    params : Params
        Its parameters, or another tree of the same structure.
    known : container of str
        Names of layers and combinators with a rule.
    is_module : callable
        A function that returns whether such a combinator counts as one layer.
    follow : callable
        A function that returns the channels of a layer's output.
    inside : iterable of str
        Paths; a combinator around one of them never counts as one layer.
    """
    walk = _Walk(known, is_module, follow, tuple(inside), [])
    walk.visit(model, params, (), [None])
    return walk.found


def is_within(path: str, outer: str, separator: str = "/") -> bool:
    """Whether a path is another path or continues it."""
    return outer in ("", path) or path.startswith(outer + separator)


Path: TypeAlias = tuple[str, ...]


@attrs.frozen
class _Walk:
    """Visits the layers of a model in execution order; a visit returns the output's channels."""

    known: Container[str]
    is_module: IsModule
    follow: Follow
    inside: tuple[str, ...]
    found: list[Leaf]

    def visit(
        self, layer: Layer, params: Params, path: Path, read: list[Channels | None]
    ) -> Channels | None:
        """Visit a layer; `read` has the channels of its inputs."""
        name, given = constructor_of(layer)
        if layer.parts is not None:
            _check_like(layer, layer.parts, params, path)
            if not self.is_one(name, given, params, "/".join(path)):
                return self.visit_parts(layer.parts, params, path, _merged(read))
        if tree.leaves(params):
            if name in self.known and layer.parts is None and not isinstance(params, dict):
                raise _other_params(name, "a dict", params, path)
            leaf = Leaf("/".join(path), name, layer, given, params, _merged(read))
            # Layers with shared parameters are one layer of the other library.
            if all(other.path != leaf.path for other in self.found):
                self.found.append(leaf)
        if name in ("joined", "concatenate") and given.get("join", name) == "concatenate":
            return _concatenated(given["axis"], read)
        return self.follow(layer, given, _merged(read))

    def is_one(self, name: str, given: dict[str, Any], params: Params, path: str) -> bool:
        """Whether a combinator counts as one layer."""
        inside = any(each != path and is_within(each, path) for each in self.inside)
        return name in self.known and not inside and self.is_module(name, given, params)

    def visit_parts(
        self, parts: Parts, params: Params, path: Path, before: Channels | None
    ) -> Channels | None:
        """Visit the children of a layer."""
        known = dict.fromkeys(flat(parts.inputs), before)
        for node in parts.nodes:
            child_path = (*path, *map(str, node.path or ()))
            read = [known[source] for source in node.read]
            after = self.visit(node.layer, at(params, node.path), child_path, read)
            known |= dict.fromkeys(node.written, after)
        return _merged([known[output] for output in flat(parts.outputs)])


def constructor_of(layer: Layer) -> tuple[str, dict[str, Any]]:
    """Return the name and all arguments of a constructor of npdl; empty ones for any other."""
    call = layer.call
    if call is None or call.constructor.__module__ != "npdl.functional":
        return "", {}
    bound = inspect.signature(call.constructor).bind(*call.positional, **call.keywords)
    bound.apply_defaults()
    return call.name, bound.arguments


def _check_like(layer: Layer, parts: Parts, params: Params, path: Path) -> None:
    """Raise unless the parameters are in the containers of a declaration."""
    keys = list(dict.fromkeys(node.path[0] for node in parts.nodes if node.path))
    if all(isinstance(key, int) for key in keys):
        fits = not keys or (isinstance(params, tuple | list) and len(params) == len(keys))
        wanted = f"a tuple of {len(keys)}"
    else:
        fits = isinstance(params, dict) and params.keys() >= set(keys)
        wanted = f"a dict of {', '.join(map(str, keys))}"
    if not fits:
        name = "Layer" if layer.call is None else layer.call.name
        raise _other_params(name, wanted, params, path)


def _other_params(name: str, wanted: str, params: Params, path: Path) -> ValueError:
    return ValueError(
        f"the parameters do not belong to the model: {'/'.join(path) or 'the root'} is {name}(…), "
        f"with {wanted}, not {_described(params)}; pass model.init(rng, shape)"
    )


def _described(params: Params) -> str:
    if isinstance(params, dict):
        return f"a dict of {', '.join(map(str, params))}"
    if isinstance(params, tuple | list):
        return f"a {type(params).__name__} of {len(params)}"
    return "an array"


def _merged(several: list[Channels | None]) -> Channels | None:
    """Return the common channels of several arrays; masks and ids have none."""
    distinct = {channels for channels in several if channels is not None}
    return UNKNOWN if len(distinct) > 1 else next(iter(distinct), None)


def _concatenated(axis: int, several: list[Channels | None]) -> Channels | None:
    """Return the channels of the concatenation of arrays along an axis."""
    if all(channels is None for channels in several):
        return None
    count = 0
    for channels in several:
        if channels is None or channels.flat or not channels.count or axis != 1:
            return UNKNOWN
        count += channels.count
    return Channels(count, False)
