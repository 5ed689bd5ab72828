"""What is connected to what in a model: boxes, and frames of boxes, nested as the combinators are.

A value that flows is a tree of sources of the structure of its shape: a tuple where a layer has
several inputs or outputs. A layer whose combinator is not npdl's is a box.
"""

from typing import Any

import attrs

from npdl import tree
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional.combinators._graph import graph
from npdl.functional.combinators._parallel import parallel
from npdl.functional.combinators._serial import freeze, residual, serial
from npdl.functional.combinators._stack import stack

__all__ = ["INPUT", "Part", "Source", "flat", "shape_text", "wired"]

INPUT = -1


@attrs.frozen
class Source:
    """Where a value comes from: which output of which part; or which input of the frame."""

    part: int  # INPUT for the inputs of the frame
    output: int


@attrs.frozen
class Part:
    """A layer in the picture of a model.

    Parameters
    ----------
    name : str
        The path of its parameters in those of the model.
    label : str
        The call that made it; of a frame, the name of the combinator.
    shape : tuple
        The shape of its output.
    has_params : bool
        Whether it is a layer with parameters of its own.
    inputs : int
        How many arrays it is given.
    is_join : bool
        Whether it is no layer, but where values meet.
    parts, sources, outputs
        Of a frame: what is in it, where each of these reads, and what it returns.
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
    """Return the picture of a layer: a frame if it is one of npdl's combinators, else a box."""
    constructor = None if layer.call is None else layer.call.constructor
    connect = _CONNECT.get(constructor)
    if connect is None or layer.call is None:
        return _box(name, layer, tree.count(params) > 0, shape)
    frame = _Frame(name, shape)
    label, outputs = connect(frame, layer.call, params, shape)
    return Part(
        name,
        label,
        layer.out_shape(shape),
        has_params=False,
        inputs=len(flat(shape)),
        parts=tuple(frame.parts),
        sources=tuple(frame.sources),
        outputs=tuple(_listed(outputs)),
    )


def shape_text(shape: Any) -> str:
    """Write the shape of one example: ``3 × 32 × 32``."""
    if shape is None:
        return "none"
    if _is_several(shape):
        return ", ".join(map(shape_text, shape))
    return " × ".join("?" if size is None else str(size) for size in shape) or "a number"


class _Frame:
    """Collects the parts of a combinator, each with what it reads."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.parts: list[Part] = []
        self.sources: list[tuple[Source, ...]] = []
        self.given = _numbered(shape, INPUT)

    def place(self, key: Any) -> str:
        """Return the path of what has that key in the frame's parameters."""
        return f"{self.name}/{key}".lstrip("/")

    def add(self, part: Part, value: Any) -> Any:
        """Let a part read a value; return the value that it gives."""
        self.parts.append(part)
        self.sources.append(tuple(_listed(value)))
        return _numbered(part.shape, len(self.parts) - 1)

    def child(self, key: Any, layer: Layer, params: Params, shape: Shape, value: Any) -> Any:
        """Add a layer with its own key in the parameters."""
        return self.add(wired(layer, params, shape, self.place(key)), value)

    def join(self, label: str, shape: Shape, values: tuple[Any, ...]) -> Any:
        """Add a box where values meet, which is no layer."""
        return self.add(Part("", label, shape, False, len(values), is_join=True), values)


def _box(name: str, layer: Layer, has_params: bool, shape: Shape) -> Part:
    label = "Layer" if layer.call is None else repr(layer.call).removesuffix("()")
    return Part(name, label, layer.out_shape(shape), has_params, len(flat(shape)))


def _serial(frame: _Frame, call: Any, params: Params, shape: Shape) -> tuple[str, Any]:
    value = frame.given
    for i, child in enumerate(call.positional):
        value = frame.child(i, child, params[i], shape, value)
        shape = child.out_shape(shape)
    return call.name, value


def _residual(frame: _Frame, call: Any, params: Params, shape: Shape) -> tuple[str, Any]:
    value = _serial(frame, call, params, shape)[1]
    return "residual", frame.join("+", shape, (value, frame.given))


def _stack(frame: _Frame, call: Any, params: Params, shape: Shape) -> tuple[str, Any]:
    if not _is_several(shape):
        return _serial(frame, call, params, shape)
    (value, *rest), (first, *others) = frame.given, shape
    for i, child in enumerate(call.positional):
        value = frame.child(i, child, params[i], (first, *others), (value, *rest))
        first = child.out_shape((first, *others))
    return "stack", value


def _parallel(frame: _Frame, call: Any, params: Params, shape: Shape) -> tuple[str, Any]:
    values = tuple(
        frame.child(i, child, params[i], shape, frame.given)
        for i, child in enumerate(call.positional)
    )
    join = call.keywords.get("join", "add")
    if join is None:
        return "parallel", values
    whole = parallel(*call.positional, **call.keywords).out_shape(shape)
    sign = {"add": "+", "multiply": "×"}.get(join, join)
    return "parallel", frame.join(sign, whole, values)


def _graph(frame: _Frame, call: Any, params: Params, shape: Shape) -> tuple[str, Any]:
    inputs, nodes, outputs = (call.keywords[key] for key in ("inputs", "nodes", "outputs"))
    values, shapes = _bound(inputs, frame.given), _bound(inputs, shape)
    for names, (child, sources) in nodes.items():
        key = names if isinstance(names, str) else names[0]
        given = _found(shapes, sources)
        value = frame.child(key, child, params[key], given, _found(values, sources))
        values |= _bound(names, value)
        shapes |= _bound(names, child.out_shape(given))
    return "graph", _found(values, outputs)


def _freeze(frame: _Frame, call: Any, params: Params, shape: Shape) -> tuple[str, Any]:
    inner = call.keywords["inner"]
    return "freeze", frame.add(wired(inner, params, shape, frame.name), frame.given)


_CONNECT: dict[Any, Any] = {
    serial: _serial,
    residual: _residual,
    stack: _stack,
    parallel: _parallel,
    graph: _graph,
    freeze: _freeze,
}


def _bound(names: Any, values: Any) -> dict[str, Any]:
    return {names: values} if isinstance(names, str) else dict(zip(names, values, strict=True))


def _found(values: dict[str, Any], names: Any) -> Any:
    if names is None or isinstance(names, str):
        return values.get(names)  # type: ignore[arg-type]
    return tuple(values.get(name) for name in names)


def _numbered(shape: Any, part: int) -> Any:
    """Return the outputs of a part as a tree of sources, of the structure of the shape."""
    count = 0

    def numbered(shape: Any) -> Any:
        nonlocal count
        if shape is None:
            return None
        if _is_several(shape):
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
    return [leaf for part in shape for leaf in flat(part)] if _is_several(shape) else [shape]


def _is_several(shape: Any) -> bool:
    return any(isinstance(part, tuple | list) for part in shape)
