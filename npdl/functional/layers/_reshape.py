"""Layers that change the shape of an example or the order of its elements.

They accept arrays of any type. The gradient of ids and masks is `None`. Axis numbers include the
batch: axis 0 is the batch and stays first.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

from npdl.functional._arrays import SINGLE, check_array, check_example, describe
from npdl.functional._checks import check_axis, check_int, is_int, refusal
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["expand_dims", "flatten", "reshape", "squeeze", "transpose"]


@layer
def flatten(axes: int = 1) -> Layer:
    """Join all axes but the first ones: (batch, ...) becomes (batch, features).

    ``y[i, j n + k] = x[i, j, k]``, where n is the size of the last axis.

    Parameters
    ----------
    axes : int
        Number of leading axes to keep, including the batch. The output has one axis more.

    Raises
    ------
    ValueError
        If the input has fewer axes than `axes`.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.flatten().out_shape((3, 4, 5))
    (60,)
    >>> F.flatten(axes=2).out_shape((3, 4, 5))
    (3, 20)
    """
    axes = check_int(axes, "flatten(axes=2)")

    def out_shape(shape: Shape) -> Shape:
        shape = _example("flatten", shape)
        if len(shape) < axes - 1:
            raise ValueError(
                f"flatten: {axes} leading axes stay, but examples of shape {shape} have "
                f"{len(shape) + 1} together with the batch"
            )
        return (*shape[: axes - 1], _product(shape[axes - 1 :]))

    return _reshaped("flatten", out_shape)


@layer
def reshape(shape: tuple[int, ...]) -> Layer:
    """Give each example another shape, with the elements in the same order.

    Parameters
    ----------
    shape : tuple of int
        The new shape of one example, without the batch. One size may be -1: it follows from the
        number of elements.

    Raises
    ------
    ValueError
        If the number of elements differs.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.reshape((2, -1)).out_shape((3, 4))
    (2, 6)
    """
    if not isinstance(shape, tuple | list) or not all(
        is_int(size) and (size > 0 or size == -1) for size in shape
    ):
        expected = "a tuple of positive ints, one of which may be -1"
        raise ValueError(refusal(shape, "reshape(shape=(8, -1))", expected))
    target = tuple(shape)
    if target.count(-1) > 1:
        raise ValueError(f"reshape: only one size may be -1, got {target}")
    count = math.prod(size for size in target if size != -1)

    def out_shape(shape: Shape) -> Shape:
        elements = _product(_example("reshape", shape))
        if elements is None:
            return tuple(None if size == -1 else size for size in target)
        if elements % count if -1 in target else elements != count:
            raise ValueError(
                f"reshape: examples of shape {tuple(shape)} have {elements} elements, which do "
                f"not fit the shape {target}"
            )
        return tuple(elements // count if size == -1 else size for size in target)

    return _reshaped("reshape", out_shape)


@layer
def expand_dims(axis: int) -> Layer:
    """Insert an axis of size one, as ``y[i, 0, j] = x[i, j]`` does.

    Parameters
    ----------
    axis : int
        Index of the new axis in the output; the batch is axis 0. Negative: counted from the end.

    Raises
    ------
    ValueError
        If the index is out of range, or the new axis would come before the batch.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.expand_dims(1).out_shape((28, 28))
    (1, 28, 28)
    >>> F.expand_dims(-1).out_shape((28, 28))
    (28, 28, 1)
    """
    axis = check_axis(axis, "expand_dims(axis=1)")

    def out_shape(shape: Shape) -> Shape:
        shape = _example("expand_dims", shape)
        position = _position("expand_dims", axis, len(shape) + 1, shape)
        return (*shape[:position], 1, *shape[position:])

    return _reshaped("expand_dims", out_shape)


@layer
def squeeze(axis: int) -> Layer:
    """Remove an axis of size one, as ``y[i, j] = x[i, 0, j]`` does.

    Parameters
    ----------
    axis : int
        Index of the axis in the input; the batch is axis 0. Negative: counted from the end.

    Raises
    ------
    ValueError
        If the index is out of range, the axis has another size, or it is the batch.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.squeeze(1).out_shape((1, 28, 28))
    (28, 28)
    """
    axis = check_axis(axis, "squeeze(axis=1)")

    def out_shape(shape: Shape) -> Shape:
        shape = _example("squeeze", shape)
        position = _position("squeeze", axis, len(shape), shape)
        if shape[position] not in (1, None):
            raise ValueError(
                f"squeeze: axis {axis} of examples of shape {shape} has size {shape[position]}, "
                f"and only an axis of size 1 can be removed"
            )
        return (*shape[:position], *shape[position + 1 :])

    return _reshaped("squeeze", out_shape)


@layer
def transpose(axes: tuple[int, ...]) -> Layer:
    """Permute the axes, as ``y[i, k, j] = x[i, j, k]`` does.

    Parameters
    ----------
    axes : tuple of int
        The input axis of each output axis. The batch is axis 0 and stays first.

    Raises
    ------
    ValueError
        If the input has another number of axes.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.transpose((0, 3, 1, 2)).out_shape((28, 32, 3))
    (3, 28, 32)
    """
    order = tuple(axes) if isinstance(axes, tuple | list) else ()
    if not order or not all(map(is_int, order)) or sorted(order) != list(range(len(order))):
        expected = "a tuple with each axis of the batch's array once"
        raise ValueError(refusal(axes, "transpose(axes=(0, 2, 1))", expected))
    if order[0] != 0:
        raise ValueError(
            f"transpose: the batch is axis 0 and must stay first, as in transpose((0, 2, 1)), "
            f"got {order}"
        )
    inverse = tuple(order.index(axis) for axis in range(len(order)))

    def out_shape(shape: Shape) -> Shape:
        shape = _example("transpose", shape)
        if len(shape) + 1 != len(order):
            raise ValueError(
                f"transpose: axes={order} are for {len(order)} axes, but examples of shape "
                f"{shape} have {len(shape) + 1} together with the batch"
            )
        return tuple(shape[axis - 1] for axis in order[1:])

    def forward(x: Array) -> Array:
        if x.ndim != len(order):
            raise ValueError(
                f"transpose: axes={order} are for {len(order)} axes, got {describe(x)}"
            )
        return x.transpose(order)

    return _rearranged("transpose", out_shape, forward, lambda g, shape: g.transpose(inverse))


def _reshaped(name: str, out_shape: Callable[[Shape], Shape]) -> Layer:
    """Build a layer that keeps the order of the elements."""
    remembered = functools.lru_cache(maxsize=64)(out_shape)

    def forward(x: Array) -> Array:
        return x.reshape(x.shape[0], *remembered(x.shape[1:]))

    return _rearranged(name, out_shape, forward, lambda g, shape: g.reshape(shape))


def _rearranged(
    name: str,
    out_shape: Callable[[Shape], Shape],
    forward: Callable[[Array], Array],
    back: Callable[[Array, Shape], Array],
) -> Layer:
    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        return ()

    def apply(params: Params, x: Array) -> tuple[Array, Shape | None]:
        if type(x) is not np.ndarray or x.dtype is not SINGLE:
            check_array(x, name)
        return forward(x), x.shape if x.dtype.kind in "fc" else None

    def backward(params: Params, cache: Shape | None, g: Array) -> tuple[None, Array | None]:
        return None, None if cache is None else back(g, cache)

    return Layer(init, apply, backward, out_shape)


def _example(name: str, shape: Shape) -> Shape:
    check_example(name, shape, "such as (3, 32, 32)", known=0)
    return tuple(shape)


def _product(sizes: Shape) -> int | None:
    """Return the number of elements, or `None` where a size is unknown."""
    return None if None in sizes else math.prod(sizes)


def _position(name: str, axis: int, count: int, shape: Shape) -> int:
    """Return the index in the shape of an example with `count` axes."""
    position = axis - 1 if axis > 0 else axis + count
    if not 0 <= position < count:
        raise ValueError(
            f"{name}: axis {axis} does not fit examples of shape {shape}; it can be from 1 to "
            f"{count}, or from -{count} to -1"
        )
    return position
