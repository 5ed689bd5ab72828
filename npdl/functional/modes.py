"""Training and evaluation: adapters that the record puts around the functions of a layer.

A layer that needs neither mode nor key is written without them. A layer with running statistics of
its own evaluates inside `freeze`, in training too.
"""

import dis
import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from npdl import random
from npdl.tree import Tree

__all__ = ["MISSING", "check_mode", "direct", "keep_params", "stored_statistics", "with_input_grad"]
__all__ += ["with_mode"]

Function = Callable[..., Any]

# The default of an argument that is required.
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
    """Raise if a key is given for inference, or if `train` is not a boolean."""
    if train is not True and train is not False:
        raise TypeError(f"train must be True or False, got {train!r}; a key is given as rng=")
    if rng is not None and not train:
        raise ValueError(
            "a key was given, but train=False, and inference uses no randomness: "
            "pass train=True as well, or leave rng out"
        )


def with_mode(apply: Function, update_stats: Function) -> Function:
    """Return `apply` with the keywords `train` and `rng`.

    A layer with statistics of its own is applied with ``train=False`` inside `freeze`. Combinators
    save a call with :func:`direct`.
    """
    if hasattr(apply, "direct"):
        return apply
    takes_train, takes_rng = _takes(apply, "train"), _takes(apply, "rng")
    owns_statistics = update_stats is not keep_params and not _has_statistics(apply, update_stats)

    def applied(
        params: Tree, x: Any = MISSING, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        if x is MISSING:
            missing = "params are" if isinstance(params, np.ndarray) else "params or x are"
            raise TypeError(
                f"{missing} missing, since a layer takes params and x: call layer(params, x) or "
                f"layer.apply(params, x), with params = layer.init(rng, shape)"
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
    applied.update_stats = update_stats  # type: ignore[attr-defined]
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
    """Whether functions refer to a layer with running statistics.

    If they do not, the statistics are their own.
    """
    waiting: deque[Any] = deque(functions)
    seen: dict[int, Any] = {}
    while waiting:
        item = waiting.popleft()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        # A layer, or the adapted function of one.
        if getattr(item, "update_stats", keep_params) is not keep_params:
            return True
        waiting += _referred(item)
    return False


def _referred(item: Any) -> Iterable[Any]:
    """Return the objects that a function or a container refers to."""
    if isinstance(item, tuple | list):
        return item
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, MethodType):
        return item.__func__, item.__self__
    if isinstance(item, functools.partial):
        return item.func, item.args, item.keywords
    if isinstance(item, FunctionType):
        cells = [cell.cell_contents for cell in item.__closure__ or () if _is_filled(cell)]
        return [*cells, item.__defaults__, item.__kwdefaults__, *_shared_layers(item)]
    # An object that keeps layers, or a cached function.
    is_object = not isinstance(item, type | ModuleType)
    return getattr(item, "__dict__", {}).values() if is_object else ()


def _shared_layers(function: FunctionType) -> list[Any]:
    """Return the global variables that a function reads and that are layers."""
    candidates = {
        name: function.__globals__[name]
        for name in function.__code__.co_names
        if hasattr(function.__globals__.get(name), "update_stats")
    }
    if not candidates:
        return []
    # The names are those of attributes, too.
    read = {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}
    return [value for name, value in candidates.items() if name in read]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
