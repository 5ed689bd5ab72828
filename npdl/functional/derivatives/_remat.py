"""Recomputation: less memory for a second forward pass."""

from typing import Any

import attrs

from npdl import random
from npdl.functional._layer import Layer, Params, keep_params, layer, statistics
from npdl.functional.combinators._children import check_layers
from npdl.functional.combinators._declared import declared

__all__ = ["remat"]


@layer
def remat(inner: Layer) -> Layer:
    """Recompute the cache of a layer in `backward`, to save memory: ``y = f(x)``.

    The cache holds only the input, the mode and the key. `backward` applies the layer again, with
    the same arguments, so all results have the same bits as without recomputation. A model of many
    blocks then keeps one array per block, and the full cache of one block at a time. Each step
    costs one more forward pass.

    Parameters
    ----------
    inner : Layer
        The layer, such as a block of a transformer. A whole model saves nothing, because its
        `backward` computes the whole cache.

    Returns
    -------
    Layer
        It has the inputs, outputs and parameters of `inner`. New running statistics stay in the
        cache. A layer of your own with running statistics keeps its whole cache.

    References
    ----------
    Chen, Xu, Zhang, Guestrin: Training deep nets with sublinear memory cost, 2016, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> block = F.transformer_encoder_block(heads=2, hidden_units=32)
    >>> model = F.stack(*[F.remat(block)] * 6)
    >>> params = model.init(0, (5, 8))
    >>> x = np.ones((3, 5, 8), np.float32)
    >>> np.array_equal(model(params, x), F.stack(*[block] * 6)(params, x))
    True
    """
    check_layers("remat", (inner,))
    nodes = {"inner": (inner, "input", ())}
    parts = declared("remat", "input", nodes, "inner")
    return attrs.evolve(_recomputing(inner), parts=attrs.evolve(parts, around=_recomputing))


def _recomputing(inner: Layer) -> Layer:
    """Return the layer with a cache of its arguments and its new running statistics."""

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        # A generator would give other random numbers the second time.
        key = rng if rng is None or type(rng) is tuple else random.key(rng)
        has_statistics = train and inner.update_stats is not keep_params
        y, cache = inner.apply(params, x, train=train, rng=key, keep_cache=has_statistics)
        fresh = statistics(inner, cache) if has_statistics else None
        return y, (x, train, key, fresh) if keep_cache else None

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        x, train, key, _ = cache
        _, recomputed = inner.apply(params, x, train=train, rng=key)
        return inner.backward(params, recomputed, g, input_grad=input_grad)

    def update_stats(params: Params, cache: Any) -> Params:
        if cache is None or cache[-1] is None:
            return params
        return inner.update_stats(params, cache[-1])

    fold = keep_params if inner.update_stats is keep_params else update_stats
    return Layer(inner.init, apply, backward, inner.out_shape, fold, keeps_axes=inner.keeps_axes)
