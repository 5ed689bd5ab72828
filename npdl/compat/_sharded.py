"""A training step over shards of a batch: the stateful counterpart of `npdl.distributed`."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

from npdl import random
from npdl._blas import SmallSteps
from npdl.compat._fitting import weighted
from npdl.compat.layers.base import Stateful
from npdl.compat.utils.random import get_rng, new_key, set_rng
from npdl.distributed._sharded import fold_stats
from npdl.distributed._shards import over_shards
from npdl.functional._layer import keep_params
from npdl.training._scores import Scores, Sums, mean_sums, merged

__all__ = ["check_smallest_shard", "step_of"]


def step_of(
    model: Any, scores: Scores, shards: int | None, comm: Any
) -> Callable[[tuple[Any, ...], int], Sums]:
    """Return a function that updates a model with a batch, shard by shard unless it is whole.

    The layers draw from a separate generator per shard. So the global generator advances by one
    key per batch, on every rank.

    Parameters
    ----------
    model : Model
        The model.
    scores : Scores
        The metrics.
    shards, comm
        As in :func:`npdl.distributed.sharded`; batches are not cut if `shards` is `None`.

    Returns
    -------
    callable
        ``step((x, y, weight), size) -> sums`` takes the examples of this rank.
    """

    if shards is None:
        if comm is not None:
            raise ValueError("several ranks need shards: Model.fit(X, Y, shards=8)")
        return lambda batch, size: model._step(*batch, scores)[1]

    def terms(
        params: None, x: Any, y: Any, weight: Any, *, rng: random.Key, total: int
    ) -> tuple[Any, ...]:
        before = _trees(model)
        with SmallSteps()(model.params, x):
            try:
                with _drawing_from(rng):
                    outputs = model.forward(x, train=True)
            finally:
                _set_trees(model, before)  # the statistics of all shards are folded in at the end
            value = float(np.mean(weighted(model.loss.forward(outputs, y), weight)))
            sums = scores.sums(outputs, (x, y, weight))
            g = weighted(model.loss_gradient(outputs, y), weight)
            # Gradients are sums over examples; `over_shards` multiplies them by len(x) / total.
            model.backward(g * (total / len(x)))
        return value, sums, model.grads, [layer.cache for layer in _with_stats(model)]

    average = over_shards(terms, shards, comm, merge=functools.partial(merged, scores.metrics))

    def step(batch: tuple[Any, ...], size: int) -> Sums:
        value, sums, grads, caches, _ = average(None, *batch, rng=new_key(), size=size, total=size)
        model.optimizer.update(model.params, grads)
        layers = _with_stats(model)
        if layers:
            folded = fold_stats(_Statistics(layers), _trees(model), caches, comm)  # type: ignore[arg-type]
            _set_trees(model, folded)
        return {"loss": mean_sums(value, size), **sums}

    return step


def check_smallest_shard(model: Any, x: Any, sizes: set[int], shards: int) -> None:
    """Raise if a shard has a single example, and a batch norm of the model needs several.

    Parameters
    ----------
    model : Model
        The model.
    x : array
        A batch of one example.
    sizes : set of int
        The numbers of examples of the batches.
    shards : int
        The number of shards.
    """
    if not _with_stats(model) or min(size // min(size, shards) for size in sizes) > 1:
        return
    try:
        for layer in model.layers:
            if isinstance(layer, Stateful):
                given = layer._as_input(x)
                x = layer.functional.apply(layer.tree, given, train=True, rng=(0,))[0]
            else:
                x = layer.forward(x)
    except ValueError as error:
        error.add_note(
            f"found before the first step: batches of {sorted(sizes)} examples in {shards} shards "
            f"leave a shard of one example; choose another batch_size or fewer shards"
        )
        raise


@attrs.frozen(eq=False, repr=False)
class _Statistics:
    """The running statistics of layers, as one layer."""

    layers: list[Stateful]

    def update_stats(self, params: list[Any], caches: list[Any]) -> list[Any]:
        """Return the trees of all layers with the statistics of one shard."""
        return [
            layer.functional.update_stats(tree, cache)
            for layer, tree, cache in zip(self.layers, params, caches, strict=True)
        ]


def _with_stats(model: Any) -> list[Stateful]:
    return [
        layer
        for layer in model.layers
        if isinstance(layer, Stateful) and layer.functional.update_stats is not keep_params
    ]


def _trees(model: Any) -> list[Any]:
    return [layer.tree for layer in _with_stats(model)]


def _set_trees(model: Any, trees: list[Any]) -> None:
    for layer, tree in zip(_with_stats(model), trees, strict=True):
        layer.tree = tree


@contextlib.contextmanager
def _drawing_from(key: random.Key) -> Iterator[None]:
    """Let the layers draw from a generator of a key."""
    before = get_rng()
    set_rng(np.random.RandomState(random.generator(key).bit_generator))
    try:
        yield
    finally:
        set_rng(before)
