"""Which classes are taken for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npdl.plot.canvas import DARK, PALE, as_floats, axes_or_new, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusion_matrix"]


def confusion_matrix(matrix: Any, labels: Sequence[Any] | None = None, ax: Any = None) -> "Axes":
    """Draw how often each class was taken for each.

    The number in a cell is the matrix's; its colour is the number's share of the row, so that
    classes of which there are few are seen as well.

    Parameters
    ----------
    matrix : array (classes, classes)
        ``[true, predicted]``, as :func:`npdl.functional.confusion_matrix` returns it.
    labels : sequence, optional
        The name of each class; left out, its number.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        With the texts of the cells row by row in ``ax.texts``.

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
            f"confusion_matrix: the matrix must be square, [true, predicted], with no negative "
            f"number, got the shape {counts.shape} and the smallest number {counts.min():g}"
        )
    names = [str(label) for label in (range(classes) if labels is None else labels)]
    if len(names) != classes:
        raise ValueError(f"confusion_matrix: {len(names)} labels for {classes} classes")
    texts = [[f"{count:g}" if count < 1e6 else f"{count:.0f}" for count in row] for row in counts]
    longest = max(len(text) for row in texts for text in row)
    cell = max(0.34, 0.085 * longest + 0.12)
    side = max(2.4, cell * classes)
    axes = axes_or_new("confusion_matrix", ax, side + 1.9, side + 0.9)

    sums = counts.sum(1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            colour = "white" if shares[i, j] > 0.55 else DARK if counts[i, j] else PALE
            axes.text(j, i, text, ha="center", va="center", color=colour)
    slanted = max(map(len, names)) > 4
    axes.set_xticks(range(classes), names, parse_math=False)
    axes.set_yticks(range(classes), names, parse_math=False)
    if slanted:
        axes.tick_params(axis="x", rotation=45)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
    points = width_of(axes) / classes
    for number in axes.texts:
        number.set_fontsize(min(9.0, 0.8 * points, 1.4 * points / longest))
    axes.tick_params(labelsize=min(10.0, 0.7 * points))
    return axes
