"""Initializers of parameters: ``array = GlorotUniform()((n_in, n_out))``.

>>> import numpy as np
>>> from npdl.initializations import Zero
>>> Zero()((2,))
array([0., 0.], dtype=float32)

Arrays have the data type of :func:`npdl.utils.get_dtype`. Random numbers are drawn from the
generator of :func:`npdl.utils.get_rng`. Your own initializer is a subclass of :class:`Initializer`.
"""

import math
from typing import Any, ClassVar

import numpy as np

import npdl.functional as F
from npdl._constructor import constructor
from npdl.compat._named import Named, find
from npdl.compat.utils.random import get_dtype, new_key
from npdl.functional._arrays import describe
from npdl.functional._initializers import Initializer as Pure
from npdl.functional._initializers import RecordedInitializer, fans
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = [
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunUniform",
    "Normal",
    "One",
    "Orthogonal",
    "Uniform",
    "Zero",
    "decompose_size",
    "get",
]


class Initializer(Named):
    """A function from a shape to an array: the base class of your own initializers.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.initializations import Initializer
    >>> class Half(Initializer):
    ...     def call(self, size):
    ...         return np.full(size, 0.5)
    >>> Half()((2,))
    array([0.5, 0.5])
    """

    family = "initializations"

    def __call__(self, size: Any) -> Any:
        """Return a new array of a shape."""
        return self.call(size)

    def call(self, size: Any) -> Any:
        """Return a new array of a shape; a subclass defines this method.

        Parameters
        ----------
        size : tuple of ints, or int
            The shape.
        """
        raise NotImplementedError(f"{type(self).__name__}.call")

    @property
    def pure(self) -> Pure:
        """The same initializer as a function of `npdl.functional`, ``(rng, shape) -> array``."""
        return stateful(self)


@constructor
def stateful(initializer: Initializer) -> RecordedInitializer:
    """Return a functional initializer that calls a user's initializer and ignores the key.

    Raises
    ------
    ValueError
        If the user's initializer returns an array of another shape.
    """

    def initialize(rng: KeyLike, shape: tuple[int, ...]) -> Array:
        array = np.array(initializer(shape), get_dtype())
        if array.shape != tuple(shape):
            raise ValueError(
                f"{type(initializer).__name__}: expected an array of the shape {tuple(shape)}, got "
                f"{describe(array)}"
            )
        return array

    return RecordedInitializer(initialize)


class _Functional(Initializer):
    """An initializer that calls the functional initializer of `_build()`."""

    def _build(self) -> Pure:
        raise NotImplementedError

    @property
    def pure(self) -> Pure:
        for cls in type(self).__mro__:
            if "_build" in vars(cls):
                return self._build()
            if {"__call__", "call"} & vars(cls).keys():
                break  # a user's subclass differs from its base class
        return super().pure

    def call(self, size: Any) -> Any:
        shape = tuple(size) if np.iterable(size) else (size,)
        return self._build()(new_key(), shape).astype(get_dtype(), copy=False)


class Zero(_Functional):
    """Zeros: ``w = 0``.

    Examples
    --------
    >>> from npdl.initializations import Zero
    >>> Zero()((1, 2))
    array([[0., 0.]], dtype=float32)
    """

    def _build(self) -> Pure:
        return F.zeros()


class One(_Functional):
    """Ones: ``w = 1``.

    Examples
    --------
    >>> from npdl.initializations import One
    >>> One()((1, 2))
    array([[1., 1.]], dtype=float32)
    """

    def _build(self) -> Pure:
        return F.ones()


class Uniform(_Functional):
    """Uniform distribution: ``w ~ U(-scale, scale)``, or ``w ~ U(lower, upper)``.

    Parameters
    ----------
    scale : float or pair of floats
        The bound of ±scale, or a lower and an upper bound.

    Examples
    --------
    >>> from npdl.initializations import Uniform
    >>> bool((Uniform((2.0, 3.0))((50,)) >= 2).all())
    True
    """

    def __init__(self, scale: Any = 0.05) -> None:
        self.scale = scale
        self._build()  # raises on an invalid argument

    def _build(self) -> Pure:
        return F.uniform(self.scale)


class Normal(_Functional):
    """Normal distribution: ``w ~ N(mean, std²)``.

    Parameters
    ----------
    std : float
        The standard deviation, not negative.
    mean : float
        The mean.

    Examples
    --------
    >>> from npdl.initializations import Normal
    >>> Normal(std=0.0, mean=3.0)((2,))
    array([3., 3.], dtype=float32)
    """

    def __init__(self, std: float = 0.01, mean: float = 0.0) -> None:
        self.std, self.mean = std, mean
        self._build()  # raises on an invalid argument

    def _build(self) -> Pure:
        return F.normal(self.std, mean=self.mean)


def decompose_size(shape: Any) -> tuple[Any, Any]:
    """Return fan_in and fan_out of a shape: the numbers of inputs and outputs per weight.

    Parameters
    ----------
    shape : tuple of ints
        ``(in, out)``, or ``(out, in, *field)`` with 4 or 5 axes; both fans are then multiplied by
        the size of the field. For other numbers of axes, both fans are the square root of the size.

    Examples
    --------
    >>> from npdl.initializations import decompose_size
    >>> decompose_size((5, 7)), decompose_size((6, 3, 2, 2)), decompose_size((9,))
    ((5, 7), (12, 24), (3.0, 3.0))
    """
    if len(shape) in (2, 4, 5):
        return fans(tuple(shape))
    root = math.sqrt(max(math.prod(shape), 1))
    return root, root


