"""Arguments of image and sequence layers: windows, filters, shapes and batches."""

from typing import Any

from npdl.functional._arrays import check_float, describe, is_example
from npdl.functional._checks import check_int, check_pair, is_int, refusal
from npdl.functional._kernels.windows import Pair, Window, remembered
from npdl.tree import Array

__all__ = ["check_filters", "check_images", "image_shape", "make_window", "output_size"]


def make_window(
    name: str,
    axes: int,
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    size_name: str = "size",
) -> Window:
    """Return the window for the arguments of a constructor; for sequences, its height is 1."""
    return Window(
        check_pair(size, f"{name}(…, {size_name}=3)", axes),
        check_pair(stride, f"{name}(…, stride=2)", axes),
        check_pair(dilation, f"{name}(…, dilation=2)", axes),
        _padding(name, axes, padding),
    )


def _padding(name: str, axes: int, value: Any) -> str | tuple[Pair, Pair]:
    if isinstance(value, str) and value in ("valid", "same"):
        return value
    if is_int(value):
        sides: Any = ((value, value),) * axes
    elif isinstance(value, tuple | list) and len(value) == 2:
        sides = [(side, side) if is_int(side) else side for side in value] if axes == 2 else [value]
    else:
        sides = ()
    if len(sides) == axes and all(map(_is_side, sides)):
        pairs = [(int(before), int(after)) for before, after in sides]
        return ((0, 0), pairs[0]) if axes == 1 else (pairs[0], pairs[1])
    form = (
        "a pair (before, after)"
        if axes == 1
        else "a pair (height, width), or ((top, bottom), (left, right))"
    )
    expected = f'"valid", "same", an int of at least 0, or {form}'
    raise ValueError(refusal(value, f"{name}(…, padding=1)", expected))


def _is_side(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(is_int(number) and number >= 0 for number in value)
    )


def check_images(
    name: str, x: Array, axes: int, channels: int | None = None, dtype: Any = None
) -> None:
    """Raise unless `x` is a batch of images (sequences) of floats with `channels` channels."""
    check_float(x, name, dtype)
    if x.ndim != 2 + axes:
        raise ValueError(
            f"{name}: expected (batch, {_AXES[axes]}), got {describe(x)}"
            + ("; one example needs a batch of one: x[None]" if x.ndim == 1 + axes else "")
        )
    if channels is not None and x.shape[1] != channels:
        raise ValueError(
            f"{name}: these params take {channels} channels (axis 1), but the input is "
            f"{describe(x)}; init them with the shape of one example, ({_AXES[axes]})"
        )


def image_shape(name: str, shape: Any, axes: int, groups: int = 1) -> tuple[int, int, int]:
    """Return channels, height and width of an example's shape; the groups divide the channels."""
    if not is_example(shape, 1 + axes, least=1):
        raise ValueError(
            f"{name}: expected the shape of one example, ({_AXES[axes]}), with positive sizes, got "
            f"{shape!r}"
        )
    if shape[0] % groups:
        raise ValueError(
            f"{name}: groups must divide the channels, but the shape {shape} has {shape[0]} "
            f"channels, and groups={groups}"
        )
    return (shape[0], 1, shape[1]) if axes == 1 else (shape[0], shape[1], shape[2])


@remembered
def output_size(name: str, window: Window, image: Pair) -> Pair:
    """Return the height and width of the output; the window fits the padded image."""
    height, width = image
    (top, bottom), (left, right) = window.pads(height, width)
    padded = height + top + bottom, width + left + right
    if height < 1 or width < 1 or window.reach[0] > padded[0] or window.reach[1] > padded[1]:
        dilated = "" if window.dilation == (1, 1) else f", dilated by {window.dilation}"
        raise ValueError(
            f"{name}: the window of {window.size[0]}×{window.size[1]}{dilated} is larger than the "
            f"padded image of {padded[0]}×{padded[1]} (height×width); use a smaller window, a "
            f'larger image, or padding="same"'
        )
    return window.out(height, width)


def check_filters(name: str, filters: Any, groups: Any) -> tuple[int, int]:
    """Return filters and groups as ints; raise unless the groups divide the filters."""
    filters = check_int(filters, f"{name}(filters=16, kernel_size=3)")
    groups = check_int(groups, f"{name}(16, 3, groups=2)")
    if filters % groups:
        raise ValueError(f"{name}: groups must divide the filters, got {filters=} and {groups=}")
    return filters, groups


_AXES = {1: "channels, length", 2: "channels, height, width"}
