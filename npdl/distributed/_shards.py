"""Shards of a batch: their assignment to ranks, and averages over them."""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl import random, tree
from npdl._data import check_data
from npdl.distributed._agreement import check_communicator
from npdl.distributed._exchange import Exchange, Slot
from npdl.distributed._job import arrive, caused_elsewhere
from npdl.distributed._reduction import (
    Split,
    Vectors,
    allreduce,
    chunk_range,
    fixed_sum,
    local_sums,
)
from npdl.functional._checks import check_int
from npdl.functional._layer import Params
from npdl.tree import Tree

__all__ = [
    "Weigh",
    "broadcast_sum",
    "check_equal",
    "gathered",
    "over_shards",
    "rank_and_count",
    "rows_of",
]

Weigh: TypeAlias = Callable[..., Any]


def over_shards(
    terms: Callable[..., tuple[Any, dict[str, Any], Params, Any]],
    shards: int,
    comm: Any = None,
    weigh: Weigh | None = None,
    merge: Callable[[Any, Any], Any] = dict.__or__,
) -> Callable[..., tuple[float, dict[str, Any], Params, tuple[Any, ...], float]]:
    """Return a function that averages over shards: :func:`sharded`, with additional sums.

    Parameters
    ----------
    terms : callable
        ``f(params, *data, rng=key, **options) -> (loss, sums, grads, aux)``: loss and gradients
        of a shard, a dict of sums over its examples, and any further value.
    shards, comm, weigh
        As in :func:`sharded`.
    merge : callable
        ``merge(sums, sums) -> sums`` adds the sums of two shards.

    Returns
    -------
    callable
        ``f(params, *data, rng=None, size=None, exchange=None, divided=False, **options) ->
        (loss, sums, grads, aux, weight)``. `aux` is a tuple of the `aux` of each shard of this
        rank; `weight` is the batch's weight. With an exchange, the gradients are added up in its
        memory. If all ranks pass `divided` and their gradients fit it, `grads` are `PartSums`.
    """
    shards = check_int(shards, "sharded(…, shards=8)", least=1)
    check_communicator(comm)

    def average(
        params: Params,
        *data: Any,
        rng: random.KeyLike | None = None,
        size: int | None = None,
        exchange: Exchange | None = None,
        divided: bool = False,
        **options: Any,
    ) -> tuple[float, dict[str, Any], Params, tuple[Any, ...], float]:
        key = None if rng is None else random.key(rng)
        batch, reports = gathered(
            comm, lambda: _local_batch(data, size, shards, comm, weigh), exchange
        )
        weights, weight = _weights(reports)

        def compute() -> tuple[Any, Any]:
            results, aux = [], []
            sizes: list[dict[str, int]] = []
            kinds: set[type] = set()

            def term(i: int) -> Any:
                child = None if key is None else (*key, i)
                try:
                    loss, sums, grads, aux_i = terms(params, *batch.part(i), rng=child, **options)
                except Exception as error:
                    error.add_note(f"in shard {i} of {batch.split.count}, of {batch.size} examples")
                    raise
                results.append((float(loss), sums))
                aux.append(aux_i)
                fitting = exchange and exchange.written(i, batch.split, grads, weights[i])
                vectors = fitting or Vectors(grads, weights[i])
                sizes.append(vectors.sizes)
                _check_sizes([sizes[0], sizes[-1]])
                kinds.add(type(vectors))
                if len(kinds) > 1:
                    raise ValueError(
                        "the gradients of the shards differ in shape or type; a layer must return "
                        "the same gradients for all data"
                    )
                return vectors

            sums = local_sums(batch.mine, batch.split.count, term)
            fits = exchange is not None and kinds <= {Slot}
            return (sums, tuple(aux)), (sizes[:1], results, fits + (fits and divided))

        (sums, aux), reports = gathered(comm, compute, exchange)
        _check_sizes([size for sizes, _, _ in reports for size in sizes])
        results = [result for _, each, _ in reports for result in each]
        loss = fixed_sum(0, len(results), lambda i: weights[i] * results[i][0])
        merged = fixed_sum(0, len(results), lambda i: results[i][1], merge)
        level = min(level for _, _, level in reports)
        return loss, merged, _total(batch.split, comm, sums, exchange, level), aux, weight

    return average


def rows_of(size: int, shards: int, comm: Any = None) -> slice:
    """Return the slice of a batch that this rank computes, so that it can skip the other examples.

    Parameters
    ----------
    size : int
        The number of examples of the batch.
    shards : int
        The number of shards of the batch.
    comm : communicator, optional
        An MPI communicator, such as ``MPI.COMM_WORLD``.

    Examples
    --------
    >>> from npdl.distributed import rows_of
    >>> rows_of(100, shards=8)
    slice(0, 100, None)
    """
    split, rank = _split(size, shards, comm)
    mine = split.terms(rank)
    if not mine:
        return slice(size, size)
    first, last = (chunk_range(size, split.count, i) for i in (mine[0], mine[-1]))
    return slice(first.start, last.stop)


