"""The files of checkpoints: a header and named arrays, in an `.npz` or a `.safetensors`.

An opened container has the header and the type and shape of every array, but has read none of the
arrays yet, so that a file that is not what was expected costs no memory. Whatever is wrong with a
file raises; nothing in it is executed.
"""

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import attrs
import numpy as np

if TYPE_CHECKING:
    import zipfile

__all__ = [
    "CheckpointError",
    "Container",
    "Kind",
    "check_json",
    "container_format",
    "opened",
    "read_json",
    "replace_file",
    "sync_directory",
]

Kind: TypeAlias = tuple[str, tuple[int, ...] | None]
"""The type and the shape of an array, or the type of a Python scalar and `None`."""


class CheckpointError(ValueError):
    """The file is damaged, is no checkpoint, or holds another tree than was asked for."""


@attrs.frozen(eq=False, repr=False)
class Container:
    """An open file: its header, `None` where npdl did not write it, and its arrays."""

    header: str | None
    kinds: dict[str, Kind]
    read: Callable[[str], np.ndarray]


@attrs.frozen(eq=False, repr=False)
class Format:
    """How to write and to open the files of one suffix."""

    write: Callable[[BinaryIO, str, dict[str, np.ndarray]], None]
    open: Callable[[Path, BinaryIO], AbstractContextManager[Container]]


def container_format(path: str | os.PathLike[str]) -> Format:
    """Return the format that belongs to the suffix of a path.

    Raises
    ------
    ValueError
        If no format does.
    """
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise ValueError(
            f"unknown suffix {suffix!r} of {os.fspath(path)}; a checkpoint ends in "
            f"{' or '.join(_FORMATS)}"
        )
    return _FORMATS[suffix]


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Container]:
    """Open a file; whatever NumPy or zipfile raises over it means that it is damaged."""
    opener = container_format(path).open
    with Path(path).open("rb") as file:
        try:
            with opener(Path(path), file) as container:
                yield container
        except (CheckpointError, ImportError, MemoryError):
            raise
        except Exception as error:
            raise CheckpointError(
                f"{path} is damaged, or is no checkpoint ({type(error).__name__}: {error}); "
                f"restore it from a copy, or load an earlier one"
            ) from error


def replace_file(
    path: Path, write: Callable[[BinaryIO], None], check: Callable[[Path], None]
) -> None:
    """Write a file beside `path`, and rename it over `path` once it is on the disk and checked.

    Raises
    ------
    OSError
        If the file system refuses; `path` is as it was, and no temporary file is left. The same
        holds for what `check` raises, which is called with the path of the temporary file.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                # So that the check reads the disk, and not the memory that was written from.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        check(temporary)
        temporary.replace(path)
    except BaseException as error:
        error.add_note(f"{path} was not written; what was there is untouched")
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Force the names in a directory to the disk; only POSIX can open one."""
    if os.name == "posix":
        opened = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def read_json(text: str) -> Any:
    """Return the value of a text, unless it makes Python take far more memory than the text.

    Raises
    ------
    ValueError
        If it holds more lists and dicts than any header of npdl.
    """
    check_json(text)
    return json.loads(text)


def check_json(text: str) -> None:
    """Raise unless :func:`read_json` reads a text."""
    count = text.count("[") + text.count("{")
    if count > _LISTS_LIMIT:
        raise ValueError(f"the header has {count} brackets, and no more than {_LISTS_LIMIT} may be")


_HEADER = "npdl.json"
_HEADER_LIMIT = 1 << 24
_LISTS_LIMIT = 1 << 18
_MEMBERS_LIMIT = 1 << 22


def _check_length(length: int) -> None:
    """Bound the only part of a file whose size does not follow from the arrays expected."""
    if length > _HEADER_LIMIT:
        raise ValueError(
            f"the header takes {length} bytes, more than {_HEADER_LIMIT}; make arrays of long "
            f"lists of Python scalars"
        )


def _write_npz(file: BinaryIO, header: str, arrays: dict[str, np.ndarray]) -> None:
    import zipfile  # here, because `import npdl` would take noticeably longer with it

    _check_length(len(header))
    _check_members(sum(len(path.encode()) + 100 for path in arrays))
    with zipfile.ZipFile(file, "w") as archive:
        # Without the date of today, so that equal trees make equal files.
        archive.writestr(zipfile.ZipInfo(_HEADER), header)
        for path, array in arrays.items():
            with archive.open(f"{path}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
        archive.comment = _list_sum(archive)


def _list_sum(archive: "zipfile.ZipFile") -> bytes:
    """Return a checksum of the members' names and checksums, so that none can be of another file.

    A zip protects the bytes of each member, but not which member they belong to.
    """
    listed = [[member.filename, member.CRC] for member in archive.infolist()]
    return f"npdl {_sum(json.dumps(listed).encode())}".encode()


@contextlib.contextmanager
def _open_npz(path: Path, file: BinaryIO) -> Iterator[Container]:
    import zipfile

    _check_members(_size_of_list(file))
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, os.fstat(file.fileno()).st_size)
        header = members.pop(_HEADER, None)
        if header is not None and archive.comment != _list_sum(archive):
            raise ValueError("the checksum of the list of members is another")
        _check_length(header.file_size if header else 0)

        def read(path: str) -> np.ndarray:
            with archive.open(members[f"{path}.npy"]) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                # zipfile compares the checksum where a member ends, so read on to the end.
                if member.read(1):
                    raise ValueError(f"the member {path!r} is longer than its array")
            return array

        kinds = {name.removesuffix(".npy"): _npy_kind(archive, name) for name in members}
        yield Container(None if header is None else archive.read(header).decode(), kinds, read)


