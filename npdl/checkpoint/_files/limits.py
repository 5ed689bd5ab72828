"""Limits for the parts of a file that are read before its arrays are compared with `like`.

The caller expects the arrays of a file, but not its header and its list of arrays. These are
bounded by their length and by the number of their Python objects.
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
    "check_json",
    "check_length",
    "check_names",
    "damage",
    "read_json",
]

Kind: TypeAlias = tuple[str, tuple[int, ...] | None]
"""The type and the shape of an array, or the type of a Python scalar and `None`."""

HEADER_LIMIT = 1 << 24
_NAMES_LIMIT = 1 << 22
_BRACKETS_LIMIT = 1 << 18
_VALUES_LIMIT = 1 << 20


class CheckpointError(ValueError):
    """The file is damaged, is not a checkpoint, or holds another tree than `like`."""


@attrs.frozen(eq=False, repr=False)
class Container:
    """An open file: its header, `None` where npdl did not write it, and its arrays.

    Those in `short` have fewer bytes than their kinds need, and cannot be read.
    """

    header: str | None
    kinds: dict[str, Kind]
    read: Callable[[str], np.ndarray]
    short: frozenset[str] = frozenset()


@contextlib.contextmanager
def damage(path: Any, what: str = "checkpoint") -> Iterator[None]:
    """Turn errors over the contents of a file into a CheckpointError.

    Errors of the system, such as a failing disk or too many open files, pass unchanged.

    Raises
    ------
    CheckpointError
        With the error as its cause.
    """
    try:
        yield
    except (CheckpointError, ImportError, MemoryError):
        raise
    except Exception as error:
        # A wrong position in the file gives EINVAL, or no number at all.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise CheckpointError(
            f"{path} is damaged, or is no {what} ({type(error).__name__}: {error}); "
            f"restore it from a copy, or load an earlier one"
        ) from error


def read_json(text: str, grown: bool = False) -> Any:
    """Return the value of a JSON text, or raise if the value would take too much memory.

    Raises
    ------
    ValueError
        If it is not JSON, or :func:`check_json` refuses it.
    """
    check_json(text, grown)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the header is nested too deep") from None


def check_json(text: str, grown: bool = False) -> None:
    """Raise unless a text has so few values that :func:`read_json` reads it.

    Parameters
    ----------
    text : str
        JSON.
    grown : bool
        Whether the text may have any length, with one bracket for four characters at most;
        ``json.dumps`` never writes more. Its value takes some twenty times as much memory.
    """
    limit = _BRACKETS_LIMIT + (len(text) // 4 if grown else 0)
    count = text.count("[") + text.count("{")
    if count > limit:
        raise ValueError(f"the header has {count} brackets, and no more than {limit} may be")
    if grown or len(text) <= _VALUES_LIMIT:
        return
    count = text.count(",") + text.count(":")
    if count > _VALUES_LIMIT:
        count -= sum(part[0].count(",") + part[0].count(":") for part in _STRING.finditer(text))
    if count > _VALUES_LIMIT:
        raise ValueError(f"the header has {count} values, and no more than {_VALUES_LIMIT} may be")


_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def check_length(length: int, is_ascii: bool = True) -> None:
    """Raise if a header is too long."""
    # One character beyond the first 65,536 makes Python take four bytes for each.
    limit = HEADER_LIMIT if is_ascii else HEADER_LIMIT // 4
    if length > limit:
        raise ValueError(
            f"the header takes {length} bytes, more than {limit}; make arrays of long lists of "
            f"Python scalars"
        )


def check_names(names: Iterable[str], size: int = 0) -> None:
    """Raise if the list of arrays is too long; libraries make large objects of each entry."""
    size = max(size, sum(len(name.encode()) + 100 for name in names))
    if size > _NAMES_LIMIT:
        raise ValueError(
            f"the list of arrays takes {size} bytes, more than {_NAMES_LIMIT}; join small arrays"
        )
