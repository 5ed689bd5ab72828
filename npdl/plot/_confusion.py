"""Draw confusion matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npdl.plot._canvas import (
    DARK,
    PALE,
    as_floats,
    axes_or_new,
    check_axes,
    shortened,
    text_width,
    width_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusion_matrix"]

# For more classes, the numbers would be unreadable and take minutes to draw.
_CLASSES = 60
_TEXT, _LABEL = 10.0, 240.0  # points: the size of labels, and their largest width


def confusion_matrix(matrix: Any, labels: Sequence[Any] | None = None, ax: Any = None) -> "Axes":
    """Draw a confusion matrix: predicted classes by true classes.

    A cell shows the number of the matrix. Its colour is the number divided by the sum of the row,
    so that rare classes are visible too.

    Parameters
    ----------
    matrix : array (classes, classes)
        ``[true, predicted]``, as from :func:`npdl.functional.confusion_matrix`.
    labels : sequence, optional
        The names of the classes; by default their indices. Long names are cut in the middle.
    ax : Axes, optional
        The axes; by default of a new figure.

    Returns
    -------
    Axes
        ``ax.texts`` has the strings of the cells, row by row. With more than 60 classes, cells have
        no strings, and only some classes have a label.

    Raises
    ------
    ValueError
        If the matrix is not square or has a negative number, or labels are missing.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import plot
    >>> predicted, true = np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1])
    >>> ax = plot.confusion_matrix(F.confusion_matrix(predicted, true), labels=["cat", "dog"])
    >>> [text.get_text() for text in ax.texts]
    ['1', '1', '0', '2']
    """
    counts = as_floats("confusion_matrix", "the matrix", matrix, 2)
    classes = len(counts)
    if counts.shape[1] != classes or (counts < 0).any():
        raise ValueError(
            f"confusion_matrix: the matrix must be square, [true, predicted], without negative "
            f"numbers, got the shape {counts.shape} and the smallest number {counts.min():g}"
        )
    names = [str(label) for label in (range(classes) if labels is None else labels)]
    if len(names) != classes:
        raise ValueError(
            f"confusion_matrix: {len(names)} labels for {classes} classes; pass one per class"
        )
    texts = [[_written(count) for count in row] for row in counts] if classes <= _CLASSES else []
    longest = max((len(text) for row in texts for text in row), default=0)
    cell = max(0.34, 0.085 * longest + 0.12) if texts else 12 / classes
    side = max(2.4, cell * classes)
    most = _LABEL
    if ax is not None:
        check_axes("confusion_matrix", ax)
        most = min(most, 0.4 * ax.get_window_extent().width * 72 / ax.figure.figure.dpi)
    names = [shortened(name, _TEXT, most) for name in names]
    room = max(0.0, max(text_width(name, _TEXT) for name in names) / 72 - 0.4)
    axes = axes_or_new("confusion_matrix", ax, side + 1.9 + room, side + 0.9 + 0.75 * room)

    # Divide by the largest number first, because the sum of large numbers is not finite.
    scaled = counts / (counts.max() or 1.0)
    sums = scaled.sum(1, keepdims=True)
    fractions = np.divide(scaled, sums, out=np.zeros_like(counts), where=sums > 0)
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            colour = "white" if fractions[i, j] > 0.55 else DARK if counts[i, j] else PALE
            axes.text(j, i, text, ha="center", va="center", color=colour)
    slanted = max(map(len, names)) > 4
    ticks = range(0, classes, -(-classes // _CLASSES))
    axes.set_xticks(ticks, [names[i] for i in ticks], parse_math=False)
    axes.set_yticks(ticks, [names[i] for i in ticks], parse_math=False)
    if slanted:
        axes.tick_params(axis="x", rotation=45)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.figure.colorbar(image, ax=axes, label="fraction of the row", shrink=0.8)
    points = width_of(axes) / classes
    axes.tick_params(labelsize=min(_TEXT, 0.7 * points * ticks.step))
    for number in axes.texts:
        number.set_fontsize(min(9.0, 0.8 * points, 1.4 * points / longest))
    return axes


def _written(count: float) -> str:
    return f"{count:.0f}" if 1e6 <= count < 1e15 else f"{count:g}"
