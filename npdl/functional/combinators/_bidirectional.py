"""Recurrent layers in both directions at once, and one step at a time."""

import inspect
from typing import Any

import numpy as np

from npdl import tree
from npdl._calls import shown
from npdl.functional._checks import refusal
from npdl.functional._layer import (
    Layer,
    Params,
    Shape,
    check_arrays,
    check_mode,
    describe,
    layer,
)
from npdl.functional.combinators._serial import stats_of
from npdl.random import KeyLike, fold

__all__ = ["bidirectional", "one_step"]


@layer
def bidirectional(inner: Layer, *, join: str | None = "concatenate") -> Layer:
    """Run a recurrent layer forward and, with parameters of its own, backward in time.

    ``y = [f(x), r(x)]``, of the inner layer f and the reverse one r; or ``y = f(x) + r(x)``.

    Parameters
    ----------
    inner : Layer
        The forward layer, such as ``lstm(64, return_sequence=True)``; the other one is the same
        call with ``reverse=True``. A layer of your own will do if its constructor has that
        argument.
    join : {"concatenate", "add"} or None
        How the two outputs become one, along the features; with `None` they stay a tuple.

    Returns
    -------
    Layer
        Inputs and outputs are those of `inner`, joined; the last output of a direction is that of
        its own last step. A state is the tuple of both directions' states, and the parameters
        are the tuple of both directions' parameters.

    References
    ----------
    Schuster, Paliwal: Bidirectional recurrent neural networks, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.bidirectional(F.gru(4, return_sequence=True))
    >>> params = model.init(0, (5, 3))
    >>> x, mask = np.ones((2, 5, 3), np.float32), np.ones((2, 5), bool)
    >>> model(params, (x, mask)).shape
    (2, 5, 8)
    """
    if not (join is None or isinstance(join, str)) or join not in ("concatenate", "add", None):
        expected = "'concatenate', 'add' or None"
        raise ValueError(refusal(join, 'bidirectional(lstm(64), join="add")', expected))
    layers = (inner, _again("bidirectional", inner, reverse=True))
    return_state = bool(_arguments(inner).arguments.get("return_state", False))

    def init(rng: KeyLike, shape: Shape) -> Params:
        return tuple(
            child.init(fold(rng, i), part)
            for i, (child, part) in enumerate(zip(layers, _branches(shape), strict=True))
        )

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Any, Any]:
        check_mode(train, rng)
        if not isinstance(params, tuple | list) or len(params) != 2:
            raise ValueError(
                f"bidirectional: expected the tuple of both directions' parameters, as "
                f"init(rng, shape) returns it, got {describe(params)}"
            )
        outputs, caches = [], []
        for i, part in enumerate(_branches(x)):
            child_key = None if rng is None else fold(rng, i)
            y, cache = layers[i].apply(params[i], part, train=train, rng=child_key)
            outputs.append(y)
            caches.append(cache)
        if not return_state:
            return _joined(join, *outputs), caches
        (y, state), (reverse_y, reverse_state) = outputs
        return (_joined(join, y, reverse_y), (state, reverse_state)), caches

    def backward(
        params: Params, caches: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        g, g_state = g if return_state and g is not None else (g, None)
        parts: Any = _split(join, g)
        if return_state:
            parts = zip(parts, (None, None) if g_state is None else g_state, strict=True)
        grads, inputs = [None, None], [None, None]
        for i, part in enumerate(parts):
            if part is not None:
                grads[i], inputs[i] = layers[i].backward(
                    params[i], caches[i], part, input_grad=input_grad
                )
        return tuple(grads), _merged(*inputs)

    def out_shape(shape: Shape) -> Shape:
        shapes = [
            child.out_shape(part) for child, part in zip(layers, _branches(shape), strict=True)
        ]
        if not return_state:
            return _joined_shape(join, *shapes)
        (y, state), (reverse_y, reverse_state) = shapes
        return _joined_shape(join, y, reverse_y), (state, reverse_state)

    def update_stats(params: Params, caches: Any) -> Params:
        if caches is None:
            return params
        return tuple(
            child.update_stats(part, cache)
            for child, part, cache in zip(layers, params, caches, strict=True)
        )

    return Layer(init, apply, backward, out_shape, stats_of(layers, update_stats))


def _branches(x: Any) -> tuple[Any, Any]:
    """Return the inputs, or their shapes, for each direction: they differ in the state."""
    if not isinstance(x, tuple) or len(x) != 3 or x[2] is None or isinstance(x[2], int):
        return x, x
    state = x[2]
    if not isinstance(state, tuple) or len(state) != 2:
        raise ValueError(
            f"bidirectional: the state must be the tuple of both directions' states, got "
            f"{describe(state)}"
        )
    return (*x[:2], state[0]), (*x[:2], state[1])


def _merged(dx: Any, reverse_dx: Any) -> Any:
    """Add up the gradients of what both directions read; each has a state of its own."""
    pair = (dx, reverse_dx)
    if not any(isinstance(part, tuple) and len(part) == 3 for part in pair):
        return tree.add(dx, reverse_dx)
    states = tuple(None if part is None else part[2] for part in pair)
    shared = tree.add(*(None if part is None else part[:2] for part in pair))
    return (*shared, None if all(state is None for state in states) else states)


def _joined(join: str | None, y: Any, reverse_y: Any) -> Any:
    if join is None:
        return y, reverse_y
    return y + reverse_y if join == "add" else np.concatenate((y, reverse_y), axis=-1)


def _joined_shape(join: str | None, shape: Shape, reverse_shape: Shape) -> Shape:
    if join is None:
        return shape, reverse_shape
    return shape if join == "add" else (*shape[:-1], shape[-1] + reverse_shape[-1])


def _split(join: str | None, g: Any) -> tuple[Any, Any]:
    if g is None or join != "concatenate":
        return (g, g) if g is None or join == "add" else g
    units = g.shape[-1] // 2
    return g[..., :units], g[..., units:]


@layer
def one_step(inner: Layer) -> Layer:
    """Apply a recurrent layer to one step, as in decoding, where an output is the next input.

    ``hₜ = f(xₜ, hₜ₋₁)``, where h is the whole state.

    Parameters
    ----------
    inner : Layer
        A recurrent layer that runs forward, such as ``lstm(64)``.

    Returns
    -------
    Layer
        From ``(x, state)``, `x` being (batch, features), to ``(y, state)``, with the parameters of
        `inner`; `x` alone, or a state of `None`, begins with zeros. One step after the other
        gives the numbers of the whole sequence.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.lstm(4, return_sequence=True)
    >>> params = model.init(0, (None, 3))
    >>> x = np.ones((2, 5, 3), np.float32)
    >>> step, state = F.one_step(model), None
    >>> for t in range(5):
    ...     y, state = step(params, (x[:, t], state))
    >>> np.allclose(y, model(params, x)[:, -1], atol=1e-6)
    True
    """
    sequence = _again("one_step", inner, return_sequence=False, return_state=True)

    def init(rng: KeyLike, shape: Shape) -> Params:
        return sequence.init(rng, _sequence_shape(shape))

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Any, Any]:
        features, state = x if isinstance(x, tuple) and len(x) == 2 else (x, None)
        check_arrays(features, "one_step")
        if not isinstance(features, np.ndarray) or features.ndim != 2:
            raise ValueError(
                f"one_step: the input is x or (x, state), where x is (batch, features), got "
                f"{describe(x)}"
            )
        given = (features[:, None], None, state)
        y, cache = sequence.apply(params, given, train=train, rng=rng)
        return y, (cache, isinstance(x, tuple))

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        kept, has_state = cache
        grads, dx = sequence.backward(params, kept, g, input_grad=input_grad)
        if not input_grad:
            return grads, None
        step = dx[0][:, 0]
        return grads, (step, dx[2]) if has_state else step

    def out_shape(shape: Shape) -> Shape:
        return sequence.out_shape(_sequence_shape(shape))

    return Layer(init, apply, backward, out_shape)


