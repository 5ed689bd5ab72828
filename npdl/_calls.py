"""Errors of wrong calls, with the right call.

Options of constructors are keyword-only. So the argument order of another library cannot silently
have another meaning. The error of a wrong call shows the call that was probably intended.
"""

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from npdl._other_libraries import ORDERS, REASONS, SIZE, WORDS

__all__ = ["explained", "shown", "signature_of"]

P = ParamSpec("P")
R = TypeVar("R")

# Signatures are computed on demand, because they would double the time of the import.
signature_of = functools.cache(inspect.signature)


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Add the right call to the errors of calls with wrong arguments or with data.

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
    """Return a value as written in a call; of an array, only its type and shape."""
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
    """Return an error with a longer message, or `None` if the call itself was right."""
    signature, name = signature_of(function), function.__name__
    try:
        signature.bind(*args, **kwargs)
        fits = True
    except TypeError:
        fits = False
    data = any(map(_is_data, (*args, *kwargs.values())))
    data = data or (bool(args) and _is_list_of_numbers(args[0], fits))
    if fits:
        # No constructor of npdl takes data, but a user's constructor may.
        if not data or not function.__module__.startswith("npdl."):
            return None
        # The error may come from an inner constructor, with its own usage in the message.
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
    """Whether a value is an array of any library, or contains one."""
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
    """Return a sentence about the type of a constructor's result and its use."""
    parameters = signature.parameters.values()
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = ["…"] if several else [p.name for p in parameters if p.default is p.empty]
    call = f"{function.__name__}({', '.join(needed)})"
    returned = signature.return_annotation
    kind = "Layer" if returned is signature.empty else getattr(returned, "__name__", "")
    return _USES.get(kind, "{call} returns a function, which takes data: {call}(…)").format(
        call=call
    )


def _hints(
    function: Callable[..., Any],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[str]:
    """Return the calls that were probably intended, each with its reason."""
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
    reasons += ["an activation is a separate layer"] if activation else []
    by_name = _split(dict(zip(names, args, strict=False)) | named, names[:limit])
    if variadic:
        by_name = args, named
    intended: list[tuple[str, Any]] = []
    if reasons:
        intended = [("; ".join(reasons), by_name)]
    elif len(args) > limit and not variadic:
        if order := ORDERS.get(function.__name__):
            pairs = zip(order, args, strict=False)
            call = {word: value for word, value in pairs if word} | named
            reason = SIZE if "" in order else "npdl has another order of arguments"
            intended.append((reason, _split(call, names[:limit])))
        if limit == 1:
            intended.append(("pass several numbers as one tuple", ((args,), named)))
        if len(args) <= len(names):
            intended.append(("options are keyword-only", by_name))
    hints = []
    for reason, call in intended:
        text = _written(function.__name__, *call)
        text = f"serial({text}, {activation})" if activation else text
        hints += [f"{reason}: {text}"] if not unknown and _works(function, *call) else []
    return hints or reasons


def _without_activation(
    args: tuple[Any, ...], kwargs: dict[str, Any], names: list[str], limit: int
) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
    """Remove an activation from the arguments, an option of other libraries."""
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
    """Return the call for an activation: a layer, its constructor or its name."""
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
    """Return the options under npdl's names, the reasons for changes, and unknown names."""
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
    """Whether a function accepts a call. Only functions of npdl are called as a test."""
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
    """Return the positional arguments, up to the first missing one, and the keywords."""
    first, rest = [], dict(call)
    for name in positional:
        if name not in rest:
            break
        first.append(rest.pop(name))
    return tuple(first), rest


def _written(name: str, args: Iterable[Any], kwargs: dict[str, Any]) -> str:
    written = [shown(value) for value in args]
    written += [f"{word}={shown(value)}" for word, value in kwargs.items()]
    return f"{name}({', '.join(written)})"


# Usage of the results of constructors.
_USES = {
    "Layer": "{call} is a layer: y = {call}(params, x), or a part of a model: serial(…, {call})",
    "Optimizer": "{call} is an optimizer: state = {call}.init(params)",
}
