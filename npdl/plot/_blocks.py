"""Sizes of the boxes and frames of a model's drawing, and their nested layout.

All sizes are in points.
"""

import re

import attrs

from npdl.plot._canvas import text_width
from npdl.plot._layout import Edge, Layout, layered
from npdl.plot._wiring import INPUT, Part, Source, shape_text

__all__ = ["LINE", "SMALL", "TEXT", "Block", "arranged"]

TEXT, SMALL, LINE = 9.0, 8.0, 11.5
_WIDEST, _LINES = 32, 2  # of a label: letters per line, and number of lines
_SIDE = 10.0


@attrs.frozen
class Block:
    """A box, a frame of blocks, or a point on the border of a frame.

    Parameters
    ----------
    kind : str
        ``"layer"``, ``"join"``, ``"end"``, ``"frame"`` or ``"port"``.
    name : str
        The path of the layer's parameters in the parameters of the model.
    lines : tuple of str
        The text of a box, or the label of a frame.
    width, height : float
        The size.
    has_params : bool
        Whether the layer has parameters.
    entries, exits : tuple of float
        Offsets of incoming and outgoing arrows, to the right of the middle.
    blocks, edges, layout
        Of a frame: its blocks, in the order of the layout's nodes, and the edges between them.
    left : float
        Left offset of the layout in the frame.
    """

    kind: str
    name: str
    lines: tuple[str, ...]
    width: float
    height: float
    has_params: bool = False
    entries: tuple[float, ...] = (0.0,)
    exits: tuple[float, ...] = (0.0,)
    blocks: tuple["Block", ...] = ()
    edges: tuple[Edge, ...] = ()
    layout: Layout | None = None
    left: float = 0.0


def arranged(part: Part, inputs: list[str], outputs: list[str]) -> Block:
    """Return the block of a whole model, with boxes for its inputs and outputs.

    Parameters
    ----------
    part : Part
        The model.
    inputs, outputs : lists of str
        The texts of their boxes.
    """
    if not part.parts:
        sources = tuple(Source(INPUT, i) for i in range(part.inputs))
        leaving = tuple(Source(0, i) for i in range(len(outputs)))
        part = attrs.evolve(part, parts=(part,), sources=(sources,), outputs=leaving)
    first, last = ([_box("end", "", text.split("\n")) for text in e] for e in (inputs, outputs))
    return _frame(part, first, last)


def _block(part: Part) -> Block:
    if part.parts:
        port = Block("port", "", (), 0.0, 0.0)
        return _frame(part, [port] * part.inputs, [port] * len(part.outputs))
    if part.is_join and len(part.label) == 1:
        return Block("join", "", (part.label,), 18.0, 18.0)
    kind = "join" if part.is_join else "layer"
    box = _box(kind, part.name, [*_wrapped(part.label), shape_text(part.shape)])
    return attrs.evolve(box, has_params=part.has_params)


def _wrapped(label: str) -> list[str]:
    """Break a call into lines between its arguments, and cut long lines."""
    lines = [""]
    for piece in re.split(r"(?<=\w\()|(?<=, )(?=\w+[=(])", label):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > _WIDEST:
            lines.append("")
        lines[-1] += piece
    lines = [line.strip() for line in lines]
    if len(lines) > _LINES or len(lines[-1]) > _WIDEST:
        lines = [*lines[: _LINES - 1], f"{lines[:_LINES][-1][: _WIDEST - 2]}…)"]
    return lines


def _box(kind: str, name: str, lines: list[str]) -> Block:
    width = max(text_width(line, TEXT) for line in lines) + 2 * _SIDE
    return Block(kind, name, tuple(lines), max(width, 60.0), len(lines) * LINE + 8.0)


def _frame(part: Part, inputs: list[Block], outputs: list[Block]) -> Block:
    """Arrange the parts of a frame between its inputs (above) and its outputs (below)."""
    blocks = [*inputs, *map(_block, part.parts), *outputs]
    counts = len(inputs), len(part.parts)
    edges = [
        _edge(blocks, counts[0], source, counts[0] + target, index)
        for target, sources in enumerate([*part.sources, *((s,) for s in part.outputs)])
        for index, source in enumerate(sources)
    ]
    last = range(sum(counts), len(blocks))
    layout = layered([b.width for b in blocks], [b.height for b in blocks], edges, last)
    ends = [layout.x[i] for i in (*range(counts[0]), *last)]
    # The label in the upper left corner does not overlap incoming arrows.
    label = text_width(part.label, SMALL) + 12
    left = max(_SIDE, label - min(ends[: counts[0]], default=label))
    width = layout.width + left + max(_SIDE, label - layout.width - left)
    ports = [x + left - width / 2 for x in ends]
    return Block(
        "frame",
        part.name,
        (part.label,),
        width,
        layout.height,
        entries=tuple(ports[: counts[0]]),
        exits=tuple(ports[counts[0] :]),
        blocks=tuple(blocks),
        edges=tuple(edges),
        layout=layout,
        left=left,
    )


def _edge(blocks: list[Block], first: int, source: Source, target: int, index: int) -> Edge:
    """Return the edge from a source to an input of a block."""
    start = source.output if source.part == INPUT else first + source.part
    exits = (0.0,) if source.part == INPUT else blocks[start].exits
    entries = blocks[target].entries
    return Edge(
        start,
        target,
        # In a box, all inputs arrive at one point, and all outputs leave from one point.
        exits[source.output] if len(exits) > 1 else exits[0],
        entries[index] if len(entries) > 1 else entries[0],
    )
