"""Maxima and means in windows that slide over images, and their gradients.

For each element of the window, the pixels under it at all positions are a strided view of the
images. A step combines these views. If windows overlap enough, there are two steps, along the rows
and then along the columns; otherwise one step is less work. Both ways find a window's first maximum
in row-major order.

Padding is never copied, and images keep their memory order: see `image_layout.py`.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np

from npdl.functional._kernels.blocks import IMAGE_BLOCK
from npdl.functional._kernels.image_layout import empty_in_order, image_blocks, with_layout_of
from npdl.functional._kernels.windows import Pair, Window, remembered
from npdl.tree import Array

__all__ = ["maxima", "maxima_gradient", "means", "means_gradient"]


def maxima(x: Array, window: Window) -> Array:
    """Return the maximum in the window at each position.

    Parameters
    ----------
    x : array of shape (batch, channels, height, width)
        The images.
    window : Window
        The window, with less padding than its size.

    Returns
    -------
    array of shape (batch, channels, output height, output width)
        In the memory order of `x`.
    """
    y = np.empty_like(x, shape=(*x.shape[:2], *window.out(*x.shape[2:])))
    for pixels, positions, steps in _parts(x, window):
        _combine_all(np.maximum, -np.inf, x[pixels], steps, y[positions])
    return y


def maxima_gradient(g: Array, x: Array, y: Array, window: Window) -> Array:
    """Return the gradient of :func:`maxima`: each position sends its gradient to its first maximum.

    A NaN counts as the maximum of its window.
    """
    g, dx = with_layout_of(g, y), np.empty_like(x)
    has_nan = bool(np.isnan(np.max(y, initial=-np.inf)))
    for pixels, positions, (across, *down) in _parts(x, window):
        images, part, ends = x[pixels], g[positions], y[positions]
        for step in down:
            rows = _empty(images, across)
            row_gradient = np.empty_like(rows)
            _combine(np.maximum, -np.inf, images, across, rows)
            _send_to_first(part, rows, ends, step, has_nan, row_gradient)
            part, ends = row_gradient, rows
        _send_to_first(part, images, ends, across, has_nan, dx[pixels])
    return dx


def means(x: Array, window: Window, count_padding: bool) -> Array:
    """Return the mean in the window at each position; arguments as in :func:`maxima`."""
    counts = _counts(window, x.shape[2:], x.dtype, count_padding)
    y = np.empty_like(x, shape=(*x.shape[:2], *window.out(*x.shape[2:])))
    for pixels, positions, steps in _parts(x, window):
        part = y[positions]
        _combine_all(np.add, 0, x[pixels], steps, part)
        part /= counts
    return y


def means_gradient(
    g: Array, shape: tuple[Any, ...], order: tuple[int, ...], window: Window, count_padding: bool
) -> Array:
    """Return the gradient of :func:`means` for an input of this shape and memory order."""
    counts = _counts(window, shape[2:], g.dtype, count_padding)
    dx = empty_in_order(shape, order, g.dtype)
    for pixels, positions, steps in _parts(dx, window):
        images = dx[pixels]
        part = _empty(images, steps[-1])
        np.divide(g[positions], counts, out=part)
        across, *down = steps
        for step in down:
            rows = _empty(images, across)
            _send_to_all(part, step, rows)
            part = rows
        _send_to_all(part, across, images)
    return dx


class _Step(NamedTuple):
    """A reduction of the pixels in windows along one axis or both."""

    out: Pair  # the size of the images after the step
    elements: list[tuple[Any, Any]]  # (positions, pixels) per window element, row-major
    padded: bool  # whether some element lies on padding at some position
    apart: bool  # whether windows do not overlap
    covering: bool  # whether each pixel lies in exactly one window


@remembered
def _steps(window: Window, image: Pair) -> tuple[_Step, ...]:
    """Return the one or two steps for images of that size."""
    out, (height, width) = window.out(*image), window.size
    # One step reads height · width pixels per position. Two steps read width pixels per image row
    # and column position, then height values per position.
    if height * (width - 1) * out[0] <= width * image[0]:
        return (_step(window, image, (0, 1), out),)
    return _step(window, image, (1,), (image[0], out[1])), _step(window, image, (0,), out)


def _step(window: Window, image: Pair, axes: tuple[int, ...], out: Pair) -> _Step:
    everything = [(slice(None), slice(None))]
    rows, columns = (
        window.offsets(axis, *image) if axis in axes else everything for axis in (0, 1)
    )
    elements = [
        ((down, across), (down_there, across_there))
        for (down, down_there), (across, across_there) in itertools.product(rows, columns)
    ]
    padded = any(sum(window.pads(*image)[axis]) for axis in axes)
    apart = all(window.stride[axis] >= window.size[axis] for axis in axes)
    met = all(out[axis] * window.size[axis] == image[axis] for axis in axes)
    return _Step(out, elements, padded, apart, apart and met and not padded)


def _parts(x: Array, window: Window) -> Iterable[tuple[Any, Any, tuple[_Step, ...]]]:
    """Return blocks: indices of pixels, indices of all windows that cover them, and the steps."""
    steps = _steps(window, x.shape[2:])
    return [(..., ..., steps)] if x.size <= IMAGE_BLOCK else _blocks(x, window, steps)


def _blocks(
    x: Array, window: Window, steps: tuple[_Step, ...]
) -> Iterator[tuple[Any, Any, tuple[_Step, ...]]]:
    height, width = x.shape[2:]
    if x.strides[2] <= max(x.strides[:2]):
        yield from ((block, block, steps) for block in image_blocks(x))
    elif len(steps) > 1 or steps[0].padded or not steps[0].apart:
        yield ..., ..., steps
    else:
        # Rows are outermost in memory, and each image row lies in at most one row of windows.
        rows, stride = steps[0].out[0], window.stride[0]
        alone = _unpadded(window)
        count = max(IMAGE_BLOCK * rows // max(x.size, 1), 1)
        steps = _steps(alone, (count * stride, width))
        for first in range(0, rows, count):
            last = first + count
            top, bottom = first * stride, last * stride
            if last >= rows:
                bottom = height
                steps = _steps(alone, (bottom - top, width))
            yield np.s_[:, :, top:bottom], np.s_[:, :, first:last], steps


@remembered
def _unpadded(window: Window) -> Window:
    return attrs.evolve(window, padding="valid")


def _empty(x: Array, step: _Step) -> Array:
    return np.empty_like(x, shape=(*x.shape[:2], *step.out))


def _combine_all(
    ufunc: np.ufunc, start: float, x: Array, steps: tuple[_Step, ...], y: Array
) -> None:
    *before, last = steps
    for step in before:
        rows = _empty(x, step)
        _combine(ufunc, start, x, step, rows)
        x = rows
    _combine(ufunc, start, x, last, y)


def _combine(ufunc: np.ufunc, start: float, x: Array, step: _Step, y: Array) -> None:
    """Combine the pixels of each window into `y`; padding counts as `start`."""
    elements = step.elements
    if step.padded:
        y.fill(start)
    elif len(elements) == 1:
        np.copyto(y, x[..., *elements[0][1]])
        return
    else:
        # The first two elements in one call, which saves a copy.
        ufunc(x[..., *elements[0][1]], x[..., *elements[1][1]], out=y)
        elements = elements[2:]
    for positions, pixels in elements:
        part = y[..., *positions]
        ufunc(part, x[..., *pixels], out=part)


def _send_to_first(g: Array, x: Array, y: Array, step: _Step, has_nan: bool, dx: Array) -> None:
    """Fill `dx`: the gradient of a window goes to its first pixel that is the maximum or NaN."""
    if not step.covering:
        dx.fill(0)
    waiting = np.ones_like(y, dtype=np.bool_)
    for i, (positions, pixels) in enumerate(step.elements, 1):
        chosen = here = waiting[..., *positions]
        # Windows without a maximum so far have it at the last element.
        if i < len(step.elements):
            chosen = x[..., *pixels] == y[..., *positions]
            if has_nan:
                chosen |= np.isnan(x[..., *pixels])
            chosen &= here
            here ^= chosen
        target = dx[..., *pixels]
        if step.apart:
            np.copyto(target, _where(chosen, g[..., *positions]))
        else:
            target += _where(chosen, g[..., *positions])


def _where(chosen: Array, g: Array) -> Array:
    """Return `g` times 1 or 0."""
    part = chosen.astype(g.dtype)  # products of floats and booleans are slower in NumPy
    part *= g
    return part


def _send_to_all(g: Array, step: _Step, dx: Array) -> None:
    """Fill `dx`: the gradient of a sum goes to all its pixels."""
    if not step.covering:
        dx.fill(0)
    for positions, pixels in step.elements:
        target = dx[..., *pixels]
        if step.apart:
            np.copyto(target, g[..., *positions])
        else:
            target += g[..., *positions]


def _counts(window: Window, image: Pair, dtype: Any, count_padding: bool) -> Any:
    """Return the denominators of the means: one number, or an array over positions."""
    if count_padding or not any(map(sum, window.pads(*image))):
        return math.prod(window.size)
    counts = [np.zeros(length, dtype) for length in window.out(*image)]
    for axis, along in enumerate(counts):
        for positions, _ in window.offsets(axis, *image):
            along[positions] += 1
    return np.outer(*counts)
