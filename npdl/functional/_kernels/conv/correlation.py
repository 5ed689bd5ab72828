"""Convolutions as matrix products, over images whose batch axis is last in memory.

In the memory order (channels, height, width, batch), the values of one pixel in all images are
contiguous. Copies of a shifted or strided image therefore move long runs of numbers. The matrix
product of the weight with patches is the output, without a further copy. Callers see a transposed
view (batch, channels, height, width). Arrays in another memory order, such as the input of the
first layer, are copied.

Patches are copied into one workspace, a block of pixels at a time. The backward pass copies them
again instead of keeping them. If possible, a block has whole rows of positions: see `rows.py`.

Two cases have faster algorithms, with another memory order: few channels, as in most first layers,
see `few_channels.py`; and windows of three rows at stride 1, see `winograd.py`.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npdl.functional._kernels.blocks import PATCH_BLOCK
from npdl.functional._kernels.conv import few_channels, winograd
from npdl.functional._kernels.conv.rows import by_rows, kernel_matrix, kernel_of, row_blocks
from npdl.functional._kernels.image_layout import (
    as_rows,
    batch_first,
    batch_last,
    even_block_size,
    from_rows,
    strided,
)
from npdl.functional._kernels.windows import Pair, Window, remembered
from npdl.tree import Array

__all__ = ["correlate", "gradients", "transposed_correlation", "weight_gradient"]


# Blocks with fewer pixels give slow matrix products, even if the patches are large.
FEWEST_PIXELS = 512


def correlate(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Return the matrix products of the weight with the patches of `x`: a convolution layer.

    Parameters
    ----------
    x : array of shape (batch, channels, height, width)
        The images.
    weight : array of shape (filters, channels // groups, size of the window)
        The filters.
    bias : array of shape (filters,), optional
        Added to the outputs.
    window : Window
        Size, stride, padding and dilation.
    groups : int
        Number of groups of channels. Each group has separate filters.

    Returns
    -------
    array of shape (batch, filters, output height, output width)
        A view of an array whose batch axis is last in memory.
    """
    if fast := _fast_algorithm_and_rows(window, groups, len(weight), x, weight=weight):
        algorithm, (rows,) = fast
        return from_rows(algorithm(rows, window, weight, bias)[0])
    y = np.empty((len(weight), *window.out(*x.shape[2:]), len(x)), x.dtype)
    plan = _plan(x, weight, window, groups)
    matrix, outputs = plan.rows, plan.as_matrices(y)
    shift = None if bias is None else bias.reshape(groups, -1, 1)
    for index, patches in plan.blocks:
        part = outputs[index]
        np.matmul(matrix, patches, out=part)
        if shift is not None:
            part += shift
    return batch_first(y)


def weight_gradient(
    x: Array, g: Array, weight: Array, window: Window, groups: int, rowwise: bool = True
) -> Array:
    """Return only the weight gradient of :func:`correlate`."""
    if fast := _fast_algorithm_and_rows(window, groups, len(weight), x, g):
        algorithm, (rows, cotangent) = fast
        of_rows: Array = algorithm(rows, window, g=cotangent)[1]
        return of_rows
    plan = _plan(x, weight, window, groups, rowwise)
    outputs, dw = plan.as_matrices(batch_last(g)), np.zeros_like(plan.rows.mT)
    for index, patches in plan.blocks:
        dw += plan.gradient(patches, outputs[index])
    return plan.weight(dw)


def gradients(
    x: Array, g: Array, weight: Array, window: Window, groups: int, input_grad: bool = True
) -> tuple[Array, Array | None]:
    """Return the weight gradient of :func:`correlate` and, if wanted, the input gradient.

    The bits of the weight gradient do not depend on `input_grad`.
    """
    image = x.shape[2:]
    if _gathers(window, image, weight):
        # The input gradient is a correlation, too; both gradients use its patches.
        transposed, mirrored, dx = window.mirrored(*image), _mirrored(weight, groups), None
        if input_grad:
            dx, dw = correlate_with_gradient(g, x, mirrored, transposed, groups)
        else:
            dw = weight_gradient(g, x, mirrored, transposed, groups)
        return _mirrored(dw, groups), dx
    if not input_grad or _fast_algorithm(window, groups, x.shape, len(weight)):
        dx = transposed_correlation(g, weight, window, groups, image) if input_grad else None
        return weight_gradient(x, g, weight, window, groups, rowwise=False), dx
    rows, outputs = _grouped(weight, groups), _grouped(batch_last(g), groups)
    dw, padded = np.zeros_like(rows.mT), _padded_zeros(x.shape, window, x.dtype)
    targets = _windows(padded, window)
    for block, patches in _patches(x, window, groups):
        part = outputs[..., block.run]
        dw += patches @ part.mT
        # The patches are no longer needed, so their memory is reused.
        np.matmul(rows.mT, part, out=patches)
        _add(targets[:, :, :, *block.area], patches)
    return dw.mT.reshape(weight.shape), _cropped(padded, window, image)


