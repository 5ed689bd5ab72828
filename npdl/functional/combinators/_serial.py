"""Layers applied in order: the chain rule computes the gradients of any composition."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from npdl import random
from npdl.functional._arrays import SINGLE, check_arrays
from npdl.functional._checks import check_mode
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.functional.combinators._children import (
    chain,
    check_count,
    check_layers,
    connected,
    is_trained,
    note_apply,
    note_backward,
)
from npdl.functional.combinators._declared import declared
from npdl.functional.combinators._joins import joined
from npdl.functional.combinators._rebuilt import with_stored_statistics

__all__ = ["freeze", "residual", "serial"]


@layer
def serial(*layers: Layer) -> Layer:
    """Apply layers one after another: ``y = fₙ(… f₂(f₁(x)))``.

    Parameters
    ----------
    *layers : Layer
        Any number of layers; without layers, the result is the identity.

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
    check_layers("serial", layers)
    nodes, last = chain(layers)
    built = connected(declared("serial", "input", nodes, last))
    apply, backward = _in_order("serial", layers)
    return attrs.evolve(built, apply=apply, backward=backward)


def _in_order(
    name: str, layers: tuple[Layer, ...]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `apply` and `backward` of layers in order, in fewer calls than :func:`connected`."""
    count = len(layers)
    # Layers without a mode are called directly, which saves the time of the adapter.
    applies = [(child.apply, getattr(child.apply, "plain", None)) for child in layers]
    backwards = [child.backward for child in layers]

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        if train is not True and (train is not False or rng is not None):
            check_mode(train, rng)
        # A tuple is checked at its first use; the key of training is always valid.
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
                    x, cache = full(params[i], x, train=train, rng=child_key, keep_cache=keep_cache)
                if keep_cache:
                    caches.append(cache)
                cache = None  # its memory may be free for the next layer
        except Exception as error:
            note_apply(error, f"{name}[{i}]", layers[i], params[i], x)
            raise
        # The format of the cache in `connected`.
        return x, (caches, None) if keep_cache else None

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        caches, _ = cache
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
            note_backward(error, f"{name}[{i}]", layers[i], g)
            raise
        return tuple(grads), g if input_grad else None

    return apply, backward


@layer
def residual(*layers: Layer) -> Layer:
    """Add the input to the output of layers applied one after another: ``y = x + f(x)``.

    Parameters
    ----------
    *layers : Layer
        Layers that together keep the shape.

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
    check_layers("residual", layers)
    nodes, last = chain(layers)
    total = joined("add", name="residual")
    nodes["sum"] = (total, ("input", last), None)
    built = connected(declared("residual", "input", nodes, "sum"))
    inner_apply, inner_backward = _in_order("residual", layers)

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        params = built.init(rng, shape)
        built.out_shape(shape)  # raises if the layers change the shape
        return params

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        y, kept = inner_apply(params, x, train=train, rng=rng, keep_cache=keep_cache)
        # Inline, because the checks of the sum take longer than the sum of small arrays.
        if (
            type(x) is np.ndarray
            and type(y) is np.ndarray
            and x.dtype is y.dtype is SINGLE
            and x.shape == y.shape
        ):
            y, cache = x + y, 2
        else:
            y, cache = total.apply((), (x, y))
        return y, ([*kept[0], cache], None) if keep_cache else None

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        grads, dx = inner_backward(params, cache, g, input_grad=input_grad)
        return grads, (g if dx is None else g + dx) if input_grad else None

    return attrs.evolve(built, init=init, apply=apply, backward=backward)


@layer
def freeze(inner: Layer) -> Layer:
    """Keep the parameters of a layer constant: ``y = f(x)``, with a gradient for `x` only.

    Layers with running statistics, such as :func:`batch_norm`, use the stored statistics in
    training too, and do not update them. Dropout inside is still active in training. A layer of
    your own with running statistics runs in evaluation mode, unless it declares its :func:`parts`.

    Parameters
    ----------
    inner : Layer
        The layer to freeze.

    Returns
    -------
    Layer
        The same layer with `None` as the gradient of its parameters; optimizers skip `None`.

    Raises
    ------
    ValueError
        In `apply`, if a batch norm inside has no stored statistics: freeze it after training, or
        load parameters from a file.

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
    stored = with_stored_statistics(inner)
    nodes = {"inner": (inner, "input", ())}
    parts = declared("freeze", "input", nodes, "inner", trained=False)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[None, Any]:
        return None, stored.backward(params, cache, g)[1] if input_grad else None

    return Layer(inner.init, stored.apply, backward, inner.out_shape, parts=parts)


def _first_trained(layers: tuple[Layer, ...], params: Params) -> int:
    """Return the index of the first trained child, or the number of children."""
    for i, child in enumerate(layers):
        if is_trained(child, params[i]):
            return i
    return len(layers)
