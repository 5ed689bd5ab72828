"""The JSON of recorded values: a call of a constructor, with its arguments, in both directions."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["decode", "encode"]


def encode(value: Any, where: str, call_of: Callable[[Any], Any]) -> Any:
    """Return a value as JSON values.

    Parameters
    ----------
    value : object
        A recorded value, an array, a tuple, a dict, a number, a boolean, a string or `None`.
    where : str
        The constructor that has the value as an argument, for errors.
    call_of : callable
        Returns the call of a recorded value, and `None` for other values.

    Raises
    ------
    TypeError
        If a value is something else, such as a function.
    """
    if (call := call_of(value)) is not None:
        inside = f"{where}, {call.name}"
        arguments = {key: encode(item, inside, call_of) for key, item in call.keywords.items()}
        positional = [encode(item, inside, call_of) for item in call.positional]
        return {
            "call": call.name,
            **({"positional": positional} if positional else {}),
            **({"arguments": arguments} if arguments else {}),
        }
    if isinstance(value, tuple):
        return [encode(item, where, call_of) for item in value]
    if isinstance(value, dict):
        return {
            "items": [
                [encode(k, where, call_of), encode(v, where, call_of)] for k, v in value.items()
            ]
        }
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    hint = ""
    if inspect.isroutine(value):
        hint = "; return its result from your own constructor, decorated with @layer"
    raise TypeError(f"{where} has an argument that JSON cannot store: {value!r}{hint}")


def decode(value: Any, known: dict[str, Callable[..., Any]]) -> Any:
    """Return the value of :func:`encode`'s result, with calls of the known constructors.

    Raises
    ------
    ValueError
        If :func:`encode` does not write this, or the constructor is not among the known ones.
    """
    if isinstance(value, list):
        return tuple([decode(item, known) for item in value])
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
    args = [decode(item, known) for item in positional]
    keywords = {key: decode(item, known) for key, item in arguments.items()}
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
    found = [(decode(key, known), decode(value, known)) for key, value in pairs]
    try:
        return dict(found)
    except TypeError as error:  # of a key that is a dict
        raise ValueError(f"a key in the configuration is none ({error})") from error


def _decode_array(values: Any, dtype: Any) -> np.ndarray:
    """Return an array of one of the types that :func:`encode` writes."""
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