class _ByFans(_Functional):
    """An initializer with a variance inverse to a fan of :func:`decompose_size`."""

    # Whether the fan is the sum of fan_in and fan_out; otherwise it is fan_in.
    uses_both_fans: ClassVar[bool]

    def call(self, size: Any) -> Any:
        array = super().call(size)
        # For weights of layers, both functions give equal fans; for other shapes they may differ.
        wanted, used = decompose_size(array.shape), fans(array.shape)
        if wanted == used:
            return array
        ratio = sum(used) / sum(wanted) if self.uses_both_fans else used[0] / wanted[0]
        return array * math.sqrt(ratio)


class LecunUniform(_ByFans):
    """LeCun's uniform distribution: ``w ~ U(-a, a)``, ``a = √(3 / fan_in)``.

    References
    ----------
    LeCun, Bottou, Orr, Müller: Efficient backprop, 1998, section 4.6.

    Examples
    --------
    >>> from npdl.initializations import LecunUniform
    >>> LecunUniform()((5, 7)).shape
    (5, 7)
    """

    uses_both_fans = False

    def _build(self) -> Pure:
        return F.lecun_uniform()


class GlorotUniform(_ByFans):
    """Glorot's uniform distribution: ``w ~ U(-a, a)``, ``a = √(6 / (fan_in + fan_out))``.

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks,
    2010, equation 16.

    Examples
    --------
    >>> from npdl.initializations import GlorotUniform
    >>> GlorotUniform()((5, 7)).shape
    (5, 7)
    """

    uses_both_fans = True

    def _build(self) -> Pure:
        return F.glorot_uniform()


class GlorotNormal(_ByFans):
    """Glorot's normal distribution: ``w ~ N(0, 2 / (fan_in + fan_out))``.

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks,
    2010, equation 12.

    Examples
    --------
    >>> from npdl.initializations import GlorotNormal
    >>> GlorotNormal()((5, 7)).shape
    (5, 7)
    """

    uses_both_fans = True

    def _build(self) -> Pure:
        return F.glorot_normal()


class HeNormal(_ByFans):
    """He's normal distribution: ``w ~ N(0, 2 / fan_in)``.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers, 2015, equation 10.

    Examples
    --------
    >>> from npdl.initializations import HeNormal
    >>> HeNormal()((5, 7)).shape
    (5, 7)
    """

    uses_both_fans = False

    def _build(self) -> Pure:
        return F.he_normal()


class HeUniform(_ByFans):
    """He's uniform distribution: ``w ~ U(-a, a)``, ``a = √(6 / fan_in)``.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers, 2015, section 2.2.

    Examples
    --------
    >>> from npdl.initializations import HeUniform
    >>> HeUniform()((5, 7)).shape
    (5, 7)
    """

    uses_both_fans = False

    def _build(self) -> Pure:
        return F.he_uniform()


class Orthogonal(_Functional):
    """Orthogonal matrices: ``Wᵀ W = gain² I``, or ``W Wᵀ = gain² I`` with more columns than rows.

    The first axis of a convolution kernel is the row axis; the other axes are flattened.

    Parameters
    ----------
    gain : float or str
        The norm of the rows or columns; ``"relu"`` is √2, for a layer before a ReLU.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.initializations import Orthogonal
    >>> matrix = Orthogonal(2.0)((3, 3))
    >>> np.allclose(matrix @ matrix.T, 4 * np.eye(3), atol=1e-5)
    True
    """

    def __init__(self, gain: Any = 1.0) -> None:
        if gain == "relu":
            gain = math.sqrt(2)
        if isinstance(gain, str) or not math.isfinite(gain):
            raise ValueError(f"Orthogonal: gain must be a number or 'relu', got {gain!r}")
        self.gain = gain

    def _build(self) -> Pure:
        return F.orthogonal(self.gain)


# Existing scripts import these two instances.
_zero, _one = Zero(), One()

_NAMES: dict[str, type[Initializer]] = {
    **dict.fromkeys(("zero", "Zero"), Zero),
    **dict.fromkeys(("one", "One"), One),
    **dict.fromkeys(("uniform", "Uniform"), Uniform),
    **dict.fromkeys(("normal", "Normal"), Normal),
    **dict.fromkeys(("lecun_uniform", "LecunUniform"), LecunUniform),
    **dict.fromkeys(("glorot_uniform", "GlorotUniform"), GlorotUniform),
    **dict.fromkeys(("glorot_normal", "GlorotNormal"), GlorotNormal),
    **dict.fromkeys(("he_normal", "HeNormal"), HeNormal),
    **dict.fromkeys(("he_uniform", "HeUniform"), HeUniform),
    **dict.fromkeys(("orthogonal", "Orthogonal"), Orthogonal),
}


def get(initialization: Any) -> Initializer:
    """Return a copy of an initializer, or a new initializer by its name.

    Parameters
    ----------
    initialization : Initializer or str
        An instance, a class name, or its lower-case form, such as ``"glorot_uniform"``.

    Raises
    ------
    ValueError
        If it is neither; the message lists the names.

    Examples
    --------
    >>> from npdl.initializations import get
    >>> type(get("zero")).__name__
    'Zero'
    """
    return find(Initializer, initialization, _NAMES, "GlorotUniform()")
