"""Padding of the last axes, with a constant or with the reflected input."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional._arrays import DOUBLE, SINGLE, check_example, check_float, describe
from npdl.functional._checks import check_number, is_int, refusal
from npdl.functional._kernels.image_layout import empty_in_order, memory_order
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["pad"]

_MODES = ("constant", "reflect")


@layer
def pad(padding: Any, mode: str = "constant", *, value: float = 0.0) -> Layer:
    """Pad the last axes with a constant: ``y[i] = x[i - p]`` after p elements of padding.

    With ``mode="reflect"``, the input is mirrored at its first and last element, which are not
    repeated: ``y[p - i] = x[i]`` for i from 1 to p. So (1, 2, 3) with one element on each side is
    (2, 1, 2, 3, 2). The padding of ``conv1d`` and ``conv2d`` is zero.

    Parameters
    ----------
    padding : pair of ints, or tuple of pairs of ints
        The numbers of elements before and after: of the last axis, as in (4, 0), or of the last
        axes, as in ((top, bottom), (left, right)). The batch is never padded.
    mode : {"constant", "reflect"}
        The elements around the input.
    value : float
        The constant of the mode "constant".

    Returns
    -------
    Layer
        From (batch, ..., size) to (batch, ..., before + size + after). The layer has no parameters.

    Raises
    ------
    ValueError
        If the input has too few axes, or if it is reflected and an axis is not longer than its
        padding on one side.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.pad((0, 3), mode="reflect")((), np.array([[1.0, 2.0, 3.0, 4.0]]))
    array([[1., 2., 3., 4., 3., 2., 1.]])
    >>> F.pad(((1, 1), (0, 2))).out_shape((3, 28, 28))
    (3, 30, 30)
    """
    pairs = _pairs(padding)
    if mode not in _MODES:
        raise ValueError(
            refusal(mode, 'pad((1, 1), mode="reflect")', " or ".join(map(repr, _MODES)))
        )
    value = check_number(value, "pad((1, 1), value=0.0)")
    reflects = mode == "reflect"

    def out_shape(shape: Shape) -> Shape:
        check_example("pad", shape, "such as (3, 32, 32)", known=0)
        return _padded(tuple(shape), pairs, reflects, shape)

    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        return ()

    def apply(params: Params, x: Array) -> tuple[Array, Shape]:
        if type(x) is not np.ndarray or (x.dtype is not SINGLE and x.dtype is not DOUBLE):
            check_float(x, "pad")
        shape = _padded(x.shape[1:], pairs, reflects, describe(x))
        y = empty_in_order((x.shape[0], *shape), memory_order(x), x.dtype)
        if not reflects:
            y.fill(value)
        y[_inside(x.shape, pairs)] = x
        if reflects:
            _reflect(y, x.shape, pairs, np.copyto)
        return y, x.shape

    def backward(
        params: Params, shape: Shape, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        if reflects:
            g = g.copy("K")
            _reflect(g, shape, pairs, _fold)
        return None, g[_inside(shape, pairs)].copy("K")

    # Several pairs may pad the channels.
    return Layer(init, apply, backward, out_shape, keeps_axes=len(pairs) == 1)


def _pairs(padding: Any) -> tuple[tuple[int, int], ...]:
    pairs = padding if isinstance(padding, tuple | list) else ()
    if pairs and all(map(is_int, pairs)):
        pairs = (pairs,)
    for pair in pairs or [None]:
        if (
            not isinstance(pair, tuple | list)
            or len(pair) != 2
            or not all(is_int(number) and number >= 0 for number in pair)
        ):
            expected = "a pair (before, after) of ints of at least 0, or a tuple of pairs"
            raise ValueError(refusal(padding, "pad(padding=((1, 1), (2, 2)))", expected))
    return tuple((int(before), int(after)) for before, after in pairs)


def _padded(sizes: Shape, pairs: tuple[tuple[int, int], ...], reflects: bool, given: Any) -> Shape:
    """Return the shape of a padded example, or raise if the padding does not fit."""
    if len(sizes) < len(pairs):
        raise ValueError(
            f"pad: padding={pairs} is for {len(pairs)} axes after the batch, got {given}"
        )
    first = len(sizes) - len(pairs)
    padded = list(sizes)
    for axis, (before, after) in enumerate(pairs, start=first):
        size = sizes[axis]
        if size is None:
            continue
        if reflects and size <= max(before, after):
            raise ValueError(
                f"pad: an axis of size {size} has at most {max(size - 1, 0)} elements to reflect, "
                f"but padding={pairs} needs {max(before, after)}, got {given}"
            )
        padded[axis] = before + size + after
    return tuple(padded)


def _inside(shape: Shape, pairs: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    """Return the index of the input in the padded array."""
    sizes = shape[len(shape) - len(pairs) :]
    ends = [slice(before, before + size) for (before, _), size in zip(pairs, sizes, strict=True)]
    return (..., *ends)


def _reflect(
    y: Array,
    shape: Shape,
    pairs: tuple[tuple[int, int], ...],
    combine: Callable[[Array, Array], None],
) -> None:
    """Call ``combine(margin, mirrored)`` for the margins of each axis and their mirror images.

    The margins of a later axis include the margins of the earlier ones. The adjoint needs the
    reverse order, but the operations on two axes commute.
    """
    first = len(shape) - len(pairs)
    for axis, (before, after) in enumerate(pairs, start=first):
        lines = np.moveaxis(y, axis, 0)
        end = before + shape[axis]
        combine(lines[:before], lines[2 * before : before : -1])
        combine(lines[end:], lines[end - 1 - after : end - 1][::-1])


def _fold(margin: Array, mirrored: Array) -> None:
    """Add the gradient of a margin to the gradient of its source."""
    mirrored += margin
