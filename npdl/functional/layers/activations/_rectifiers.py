"""Rectifiers: activations that pass positive inputs and suppress negative ones.

They have no parameters, work element by element, and keep shape and data type. Large inputs do not
overflow. An infinite input gives the limit of the function, if it has one. At a corner, the
derivative of the negative side counts; in :func:`hard_silu`, the derivative of the outer side.

>>> import npdl.functional as F
>>> F.relu()((), np.array([-2.0, 0.0, 3.0]))
array([0., 0., 3.])
"""

import math

import attrs
import numpy as np

from npdl.functional._arrays import SINGLE
from npdl.functional._checks import check_flag, check_number
from npdl.functional._kernels.blocks import RECTIFIER_BLOCK
from npdl.functional._kernels.image_layout import memory_order, with_layout_of
from npdl.functional._kernels.scalars import as_scalar
from npdl.functional._layer import Layer, Params, layer
from npdl.functional.layers.activations._elementwise import (
    FAR,
    element_blocks,
    elementwise_layer,
    expm1,
    far,
    logistic,
    normal_cdf,
    normal_pdf,
    ramp,
)
from npdl.tree import Array

__all__ = ["elu", "gelu", "hard_silu", "leaky_relu", "mish", "relu", "selu", "silu", "softplus"]


