"""Sizes of layers, from their constructors and from the layers before them."""

import operator
from typing import Any, TypeAlias

from npdl._warn import warn
from npdl.functional._checks import check_int

__all__ = ["Shape", "check_channels", "optional_int", "positive_int", "shape_before"]

Shape: TypeAlias = tuple[Any, ...]  # of ints, and of None where a size is not known


def shape_before(
    layer: Any, prev_layer: Any, told: Shape = (), known_axes: int = 0, as_first: str = ""
) -> Shape:
    """Return the shape of the input of a layer, the batch first.

    Parameters
    ----------
    layer : Layer
        The layer that is being connected, for messages.
    prev_layer : Layer or None
        The one before, any object with an attribute ``out_shape``.
    told : tuple
        The last sizes of the input, as far as the layer was told them.
    known_axes : int
        How many of the last sizes must be known.
    as_first : str
        How to write the layer as a first one; empty, where it cannot be.

    Raises
    ------
    ValueError
        If a size is not known.

    Warns
    -----
    UserWarning
        If the layer was told another size than the layer before has, which counts.
    """
    told = tuple(map(_size, told))
    if prev_layer is None:
        if not told:
            raise ValueError(
                f"{layer}: a first layer needs the size of its input, as in {as_first}"
                if as_first
                else f"{layer}: nothing comes before it, so that its sizes are not known; connect "
                f"it to a layer, or begin the model with one that is told the size of its input"
            )
        return (None, *told)
    shape = getattr(prev_layer, "out_shape", None)
    if shape is None:
        raise ValueError(f"{layer}: {prev_layer} has no out_shape; connect it first")
    before = tuple(map(_size, shape))
    start = len(before) - len(told)
    pairs = list(zip(before[start:], told, strict=True)) if start >= 1 else []
    if start < 1 or any(a != b for a, b in pairs if a is not None and b is not None):
        warn(
            f"{layer}: the sizes {told} of its input were passed, but {prev_layer} gives "
            f"{before}, which counts; leave that argument out, or correct it"
        )
    sizes = (*before[:start], *(b if a is None else a for a, b in pairs)) if pairs else before
    if None in sizes[max(len(sizes) - known_axes, 1) :]:
        raise ValueError(
            f"{layer}: {prev_layer} gives {before}, of which not all sizes that it needs are "
            f"known; tell the layers before, as in Embedding(..., nb_seq=20), or LSTM(nb_seq=20, "
            f"...)"
        )
    return sizes


def check_channels(image: Shape) -> None:
    """Warn if the shape of an image seems to have its channels last."""
    if len(image) == 3 and image[0] == image[1] and (image[0] or 0) > 4 and image[2] in (1, 3, 4):
        warn(
            f"the image shape {image} means {image[0]} channels: channels come first, as in "
            f"{(image[2], *image[:2])}, and in data as in x.transpose(0, 3, 1, 2)"
        )


def positive_int(layer: Any, name: str, value: Any) -> int:
    """Return the value, or raise."""
    return check_int(value, f"{layer}({name}=32)")


def optional_int(layer: Any, name: str, value: Any) -> int | None:
    """Return the value or `None`, or raise."""
    return None if value is None else positive_int(layer, name, value)


def _size(value: Any) -> Any:
    return None if value is None else operator.index(value)
