"""Gradients computed per shard."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.distributed._agreement import check_communicator
from npdl.distributed._job import arrive
from npdl.distributed._reduction import Split, Vectors
from npdl.distributed._shards import (
    Weigh,
    broadcast_sum,
    check_equal,
    gathered,
    over_shards,
    rank_and_count,
)
from npdl.functional._arrays import describe
from npdl.functional._layer import Layer, Params
from npdl.tree import Tree

__all__ = ["all_reduce", "fold_stats", "sharded"]


def sharded(
    value_and_grad: Callable[..., Any],
    shards: int,
    comm: Any = None,
    weigh: Weigh | None = None,
) -> Callable[..., tuple[float, Params, tuple[Any, ...]]]:
    """Return a function that computes the same loss and gradient, shard by shard.

    Parameters
    ----------
    value_and_grad : callable
        ``f(params, x, *targets, train=False, rng=None) -> (loss, grads, aux)``, as
        :func:`npdl.functional.value_and_grad` returns it. The loss must be a mean over the
        examples, or the weighted mean that `weigh` describes.
    shards : int
        The number of shards. The last bits of the sums, the keys and statistics over a batch
        depend on it. In a batch with fewer examples than shards, each example is a shard.
    comm : communicator, optional
        An MPI communicator, such as ``MPI.COMM_WORLD``: its ranks share the work. All ranks must
        call the function, with equal parameters and keys.
    weigh : callable, optional
        ``weigh(x, *targets) -> number``: the weight of a shard in the mean over the batch. It can
        be the sum of the examples' weights. The default is the number of examples.

    Returns
    -------
    callable
        ``f(params, x, *targets, train=False, rng=None, size=None) -> (loss, grads, aux)``. The
        loss and the gradients are equal on every rank. `aux` is a tuple: the `aux` of
        `value_and_grad` for each shard of this rank, in order. The arrays hold the whole batch.
        If `size`, the number of examples of the batch, is passed, the arrays hold only the
        examples of this rank: :func:`rows_of`.

    Raises
    ------
    ValueError
        If the arrays are empty or differ in length.
    RuntimeError
        If another rank failed: every rank raises, and none waits forever.

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
        loss, _, grads, aux, _ = average(params, x, *targets, train=train, rng=rng, size=size)
        return loss, grads, aux

    return value_and_grad_of


def fold_stats(model: Layer, params: Params, caches: Sequence[Any], comm: Any = None) -> Params:
    """Fold the running statistics of all shards into the parameters, in the order of the shards.

    The ranks update the statistics one after another, and send them to the next rank.

    Parameters
    ----------
    model : Layer
        The model.
    params : tree
        Its parameters, equal on every rank.
    caches : sequence
        The cache of each shard of this rank, in order: ``[part.cache for part in aux]``.
    comm : communicator, optional
        An MPI communicator, such as ``MPI.COMM_WORLD``; all ranks must call the function.

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
    rank, ranks = rank_and_count(comm)
    before = tree.leaves(params)
    arrive()
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
    """Return the sum of the ranks' trees, added in a fixed order.

    Parameters
    ----------
    values : tree
        A tree of numeric arrays or numbers, of equal structure on every rank; `None` stays `None`.
    comm : communicator
        An MPI communicator, such as ``MPI.COMM_WORLD``; with `None`, there is one rank.

    Returns
    -------
    tree
        A tree of new arrays with the data types of `values`, equal on every rank.

    Raises
    ------
    ValueError
        If the trees differ in structure, shapes or data types.
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
    rank, ranks = rank_and_count(comm)

    def compute() -> tuple[Vectors, Any]:
        vectors = Vectors(values)
        return vectors, {path: describe(np.asarray(leaf)) for path, leaf in tree.items(values)}

    vectors, shapes = gathered(comm, compute)
    check_equal("trees", shapes)
    total = broadcast_sum(Split(ranks, ranks), comm, {(rank, rank + 1): vectors})
    return tree.map(lambda like, x: x if isinstance(like, np.ndarray) else x[()], values, total)


def _with_leaves(params: Params, leaves: list[Any], changed: dict[int, Any]) -> Params:
    return tree.unflatten(params, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])
