"""The codec of checkpoints: Python values as JSON and arrays, and back with the same bits.

The header of a file holds scalars as JSON. Other values, such as the states of callbacks, grow with
a run. So they become arrays: numbers by type, and the remaining structure as JSON in ``text``.

>>> import numpy as np
>>> scalar_to_json(0.25), scalar_to_json(float("nan")), scalar_to_json(2**64)
(0.25, {'float': '7ff8000000000000'}, {'int': '0x10000000000000000'})
>>> arrays = encode((np.ones(2, np.float32), [0.5, 0.25]))
>>> arrays.pop("text").tobytes()
b'{"tuple": [{"array": ["float32", [2]]}, {"list": ["floats", 2]}]}'
>>> arrays
{'float32': array([1., 1.], dtype=float32), 'floats': array([0.5 , 0.25])}
"""

import contextlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from npdl.checkpoint._files.limits import read_json

__all__ = [
    "GROWING",
    "SCALARS",
    "Growing",
    "Numbers",
    "decode",
    "encode",
    "is_array",
    "scalar_from_json",
    "scalar_to_json",
]

SCALARS = (bool, int, float, str)
# Lists of one of these types become arrays; the array type represents each value exactly.
_LISTS = {float: ("floats", np.float64), int: ("ints", np.int64), bool: ("bools", np.bool_)}
GROWING = ("text", *(name for name, _ in _LISTS.values()))
"""The arrays of :func:`encode` for everything except arrays and NumPy scalars."""

# Arrays of at least this many bytes are not concatenated, since that would copy them.
_LARGE = 1 << 16


@attrs.frozen(eq=False)
class Numbers:
    """A list of floats or ints as an array of 64-bit numbers; a checkpoint reads it as a list."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array.tolist())


class Growing:
    """A copy of a growing list of numbers, as an array that grows by doubling.

    So a checkpoint of a long run converts only the numbers since the last one.
    """

    def __init__(self) -> None:
        self._array, self._length = np.empty(0), 0

    def numbers(self, values: list[Any]) -> Numbers | list[Any]:
        """Return the numbers of the list, of which only new ones at its end are read.

        The result is the list itself unless all items are floats, or all are ints of 64 bits.
        """
        known = self._length if self._length <= len(values) else 0
        new = values[known:]
        kinds = set(map(type, new))
        kind = kinds.pop() if len(kinds) == 1 else None
        if new:
            if kind not in (float, int):
                return values
            try:
                added: np.ndarray = np.fromiter(new, _LISTS[kind][1], len(new))
            except OverflowError:
                return values
            if known and self._array.dtype != added.dtype:
                return values
            if len(values) > len(self._array) or not known:
                room = np.empty(2 * len(values), added.dtype)
                room[:known] = self._array[:known]
                self._array = room
            self._array[known : len(values)] = added
        self._length = len(values)
        return Numbers(self._array[: len(values)])


def scalar_to_json(value: bool | int | float | str) -> Any:
    """Return a JSON value for a scalar.

    JSON would drop the bits of a NaN, and Python parses no int of more than 4300 decimal digits.
    """
    if type(value) is float and not math.isfinite(value):
        return {"float": struct.pack(">d", value).hex()}
    if type(value) is int and value.bit_length() > 63:
        return {"int": hex(value)}
    return value


def scalar_from_json(found: Any) -> Any:
    """Return the scalar of :func:`scalar_to_json`, or raise for other values."""
    if type(found) in SCALARS:
        return found
    ((kind, digits),) = found.items()
    if kind == "int":
        return int(digits, 16)
    if kind == "float":
        return float(struct.unpack(">d", bytes.fromhex(digits))[0])
    raise ValueError(f"expected a scalar, got {kind!r:.60}")


def encode(value: Any) -> dict[str, np.ndarray]:
    """Return a value as a few arrays.

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
        # Escapes would join two surrogates of a string.
        text = json.dumps(encoder.to_json(value), ensure_ascii=False)
    except RecursionError:
        raise ValueError(
            "the value contains itself, or is nested too deep for Python; a checkpoint can hold "
            "several hundred levels"
        ) from None
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return {"text": data, **encoder.arrays()}


def decode(arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the value of :func:`encode`, or raise for other arrays; all its arrays are new."""
    text = arrays["text"].tobytes().decode("utf-8", "surrogatepass")
    decoder = _Decoder({name: array for name, array in arrays.items() if name != "text"})
    found = decoder.from_json(read_json(text, grown=True))
    decoder.check_all_taken()
    return found


class _Encoder:
    def __init__(self) -> None:
        self.large: dict[str, np.ndarray] = {}
        self.small: dict[str, list[np.ndarray]] = {}

    def arrays(self) -> dict[str, np.ndarray]:
        joined = {name: np.concatenate(parts) for name, parts in self.small.items()}
        return self.large | joined

    def to_json(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in SCALARS:
            return scalar_to_json(value)
        if kind is list:
            return self._list(value)
        if kind is Numbers:
            name = "floats" if value.array.dtype == np.float64 else "ints"
            self.small.setdefault(name, []).append(value.array)
            return {"list": [name, len(value)]}
        if kind is tuple:
            return {"tuple": [self.to_json(item) for item in value]}
        if kind is dict and all(type(key) is str for key in value):
            return {"dict": {key: self.to_json(item) for key, item in value.items()}}
        if is_array(value):
            name = "array" if kind is np.ndarray else "scalar"
            return {name: [self._put(np.asarray(value)), list(value.shape)]}
        raise TypeError(
            f"a checkpoint holds dicts with string keys, lists, tuples, arrays of numbers, "
            f"numbers, booleans, strings and None, but not {value!r:.80}"
        )

    def _list(self, values: list[Any]) -> Any:
        """Encode a list; if all items are numbers of one type, as one array."""
        kinds = set(map(type, values))
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind in _LISTS:
            name, dtype = _LISTS[kind]
            with contextlib.suppress(OverflowError):  # an int of more than 64 bits
                array: np.ndarray = np.fromiter(values, dtype, len(values))
                self.small.setdefault(name, []).append(array)
                return {"list": [name, len(values)]}
        elif kind is not None and issubclass(kind, np.generic) and is_array(values[0]):
            return {"scalars": [self._put(np.array(values)), len(values)]}
        return [self.to_json(item) for item in values]

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
        if odd := [name for name, array in arrays.items() if not is_array(array)]:
            raise ValueError(f"expected arrays of numbers, got others in {odd}")
        self.flat = {name: array.reshape(-1) for name, array in arrays.items()}
        self.taken = dict.fromkeys(arrays, 0)

    def check_all_taken(self) -> None:
        for name, array in self.flat.items():
            if self.taken[name] != array.size:
                raise ValueError(f"{array.size - self.taken[name]} elements of {name!r} are left")

    def from_json(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self.from_json(item) for item in found]
        if not isinstance(found, dict):
            return found
        ((kind, inside),) = found.items()
        if kind == "tuple":
            return tuple([self.from_json(item) for item in inside])
        if kind == "dict":
            return {key: self.from_json(item) for key, item in inside.items()}
        if kind in ("int", "float"):
            return scalar_from_json(found)
        name, shape = inside
        if kind in ("list", "scalars"):
            items = self._take(name, [shape])
            return items.tolist() if kind == "list" else list(items)
        if kind in ("array", "scalar"):
            array = self._take(name, shape)
            return array if kind == "array" else array[()]
        raise ValueError(f"expected an array, a list, a tuple or a dict, got {kind!r:.60}")

    def _take(self, name: str, shape: list[int]) -> np.ndarray:
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
