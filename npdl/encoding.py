"""Values of Python and arrays as JSON: the states of callbacks in a checkpoint.

>>> import numpy as np
>>> text, arrays = encoded({"best": (0.25, np.ones(2, np.float32)), "wait": 3})
>>> text
{'dict': {'best': {'tuple': [0.25, {'array': 0}]}, 'wait': 3}}
>>> decoded(text, arrays)
{'best': (0.25, array([1., 1.], dtype=float32)), 'wait': 3}
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["decoded", "encoded"]


def encoded(value: Any) -> tuple[Any, list[np.ndarray]]:
    """Return what JSON can hold, and the arrays in it, which stand there by their number.

    Raises
    ------
    TypeError
        If there is anything but dicts with keys of text, lists, tuples, arrays of numbers or truth
        values, numbers, truth values, text and `None`.
    """
    arrays: list[np.ndarray] = []
    return _encoded(value, arrays), arrays


def decoded(value: Any, arrays: Sequence[Any]) -> Any:
    """Return what was encoded; the arrays come back themselves.

    Raises
    ------
    ValueError, TypeError, LookupError
        If it was not made by :func:`encoded`.
    """
    if isinstance(value, list):
        return [decoded(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "array":
        return arrays[inside]
    if kind == "tuple":
        return tuple(decoded(item, arrays) for item in inside)
    if kind == "dict":
        return {key: decoded(item, arrays) for key, item in inside.items()}
    raise ValueError(f"expected an array, a tuple or a dict, got {kind!r}")


def _encoded(value: Any, arrays: list[np.ndarray]) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_encoded(item, arrays) for item in value]
    if type(value) is tuple:
        return {"tuple": [_encoded(item, arrays) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _encoded(item, arrays) for key, item in value.items()}}
    is_array = type(value) is np.ndarray or isinstance(value, np.generic)
    if is_array and value.dtype.kind in "biufc":
        arrays.append(value)
        return {"array": len(arrays) - 1}
    raise TypeError(
        f"a checkpoint holds dicts with keys of text, lists, tuples, arrays of numbers, numbers, "
        f"truth values, text and None, but not {value!r:.80}"
    )
