"""Layers made of layers: they are the chain rule, so whoever composes layers needs no derivative.

Each combinator gives its child *i* the key ``fold(rng, i)``, and puts a note on any error that
comes out of a child, so that the notes of the first error spell its place in the model.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from npdl import random, tree
from npdl._calls import shown
from npdl._constructor import Call
from npdl.functional._layer import (
    Array,
    Layer,
    Params,
    Shape,
    check_arrays,
    check_mode,
    describe,
    keep_params,
    layer,
)

__all__ = ["freeze", "residual", "serial"]


@layer
def serial(*layers: Layer) -> Layer:
    """Apply layers one after another: ``y = fₙ(… f₂(f₁(x)))``.

    Parameters
    ----------
    *layers : Layer
        Any number of layers; none at all is the identity.

    Returns
    -------
    Layer
        Its parameters are the tuple of the layers' parameters.

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(128), F.relu(), F.dense(10))
    >>> params = model.init(0, (64,))
    >>> model.out_shape((64,))
    (10,)
    """
    return sequence("serial", layers)


def sequence(name: str, layers: Sequence[Layer]) -> Layer:
    """Make what :func:`serial` returns, under the name of the combinator that it is part of."""
    check_layers(name, layers)
    count = len(layers)
    # Layers without a mode are called as they are written, which saves the adapter's time.
    applies = [(child.apply, getattr(child.apply, "plain", None)) for child in layers]
    backwards = [child.backward for child in layers]

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        key, params = random.key(rng), []
        for i, child in enumerate(layers):
            try:
                params.append(child.init((*key, i), shape))
                shape = child.out_shape(shape)
            except Exception as error:
                error.add_note(f"in {name}[{i}] = {short(child)}, made for the shape {shape}")
                raise
        return tuple(params)

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        if train is not True and (train is not False or rng is not None):
            check_mode(train, rng)
        # A tuple is checked where it is used; that of training is known to be right.
        key = rng if rng is None or type(rng) is tuple else random.key(rng)
        if type(params) is not tuple or len(params) != count:
            check_count(name, count, params)
        if not count:
            check_arrays(x, name)
        caches = []
        i = 0
        try:
            for i, (full, plain) in enumerate(applies):
                if plain is not None:
                    x, cache = plain(params[i], x)
                else:
                    child_key = None if key is None else (*key, i)
                    x, cache = full(params[i], x, train=train, rng=child_key)
                caches.append(cache)
        except Exception as error:
            note_place(error, f"{name}[{i}]", layers[i], params[i], x)
            raise
        return x, tuple(caches)

    def backward(
        params: Params, caches: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        grads: list[Any] = [None] * count
        first = 0 if input_grad else _first_trained(layers, params)
        i = count
        try:
            for i in range(count - 1, first - 1, -1):
                if g is None:
                    break
                grads[i], g = backwards[i](
                    params[i], caches[i], g, input_grad=input_grad or i > first
                )
        except Exception as error:
            error.add_note(f"in backward of {name}[{i}] = {short(layers[i])}, given {describe(g)}")
            raise
        return tuple(grads), g if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        for child in layers:
            shape = child.out_shape(shape)
        return shape

    def update_stats(params: Params, caches: Any) -> Params:
        if caches is None:
            return params
        return tuple(
            child.update_stats(p, cache)
            for child, p, cache in zip(layers, params, caches, strict=True)
        )

    return Layer(init, apply, backward, out_shape, stats_of(layers, update_stats))


@layer
def residual(*layers: Layer) -> Layer:
    """Add the input to the output of layers applied one after another: ``y = x + f(x)``.

    Parameters
    ----------
    *layers : Layer
        Layers which together keep the shape.

    Raises
    ------
    ValueError
        If the layers change the shape.

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2015, equation 1.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.residual(F.dense(8), F.relu(), F.dense(4)).out_shape((4,))
    (4,)
    """
    inner = sequence("residual", layers)

    def apply(
        params: Params, x: Array, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Array, Any]:
        y, cache = inner.apply(params, x, train=train, rng=rng)
        if y.shape != x.shape or y.dtype != x.dtype:
            raise ValueError(
                f"residual: the layers turn {describe(x)} into {describe(y)}, and the sum needs "
                f"equal shapes; end them with a layer that restores the shape"
            )
        return x + y, cache

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        grads, dx = inner.backward(params, cache, g, input_grad=input_grad)
        return grads, (g if dx is None else g + dx) if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        if (out := inner.out_shape(shape)) != tuple(shape):
            raise ValueError(f"residual: the layers turn the shape {shape} into {out}")
        return out

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        params = inner.init(rng, shape)
        out_shape(shape)
        return params

    return Layer(init, apply, backward, out_shape, inner.update_stats)


@layer
def freeze(inner: Layer) -> Layer:
    """Keep the parameters of a layer as they are: ``y = f(x)``, with gradients in `x` alone.

    Layers with running statistics, such as :func:`batch_norm`, use the stored ones in training
    too, and these stay as they are. Dropout inside still drops in training. A layer of your own
    with running statistics evaluates as a whole, unless it is made of layers that are arguments.

    Parameters
    ----------
    inner : Layer
        The layer that is not to be trained.

    Returns
    -------
    Layer
        The same layer; its gradient is `None`, which every optimizer skips.

    Raises
    ------
    ValueError
        When it is applied, if a batch norm inside has no stored statistics: freeze it after
        training, or with parameters from a file.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.freeze(F.dense(2))
    >>> params = model.init(0, (3,))
    >>> y, cache = model.apply(params, np.ones((1, 3), np.float32))
    >>> model.backward(params, cache, np.ones_like(y))[0] is None
    True
    """
    check_layers("freeze", (inner,))
    stored = _with_stored_statistics(inner)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[None, Any]:
        return None, stored.backward(params, cache, g)[1] if input_grad else None

    return Layer(inner.init, stored.apply, backward, inner.out_shape)


def _with_stored_statistics(layer: Layer) -> Layer:
    """Return the layer with its running statistics as constants, in training too."""
    if layer.update_stats is keep_params:
        return layer
    # A constructor may return the layer of a combinator: this one's call has all of the parts.
    calls, call = [], layer.call
    while call is not None:
        calls.append(call)
        call = call.inner
    for call in reversed(calls):
        made = changed_parts(call, _with_stored_statistics)
        if made is not None:
            functions = {"apply": made.apply, "backward": made.backward}
            return with_functions(layer, _with_stored_statistics, **functions)

    def apply(params: Params, x: Any, *, train: bool = False, rng: Any = None) -> tuple[Any, Any]:
        return layer.apply(params, x)

    return with_functions(layer, _with_stored_statistics, apply=apply)


def _first_trained(layers: Sequence[Layer], params: Params) -> int:
    """Return the position of the first child that is trained."""
    for i, child in enumerate(layers):
        if is_trained(child, params[i]):
            return i
    return len(layers)


def is_trained(child: Layer, params: Params) -> bool:
    """Whether a layer has parameters that are not frozen; all below it needs no gradient."""
    if child.call is not None and child.call.constructor is freeze:
        return False
    # The common case first, because training asks this at each step.
    if type(params) is dict and type(next(iter(params.values()), None)) is np.ndarray:
        return True
    return next(tree.items(params), None) is not None


def with_parts(model: Layer, change: Callable[[Layer], Layer]) -> Layer:
    """Make a layer anew with the layers among its arguments changed; itself, if there are none."""
    made = None if model.call is None else changed_parts(model.call, change)
    return model if made is None else made


def changed_parts(call: Call, change: Callable[[Layer], Layer]) -> Layer | None:
    """Repeat a call with the layers among its arguments changed; `None`, if there are none."""
    given = (call.positional, call.keywords)
    if not any(isinstance(leaf, Layer) for leaf in tree.leaves(given)):
        return None
    positional, keywords = tree.map(
        lambda leaf: change(leaf) if isinstance(leaf, Layer) else leaf, given
    )
    return call.constructor(*positional, **keywords)  # type: ignore[return-value]


def with_functions(layer: Layer, change: Callable[[Layer], Layer], **functions: Any) -> Layer:
    """Return a changed layer: with other functions, here and where its call is repeated.

    :func:`bidirectional` repeats the call of a layer for the other direction.
    """
    call = layer.call
    if call is not None:
        construct = call.constructor

        @functools.wraps(construct)
        def again(*args: Any, **kwargs: Any) -> Layer:
            return change(construct(*args, **kwargs))  # type: ignore[arg-type]

        call = attrs.evolve(call, constructor=again)
    return attrs.evolve(layer, call=call, **functions)


def stats_of(layers: Sequence[Layer], update_stats: Callable[..., Params]) -> Callable[..., Params]:
    """Training skips `update_stats` where it is known to do nothing."""
    idle = all(child.update_stats is keep_params for child in layers)
    return keep_params if idle else update_stats


def check_layers(name: str, layers: Sequence[Any]) -> None:
    for i, child in enumerate(layers):
        if not isinstance(child, Layer):
            raise TypeError(
                f"{name}: argument {i} is {shown(child)}, not a layer; layers are made by calls "
                f"such as {name}(dense(8), relu()), and a list of them is given as {name}(*layers)"
            )


def check_count(name: str, count: int, params: Params) -> None:
    if not isinstance(params, tuple | list) or len(params) != count:
        raise ValueError(
            f"{name}: expected the parameters of {count} layers, as init(rng, shape) returns them, "
            f"got {describe(params)}; are they of another model?"
        )


def note_place(error: Exception, place: str, child: Layer, params: Params, x: Any) -> None:
    note = f"in {place} = {short(child)}, given {describe(x)}"
    if isinstance(error, KeyError | TypeError | IndexError | ValueError):
        note += f", with params {describe(params)}"
    error.add_note(note)


def short(child: Layer) -> str:
    text = repr(child)
    return text if len(text) <= 72 or child.call is None else f"{child.call.name}(…)"
