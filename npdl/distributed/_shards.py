"""The shards of a batch: what is computed on each, which rank computes it, and their mean."""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl import random, tree
from npdl._data import check_data
from npdl.distributed._agreement import check_communicator
from npdl.distributed._reduction import Split, Vectors, fixed_sum, local_sums, meet, part_of
from npdl.functional._checks import check_int
from npdl.functional._layer import Params
from npdl.tree import Tree

__all__ = [
    "Weigh",
    "check_alike",
    "over_shards",
    "place_of",
    "rows_of",
    "shared",
    "spread",
]

Weigh: TypeAlias = Callable[..., Any]


def over_shards(
    terms: Callable[..., tuple[Any, dict[str, Any], Params, Any]],
    shards: int,
    comm: Any = None,
    weigh: Weigh | None = None,
    merge: Callable[[Any, Any], Any] = dict.__or__,
) -> Callable[..., tuple[float, dict[str, Any], Params, tuple[Any, ...], float]]:
    """Return a function that averages over shards: :func:`sharded`, with further sums.

    Parameters
    ----------
    terms : callable
        ``f(params, *data, rng=key, **options) -> (loss, sums, grads, kept)``: loss and gradient
        of a shard, a dict of sums over its examples, and anything that is to be kept.
    shards, comm, weigh
        As in :func:`sharded`.
    merge : callable
        ``merge(sums, sums) -> sums`` of two shards.

    Returns
    -------
    callable
        ``f(params, *data, rng=None, size=None, **options) -> (loss, sums, grads, kept, weight)``,
        with what was kept of each shard of this rank, and the weight of the batch.
    """
    shards = check_int(shards, "sharded(…, shards=8)", least=1)
    check_communicator(comm)

    def average(
        params: Params,
        *data: Any,
        rng: random.KeyLike | None = None,
        size: int | None = None,
        **options: Any,
    ) -> tuple[float, dict[str, Any], Params, tuple[Any, ...], float]:
        key = None if rng is None else random.key(rng)
        batch, begun = shared(comm, lambda: _begin(data, size, shards, comm, weigh))
        weights, weight = _weights(begun)

        def compute() -> tuple[Any, Any]:
            figures, kept = [], []
            sizes: list[dict[str, int]] = []

            def term(i: int) -> Vectors:
                child = None if key is None else (*key, i)
                try:
                    loss, sums, grads, rest = terms(params, *batch.part(i), rng=child, **options)
                except Exception as error:
                    error.add_note(f"in shard {i} of {batch.split.count}, of {batch.size} examples")
                    raise
                figures.append((float(loss), sums))
                kept.append(rest)
                vectors = Vectors(grads, weights[i])
                sizes.append(vectors.sizes)
                _check_sizes([sizes[0], sizes[-1]])
                return vectors

            sums = local_sums(batch.mine, batch.split.count, term)
            return (sums, tuple(kept)), (sizes[:1], figures)

        (sums, kept), done = shared(comm, compute)
        _check_sizes([size for sizes, _ in done for size in sizes])
        figures = [figure for _, each in done for figure in each]
        loss = fixed_sum(0, len(figures), lambda i: weights[i] * figures[i][0])
        further = fixed_sum(0, len(figures), lambda i: figures[i][1], merge)
        return loss, further, spread(batch.split, comm, sums), kept, weight

    return average


