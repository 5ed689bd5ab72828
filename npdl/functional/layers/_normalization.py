"""Normalization within each example, the same in training and in evaluation."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdl.functional._arrays import check_example, check_float, check_names, check_types, describe
from npdl.functional._checks import check_flag, check_int, check_number, is_int, refusal
from npdl.functional._initializers import scale_and_shift
from npdl.functional._kernels.blas_sums import sum_of_rows, wide
from npdl.functional._kernels.blocks import NORMALIZATION_BLOCK, NORMALIZATION_ROWS
from npdl.functional._kernels.normalization import (
    as_outer_features_inner,
    exponents,
    feature_dots,
    feature_sums,
    scaled_epsilon,
)
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["group_norm", "layer_norm", "rms_norm"]


@layer
def layer_norm(
    axes: int | tuple[int, ...] = -1,
    *,
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
        Whether the layer has the parameter `a`, and `b`.

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
def rms_norm(
    axes: int | tuple[int, ...] = -1, *, epsilon: float = 1e-5, scale: bool = True
) -> Layer:
    """Divide each example by the root of its mean square: ``y = a x / √(mean(x²) + ε)``.

    Parameters
    ----------
    axes : int or tuple of int
        The axes over which the mean is taken: -1, or some of the last ones, as in ``(-2, -1)``.
    epsilon : float
        Added to the mean square, which may be zero.
    scale : bool
        Whether the layer has the parameter `a`.

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
    epsilon = check_number(epsilon, f"{name}(epsilon=1e-5)", "above 0")
    scale = check_flag(scale, f"{name}(scale=False)")
    shift = check_flag(shift, f"{name}(shift=False)")
    wanted = list(axes) if isinstance(axes, tuple | list) else [axes]
    count = len(wanted)
    if count == 0 or not all(map(is_int, wanted)) or sorted(wanted) != list(range(-count, 0)):
        expected = "-1, or several of the last ones (the sizes follow from the data)"
        raise ValueError(refusal(axes, f"{name}(axes=(-2, -1))", expected))

    def normalized_shape(shape: Shape) -> Shape:
        # The sizes of the other axes, such as time, may be `None`.
        check_example(name, shape[-count:] if isinstance(shape, tuple | list) else shape)
        if len(shape) < count:
            raise ValueError(f"{name}: axes are {axes}, but an example has the shape {shape}")
        return tuple(shape[-count:])

    remembered = functools.lru_cache(maxsize=64)(normalized_shape)
    names = scale_and_shift((), scale, shift).keys()

    def init(rng: KeyLike, shape: Shape) -> Params:
        return scale_and_shift(normalized_shape(shape), scale, shift)

    def apply(params: Params, x: Array, *, keep_cache: bool = True) -> tuple[Array, Any]:
        check_names(name, params, names)
        _check_input(name, params, x, remembered)
        rows = x.reshape(math.prod(x.shape[:-count]), math.prod(x.shape[-count:]))
        unit, inverse = np.empty(rows.shape, rows.dtype), np.empty(len(rows), rows.dtype)
        y = np.empty(rows.shape, rows.dtype) if params and keep_cache else unit
        for block in _blocks(rows):
            _normalize(rows[block], epsilon, centered, unit[block], inverse[block])
            if params:
                _scale_rows(params, unit[block], y[block])
        return y.reshape(x.shape), (unit, inverse)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        unit, inverse = cache
        rows = g.reshape(unit.shape)
        dx = np.empty(rows.shape, g.dtype) if input_grad else None
        sums: list[dict[str, Array]] = []
        for block in _blocks(rows):
            out = None if dx is None else dx[block]
            sums.append(
                _rows_backward(params, unit[block], inverse[block], rows[block], centered, out)
            )
        grads = {
            name: _total([each[name] for each in sums], array) for name, array in params.items()
        }
        return grads or None, None if dx is None else dx.reshape(g.shape)

    def out_shape(shape: Shape) -> Shape:
        normalized_shape(shape)
        return shape

    return Layer(init, apply, backward, out_shape, keeps_axes=True, step=count == 1)


