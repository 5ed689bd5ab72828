"""Boxes of a model's drawing, nested like its combinators. All sizes are in points."""

import functools
import itertools
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from npdl import tree
from npdl.functional._arrays import is_several
from npdl.functional._layer import Params, Shape
from npdl.functional.combinators._parts import Node, Parts, at, bound, flat, found
from npdl.plot._canvas import text_width
from npdl.plot._layout import Edge, Point, layered

__all__ = ["LINE", "SMALL", "TEXT", "Box", "box", "frame", "shape_texts"]

TEXT, SMALL, LINE = 9.0, 8.0, 11.5
_FILLS = {"params": "#D3E5F5", "layer": "#F1F1F1", "join": "#FBE9D0", "end": "#FFFFFF"}
_SIGNS = {"add": "+", "multiply": "×"}
_WIDEST, _SIDE = 32, 10.0  # letters per line of a label, and the margin


@attrs.frozen
class Box:
    """A box with lines, a frame with a title, or, without lines, a point on a frame's border.

    `path` is the path of the layer's parameters in the parameters of the model. Edges arrive at
    `entries` and leave at `exits`, offsets to the right of the middle. A frame has `boxes` with
    their upper left corners, and `arrows` with their points and styles.
    """

    lines: tuple[str, ...] = ()
    width: float = 0.0
    height: float = 0.0
    fill: str = ""
    path: str = ""
    entries: tuple[float, ...] = (0.0,)
    exits: tuple[float, ...] = (0.0,)
    boxes: tuple[tuple["Box", Point], ...] = ()
    arrows: tuple[tuple[list[Point], str], ...] = ()


def box(label: Sequence[str], shape: str, kind: str, path: str = "") -> Box:
    """Return a box with a label and the text of a shape."""
    lines = (*label, shape)
    width = max(text_width(line, TEXT) for line in lines) + 2 * _SIDE
    return Box(lines, max(width, 60.0), len(lines) * LINE + 8.0, _FILLS[kind], path)


def frame(
    parts: Parts, params: Params, shape: Shape, path: str, title: str, *ends: list[Box]
) -> Box:
    """Return the frame of declared parts, between the boxes of its inputs and outputs if given."""
    declared, shapes = parts.of_shape(shape)
    boxes: list[Box] = []
    edges: dict[Edge, None] = {}

    def added(new: Box, reads: Any, out: Shape) -> Any:
        """Add a box that reads some values; return its outputs: edges that lack their targets."""
        for edge, arrive in zip(reads, itertools.cycle(new.entries), strict=False):
            edges[edge(len(boxes), arrive)] = None
        exits = itertools.cycle([functools.partial(Edge, len(boxes), x) for x in new.exits])
        boxes.append(new)
        return _filled(out, lambda _: next(exits))

    first = ends[0] if ends else [Box()] * len(shape_texts(shape))
    inputs = iter([added(each, (), ()) for each in first])
    values = bound(declared.name, declared.inputs, _filled(shape, lambda _: next(inputs)))
    for node in declared.nodes:
        given, reads = found(shapes, node.sources), flat(found(values, node.sources))
        out = node.layer.out_shape(given)
        below = "" if node.path is None else f"{path}/{node.label}".strip("/")
        child = _child(node, at(params, node.path), given, out, below)
        shapes |= bound(declared.name, node.names, out)
        values |= bound(declared.name, node.names, added(child, reads, out))
    results = flat(found(values, declared.outputs))
    for each, edge in zip(ends[1] if ends else [Box()] * len(results), results, strict=True):
        added(each, (edge,), ())
    return _framed(title, path, boxes, [*edges], (len(first), len(results)))


def _framed(
    title: str, path: str, boxes: list[Box], edges: list[Edge], ends: tuple[int, int]
) -> Box:
    """Return a frame around boxes; the first ones are its inputs, the last ones its outputs."""
    x, top, paths, (width, height) = layered([(b.width, b.height) for b in boxes], edges, *ends)
    # The title in the upper left corner does not overlap incoming arrows.
    heading = text_width(title, SMALL) + 12
    enter = [(p[1][0] + p[2][0]) / 2 for p in paths if p[0][1] == 0]
    left = max(_SIDE, heading - min(enter, default=heading))
    width += left + max(_SIDE, heading - width - left)
    ports = tuple(left + middle - width / 2 for middle in x)
    corners = [(left + x[i] - each.width / 2, top[i]) for i, each in enumerate(boxes)]
    styles = ["-|>" if boxes[edge.target].fill else "-" for edge in edges]
    paths = [[(left + middle, y) for middle, y in points] for points in paths]
    inside = tuple(zip(boxes, corners, strict=True)), tuple(zip(paths, styles, strict=True))
    entries, exits = ports[: ends[0]], ports[len(ports) - ends[1] :]
    return Box((title,), width, height, "", path, entries, exits, *inside)


def _child(node: Node, params: Params, shape: Shape, out: Shape, path: str) -> Box:
    """Return the frame of a layer that declares its parts, a circle with a sign, or a box."""
    call, parts, has_params = node.layer.call, node.layer.parts, bool(tree.count(params))
    if parts is not None and parts.nodes:
        return frame(parts, params, shape, path, "Layer" if call is None else call.name)
    label = "Layer" if call is None else repr(call).removesuffix("()")
    if call is not None and node.path is None:
        label = str(call.keywords.get("join", call.name)).strip("_").replace("_", " ")
    if label in _SIGNS and not has_params:
        return Box((_SIGNS[label],), 18.0, 18.0, _FILLS["join"], path)
    lines = textwrap.wrap(label, _WIDEST, max_lines=2, placeholder="…)", break_on_hyphens=False)
    kind = "params" if has_params else "join" if len(shape_texts(shape)) > 1 else "layer"
    return box(lines, ", ".join(shape_texts(out)) or "none", kind, path)


def shape_texts(shape: Any) -> tuple[str, ...]:
    """Write the shape of each array: ``3 × 32 × 32``."""
    texts = _filled(shape, lambda axes: " × ".join("?" if n is None else str(n) for n in axes))
    return tuple(text or "a number" for text in flat(texts))


def _filled(shape: Any, value: Callable[[Any], Any]) -> Any:
    """Return a shape with the value of each array's shape in its position."""
    if is_several(shape):
        return tuple([_filled(each, value) for each in shape])
    return None if shape is None else value(shape)
