"""The connections in a model: boxes, and frames of boxes, nested as the combinators are.

A value is represented by a tree of sources with the structure of its shape. It is a tuple if a
layer has several inputs or outputs. A layer without declared parts is a box.
"""

from typing import Any

import attrs

from npdl import tree
from npdl.functional._arrays import is_several
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional.combinators._parts import at, bound, found
from npdl.functional.combinators._rebuilt import first_call

__all__ = ["INPUT", "Part", "Source", "flat", "shape_text", "wired"]

INPUT = -1


@attrs.frozen
class Source:
    """The source of a value: an output of a part, or an input of the frame."""

    part: int  # INPUT for the inputs of the frame
    output: int


@attrs.frozen
class Part:
    """A layer in the picture of a model.

    Parameters
    ----------
    name : str
        The path of its parameters, from the root of the model.
    label : str
        The call that built it; for a frame, the name of the combinator.
    shape : tuple
        The shape of its output.
    has_params : bool
        Whether it is a layer with parameters.
    inputs : int
        The number of its input arrays.
    is_join : bool
        Whether it joins values without parameters, such as a sum.
    parts, sources, outputs
        The parts of a frame, the sources of each part, and the sources of the frame's outputs.
    """

    name: str
    label: str
    shape: Shape
    has_params: bool
    inputs: int
    is_join: bool = False
    parts: tuple["Part", ...] = ()
    sources: tuple[tuple[Source, ...], ...] = ()
    outputs: tuple[Source, ...] = ()


def wired(layer: Layer, params: Params, shape: Shape, name: str = "") -> Part:
    """Return the picture of a layer: a frame if it declares its parts, else a box."""
    if layer.parts is None or not layer.parts.nodes:
        return _box(name, layer, tree.count(params) > 0, shape)
    declared, shapes = layer.parts.of_shape(shape)
    values = bound(declared.name, declared.inputs, _numbered(shape, INPUT))
    inside: list[Part] = []
    sources: list[tuple[Source, ...]] = []
    for node in declared.nodes:
        given, read = found(shapes, node.sources), _listed(found(values, node.sources))
        out = node.layer.out_shape(given)
        if node.path is None:
            part = Part("", _sign(node.layer), out, False, len(read), is_join=True)
        else:
            path = f"{name}/{node.label}".strip("/")
            part = wired(node.layer, at(params, node.path), given, path)
        inside.append(part)
        sources.append(tuple(read))
        shapes |= bound(declared.name, node.names, out)
        values |= bound(declared.name, node.names, _numbered(out, len(inside) - 1))
    return Part(
        name,
        "Layer" if layer.call is None else layer.call.name,
        layer.out_shape(shape),
        has_params=False,
        inputs=len(flat(shape)),
        parts=tuple(inside),
        sources=tuple(sources),
        outputs=tuple(_listed(found(values, declared.outputs))),
    )


def shape_text(shape: Any) -> str:
    """Format the shape of one example: ``3 × 32 × 32``."""
    if shape is None:
        return "none"
    if is_several(shape):
        return ", ".join(map(shape_text, shape))
    return " × ".join("?" if size is None else str(size) for size in shape) or "a number"


def _box(name: str, layer: Layer, has_params: bool, shape: Shape) -> Part:
    label = "Layer" if layer.call is None else repr(layer.call).removesuffix("()")
    return Part(name, label, layer.out_shape(shape), has_params, len(flat(shape)))


def _sign(layer: Layer) -> str:
    """Return the label of a box that joins values."""
    call = first_call(layer)
    if call is None:
        return "Layer"
    join = str(call.keywords.get("join", call.name))
    return {"add": "+", "multiply": "×"}.get(join, join.strip("_").replace("_", " "))


def _numbered(shape: Any, part: int) -> Any:
    """Return the outputs of a part as a tree of sources with the structure of the shape."""
    count = 0

    def numbered(shape: Any) -> Any:
        nonlocal count
        if shape is None:
            return None
        if is_several(shape):
            return tuple(map(numbered, shape))
        count += 1
        return Source(part, count - 1)

    return numbered(shape)


def _listed(value: Any) -> list[Source]:
    """Return the sources in a value."""
    if value is None:
        return []
    return [value] if isinstance(value, Source) else [s for part in value for s in _listed(part)]


def flat(shape: Any) -> list[Shape]:
    """Return the shapes of the single arrays in a shape."""
    if shape is None:
        return []
    return [leaf for part in shape for leaf in flat(part)] if is_several(shape) else [shape]
