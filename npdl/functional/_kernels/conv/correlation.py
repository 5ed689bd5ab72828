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
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npdl.functional._kernels.conv import few_channels, winograd
from npdl.functional._kernels.conv.patches import (
    grouped,
    in_one_block,
    patches_of,
    windows_of,
    workspaces,
)
from npdl.functional._kernels.conv.rows import by_rows, kernel_matrix, kernel_of, row_blocks
from npdl.functional._kernels.image_layout import (
    as_rows,
    batch_first,
    batch_last,
    from_rows,
)
from npdl.functional._kernels.windows import Pair, Window, remembered
from npdl.tree import Array

__all__ = ["correlate", "gradients", "transposed_correlation", "weight_gradient"]


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
    shift = None if bias is None else bias.reshape(groups, -1, 1)
    # A plan would take as long as the matrix product of a small image.
    if (patches := in_one_block(x, window, groups)) is not None:
        products: Any = [(grouped(weight, groups), patches, grouped(y, groups))]
    else:
        plan = _plan(x, weight, window, groups)
        outputs = plan.as_matrices(y)
        products = ((plan.rows, patches, outputs[index]) for index, patches in plan.blocks)
    for rows, patches, part in products:
        np.matmul(rows, patches, out=part)
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
    rows, outputs = grouped(weight, groups), grouped(batch_last(g), groups)
    dw, padded = np.zeros_like(rows.mT), _padded_zeros(x.shape, window, x.dtype)
    targets = windows_of(padded, window)
    for block, patches in patches_of(x, window, groups):
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
    rows, outputs = grouped(weight, groups), grouped(batch_last(g), groups)
    padded = _padded_zeros((len(g), weight.shape[1] * groups, *image), window, g.dtype)
    targets = windows_of(padded, window)
    for block, workspace in workspaces(targets.shape, g.dtype):
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
        windows = windows_of(batch_last(x, window.pads(*image)), window)
        return Plan(
            kernel_matrix(weight),
            row_blocks(windows, window),
            lambda y: y.reshape(*y.shape[:2], -1).transpose(1, 0, 2),
            lambda patches, part: (patches @ part.mT).sum(axis=0, keepdims=True),
            lambda dw: kernel_of(dw, shape),
        )
    patches = patches_of(x, window, groups)
    return Plan(
        grouped(weight, groups),
        (((..., block.run), columns) for block, columns in patches),
        lambda y: grouped(y, groups),
        # Transposed, with the longer side first, this matrix product is up to 1.7 times as fast.
        lambda columns, part: columns @ part.mT,
        lambda dw: dw.mT.reshape(shape),
    )


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
