"""Layers, initializers and schedules from their JSON configurations."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from npdl.functional import _initializers, combinators, layers, optimizers

__all__ = ["from_config"]


def from_config(config: dict[str, Any], constructors: Iterable[Callable[..., Any]] = ()) -> Any:
    """Return the layer, initializer or schedule that `config` describes.

    Parameters
    ----------
    config : dict
        What ``layer.config()`` returned, also after a round through JSON.
    constructors : iterable of functions
        Constructors that do not belong to npdl, such as your own ``@layer`` functions.

    Raises
    ------
    ValueError
        If the configuration names an unknown constructor, has unknown keys or values of another
        form than ``layer.config()`` writes, or is nested too deep. Nothing is imported and nothing
        but npdl's own constructors and the given ones is called.
    TypeError
        If a constructor refuses its arguments.

    Examples
    --------
    >>> import json
    >>> import npdl.functional as F
    >>> text = json.dumps(F.dense(3, bias=False).config())
    >>> F.from_config(json.loads(text))
    dense(units=3, bias=False)
    """
    known = _constructors() | {item.__name__: item for item in constructors}
    if not isinstance(config, dict) or "call" not in config:
        raise ValueError(
            f"not a configuration of npdl: expected the result of layer.config(), which has a "
            f"'call', got {config!r:.80}"
        )
    try:
        return _decode(config, known)
    except RecursionError:
        raise ValueError(
            "the configuration is nested too deep for Python; put layers one after another into "
            "one serial, or call sys.setrecursionlimit"
        ) from None


@functools.cache
def _constructors() -> dict[str, Callable[..., Any]]:
    """Return the public constructors by their names: the only ones that a file can call."""
    faces = (_initializers, combinators, layers, optimizers)
    items = {name: getattr(face, name) for face in faces for name in face.__all__}
    return {name: item for name, item in items.items() if hasattr(item, "is_constructor")}


def _decode(value: Any, known: dict[str, Callable[..., Any]]) -> Any:
    if isinstance(value, list):
        return tuple([_decode(item, known) for item in value])
    if not isinstance(value, dict):
        return value
    if value.keys() == {"items"}:
        return _decode_items(value["items"], known)
    if value.keys() == {"array", "dtype"}:
        return _decode_array(value["array"], value["dtype"])
    unknown = sorted(map(str, value.keys() - {"call", "positional", "arguments"}))
    if unknown or "call" not in value:
        raise ValueError(
            f"not a configuration of npdl: expected the keys 'call', 'positional' and 'arguments', "
            f"got {sorted(map(str, value))}"
        )
    name = value["call"]
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"unknown constructor {name!r} in the configuration; pass your own ones to "
            f"from_config(config, constructors=[...]). Known are: {', '.join(sorted(known))}"
        )
    positional, arguments = value.get("positional", []), value.get("arguments", {})
    if not isinstance(positional, list | tuple) or not isinstance(arguments, dict):
        raise ValueError(
            f"{name}: expected a list of positional arguments and a dict of the others in the "
            f"configuration, got {positional!r:.40} and {arguments!r:.40}"
        )
    args = [_decode(item, known) for item in positional]
    keywords = {key: _decode(item, known) for key, item in arguments.items()}
    try:
        return known[name](*args, **keywords)
    except (TypeError, ValueError, MemoryError, RecursionError):
        raise
    except Exception as error:
        raise ValueError(
            f"{name} does not take the arguments of the configuration "
            f"({type(error).__name__}: {error})"
        ) from error


def _decode_items(pairs: Any, known: dict[str, Callable[..., Any]]) -> dict[Any, Any]:
    """Return a dict from the list of its items."""
    are_pairs = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    )
    if not are_pairs:
        raise ValueError(
            f"expected a list of keys and values in the configuration, got {pairs!r:.60}"
        )
    found = [(_decode(key, known), _decode(value, known)) for key, value in pairs]
    try:
        return dict(found)
    except TypeError as error:  # of a key that is a dict
        raise ValueError(f"a key in the configuration is none ({error})") from error


def _decode_array(values: Any, dtype: Any) -> np.ndarray:
    """Return an array of one of the types that :func:`_encode` writes."""
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError(
            f"the configuration has an array of the type {dtype!r:.40}; expected one of ints, "
            f"floats or truth values, as in '<f4'"
        )
    try:
        found = np.array(values)
        if found.dtype.kind not in "fiub" or not isinstance(values, list | int | float):
            raise ValueError(f"the values are of the type {found.dtype}")
        return np.array(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the configuration has an array that is none ({error})") from error


# Integers of 8 to 64 bits, floats and booleans, in any byte order.
_DTYPE = re.compile(r"[<>|]([iu][1248]|f(2|4|8|12|16)|b1)")