@attrs.frozen(eq=False, repr=False)
class _Batch:
    """The examples and shards of a batch that belong to this rank."""

    size: int  # the number of examples of the whole batch
    split: Split
    mine: range
    data: tuple[Any, ...]
    first: int  # the index in the batch of the first example of `data`

    def part(self, i: int) -> tuple[Any, ...]:
        """Return the examples of a shard, as C-contiguous arrays."""
        rows = chunk_range(self.size, self.split.count, i)
        here = slice(rows.start - self.first, rows.stop - self.first)
        return tree.map(lambda array: np.ascontiguousarray(array[here]), self.data)  # type: ignore[no-any-return]


def _local_batch(
    data: tuple[Any, ...], size: int | None, shards: int, comm: Any, weigh: Weigh | None
) -> tuple[_Batch, tuple[int, list[float]]]:
    """Return the shards of this rank, and a report: the batch size and the shards' weights."""
    if size is not None:
        size = check_int(size, "rows_of(size=64, …)", least=1)
    total = check_data(data, "batch") if size is None else int(size)
    split, rank = _split(total, shards, comm)
    rows = rows_of(total, shards, comm)
    if size is not None and rows.start < rows.stop:
        check_data(data, "batch")
    if size is not None and (here := len(tree.leaves(data)[0])) != rows.stop - rows.start:
        raise ValueError(
            f"for a batch of {size} examples in {shards} shards, this rank computes the examples "
            f"{rows.start} to {rows.stop - 1}, but its arrays have {here}; select them with "
            f"rows_of({size}, {shards}, comm), or pass the whole batch without size="
        )
    first = 0 if size is None else rows.start
    batch = _Batch(total, split, split.terms(rank), data, first)
    if weigh is None:
        return batch, (total, [len(chunk_range(total, split.count, i)) for i in batch.mine])
    return batch, (total, [float(weigh(*batch.part(i))) for i in batch.mine])


def _weights(reports: list[tuple[int, list[float]]]) -> tuple[list[float], float]:
    """Return the weight of each shard in the mean over the batch, and the weight of the batch."""
    check_equal("batch sizes", [size for size, _ in reports])
    weights = [weight for _, each in reports for weight in each]
    total = sum(weights)
    return [weight / (total or 1.0) for weight in weights], total


def _check_sizes(sizes: list[dict[str, int]]) -> None:
    """Raise on every rank unless the gradients of all shards have equal sizes."""
    for size in sizes:
        if size != sizes[0]:
            raise ValueError(
                f"the gradients of the shards differ in size, {sizes[0]} and {size}; all ranks "
                f"need the same model, and a layer must return the same gradients for all data, "
                f"with zeros in place of None"
            )


def gathered(
    comm: Any,
    compute: Callable[[], tuple[Any, Any]],
    exchange: Exchange | None = None,
) -> tuple[Any, list[Any]]:
    """Call `compute` for (result, report); return the result and the reports of all ranks.

    If `compute` raises on one rank, all ranks raise. The reports go through the memory of the
    exchange, if all ranks pass it.
    """
    if comm is None or comm.Get_size() == 1:
        result, report = compute()
        return result, [report]
    failure, result, report = None, None, None
    try:
        result, report = compute()
    except Exception as error:
        failure = error
        report = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    arrive()
    gather = comm.allgather if exchange is None else exchange.gather
    reports = gather((failure is not None, report))
    if failure is not None:
        raise failure
    for rank, (failed, text) in enumerate(reports):
        if failed:
            message = f"rank {rank} failed, so this step fails on all ranks: {text}"
            raise caused_elsewhere(RuntimeError(message))
    return result, [report for _, report in reports]


def _total(
    split: Split, comm: Any, sums: dict[Any, Any], exchange: Exchange | None, level: int
) -> Tree:
    """Return the sum of all terms: from the memory of the exchange, unless the level is 0."""
    if exchange is None or level == 0:
        plain = {
            node: Vectors(each.tree()) if isinstance(each, Slot) else each
            for node, each in sums.items()
        }
        return broadcast_sum(split, comm, plain)
    return exchange.part_sums(split) if level > 1 else exchange.total(split)


def broadcast_sum(split: Split, comm: Any, sums: dict[tuple[int, int], Vectors]) -> Tree:
    """Return the sum of all terms on every rank; a rank without terms receives the sum."""
    rank, ranks = rank_and_count(comm)
    if ranks == 1:
        return sums[0, split.count].tree()
    if rank >= split.active:
        return comm.recv(source=rank % split.active)
    total = allreduce(split, comm, sums).tree()
    for idle in range(split.active, ranks):
        if idle % split.active == rank:
            comm.send(total, dest=idle)
    return total


def check_equal(what: str, reports: list[Any]) -> None:
    """Raise on every rank unless all reports are equal."""
    for rank, report in enumerate(reports):
        if report != reports[0]:
            raise ValueError(
                f"the ranks have different {what}: {reports[0]} on rank 0, {report} on rank {rank}"
            )


def rank_and_count(comm: Any) -> tuple[int, int]:
    """Return the rank of this process and the number of ranks."""
    return (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())


def _split(size: int, shards: int, comm: Any) -> tuple[Split, int]:
    """Return the assignment of shards to ranks, and this rank; no shard is empty."""
    rank, ranks = rank_and_count(comm)
    return Split(min(size, shards), ranks), rank
