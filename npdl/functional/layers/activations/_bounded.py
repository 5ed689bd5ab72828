"""Activations that saturate, and activations that compute probabilities.

They have no parameters and keep shape and data type. :func:`softmax` and :func:`log_softmax` work
along the last axis, all others element by element. Large inputs do not overflow. An infinite input
gives the limit of the function, if it has one. At a corner, the derivative of the flat side counts.

>>> import npdl.functional as F
>>> F.sigmoid()((), np.array([-1000.0, 0.0, 1000.0])).round(4)
array([0. , 0.5, 1. ])
"""

import numpy as np

from npdl.functional._arrays import check_float
from npdl.functional._checks import check_number
from npdl.functional._layer import Layer, Params, layer, no_params, same_shape
from npdl.functional.layers.activations._elementwise import elementwise_layer, far, logistic, ramp
from npdl.tree import Array

__all__ = [
    "elliot",
    "hard_sigmoid",
    "hard_tanh",
    "linear",
    "log_softmax",
    "sigmoid",
    "softmax",
    "softsign",
    "symmetric_elliot",
    "tanh",
]


@layer
def linear() -> Layer:
    """Return the input: ``y = x``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.linear()((), np.array([-1.0, 2.0]))
    array([-1.,  2.])
    """

    def apply(params: Params, x: Array) -> tuple[Array, None]:
        check_float(x, "linear")
        return x, None

    def backward(params: Params, cache: None, g: Array) -> tuple[None, Array]:
        return None, g

    return Layer(no_params, apply, backward, same_shape, keeps_axes=True, step=True)


@layer
def sigmoid() -> Layer:
    """Logistic function: ``y = 1 / (1 + e⁻ˣ)``.

    References
    ----------
    Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, 1986,
    equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.sigmoid()((), np.array([0.0, 1000.0]))
    array([0.5, 1. ])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        y = logistic(x.clip(-far(x), np.inf))
        return y, y

    def derivative(y: Array) -> Array:
        dy = 1.0 - y
        dy *= y
        return dy

    return elementwise_layer("sigmoid", forward, derivative)


@layer
def tanh() -> Layer:
    """Hyperbolic tangent: ``y = tanh(x)``.

    References
    ----------
    LeCun, Bottou, Orr, Müller: Efficient backprop, 1998, section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.tanh()((), np.array([0.0, 1000.0]))
    array([0., 1.])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        y = np.tanh(x)
        return y, y

    def derivative(y: Array) -> Array:
        dy = y * y
        np.subtract(1.0, dy, out=dy)
        return dy

    return elementwise_layer("tanh", forward, derivative)


@layer
def softsign() -> Layer:
    """Algebraic sigmoid: ``y = x / (1 + |x|)``.

    References
    ----------
    Bergstra, Desjardins, Lamblin, Bengio: Quadratic polynomials learn better image features,
    2009.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.softsign()((), np.array([-1.0, 3.0]))
    array([-0.5 ,  0.75])
    """
    return _algebraic("softsign", 1.0, 1.0, 0.0)


@layer
def symmetric_elliot(steepness: float = 1.0) -> Layer:
    """Elliot's function between -1 and 1: ``y = sx / (1 + |sx|)``.

    Parameters
    ----------
    steepness : float
        The `s`, positive.

    References
    ----------
    Elliott: A better activation function for artificial neural networks, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.symmetric_elliot()((), np.array([-1.0, 3.0]))
    array([-0.5 ,  0.75])
    """
    steepness = check_number(steepness, "symmetric_elliot(steepness=1.0)", "above 0")
    return _algebraic("symmetric_elliot", steepness, 1.0, 0.0)


@layer
def elliot(steepness: float = 1.0) -> Layer:
    """Elliot's function between 0 and 1: ``y = sx / (1 + |sx|) / 2 + 1/2``.

    Parameters
    ----------
    steepness : float
        The `s`, positive.

    References
    ----------
    Elliott: A better activation function for artificial neural networks, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.elliot()((), np.array([-1.0, 3.0]))
    array([0.25 , 0.875])
    """
    steepness = check_number(steepness, "elliot(steepness=1.0)", "above 0")
    return _algebraic("elliot", steepness, 0.5, 0.5)


