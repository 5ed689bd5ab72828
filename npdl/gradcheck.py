"""Check derivatives of layers and losses against central differences.

>>> import npdl.functional as F
>>> from npdl.gradcheck import check_gradients
>>> check_gradients(F.serial(F.dense(4), F.tanh()), (3,))
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.functional._arrays import describe, is_float_array, is_several
from npdl.functional._layer import Layer, Params, Shape
from npdl.tree import Array

__all__ = ["check_gradients", "check_loss"]


def check_gradients(
    layer: Layer,
    shape: Shape,
    *,
    x: Any = None,
    params: Params = None,
    train: bool = False,
    rng: random.KeyLike = 0,
    batch: int = 3,
    directions: int = 2,
    step: float = 1e-6,
    tolerance: float = 1e-6,
) -> None:
    """Compare the gradients of a layer with central differences, in float64.

    The check compares derivatives along random directions d, for each trained array and each input:
    ``(f(p + εd) - f(p - εd)) / 2ε`` against ``⟨backward(g), d⟩``, where ``f = ⟨y, g⟩``. The output
    gradient `g` is random, so errors do not cancel.

    Parameters
    ----------
    layer : Layer
        The layer to check.
    shape : tuple
        The shape of one example; a tuple of shapes for several inputs.
    x : array or tuple of arrays, optional
        The input; by default, normal random numbers. Pass it for inputs that are not floats, such
        as ids or masks.
    params : tree, optional
        The parameters; by default, the initial parameters plus noise, so that none is zero.
    train : bool
        Whether to check in training mode, always with the same key.
    rng : key
        The source of all random numbers of the check.
    batch : int
        Number of examples.
    directions : int
        Number of random directions per array.
    step : float
        The step ε of the differences.
    tolerance : float
        The largest difference, relative to the norm of the gradient or 1.

    Raises
    ------
    AssertionError
        If a gradient is wrong, is missing or has the wrong shape, with its path.

    Examples
    --------
    >>> from npdl.gradcheck import check_gradients
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> def init(rng, shape): return {"a": np.ones(shape, np.float32)}
    >>> def apply(params, x): return params["a"] * x, x
    >>> def wrong(params, x, g): return {"a": np.mean(g * x, axis=0)}, params["a"] * g
    >>> check_gradients(F.Layer(init, apply, wrong), (2,))
    Traceback (most recent call last):
    ...
    AssertionError: the gradient of params a is wrong: ...
    """
    generator = random.generator(random.fold(random.key(rng), "gradcheck"))
    key = random.key(rng) if train else None
    if x is None:
        several = is_several(shape)
        x = tuple(generator.normal(size=(batch, *s)) for s in (shape if several else (shape,)))
        x = x if several else x[0]
    x = tree.astype(x, np.float64)

    def run(params: Params, x: Any) -> tuple[Any, Any]:
        return layer.apply(params, x, train=train, rng=key)

    initial = tree.astype(layer.init(rng, shape) if params is None else params, np.float64)
    y, cache = run(initial, x)
    g = tree.map(lambda part: _like(generator, part), y)
    if params is None:
        trained = tree.aligned(layer.backward(initial, cache, g)[0], initial)
        initial = tree.unflatten(
            initial,
            [
                leaf if grad is None else leaf + 0.1 * generator.normal(size=leaf.shape)
                for leaf, grad in zip(tree.leaves(initial), trained, strict=True)
            ],
        )
        y, cache = run(initial, x)
    grads, dx = layer.backward(initial, cache, g)

    def value(params: Params, x: Any) -> float:
        terms = tree.map(lambda part, weight: np.sum(part * weight), run(params, x)[0], g)
        return float(sum(tree.leaves(terms)))

    checks = [
        ("params", initial, tree.aligned(grads, initial), lambda moved: value(moved, x)),
        ("input", x, tree.aligned(dx, x), lambda moved: value(initial, moved)),
    ]
    for group, point, gradients, function in checks:
        names = tree.paths(point)
        for i, gradient in enumerate(gradients):
            name = f"{group} {names[i]}".strip()
            array = tree.leaves(point)[i]
            if group == "input" and gradient is None and is_float_array(array):
                raise AssertionError(f"the gradient of {name} is missing: backward returned None")
            if gradient is not None:
                for _ in range(directions):
                    direction = generator.normal(size=array.shape)
                    _compare(name, point, i, direction, gradient, function, step, tolerance)


def check_loss(
    loss: Callable[..., tuple[Any, Any]],
    outputs: Any,
    *targets: Any,
    rng: random.KeyLike = 0,
    directions: int = 2,
    step: float = 1e-6,
    tolerance: float = 1e-6,
) -> None:
    """Compare the gradient of a loss with central differences, in float64.

    The check compares derivatives along random directions d, for each output:
    ``(l(y + εd) - l(y - εd)) / 2ε`` against ``⟨g, d⟩``.

    Parameters
    ----------
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient in outputs)``.
    outputs : array or tuple of arrays
        Outputs of a model, not at a corner of the loss.
    *targets : array
        The further arguments of the loss.
    rng : key
        The source of the random directions.
    directions : int
        Number of random directions per output.
    step : float
        The step ε of the differences.
    tolerance : float
        The largest difference, relative to the norm of the gradient or 1.

    Raises
    ------
    AssertionError
        If the loss does not return one number and a gradient like the outputs, or if the gradient
        is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.gradcheck import check_loss
    >>> check_loss(F.huber, np.array([0.3, 2.0]), np.zeros(2))
    >>> def wrong(y, t): return np.mean((y - t) ** 2), y - t
    >>> check_loss(wrong, np.array([0.3, 2.0, 1.0]), np.zeros(3))
    Traceback (most recent call last):
    ...
    AssertionError: the gradient of outputs is wrong: ...
    """
    generator = random.generator(random.fold(random.key(rng), "gradcheck"))
    outputs = tree.astype(outputs, np.float64)
    result = loss(outputs, *targets)
    if not isinstance(result, tuple) or len(result) != 2 or np.shape(result[0]) != ():
        raise AssertionError(
            f"the loss must return one number and the gradient in the outputs, got "
            f"{describe(result)}"
        )
    names = tree.paths(outputs)
    for i, gradient in enumerate(tree.aligned(result[1], outputs)):
        name = f"outputs {names[i]}".strip()
        array = tree.leaves(outputs)[i]
        if gradient is None and is_float_array(array):
            raise AssertionError(f"the gradient of {name} is missing: the loss returned None")
        for _ in range(directions if gradient is not None else 0):
            direction = generator.normal(size=array.shape)
            function = functools.partial(_value, loss, targets)
            _compare(name, outputs, i, direction, gradient, function, step, tolerance, "the loss")


def _value(loss: Callable[..., tuple[Any, Any]], targets: Any, outputs: Any) -> float:
    return float(loss(outputs, *targets)[0])


def _compare(
    name: str,
    point: Any,
    i: int,
    direction: Array,
    gradient: Array,
    function: Any,
    step: float,
    tolerance: float,
    source: str = "backward",
) -> None:
    leaves = tree.leaves(point)
    if np.shape(gradient) != leaves[i].shape:
        raise AssertionError(
            f"the gradient of {name} has shape {np.shape(gradient)}, not {leaves[i].shape}"
        )

    def moved(by: float) -> float:
        changed = [*leaves[:i], leaves[i] + by * direction, *leaves[i + 1 :]]
        return float(function(tree.unflatten(point, changed)))

    numeric = (moved(step) - moved(-step)) / (2 * step)
    analytic = float(np.sum(gradient * direction))
    scale = max(1.0, float(np.linalg.norm(gradient)))
    # In this form, NaN fails too.
    if not abs(numeric - analytic) <= tolerance * scale:
        raise AssertionError(
            f"the gradient of {name} is wrong: along a random direction the derivative is "
            f"{numeric:.9g}, but {source} says {analytic:.9g}"
        )


def _like(generator: np.random.Generator, leaf: Any) -> Array:
    return np.asarray(generator.normal(size=leaf.shape))
