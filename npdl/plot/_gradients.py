"""Draw the sizes of gradients, and of the activations inside a model."""

from typing import TYPE_CHECKING, Any

import numpy as np

from npdl import tree
from npdl.functional.derivatives import Trace
from npdl.plot._canvas import COLOURS, DARK, axes_or_new, shortened
from npdl.tree import Tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["gradient_flow", "layer_flow"]

# A logarithmic axis of Matplotlib cannot span all float64 numbers.
_LOWEST, _HIGHEST = 1e-140, 1e140
_ROW, _TALLEST = 0.26, 60.0  # inches


def gradient_flow(grads: Tree, ax: Any = None) -> "Axes":
    """Draw the size of the gradient of each parameter, on a logarithmic axis.

    If gradients decrease by orders of magnitude from the last layer to the first, they vanish. If
    they increase, they explode. A root mean square far above the mean comes from a few large
    numbers.

    Parameters
    ----------
    grads : tree
        Gradients, as from `backward`. `None` leaves are skipped.
    ax : Axes, optional
        The axes; by default of a new figure.

    Returns
    -------
    Axes
        One row per path, the first one on top, and two series of marks: the root mean square and
        the mean absolute value. If a gradient is zero, outside 1e-140 to 1e140, or not finite, its
        row has a note instead of marks. Long paths are cut in the middle.

    Raises
    ------
    ValueError
        If the tree has no gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import plot
    >>> ax = plot.gradient_flow(({"weight": np.array([3.0, -4.0])}, None))
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['0/weight']
    >>> [line.get_xdata().round(2).tolist() for line in ax.lines]
    [[3.54], [3.5]]
    """
    found = [(path or "all", np.asarray(leaf)) for path, leaf in tree.items(grads)]
    if not found:
        raise ValueError(
            "gradient_flow: the tree has no gradient, only None; pass grads of trained layers"
        )
    for path, leaf in found:
        if leaf.dtype.kind not in "fiu":
            raise TypeError(f"gradient_flow: {path} must be an array of numbers, got {leaf.dtype}")
    sizes = np.array([_sizes(leaf) for _, leaf in found])
    names = [path for path, _ in found]
    series = ("root mean square", "mean absolute")
    axes = axes_or_new("gradient_flow", ax, 6.4, _height(names))
    draw_sizes(axes, names, sizes, series)
    axes.set_xlabel("size of the gradient")
    return axes


def layer_flow(traced: Any, ax: Any = None) -> "Axes":
    """Draw the sizes of activations and of their gradients, on a logarithmic axis.

    If activations decrease by orders of magnitude along the model, the signal vanishes; if they
    increase, it explodes. The same holds for gradients, from the last layer to the first.

    Parameters
    ----------
    traced : Trace
        The result of :func:`npdl.functional.trace_layers`.
    ax : Axes, optional
        The axes; by default of a new figure.

    Returns
    -------
    Axes
        One row per layer, the first one on top, and two series of marks: the root mean squares of
        the output and of the gradient. Layers inside a layer follow it. A row without floats, or
        with a gradient of `None`, lacks this mark.

    Raises
    ------
    TypeError
        If `traced` is not the result of ``trace_layers``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import plot
    >>> traced = F.trace_layers(F.serial(F.relu(), F.tanh()), ((), ()), np.ones((2, 3)))
    >>> ax = plot.layer_flow(traced)
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['0: relu()', '1: tanh()']
    """
    if not isinstance(traced, Trace):
        raise TypeError(
            f"layer_flow: expected the result of F.trace_layers(model, params, x, loss), got "
            f"{type(traced).__name__}"
        )
    sizes = np.array([[_joint_size(part) for part in each] for each in traced.values()])
    names = [f"{path}: {traced.layers[path]}" if path else traced.layers[path] for path in traced]
    axes = axes_or_new("layer_flow", ax, 6.4, _height(names))
    draw_sizes(axes, names, sizes, ("output", "gradient"))
    axes.set_xlabel("root mean square")
    return axes


def _height(names: list[str]) -> float:
    return 1.2 + min(_ROW * len(names), _TALLEST)


def draw_sizes(axes: "Axes", names: list[str], sizes: np.ndarray, series: tuple[str, str]) -> None:
    """Draw two series of positive numbers on a logarithmic axis, with a row per name.

    -1 draws no mark. A row with a zero, or a number that the axis cannot show, gets a note.
    """
    rows = np.arange(len(names))
    absent = sizes < 0
    off = ~absent & ~((sizes > _LOWEST) & (sizes < _HIGHEST))
    drawn = ~off.any(1)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter("")
    axes.hlines(rows, 0, 1, transform=axes.get_yaxis_transform(), color=DARK, alpha=0.12, lw=0.8)
    for column, (label, mark) in enumerate(zip(series, "oD", strict=True)):
        x = np.where(drawn & ~absent[:, column], sizes[:, column], np.nan)
        fill = COLOURS[column] if mark == "o" else "none"
        axes.plot(x, rows, mark, color=COLOURS[column], mfc=fill, ms=6, label=label)
    for row in rows[~drawn]:
        wrong = sizes[row][off[row]][0]
        note = axes.text(
            0.02, row, _words(wrong), transform=axes.get_yaxis_transform(), va="center"
        )
        note.set(fontsize=9, backgroundcolor="white")
    shown = sizes[drawn][~absent[drawn]]
    if shown.size:
        # Full decades, with a label at both ends and no crowded labels between them.
        low, high = shown.min(), shown.max()
        axes.set_xlim(10 ** np.floor(np.log10(low) - 0.02), 10 ** np.ceil(np.log10(high) + 0.02))
    most = 0.35 * axes.get_window_extent().width * 72 / axes.figure.figure.dpi
    axes.set_yticks(rows, [shortened(name, 10.0, most) for name in names], parse_math=False)
    axes.tick_params(axis="y", labelsize=min(10.0, 50 * _TALLEST / len(names)))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderpad=0)


def _joint_size(values: Any) -> float:
    """Return the root mean square of all floats in a tree, -1 without any."""
    leaves = [np.asarray(leaf) for leaf in tree.leaves(values)]
    floats = [leaf.ravel() for leaf in leaves if leaf.dtype.kind == "f"]
    return _sizes(np.concatenate(floats))[0] if sum(map(np.size, floats)) else -1.0


def _sizes(leaf: np.ndarray) -> tuple[float, float]:
    """Return the root mean square and the mean absolute value, without overflow."""
    if not leaf.size:
        return 0.0, 0.0
    absolute = np.abs(leaf.astype(np.float64))
    # Squares of very small or large numbers would underflow or overflow.
    largest = absolute.max()
    if largest == 0 or not np.isfinite(largest):
        return float(largest), float(largest)
    scaled = absolute / largest
    return float(largest * np.sqrt(np.mean(scaled**2))), float(largest * np.mean(scaled))


def _words(size: float) -> str:
    """Return the reason why a size is not on the axis."""
    if size == 0 or not np.isfinite(size):
        return "zero" if size == 0 else "not finite"
    return f"below {_LOWEST:g}" if size < 1 else f"above {_HIGHEST:g}"