def _algebraic(name: str, steepness: float, height: float, shift: float) -> Layer:
    """``y = height · sx / (1 + |sx|) + shift``, its derivative ``height · s / (1 + |sx|)²``."""
    far = 1e30 / max(steepness, 1.0)

    def forward(x: Array) -> tuple[Array, Array]:
        y = x.clip(-far, far)  # ∞ / ∞ is NaN
        if steepness != 1.0:
            y *= steepness
        falling = np.abs(y)
        falling += 1.0
        np.reciprocal(falling, out=falling)
        y *= falling
        if height != 1.0:
            y *= height
            y += shift
        return y, falling

    def derivative(falling: Array) -> Array:
        dy = falling * falling
        if height * steepness != 1.0:
            dy *= height * steepness
        return dy

    return elementwise_layer(name, forward, derivative)


@layer
def hard_sigmoid() -> Layer:
    """Piecewise linear sigmoid: ``y = min(max(x/6 + 1/2, 0), 1)``.

    The derivative of the middle piece is 1/6, as in PyTorch; it is 0.2 in some libraries.

    References
    ----------
    Howard et al.: Searching for MobileNetV3, 2019, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.hard_sigmoid()((), np.array([-4.0, 1.5, 4.0]))
    array([0.  , 0.75, 1.  ])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        y = ramp(x)
        return y, y

    def derivative(y: Array) -> Array:
        return np.multiply((y > 0.0) & (y < 1.0), 1 / 6, dtype=y.dtype)

    return elementwise_layer("hard_sigmoid", forward, derivative)


@layer
def hard_tanh() -> Layer:
    """Piecewise linear hyperbolic tangent: ``y = min(max(x, -1), 1)``.

    References
    ----------
    Collobert: Large scale machine learning, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.hard_tanh()((), np.array([-4.0, 0.5, 4.0]))
    array([-1. ,  0.5,  1. ])
    """

    def forward(x: Array) -> tuple[Array, Array]:
        y = x.clip(-1.0, 1.0)
        return y, y

    def derivative(y: Array) -> Array:
        return (np.abs(y) < 1.0).astype(y.dtype)

    return elementwise_layer("hard_tanh", forward, derivative)


@layer
def softmax() -> Layer:
    """Probabilities from scores: ``yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)``, along the last axis.

    An input of -∞ gives 0 if at least one score is finite. In training, apply
    :func:`softmax_cross_entropy` to the scores instead.

    References
    ----------
    Bridle: Probabilistic interpretation of feedforward classification network outputs, with
    relationships to statistical pattern recognition, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.softmax()((), np.array([[1000.0, 1000.0, -np.inf]]))
    array([[0.5, 0.5, 0. ]])
    """

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        check_float(x, "softmax")
        y = x - x.max(axis=-1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        return y, y

    def backward(
        params: Params, y: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        # dxᵢ = yᵢ (gᵢ - Σⱼ gⱼ yⱼ)
        dx = g - np.vecdot(g.conj(), y)[..., None]
        dx *= y
        return None, dx

    return Layer(no_params, apply, backward, same_shape, keeps_axes=True, step=True)


@layer
def log_softmax() -> Layer:
    """Logarithm of softmax: ``yᵢ = xᵢ - log Σⱼ exp(xⱼ)``, along the last axis.

    References
    ----------
    Bridle: Probabilistic interpretation of feedforward classification network outputs, with
    relationships to statistical pattern recognition, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.log_softmax()((), np.array([[1000.0, 1000.0]])).round(4)
    array([[-0.6931, -0.6931]])
    """

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        check_float(x, "log_softmax")
        y = x - x.max(axis=-1, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
        return y, y

    def backward(
        params: Params, y: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        # dxᵢ = gᵢ - softmax(x)ᵢ Σⱼ gⱼ
        dx = np.exp(y)
        dx *= g.sum(axis=-1, keepdims=True)
        return None, np.subtract(g, dx, out=dx)

    return Layer(no_params, apply, backward, same_shape, keeps_axes=True, step=True)
