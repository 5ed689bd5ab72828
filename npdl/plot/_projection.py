"""Draw vectors in the plane of their principal components."""

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
_ROOM = 6.0  # points: the largest overhang of labels beyond the axes
_TEXT, _LABEL = 8.0, 220.0  # points: the font size of labels, and the largest width of a class name


def embedding(table: Any, labels: Sequence[Any] | None = None, ax: Any = None) -> "Axes":
    """Draw vectors as points in the plane of their first two principal components.

    Parameters
    ----------
    table : array (rows, features)
        The vectors, such as the ``table`` of an :func:`embedding`, or the outputs of a layer.
    labels : sequence, optional
        One label per row. If all labels differ, such as words, they are written next to their
        points, without overlaps: labels without room are left out. Repeated labels are classes,
        drawn in colours with a legend. Long labels are cut in the middle.
    ax : Axes, optional
        The axes; by default of a new figure.

    Returns
    -------
    Axes
        The labels of the axes give the fraction of the variance of each component.

    Raises
    ------
    ValueError
        If the table has fewer than two rows or two features, labels are missing, or more than 50
        classes are passed.

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
        raise ValueError(f"embedding: {len(names)} labels for {len(rows)} rows; pass one per row")
    points, fractions = _components(rows)
    classes = list(dict.fromkeys(names or ()))
    is_classes = names is not None and len(classes) < len(names)
    if is_classes and len(classes) > (most := len(COLOURS) * len(_MARKS)):
        raise ValueError(f"embedding: {len(classes)} classes; at most {most} are distinguishable")

    width = 6.4 if not is_classes else 5.4 + _legend_width(classes)
    axes = axes_or_new("embedding", ax, width, 5.2)
    if is_classes:
        _draw_classes(axes, points, np.array(names), _in_order(classes))
    else:
        axes.plot(*points.T, "o", color=COLOURS[0], ms=4, alpha=0.8)
    axes.set_xlabel(f"component 1 ({100 * fractions[0]:.0f} % of the variance)")
    axes.set_ylabel(f"component 2 ({100 * fractions[1]:.0f} % of the variance)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.08)
    if names is not None and not is_classes:
        _write(axes, points, names)
    return axes


def _components(rows: Array) -> tuple[Array, Array]:
    """Return the first two principal components of the rows, and their fractions of variance."""
    # Divide by the largest number, because the squares of large numbers are not finite.
    largest = np.abs(rows).max() or 1.0
    rows = rows / largest
    centred = rows - rows.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # Fix the arbitrary signs: the largest entry of each direction is positive.
    signs = np.sign(np.take_along_axis(right, np.abs(right).argmax(1)[:, None], 1))[:2, 0]
    total = np.sum(sizes**2)
    fractions = sizes[:2] ** 2 / (total if total > 0 else 1)
    return left[:, :2] * sizes[:2] * signs * largest, fractions


def _in_order(classes: list[str]) -> list[str]:
    """Sort names alphabetically, and numbers by value."""
    return sorted(classes, key=lambda name: (len(name), name) if name.isdigit() else (0, name))


def _legend_columns(classes: list[str]) -> int:
    return -(-len(classes) // 18)


def _legend_width(classes: list[str]) -> float:
    """Return the approximate width of the legend in inches."""
    widest = max(text_width(shortened(name, 10.0, _LABEL), 10.0) for name in classes)
    return _legend_columns(classes) * (widest + 40) / 72


def _draw_classes(axes: "Axes", points: Array, names: Array, classes: list[str]) -> None:
    for i, name in enumerate(classes):
        mark, colour = _MARKS[i // len(COLOURS)], COLOURS[i % len(COLOURS)]
        chosen = points[names == name]
        axes.plot(*chosen.T, mark, color=colour, ms=5, mec="white", mew=0.3)
    # Matplotlib drops names that are empty or begin with an underscore, so set them afterwards.
    legend = axes.legend(
        axes.lines, ["-"] * len(classes), loc="center left", bbox_to_anchor=(1, 0.5),
        ncols=_legend_columns(classes), frameon=False,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), classes, strict=True):
        text.set(text=shortened(name, 10.0, _LABEL), parse_math=False)


def _write(axes: "Axes", points: Array, names: list[str]) -> None:
    """Write each name next to its point, on the first side without overlap."""
    across = width_of(axes)
    positions = axes.transAxes.inverted().transform(axes.transData.transform(points))
    positions *= across, across * axes.bbox.height / axes.bbox.width
    names = [shortened(name, _TEXT, 0.35 * across) for name in names]
    marks = np.concatenate([positions - 2.5, positions + 2.5], axis=1)
    taken = list(marks)
    for i, name in enumerate(names):
        width = text_width(name, _TEXT)
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            middle = positions[i] + np.array([right * (width / 2 + 5), up * (_TEXT * 0.6 + 4)])
            half = np.array([width / 2 + 1, _TEXT * 0.6])
            box = np.concatenate([middle - half, middle + half])
            others = np.array(taken)
            clear = (box[2:] <= others[:, :2]).any(1) | (others[:, 2:] <= box[:2]).any(1)
            if clear.all() and box[0] >= 0 and box[2] <= across + _ROOM:
                taken.append(box)
                axes.annotate(
                    name,
                    tuple(points[i]),
                    xytext=tuple(middle - positions[i]),
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=_TEXT,
                    color=DARK,
                    parse_math=False,
                )
                break
