"""The figures of a page: their style, and the drawing of the figures of a block.

The site draws them when it is built. The playground draws them in the browser.
"""

import io
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["drawn", "prepare"]

INK = "#7c7f86"  # readable on a light and on a dark page
STYLE = {
    "figure.figsize": (7, 3),
    "figure.constrained_layout.use": True,
    "savefig.transparent": True,
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color"), INK
    ),
    "ytick.color": INK,
}


def prepare() -> None:
    """Set the style of the figures."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update(STYLE)


def drawn(value: Any, code: str) -> Iterator[tuple[str, str]]:
    """Draw and close the figures of a block: the open ones, and the value of its last line.

    Yields
    ------
    tuple of str
        The SVG document, and its description: the titles or labels, otherwise the last code line.
    """
    if "matplotlib" not in sys.modules:
        return
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    figures = [plt.figure(number) for number in plt.get_fignums()]
    is_new = isinstance(value, Figure) and value not in figures
    for figure in [*figures, value] if is_new else figures:
        file = io.BytesIO()
        # The colours of npdl.plot need a white background.
        background = {"transparent": figure in figures, "facecolor": "white"}
        figure.savefig(file, format="svg", metadata={"Date": None}, **background)
        plt.close(figure)
        titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        labels = [axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes]
        words = [text for text in titles if text] or [text for text in labels if text]
        yield file.getvalue().decode("utf-8"), "; ".join(words) or code.splitlines()[-1]
