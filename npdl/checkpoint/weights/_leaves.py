"""The layers of a model that have parameters, in the order in which they are applied."""

import inspect
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, TypeAlias

import attrs

import npdl.functional as F
from npdl import tree
from npdl.functional._layer import Layer, Params

__all__ = ["UNKNOWN", "Channels", "Follow", "Leaf", "constructor_of", "leaf_layers"]


@attrs.frozen
class Channels:
    """What arrays are whose channels come first, where another library has them last."""

    # 0 where it is not known any more which numbers belong to which channel.
    count: int
    # Whether flatten has joined the other axes to that of the channels.
    flat: bool


UNKNOWN = Channels(0, False)

# follow(name, arguments, before) -> after: the channels behind a layer. `None` where both
# libraries have the numbers of an example in one order.
Follow: TypeAlias = Callable[[str, dict[str, Any], Channels | None], Channels | None]


@attrs.frozen
class Leaf:
    """A layer with parameters, and its place in the model."""

    path: str
    name: str  # of its constructor; empty, if that is not one of npdl's
    layer: Layer
    arguments: dict[str, Any]
    params: Params
    channels: Channels | None  # of its input


def leaf_layers(
    model: Layer, params: Params, whole: Container[str], follow: Follow = lambda *_: None
) -> list[Leaf]:
    """Return the layers with parameters that a model consists of.

    Parameters
    ----------
    model : Layer
        The model; what is made of layers by `serial`, `graph` and the like is opened.
    params : Params
        Its parameters, or anything in their place.
    whole : container of str
        Names of the blocks that are not to be opened.
    follow : callable, optional
        What to know of the arrays between the layers.
    """
    walk = _Walk(whole, follow, [])
    walk.visit(model, params, (), None)
    return walk.found


Path: TypeAlias = tuple[str, ...]


@attrs.frozen
class _Walk:
    """A way through a model in the order of its layers; each method returns what is behind."""

    whole: Container[str]
    follow: Follow
    found: list[Leaf]

    def visit(
        self, layer: Layer, params: Params, path: Path, before: Channels | None
    ) -> Channels | None:
        name, given = constructor_of(layer)
        if name in ("freeze", "one_step"):
            return self.visit(given["inner"], params, path, before)
        if name in ("serial", "residual", "stack"):
            for child, part, place in _children(name, given["layers"], params, path):
                before = self.visit(child, part, place, before)
            return before
        if name == "parallel":
            branches = _children(name, given["layers"], params, path)
            return _joined(given, [self.visit(*branch, before) for branch in branches])
        if name == "graph":
            return self.nodes(given, params, path, before)
        if name in _BLOCKS:
            parts = _block_parts(name, given["heads"])
            _check_keys(name, list(parts), params, path, exactly=False)
            if name not in self.whole:
                for key, part in parts.items():
                    self.visit(part, params[key], (*path, key), before)
                return before
        if tree.leaves(params):
            if name == "bidirectional":
                _children(name, (layer, layer), params, path)
            elif name in self.whole and not isinstance(params, dict):
                raise _other_params(name, "a dict", params, path)
            self.found.append(Leaf("/".join(path), name, layer, given, params, before))
        return self.follow(name, given, before)

    def nodes(
        self, given: dict[str, Any], params: Params, path: Path, before: Channels | None
    ) -> Channels | None:
        """Visit the nodes of a graph."""
        nodes = [(_names(names), *node) for names, node in given["nodes"].items()]
        _check_keys("graph", [names[0] for names, _, _ in nodes], params, path)
        known = dict.fromkeys(_names(given["inputs"]), before)
        for names, child, sources in nodes:
            merged = _merged(known[source] for source in _names(sources))
            after = self.visit(child, params[names[0]], (*path, names[0]), merged)
            known |= dict.fromkeys(names, after)
        return _merged(known[output] for output in _names(given["outputs"]))


def constructor_of(layer: Layer) -> tuple[str, dict[str, Any]]:
    """Return the name and all arguments of one of npdl's constructors, or nothing."""
    call = layer.call
    if call is None or getattr(F, call.name, None) is not call.constructor:
        return "", {}
    bound = inspect.signature(call.constructor).bind(*call.positional, **call.keywords)
    bound.apply_defaults()
    return call.name, bound.arguments


def _children(
    name: str, layers: Sequence[Layer], params: Params, path: Path
) -> list[tuple[Layer, Params, Path]]:
    """Return the layers with their parameters and paths."""
    if not isinstance(params, tuple | list) or len(params) != len(layers):
        raise _other_params(name, f"a tuple of {len(layers)}", params, path)
    return [(layer, params[i], (*path, str(i))) for i, layer in enumerate(layers)]


def _check_keys(
    name: str, keys: list[str], params: Params, path: Path, exactly: bool = True
) -> None:
    wanted = set(keys)
    given = params.keys() if isinstance(params, dict) else set()
    if not wanted <= given or (exactly and wanted != given):
        raise _other_params(name, f"a dict of {', '.join(keys)}", params, path)


def _other_params(name: str, wanted: str, params: Params, path: Path) -> ValueError:
    return ValueError(
        f"`like` does not belong to the model: {'/'.join(path) or 'the root'} is {name}(…), with "
        f"{wanted}, not {_described(params)}; give model.init(rng, shape)"
    )


def _described(params: Params) -> str:
    if isinstance(params, dict):
        return f"a dict of {', '.join(map(str, params))}"
    if isinstance(params, tuple | list):
        return f"a {type(params).__name__} of {len(params)}"
    return "an array"


def _names(names: Any) -> list[str]:
    given = names if isinstance(names, tuple | list) else (names,)
    return [name for name in given if name is not None]


def _merged(several: Iterable[Channels | None]) -> Channels | None:
    """Return what is known of several arrays together; masks and the like make no difference."""
    distinct = {channels for channels in several if channels is not None}
    return UNKNOWN if len(distinct) > 1 else next(iter(distinct), None)


def _joined(given: dict[str, Any], branches: list[Channels | None]) -> Channels | None:
    """Return the channels behind a `parallel`."""
    if given["join"] != "concatenate":
        return _merged(branches)
    if all(channels is None for channels in branches):
        return None
    count = 0
    for channels in branches:
        if channels is None or channels.flat or not channels.count or given["axis"] != 1:
            return UNKNOWN
        count += channels.count
    return Channels(count, False)


_BLOCKS = ("transformer_encoder_block", "transformer_decoder_block")


def _block_parts(name: str, heads: int) -> dict[str, Layer]:
    """Return the layers of a block under the names of their parameters; sizes do not matter."""
    parts = {"attention": F.multi_head_attention(heads)}
    if name == "transformer_decoder_block":
        parts["cross_attention"] = F.multi_head_attention(heads, cross=True)
    parts["feed_forward"] = F.serial(F.dense(1), F.linear(), F.dropout(0.0), F.dense(1))
    norms = {f"{part}_norm": F.layer_norm() for part in parts}
    return parts | norms
