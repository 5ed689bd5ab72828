"""Layers without parameters that join several arrays into one."""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from npdl.functional._arrays import SINGLE, check_arrays, describe
from npdl.functional._checks import check_axis
from npdl.functional._layer import Layer, Params, Shape, layer, no_params
from npdl.tree import Array

__all__ = ["add", "concatenate", "joined", "multiply"]


@layer
def add() -> Layer:
    """Add several inputs: ``y = x₁ + x₂ + …``, to join branches of a :func:`graph`.

    Returns
    -------
    Layer
        From two or more arrays of one shape to that shape.

    Raises
    ------
    ValueError
        If there is only one input, or the shapes differ.
    TypeError
        If the data types differ.

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.graph(
    ...     "x",
    ...     {"f": (F.dense(3), "x"), "g": (F.tanh(), "f"), "y": (F.add(), ("f", "g", "x"))},
    ...     "y",
    ... )
    >>> model.out_shape((3,))
    (3,)
    """
    return joined("add", name="add")


@layer
def multiply() -> Layer:
    """Multiply several inputs element-wise: ``y = x₁ x₂ …``, as in a gate.

    Returns
    -------
    Layer
        From two or more arrays of one shape to that shape.

    Raises
    ------
    ValueError
        If there is only one input, or the shapes differ.
    TypeError
        If the data types differ.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.multiply()((), (np.array([2.0, 3.0]), np.array([5.0, 7.0])))
    array([10., 21.])
    """
    return joined("multiply", name="multiply")


@layer
def concatenate(*, axis: int = -1) -> Layer:
    """Concatenate several inputs along an axis: ``y = [x₁, x₂, …]``.

    Parameters
    ----------
    axis : int
        An axis of the batched arrays: 1 for the channels of images, -1 for features. Axis 0, the
        batch, is not allowed.

    Returns
    -------
    Layer
        From two or more arrays, whose shapes may differ in this axis, to one array.

    Raises
    ------
    ValueError
        If there is only one input, or the shapes differ in other axes.
    TypeError
        If the data types differ.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.concatenate().out_shape(((7, 2), (7, 3)))
    (7, 5)
    """
    axis = check_axis(axis, "concatenate(axis=-1)")
    return joined("concatenate", axis, name="concatenate")


@layer
def joined(join: str, axis: int = -1, name: str = "parallel") -> Layer:
    """Return a layer that joins arrays; its errors begin with the combinator's name."""
    how = JOINS[join]
    least = 1 if name == "parallel" else 2

    def apply(params: Params, x: tuple[Array, ...]) -> tuple[Array, Any]:
        if join == "concatenate" or not _is_plain_pair(x):
            check(x)
        return how.join(x, axis), how.kept(x, axis)

    def check(x: tuple[Array, ...]) -> None:
        if not isinstance(x, tuple) or len(x) < least or any(part is None for part in x):
            raise ValueError(f"{name}: expected a tuple of two or more arrays, got {describe(x)}")
        for part in x:
            check_arrays(part, name)
        if any(part.dtype != x[0].dtype for part in x):
            raise TypeError(
                f"{name}: the data types must be equal, got {describe(x)}, and nothing is promoted "
                f"silently"
            )
        shapes = [part.shape for part in x]
        if not _fit(join, axis, shapes):
            given = map(str, shapes) if name == "parallel" else map(describe, x)
            raise _refusal(name, join, axis, *given)

    def backward(params: Params, kept: Any, g: Array) -> tuple[None, tuple[Array, ...]]:
        return None, how.split(g, kept, axis)

    def out_shape(shape: Shape) -> Shape:
        if len(shape) < least or not all(isinstance(part, tuple | list) for part in shape):
            raise ValueError(f"{name}: expected two or more equal shapes, got {shape}")
        shapes = [("batch", *part) for part in shape]
        if not _fit(join, axis, shapes):
            raise _refusal(name, join, axis, *map(str, shapes if name == "parallel" else shape))
        if join != "concatenate":
            return tuple(shape[0])
        i = axis if axis > 0 else axis + len(shapes[0])
        return (*shapes[0][1:i], sum(part[i] for part in shapes), *shapes[0][i + 1 :])

    keeps_axes = join != "concatenate"
    # Axis 1 of a sequence is its time.
    by_step = keeps_axes or axis == -1 or axis > 1
    return Layer(no_params, apply, backward, out_shape, keeps_axes=keeps_axes, step=by_step)


def _is_plain_pair(x: Any) -> bool:
    """Whether `x` is two float32 arrays of one shape, which need no further checks."""
    if type(x) is not tuple or len(x) != 2:
        return False
    a, b = x
    return (
        type(a) is np.ndarray
        and type(b) is np.ndarray
        and a.dtype is SINGLE
        and b.dtype is SINGLE
        and a.shape == b.shape
    )


def _fit(join: str, axis: int, shapes: list[Shape]) -> bool:
    """Whether arrays can be joined, without NumPy's broadcasting and not along the batch."""
    if join == "concatenate":
        axes = [axis if axis > 0 else axis + len(shape) for shape in shapes]
        if not all(0 < i < len(shape) for i, shape in zip(axes, shapes, strict=True)):
            return False
        shapes = [(*shape[:i], *shape[i + 1 :]) for i, shape in zip(axes, shapes, strict=True)]
    return all(shape == shapes[0] for shape in shapes)


def _refusal(name: str, join: str, axis: int, *given: str) -> ValueError:
    """Return the error about shapes that cannot be joined."""
    if name == "residual":
        noun = "" if "[" in given[0] else "the shape "
        return ValueError(
            f"residual: the layers turn {noun}{given[0]} into {given[1]}, and the sum needs equal "
            f"shapes; end them with a layer that restores the shape"
        )
    if name != "parallel":
        rest = f" in all axes but {axis}" if join == "concatenate" else ""
        return ValueError(f"{name}: the shapes must be equal{rest}, got ({', '.join(given)})")
    needed = "outputs of one shape"
    if join == "concatenate":
        needed = f"outputs that differ only in axis {axis}, and this axis cannot be the batch"
    return ValueError(f"parallel: join={join!r} needs {needed}, got {', '.join(given)}")


class Join(NamedTuple):
    """A function that joins arrays, the cache of its derivative, and the derivative."""

    join: Callable[[tuple[Array, ...], int], Array]
    kept: Callable[[tuple[Array, ...], int], Any]
    split: Callable[[Array, Any, int], tuple[Array, ...]]


def _sum(arrays: tuple[Array, ...], axis: int) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    y: Array = arrays[0] + arrays[1]
    for part in arrays[2:]:
        y += part
    return y


def _product(arrays: Sequence[Array]) -> Any:
    return functools.reduce(operator.mul, arrays) if arrays else 1


JOINS = {
    "add": Join(_sum, lambda x, axis: len(x), lambda g, count, axis: (g,) * count),
    "multiply": Join(
        lambda x, axis: _product(x),
        lambda x, axis: x,
        lambda g, x, axis: tuple(g * _product([*x[:i], *x[i + 1 :]]) for i in range(len(x))),
    ),
    "concatenate": Join(
        lambda x, axis: np.concatenate(x, axis),
        lambda x, axis: list(itertools.accumulate(part.shape[axis] for part in x[:-1])),
        lambda g, ends, axis: tuple(np.split(g, ends, axis)),
    ),
}
