"""Input sizes of layers, from their constructors and from the layers before them."""

import operator
from typing import Any

from npdl._warn import warn
from npdl.functional._checks import check_int
from npdl.functional._layer import Shape

__all__ = ["check_channels", "optional_int", "positive_int", "shape_before"]


def shape_before(
    layer: Any,
    prev_layer: Any,
    input_sizes: Shape = (),
    known_axes: int = 0,
    usage: str = "",
) -> Shape:
    """Return the shape of the input of a layer, the batch first.

    Parameters
    ----------
    layer : Layer
        The layer to connect, for messages.
    prev_layer : Layer or None
        The layer before: any object with an attribute ``out_shape``.
    input_sizes : tuple
        The last sizes of the input, from the constructor of the layer.
    known_axes : int
        The number of last axes whose sizes must be known.
    usage : str
        A constructor call as first layer, for messages; empty if the layer cannot be the first.

    Raises
    ------
    ValueError
        If a size is unknown.

    Warns
    -----
    UserWarning
        If `input_sizes` differ from the output of the layer before, which is used.
    """
    input_sizes = tuple(map(_size, input_sizes))
    if prev_layer is None:
        if not input_sizes:
            raise ValueError(
                f"{layer}: a first layer needs the size of its input, as in {usage}"
                if usage
                else f"{layer}: there is no layer before it, so its sizes are unknown; connect it "
                f"to a layer, or start the model with a layer that has the size of its input"
            )
        return (None, *input_sizes)
    shape = getattr(prev_layer, "out_shape", None)
    if shape is None:
        raise ValueError(f"{layer}: {prev_layer} has no out_shape; connect it first")
    before = tuple(map(_size, shape))
    start = len(before) - len(input_sizes)
    pairs = list(zip(before[start:], input_sizes, strict=True)) if start >= 1 else []
    if start < 1 or any(a != b for a, b in pairs if a is not None and b is not None):
        warn(
            f"{layer}: the input sizes {input_sizes} were passed, but {prev_layer} has the output "
            f"{before}, which is used; omit that argument, or correct it"
        )
    sizes = (*before[:start], *(b if a is None else a for a, b in pairs)) if pairs else before
    if None in sizes[max(len(sizes) - known_axes, 1) :]:
        raise ValueError(
            f"{layer}: {prev_layer} has the output {before} with unknown sizes; pass the sizes to "
            f"the layers before, as in Embedding(..., nb_seq=20), or LSTM(nb_seq=20, ...)"
        )
    return sizes


def check_channels(image: Shape) -> None:
    """Warn if the shape of an image seems to have the channels last."""
    if len(image) == 3 and image[0] == image[1] and (image[0] or 0) > 4 and image[2] in (1, 3, 4):
        warn(
            f"the image shape {image} means {image[0]} channels: channels come first, as in "
            f"{(image[2], *image[:2])}; convert the data with x.transpose(0, 3, 1, 2)"
        )


def positive_int(layer: Any, name: str, value: Any, example: int = 32) -> int:
    """Return the value, or raise an error with the example as the right call."""
    return check_int(value, f"{layer}({name}={example})")


def optional_int(layer: Any, name: str, value: Any) -> int | None:
    """Return a positive int or `None`, or raise."""
    return None if value is None else positive_int(layer, name, value)


def _size(value: Any) -> Any:
    return None if value is None else operator.index(value)
