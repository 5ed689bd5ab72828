"""Draw the filters of convolutions and the feature maps of layers."""

import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from npdl.functional._arrays import describe
from npdl.functional._checks import check_int
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._children import check_params, connected, short
from npdl.plot._canvas import as_floats, axes_or_new
from npdl.tree import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["feature_maps", "filters"]


def filters(weight: Array, columns: int | None = None, ax: Any = None) -> "Axes":
    """Draw the filters of a first convolution side by side, row by row.

    Parameters
    ----------
    weight : array (filters, channels, height, width)
        The weight of a :func:`conv2d` with one channel, or with three: red, green and blue.
    columns : int, optional
        Number of filters per row; by default about the number of rows.
    ax : Axes, optional
        The axes; by default of a new figure.

    Returns
    -------
    Axes
        With one image. For one channel, zero is white, negative values are blue and positive values
        red. For three channels, zero is mid-grey. All filters share one scale.

    Raises
    ------
    ValueError
        If the weight does not have four axes, or not 1 or 3 channels.

    Examples
    --------
    >>> import npdl.functional as F
    >>> from npdl import plot
    >>> params = F.conv2d(6, 3).init(0, (1, 8, 8))
    >>> plot.filters(params["weight"], columns=3).images[0].get_array().shape
    (7, 11)
    """
    array = as_floats("filters", "the weight", weight, 4)
    channels = array.shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"filters: an image has 1 or 3 channels, but the filters have {channels}; choose one, "
            f"such as weight[:, :1], or draw the filters of the first convolution"
        )
    largest = float(np.abs(array).max()) or 1.0
    if channels == 3:
        array = 0.5 + array / (2 * largest)
    image = _mosaic(array, _columns("filters", columns, len(array)))
    axes = axes_or_new("filters", ax, *_size(image, colorbar=channels == 1))
    if channels == 3:
        axes.imshow(image)
    else:
        drawn = axes.imshow(image[..., 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.figure.colorbar(drawn, ax=axes, label="weight", shrink=0.8)
    axes.axis("off")
    return axes


def feature_maps(
    model: Layer,
    params: Params,
    image: Array,
    layer: int,
    columns: int | None = None,
    ax: Any = None,
) -> "Axes":
    """Draw the output of a layer for an image, one map per channel, row by row.

    Parameters
    ----------
    model : Layer
        A :func:`serial`, or another model of layers.
    params : tree
        Its parameters.
    image : array (channels, height, width)
        One image.
    layer : int
        The index of the layer in `model`; -1 is the last one.
    columns : int, optional
        Number of maps per row; by default about the number of rows.
    ax : Axes, optional
        The axes; by default of a new figure.

    Returns
    -------
    Axes
        With one image; all maps share one scale.

    Raises
    ------
    ValueError
        If the layer does not exist, or its output has no maps.
    TypeError
        If the model is not made of layers.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import plot
    >>> model = F.serial(F.conv2d(6, 3), F.relu(), F.flatten(), F.dense(2))
    >>> params = model.init(0, (1, 8, 8))
    >>> ax = plot.feature_maps(model, params, np.ones((1, 8, 8), np.float32), layer=1)
    >>> ax.get_title()
    '1: relu()'
    """
    if not isinstance(model, Layer) or model.parts is None:
        raise TypeError(f"feature_maps: expected a serial(...), got {model!r}")
    if not model.parts.nodes:
        raise ValueError("feature_maps: the model has no layers")
    check_params("feature_maps", model.parts, params)
    nodes = [node for node in model.parts.nodes if node.path is not None]
    if type(layer) is not int or not -len(nodes) <= layer < len(nodes):
        raise ValueError(
            f"feature_maps: layer must be the index of one of the {len(nodes)} layers, "
            f"0 to {len(nodes) - 1}, got {layer!r}"
        )
    if np.ndim(image) != 3:
        raise ValueError(
            f"feature_maps: expected one image (channels, height, width), got {describe(image)}"
        )
    as_floats("feature_maps", "the image", image, 3)
    node = nodes[layer]
    before = model.parts.nodes[: model.parts.nodes.index(node) + 1]
    first = attrs.evolve(model.parts, nodes=before, outputs=node.names)
    y = connected(first, exact=False)(params, np.asarray(image)[None])
    title = f"{node.label}: {short(node.layer)}"
    if not isinstance(y, np.ndarray) or y.ndim != 4 or not y.size:
        raise ValueError(
            f"feature_maps: the output of {title} is {describe(y)}, expected (batch, channels, "
            f"height, width); choose a layer with such an output"
        )
    maps = as_floats("feature_maps", f"the output of {title}", y[0], 3)
    mosaic = _mosaic(maps[:, None], _columns("feature_maps", columns, len(maps)))[..., 0]
    axes = axes_or_new("feature_maps", ax, *_size(mosaic, colorbar=True))
    drawn = axes.imshow(mosaic, cmap="viridis")
    axes.figure.colorbar(drawn, ax=axes, label="activation", shrink=0.8)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
    return axes


def _columns(name: str, columns: int | None, count: int) -> int:
    if columns is None:
        return math.ceil(math.sqrt(count))
    return min(check_int(columns, f"{name}(…, columns=8)"), count)


def _mosaic(tiles: Array, columns: int) -> Array:
    """Return tiles (count, channels, height, width) as one image (height, width, channels).

    Gaps are NaN, or white for colour images.
    """
    count, channels, height, width = tiles.shape
    rows = -(-count // columns)
    gap = max(1, round(max(height, width) / 12))
    image = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels),
        1.0 if channels == 3 else np.nan,
    )
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        image[top : top + height, left : left + width] = tile.transpose(1, 2, 0)
    return image


def _size(image: Array, colorbar: bool) -> tuple[float, float]:
    """Return the size in inches of a figure whose longer side is 5 inches."""
    height, width = image.shape[:2]
    scale = 5.0 / max(height, width)
    return max(1.6, width * scale) + 1.1 * colorbar, max(1.6, height * scale) + 0.3
