"""Global pooling: reduce each channel of any size to one number."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional._arrays import check_float, describe, is_example
from npdl.functional._kernels.image_layout import empty_in_order, image_blocks, memory_order
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["global_avg_pool", "global_max_pool"]


@layer
def global_max_pool() -> Layer:
    """Take the maximum of each channel: ``y[c] = max_p x[c, p]``.

    Here p is a position on all axes after the channels; any number of axes is allowed. The gradient
    goes to the first maximum in C order. The output of a channel with a NaN is NaN, and its
    gradient goes to the first NaN.

    Returns
    -------
    Layer
        From (batch, channels, ...) to (batch, channels). The layer has no parameters.

    Raises
    ------
    ValueError
        If the input lacks an axis after the channels, or has an empty one.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.array([[[1.0, 5.0, 2.0], [-3.0, -4.0, -2.0]]])
    >>> y, cache = F.global_max_pool().apply((), x)
    >>> y
    array([[ 5., -2.]])
    >>> F.global_max_pool().backward((), cache, np.ones((1, 2)))[1]
    array([[[0., 1., 0.],
            [0., 0., 1.]]])
    """

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        _check("global_max_pool", x)
        return np.maximum.reduce(x, axis=tuple(range(2, x.ndim))), x

    def backward(
        params: Params, x: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        dx = np.zeros_like(flat)
        # Unlike np.maximum, argmax copies arrays that are not C-contiguous.
        for block in image_blocks(flat):
            first = flat[block].argmax(axis=2, keepdims=True)
            np.put_along_axis(dx[block], first, g[block][..., None], axis=2)
        return None, dx.reshape(x.shape)

    return _global("global_max_pool", apply, backward)


@layer
def global_avg_pool() -> Layer:
    """Take the mean of each channel: ``y[c] = 1/n · Σ_p x[c, p]``.

    Here p is one of the n positions on all axes after the channels; any number of axes is allowed.

    Returns
    -------
    Layer
        From (batch, channels, ...) to (batch, channels). The layer has no parameters.

    Raises
    ------
    ValueError
        If the input lacks an axis after the channels, or has an empty one.

    References
    ----------
    Lin, Chen, Yan: Network in network, 2013, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.global_avg_pool()((), np.array([[[1.0, 5.0, 3.0], [-3.0, -4.0, -2.0]]]))
    array([[ 3., -3.]])
    >>> F.global_avg_pool().out_shape((64, 7, 7))
    (64,)
    """

    def apply(params: Params, x: Array) -> tuple[Array, tuple[Shape, tuple[int, ...]]]:
        _check("global_avg_pool", x)
        sums = x
        # NumPy adds values that are not contiguous one by one; a sum of partial sums keeps more
        # digits.
        if x.ndim > 3 and x.strides[-1] != x.itemsize:
            sums = np.add.reduce(x, axis=-1)
        y = np.add.reduce(sums, axis=tuple(range(2, sums.ndim)))
        y /= math.prod(x.shape[2:])
        return y, (x.shape, memory_order(x))

    def backward(
        params: Params, cache: tuple[Shape, tuple[int, ...]], g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        shape, order = cache
        dx = empty_in_order(shape, order, g.dtype)
        np.copyto(dx, (g / math.prod(shape[2:])).reshape(*g.shape, *(1,) * (len(shape) - 2)))
        return None, dx

    return _global("global_avg_pool", apply, backward)


def _global(
    name: str, apply: Callable[..., tuple[Any, Any]], backward: Callable[..., tuple[Any, Any]]
) -> Layer:
    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        return ()

    def out_shape(shape: Shape) -> Shape:
        if not is_example(shape, least=1) or len(shape) < 2:
            raise ValueError(
                f"{name}: expected the shape of one example, (channels, ...), with positive sizes "
                f"and at least one axis after the channels, got {shape!r}"
            )
        return (shape[0],)

    return Layer(init, apply, backward, out_shape)


def _check(name: str, x: Array) -> None:
    check_float(x, name)
    if x.ndim < 3 or 0 in x.shape[2:]:
        raise ValueError(
            f"{name}: expected (batch, channels, ...), with at least one axis after the channels "
            f"and none of them empty, got {describe(x)}"
        )
