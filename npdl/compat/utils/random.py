"""The global generator and the global data type of the stateful API.

>>> from npdl.utils import set_seed
>>> set_seed(1)
"""

from typing import Any

import numpy as np

from npdl.compat.utils._states import (
    check_bit_generator,
    read_generator,
    set_global,
    write_generator,
)
from npdl.functional._arrays import describe
from npdl.random import Key

__all__ = [
    "as_floats",
    "get_dtype",
    "get_rng",
    "get_state",
    "new_key",
    "set_dtype",
    "set_rng",
    "set_seed",
    "set_state",
]

# The global state of the stateful API; nothing outside npdl.compat reads it.
_rng: Any = None  # None means numpy.random, which is slow to import
_dtype: Any = "float32"


def get_rng() -> Any:
    """Return the generator that all layers and initializers draw from.

    Returns
    -------
    numpy.random.RandomState
        The last argument of :func:`set_rng`, or the generator of the last :func:`set_seed`. Before
        these calls, the module `numpy.random`, whose functions draw from NumPy's global generator.

    Examples
    --------
    >>> from npdl.utils import get_rng, set_seed
    >>> set_seed(0)
    >>> type(get_rng()).__name__
    'RandomState'
    """
    return np.random if _rng is None else _rng


def set_rng(rng: Any) -> None:
    """Set the generator of all layers and initializers.

    Parameters
    ----------
    rng : numpy.random, RandomState or Generator
        The generator.

    Raises
    ------
    TypeError
        If it has another type, or a bit generator that is not NumPy's.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.utils import get_rng, set_rng
    >>> set_rng(np.random.default_rng(0))
    >>> type(get_rng()).__name__
    'Generator'
    """
    if rng is not np.random and not isinstance(rng, np.random.RandomState | np.random.Generator):
        raise TypeError(
            f"set_rng: expected numpy.random, a RandomState or a Generator, got {rng!r}; "
            f"set_seed(0) creates one from a seed"
        )
    check_bit_generator(rng)
    global _rng
    _rng = rng


def set_seed(seed: int) -> None:
    """Set the generator of all layers and initializers to a new `RandomState`.

    Parameters
    ----------
    seed : int
        The seed, from 0 to 2³² - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.initializations import Normal
    >>> from npdl.utils import set_seed
    >>> set_seed(1)
    >>> first = Normal()((2, 3))
    >>> set_seed(1)
    >>> np.array_equal(Normal()((2, 3)), first)
    True
    """
    set_rng(np.random.RandomState(seed))


def get_dtype() -> Any:
    """Return the data type of new parameters, ``"float32"`` by default.

    Returns
    -------
    str or numpy.dtype
        The last argument of :func:`set_dtype`.

    Examples
    --------
    >>> from npdl.utils import get_dtype, set_dtype
    >>> set_dtype("float32")
    >>> get_dtype()
    'float32'
    """
    return _dtype


def set_dtype(dtype: Any) -> None:
    """Set the data type of new parameters.

    Parameters
    ----------
    dtype : str or numpy.dtype
        ``"float32"`` or ``"float64"``. Connected layers keep their data type.

    Raises
    ------
    ValueError
        If it is another type.

    Examples
    --------
    >>> from npdl.utils import set_dtype
    >>> from npdl.initializations import Zero
    >>> set_dtype("float64")
    >>> Zero()((2,))
    array([0., 0.])
    >>> set_dtype("float32")
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"set_dtype: expected 'float32' or 'float64', got {dtype!r}")
    global _dtype
    _dtype = dtype


def as_floats(name: str, values: Any) -> Any:
    """Return an array of floats; ints and booleans are converted to :func:`get_dtype`.

    Examples
    --------
    >>> from npdl.utils.random import as_floats
    >>> from npdl.utils import set_dtype
    >>> set_dtype("float32")
    >>> as_floats("layer", [1, 2])
    array([1., 2.], dtype=float32)
    """
    array = check_numbers(name, np.asarray(values))
    return array if array.dtype.kind == "f" else array.astype(get_dtype())


def check_numbers(name: str, array: Any) -> Any:
    """Return an array of floats, ints or booleans, or raise.

    Examples
    --------
    >>> from npdl.utils.random import check_numbers
    >>> import numpy as np
    >>> check_numbers("layer", np.array([1, 2]))
    array([1, 2])
    """
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name}: expected an array of numbers, got {describe(array)}; convert it with "
            f"x.astype(np.float32)"
        )
    return array


def new_key() -> Key:
    """Draw a key for a functional layer from the generator.

    Examples
    --------
    >>> from npdl.utils.random import new_key
    >>> from npdl.utils import set_seed
    >>> set_seed(0)
    >>> key = new_key()
    >>> set_seed(0)
    >>> new_key() == key
    True
    """
    rng = get_rng()
    draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    return (int(draw(1 << 63, dtype=np.int64)),)


def get_state() -> str:
    """Return the kind and the state of the generator as JSON.

    Examples
    --------
    >>> from npdl.utils.random import get_state
    >>> from npdl.utils import set_seed
    >>> set_seed(0)
    >>> get_state()[:60]
    '{"generator": "RandomState", "state": {"bit_generator": "MT1'
    """
    return write_generator(get_rng())


def set_state(state: str) -> None:
    """Restore the generator of all layers and initializers.

    Parameters
    ----------
    state : str
        The result of :func:`get_state`.

    Raises
    ------
    ValueError
        If it is not a state of a NumPy generator; the generator is then unchanged.

    Examples
    --------
    >>> from npdl.utils.random import get_state, new_key, set_state
    >>> from npdl.utils import set_seed
    >>> set_seed(0)
    >>> state = get_state()
    >>> key = new_key()
    >>> set_state(state)
    >>> new_key() == key
    True
    """
    rng, values = read_generator(state)
    if rng is np.random:
        set_global(values)
    set_rng(rng)