def correlate_with_gradient(
    x: Array, g: Array, weight: Array, window: Window, groups: int
) -> tuple[Array, Array]:
    """Return :func:`correlate` of `x`, and its weight gradient for the output gradient `g`."""
    if fast := _fast_algorithm_and_rows(window, groups, len(weight), x, g, weight=weight):
        algorithm, (rows, of_rows) = fast
        y, dw = algorithm(rows, window, weight, g=of_rows)
        return from_rows(y), dw
    y = np.empty((len(weight), *window.out(*x.shape[2:]), len(x)), x.dtype)
    plan = _plan(x, weight, window, groups)
    outputs, cotangent = plan.as_matrices(y), plan.as_matrices(batch_last(g))
    dw = np.zeros_like(plan.rows.mT)
    for index, patches in plan.blocks:
        np.matmul(plan.rows, patches, out=outputs[index])
        dw += plan.gradient(patches, cotangent[index])
    return batch_first(y), plan.weight(dw)


def transposed_correlation(
    g: Array, weight: Array, window: Window, groups: int, image: Pair
) -> Array:
    """Return the input gradient of :func:`correlate`, for an input of the size `image`."""
    if _gathers(window, image, weight) or (
        window.can_mirror(*image) and _fast_algorithm(window, groups, g.shape, weight.shape[1])
    ):
        return correlate(g, _mirrored(weight, groups), None, window.mirrored(*image), groups)
    rows, outputs = _grouped(weight, groups), _grouped(batch_last(g), groups)
    padded = _padded_zeros((len(g), weight.shape[1] * groups, *image), window, g.dtype)
    targets = _windows(padded, window)
    for block, workspace in _workspaces(targets.shape, g.dtype):
        columns = workspace.reshape(groups, rows.shape[2], -1)
        np.matmul(rows.mT, outputs[..., block.run], out=columns)
        _add(targets[:, :, :, *block.area], columns)
    return _cropped(padded, window, image)


Algorithm = Callable[..., tuple[Any, Any]]


def _fast_algorithm_and_rows(
    window: Window, groups: int, filters: int, *images: Array, weight: Array | None = None
) -> tuple[Algorithm, list[Array]] | None:
    """Return the faster algorithm and the images in its memory order, or `None`.

    Winograd's algorithm adds rows of images and rows of the weight, so their magnitudes must be
    similar.
    """
    algorithm = _fast_algorithm(window, groups, images[0].shape, filters)
    if algorithm is None:
        return None
    rows = [as_rows(array) for array in images]
    if algorithm is winograd.correlate:
        added = rows if weight is None else [*rows, weight.transpose(2, 0, 1, 3)]
        if not all(map(winograd.is_even, added)):
            return None
    return algorithm, rows


@remembered
def _fast_algorithm(
    window: Window, groups: int, shape: tuple[int, ...], filters: int
) -> Algorithm | None:
    """Return the faster algorithm for images (batch, channels, ...), or `None`."""
    if few_channels.fits(window, groups, shape):
        return few_channels.correlate
    if winograd.fits(window, groups, shape, filters):
        return winograd.correlate
    return None


def _gathers(window: Window, image: Pair, weight: Array) -> bool:
    """Whether the input gradient gathers patches of `g`; otherwise it scatters into the image.

    Gathering computes a matrix product per image pixel, scattering one per window position. The
    patches have filters when gathering, channels when scattering.
    """
    if not window.can_mirror(*image):
        return False
    positions = window.out(*image)
    return window.is_point(*image) or (
        4 * image[0] * image[1] <= 5 * positions[0] * positions[1]
        and weight.shape[0] <= 2 * weight.shape[1]
    )