@layer
def group_norm(
    groups: int, *, epsilon: float = 1e-5, scale: bool = True, shift: bool = True
) -> Layer:
    """Normalize each example over groups of channels: ``y = a (x - mean) / √(variance + ε) + b``.

    One group gives a layer norm over all axes. One channel per group gives an instance norm.

    Parameters
    ----------
    groups : int
        The number of groups; it divides the number of channels. A group is a run of neighbouring
        channels with one mean.
    epsilon : float
        Added to the variance, which may be zero.
    scale, shift : bool
        Whether the layer has the parameter `a`, and `b`.

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
    groups = check_int(groups, "group_norm(groups=8)")
    epsilon = check_number(epsilon, "group_norm(8, epsilon=1e-5)", "above 0")
    scale = check_flag(scale, "group_norm(8, scale=False)")
    shift = check_flag(shift, "group_norm(8, shift=False)")

    def channels(shape: Shape) -> Shape:
        check_example("group_norm", shape)
        if shape[0] % groups:
            raise ValueError(
                f"group_norm: {groups} groups do not divide the {shape[0]} channels of an example "
                f"of shape {tuple(shape)}"
            )
        return (shape[0],)

    names = scale_and_shift((), scale, shift).keys()

    def init(rng: KeyLike, shape: Shape) -> Params:
        return scale_and_shift(channels(shape), scale, shift)

    def apply(params: Params, x: Array) -> tuple[Array, Any]:
        check_names("group_norm", params, names)
        _check_input("group_norm", params, x, channels)
        size = math.prod(x.shape[1:]) // groups
        rows = x.reshape(len(x) * groups, size)
        unit, inverse = np.empty(rows.shape, rows.dtype), np.empty(len(rows), rows.dtype)
        _normalize(rows, epsilon, True, unit, inverse)
        y = _scaled(params, as_outer_features_inner(unit.reshape(x.shape), 1, 2))
        return y.reshape(x.shape), (unit, inverse)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        unit, inverse = cache
        g3 = as_outer_features_inner(g, 1, 2)
        grads, scaled = _scaled_backward(params, unit.reshape(g3.shape), g3)
        if not input_grad:
            return grads, None
        dx = _normalized_backward(unit, inverse, scaled.reshape(unit.shape))
        return grads, dx.reshape(g.shape)

    def out_shape(shape: Shape) -> Shape:
        channels(shape)
        return shape

    return Layer(init, apply, backward, out_shape, keeps_axes=True)


def _normalize(
    rows: Array, epsilon: float | Array, centered: bool, unit: Array, inverse: Array
) -> None:
    """Write the normalized rows, mean 0 (if centered) and mean square 1, and their factors."""
    given = rows
    with np.errstate(over="ignore", invalid="ignore"):
        if centered:
            average = _average(rows.shape[1], rows.dtype)
            np.subtract(rows, rows.dot(average), out=unit)
            # In float32, a mean of 10⁴ has a rounding error of 10⁻³; this step removes it.
            unit -= unit.dot(average)
            rows = unit
        np.vecdot(rows.conj(), rows, out=inverse)  # without a conjugate of dual numbers
        # This sum is infinite or NaN if any square has overflowed.
        overflow = not inverse.dot(inverse) < math.inf
        powers = exponents(given, inverse, (1,)) if overflow else None
        inverse *= 1 / max(rows.shape[1], 1)
        inverse += epsilon
        np.sqrt(inverse, out=inverse)
        np.reciprocal(inverse, out=inverse)
        np.multiply(rows, inverse[:, None], out=unit)
    if powers is not None and powers.any():
        _normalize_large(given, epsilon, centered, unit, inverse, powers)


@functools.lru_cache(maxsize=64)
def _average(size: int, dtype: Any) -> Array:
    """Return the column whose matrix product with rows is their mean."""
    column = np.full((size, 1), 1 / max(size, 1), dtype)
    column.flags.writeable = False
    return column


def _normalize_large(
    rows: Array, epsilon: Any, centered: bool, unit: Array, inverse: Array, powers: Array
) -> None:
    """Recompute the rows whose squares overflow, on a smaller scale."""
    large = np.flatnonzero(powers)
    powers = powers[large]
    smaller = np.ldexp(rows[large], -powers[:, None])
    epsilon = scaled_epsilon(epsilon, powers, rows.dtype)
    large_unit, large_inverse = np.empty_like(smaller), np.empty_like(inverse[large])
    _normalize(smaller, epsilon, centered, large_unit, large_inverse)
    unit[large], inverse[large] = large_unit, np.ldexp(large_inverse, -powers)


def _scale_rows(params: Params, unit: Array, out: Array) -> None:
    """Write a x̂ + b for each row."""
    if "scale" in params:
        np.multiply(unit, params["scale"].reshape(-1), out=out)
    else:
        out[...] = unit
    if "shift" in params:
        out += params["shift"].reshape(-1)


def _rows_backward(
    params: Params,
    unit: Array,
    inverse: Array,
    g: Array,
    centered: bool,
    dx: Array | None,
) -> dict[str, Array]:
    """Return the gradients of `a` and `b`; write (a g - mean(a g) - x̂ mean(a g x̂)) / σ.

    The term mean(a g) is present only if centered.
    """
    product = g * unit
    grads = {"scale": sum_of_rows(product)} if "scale" in params else {}
    if "shift" in params:
        grads["shift"] = sum_of_rows(g)
    if dx is None:
        return grads
    minus_mean = -_average(g.shape[1], g.dtype)
    if "scale" in params:
        scale = params["scale"].reshape(-1)
        minus_mean *= scale[:, None]
    np.multiply(unit, product.dot(minus_mean), out=product)
    if centered:
        product += g.dot(minus_mean)
    if "scale" in params:
        np.multiply(g, scale, out=dx)
        dx += product
    else:
        np.add(g, product, out=dx)
    dx *= inverse[:, None]
    return grads


def _total(sums: list[Array], like: Array) -> Array:
    """Return the sum over blocks in the shape of a parameter."""
    if len(sums) == 1:
        return sums[0].reshape(like.shape)
    dtype = sums[0].dtype if sums else like.dtype
    total = np.zeros(like.size, wide(dtype))
    for each in sums:
        total += each
    return total.reshape(like.shape).astype(dtype)


def _blocks(rows: Array) -> Iterator[slice]:
    """Yield slices of rows."""
    size = min(max(NORMALIZATION_BLOCK // max(rows.shape[1], 1), 1), NORMALIZATION_ROWS)
    return (slice(start, start + size) for start in range(0, len(rows), size))


def _normalized_backward(unit: Array, inverse: Array, g: Array) -> Array:
    """Return (g - mean(g) - x̂ mean(g x̂)) / σ for each row."""
    size = max(unit.shape[1], 1)
    dx: Array = unit * (np.vecdot(g.conj(), unit) / -size)[:, None]
    dx += g
    dx -= (g @ np.full(unit.shape[1], 1 / size, g.dtype))[:, None]
    dx *= inverse[:, None]
    return dx


def _scaled(params: Params, unit: Array) -> Array:
    """Return a x̂ + b for `unit` (outer, features, inner); without parameters, `unit` itself."""
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
    check_float(x, name, check_types(name, params) if params else None)
    expected = features(x.shape[1:])
    for array in params.values():
        if array.shape != expected:
            raise ValueError(
                f"{name}: these params are for features of shape {array.shape}, but the input is "
                f"{describe(x)}"
            )
