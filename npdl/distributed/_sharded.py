"""Gradients computed shard by shard."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.distributed._agreement import check_communicator
from npdl.distributed._reduction import Split, Vectors
from npdl.distributed._shards import Weigh, check_alike, over_shards, place_of, shared, spread
from npdl.functional._layer import Layer, Params, describe
from npdl.tree import Tree

__all__ = ["all_reduce", "fold_stats", "sharded"]


def sharded(
    value_and_grad: Callable[..., Any],
    shards: int,
    comm: Any = None,
    weigh: Weigh | None = None,
) -> Callable[..., tuple[float, Params, tuple[Any, ...]]]:
    """Return a function that gives the same loss and gradient, computed shard by shard.

    Parameters
    ----------
    value_and_grad : callable
        ``f(params, x, *targets, train=False, rng=None) -> (loss, grads, aux)``, as
        :func:`npdl.functional.value_and_grad` returns it. The loss must be a mean over the
        examples, or the weighted mean that `weigh` describes.
    shards : int
        The number of shards. The result depends on it: on the last bits of the sums, on the keys,
        and on what a layer computes over the whole batch. Of a batch of fewer examples, each is a
        shard.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``: its ranks share the work. All must call the function, with
        equal parameters and keys.
    weigh : callable, optional
        ``weigh(x, *targets) -> number``: what the examples of a shard weigh in the mean over the
        batch, such as the sum of their weights. Left out, it is their number.

    Returns
    -------
    callable
        ``f(params, x, *targets, train=False, rng=None, size=None) -> (loss, grads, aux)``, the
        first two equal on every rank, and `aux` a tuple of what `value_and_grad` left of each
        shard of this rank, in order. The arrays hold the whole batch; or, if `size` is the number
        of its examples, only those of this rank: :func:`rows_of`.

    Raises
    ------
    ValueError
        If the arrays are empty or of other lengths.
    RuntimeError
        If another rank failed: each rank raises, and none waits for ever.

    Examples
    --------
    >>> from npdl.distributed import sharded
    >>> from npdl import tree
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(3)
    >>> params = model.init(0, (2,))
    >>> x, labels = np.ones((8, 2), np.float32), np.arange(8) % 3
    >>> whole = F.value_and_grad(model, F.softmax_cross_entropy)
    >>> loss, grads, aux = sharded(whole, shards=4)(params, x, labels)
    >>> tree.all_close(grads, whole(params, x, labels)[1], rtol=1e-4)
    True
    >>> [part.outputs.shape for part in aux]
    [(2, 3), (2, 3), (2, 3), (2, 3)]
    """

    def terms(params: Params, *data: Any, **options: Any) -> tuple[Any, Any, Any, Any]:
        value, grads, aux = value_and_grad(params, *data, **options)
        return value, {}, grads, aux

    average = over_shards(terms, shards, comm, weigh)

    def value_and_grad_of(
        params: Params,
        x: Any,
        *targets: Any,
        train: bool = False,
        rng: random.KeyLike | None = None,
        size: int | None = None,
    ) -> tuple[float, Params, tuple[Any, ...]]:
        loss, _, grads, kept, _ = average(params, x, *targets, train=train, rng=rng, size=size)
        return loss, grads, kept

    return value_and_grad_of


def fold_stats(model: Layer, params: Params, caches: Sequence[Any], comm: Any = None) -> Params:
    """Fold the running statistics of all shards into the parameters, in the order of the shards.

    The ranks do it one after the other, and send on what has changed: the statistics.

    Parameters
    ----------
    model : Layer
        The model.
    params : tree
        Its parameters, equal on every rank.
    caches : sequence
        Of each shard of this rank, in order: ``[part.cache for part in aux]``.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``; all ranks must call the function.

    Returns
    -------
    tree
        The parameters, equal on every rank.

    Examples
    --------
    >>> from npdl.distributed import fold_stats
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.batch_norm()
    >>> params = model.init(0, (2,))
    >>> caches = [model.apply(params, np.eye(2, dtype=np.float32), train=True)[1]] * 3
    >>> float(fold_stats(model, params, caches)["count"])
    3.0
    """
    check_communicator(comm)
    rank, ranks = place_of(comm)
    before = tree.leaves(params)
    changed = comm.recv(source=rank - 1) if rank > 0 else {}
    folded = _with_leaves(params, before, changed)
    for cache in caches:
        folded = model.update_stats(folded, cache)
    if ranks == 1:
        return folded
    after = enumerate(zip(tree.leaves(folded), before, strict=True))
    changed = {i: new for i, (new, old) in after if new is not old}
    if rank < ranks - 1:
        comm.send(changed, dest=rank + 1)
    return _with_leaves(params, before, comm.bcast(changed, root=ranks - 1))


def all_reduce(values: Tree, comm: Any) -> Tree:
    """Return the sum over the ranks of trees of one structure, added in a fixed order.

    Parameters
    ----------
    values : tree
        Of arrays of numbers, or numbers; `None` stays `None`.
    comm : communicator
        Such as ``MPI.COMM_WORLD``; with `None`, the sum over one rank.

    Returns
    -------
    tree
        Of new arrays, equal on every rank, of the types of `values`.

    Raises
    ------
    ValueError
        If the trees differ.
    RuntimeError
        If another rank failed.

    Examples
    --------
    >>> from npdl.distributed import all_reduce
    >>> import numpy as np
    >>> all_reduce({"weight": np.ones(2), "mean": None}, None)
    {'weight': array([1., 1.]), 'mean': None}
    """
    check_communicator(comm)
    rank, ranks = place_of(comm)

    def compute() -> tuple[Vectors, Any]:
        vectors = Vectors(values)
        return vectors, {path: describe(np.asarray(leaf)) for path, leaf in tree.items(values)}

    vectors, shapes = shared(comm, compute)
    check_alike("trees", shapes)
    total = spread(Split(ranks, ranks), comm, {(rank, rank + 1): vectors})
    return tree.map(lambda like, x: x if isinstance(like, np.ndarray) else x[()], values, total)


def _with_leaves(params: Params, leaves: list[Any], changed: dict[int, Any]) -> Params:
    return tree.unflatten(params, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])
