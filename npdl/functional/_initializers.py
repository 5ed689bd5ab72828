"""Initial values: ``array = glorot_uniform()(rng, shape)``, float32.

The fan_in of a weight is the number of inputs per output, its fan_out the number of outputs per
input. Both follow from the shape. The shape of a matrix is `(in, out)`. The shape of a kernel with
three axes or more is `(out, in, *field)`. Both fans are multiplied by the size of the field, as for
stride 1. In a grouped convolution, `in` is the number of channels per group. There, `out` is the
number of all filters, as in PyTorch.
"""

import math
from collections.abc import Callable

import attrs
import numpy as np

from npdl._constructor import RecordedFunction, constructor
from npdl._parameter_limit import claim
from npdl.functional._checks import check_number, refusal
from npdl.random import KeyLike, generator
from npdl.tree import Array

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "zeros",
]


@attrs.frozen(eq=False, repr=False)
class RecordedInitializer(RecordedFunction):
    """A function ``(rng, shape) -> array``; during the load of a model, its arrays are counted."""

    def __call__(self, rng: KeyLike, shape: tuple[int, ...]) -> Array:
        """Return a new array of a shape."""
        claim(shape)
        return self.function(rng, shape)  # type: ignore[no-any-return]


# The standard deviation of a normal distribution cut at two standard deviations.
_TRUNCATED_STD = 0.8796256610342398


@constructor
def zeros() -> RecordedInitializer:
    """Return an initializer of zeros: ``w = 0``.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.zeros()(0, (2,))
    array([0., 0.], dtype=float32)
    """
    return _constant(0.0)


@constructor
def ones() -> RecordedInitializer:
    """Return an initializer of ones: ``w = 1``.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.ones()(0, (2,))
    array([1., 1.], dtype=float32)
    """
    return _constant(1.0)


@constructor
def constant(value: float) -> RecordedInitializer:
    """Return an initializer of one value: ``w = value``.

    Parameters
    ----------
    value : float
        The value of every element.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.constant(0.5)(0, (2,))
    array([0.5, 0.5], dtype=float32)
    """
    return _constant(check_number(value, "constant(value=0.5)"))


@constructor
def uniform(scale: float | tuple[float, float] = 0.05) -> RecordedInitializer:
    """Return an initializer of uniform values: ``w ~ U(-scale, scale)``, or between two bounds.

    Parameters
    ----------
    scale : float or pair of floats
        The bound, not negative; or the lower and the upper bound.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> bool(np.abs(F.uniform(0.1)(0, (50,))).max() <= 0.1)
    True
    >>> bool(F.uniform((1.0, 2.0))(0, (50,)).min() >= 1)
    True
    """
    if isinstance(scale, tuple | list):
        call = "uniform(scale=(0.0, 1.0))"
        bounds = [check_number(value, call) for value in scale]
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            raise ValueError(refusal(scale, call, "one bound, or a lower and an upper one"))
        low, high = bounds
        return RecordedInitializer(lambda rng, shape: _between(rng, shape, low, high))
    bound = check_number(scale, "uniform(scale=0.05)", "of at least 0", ", or a pair of numbers")
    return RecordedInitializer(lambda rng, shape: _uniform(rng, shape, bound))


@constructor
def normal(std: float = 0.01, *, mean: float = 0.0) -> RecordedInitializer:
    """Return an initializer that draws from a normal distribution: ``w ~ N(mean, std²)``.

    Parameters
    ----------
    std : float
        The standard deviation, not negative.
    mean : float
        The mean.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.normal(0.1)(0, (3, 2)).shape
    (3, 2)
    """
    std = check_number(std, "normal(std=0.01)", "of at least 0")
    mean = check_number(mean, "normal(0.01, mean=0.0)")
    return RecordedInitializer(lambda rng, shape: _normal(rng, shape, std, mean))


@constructor
def truncated_normal(std: float = 0.01, *, mean: float = 0.0) -> RecordedInitializer:
    """Return an initializer that draws from ``w ~ N(mean, std²)``, cut at two standard deviations.

    Values with ``|w - mean| > 2 std`` are drawn again.

    Parameters
    ----------
    std : float
        The standard deviation before the cut. The drawn values have 0.88 times this deviation.
    mean : float
        The mean.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> bool(np.abs(F.truncated_normal(0.1)(0, (500,))).max() <= 0.2)
    True
    """
    std = check_number(std, "truncated_normal(std=0.01)", "of at least 0")
    mean = check_number(mean, "truncated_normal(0.01, mean=0.0)")
    return RecordedInitializer(lambda rng, shape: _truncated_normal(rng, shape, std, mean))


@constructor
def lecun_uniform() -> RecordedInitializer:
    """Return an initializer that draws from ``w ~ U(-a, a)`` with ``a = √(3 / fan_in)``.

    References
    ----------
    LeCun, Bottou, Orr, Müller: Efficient backprop, 1998, section 4.6.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.lecun_uniform()(0, (3, 2)).dtype
    dtype('float32')
    """
    return RecordedInitializer(
        lambda rng, shape: _uniform(rng, shape, math.sqrt(3 / fans(shape)[0]))
    )


