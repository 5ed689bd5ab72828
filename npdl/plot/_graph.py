"""Draw the graph of a model: boxes for layers, arrows for arrays, frames for combinators."""

import itertools
from typing import TYPE_CHECKING, Any

from npdl.functional._layer import Layer, Shape
from npdl.functional.combinators._parts import Node, Parts, flat
from npdl.plot._boxes import LINE, SMALL, TEXT, Box, box, frame, shape_texts
from npdl.plot._canvas import DARK, PALE, axes_or_new, check_axes, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["graph"]

_MARGIN, _GREY = 6.0, "#666666"


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
    params, out = model.init(0, shape), model.out_shape(shape)
    parts = model.parts
    if parts is None or not parts.nodes:
        parts = Parts("input", (Node("output", model, "input", (), None),), "output")
    inputs, outputs = flat(parts.of_shape(shape)[0].inputs), flat(parts.outputs)
    named = {name for node in parts.nodes if node.path for name in node.written}
    if not any(name in named and not name.isdecimal() for name in outputs):
        outputs = ()
    ends = _ends("input", inputs, shape), _ends("output", outputs, out)
    whole = frame(parts, params, shape, "", "", *ends)
    width, height = whole.width + 2 * _MARGIN, whole.height + 2 * _MARGIN
    axes = axes_or_new("graph", ax, width / 72 + 0.1, height / 72 + 0.1)
    axes.set_xlim(-_MARGIN, whole.width + _MARGIN)
    axes.set_ylim(whole.height + _MARGIN, -_MARGIN)
    axes.set_aspect("equal")
    axes.axis("off")
    # The unit of the axes is a point if they have the size of the drawing.
    _draw(axes, width_of(axes) / width, whole, 0.0, 0.0)
    return axes


def _ends(word: str, names: tuple[str, ...], shape: Shape) -> list[Box]:
    """Return the boxes of the inputs or outputs."""
    texts = shape_texts(shape)
    if len(names) != len(texts) or any(name.startswith("*") for name in names):
        names = tuple(f"{word} {i}" for i in range(len(texts))) if len(texts) > 1 else (word,)
    return [box([name], text, "end") for name, text in zip(names, texts, strict=True)]


def _draw(axes: "Axes", scale: float, frame: Box, left: float, top: float) -> None:
    """Draw the content of a frame, with its upper left corner at (left, top)."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path

    def text(line: str, x: float, y: float, size: float, colour: str, **align: Any) -> None:
        style = {"ha": "center", "va": "center"} | align
        axes.text(x, y, line, size=size * scale, color=colour, zorder=3, parse_math=False, **style)

    for each, (x, y) in frame.boxes:
        x, y, size = left + x, top + y, (each.width, each.height)
        face, edge, line, order = each.fill, DARK, "-", 2.0
        if each.boxes:
            face, edge, line, order = "#00000008", PALE, "--", 0.5
            text(each.lines[0], x + 5, y + 3, SMALL, _GREY, ha="left", va="top")
            _draw(axes, scale, each, x, y)
        if each.lines:
            is_circle = len(each.lines) == 1 and not each.boxes
            form = "circle,pad=0" if is_circle else "round,pad=0,rounding_size=3.5"
            patch = FancyBboxPatch((x, y), *size, form, fc=face, ec=edge, ls=line, zorder=order)
            axes.add_patch(patch).set(linewidth=0.8 * scale, gid=each.path)
        for i, words in enumerate(() if each.boxes else each.lines):
            middle = y + (each.height + (2 * i + 1 - len(each.lines)) * LINE) / 2
            font = (SMALL, _GREY) if 0 < i == len(each.lines) - 1 else (TEXT, "black")
            text(words, x + each.width / 2, middle, *font)

    for points, style in frame.arrows:
        vertices = [points[0]]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if y0 != y1:
                middle = (y0 + y1) / 2
                vertices += [(x0, middle), (x1, middle), (x1, y1)]
        vertices = [(left + x, top + y) for x, y in vertices]
        path = Path(vertices, [Path.MOVETO, *[Path.CURVE4] * (len(vertices) - 1)])
        arrow = FancyArrowPatch(path=path, arrowstyle=style, color=DARK, shrinkA=0, shrinkB=0)
        axes.add_patch(arrow).set(mutation_scale=8 * scale, linewidth=scale, zorder=1)
