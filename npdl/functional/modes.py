"""Training and evaluation: what the record adds to the functions of a layer.

A layer that needs neither mode nor key is written without them. A layer with running statistics of
its own takes the stored ones below `freeze`, in training too.
"""

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, MethodType, ModuleType
from typing import Any

from npdl import random
from npdl.tree import Tree

__all__ = ["MISSING", "check_mode", "direct", "keep_params", "stored_statistics", "with_input_grad"]
__all__ += ["with_mode"]

Function = Callable[..., Any]

# Stands for an argument that was left out.
MISSING: Any = object()

# Set while a frozen layer is applied: it reaches layers however they are nested.
_stored = ContextVar("stored_statistics", default=False)


@contextmanager
def stored_statistics() -> Iterator[None]:
    """Let layers with running statistics evaluate with the stored ones, in training too."""
    token = _stored.set(True)
    try:
        yield
    finally:
        _stored.reset(token)


def keep_params(params: Tree, cache: Any) -> Tree:
    """Return the parameters as they are: `update_stats` of a layer without running statistics."""
    return params


def check_mode(train: bool, rng: Any) -> None:
    """Raise where a key is given for inference, or something else than a truth value."""
    if train is not True and train is not False:
        raise TypeError(f"train must be True or False, got {train!r}; a key is given as rng=")
    if rng is not None and not train:
        raise ValueError(
            "a key was given, but train=False, and inference uses no randomness: "
            "pass train=True as well, or leave rng out"
        )


def with_mode(apply: Function, update_stats: Function) -> Function:
    """Let `apply` take `train` and `rng`, and statistics of its own be the stored ones.

    Combinators call what :func:`direct` returns of the result, which saves a call.
    """
    if hasattr(apply, "direct"):
        return apply
    takes_train, takes_rng = _takes(apply, "train"), _takes(apply, "rng")
    owns_statistics = update_stats is not keep_params and not _has_statistics(apply, update_stats)

    def applied(
        params: Tree, x: Any = MISSING, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        if x is MISSING:
            raise TypeError(
                "a layer takes params and x, but one argument was given: write "
                "layer(params, x) or layer.apply(params, x), with params = layer.init(rng, shape)"
            )
        if train is not True and (train is not False or rng is not None):
            check_mode(train, rng)
        if owns_statistics and train and _stored.get():
            train, rng = False, None
        if takes_train:
            if takes_rng:
                return apply(params, x, train=train, rng=rng)  # type: ignore[no-any-return]
            return apply(params, x, train=train)  # type: ignore[no-any-return]
        return apply(params, x, rng=rng) if takes_rng else apply(params, x)  # type: ignore[no-any-return]

    plain = not (takes_train or takes_rng)
    complete = takes_train and takes_rng and not owns_statistics
    applied.plain = plain  # type: ignore[attr-defined]
    applied.direct = apply if plain or complete else None  # type: ignore[attr-defined]
    applied.owns_statistics = owns_statistics  # type: ignore[attr-defined]
    return applied


def direct(apply: Function) -> tuple[Function, bool]:
    """Return a function to call instead, and whether it takes parameters and input alone."""
    return getattr(apply, "direct", None) or apply, getattr(apply, "plain", False)


def with_input_grad(backward: Function) -> Function:
    """Let `backward` take `input_grad`, where it does not."""
    if _takes(backward, "input_grad"):
        return backward

    def with_input_grad(
        params: Tree, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Any, Any]:
        grads, dx = backward(params, cache, g)
        return grads, dx if input_grad else None

    return with_input_grad


def _takes(function: Function, name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _has_statistics(*functions: Function) -> bool:
    """Whether functions refer to a layer with running statistics, which then has the mode.

    Else the statistics are those of the functions themselves.
    """
    waiting: list[Any] = list(functions)
    seen: dict[int, Any] = {}
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if getattr(item, "owns_statistics", False):
            return True
        waiting += _referred(item)
    return False


def _referred(item: Any) -> list[Any]:
    """Return the objects that a function, a layer or a container refers to."""
    if isinstance(item, tuple | list):
        return list(item)
    if isinstance(item, dict):
        return list(item.values())
    if hasattr(item, "update_stats"):
        return [item.apply, item.update_stats]
    if isinstance(item, MethodType):
        return [item.__func__, item.__self__]
    if isinstance(item, functools.partial):
        return [item.func, *item.args, *item.keywords.values()]
    if not isinstance(item, FunctionType):
        # An object that keeps layers, or a cached function.
        is_object = not isinstance(item, type | ModuleType)
        return list(getattr(item, "__dict__", {}).values()) if is_object else []
    cells = [cell.cell_contents for cell in item.__closure__ or () if _is_filled(cell)]
    names = {step.argval for step in dis.get_instructions(item) if step.opname == "LOAD_GLOBAL"}
    shared = [item.__globals__[name] for name in names if name in item.__globals__]
    return [
        *cells,
        *(item.__defaults__ or ()),
        *(value for value in shared if hasattr(value, "update_stats")),
    ]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
