"""Draw the graph of a model: boxes for layers, arrows for arrays, frames for combinators."""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from npdl.functional._layer import Layer, Shape
from npdl.functional.combinators._parts import flat as names_of
from npdl.plot._blocks import LINE, SMALL, TEXT, Block, arranged
from npdl.plot._canvas import DARK, axes_or_new, check_axes, width_of
from npdl.plot._wiring import flat, shape_text, wired

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["graph"]

_MARGIN = 6.0
_FILLS = {"layer": "#F1F1F1", "join": "#FBE9D0", "end": "#FFFFFF"}
_WITH_PARAMS = "#D3E5F5"


def graph(model: Layer, shape: Shape, ax: Any = None) -> "Axes":
    """Draw the layers of a model from top to bottom, with the shapes of their outputs.

    Layers with parameters are blue boxes. Nested combinators are frames around their layers. Your
    own combinator is a frame if it declares its :func:`parts`, otherwise a box. For a ``Model`` of
    `npdl.compat`, pass ``model.to_functional()[0]``.

    Parameters
    ----------
    model : Layer
        The model.
    shape : tuple
        The shape of one example, without the batch; a tuple of shapes for several inputs.
    ax : Axes, optional
        The axes; by default of a new figure with the size of the drawing.

    Returns
    -------
    Axes
        One patch per box, frame and arrow. The ``get_gid()`` of a box or a frame is the path of the
        layer's parameters in the parameters of the model.

    Raises
    ------
    Exception
        An error of `init` if a shape does not fit, with the path of the layer in its notes.

    Examples
    --------
    >>> import npdl.functional as F
    >>> from npdl import plot
    >>> model = F.serial(F.dense(8), F.residual(F.relu(), F.dense(8)), F.dense(3))
    >>> ax = plot.graph(model, (4,))
    >>> sorted(patch.get_gid() for patch in ax.patches if patch.get_gid())
    ['0', '1', '1/0', '1/1', '2']
    """
    if not isinstance(model, Layer):
        raise TypeError(
            f"graph: expected a layer, got {model!r}; for a Model, pass model.to_functional()[0]"
        )
    if not isinstance(shape, tuple | list):
        raise TypeError(f"graph: expected the shape of one example, such as (64,), got {shape!r}")
    if ax is not None:
        check_axes("graph", ax)
    whole = wired(model, model.init(0, shape), shape)
    block = arranged(whole, *_ends(model, shape, whole.shape))
    width, height = block.width + 2 * _MARGIN, block.height + 2 * _MARGIN
    axes = axes_or_new("graph", ax, width / 72 + 0.1, height / 72 + 0.1)
    axes.set_xlim(-_MARGIN, block.width + _MARGIN)
    axes.set_ylim(block.height + _MARGIN, -_MARGIN)
    axes.set_aspect("equal")
    axes.axis("off")
    # The unit of the axes is a point if they have the size of the drawing.
    scale = width_of(axes) / width
    _Drawing(axes, scale).inside(block, 0.0, 0.0)
    return axes


def _ends(model: Layer, shape: Shape, out: Shape) -> tuple[list[str], list[str]]:
    """Return the labels of the boxes for the inputs and outputs."""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    if model.parts is not None:
        parts, _ = model.parts.of_shape(shape)
        inputs = names_of(parts.inputs)
        # The user's names; the parameters have them too.
        named = {name for node in parts.nodes for name in node.written if node.path}
        outputs = names_of(parts.outputs)
        if not named.intersection(outputs) or all(name.isdecimal() for name in outputs):
            outputs = ()
    return _end("input", inputs, shape), _end("output", outputs, out)


def _end(word: str, names: tuple[str, ...], shape: Shape) -> list[str]:
    shapes = flat(shape)
    if len(names) != len(shapes) or any(name.startswith("*") for name in names):
        names = tuple(f"{word} {i}" for i in range(len(shapes))) if len(shapes) > 1 else (word,)
    return [f"{name}\n{shape_text(part)}" for name, part in zip(names, shapes, strict=True)]