def _check_members(size: int) -> None:
    if size > _MEMBERS_LIMIT:
        raise ValueError(
            f"the list of arrays takes {size} bytes, more than {_MEMBERS_LIMIT}; join small arrays"
        )


def _size_of_list(file: BinaryIO) -> int:
    """Return how long the list of members is, of each of which zipfile makes a large object."""
    file.seek(max(file.seek(0, os.SEEK_END) - (1 << 17), 0))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise ValueError("there is no list of members, as at the end of each .npz")
    (size,) = struct.unpack_from("<L", tail, end + 12)
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":  # of more than 4 GB
        (size,) = struct.unpack_from("<Q", tail, end - 36)
    return int(size)


def _members(archive: "zipfile.ZipFile", size: int) -> "dict[str, zipfile.ZipInfo]":
    """Return the members by name, each of which is as long as it says."""
    import zipfile

    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        if name in members:
            raise ValueError(f"two members have the name {name!r}")
        if name != _HEADER and not name.endswith(".npy"):
            raise ValueError(f"the member {name!r} is not an array")
        # A few compressed bytes can swell to any size.
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"the member {name!r} is compressed; save and np.savez never do so")
        if member.header_offset + member.file_size > size:
            raise ValueError(f"the member {name!r} declares more bytes than the file has")
        members[name] = member
    return members


def _npy_kind(archive: "zipfile.ZipFile", name: str) -> Kind:
    """Read no more of an array than its header."""
    with archive.open(name) as member:
        if (version := np.lib.format.read_magic(member)) != (1, 0):
            raise ValueError(f"the member {name!r} has version {version} of the npy format")
        try:
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        except MemoryError as error:  # of the parser, over nested brackets
            raise ValueError(f"the member {name!r} has a header nested too deep") from error
    return dtype.name, shape


# Integers of 8 to 64 bits, truth values and floats; other libraries read no others.
_SAFETENSORS = {"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"}
_SAFETENSORS |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_SAFETENSORS |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}


def _write_safetensors(file: BinaryIO, header: str, arrays: dict[str, np.ndarray]) -> None:
    library = _library()
    for path, array in arrays.items():
        if array.dtype.name not in _SAFETENSORS.values():
            raise TypeError(f"a .safetensors file cannot hold {array.dtype} ({path}); use .npz")
        if path == "__metadata__":
            raise ValueError(f"a .safetensors file cannot hold the path {path!r}; rename the key")
    little = {path: array.astype(_little(array), copy=False) for path, array in arrays.items()}
    sums = json.dumps({path: _sum(array) for path, array in little.items()})
    metadata = {"npdl": header, "sums": sums, "sum": _sum((header + sums).encode())}
    data = library.numpy.save(little, metadata)
    _check_length(*struct.unpack_from("<Q", data))
    file.write(data)


@contextlib.contextmanager
def _open_safetensors(path: Path, file: BinaryIO) -> Iterator[Container]:
    library = _library()
    (length,) = struct.unpack("<Q", file.read(8))
    _check_length(length)
    with library.safe_open(path, framework="numpy") as tensors:
        metadata = tensors.metadata() or {}
        header, sums = metadata.get("npdl"), metadata.get("sums", "{}")
        if header is not None and metadata.get("sum") != _sum((header + sums).encode()):
            raise ValueError("the checksum of the header is another")
        expected = json.loads(sums)

        def read(path: str) -> np.ndarray:
            array = np.array(tensors.get_tensor(path))
            little = array.astype(_little(array), copy=False)
            if header is not None and _sum(little) != expected[path]:
                raise ValueError(f"the checksum of {path!r} is another")
            return array

        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        kinds: dict[str, Kind] = {
            name: (_SAFETENSORS.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape()))
            for name, part in slices.items()
        }
        yield Container(header, kinds, read)


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "files that end in .safetensors need the library of that name: "
            "pip install 'npdl-functional[safetensors]'"
        ) from error
    return safetensors


def _little(array: np.ndarray) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _sum(data: bytes | np.ndarray) -> str:
    """Return a checksum, which this format lacks and `.npz` has."""
    return f"{zlib.crc32(data.tobytes() if isinstance(data, np.ndarray) else data):08x}"


_FORMATS = {
    ".npz": Format(_write_npz, _open_npz),
    ".safetensors": Format(_write_safetensors, _open_safetensors),
}
