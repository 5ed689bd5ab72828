"""Draw the losses and metrics of a run over its epochs."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from npdl.plot._canvas import COLOURS, DARK, LARGEST, check_axes, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["learning_curves"]

_COLUMNS = 3


def learning_curves(history: Any, ax: Any = None) -> "tuple[Axes, ...]":
    """Draw each metric of a run over its epochs: training solid, validation dashed.

    Parameters
    ----------
    history : dict of lists, or History
        The second return value of :func:`npdl.training.fit`, or the return value of ``Model.fit``
        of `npdl.compat`. ``"val_loss"`` shares the axes of ``"loss"``, and so on.
    ax : Axes or sequence of Axes, optional
        One per metric; by default side by side in a new figure.

    Returns
    -------
    tuple of Axes
        One per metric, in the order of the history, with its name on the y axis.
        Numbers that are not finite, or beyond 1e300, are gaps.

    Raises
    ------
    ValueError
        If the history or one of its lists is empty, or there are more or fewer axes than metrics.
    TypeError
        If it is not a history, or an entry is not a number, such as `None`; NaN is a gap.

    Examples
    --------
    >>> from npdl import plot
    >>> history = {"loss": [2.0, 1.1], "accuracy": [0.3, 0.6], "val_loss": [2.1, 1.4]}
    >>> [ax.get_ylabel() for ax in plot.learning_curves(history)]
    ['loss', 'accuracy']
    """
    curves, first = _curves(history)
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    every = _axes_for(metrics, ax)
    for i, (axes, metric) in enumerate(zip(every, metrics, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        for name, label, line in (
            (metric, "training", "-"),
            (f"val_{metric}", "validation", "--"),
        ):
            if name in curves:
                values = curves[name]
                epochs = np.arange(first, first + len(values))
                # An isolated finite value has no line, so it gets a marker.
                alone = _alone(values)
                axes.plot(
                    epochs, values, line, color=colour, label=label, marker="o" if alone else None,
                    mfc=colour if line == "-" else "white", markevery=alone,
                )  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_ylabel(shortened(metric, 10.0, 180.0), parse_math=False)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.grid(color=DARK, alpha=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return every


def _alone(values: np.ndarray) -> list[int]:
    """Return the indices of finite values without finite neighbours."""
    finite = np.pad(np.isfinite(values), 1)
    alone: list[int] = np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:]).tolist()
    return alone


def _curves(history: Any) -> tuple[dict[str, np.ndarray], int]:
    """Return the values of each metric, and the number of the first epoch, counted from 1."""
    first = 1 + next(iter(getattr(history, "epoch", None) or ()), 0)
    history = getattr(history, "history", history)
    if not isinstance(history, Mapping):
        raise TypeError(
            f"learning_curves: expected the history of fit, such as "
            f"{{'loss': [2.3, 1.9]}}, got {type(history).__name__}"
        )
    curves = {name: _numbers(name, values) for name, values in history.items()}
    if not curves:
        raise ValueError("learning_curves: the history is empty; train at least one epoch")
    return curves, first


def _numbers(name: Any, values: Any) -> np.ndarray:
    """Return the values of a metric as floats, infinite beyond the limit of an axis, or raise."""
    if not isinstance(name, str):
        raise TypeError(f"learning_curves: the name of a metric must be a string, got {name!r}")
    several = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    entries = list(values) if several and getattr(values, "ndim", True) else []
    if not entries:
        raise ValueError(
            f"learning_curves: {name!r} must have a number per epoch, got {values!r:.80}"
        )
    found = [_number(entry) for entry in entries]
    if None in found:
        index = found.index(None)
        raise TypeError(
            f"learning_curves: {name!r} must be a list of numbers, got {entries[index]!r:.80} at "
            f"index {index}; float('nan') is a gap"
        )
    numbers = np.array(found, np.float64)
    # Matplotlib cannot draw larger numbers.
    return np.where(np.abs(numbers) > LARGEST, np.inf, numbers)


def _number(value: Any) -> float | None:
    """Return a real number as a float, or `None` for other values, such as strings."""
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return np.inf
    scalar = hasattr(value, "__array__") and not isinstance(value, np.ma.MaskedArray)
    array = np.asarray(value) if scalar else None
    if array is None or array.ndim or array.dtype.kind not in "iufb":
        return None
    return float(array)


def _axes_for(metrics: Sequence[str], ax: Any) -> "tuple[Axes, ...]":
    """Return one axes per metric."""
    count = len(metrics)
    if ax is None:
        columns = min(count, _COLUMNS)
        rows = -(-count // columns)
        grid = new_figure(4.4 * columns, 3.3 * rows).subplots(rows, columns, squeeze=False)
        for spare in grid.flat[count:]:
            spare.remove()
        return tuple(grid.flat[:count])
    every = tuple(np.ravel(np.asarray(ax, dtype=object)))
    if len(every) != count:
        raise ValueError(
            f"learning_curves: the history has {count} metrics ({', '.join(metrics)}), but ax has "
            f"{len(every)} axes; pass one per metric, or a part of the history"
        )
    for axes in every:
        check_axes("learning_curves", axes)
    return every
