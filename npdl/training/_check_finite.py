"""Finds the first number that is not finite, and names its layer and array."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import tree
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._rebuilt import changed, rebuilt
from npdl.random import Key

__all__ = ["checking_gradients", "checking_updates"]


def checking_gradients(gradient: Callable[..., Any], model: Layer, loss: Any) -> Callable[..., Any]:
    """Return a value-and-gradient function that raises unless both are finite.

    Raises
    ------
    FloatingPointError
        If a number is not finite. The error names the first such array: of the batch, of the
        parameters, of the outputs or gradients of a layer, or the loss.
    """

    def checked(params: Params, *batch: Any, train: bool, rng: Key) -> Any:
        # The error below names the array; NumPy's warning would come first, without the name.
        with np.errstate(all="ignore"):
            result = gradient(params, *batch, train=train, rng=rng)
        value, grads, _ = result
        if not (np.isfinite(value) and all(np.isfinite(g).all() for g in tree.leaves(grads))):
            _search(model, loss, params, batch, rng)
        return result

    return checked


def checking_updates(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that raises if its update computes a number that is not finite.

    This can happen with finite gradients: by a large learning rate, or by the square of 1e21 in
    float32.

    Raises
    ------
    FloatingPointError
        If a number is not finite. The error names the step, and the first such array of the
        parameters or of the optimizer's state.
    """

    @functools.wraps(step)
    def checked(state: Any, batch: Any, size: int | None = None) -> Any:
        number = state.step
        with np.errstate(all="ignore"):
            result = step(state, batch, size)
        try:
            _check("the parameters", result[0].params)
            _check("the state of the optimizer", result[0].opt_state)
        except FloatingPointError as error:
            error.add_note(f"after the update of step {number}, before use in step {number + 1}")
            raise
        return result

    return checked


def _search(model: Layer, loss: Any, params: Params, batch: Any, rng: Key) -> None:
    x, *targets = batch
    _check("the input", x)
    _check("the targets", tuple(targets))
    _check("the parameters", params)
    watched = _watched(model)
    with np.errstate(all="ignore"):
        outputs, cache = watched.apply(params, x, train=True, rng=rng)
        value, g = loss(outputs, *targets)
        _check("the loss", value)
        _check("the gradient of the loss", g)
        watched.backward(params, cache, g)
    raise FloatingPointError("the loss or a gradient is not finite")


def _watched(model: Layer) -> Layer:
    """Return the same model with layers that check their results."""
    if model.parts is not None:
        return rebuilt(model, _watched)

    def apply(params: Params, x: Any, *, train: bool, rng: Any) -> tuple[Any, Any]:
        y, cache = model.apply(params, x, train=train, rng=rng)
        _check("the output", y)
        return y, cache

    def backward(params: Params, cache: Any, g: Any, *, input_grad: bool) -> tuple[Any, Any]:
        grads, dx = model.backward(params, cache, g, input_grad=input_grad)
        _check("the gradient of the parameters", grads)
        _check("the gradient of the input", dx)
        return grads, dx

    return changed(model, apply=apply, backward=backward)


def _check(what: str, values: Any) -> None:
    for path, array in tree.items(values):
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            name = f" {path}" if path else ""
            first = tuple(int(i) for i in wrong[0])
            raise FloatingPointError(
                f"{what}{name} is not finite: {len(wrong)} of {np.size(array)} numbers, the "
                f"first is {np.asarray(array)[first]} at index {first}"
            )
