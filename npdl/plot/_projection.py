"""A table of vectors, seen from the side where they differ most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npdl.plot._canvas import (
    COLOURS,
    DARK,
    as_floats,
    axes_or_new,
    shortened,
    text_width,
    width_of,
)
from npdl.tree import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["embedding"]

_MARKS = "os^Dv"
_ROOM = 6.0  # points: the largest overhang of words beyond the axes
_TEXT, _LABEL = 8.0, 220.0  # points: the size of words, and the largest width of a class's name


def embedding(table: Any, labels: Sequence[Any] | None = None, ax: Any = None) -> "Axes":
    """Draw vectors as points in the plane of their first two principal components.

    Parameters
    ----------
    table : array (rows, features)
        The vectors, such as the ``table`` of an :func:`embedding`, or the outputs of a layer.
    labels : sequence, optional
        A label for each row. Labels that are all different, such as words, are written beside
        the points, but for those that would cover others; labels that repeat are classes, drawn in
        colours with a legend. A long label loses its middle.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The axes' labels say which share of the variance each component has.

    Raises
    ------
    ValueError
        If there are fewer than two rows or two features, labels are missing, or there are more
        than 35 classes.

    References
    ----------
    Jolliffe: Principal component analysis, 2002, section 3.5, for the singular values.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import plot
    >>> table = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 3.0, 1.0], [4.0, 3.0, 1.0]])
    >>> ax = plot.embedding(table, labels=["a", "b", "c", "d"])
    >>> ax.get_xlabel()
    'component 1 (64 % of the variance)'
    """
    rows = as_floats("embedding", "the table", table, 2)
    if min(rows.shape) < 2:
        raise ValueError(f"embedding: needs two rows and two features, got the shape {rows.shape}")
    names = None if labels is None else [str(label) for label in labels]
    if names is not None and len(names) != len(rows):
        raise ValueError(f"embedding: {len(names)} labels for {len(rows)} rows")
    points, shares = _components(rows)
    classes = list(dict.fromkeys(names or ()))
    is_classes = names is not None and len(classes) < len(names)
    if is_classes and len(classes) > (most := len(COLOURS) * len(_MARKS)):
        raise ValueError(f"embedding: {len(classes)} classes, and no more than {most} can be told")

    width = 6.4 if not is_classes else 5.4 + _legend_width(classes)
    axes = axes_or_new("embedding", ax, width, 5.2)
    if is_classes:
        _draw_classes(axes, points, np.array(names), _in_order(classes))
    else:
        axes.plot(*points.T, "o", color=COLOURS[0], ms=4, alpha=0.8)
    axes.set_xlabel(f"component 1 ({100 * shares[0]:.0f} % of the variance)")
    axes.set_ylabel(f"component 2 ({100 * shares[1]:.0f} % of the variance)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.08)
    if names is not None and not is_classes:
        _write(axes, points, names)
    return axes


def _components(rows: Array) -> tuple[Array, Array]:
    """Return the first two principal components of the rows, and their shares of the variance."""
    # Parts of the largest number, since the squares of large ones are not finite.
    largest = np.abs(rows).max() or 1.0
    rows = rows / largest
    centred = rows - rows.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # The signs are arbitrary; the largest entry of each direction is made positive.
    signs = np.sign(np.take_along_axis(right, np.abs(right).argmax(1)[:, None], 1))[:2, 0]
    total = np.sum(sizes**2)
    shares = sizes[:2] ** 2 / (total if total > 0 else 1)
    return left[:, :2] * sizes[:2] * signs * largest, shares


def _in_order(classes: list[str]) -> list[str]:
    """Sort names, and numbers by their size."""
    return sorted(classes, key=lambda name: (len(name), name) if name.isdigit() else (0, name))


def _legend_columns(classes: list[str]) -> int:
    return -(-len(classes) // 18)


def _legend_width(classes: list[str]) -> float:
    """Return about how many inches a legend takes."""
    widest = max(text_width(shortened(name, 10.0, _LABEL), 10.0) for name in classes)
    return _legend_columns(classes) * (widest + 40) / 72


def _draw_classes(axes: "Axes", points: Array, names: Array, classes: list[str]) -> None:
    for i, name in enumerate(classes):
        mark, colour = _MARKS[i // len(COLOURS)], COLOURS[i % len(COLOURS)]
        chosen = points[names == name]
        axes.plot(*chosen.T, mark, color=colour, ms=5, mec="white", mew=0.3)
    # Matplotlib leaves out names that are empty or begin with an underscore, so these come later.
    legend = axes.legend(
        axes.lines, ["-"] * len(classes), loc="center left", bbox_to_anchor=(1, 0.5),
        ncols=_legend_columns(classes), frameon=False,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), classes, strict=True):
        text.set(text=shortened(name, 10.0, _LABEL), parse_math=False)


def _write(axes: "Axes", points: Array, names: list[str]) -> None:
    """Write each name beside its point, on the first side where it covers nothing."""
    across = width_of(axes)
    places = axes.transAxes.inverted().transform(axes.transData.transform(points))
    places *= across, across * axes.bbox.height / axes.bbox.width
    names = [shortened(name, _TEXT, 0.35 * across) for name in names]
    marks = np.concatenate([places - 2.5, places + 2.5], axis=1)
    taken = list(marks)
    for i, name in enumerate(names):
        width = text_width(name, _TEXT)
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            middle = places[i] + np.array([right * (width / 2 + 5), up * (_TEXT * 0.6 + 4)])
            half = np.array([width / 2 + 1, _TEXT * 0.6])
            box = np.concatenate([middle - half, middle + half])
            others = np.array(taken)
            clear = (box[2:] <= others[:, :2]).any(1) | (others[:, 2:] <= box[:2]).any(1)
            if clear.all() and box[0] >= 0 and box[2] <= across + _ROOM:
                taken.append(box)
                axes.annotate(
                    name,
                    tuple(points[i]),
                    xytext=tuple(middle - places[i]),
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=_TEXT,
                    color=DARK,
                    parse_math=False,
                )
                break