def _mirrored(weight: Array, groups: int) -> Array:
    """Exchange channels and filters, and flip the window along both axes."""
    filters, channels, *size = weight.shape
    parts = weight.reshape(groups, filters // groups, channels, *size)
    transposed = parts.swapaxes(1, 2)[..., ::-1, ::-1]
    return transposed.reshape(groups * channels, filters // groups, *size)


def _grouped(array: Array, groups: int) -> Array:
    """Return (groups, rows per group, columns) of a weight, or of images with the batch last."""
    return array.reshape(groups, len(array) // groups, math.prod(array.shape[1:]))


class Plan(NamedTuple):
    """The matrix products of a weight with the patches of images, block by block.

    A block computes ``outputs[index] = rows @ patches``, with ``outputs = as_matrices(y)``.
    """

    rows: Array
    blocks: Iterator[tuple[Any, Array]]
    as_matrices: Callable[[Array], Array]
    # gradient(patches, part) is the contribution of a block to the gradient of the transposed
    # rows. weight(gradient) converts this gradient to the shape of the weight.
    gradient: Callable[[Array, Array], Array]
    weight: Callable[[Array], Array]


def _plan(x: Array, weight: Array, window: Window, groups: int, rowwise: bool = True) -> Plan:
    """Return the faster plan: by rows of positions, or by blocks of positions."""
    image, shape = x.shape[2:], weight.shape
    if rowwise and by_rows(window, groups, window.out(*image)[1] * len(x)):
        windows = _windows(batch_last(x, window.pads(*image)), window)
        return Plan(
            kernel_matrix(weight),
            row_blocks(windows, window),
            lambda y: y.reshape(*y.shape[:2], -1).transpose(1, 0, 2),
            lambda patches, part: (patches @ part.mT).sum(axis=0, keepdims=True),
            lambda dw: kernel_of(dw, shape),
        )
    patches = _patches(x, window, groups)
    return Plan(
        _grouped(weight, groups),
        (((..., block.run), columns) for block, columns in patches),
        lambda y: _grouped(y, groups),
        # Transposed, with the longer side first, this matrix product is up to 1.7 times as fast.
        lambda columns, part: columns @ part.mT,
        lambda dw: dw.mT.reshape(shape),
    )


class Block(NamedTuple):
    """A rectangle of window positions. It is one contiguous run of the flattened output."""

    area: tuple[slice, slice, slice]  # rows, columns, images
    run: slice


def _patches(x: Array, window: Window, groups: int) -> Iterator[tuple[Block, Array]]:
    """Yield blocks of positions and patches (groups, channels // groups * size, positions)."""
    image = x.shape[2:]
    if window.is_point(*image):
        everything = slice(None)
        yield Block((everything,) * 3, everything), _grouped(batch_last(x), groups)
        return
    sources = _windows(batch_last(x, window.pads(*image)), window)
    for block, workspace in _workspaces(sources.shape, x.dtype):
        np.copyto(workspace, sources[:, :, :, *block.area])
        yield block, workspace.reshape(groups, -1, block.run.stop - block.run.start)


def _windows(padded: Array, window: Window) -> Array:
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


def _workspaces(shape: tuple[int, ...], dtype: Any) -> Iterator[tuple[Block, Array]]:
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


def _padded_zeros(shape: tuple[int, ...], window: Window, dtype: Any) -> Array:
    batch, channels, height, width = shape
    (top, bottom), (left, right) = window.pads(height, width)
    return np.zeros((channels, top + height + bottom, left + width + right, batch), dtype)


def _cropped(padded: Array, window: Window, image: Pair) -> Array:
    (top, _), (left, _) = window.pads(*image)
    return batch_first(padded[:, top : top + image[0], left : left + image[1]])


def _add(targets: Array, columns: Array) -> None:
    """Accumulate the contributions of all windows that cover a pixel (col2im)."""
    columns = columns.reshape(targets.shape)
    for i, j in itertools.product(*map(range, targets.shape[1:3])):
        # Windows overlap, but one element of all windows lies on different pixels.
        pixels = targets[:, i, j]
        pixels += columns[:, i, j]
