"""Windows that slide over images, for convolution and pooling: size, stride, padding, dilation."""

import functools
from typing import TypeAlias

import attrs

from npdl.tree import Array

__all__ = ["Pair", "Window", "as_images", "from_images", "remembered"]

Pair: TypeAlias = tuple[int, int]

# A layer asks the same questions for each batch, and for small images the answers take longer than
# the arithmetic.
remembered = functools.lru_cache(maxsize=1024)


@attrs.frozen(eq=False, repr=False)
class Window:
    """A window of `size` that moves by `stride`, with a distance `dilation` between its elements.

    Each attribute has one entry for the height and one for the width. The padding is "valid",
    "same", or the numbers of rows (columns) before and after the image.
    """

    size: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str | tuple[Pair, Pair] = "valid"

    @functools.cached_property
    def reach(self) -> Pair:
        """The height and width that the window covers, including the gaps of dilation."""
        (height, width), (down, right) = self.size, self.dilation
        return (height - 1) * down + 1, (width - 1) * right + 1

    @remembered
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

    @remembered
    def out(self, height: int, width: int) -> Pair:
        """Return the number of window positions, down and across; the window fits the image."""
        (top, bottom), (left, right) = self.pads(height, width)
        padded = height + top + bottom, width + left + right
        return (
            (padded[0] - self.reach[0]) // self.stride[0] + 1,
            (padded[1] - self.reach[1]) // self.stride[1] + 1,
        )

    @remembered
    def is_point(self, height: int, width: int) -> bool:
        """Whether each patch is one pixel."""
        pads = self.pads(height, width)
        return self.size == self.stride == (1, 1) and pads == ((0, 0), (0, 0))

    @remembered
    def can_mirror(self, height: int, width: int) -> bool:
        """Whether the image gradient is a correlation of the output gradient."""
        return self.stride == (1, 1) and all(
            max(pad) < reach
            for pad, reach in zip(self.pads(height, width), self.reach, strict=True)
        )

    @remembered
    def mirrored(self, height: int, width: int) -> "Window":
        """Return the window of the transposed operation, which reads the outputs."""
        (top, bottom), (left, right) = self.pads(height, width)
        down, across = self.reach[0] - 1, self.reach[1] - 1
        padding = (down - top, down - bottom), (across - left, across - right)
        return attrs.evolve(self, padding=padding)

    @remembered
    def offsets(self, axis: int, height: int, width: int) -> tuple[tuple[slice, slice], ...]:
        """Return (positions, pixels) for each element of the window along an axis.

        Both are slices of equal length: at ``y[positions]``, the element lies on ``x[pixels]``.
        Positions on padding are excluded, so that padding is never copied. Elements that lie only
        on padding are left out.
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
        return tuple(found)


def as_images(x: Array, axes: int) -> Array:
    """Return (batch, channels, height, width); sequences get a height of 1."""
    return x if axes == 2 else x[:, :, None]


def from_images(y: Array, axes: int) -> Array:
    """Return images unchanged, or sequences (batch, channels, length) without the height of 1."""
    return y if axes == 2 else y[:, :, 0]