def _sequence_shape(shape: Shape) -> Shape:
    """Return the shapes of a sequence of one step, from ``(features,)`` or with a state's."""
    features, state = shape if shape and isinstance(shape[0], tuple | list) else (shape, None)
    return (1, *features), None, state


def _again(name: str, inner: Layer, **changes: Any) -> Layer:
    """Make a recurrent layer once more, with other arguments."""
    call = inner.call if isinstance(inner, Layer) else None
    known = inspect.signature(call.constructor).parameters if call else {}
    if call is None or not {"reverse", *changes} <= known.keys():
        raise TypeError(
            f"{name}: expected a recurrent layer, as in {name}(lstm(64)), got {shown(inner)}"
        )
    bound = _arguments(inner)
    if bound.arguments["reverse"]:
        raise ValueError(f"{name}: expected a layer that runs forward, got {inner!r}")
    bound.arguments.update(changes)
    return call.constructor(*bound.args, **bound.kwargs)  # type: ignore[return-value]


def _arguments(inner: Layer) -> inspect.BoundArguments:
    """Return all arguments of the call that made a layer, defaults included."""
    assert inner.call is not None
    bound = inspect.signature(inner.call.constructor).bind(
        *inner.call.positional, **inner.call.keywords
    )
    bound.apply_defaults()
    return bound