class _Drawing:
    """Draw blocks into axes whose unit is a point times a scale."""

    def __init__(self, axes: "Axes", scale: float) -> None:
        self.axes, self.scale = axes, scale

    def inside(self, frame: Block, left: float, top: float) -> None:
        """Draw the content of a frame, with its upper left corner at (left, top)."""
        layout = frame.layout
        if layout is None:
            return
        left += frame.left
        x = [left + offset for offset in layout.x]
        y = [top + offset for offset in layout.top]
        for block, middle, upper in zip(frame.blocks, x, y, strict=True):
            self.block(block, middle - block.width / 2, upper)
        # The x of each edge's last point before its target; arrows arrive in this order.
        before = [
            lanes[-1][0] + left if lanes else x[edge.source] + edge.source_offset
            for edge, lanes in zip(frame.edges, layout.lanes, strict=True)
        ]
        for i, (edge, lanes) in enumerate(zip(frame.edges, layout.lanes, strict=True)):
            target = frame.blocks[edge.target]
            arriving = [k for k, other in enumerate(frame.edges) if other.target == edge.target]
            arriving.sort(key=before.__getitem__)
            offset = edge.target_offset
            if target.layout is None:
                step = min(14.0, 0.5 * target.width / len(arriving))
                offset = step * (arriving.index(i) - (len(arriving) - 1) / 2)
            start, end = x[edge.source] + edge.source_offset, x[edge.target] + offset
            below = y[edge.source] + frame.blocks[edge.source].height
            # Pairs of points: the line is straight within a row, next to blocks.
            points = [(start, below), (start, top + layout.rows[edge.source][1])]
            for lane, upper, lower in lanes:
                points += [(left + lane, top + upper), (left + lane, top + lower)]
            points += [(end, top + layout.rows[edge.target][0]), (end, y[edge.target])]
            self.arrow(points, head=target.kind in _FILLS)

    def block(self, block: Block, left: float, top: float) -> None:
        """Draw a block with its upper left corner at (left, top)."""
        from matplotlib.patches import FancyBboxPatch

        if block.kind == "port":
            return
        is_frame = block.kind == "frame"
        round_ = block.height / 2 if block.width == block.height else 3.5
        patch = FancyBboxPatch(
            (left, top),
            block.width,
            block.height,
            boxstyle=f"round,pad=0,rounding_size={round_}",
            facecolor="#00000008" if is_frame else self.fill(block),
            edgecolor="#999999" if is_frame else DARK,
            linestyle="--" if is_frame else "-",
            linewidth=0.8 * self.scale,
            zorder=0.5 if is_frame else 2,
        )
        patch.set_gid(block.name)
        self.axes.add_patch(patch)
        if is_frame:
            self.text(block.lines[0], left + 5, top + 3, SMALL, "#666666", ha="left", va="top")
            self.inside(block, left, top)
            return
        middle = top + block.height / 2 - (len(block.lines) - 1) * LINE / 2
        for i, line in enumerate(block.lines):
            is_shape = i > 0 and i == len(block.lines) - 1
            colour = "#666666" if is_shape else "black"
            size = SMALL if is_shape else TEXT
            self.text(line, left + block.width / 2, middle + i * LINE, size, colour)

    def fill(self, block: Block) -> str:
        """Return the colour of a box."""
        return _WITH_PARAMS if block.has_params else _FILLS[block.kind]

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        colour: str,
        ha: str = "center",
        va: str = "center",
    ) -> None:
        """Write a line of text."""
        size *= self.scale
        label = self.axes.text(x, y, text, ha=ha, va=va, fontsize=size, color=colour, zorder=3)
        label.set_parse_math(False)

    def arrow(self, points: list[tuple[float, float]], head: bool) -> None:
        """Draw a line through pairs of points: straight within a pair, curved to the next pair."""
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path

        vertices, codes = [points[0]], [Path.MOVETO]
        for i, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
            if (x0, y0) == (x1, y1):
                continue
            if i % 2 == 0 or abs(x0 - x1) < 0.5:
                vertices.append((x1, y1))
                codes.append(Path.LINETO)
            else:
                middle = (y0 + y1) / 2
                vertices += [(x0, middle), (x1, middle), (x1, y1)]
                codes += [Path.CURVE4] * 3
        self.axes.add_patch(
            FancyArrowPatch(
                path=Path(np.array(vertices), codes),
                arrowstyle="-|>" if head else "-",
                mutation_scale=8 * self.scale,
                linewidth=self.scale,
                color=DARK,
                shrinkA=0,
                shrinkB=0,
                zorder=1,
            )
        )