@constructor
def lecun_normal() -> RecordedInitializer:
    """Return an initializer that draws from a truncated normal of variance ``σ² = 1 / fan_in``.

    The values are ``w ~ N(0, s²)``, cut at two standard deviations, with ``s = σ / 0.8796``. The
    number 0.8796 is the ratio of the standard deviations after and before the cut.

    References
    ----------
    LeCun, Bottou, Orr, Müller: Efficient backprop, 1998, equation 16.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.lecun_normal()(0, (3, 2)).dtype
    dtype('float32')
    """
    return RecordedInitializer(
        lambda rng, shape: _truncated_normal(
            rng, shape, math.sqrt(1 / fans(shape)[0]) / _TRUNCATED_STD, 0.0
        )
    )


@constructor
def glorot_uniform() -> RecordedInitializer:
    """Return an initializer that draws from ``w ~ U(-a, a)``, ``a = √(6 / (fan_in + fan_out))``.

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks,
    2010, equation 16.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> bool(np.abs(F.glorot_uniform()(0, (4, 2))).max() <= 1)
    True
    """
    return RecordedInitializer(
        lambda rng, shape: _uniform(rng, shape, math.sqrt(6 / sum(fans(shape))))
    )


@constructor
def glorot_normal() -> RecordedInitializer:
    """Return an initializer that draws from ``w ~ N(0, 2 / (fan_in + fan_out))``.

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks,
    2010, equation 12.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.glorot_normal()(0, (4, 2)).shape
    (4, 2)
    """
    return RecordedInitializer(
        lambda rng, shape: _normal(rng, shape, math.sqrt(2 / sum(fans(shape))), 0.0)
    )


@constructor
def he_uniform() -> RecordedInitializer:
    """Return an initializer that draws from ``w ~ U(-a, a)`` with ``a = √(6 / fan_in)``.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers, 2015, section 2.2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.he_uniform()(0, (4, 2)).shape
    (4, 2)
    """
    return RecordedInitializer(
        lambda rng, shape: _uniform(rng, shape, math.sqrt(6 / fans(shape)[0]))
    )


@constructor
def he_normal() -> RecordedInitializer:
    """Return an initializer that draws from ``w ~ N(0, 2 / fan_in)``.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers, 2015, equation 10.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.he_normal()(0, (4, 2)).shape
    (4, 2)
    """
    return RecordedInitializer(
        lambda rng, shape: _normal(rng, shape, math.sqrt(2 / fans(shape)[0]), 0.0)
    )


@constructor
def orthogonal(gain: float = 1.0) -> RecordedInitializer:
    """Return an initializer of matrices with orthogonal rows or columns of length `gain`.

    ``Wᵀ W = gain² I``, or ``W Wᵀ = gain² I`` for more columns than rows. A kernel of several axes
    is reshaped to a matrix, with its first axis as rows.

    Parameters
    ----------
    gain : float
        The length; √2 suits layers before a ReLU.

    References
    ----------
    Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> matrix = F.orthogonal()(0, (3, 3))
    >>> np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    True
    """
    gain = check_number(gain, "orthogonal(gain=1.0)")

    def initialize(rng: KeyLike, shape: tuple[int, ...]) -> Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal needs a shape of two axes or more, got {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        tall = generator(rng).standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        # The signs of R's diagonal make the distribution uniform over the orthogonal matrices.
        q *= np.sign(np.diagonal(r))
        matrix = q if rows >= columns else q.T
        return (gain * matrix).reshape(shape).astype(np.float32, order="C")

    return RecordedInitializer(initialize)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return fan_in and fan_out of a weight's shape, at least one each."""
    if len(shape) < 2:
        fan_in = fan_out = math.prod(shape)
    elif len(shape) == 2:
        fan_in, fan_out = shape
    else:
        field = math.prod(shape[2:])
        fan_in, fan_out = shape[1] * field, shape[0] * field
    return max(fan_in, 1), max(fan_out, 1)


def _constant(value: float) -> RecordedInitializer:
    return RecordedInitializer(lambda rng, shape: np.full(shape, value, np.float32))


def _uniform(rng: KeyLike, shape: tuple[int, ...], bound: float) -> Array:
    return _between(rng, shape, -bound, bound)


def _between(rng: KeyLike, shape: tuple[int, ...], low: float, high: float) -> Array:
    values = generator(rng).random(shape, np.float32)
    values *= high - low
    values += low
    return values


def _normal(rng: KeyLike, shape: tuple[int, ...], std: float, mean: float) -> Array:
    values = generator(rng).standard_normal(shape, np.float32)
    values *= std
    values += mean
    return values


def _truncated_normal(rng: KeyLike, shape: tuple[int, ...], std: float, mean: float) -> Array:
    draw = generator(rng).standard_normal
    values = draw(shape, np.float32)
    while (count := np.count_nonzero(outside := np.abs(values) > 2)) > 0:
        values[outside] = draw(count, np.float32)
    values *= std
    values += mean
    return values


Initializer = Callable[[KeyLike, tuple[int, ...]], Array]


def scale_and_shift(shape: tuple[int, ...], scale: bool, shift: bool) -> dict[str, Array]:
    """Return the initial parameters of a normalization: a scale of ones, a shift of zeros."""
    claim(shape)
    params = {"scale": np.ones(shape, np.float32)} if scale else {}
    return params | {"shift": np.zeros(shape, np.float32)} if shift else params
