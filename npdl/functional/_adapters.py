"""Modes of a layer's functions: adapters for functions that lack an argument.

A layer takes only the arguments that change its computation. The adapters accept all of them.
"""

import inspect
from collections.abc import Callable
from typing import Any

from npdl import random
from npdl.functional._checks import check_mode
from npdl.tree import Tree

__all__ = ["with_input_grad", "with_mode"]

Function = Callable[..., Any]


def with_mode(apply: Function) -> Function:
    """Return `apply` with the arguments `train`, `rng` and `keep_cache`, even if it lacks them."""
    takes_train, takes_rng = _takes(apply, "train"), _takes(apply, "rng")
    takes_keep_cache = "keep_cache" in inspect.signature(apply).parameters
    if takes_train and takes_rng and takes_keep_cache:
        return apply

    def applied(
        params: Tree,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        if takes_train and takes_rng:  # such a layer checks its mode
            return apply(params, x, train=train, rng=rng)  # type: ignore[no-any-return]
        if train is not True and (train is not False or rng is not None):
            check_mode(train, rng)
        mode: dict[str, Any] = {"train": train} if takes_train else {}
        if takes_rng:
            mode["rng"] = rng
        if takes_keep_cache:
            mode["keep_cache"] = keep_cache
        return apply(params, x, **mode)  # type: ignore[no-any-return]

    if not (takes_train or takes_rng or takes_keep_cache):
        applied.plain = apply  # type: ignore[attr-defined]
    return applied


def with_input_grad(backward: Function) -> Function:
    """Return `backward` with the argument `input_grad`, even if it lacks it."""
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
