"""Arrays that ranks compute in parts: each rank receives the whole."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import tree
from npdl.distributed._shards import check_equal, gathered
from npdl.functional._kernels.blocks import MESSAGE_BYTES
from npdl.tree import Array, Tree

__all__ = ["concatenated"]


def concatenated(comm: Any, compute: Callable[[], Tree | None], count: int) -> Tree:
    """Return the trees of all ranks, concatenated along the first axis, on every rank.

    Parameters
    ----------
    comm : communicator
        An MPI communicator.
    compute : callable
        Returns the tree of this rank; the last ranks may have `None`. If it raises on one rank,
        all ranks raise.
    count : int
        The number of examples, equal on all ranks.
    """

    def described() -> tuple[Tree | None, Any]:
        own = compute()
        if own is None:
            return None, (count, None, [])
        empty = tree.map(lambda y: np.empty((0, *y.shape[1:]), y.dtype), own)
        return own, (count, empty, [len(y) for y in tree.leaves(own)])

    own, reports = gathered(comm, described)
    check_equal("numbers of examples", [number for number, _, _ in reports])
    like = reports[0][1]
    mine = tree.leaves(own)
    wholes: list[Array] = []
    for i, empty in enumerate(tree.leaves(like)):
        lengths = [each[i] if each else 0 for _, _, each in reports]
        whole = np.empty((sum(lengths), *empty.shape[1:]), empty.dtype)
        start = 0
        for rank, length in enumerate(lengths):
            part = whole[start : start + length]
            start += length
            if rank == comm.Get_rank() and length:
                part[...] = mine[i]
            _broadcast(comm, part.reshape(-1).view(np.uint8), rank)
        wholes.append(whole)
    return tree.unflatten(like, wholes)


def _broadcast(comm: Any, data: Array, root: int) -> None:
    for start in range(0, data.size, MESSAGE_BYTES):
        comm.Bcast(data[start : start + MESSAGE_BYTES], root)
