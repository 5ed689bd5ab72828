"""Windows that slide over images, for convolution and pooling: size, stride, padding, dilation."""

from typing import Any, TypeAlias

import attrs

from npdl.functional._checks import check_int, check_pair, is_int, refusal
from npdl.functional._layer import Array, Shape, check_float, describe

__all__ = [
    "Pair",
    "Window",
    "as_images",
    "check_filters",
    "check_images",
    "image_shape",
    "make_window",
]

Pair: TypeAlias = tuple[int, int]


def make_window(
    name: str,
    axes: int,
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    size_name: str = "size",
) -> "Window":
    """Return the window that a constructor's arguments describe; in one dimension, of height 1."""
    return Window(
        name,
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


@attrs.frozen(eq=False, repr=False)
class Window:
    """A window of `size`, moved by `stride`, whose elements are `dilation` apart, on any image.

    Each attribute has one entry for the height and one for the width. The padding is one of two
    words, or the numbers of rows (columns) before and after the image.
    """

    name: str  # of the layer, for messages
    size: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str | tuple[Pair, Pair] = "valid"

    @property
    def reach(self) -> Pair:
        """The height and width that the window covers, the gaps of dilation included."""
        (height, width), (down, right) = self.size, self.dilation
        return (height - 1) * down + 1, (width - 1) * right + 1

    def pads(self, height: int, width: int) -> tuple[Pair, Pair]:
        """Return the numbers of rows above and below, and of columns left and right."""
        if self.padding == "valid":
            return (0, 0), (0, 0)
        if not isinstance(self.padding, str):
            return self.padding
        pairs = []
        for length, reach, stride in zip((height, width), self.reach, self.stride, strict=True):
            total = max((-(-length // stride) - 1) * stride + reach - length, 0)
            pairs.append((total // 2, total - total // 2))
        return pairs[0], pairs[1]

    def out(self, height: int, width: int) -> Pair:
        """Return the number of places of the window, down and across."""
        (top, bottom), (left, right) = self.pads(height, width)
        padded = height + top + bottom, width + left + right
        if height < 1 or width < 1 or self.reach[0] > padded[0] or self.reach[1] > padded[1]:
            dilated = "" if self.dilation == (1, 1) else f", dilated by {self.dilation}"
            raise ValueError(
                f"{self.name}: the window of {self.size[0]}×{self.size[1]}{dilated} is larger than "
                f"the padded image of {padded[0]}×{padded[1]} (height×width); use a smaller "
                f'window, a larger image, or padding="same"'
            )
        return (
            (padded[0] - self.reach[0]) // self.stride[0] + 1,
            (padded[1] - self.reach[1]) // self.stride[1] + 1,
        )

    def is_point(self, height: int, width: int) -> bool:
        """Whether each pixel is a patch of its own."""
        pads = self.pads(height, width)
        return self.size == self.stride == (1, 1) and pads == ((0, 0), (0, 0))

    def can_mirror(self, height: int, width: int) -> bool:
        """Whether the gradient in the image is that of a window moved over the gradient."""
        return self.stride == (1, 1) and all(
            max(pad) < reach
            for pad, reach in zip(self.pads(height, width), self.reach, strict=True)
        )

    def mirrored(self, height: int, width: int) -> "Window":
        """Return the window that gathers from the places what this one gave to the pixels."""
        (top, bottom), (left, right) = self.pads(height, width)
        down, across = self.reach[0] - 1, self.reach[1] - 1
        padding = (down - top, down - bottom), (across - left, across - right)
        return attrs.evolve(self, padding=padding)

    def offsets(self, axis: int, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return, for each element of the window along an axis, its places and its pixels.

        Both are slices: at the places ``y[places]`` the element meets ``x[pixels]``, one to one. It
        meets padding at no place, so nothing needs to be padded; an element that meets nothing else
        is left out.
        """
        image = height, width
        length, stride, before = image[axis], self.stride[axis], self.pads(*image)[axis][0]
        found = []
        for i in range(self.size[axis]):
            offset = i * self.dilation[axis] - before
            first = max(-(offset // stride), 0)
            last = min((length - 1 - offset) // stride + 1, self.out(*image)[axis])
            if first < last:
                pixels = slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)
                found.append((slice(first, last), pixels))
        return found


def as_images(x: Array, axes: int) -> Array:
    """Return (batch, channels, height, width), of height 1 where there is one axis only."""
    return x if axes == 2 else x[:, :, None]


def check_images(
    name: str, x: Array, axes: int, channels: int | None = None, dtype: Any = None
) -> None:
    """Raise unless `x` is a batch of images (sequences) of floats, with that many channels."""
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


def image_shape(name: str, shape: Shape, axes: int, groups: int = 1) -> tuple[int, int, int]:
    """Return channels, height and width of an example's shape; the groups divide the channels."""
    if (
        not isinstance(shape, tuple | list)
        or len(shape) != 1 + axes
        or not all(is_int(size) and size > 0 for size in shape)
    ):
        raise ValueError(
            f"{name}: expected the shape of one example, ({_AXES[axes]}), all positive, got "
            f"{shape!r}"
        )
    if shape[0] % groups:
        raise ValueError(
            f"{name}: groups must divide the channels, but there are {shape[0]} channels, in the "
            f"shape {shape}, and groups={groups}"
        )
    return (shape[0], 1, shape[1]) if axes == 1 else (shape[0], shape[1], shape[2])


def check_filters(name: str, filters: Any, groups: Any) -> tuple[int, int]:
    """Return both, which are positive ints; the groups divide the filters."""
    filters = check_int(filters, f"{name}(filters=16, kernel_size=3)")
    groups = check_int(groups, f"{name}(16, 3, groups=2)")
    if filters % groups:
        raise ValueError(f"{name}: groups must divide the filters, got {filters=} and {groups=}")
    return filters, groups


_AXES = {1: "channels, length", 2: "channels, height, width"}