def rows_of(size: int, shards: int, comm: Any = None) -> slice:
    """Return which examples of a batch the shards of this rank are, so that it reads no others.

    Parameters
    ----------
    size : int
        The number of examples of the batch.
    shards : int
        The number of shards that it is cut into.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``.

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
    first, last = (part_of(size, split.count, i) for i in (mine[0], mine[-1]))
    return slice(first.start, last.stop)


@attrs.frozen(eq=False, repr=False)
class _Batch:
    """The examples that this rank has of a batch, and which shards they are."""

    size: int  # of the whole batch
    split: Split
    mine: range
    data: tuple[Any, ...]
    first: int  # the example of the batch that is the first one here

    def part(self, i: int) -> tuple[Any, ...]:
        """Return the examples of a shard: contiguous, wherever they were taken from."""
        rows = part_of(self.size, self.split.count, i)
        here = slice(rows.start - self.first, rows.stop - self.first)
        return tree.map(lambda array: np.ascontiguousarray(array[here]), self.data)  # type: ignore[no-any-return]


def _begin(
    data: tuple[Any, ...], size: int | None, shards: int, comm: Any, weigh: Weigh | None
) -> tuple[_Batch, tuple[int, list[float]]]:
    """Find this rank's shards, and report the size of the batch and what the shards weigh."""
    if size is not None:
        size = check_int(size, "rows_of(size=64, …)", least=1)
    total = check_data(data, "batch") if size is None else int(size)
    split, rank = _split(total, shards, comm)
    rows = rows_of(total, shards, comm)
    if size is not None and rows.start < rows.stop:
        check_data(data, "batch")
    if size is not None and (here := len(tree.leaves(data)[0])) != rows.stop - rows.start:
        raise ValueError(
            f"of a batch of {size} examples in {shards} shards this rank takes the examples "
            f"{rows.start} to {rows.stop - 1}, but its arrays have {here}; choose them with "
            f"rows_of({size}, {shards}, comm), or leave size out and give the whole batch"
        )
    first = 0 if size is None else rows.start
    batch = _Batch(total, split, split.terms(rank), data, first)
    if weigh is None:
        return batch, (total, [len(part_of(total, split.count, i)) for i in batch.mine])
    return batch, (total, [float(weigh(*batch.part(i))) for i in batch.mine])


def _weights(begun: list[tuple[int, list[float]]]) -> tuple[list[float], float]:
    """Return the weight of each shard in the mean over the batch, and the weight of the batch."""
    check_alike("batches of sizes", [size for size, _ in begun])
    weights = [weight for _, each in begun for weight in each]
    total = sum(weights)
    return [weight / (total or 1.0) for weight in weights], total


def _check_sizes(sizes: list[dict[str, int]]) -> None:
    """Raise, on every rank, unless the gradients of all shards can be added."""
    for size in sizes:
        if size != sizes[0]:
            raise ValueError(
                f"the gradients of the shards differ in size, {sizes[0]} and {size}; all ranks "
                f"need the same model, and a layer that has no gradient for some data must return "
                f"zeros there, not None"
            )


def shared(comm: Any, compute: Callable[[], tuple[Any, Any]]) -> tuple[Any, list[Any]]:
    """Return what `compute` gives this rank, and its reports of all; if one fails, all raise."""
    if comm is None or comm.Get_size() == 1:
        result, report = compute()
        return result, [report]
    failure, result, report = None, None, None
    try:
        result, report = compute()
    except Exception as error:
        failure = error
        report = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    reports = comm.allgather((failure is not None, report))
    if failure is not None:
        raise failure
    for rank, (failed, text) in enumerate(reports):
        if failed:
            raise RuntimeError(f"rank {rank} failed, and with it this step of all ranks: {text}")
    return result, [report for _, report in reports]


def spread(split: Split, comm: Any, sums: dict[tuple[int, int], Vectors]) -> Tree:
    """Return the sum of all terms on every rank; one without a term takes it from another."""
    rank, ranks = place_of(comm)
    if ranks == 1:
        return sums[0, split.count].tree()
    if rank >= split.active:
        return comm.recv(source=rank % split.active)
    total = meet(split, comm, sums).tree()
    for idle in range(split.active, ranks):
        if idle % split.active == rank:
            comm.send(total, dest=idle)
    return total


def check_alike(what: str, reports: list[Any]) -> None:
    """Raise, on every rank, unless all reports are equal."""
    for rank, report in enumerate(reports):
        if report != reports[0]:
            raise ValueError(
                f"the ranks have different {what}: {reports[0]} on rank 0, {report} on rank {rank}"
            )


def place_of(comm: Any) -> tuple[int, int]:
    """Return this rank, and the number of ranks."""
    return (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())


def _split(size: int, shards: int, comm: Any) -> tuple[Split, int]:
    """Return who has which shards; there are no more of them than examples."""
    rank, ranks = place_of(comm)
    return Split(min(size, shards), ranks), rank
