"""Errors of calls that a function does not take, with the right call.

Constructors take their options by name, so that the order of arguments of another library does not
silently mean something else. An error then spells the call that was probably meant.
"""

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from npdl._habits import ORDERS, REASONS, SIZE, WORDS

__all__ = ["explained", "shown", "signature_of"]

P = ParamSpec("P")
R = TypeVar("R")

# At import most functions are not called, and a signature takes as long as the rest of them.
signature_of = functools.cache(inspect.signature)


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Let the error of a call that does not fit, or has data in it, say the right call.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.dense(4, 8)
    Traceback (most recent call last):
    TypeError: dense() takes 1 positional argument but 2 were given: dense(4, 8); the call is
    dense(units, *, bias=True, weight_init=glorot_uniform(), bias_init=zeros()); the size of the
    input follows from the data: dense(8)
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            wrong = _explained_error(function, args, kwargs, error)
            if wrong is None:
                raise
        raise wrong

    return call


def shown(value: Any) -> str:
    """Return a value as it is written in a call, and of an array its type and shape alone."""
    if isinstance(value, dict):
        text = f"{{{', '.join(f'{key!r}: {shown(item)}' for key, item in value.items())}}}"
    elif type(value) is list:
        text = f"[{', '.join(map(shown, value))}]"
    elif type(value) is tuple:
        text = f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    elif _is_data(value) and hasattr(value, "dtype") and hasattr(value, "shape"):
        text = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    else:
        text = value.__name__ if inspect.isroutine(value) else " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _explained_error(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> TypeError | None:
    """Return an error with a longer message, where a call was wrong as such."""
    signature, name = signature_of(function), function.__name__
    try:
        signature.bind(*args, **kwargs)
        fits = True
    except TypeError:
        fits = False
    data = any(map(_is_data, (*args, *kwargs.values())))
    data = data or (bool(args) and _is_list_of_numbers(args[0], fits))
    if fits:
        # No function of npdl's own takes data, but one of a user may.
        if not data or not function.__module__.startswith("npdl."):
            return None
        # The error may come from a constructor inside, which has said how that one is used.
        reason = getattr(error, "reason", str(error))
        wrong = TypeError(f"{reason}; {_usage(function, signature)}")
        wrong.reason = reason  # type: ignore[attr-defined]
        return wrong
    parts = [f"{error}: {_written(name, args, kwargs)}"]
    if data or not signature.parameters:
        parts.append(_usage(function, signature))
    else:
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        form = signature.replace(parameters=bare, return_annotation=signature.empty)
        parts.append(f"the call is {name}{form}")
    return TypeError("; ".join(parts + ([] if data else _hints(function, signature, args, kwargs))))


def _is_data(value: Any) -> bool:
    """Whether a value is an array, of any library, or contains one."""
    if isinstance(value, list | tuple | dict):
        return any(map(_is_data, value.values() if isinstance(value, dict) else value))
    return hasattr(value, "__array__") and not isinstance(value, np.generic | type)


def _is_list_of_numbers(value: Any, strict: bool) -> bool:
    """Whether a value is a list of numbers; if strict, of floats or nested."""
    if not isinstance(value, list) or not value:
        return False
    nested = any(isinstance(item, list) for item in value)
    numbers = all(isinstance(item, int | float | np.number | list) for item in value)
    return numbers and (nested or not strict or any(isinstance(item, float) for item in value))


def _usage(function: Callable[..., Any], signature: inspect.Signature) -> str:
    """Return the sentence on the kind of value that a constructor makes, and on its use."""
    parameters = signature.parameters.values()
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = ["…"] if several else [p.name for p in parameters if p.default is p.empty]
    call = f"{function.__name__}({', '.join(needed)})"
    made = signature.return_annotation
    kind = "Layer" if made is signature.empty else getattr(made, "__name__", "")
    return _USES.get(kind, "{call} makes a function, which takes data: {call}(…)").format(call=call)


