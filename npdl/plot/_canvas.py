"""What the pictures share: the axes that they are drawn into, and the colours.

A new figure belongs to nobody but its axes. It is made without pyplot, which keeps figures and
opens windows.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DARK",
    "LARGEST",
    "PALE",
    "as_floats",
    "axes_or_new",
    "check_axes",
    "new_figure",
    "shortened",
    "text_width",
    "width_of",
]

# Told apart by all kinds of colour vision: seven of Okabe, Ito: Color universal design, 2008, and
# three that are as far from these and from each other, as Machado et al., 2009, simulate it.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    *("#8700F0", "#692D0F", "#E1D287"),
)
DARK, PALE = "#333333", "#999999"
# Matplotlib cannot place the ticks of an axis of larger numbers.
LARGEST = 1e300


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of that many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "npdl.plot needs Matplotlib: pip install 'npdl-functional[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def axes_or_new(name: str, ax: Any, width: float, height: float) -> "Axes":
    """Return the axes that were given, or those of a new figure of that many inches."""
    if ax is None:
        return new_figure(width, height).subplots()
    check_axes(name, ax)
    return ax  # type: ignore[no-any-return]


def check_axes(name: str, ax: Any) -> None:
    """Raise unless `ax` can be drawn into."""
    if not hasattr(ax, "add_artist") or not hasattr(ax, "set_xlabel"):
        raise TypeError(
            f"{name}: ax must be axes of Matplotlib, such as figure.subplots() returns, "
            f"got {type(ax).__name__}"
        )


def width_of(axes: "Axes") -> float:
    """Return how many points axes are wide, with all that is in their figure by now."""
    root: Any = axes.figure.figure
    root.draw_without_rendering()
    return float(axes.get_window_extent().width * 72 / root.dpi)


@functools.lru_cache(4096)
def text_width(text: str, size: float) -> float:
    """Return how many points a text of that size is wide; dollars mean nothing in it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text.replace("$", r"\$"), prop=FontProperties(size=size))
    return float(path.get_extents().width)


def shortened(text: str, size: float, most: float) -> str:
    """Return a text of that size without its middle, so that it is at most so many points wide."""
    if len(text) > 400:
        text = text[:200] + text[-200:]
    kept, short = len(text), text
    while kept > 2 and (width := text_width(short, size)) > most:
        kept = max(2, min(kept - 1, int(kept * most / width)))
        short = text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
    return short


def as_floats(name: str, what: str, values: Any, axes: int) -> np.ndarray:
    """Return an array of floats with that many axes; raise unless all can be drawn."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {what} must be an array of numbers, got {values!r}") from error
    if array.ndim != axes or not array.size:
        raise ValueError(
            f"{name}: {what} must have {axes} axes and at least one number, got the shape "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {what} has numbers that are not finite")
    if np.abs(array).max() > LARGEST:
        raise ValueError(
            f"{name}: {what} has numbers beyond {LARGEST:g}, which no axis shows; divide it first"
        )
    return array
