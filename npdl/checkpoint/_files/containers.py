"""Checkpoint files: a header and named arrays, in an `.npz` or a `.safetensors` file.

An opened container has the header and the type and shape of every array; arrays are read on
demand. So an unexpected file costs no memory. A damaged file raises. No code in it is executed.
"""

import contextlib
import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs
import numpy as np

from npdl.checkpoint._files.limits import (
    CheckpointError,
    Container,
    Kind,
    check_length,
    check_names,
    damage,
)
from npdl.checkpoint._files.safetensors import open_safetensors, write_safetensors

if TYPE_CHECKING:
    import zipfile

__all__ = ["container_format", "opened"]


@attrs.frozen(eq=False, repr=False)
class Format:
    """The functions that write and open the files of one suffix."""

    write: Callable[[BinaryIO, str, dict[str, np.ndarray]], None]
    open: Callable[[Path, BinaryIO], AbstractContextManager[Container]]


def container_format(path: str | os.PathLike[str]) -> Format:
    """Return the format for the suffix of a path.

    Raises
    ------
    ValueError
        If the suffix is unknown.
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
    """Open a file; errors of NumPy or zipfile become a CheckpointError."""
    opener = container_format(path).open
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Path(path).open("rb"))
        with damage(path):
            container = stack.enter_context(opener(Path(path), file))

        def read(name: str) -> np.ndarray:
            with damage(path):
                return container.read(name)

        yield attrs.evolve(container, read=read)


_HEADER = "npdl.json"


def _write_npz(file: BinaryIO, header: str, arrays: dict[str, np.ndarray]) -> None:
    import zipfile  # imported late, because it makes `import npdl` noticeably slower

    check_length(len(header))
    check_names(arrays)
    archive = zipfile.ZipFile(file, "w")
    try:
        # A fixed date, so that equal trees give equal files.
        archive.writestr(zipfile.ZipInfo(_HEADER), header)
        for path, array in arrays.items():
            with archive.open(f"{path}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
        archive.comment = _list_sum(archive)
        archive.close()
    except BaseException:
        # Discard the incomplete archive. Closing it with an open member would raise another error
        # and hide a KeyboardInterrupt.
        archive.fp = None
        raise


def _list_sum(archive: "zipfile.ZipFile") -> bytes:
    """Return a checksum of the members' names and checksums.

    A zip file has a checksum for the bytes of each member, but none for their order and names.
    """
    listed = [[member.filename, member.CRC] for member in archive.infolist()]
    return f"npdl {zlib.crc32(json.dumps(listed).encode()):08x}".encode()


@contextlib.contextmanager
def _open_npz(path: Path, file: BinaryIO) -> Iterator[Container]:
    import zipfile

    check_names((), _size_of_list(file))
    with zipfile.ZipFile(file) as archive:
        members = _members(path, archive, os.fstat(file.fileno()).st_size)
        header = members.pop(_HEADER, None)
        if header is not None and archive.comment != _list_sum(archive):
            raise ValueError("the checksum of the list of members is wrong")
        check_length(header.file_size if header else 0)
        kinds: dict[str, Kind] = {}
        short: set[str] = set()
        for name, member in members.items():
            path_in = name.removesuffix(".npy")
            kinds[path_in], size = _npy_kind(name, _head(archive, file, member))
            if size > member.file_size:
                short.add(path_in)

        def read(path: str) -> np.ndarray:
            if path in short:
                raise ValueError(f"the member {path!r} is shorter than its header declares")
            with archive.open(members[f"{path}.npy"]) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                # zipfile compares the checksum at the end of a member, so read to the end.
                if member.read(1):
                    raise ValueError(f"the member {path!r} is longer than its array")
            return array

        # The header is ASCII, so the string takes no more memory than the bytes.
        text = None if header is None else archive.read(header).decode("ascii")
        yield Container(text, kinds, read, frozenset(short))


def _size_of_list(file: BinaryIO) -> int:
    """Return the size in bytes of the list of members; zipfile builds a large object for each."""
    file.seek(max(file.seek(0, os.SEEK_END) - (1 << 17), 0))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise ValueError("the list of members at the end of an .npz file is missing")
    (size,) = struct.unpack_from("<L", tail, end + 12)
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":  # an archive over 4 GB
        (size,) = struct.unpack_from("<Q", tail, end - 36)
    return int(size)


def _members(path: Path, archive: "zipfile.ZipFile", size: int) -> "dict[str, zipfile.ZipInfo]":
    """Return the members by name, or raise if they overlap or declare impossible sizes."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        if name in members:
            raise ValueError(f"two members have the name {name!r}")
        if name != _HEADER and not name.endswith(".npy"):
            raise ValueError(f"the member {name!r} is not an array")
        members[name] = member
    check_names(members)
    for member in members.values():
        _check_sizes(path, member, size, _HEADER in members)
    end, last = 0, ""
    for member in sorted(members.values(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise ValueError(f"the members {last!r} and {member.filename!r} overlap")
        end, last = member.header_offset + 30 + member.compress_size, member.filename
    return members


# The largest factor by which deflate expands its input.
_DEFLATE = 1032


def _check_sizes(path: Path, member: "zipfile.ZipInfo", size: int, written_by_npdl: bool) -> None:
    """Raise unless a file of this size can hold a member."""
    import zipfile

    name, stored = member.filename, member.compress_size
    if member.compress_type == zipfile.ZIP_DEFLATED and not written_by_npdl:
        least = member.file_size // _DEFLATE
    elif member.compress_type == zipfile.ZIP_STORED and stored == member.file_size:
        least = stored
    else:
        raise CheckpointError(
            f"{path}: the member {name!r} is compressed; npdl.checkpoint.save never compresses, "
            f"and of other files, only those of np.savez_compressed are read. Write the file again "
            f"with np.savez(other, **np.load({path.name!r}))"
        )
    if stored < least or member.header_offset + stored > size:
        raise ValueError(f"the member {name!r} declares more bytes than the file has")


# The entries of an npy header, in any order. (A trailing L of Python 2 is refused.)
_ITEM = (
    rb"""['"](?:descr['"]\s*:\s*['"]([^'"]*)['"]|fortran_order['"]\s*:\s*(?:True|False)"""
    rb"""|shape['"]\s*:\s*\(([\d\s,]*)\))\s*"""
)
_NPY = re.compile(rb"\{\s*" + rb",\s*".join([_ITEM] * 3) + rb",?\s*\}\s*")
_DESCR = re.compile(rb"[<>|=]?[biufcSUVOmM]\d{0,12}(\[\w*\])?")
_NPY_LIMIT, _EXTRA_LIMIT = 1024, 64


def _head(archive: "zipfile.ZipFile", file: BinaryIO, member: "zipfile.ZipInfo") -> bytes:
    """Return the first bytes of a member, as many as an npy header may have."""
    length = min(member.file_size, 10 + _NPY_LIMIT)
    file.seek(member.header_offset)
    name_length, extra = struct.unpack_from("<HH", file.read(30), 26)
    if extra > _EXTRA_LIMIT:
        raise ValueError(f"the member {member.filename!r} has an extra field of {extra} bytes")
    if member.compress_type:
        with archive.open(member) as expanded:
            return expanded.read(length)
    file.seek(member.header_offset + 30 + name_length + extra)
    return file.read(length)


def _npy_kind(name: str, head: bytes) -> tuple[Kind, int]:
    """Return the kind of an array and its size in bytes; only its header is read."""
    magic = head[:10]
    if magic[:6] != b"\x93NUMPY":
        raise ValueError(f"the member {name!r} is not in the npy format")
    if magic[6:8] != b"\x01\x00":
        raise ValueError(f"the member {name!r} has version {tuple(magic[6:8])} of the npy format")
    (length,) = struct.unpack_from("<H", magic, 8)
    if length > _NPY_LIMIT:
        raise ValueError(f"the member {name!r} has an npy header of {length} bytes")
    text = head[10 : 10 + length]
    if b"'descr': [" in text:
        return ("void", ()), 0  # a structured type, which no checkpoint has
    found = _NPY.fullmatch(text)
    groups = [group for group in found.groups() if group is not None] if found else []
    if len(groups) != 2:
        raise ValueError(f"the member {name!r} has the npy header {text!r:.80}")
    descr, sizes = groups if _DESCR.fullmatch(groups[0]) else groups[::-1]
    if not _DESCR.fullmatch(descr):
        raise ValueError(f"the member {name!r} has the npy header {text!r:.80}")
    dtype, shape = (
        np.dtype(descr.decode()),
        tuple(int(size) for size in sizes.split(b",") if size.strip()),
    )
    count = 1
    for length in shape:
        count *= length
    return (dtype.name, shape), count * dtype.itemsize


_FORMATS = {
    ".npz": Format(_write_npz, _open_npz),
    ".safetensors": Format(write_safetensors, open_safetensors),
}
