"""Layers one after another: the chain rule, so whoever composes layers needs no derivative."""

from typing import Any

import attrs

from npdl import random
from npdl.functional._arrays import check_arrays
from npdl.functional._checks import check_mode
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.functional.combinators._children import (
    chain,
    check_count,
    check_layers,
    connected,
    is_trained,
    note_backward,
    note_place,
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
    check_layers("serial", layers)
    nodes, last = chain(layers)
    made = connected(declared("serial", "input", nodes, last))
    count = len(layers)
    # Layers without a mode are called as they are written, which saves the adapter's time.
    applies = [(child.apply, getattr(child.apply, "plain", None)) for child in layers]
    backwards = [child.backward for child in layers]

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        if train is not True and (train is not False or rng is not None):
            check_mode(train, rng)
        # A tuple is checked where it is used; that of training is known to be right.
        key = rng if rng is None or type(rng) is tuple else random.key(rng)
        if type(params) is not tuple or len(params) != count:
            check_count("serial", count, params)
        if not count:
            check_arrays(x, "serial")
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
            note_place(error, f"serial[{i}]", layers[i], params[i], x)
            raise
        return x, (caches, None)  # the cache of `made`, whose other functions are kept

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
            note_backward(error, f"serial[{i}]", layers[i], g)
            raise
        return tuple(grads), g if input_grad else None

    return attrs.evolve(made, apply=apply, backward=backward)


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
    check_layers("residual", layers)
    nodes, last = chain(layers)
    nodes["sum"] = (joined("add", name="residual"), ("input", last), None)
    made = connected(declared("residual", "input", nodes, "sum"))

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        params = made.init(rng, shape)
        made.out_shape(shape)  # refuses layers that change it
        return params

    return attrs.evolve(made, init=init)


@layer
def freeze(inner: Layer) -> Layer:
    """Keep the parameters of a layer as they are: ``y = f(x)``, with gradients in `x` alone.

    Layers with running statistics, such as :func:`batch_norm`, use the stored ones in training
    too, and these stay as they are. Dropout inside still drops in training. A layer of your own
    with running statistics evaluates as a whole, unless it declares its :func:`parts`.

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
    stored = with_stored_statistics(inner)
    nodes = {"inner": (inner, "input", ())}
    parts = declared("freeze", "input", nodes, "inner", trained=False)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[None, Any]:
        return None, stored.backward(params, cache, g)[1] if input_grad else None

    return Layer(inner.init, stored.apply, backward, inner.out_shape, parts=parts)


def _first_trained(layers: tuple[Layer, ...], params: Params) -> int:
    """Return the position of the first child that is trained."""
    for i, child in enumerate(layers):
        if is_trained(child, params[i]):
            return i
    return len(layers)
