"""Limits for the header and the list of arrays of a file.

Both are read before the arrays are compared with `like`. So their length and the number of their
Python objects are limited.
"""

import contextlib
import errno
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import attrs
import numpy as np

__all__ = [
    "HEADER_LIMIT",
    "CheckpointError",
    "Container",
    "Kind",
    "VersionError",
    "check_json",
    "check_length",
    "check_names",
    "check_scalars",
    "damage",
    "read_json",
]

Kind: TypeAlias = tuple[str, tuple[int, ...] | None]
"""The type and shape of an array, or the type of a Python scalar and `None`."""

HEADER_LIMIT = 1 << 24
_NAMES_LIMIT = 1 << 22
_BRACKETS_LIMIT = 1 << 18
_VALUES_LIMIT = 1 << 20
_SCALARS_LIMIT = 1 << 16


class CheckpointError(ValueError):
    """The file is damaged, is not a checkpoint, or holds another tree than `like`."""


class VersionError(CheckpointError):
    """The file has a version of the format that this npdl does not read."""


@attrs.frozen(eq=False, repr=False)
class Container:
    """An open file: its header and its arrays.

    The header is `None` if npdl did not write the file. The arrays in `short` have fewer bytes than
    their types and shapes need, and cannot be read.
    """

    header: str | None
    kinds: dict[str, Kind]
    read: Callable[[str], np.ndarray]
    short: frozenset[str] = frozenset()


@contextlib.contextmanager
def damage(path: Any, what: str = "checkpoint") -> Iterator[None]:
    """Turn errors in the contents of a file into a CheckpointError.

    Errors of the system, such as a failing disk or too many open files, propagate unchanged.

    Raises
    ------
    CheckpointError
        With the original error as its cause.
    """
    try:
        yield
    except (CheckpointError, ImportError, MemoryError):
        raise
    except Exception as error:
        # A seek to an invalid offset gives EINVAL, or an OSError without errno.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise CheckpointError(
            f"{path} is damaged, or not a {what} ({type(error).__name__}: {error}); "
            f"restore it from a copy, or load an earlier one"
        ) from error


def read_json(text: str, grown: bool = False) -> Any:
    """Return the value of a JSON string, or raise if the value would take too much memory.

    Raises
    ------
    ValueError
        If the string is not JSON, or :func:`check_json` refuses it.
    """
    check_json(text, grown)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the header is nested too deep") from None


def check_json(text: str, grown: bool = False) -> None:
    """Raise if a JSON string has too many brackets or values.

    Parameters
    ----------
    text : str
        JSON.
    grown : bool
        Whether the string may have any length, with at most one bracket per four characters outside
        its strings; ``json.dumps`` never writes more. The value takes about twenty times as much
        memory.
    """
    limit = _BRACKETS_LIMIT + (len(text) // 4 if grown else 0)
    count = text.count("[") + text.count("{")
    if grown and count > limit:
        count -= _count_in_strings(text, "[{")
    if count > limit:
        raise ValueError(f"the header has {count} brackets, but at most {limit} are allowed")
    if grown or len(text) <= _VALUES_LIMIT:
        return
    count = text.count(",") + text.count(":")
    if count > _VALUES_LIMIT:
        count -= _count_in_strings(text, ",:")
    if count > _VALUES_LIMIT:
        raise ValueError(f"the header has {count} values, but at most {_VALUES_LIMIT} are allowed")


def _count_in_strings(text: str, characters: str) -> int:
    """Return the number of occurrences of some characters inside the strings of a JSON string."""
    strings = _STRING.finditer(text)
    return sum(string[0].count(each) for string in strings for each in characters)


# The possessive quantifiers and the optional end keep the time linear for unterminated strings.
_STRING = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?', re.DOTALL)


def check_length(length: int, is_ascii: bool = True) -> None:
    """Raise if a header is too long."""
    # A single character above U+FFFF makes Python store four bytes per character.
    limit = HEADER_LIMIT if is_ascii else HEADER_LIMIT // 4
    if length > limit:
        raise ValueError(
            f"the header takes {length} bytes, more than {limit}; turn long lists of Python "
            f"scalars into arrays"
        )


def check_scalars(count: int) -> None:
    """Raise if a file has too many scalars; each takes several hundred bytes of memory."""
    if count > _SCALARS_LIMIT:
        raise ValueError(
            f"the tree has {count} Python scalars, more than {_SCALARS_LIMIT}; turn long lists of "
            f"Python scalars into arrays"
        )


def check_names(names: Iterable[str], size: int = 0) -> None:
    """Raise if the list of arrays is too long; libraries build a large object for each entry."""
    size = max(size, sum(len(name.encode()) + 100 for name in names))
    if size > _NAMES_LIMIT:
        raise ValueError(
            f"the list of arrays takes {size} bytes, more than {_NAMES_LIMIT}; join small arrays "
            f"into larger ones"
        )
