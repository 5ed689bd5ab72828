"""The codec of configurations: constructor calls with their arguments as JSON values, and back.

The call of a function, such as a layer of `npdl.functional`, has the function's name and its
arguments; an instance of a class, such as a layer of `npdl.compat`, has them at the top level:

>>> import npdl
>>> import npdl.functional as F
>>> F.dense(3).config()
{'call': 'dense', 'arguments': {'units': 3}}
>>> npdl.layers.Dense(3, activation="relu").to_json()
{'class': 'layers.Dense', 'n_out': 3, 'activation': 'relu'}

A tuple is a JSON list; other containers and arrays are dicts with a key of their type.
"""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "Functions",
    "decode",
    "encode",
    "encode_call",
    "encode_instance",
    "not_too_deep",
]

Functions: TypeAlias = Mapping[str, Callable[..., Any]]
"""The constructors that a configuration may call, by name."""


def encode_call(
    name: str, positional: tuple[Any, ...], keywords: Mapping[str, Any], where: str = ""
) -> dict[str, Any]:
    """Return the configuration of the call of a function."""
    inside = f"{where}, {name}" if where else name
    arguments = {key: encode(item, inside) for key, item in keywords.items()}
    return {
        "call": name,
        **({"positional": [encode(item, inside) for item in positional]} if positional else {}),
        **({"arguments": arguments} if arguments else {}),
    }


def encode_instance(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an instance of a class."""
    return {"class": name, **{key: encode(item, name) for key, item in arguments.items()}}


def encode(value: Any, where: str) -> Any:
    """Return an argument as JSON values.

    Parameters
    ----------
    value : object
        An array, a tuple, a list, a dict, a number, a boolean, a string, `None`, or a value with a
        method ``_configuration(where)``, which may return `None`.
    where : str
        The constructors that have the value as an argument, for errors.

    Raises
    ------
    TypeError
        If a value is something else, such as a function.
    """
    configuration = getattr(type(value), "_configuration", None)
    if configuration is not None and (config := configuration(value, where)) is not None:
        return config
    if isinstance(value, tuple):
        return [encode(item, where) for item in value]
    if isinstance(value, list):
        return {"list": [encode(item, where) for item in value]}
    if isinstance(value, dict):
        return {"items": [[encode(k, where), encode(v, where)] for k, v in value.items()]}
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return {"array": value.tolist(), "dtype": value.dtype.str}
    scalar = value.item() if isinstance(value, np.generic) else value
    if scalar is None or isinstance(scalar, bool | int | float | str):
        return scalar
    hint = ""
    if inspect.isroutine(value):
        hint = "; return its result from your own constructor, decorated with @layer"
    raise TypeError(f"{where} has an argument that JSON cannot store: {value!r}{hint}")


def decode(
    value: Any, functions: Functions, instance: Callable[[Mapping[str, Any]], Any] | None = None
) -> Any:
    """Return the value of :func:`encode`'s result.

    Parameters
    ----------
    value : object
        JSON values.
    functions : dict of callables
        The functions that the configuration may call, by name.
    instance : callable, optional
        Returns the instance for a configuration with a class, or raises.

    Raises
    ------
    ValueError
        If :func:`encode` does not write this, or a constructor is not among the known ones.
    """
    inner = functools.partial(decode, functions=functions, instance=instance)
    if isinstance(value, list):
        return tuple([inner(item) for item in value])
    if not isinstance(value, Mapping):
        return value
    if value.keys() == {"list"} and isinstance(value["list"], list):
        return [inner(item) for item in value["list"]]
    if value.keys() == {"items"}:
        return _decode_items(value["items"], inner)
    if value.keys() == {"array", "dtype"}:
        return _decode_array(value["array"], value["dtype"])
    if instance is not None and "class" in value:
        return instance(value)
    return _decode_call(value, functions, inner)


def _decode_call(value: Any, functions: Functions, inner: Callable[[Any], Any]) -> Any:
    """Call a function of a configuration."""
    unknown = sorted(map(str, value.keys() - {"call", "positional", "arguments"}))
    if unknown or "call" not in value:
        raise ValueError(
            f"not a configuration of npdl: expected the keys 'call', 'positional' and 'arguments', "
            f"or 'class' in from_json, got {sorted(map(str, value))}"
        )
    name = value["call"]
    if not isinstance(name, str) or name not in functions:
        raise ValueError(
            f"unknown constructor {name!r} in the configuration; "
            f"npdl.functional.from_config(config, constructors=[...]) and "
            f"Model.load(path, constructors=[...]) accept your own ones, such as {name!r}. Known "
            f"are: {', '.join(sorted(functions))}"
        )
    positional, arguments = value.get("positional", []), value.get("arguments", {})
    if not isinstance(positional, list | tuple) or not isinstance(arguments, dict):
        raise ValueError(
            f"{name}: expected a list of positional arguments and a dict of the others in the "
            f"configuration, got {positional!r:.40} and {arguments!r:.40}"
        )
    args = [inner(item) for item in positional]
    keywords = {key: inner(item) for key, item in arguments.items()}
    try:
        return functions[name](*args, **keywords)
    except (TypeError, ValueError, MemoryError, RecursionError):
        raise
    except Exception as error:
        raise ValueError(
            f"{name} does not take the arguments of the configuration "
            f"({type(error).__name__}: {error})"
        ) from error


@contextlib.contextmanager
def not_too_deep(callee: str) -> Iterator[None]:
    """Turn a RecursionError into a ValueError that names the cause."""
    try:
        yield
    except RecursionError:
        raise ValueError(
            f"{callee}: the configuration is nested too deep for Python; use one serial for layers "
            f"in sequence"
        ) from None


def _decode_items(pairs: Any, inner: Callable[[Any], Any]) -> dict[Any, Any]:
    """Return a dict from the list of its items."""
    are_pairs = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    )
    if not are_pairs:
        raise ValueError(
            f"expected a list of keys and values in the configuration, got {pairs!r:.60}"
        )
    found = [(inner(key), inner(value)) for key, value in pairs]
    try:
        return dict(found)
    except TypeError as error:  # of a key that is a dict
        raise ValueError(f"a key in the configuration is not valid ({error})") from error


def _decode_array(values: Any, dtype: Any) -> np.ndarray:
    """Return an array of one of the types that :func:`encode` writes."""
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError(
            f"the configuration has an array of the type {dtype!r:.40}; expected one of ints, "
            f"floats or booleans, as in '<f4'"
        )
    try:
        found = np.array(values)
        if found.dtype.kind not in "fiub" or not isinstance(values, list | int | float):
            raise ValueError(f"the values are of the type {found.dtype}")
        return np.array(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the configuration has an array that is not valid ({error})") from error


# Integers of 8 to 64 bits, floats and booleans, in any byte order.
_DTYPE = re.compile(r"[<>|]([iu][1248]|f(2|4|8|12|16)|b1)")
