"""The outputs of a model for data that are read batch by batch, in blocks of batches."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdl import tree
from npdl._blas import SmallSteps
from npdl._data import batches
from npdl.distributed._agreement import check_communicator
from npdl.distributed._concatenation import concatenated
from npdl.distributed._job import world
from npdl.distributed._reduction import chunk_range
from npdl.functional._arrays import check_class, describe
from npdl.functional._layer import Layer, Params

__all__ = [
    "blocks_of",
    "check_out",
    "joined",
    "keep_freed_memory",
    "outputs_of_blocks",
    "over_batches",
]

# Numbers in the outputs of a block. The temporary arrays of a loss are a few times larger.
_BLOCK = 1 << 20


def check_out(out: Any, like: Any, count: int, used: Any) -> None:
    """Raise unless `out` can hold the outputs of all examples, without changing used arrays."""
    wanted = tree.map(lambda y: np.broadcast_to(y[:1], (count, *y.shape[1:])), like)
    arrays = tree.leaves(out)
    for array in arrays:
        check_class(array, "predict(…, out)")
    kinds = [(y.shape, y.dtype) for y in tree.leaves(wanted)]
    if describe(out) != describe(wanted) or [(a.shape, a.dtype) for a in arrays] != kinds:
        raise ValueError(
            f"predict(…, out): expected {describe(wanted)} for the outputs, got {describe(out)}; "
            f"create each array with np.empty(shape, dtype)"
        )
    if not all(array.flags.writeable for array in arrays):
        raise ValueError("predict(…, out): out is read-only; pass an array that may be written")
    if any(np.shares_memory(a, b) for a in arrays for b in tree.leaves(used)):
        raise ValueError(
            "predict(…, out): out shares memory with the inputs or the parameters, which are "
            "never written; pass another array"
        )


def blocks_of(like: Any, count: int, batch_size: int) -> list[range]:
    """Return the numbers of the batches of each block; `like` has the outputs of one example."""
    numbers = batch_size * sum(y.size for y in tree.leaves(like))
    steps, size = -(-count // batch_size), max(1, _BLOCK // max(1, numbers))
    return [range(first, min(first + size, steps)) for first in range(0, steps, size)]


def outputs_of_blocks(
    model: Layer,
    params: Params,
    data: Any,
    count: int,
    batch_size: int,
    blocks: list[range],
    comm: Any,
    targets: bool = False,
) -> Iterator[tuple[tuple[Any, ...], slice]]:
    """Yield (outputs, *targets) of each block of batches, and the rows of the block."""
    keep_freed_memory()

    def computed(numbers: range) -> tuple[Any, ...]:
        small, parts = SmallSteps(), []
        read = batches(data, count, batch_size, first=numbers.start)
        for (x, *others), _ in itertools.islice(read, len(numbers)):
            with small(params, x):
                parts.append((model(params, x), *(others if targets else ())))
        found: tuple[Any, ...] = joined(parts)
        return found

    for block in blocks:
        rows = slice(block.start * batch_size, min(block.stop * batch_size, count))

        def of_block(part: range, block: range = block) -> tuple[Any, ...]:
            return computed(block[part.start : part.stop])

        yield over_batches(of_block, len(block), count, comm), rows


def over_batches(
    outputs_of: Callable[[range], Any], steps: int, count: int, comm: Any = None
) -> Any:
    """Return the outputs for all batches, which the ranks share; a single batch is not shared.

    Parameters
    ----------
    outputs_of : callable
        Returns the outputs for a range of batches.
    steps, count : int
        The numbers of batches and of examples.
    comm : communicator, optional
        By default, the communicator of the job, if any.
    """
    check_communicator(comm)
    comm = world() if comm is None else comm
    if comm is None or comm.Get_size() == 1 or steps == 1:
        return outputs_of(range(steps))
    mine = chunk_range(steps, comm.Get_size(), comm.Get_rank())
    return concatenated(comm, lambda: outputs_of(mine) if mine else None, count)


def joined(outputs: list[Any]) -> Any:
    """Return the concatenated outputs of batches, in C order: the order affects later sums."""
    if len(outputs) == 1:
        return outputs[0]
    return tree.map(lambda *y: np.ascontiguousarray(np.concatenate(y)), *outputs)


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of one batch's arrays for the next batch.

    By default, glibc returns freed memory to the system, and the next batch pays a page fault per
    page. After an allocation of a larger array is freed, glibc keeps up to twice that size. An
    array of just under 32 MB, the limit of glibc, costs nothing: its pages are never touched.
    """
    np.empty((32 << 20) - (1 << 16), np.uint8)
