"""Normalization of each example by itself, the same in training and in evaluation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional.channels import (
    around,
    check_epsilon,
    check_example,
    feature_dots,
    feature_sums,
    initial,
)
from npdl.functional.layer import Array, Layer, Params, Shape, check_float, describe, layer
from npdl.random import KeyLike

__all__ = ["group_norm", "layer_norm", "rms_norm"]


@layer
def layer_norm(
    axes: int | tuple[int, ...] = -1,
    epsilon: float = 1e-5,
    scale: bool = True,
    shift: bool = True,
) -> Layer:
    """Normalize each example over its last axes: ``y = a (x - mean) / √(variance + ε) + b``.

    Parameters
    ----------
    axes : int or tuple of int
        The axes over which the mean is taken: -1, or some of the last ones, as in ``(-2, -1)``.
    epsilon : float
        Added to the variance, which may be zero.
    scale, shift : bool
        Whether there is an `a`, and a `b`.

    Returns
    -------
    Layer
        Keeps the shape. Parameters: ``scale`` and ``shift``, of the shape of those axes.

    References
    ----------
    Ba, Kiros, Hinton: Layer normalization, 2016, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.layer_norm()
    >>> model(model.init(0, (2,)), np.array([[1, 3], [9, 5]], np.float32)).round(3)
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """
    return _over_last_axes("layer_norm", axes, epsilon, scale, shift, centered=True)


@layer
def rms_norm(axes: int | tuple[int, ...] = -1, epsilon: float = 1e-5, scale: bool = True) -> Layer:
    """Divide each example by the root of its mean square: ``y = a x / √(mean(x²) + ε)``.

    Parameters
    ----------
    axes : int or tuple of int
        The axes over which the mean is taken: -1, or some of the last ones, as in ``(-2, -1)``.
    epsilon : float
        Added to the mean square, which may be zero.
    scale : bool
        Whether there is an `a`.

    Returns
    -------
    Layer
        Keeps the shape. Parameters: ``scale``, of the shape of those axes.

    References
    ----------
    Zhang, Sennrich: Root mean square layer normalization, 2019, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.rms_norm()
    >>> model(model.init(0, (2,)), np.array([[1, 7]], np.float32)).round(3)
    array([[0.2, 1.4]], dtype=float32)
    """
    return _over_last_axes("rms_norm", axes, epsilon, scale, False, centered=False)


def _over_last_axes(
    name: str,
    axes: int | tuple[int, ...],
    epsilon: float,
    scale: bool,
    shift: bool,
    centered: bool,
) -> Layer:
    check_epsilon(name, epsilon)
    wanted = sorted(axes) if isinstance(axes, tuple | list) else [axes]
    count = len(wanted)
    if count == 0 or wanted != list(range(-count, 0)):
        raise ValueError(f"{name}: axes must be -1 or the last ones, as in (-2, -1), got {axes!r}")

    def normalized_shape(shape: Shape) -> Shape:
        check_example(name, shape)
        if len(shape) < count:
            raise ValueError(f"{name}: axes are {axes}, but an example has the shape {shape}")
        return tuple(shape[-count:])

    def init(rng: KeyLike, shape: Shape) -> Params:
        return initial(normalized_shape(shape), scale, shift)

    def apply(params: Params, x: Array) -> tuple[Array, Any]:
        _check_input(name, params, x, normalized_shape)
        rows = around(x, x.ndim - count, x.ndim)[:, :, 0]
        unit, inverse = _normalized(rows, epsilon, centered)
        y = _scaled(params, unit[:, :, None])
        return y.reshape(x.shape), (unit, inverse)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        unit, inverse = cache
        grads, scaled = _scaled_backward(params, unit[:, :, None], g.reshape(*unit.shape, 1))
        if not input_grad:
            return grads, None
        dx = _normalized_backward(unit, inverse, scaled.reshape(unit.shape), centered)
        return grads, dx.reshape(g.shape)

    def out_shape(shape: Shape) -> Shape:
        normalized_shape(shape)
        return shape

    return Layer(init, apply, backward, out_shape)


@layer
def group_norm(groups: int, epsilon: float = 1e-5, scale: bool = True, shift: bool = True) -> Layer:
    """Normalize each example over groups of channels: ``y = a (x - mean) / √(variance + ε) + b``.

    With one group this is a layer norm over all axes, with as many groups as channels an instance
    norm.

    Parameters
    ----------
    groups : int
        The number of groups, each of neighbouring channels and with one mean. It divides the
        number of channels.
    epsilon : float
        Added to the variance, which may be zero.
    scale, shift : bool
        Whether there is an `a`, and a `b`.

    Returns
    -------
    Layer
        From (batch, channels, ...) to the same shape. Parameters: ``scale`` and ``shift``, of
        shape (channels,).

    Raises
    ------
    ValueError
        If the groups do not divide the channels.

    References
    ----------
    Wu, He: Group normalization, 2018, equations 1 and 7.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.group_norm(2)
    >>> model(model.init(0, (4,)), np.array([[1, 3, 9, 5]], np.float32)).round(3)
    array([[-1.,  1.,  1., -1.]], dtype=float32)
    """
    if not (isinstance(groups, int | np.integer) and groups > 0):
        raise ValueError(
            f"group_norm: groups must be a positive int, as in group_norm(8), got {groups!r}"
        )
    check_epsilon("group_norm", epsilon)

    def channels(shape: Shape) -> Shape:
        check_example("group_norm", shape)
        if shape[0] % groups:
            raise ValueError(
                f"group_norm: {groups} groups do not divide the {shape[0]} channels of an example "
                f"of shape {tuple(shape)}"
            )
        return (shape[0],)

    def init(rng: KeyLike, shape: Shape) -> Params:
        return initial(channels(shape), scale, shift)

    def apply(params: Params, x: Array) -> tuple[Array, Any]:
        _check_input("group_norm", params, x, channels)
        size = math.prod(x.shape[1:]) // groups
        unit, inverse = _normalized(x.reshape(len(x) * groups, size), epsilon, centered=True)
        y = _scaled(params, around(unit.reshape(x.shape), 1, 2))
        return y.reshape(x.shape), (unit, inverse)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        unit, inverse = cache
        g3 = around(g, 1, 2)
        grads, scaled = _scaled_backward(params, unit.reshape(g3.shape), g3)
        if not input_grad:
            return grads, None
        dx = _normalized_backward(unit, inverse, scaled.reshape(unit.shape), centered=True)
        return grads, dx.reshape(g.shape)

    def out_shape(shape: Shape) -> Shape:
        channels(shape)
        return shape

    return Layer(init, apply, backward, out_shape)


def _normalized(rows: Array, epsilon: float, centered: bool) -> tuple[Array, Array]:
    """Return the rows with mean 0 (if centered) and mean square 1, and the factor of each."""
    size = max(rows.shape[1], 1)
    if not centered:
        inverse = 1 / np.sqrt(np.vecdot(rows, rows) / size + epsilon)
        return rows * inverse[:, None], inverse
    average = np.full(rows.shape[1], 1 / size, rows.dtype)
    unit = rows - (rows @ average)[:, None]
    # A mean of 10⁴ is known in float32 to 10⁻³ only; what is left of it is small and exact.
    unit -= (unit @ average)[:, None]
    inverse = 1 / np.sqrt(np.vecdot(unit, unit) / size + epsilon)
    unit *= inverse[:, None]
    return unit, inverse


def _normalized_backward(unit: Array, inverse: Array, g: Array, centered: bool) -> Array:
    """Return (g - mean(g) - x̂ mean(g x̂)) / σ for each row, the first mean only if centered."""
    size = max(unit.shape[1], 1)
    dx: Array = unit * (np.vecdot(g, unit) / -size)[:, None]
    dx += g
    if centered:
        dx -= (g @ np.full(unit.shape[1], 1 / size, g.dtype))[:, None]
    dx *= inverse[:, None]
    return dx


def _scaled(params: Params, unit: Array) -> Array:
    """Return a x̂ + b, where `unit` is (outer, features, inner) and may be returned as it is."""
    if not params:
        return unit
    y: Array = unit * params["scale"].reshape(-1, 1) if "scale" in params else unit.copy()
    if "shift" in params:
        y += params["shift"].reshape(-1, 1)
    return y


def _scaled_backward(params: Params, unit: Array, g: Array) -> tuple[Params, Array]:
    if not params:
        return None, g
    grads = {}
    if "shift" in params:
        grads["shift"] = feature_sums(g).reshape(params["shift"].shape)
    if "scale" in params:
        grads["scale"] = feature_dots(g, unit).reshape(params["scale"].shape)
        g = g * params["scale"].reshape(-1, 1)
    return grads, g


def _check_input(name: str, params: Params, x: Any, features: Callable[[Shape], Shape]) -> None:
    arrays = list(params.values())
    check_float(x, name, arrays[0].dtype if arrays else None)
    expected = features(x.shape[1:])
    for array in arrays:
        if array.shape != expected:
            raise ValueError(
                f"{name}: these params are for features of shape {array.shape}, but the input is "
                f"{describe(x)}"
            )
