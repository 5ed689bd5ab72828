"""Branches: layers that are applied to the same input, and joined."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.functional._checks import check_axis, refusal
from npdl.functional._layer import Array, Layer, Params, Shape, check_mode, describe, layer
from npdl.functional.combinators._serial import (
    check_count,
    check_layers,
    note_place,
    short,
    stats_of,
)

__all__ = ["parallel"]


@layer
def parallel(*layers: Layer, join: str | None = "add", axis: int = -1) -> Layer:
    """Apply layers to the same input and join their outputs: ``y = f₁(x) + f₂(x) + …``.

    Parameters
    ----------
    *layers : Layer
        The branches, at least one.
    join : {"add", "multiply", "concatenate"} or None
        How the outputs become one; with `None` they stay a tuple.
    axis : int
        The axis of ``"concatenate"``, of the batch's array: 1 for the channels of images, -1 for
        features. It cannot be 0, the batch.

    Returns
    -------
    Layer
        Its parameters are the tuple of the branches' parameters.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.parallel(F.dense(3), F.dense(5), join="concatenate").out_shape((2,))
    (8,)
    """
    check_layers("parallel", layers)
    if not layers:
        raise ValueError("parallel needs at least one layer: parallel(dense(8), dense(8))")
    if not (join is None or isinstance(join, str)) or join not in _JOINS:
        expected = f"one of {', '.join(map(repr, _JOINS))}"
        raise ValueError(refusal(join, 'parallel(…, join="concatenate")', expected))
    axis = check_axis(axis, 'parallel(…, axis=-1, join="concatenate")')
    joined, remembered, split = _JOINS[join]

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        key, params = random.key(rng), []
        for i, child in enumerate(layers):
            try:
                params.append(child.init((*key, i), shape))
            except Exception as error:
                error.add_note(f"in parallel[{i}] = {short(child)}, made for the shape {shape}")
                raise
        return tuple(params)

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        check_mode(train, rng)
        key = None if rng is None else random.key(rng)
        check_count("parallel", len(layers), params)
        outputs, caches = [], []
        for i, child in enumerate(layers):
            try:
                y, cache = child.apply(
                    params[i], x, train=train, rng=None if key is None else (*key, i)
                )
            except Exception as error:
                note_place(error, f"parallel[{i}]", child, params[i], x)
                raise
            outputs.append(y)
            caches.append(cache)
        if join is not None:
            _check_shapes(join, axis, [y.shape for y in outputs])
            if any(y.dtype != outputs[0].dtype for y in outputs):
                raise TypeError(
                    f"parallel: the branches give several data types, {describe(tuple(outputs))}, "
                    f"and nothing is promoted silently"
                )
        return joined(outputs, axis), (caches, remembered(outputs, axis))

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        caches, kept = cache
        parts = [None] * len(layers) if g is None else split(g, kept, axis, len(layers))
        grads: list[Params] = []
        dx = None
        for i, child in enumerate(layers):
            if parts[i] is None:
                grads.append(None)
                continue
            try:
                child_grads, child_dx = child.backward(
                    params[i], caches[i], parts[i], input_grad=input_grad
                )
            except Exception as error:
                error.add_note(
                    f"in backward of parallel[{i}] = {short(child)}, given {describe(parts[i])}"
                )
                raise
            grads.append(child_grads)
            dx = tree.add(dx, child_dx)
        return tuple(grads), dx

    def out_shape(shape: Shape) -> Shape:
        shapes = [tuple(child.out_shape(shape)) for child in layers]
        if join is None:
            return tuple(shapes)
        _check_shapes(join, axis, [("batch", *other) for other in shapes])
        if join != "concatenate":
            return shapes[0]
        position = axis - 1 if axis > 0 else axis + len(shapes[0])
        total = sum(other[position] for other in shapes)
        return (*shapes[0][:position], total, *shapes[0][position + 1 :])

    def update_stats(params: Params, cache: Any) -> Params:
        if cache is None:
            return params
        return tuple(
            child.update_stats(p, c) for child, p, c in zip(layers, params, cache[0], strict=True)
        )

    return Layer(init, apply, backward, out_shape, stats_of(layers, update_stats))


def _check_shapes(join: str, axis: int, shapes: Sequence[Shape]) -> None:
    """Raise unless arrays can be joined, also where NumPy would broadcast or join the batches."""
    if join == "concatenate":
        places = [axis if axis > 0 else axis + len(shape) for shape in shapes]
        rests = [
            (*shape[:i], *shape[i + 1 :]) if 0 < i < len(shape) else None
            for i, shape in zip(places, shapes, strict=True)
        ]
        if rests[0] is None or any(rest != rests[0] for rest in rests):
            raise ValueError(
                f"parallel: join='concatenate' needs outputs that differ in axis {axis} alone, "
                f"which cannot be that of the batch, got the shapes {', '.join(map(str, shapes))}"
            )
    elif any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"parallel: join={join!r} needs outputs of one shape, got {', '.join(map(str, shapes))}"
        )


def _product(arrays: Sequence[Array]) -> Any:
    return functools.reduce(operator.mul, arrays) if arrays else 1


def _nothing(outputs: Any, axis: int) -> None:
    return None


# For each way to join: the join, what its derivative needs of the outputs, and the derivative,
# which gives each branch its gradient.
_JOINS: dict[str | None, tuple[Callable[..., Any], Callable[..., Any], Callable[..., list[Any]]]]
_JOINS = {
    "add": (
        lambda outputs, axis: functools.reduce(operator.add, outputs),
        _nothing,
        lambda g, kept, axis, count: [g] * count,
    ),
    "multiply": (
        lambda outputs, axis: _product(outputs),
        lambda outputs, axis: outputs,
        lambda g, kept, axis, count: [
            g * _product([*kept[:i], *kept[i + 1 :]]) for i in range(count)
        ],
    ),
    "concatenate": (
        lambda outputs, axis: np.concatenate(outputs, axis),
        lambda outputs, axis: np.cumsum([y.shape[axis] for y in outputs[:-1]]),
        lambda g, kept, axis, count: np.split(g, kept, axis),
    ),
    None: (
        lambda outputs, axis: tuple(outputs),
        _nothing,
        lambda g, kept, axis, count: list(g),
    ),
}
