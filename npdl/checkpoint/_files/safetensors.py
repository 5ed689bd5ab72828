"""The `.safetensors` format, written and read by the library safetensors, an extra.

The library reads a header of any size, so the header is checked first. The library writes the keys
in no fixed order, so the header is rewritten with sorted keys: equal trees give equal files. The
format has no checksums, so npdl stores them in the metadata.
"""

import contextlib
import json
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


def write_safetensors(file: BinaryIO, header: str, arrays: dict[str, np.ndarray]) -> None:
    """Write a header and arrays.

    Raises
    ------
    TypeError, ValueError
        If the format cannot hold a type or path, or the header is too long.
    ImportError
        If the library is not installed.
    """
    library = _library()
    for path, array in arrays.items():
        if array.dtype.name not in TYPES.values():
            raise TypeError(f"a .safetensors file cannot hold {array.dtype} ({path}); use .npz")
        if path == "__metadata__":
            raise ValueError(f"a .safetensors file cannot hold the path {path!r}; rename the key")
    check_names(arrays)
    check_length(len(header))
    little = {path: array.astype(_little(array), copy=False) for path, array in arrays.items()}
    sums = json.dumps({path: _sum(array) for path, array in little.items()})
    metadata = {"npdl": header, "sum": _joint_sum(header, sums), "sums": sums}
    data = memoryview(library.numpy.save(little, metadata))
    start = 8 + struct.unpack_from("<Q", data)[0]
    declared = json.loads(bytes(data[8:start])) | {"__metadata__": metadata}
    text = json.dumps(declared, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    check_length(len(text), text.isascii())
    file.write(struct.pack("<Q", len(text)) + text)
    file.write(data[start:])


@contextlib.contextmanager
def open_safetensors(path: Path, file: BinaryIO) -> Iterator[Container]:
    """Open a file; its header is checked before the library reads it."""
    library = _library()
    header, sums = _metadata(file)
    with library.safe_open(path, framework="numpy") as tensors:

        def read(path: str) -> np.ndarray:
            array = np.array(tensors.get_tensor(path))
            little = array.astype(_little(array), copy=False)
            if header is not None and _sum(little) != sums[path]:
                raise ValueError(f"the checksum of {path!r} is wrong")
            return array

        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        kinds: dict[str, Kind] = {
            name: (TYPES.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape()))
            for name, part in slices.items()
        }
        yield Container(header, kinds, read)


def _metadata(file: BinaryIO) -> tuple[str | None, dict[str, str]]:
    """Return the header of npdl and the checksums of arrays, or raise if they are too long."""
    (length,) = struct.unpack("<Q", file.read(8))
    check_length(length)
    data = file.read(length)
    check_length(length, data.isascii())
    declared = read_json(data.decode())
    metadata = declared.pop("__metadata__", {})
    check_names(declared)
    header, sums = metadata.get("npdl"), metadata.get("sums", "{}")
    if header is not None and metadata.get("sum") != _joint_sum(header, sums):
        raise ValueError("the checksum of the header is wrong")
    return header, read_json(sums)


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "files that end in .safetensors need the library safetensors: "
            "pip install 'npdl-functional[safetensors]'"
        ) from error
    return safetensors


def _little(array: np.ndarray) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _sum(array: np.ndarray) -> str:
    return f"{zlib.crc32(array.tobytes()):08x}"


def _joint_sum(header: str, sums: str) -> str:
    return f"{zlib.crc32(sums.encode(), zlib.crc32(header.encode())):08x}"
