"""Several models of one architecture as a layer with stacked parameters."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from npdl import random, tree
from npdl.functional._arrays import check_float, check_types, describe
from npdl.functional._checks import check_int
from npdl.functional._dual import as_dual
from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._kernels.image_layout import empty_in_order, memory_order
from npdl.functional._layer import Layer, Params, Shape, keep_params, layer
from npdl.functional.combinators._children import check_layers
from npdl.functional.combinators._rebuilt import changed, rebuilt
from npdl.functional.layers import dense, group_norm, layer_norm, rms_norm
from npdl.tree import Array

__all__ = ["ensemble"]


@layer
def ensemble(inner: Layer, n: int) -> Layer:
    """Apply n models of one architecture to the same input: ``yᵢ = f(pᵢ, x)``.

    The parameters of the models are stacked along a new first axis, and one matrix product
    computes a dense layer of all models. Each model has the bits of a single one with the
    parameters ``tree.map(lambda leaf: leaf[i], params)`` and the key ``fold(rng, i)``.

    Parameters
    ----------
    inner : Layer
        The architecture.
    n : int
        The number of models.

    Returns
    -------
    Layer
        From (batch, ...) to (n, batch, ...): the first axis of an output is the model, and
        `out_shape` is the shape for one model. The gradient of the input is the sum over the
        models. The models start from different parameters. Dense layers, and layers without
        parameters, are computed for all models together, other layers in a loop. The functions of
        :mod:`npdl.training` that join batches, such as `predict`, need the batch as first axis:
        pass them a single model.

    Examples
    --------
    The mean loss over models and examples trains all models. It scales the gradient of each model
    by 1/n:

    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.ensemble(F.serial(F.dense(16), F.relu(), F.dense(3)), 5)
    >>> params = model.init(0, (4,))
    >>> x, labels = np.ones((8, 4), np.float32), np.arange(8) % 3
    >>> loss = F.softmax_cross_entropy
    >>> value, grads, aux = F.value_and_grad(model, loss)(params, x, np.tile(labels, (5, 1)))
    >>> grads[0]["weight"].shape, aux.outputs.shape
    ((5, 4, 16), (5, 8, 3))
    """
    check_layers("ensemble", (inner,))
    n = check_int(n, "ensemble(serial(dense(16), relu()), n=5)")
    joined = _together(inner, n)

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        key = random.key(rng)
        return _stacked([inner.init(random.fold(key, i), shape) for i in range(n)])

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        key = None if rng is None else (*random.key(rng), _MODEL)
        given = tree.map(lambda array: np.broadcast_to(array, (n, *array.shape)), x)
        return joined.apply(params, given, train=train, rng=key, keep_cache=keep_cache)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        grads, dx = joined.backward(params, cache, g, input_grad=input_grad)
        return grads, tree.map(lambda array: array.sum(axis=0), dx)

    fold = keep_params if inner.update_stats is keep_params else joined.update_stats
    return Layer(init, apply, backward, inner.out_shape, fold)


# In a key, the position of the number of the model.
_MODEL: Any = object()


def _together(inner: Layer, n: int) -> Layer:
    """Return the layer for stacked parameters and inputs (models, batch, ...)."""
    if inner.parts is not None:
        return rebuilt(inner, functools.partial(_together, n=n))
    if inner.call is not None and inner.call.constructor is dense:
        return changed(inner, apply=_dense_apply, backward=_dense_backward)
    return _each_model(inner, n)


def _dense_apply(
    params: Params, x: Array, *, train: bool = False, rng: Any = None, keep_cache: bool = True
) -> tuple[Array, Array]:
    weight = params["weight"]
    check_float(x, "dense", check_types("dense", params))
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"dense: these params take {weight.shape[1]} features (the last axis), but the input "
            f"of the ensemble is {describe(x[0])}"
        )
    y = _products(_rows(x), weight)
    if "bias" in params:
        y += params["bias"][:, None]
    return y.reshape(*x.shape[:-1], y.shape[-1]), x


def _dense_backward(
    params: Params, x: Array, g: Array, *, input_grad: bool = True
) -> tuple[Params, Array | None]:
    rows, cotangent = _rows(x), _rows(g)
    grads = {"weight": _products(rows.mT, cotangent)}
    if "bias" in params:
        grads["bias"] = np.stack([sum_of_rows(part) for part in cotangent])
    if not input_grad:
        return grads, None
    return grads, _products(cotangent, params["weight"].mT).reshape(x.shape)


def _rows(x: Array) -> Array:
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])


def _products(a: Array, b: Array) -> Array:
    """Return the matrix product of each model, with the bits of ``a[i].dot(b[i])``."""
    if min(*a.shape[1:], b.shape[2]) > 1:
        products: Array = np.matmul(a, b)
        return products
    # For vectors, `dot` and `matmul` call different functions of BLAS.
    return np.stack([one.dot(other) for one, other in zip(a, b, strict=True)])


def _each_model(inner: Layer, n: int) -> Layer:
    """Return a layer that is applied in a loop, or once if it has no parameters and no mode."""
    constructor: Any = None if inner.call is None else inner.call.constructor
    ours = getattr(constructor, "__module__", None) == "npdl.functional"
    simple = ours and hasattr(inner.apply, "plain") and constructor not in _NORMS

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: Any = None, keep_cache: bool = True
    ) -> tuple[Any, Any]:
        # Sums over images depend on the order of the axes in memory, which merged images lose.
        if simple and not tree.leaves(params) and all(map(_is_contiguous, tree.leaves(x))):
            y, cache = inner.apply(params, tree.map(_merged, x), keep_cache=keep_cache)
            return tree.map(lambda array: _split(array, n), y), _Merged(cache)
        outputs, caches = [], []
        for i in range(n):
            key = None if rng is None else tuple(i if part is _MODEL else part for part in rng)
            y, cache = inner.apply(
                _model(params, i), _model(x, i), train=train, rng=key, keep_cache=keep_cache
            )
            outputs.append(y)
            caches.append(cache)
        return _stacked(outputs), caches

    def backward(params: Params, caches: Any, g: Any, *, input_grad: bool) -> tuple[Params, Any]:
        if isinstance(caches, _Merged):
            merged = tree.map(_merged, g)
            grads, dx = inner.backward(params, caches.cache, merged, input_grad=input_grad)
            return grads, tree.map(lambda array: _split(array, n), dx)
        found = [
            inner.backward(_model(params, i), cache, _model(g, i), input_grad=input_grad)
            for i, cache in enumerate(caches)
        ]
        return _stacked([grads for grads, _ in found]), _stacked([dx for _, dx in found])

    def update_stats(params: Params, caches: Any) -> Params:
        if caches is None:
            return params
        return _stacked(
            [inner.update_stats(_model(params, i), cache) for i, cache in enumerate(caches)]
        )

    fold = keep_params if inner.update_stats is keep_params else update_stats
    return changed(inner, apply=apply, backward=backward, update_stats=fold)


# The order of their sums depends on the size of the batch.
_NORMS = (layer_norm, rms_norm, group_norm)


class _Merged(NamedTuple):
    """The cache of a layer that was applied to all models at once."""

    cache: Any


def _is_contiguous(array: Array) -> bool:
    return bool(array[0].flags.c_contiguous)


def _merged(array: Array) -> Array:
    """Return (models · batch, ...)."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def _split(array: Array, n: int) -> Array:
    """Return (models, batch, ...)."""
    split: Array = as_dual(array).reshape(n, len(array) // n, *array.shape[1:])
    return split


def _model(stacked: Any, i: int) -> Any:
    return tree.map(lambda array: array[i, ...], stacked)


def _stacked(trees: list[Any]) -> Any:
    """Return one tree of arrays with a new first axis."""
    return tree.map(_stack, *trees)


def _stack(*parts: Array) -> Array:
    """Return the arrays along a new first axis; the other axes keep their memory order."""
    first = parts[0]
    order = (0, *(1 + axis for axis in memory_order(first)))
    stacked = empty_in_order((len(parts), *first.shape), order, first.dtype)
    for i, part in enumerate(parts):
        stacked[i] = part
    return as_dual(stacked)  # type: ignore[no-any-return]