@layer
def relu() -> Layer:
    """Rectified linear unit: ``y = max(x, 0)``.

    References
    ----------
    Nair, Hinton: Rectified linear units improve restricted Boltzmann machines, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.relu()((), np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        if x.size < _SMALL:
            y = np.maximum(x, _ZERO if x.dtype is SINGLE else 0.0)
        else:
            y = x.clip(0.0, np.inf)
        return y, y

    def backward(
        params: Params, y: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        if y.size < _SMALL:
            return None, np.sign(y) * g
        return None, _where_positive(g, y)

    return attrs.evolve(elementwise_layer("relu", forward, np.sign), backward=backward)


def _where_positive(g: Array, y: Array) -> Array:
    """Return `g` where `y` is positive, and 0 elsewhere."""
    g, dx = with_layout_of(g, y), np.empty_like(y)
    order = memory_order(y)
    lines = [array.transpose(order).reshape(-1) for array in (dx, y, g)]
    for start in range(0, y.size, RECTIFIER_BLOCK):
        target, signs, cotangent = (line[start : start + RECTIFIER_BLOCK] for line in lines)
        np.copyto(target, signs > 0.0)
        target *= cotangent
    return dx


# A look-up in each call would take a sixth of the time of a small array.
_ZERO = as_scalar(0.0, SINGLE)
# Arrays with fewer elements use the function with the cheaper call, others the vectorised one.
_SMALL = 4096


@layer
def leaky_relu(slope: float = 0.01) -> Layer:
    """Rectified linear unit with a slope below zero: ``y = max(x, slope · x)``.

    Parameters
    ----------
    slope : float
        The slope for negative inputs, between 0 and 1.

    References
    ----------
    Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.leaky_relu(0.1)((), np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """
    slope = check_number(slope, "leaky_relu(slope=0.01)", "in (0, 1)", "; slope 0 is relu()")

    def forward(x: Array) -> tuple[Array, Array]:
        y = x * slope
        np.maximum(y, x, out=y)
        return y, y

    def derivative(y: Array) -> Array:
        return np.maximum(y > 0.0, slope, dtype=y.dtype)

    return elementwise_layer("leaky_relu", forward, derivative)


@layer
def elu(alpha: float = 1.0) -> Layer:
    """Exponential linear unit: ``y = x`` above zero, ``y = alpha · (eˣ - 1)`` below.

    Parameters
    ----------
    alpha : float
        The limit at -∞ is ``-alpha``; positive.

    References
    ----------
    Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential
    linear units, 2015, equation 15.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.elu()((), np.array([-1000.0, 2.0]))
    array([-1.,  2.])
    """
    alpha = check_number(alpha, "elu(alpha=1.0)", "above 0")
    return _exponential_linear("elu", alpha, 1.0)


@layer
def selu() -> Layer:
    """Scaled exponential linear unit: ``y = λx`` above zero, ``y = λα · (eˣ - 1)`` below.

    With λ = 1.0507 and α = 1.6733, mean 0 and variance 1 are a fixed point of a deep network
    with :func:`lecun_normal` weights.

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks, 2017, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.selu()((), np.array([-1000.0, 1.0])).round(4)
    array([-1.7581,  1.0507])
    """
    return _exponential_linear("selu", 1.6732632423543772, 1.0507009873554805)


def _exponential_linear(name: str, alpha: float, scale: float) -> Layer:
    depth = alpha * scale

    def forward(x: Array) -> tuple[Array, Array]:
        y = expm1(x.clip(-np.inf, 0.0))
        y *= depth
        above = x.clip(0.0, np.inf)
        if scale != 1.0:
            above *= scale
        y += above
        return y, y

    def derivative(y: Array) -> Array:
        dy = y.clip(-np.inf, 0.0)
        dy += depth
        if depth != scale:
            dy += np.multiply(y > 0.0, scale - depth, dtype=y.dtype)
        return dy

    return elementwise_layer(name, forward, derivative)


@layer
def softplus() -> Layer:
    """Smooth rectified linear unit: ``y = log(1 + eˣ)``.

    References
    ----------
    Dugas, Bengio, Bélisle, Nadeau, Garcia: Incorporating second-order functional knowledge for
    better option pricing, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.softplus()((), np.array([-1000.0, 0.0, 1000.0])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        # max(x, 0) + log(1 + e), where e = exp(-|x|).
        e = np.abs(x)
        np.negative(e, out=e)
        np.exp(e, out=e)
        # log(1 + e) without the slow log1p: with s = fl(1 + e), the correction of log(s) is
        # (e - (s - 1)) / s.
        total = e + 1.0
        y = np.log(total)
        e -= total - 1.0
        e /= total
        y += e
        y += x.clip(0.0, np.inf)
        return y, y

    def derivative(y: Array) -> Array:
        # sigmoid(x) = 1 - exp(-y)
        dy = expm1(np.negative(y))
        return np.negative(dy, out=dy)

    return elementwise_layer("softplus", forward, derivative)


@layer
def silu() -> Layer:
    """Sigmoid-weighted linear unit, also called swish: ``y = x · sigmoid(x)``.

    References
    ----------
    Elfwing, Uchibe, Doya: Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning, 2017, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.silu()((), np.array([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.7311])
    """

    def forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
        y = x.clip(-far(x), np.inf)
        s = logistic(y)
        y *= s
        return y, (y, s)

    def derivative(cache: tuple[Array, Array]) -> Array:
        # s + y (1 - s)
        y, s = cache
        dy = np.subtract(1.0, s)
        dy *= y.clip(-np.inf, far(y))
        dy += s
        return dy

    return elementwise_layer("silu", forward, derivative)


@layer
def hard_silu() -> Layer:
    """Silu with the piecewise linear sigmoid: ``y = x · min(max(x/6 + 1/2, 0), 1)``.

    References
    ----------
    Howard et al.: Searching for MobileNetV3, 2019, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.hard_silu()((), np.array([-4.0, 1.0, 4.0])).round(4)
    array([-0.    ,  0.6667,  4.    ])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        y = ramp(x)
        y *= x.clip(-3.0, np.inf)
        return y, x

    def derivative(x: Array) -> Array:
        # x/3 + 1/2 within, 0 or 1 outside
        dy = x.clip(-3.0, 3.0)
        dy += dy * (np.abs(dy) < 3.0)
        dy *= 1 / 6
        dy += 0.5
        return dy

    return elementwise_layer("hard_silu", forward, derivative)


@layer
def gelu(*, approximate: bool = False) -> Layer:
    """Gaussian error linear unit: ``y = x · Φ(x)``, Φ the normal distribution function.

    Parameters
    ----------
    approximate : bool
        Whether Φ(x) is approximated by ``(1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2``, with an
        error of up to 5e-4. By default the error is at most 1e-12, or the rounding of float32.

    References
    ----------
    Hendrycks, Gimpel: Gaussian error linear units, 2016, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.gelu()((), np.array([-1.0, 1.0])).round(5)
    array([-0.15866,  0.84134])
    """
    approximate = check_flag(approximate, "gelu(approximate=True)")

    def forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
        y, cdf = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
        flat, flat_y, flat_cdf = x.reshape(-1), y.reshape(-1), cdf.reshape(-1)
        for some in element_blocks(x):
            part = flat[some].clip(-FAR, np.inf)  # Φ underflows to 0 above -FAR
            flat_cdf[some] = _tanh_cdf(part) if approximate else normal_cdf(part)
            np.multiply(part, flat_cdf[some], out=flat_y[some])
        return y, (x, cdf)

    def derivative(cache: tuple[Array, Array]) -> Array:
        # Φ(x) + x φ(x), φ = Φ'
        x, cdf = cache
        dy = np.empty(x.shape, x.dtype)
        flat, flat_cdf, flat_dy = x.reshape(-1), cdf.reshape(-1), dy.reshape(-1)
        for some in element_blocks(x):
            part = flat[some].clip(-FAR, FAR)
            pdf = _tanh_pdf(part, flat_cdf[some]) if approximate else normal_pdf(part)
            pdf *= part
            np.add(pdf, flat_cdf[some], out=flat_dy[some])
        return dy

    return elementwise_layer("gelu", forward, derivative)


_ROOT = math.sqrt(2 / math.pi)


def _tanh_cdf(x: Array) -> Array:
    x = x.clip(-10.0, 10.0)  # x³ may overflow; beyond ±10 the tanh is ±1
    inner: Array = x * x
    inner *= _ROOT * 0.044715
    inner += _ROOT
    inner *= x
    np.tanh(inner, out=inner)
    inner *= 0.5
    inner += 0.5
    return inner


def _tanh_pdf(x: Array, cdf: Array) -> Array:
    # With t = tanh(u) and cdf = (1 + t) / 2: (1 - t²) / 2 = 2 cdf (1 - cdf), times du/dx.
    inner: Array = x * x
    inner *= 6 * _ROOT * 0.044715
    inner += 2 * _ROOT
    inner *= cdf
    inner *= 1.0 - cdf
    return inner


@layer
def mish() -> Layer:
    """Smooth non-monotonic unit: ``y = x · tanh(log(1 + eˣ))``.

    References
    ----------
    Misra: Mish: a self regularized non-monotonic activation function, 2019, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.mish()((), np.array([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.8651])
    """

    def forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
        x = x.clip(-FAR, np.inf)
        # tanh(log(1 + e)) = n / (n + 2), where e = exp(x) and n = e² + 2e
        e = x.clip(-FAR, 40.0)  # above 40, t is 1; at 40, e² is still finite
        np.exp(e, out=e)
        t = e + 2.0
        t *= e
        np.add(t, 2.0, out=e)
        t /= e
        return x * t, (x, t)

    def derivative(cache: tuple[Array, Array]) -> Array:
        # t + x (1 - t²) sigmoid(x)
        x, t = cache
        x = x.clip(-FAR, FAR)
        dy = t * t
        np.subtract(1.0, dy, out=dy)
        dy *= x
        dy *= logistic(x)
        dy += t
        return dy

    return elementwise_layer("mish", forward, derivative)
