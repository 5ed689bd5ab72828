"""The `.safetensors` format: a header in JSON, then the bytes of all arrays.

The header has the type, the shape and the position of each array. It is checked before any array is
read: the arrays follow one another without gaps, and each has as many bytes as its type and shape
need. The format has no checksums, so npdl stores them in the metadata.
"""

import contextlib
import json
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from npdl.checkpoint._files.limits import Container, Kind, check_length, check_names, read_json

__all__ = ["TYPES", "open_safetensors", "write_safetensors"]

# Integers of 8 to 64 bits, booleans and floats: the types that other libraries can read.
TYPES = {"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"}
TYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
TYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
_NAMES = {name: declared for declared, name in TYPES.items()}
# NumPy has no bfloat16: the upper half of a float32.
_READ = TYPES | {"BF16": "bfloat16"}
_STORED = _READ | {"BF16": "uint16"}


def write_safetensors(file: BinaryIO, header: str, arrays: dict[str, np.ndarray]) -> None:
    """Write a header and arrays.

    Raises
    ------
    TypeError, ValueError
        If the format cannot hold a type or path, or the header is too long.
    """
    for path, array in arrays.items():
        if array.dtype.name not in _NAMES:
            raise TypeError(f"a .safetensors file cannot hold {array.dtype} ({path}); use .npz")
        if path == "__metadata__":
            raise ValueError(f"a .safetensors file cannot hold the path {path!r}; rename the key")
    check_names(arrays)
    check_length(len(header))
    # Arrays of wider types come first, so that each one is aligned in the file.
    ordered = sorted(arrays, key=lambda path: (-arrays[path].itemsize, path))
    little = {path: arrays[path].astype(_little(arrays[path]), copy=False) for path in ordered}
    sums = json.dumps({path: _sum(array) for path, array in little.items()})
    metadata = {"npdl": header, "sum": _joint_sum(header, sums), "sums": sums}
    declared: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for path, array in little.items():
        start, end = end, end + array.nbytes
        kind, shape = _NAMES[array.dtype.name], list(array.shape)
        declared[path] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(declared, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    check_length(len(text), text.isascii())
    file.write(struct.pack("<Q", len(text)) + text)
    for array in little.values():
        file.write(array.data)


@contextlib.contextmanager
def open_safetensors(path: Path, file: BinaryIO) -> Iterator[Container]:
    """Open a file; its whole header is checked first."""
    length, declared = _declared(file)
    header, sums = _metadata(declared.pop("__metadata__", None))
    _check_positions(declared, os.fstat(file.fileno()).st_size - length)
    kinds: dict[str, Kind] = {
        name: (_READ.get(entry["dtype"], entry["dtype"]), tuple(entry["shape"]))
        for name, entry in declared.items()
    }

    def read(name: str) -> np.ndarray:
        entry = declared[name]
        stored = np.dtype(_STORED[entry["dtype"]])
        array = np.empty(entry["shape"], stored.newbyteorder("<"))
        file.seek(length + entry["data_offsets"][0])
        if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
            raise ValueError(f"the file ends inside the array {name!r}")
        if header is not None and _sum(array) != sums[name]:
            raise ValueError(f"the checksum of {name!r} is wrong")
        if kinds[name][0] == "bfloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(stored, copy=False)

    yield Container(header, kinds, read)


def _declared(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Return the position of the arrays and the header, or raise if it is too long."""
    (length,) = struct.unpack("<Q", file.read(8))
    check_length(length)
    data = file.read(length)
    check_length(length, data.isascii())
    declared = read_json(data.decode())
    check_names(declared.keys() - {"__metadata__"})
    return 8 + length, declared


def _metadata(metadata: dict[str, Any] | None) -> tuple[str | None, dict[str, str]]:
    """Return the header of npdl, `None` for other files, and the checksums of the arrays."""
    if metadata is None:
        return None, {}
    header, sums = metadata.get("npdl"), metadata.get("sums", "{}")
    if header is None:
        return None, {}
    if metadata.get("sum") != _joint_sum(header, sums):
        raise ValueError("the checksum of the header is wrong")
    return header, read_json(sums)


def _check_positions(declared: dict[str, Any], size: int) -> None:
    """Raise unless the arrays fill the rest of the file, and each has the bytes that it needs."""
    end = 0
    for name, entry in sorted(declared.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or not _are_sizes([*entry["shape"], start, stop]):
            raise ValueError(f"the array {name!r} is declared at {start} instead of {end}")
        stored = _STORED.get(entry["dtype"])
        needed = math.prod(entry["shape"]) * np.dtype(stored).itemsize if stored else stop - start
        if stop - start != needed:
            raise ValueError(f"the array {name!r} has {stop - start} bytes, but needs {needed}")
        end = stop
    if end != size:
        raise ValueError(f"the arrays take {end} bytes, but the file has {size}")


def _are_sizes(numbers: list[Any]) -> bool:
    most = 64 + 2  # NumPy has at most 64 axes
    return len(numbers) <= most and all(type(n) is int and n >= 0 for n in numbers)


def _little(array: np.ndarray) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _sum(array: np.ndarray) -> str:
    return f"{zlib.crc32(array.data):08x}"


def _joint_sum(header: str, sums: str) -> str:
    return f"{zlib.crc32(sums.encode(), zlib.crc32(header.encode())):08x}"
