"""Python values encoded as JSON and a few arrays: the states of callbacks in a checkpoint.

States grow with every epoch. So lists of numbers become arrays. Small arrays of one type are
concatenated, in the order of their appearance in the JSON.

>>> import numpy as np
>>> text, arrays = encoded({"best": (0.25, np.ones(2, np.float32)), "losses": [0.5, 0.25]})
>>> text["dict"]["best"], text["dict"]["losses"]
({'tuple': [0.25, {'array': ['float32', [2]]}]}, {'list': ['floats', 2]})
>>> arrays
{'float32': array([1., 1.], dtype=float32), 'floats': array([0.5 , 0.25])}
>>> decoded(text, arrays)
{'best': (0.25, array([1., 1.], dtype=float32)), 'losses': [0.5, 0.25]}
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["LISTS", "decoded", "encoded", "is_array"]

# Arrays of at least this many bytes are not concatenated, since that would copy them.
_LARGE = 1 << 16
# Smallest item size in bytes of a stacked list, for arrays (False) and NumPy scalars (True): each
# item takes about a hundred bytes of memory after decoding.
_SMALLEST = {False: 8, True: 4}
# Lists of one of these types become arrays; the array type represents each value exactly.
LISTS = {"floats": np.float64, "ints": np.int64, "bools": np.bool_}
_NAMES = {float: "floats", int: "ints", bool: "bools"}


def encoded(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return a JSON value, and the arrays that it refers to.

    Raises
    ------
    TypeError
        If the value has other types than dicts with string keys, lists, tuples, strings, `None`,
        and numbers, booleans and arrays of these.
    ValueError
        If the value is nested too deep, or contains itself.
    """
    encoder = _Encoder()
    try:
        text = encoder.encode(value)
    except RecursionError:
        raise ValueError(
            "the value contains itself, or is nested too deep for Python; a checkpoint can hold "
            "several hundred levels"
        ) from None
    return text, encoder.arrays()


def decoded(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the original value of :func:`encoded`; all arrays are new.

    Raises
    ------
    ValueError, TypeError, LookupError
        If the arguments are not a result of :func:`encoded`.
    """
    decoder = _Decoder(arrays)
    found = decoder.decode(value)
    decoder.check_all_taken()
    return found


class _Encoder:
    def __init__(self) -> None:
        self.large: dict[str, np.ndarray] = {}
        self.small: dict[str, list[np.ndarray]] = {}

    def arrays(self) -> dict[str, np.ndarray]:
        joined = {name: np.concatenate(parts) for name, parts in self.small.items()}
        return self.large | joined

    def encode(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is list:
            return self._list(value)
        if type(value) is tuple:
            return {"tuple": [self.encode(item) for item in value]}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": {key: self.encode(item) for key, item in value.items()}}
        if is_array(value):
            kind = "scalar" if isinstance(value, np.generic) else "array"
            return {kind: [self._put(np.asarray(value)), list(value.shape)]}
        raise TypeError(
            f"a checkpoint holds dicts with string keys, lists, tuples, arrays of numbers, "
            f"numbers, booleans, strings and None, but not {value!r:.80}"
        )

    def _list(self, values: list[Any]) -> Any:
        """Encode a list; if all items have one type and shape, as one array."""
        kind = type(values[0]) if values else None
        if kind in _NAMES and all(type(item) is kind for item in values):
            name = _NAMES[kind]
            try:
                array: np.ndarray = np.array(values, LISTS[name])
            except OverflowError:  # an int of more than 64 bits
                return values
            self.small.setdefault(name, []).append(array)
            return {"list": [name, len(values)]}
        if values and all(map(is_array, values)):
            first = values[0]
            kind_of_first = (type(first), first.dtype, first.shape)
            is_scalar = isinstance(first, np.generic)
            if first.nbytes >= _SMALLEST[is_scalar] and all(
                (type(item), item.dtype, item.shape) == kind_of_first for item in values
            ):
                shape = [len(values), *first.shape]
                return {"scalars" if is_scalar else "arrays": [self._put(np.array(values)), shape]}
        return [self.encode(item) for item in values]

    def _put(self, array: np.ndarray) -> str:
        """Store an array, and return the name of the array that holds its elements."""
        if array.nbytes >= _LARGE:
            name = str(len(self.large))
            self.large[name] = array
        else:
            name = array.dtype.name
            self.small.setdefault(name, []).append(array.reshape(-1).astype(name, copy=False))
        return name


class _Decoder:
    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.flat = {name: array.reshape(-1) for name, array in arrays.items()}
        self.taken = dict.fromkeys(arrays, 0)

    def check_all_taken(self) -> None:
        for name, array in self.flat.items():
            if self.taken[name] != array.size:
                raise ValueError(f"{array.size - self.taken[name]} elements of {name!r} are left")

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, inside),) = value.items()
        if kind == "tuple":
            return tuple([self.decode(item) for item in inside])
        if kind == "dict":
            return {key: self.decode(item) for key, item in inside.items()}
        name, shape = inside
        if kind == "list":
            return self._take(name, [shape]).tolist()
        if kind == "array":
            return self._take(name, shape)
        if kind == "scalar":
            return self._take(name, shape)[()]
        if kind in ("arrays", "scalars"):
            rows = self._take(name, shape)
            if rows.nbytes < len(rows) * _SMALLEST[kind == "scalars"]:
                size = rows.nbytes // max(len(rows), 1)
                raise ValueError(f"expected larger {kind}, got items of {size} bytes")
            return [row.copy() for row in rows]
        raise ValueError(f"expected an array, a list, a tuple or a dict, got {kind!r}")

    def _take(self, name: str, shape: Any) -> np.ndarray:
        """Return the next elements of an array; each is used once, so they fit into memory."""
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"expected a shape of non-negative ints, got {shape!r}")
        array, start = self.flat[name], self.taken[name]
        end = start + math.prod(shape)
        if end > array.size:
            raise ValueError(f"expected at least {end} elements in {name!r}, got {array.size}")
        self.taken[name] = end
        part = array[start:end].reshape(shape)
        return part if part.size == array.size else part.copy()


def is_array(value: Any) -> bool:
    """Whether a file can hold an array: of NumPy's own class, and of numbers or booleans."""
    array = type(value) is np.ndarray or isinstance(value, np.generic)
    return array and value.dtype.kind in "biufc"
