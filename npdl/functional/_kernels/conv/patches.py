"""Patches of images as matrices, in blocks of positions that share one workspace."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npdl.functional._kernels.blocks import PATCH_BLOCK
from npdl.functional._kernels.conv.rows import by_rows
from npdl.functional._kernels.image_layout import batch_last, even_block_size, strided
from npdl.functional._kernels.windows import Pair, Window, remembered
from npdl.tree import Array

__all__ = ["grouped", "in_one_block", "patches_of", "windows_of", "workspaces"]

# Blocks with fewer pixels give slow matrix products, even if the patches are large.
FEWEST_PIXELS = 512
# Images with longer rows are copied row by row, which then takes no longer than whole lines.
SHORT_ROW = 32


def grouped(array: Array, groups: int) -> Array:
    """Return (groups, rows per group, columns) of a weight, or of images with the batch last."""
    return array.reshape(groups, len(array) // groups, math.prod(array.shape[1:]))


class Block(NamedTuple):
    """A rectangle of window positions. It is one contiguous run of the flattened output."""

    area: tuple[slice, slice, slice]  # rows, columns, images
    run: slice


class OneBlock(NamedTuple):
    """The geometry of the patches of all positions in one array."""

    matrices: tuple[int, int, int]  # (groups, channels // groups * size, positions)
    pads: tuple[Pair, Pair]
    windows: tuple[tuple[int, ...], tuple[int, ...]]  # shape and strides, of padded images
    is_point: bool
    shifts_lines: bool


def in_one_block(x: Array, window: Window, groups: int) -> Array | None:
    """Return the patches of all positions, (groups, ...); `None` if blocks or rows are faster."""
    block = _one_block(window, groups, x.shape, x.itemsize)
    if block is None:
        return None
    padded = batch_last(x, _NO_PADS if block.shifts_lines else block.pads)
    if block.is_point:
        return padded.reshape(block.matrices)
    patches = np.empty(block.windows[0], x.dtype)
    if block.shifts_lines:
        _shift_lines(padded, window, patches)
    else:
        np.copyto(patches, strided(padded, *block.windows))
    return patches.reshape(block.matrices)


_NO_PADS = (0, 0), (0, 0)


@remembered
def _one_block(
    window: Window, groups: int, shape: tuple[int, ...], itemsize: int
) -> OneBlock | None:
    batch, channels, height, width = shape
    down, across = window.out(height, width)
    rows = by_rows(window, groups, across * batch)
    if rows or len(_blocks((channels, *window.size, down, across, batch))) != 1:
        return None
    pads = window.pads(height, width)
    padded = channels, height + sum(pads[0]), width + sum(pads[1]), batch
    size = channels // groups * math.prod(window.size)
    return OneBlock(
        (groups, size, down * across * batch),
        pads,
        _geometry(window, padded, itemsize),
        window.is_point(height, width),
        window.stride == (1, 1) and across == width and down > 1 and width * batch <= SHORT_ROW,
    )


def _shift_lines(x: Array, window: Window, patches: Array) -> None:
    """Write the patches of images (channels, height, width, batch) for outputs of this width.

    For each element of the window, all rows of a channel are one line, which is shifted and copied
    at once. So pixels beyond the end of a row come from the next row, and are set to zero.
    """
    channels, height, width, batch = x.shape
    (top, bottom), (left, right) = window.pads(height, width)
    down, across = (dilation * batch * x.itemsize for dilation in window.dilation)
    start, size = (top * width + left) * batch, height * width * batch
    line = np.zeros((channels, start + size + (bottom * width + right) * batch), x.dtype)
    line[:, start : start + size] = x.reshape(channels, size)
    lines = patches.reshape(*patches.shape[:3], math.prod(patches.shape[3:]))
    strides = line.strides[0], down * width, across, x.itemsize
    np.copyto(lines, strided(line, lines.shape, strides))
    for j in range(window.size[1]):
        shift = j * window.dilation[1] - left
        if shift < 0:
            patches[:, :, j, :, :-shift] = 0
        elif shift > 0:
            patches[:, :, j, :, max(width - shift, 0) :] = 0


def patches_of(x: Array, window: Window, groups: int) -> Iterator[tuple[Block, Array]]:
    """Yield blocks of positions and patches (groups, channels // groups * size, positions)."""
    image = x.shape[2:]
    if window.is_point(*image):
        everything = slice(None)
        yield Block((everything,) * 3, everything), grouped(batch_last(x), groups)
        return
    sources = windows_of(batch_last(x, window.pads(*image)), window)
    for block, workspace in workspaces(sources.shape, x.dtype):
        np.copyto(workspace, sources[:, :, :, *block.area])
        yield block, workspace.reshape(groups, -1, block.run.stop - block.run.start)


def windows_of(padded: Array, window: Window) -> Array:
    """Return the view (channels, *size, output height, output width, batch) of a padded image."""
    return strided(padded, *_geometry(window, padded.shape, padded.itemsize))


@remembered
def _geometry(
    window: Window, shape: tuple[int, ...], itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape and the strides of all windows of contiguous padded images."""
    channels, height, width, batch = shape
    positions = [
        (length - reach) // stride + 1
        for length, reach, stride in zip((height, width), window.reach, window.stride, strict=True)
    ]
    (down, right), (dilation_down, dilation_right) = window.stride, window.dilation
    pixel = batch * itemsize
    row = width * pixel
    return (channels, *window.size, *positions, batch), (
        height * row,
        row * dilation_down,
        pixel * dilation_right,
        row * down,
        pixel * right,
        itemsize,
    )


def workspaces(shape: tuple[int, ...], dtype: Any) -> Iterator[tuple[Block, Array]]:
    """Yield the blocks of all positions, and a patch array per block, in the same memory."""
    memory = None
    for block, sizes in _blocks(shape):
        if memory is None:  # the first block is the largest
            memory = np.empty(math.prod(sizes), dtype)
        yield block, memory[: math.prod(sizes)].reshape(sizes)


@remembered
def _blocks(shape: tuple[int, ...]) -> tuple[tuple[Block, tuple[int, ...]], ...]:
    """Return the blocks of all positions, and the shapes of their patches."""
    *patch, rows, columns, images = shape
    limit = max(PATCH_BLOCK // max(math.prod(patch), 1), FEWEST_PIXELS)
    # As many rows as fit; else a part of a row; else a part of the images of one position.
    height = even_block_size(rows, limit // max(columns * images, 1))
    width = even_block_size(columns, limit // max(images, 1))
    count = even_block_size(images, limit)
    blocks = []
    for row, column, image in itertools.product(
        range(0, rows, height), range(0, columns, width), range(0, images, count)
    ):
        ends = min(row + height, rows), min(column + width, columns), min(image + count, images)
        sizes = ends[0] - row, ends[1] - column, ends[2] - image
        start = (row * columns + column) * images + image
        area = slice(row, ends[0]), slice(column, ends[1]), slice(image, ends[2])
        blocks.append((Block(area, slice(start, start + math.prod(sizes))), (*patch, *sizes)))
    return tuple(blocks)