def _hints(
    function: Callable[..., Any],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[str]:
    """Return the calls that were probably meant, each with its reason."""
    parameters = signature.parameters.values()
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    variadic = len(names) < len(parameters)
    limit = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    if any(p.kind in (p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return []
    args, kwargs, activation = _without_activation(
        args, kwargs, names, len(args) if variadic else limit
    )
    named, reasons, unknown = _renamed(kwargs, names)
    reasons += ["an activation is a layer of its own"] if activation else []
    by_name = _split(dict(zip(names, args, strict=False)) | named, names[:limit])
    if variadic:
        by_name = args, named
    meant: list[tuple[str, Any]] = []
    if reasons:
        meant = [("; ".join(reasons), by_name)]
    elif len(args) > limit and not variadic:
        if order := ORDERS.get(function.__name__):
            pairs = zip(order, args, strict=False)
            call = {word: value for word, value in pairs if word} | named
            reason = SIZE if "" in order else "the order of the arguments is another one here"
            meant.append((reason, _split(call, names[:limit])))
        if limit == 1:
            meant.append(("several numbers are one tuple", ((args,), named)))
        if len(args) <= len(names):
            meant.append(("options go by name", by_name))
    hints = []
    for reason, call in meant:
        text = _written(function.__name__, *call)
        text = f"serial({text}, {activation})" if activation else text
        hints += [f"{reason}: {text}"] if not unknown and _works(function, *call) else []
    return hints or reasons


def _without_activation(
    args: tuple[Any, ...], kwargs: dict[str, Any], names: list[str], limit: int
) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
    """Take an activation out of the arguments, which other layers than npdl's have."""
    if "activation" in names:
        return args, kwargs, None
    for word in ("activation", "nonlinearity"):
        if word in kwargs:
            rest = {name: value for name, value in kwargs.items() if name != word}
            return args, rest, _as_layer(kwargs[word]) or "relu()"
    for i in range(max(limit, 1), len(args)):
        if text := _as_layer(args[i]):
            return (*args[:i], *args[i + 1 :]), kwargs, text
    return args, kwargs, None


def _as_layer(value: Any) -> str | None:
    """Return the call that makes a layer, of the layer, its constructor or its name."""
    if isinstance(value, str):
        value = getattr(sys.modules.get("npdl.functional"), value.lower(), None)
        if ".activations." not in getattr(inspect.unwrap(value or len), "__module__", ""):
            return None
    if not hasattr(value, "is_constructor"):
        return repr(value) if hasattr(value, "apply") and hasattr(value, "backward") else None
    kind = getattr(signature_of(value).return_annotation, "__name__", None)
    return f"{value.__name__}()" if kind == "Layer" else None


def _renamed(
    kwargs: dict[str, Any], names: list[str]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the options under npdl's names, the reasons for changes, and the unknown words."""
    named, reasons, unknown = {}, [], []
    for word, value in kwargs.items():
        near = [name for name in (word, *WORDS.get(word, ())) if name in names]
        if not near and word not in REASONS:
            near = difflib.get_close_matches(word, names, 1)
        if near and near[0] not in named:
            named[near[0]] = value
            reasons += [f"{word} is called {near[0]}"] if near[0] != word else []
        elif word in REASONS:
            reasons.append(REASONS[word])
        else:
            unknown.append(word)
    return named, list(dict.fromkeys(reasons)), unknown


def _works(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function of npdl takes a call; others are not called to find out."""
    try:
        if function.__module__.startswith("npdl."):
            function(*args, **kwargs)
        else:
            signature_of(function).bind(*args, **kwargs)
    except Exception:
        return False
    return True


def _split(
    call: dict[str, Any], positional: Iterable[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments by position, up to the first that is left out, and those by name."""
    first, rest = [], dict(call)
    for name in positional:
        if name not in rest:
            break
        first.append(rest.pop(name))
    return tuple(first), rest


def _written(name: str, args: Iterable[Any], kwargs: dict[str, Any]) -> str:
    given = [shown(value) for value in args]
    given += [f"{word}={shown(value)}" for word, value in kwargs.items()]
    return f"{name}({', '.join(given)})"


# How the values that constructors return are called.
_USES = {
    "Layer": "{call} is a layer: y = {call}(params, x), or a part of a model: serial(…, {call})",
    "Optimizer": "{call} is an optimizer: state = {call}.init(params)",
}
