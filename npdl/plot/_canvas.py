"""Axes, colours and text widths for all plots.

New figures are created without pyplot, which would store them and open windows. So only their axes
refer to them.
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

# Distinct for all types of colour vision: seven colours of Okabe, Ito: Color universal design,
# 2008, and three with similar distances in the simulation of Machado et al., 2009.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    *("#8700F0", "#692D0F", "#E1D287"),
)
DARK, PALE = "#333333", "#999999"
# Matplotlib cannot compute the ticks of an axis with larger numbers.
LARGEST = 1e300


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, with its size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "npdl.plot needs Matplotlib: pip install 'npdl-functional[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def axes_or_new(name: str, ax: Any, width: float, height: float) -> "Axes":
    """Return `ax`, or the axes of a new figure, with its size in inches."""
    if ax is None:
        return new_figure(width, height).subplots()
    check_axes(name, ax)
    return ax  # type: ignore[no-any-return]


def check_axes(name: str, ax: Any) -> None:
    """Raise unless `ax` is like Matplotlib axes."""
    if not hasattr(ax, "add_artist") or not hasattr(ax, "set_xlabel"):
        raise TypeError(
            f"{name}: ax must be axes of Matplotlib, such as from figure.subplots(), "
            f"got {type(ax).__name__}"
        )


def width_of(axes: "Axes") -> float:
    """Return the width of axes in points, after the layout of their figure."""
    root: Any = axes.figure.figure
    root.draw_without_rendering()
    return float(axes.get_window_extent().width * 72 / root.dpi)


@functools.lru_cache(4096)
def text_width(text: str, size: float) -> float:
    """Return the width of a string in points, for a font size; dollar signs are plain."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text.replace("$", r"\$"), prop=FontProperties(size=size))
    return float(path.get_extents().width)


def shortened(text: str, size: float, most: float) -> str:
    """Cut the middle of a string, so that it is at most `most` points wide."""
    if len(text) > 400:
        text = text[:200] + text[-200:]
    kept, short = len(text), text
    while kept > 2 and (width := text_width(short, size)) > most:
        kept = max(2, min(kept - 1, int(kept * most / width)))
        short = text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
    return short


def as_floats(name: str, noun: str, values: Any, axes: int) -> np.ndarray:
    """Return an array of floats with this number of axes; raise unless all are drawable."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {noun} must be an array of numbers, got {values!r}") from error
    if array.ndim != axes or not array.size:
        raise ValueError(
            f"{name}: {noun} must have {axes} axes and at least one number, got the shape "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {noun} has NaN or infinite numbers; replace or remove them")
    if np.abs(array).max() > LARGEST:
        raise ValueError(
            f"{name}: {noun} has numbers beyond {LARGEST:g}, the limit of an axis; divide it first"
        )
    return array
