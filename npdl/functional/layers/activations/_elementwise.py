"""Layers from element-wise functions, and functions missing or slow in NumPy."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdl.functional._arrays import DOUBLE, SINGLE, check_float
from npdl.functional._dual import lifted
from npdl.functional._kernels.blocks import ACTIVATION_BLOCK
from npdl.functional._layer import Layer, Params, no_params, same_shape
from npdl.tree import Array

__all__ = [
    "FAR",
    "element_blocks",
    "elementwise_layer",
    "expm1",
    "far",
    "logistic",
    "normal_cdf",
    "normal_pdf",
    "ramp",
]


def elementwise_layer(
    name: str,
    forward: Callable[[Array], tuple[Array, Any]],
    derivative: Callable[[Any], Array],
) -> Layer:
    """Build a layer from ``forward(x) -> (y, cache)`` and ``derivative(cache)``, a new array."""

    def apply(params: Params, x: Array) -> tuple[Array, Any]:
        if type(x) is not np.ndarray or (x.dtype is not SINGLE and x.dtype is not DOUBLE):
            check_float(x, name)
        return forward(x)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        dx = derivative(cache)
        dx *= g
        return None, dx

    return Layer(no_params, apply, backward, same_shape, keeps_axes=True, step=True)


def element_blocks(x: Array) -> Iterator[slice]:
    """Yield slices of the flattened `x`, for functions with many temporaries."""
    starts = range(0, x.size, ACTIVATION_BLOCK)
    return (slice(start, start + ACTIVATION_BLOCK) for start in starts)


# exp(±87) is a normal number in float32, too; the error of clipping is smaller than 1e-35.
FAR = 87.0


def far(x: Array) -> float:
    """Return the largest number whose exponential is finite in the type of `x`, and normal."""
    return FAR if x.dtype.itemsize <= 4 else 708.0


def logistic(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) for x of at least -:func:`far`."""
    # tanh would lose the digits of small values, and is slower than exp in float64.
    y = np.negative(x)
    np.exp(y, out=y)
    y += 1.0
    return np.reciprocal(y, out=y)


def expm1(x: Array) -> Array:
    """Return exp(x) - 1 for x of at most 0; overwrites `x`."""
    # 2t / (1 - t) with t = tanh(x/2): all digits, and NumPy's tanh is vectorised everywhere.
    x *= 0.5
    np.tanh(x, out=x)
    below = np.subtract(1.0, x)
    x += x
    x /= below
    return x


def ramp(x: Array) -> Array:
    """Return min(max(x/6 + 1/2, 0), 1)."""
    y = x * (1 / 6)
    y += 0.5
    y.clip(0.0, 1.0, out=y)
    return y


def normal_pdf(x: Array) -> Array:
    """Return the density of the normal distribution."""
    y = x * x
    y *= -0.5
    np.exp(y, out=y)
    y *= 1 / math.sqrt(2 * math.pi)
    return y


# NumPy lacks an error function. Φ is tabulated in steps of 1/2048 between ±13. A second-degree
# Taylor polynomial around the nearest point has an error below 1e-12.
_STEPS = 2048
_END = 13


def normal_cdf(x: Array) -> Array:
    """Return the normal distribution function Φ."""
    if x.dtype.kind == "c":  # the derivative of the polynomial is less exact
        return lifted(normal_cdf, normal_pdf, x)
    cdf, pdf = _normal_table(x.dtype)
    x = x.clip(-_END, _END)
    point = x * _STEPS
    np.rint(point, out=point)
    # For NaN any index works, since h is NaN, too.
    with np.errstate(invalid="ignore"):
        index = (point + _END * _STEPS).astype(np.intp)
    point *= 1 / _STEPS
    h = np.subtract(x, point, out=x)
    # Φ(p + h) = Φ(p) + φ(p) · (h - p h²/2)
    y: Array = np.multiply(point, h, out=point)
    y *= -0.5
    y += 1.0
    y *= h
    y *= pdf.take(index, mode="clip")
    y += cdf.take(index, mode="clip")
    return y


@functools.cache
def _normal_table(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    points = np.arange(-_END * _STEPS, _END * _STEPS + 1) / _STEPS
    # The complement keeps the digits of small values.
    cdf = np.array([0.5 * math.erfc(-point / math.sqrt(2)) for point in points], dtype)
    pdf = normal_pdf(points).astype(dtype)
    cdf.flags.writeable = pdf.flags.writeable = False
    return cdf, pdf
