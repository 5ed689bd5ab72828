"""Sums in a fixed order, independent of the ranks that compute the terms.

The terms 0 to n - 1 are added in a binary tree: a range of terms is split at the largest power of
two below its size. Each rank has a contiguous range of terms. First, a rank adds up the largest
subtrees within its range. Then the ranks compute the remaining nodes of the tree one by one: after
each node, every rank with a term in that node holds its sum. If the numbers of ranks and terms are
powers of two, this is recursive doubling.

Floating-point sums depend on their order, and this order depends on n only. So the bits of the
result are the same for any number of ranks.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import numpy as np

from npdl import tree
from npdl.functional._arrays import describe
from npdl.functional._kernels.blocks import MESSAGE_BYTES
from npdl.tree import Array, Tree

__all__ = [
    "Split",
    "Vectors",
    "allreduce",
    "chunk_range",
    "fixed_sum",
    "local_sums",
    "middle_of",
    "subtrees",
]

T = TypeVar("T")


def chunk_range(size: int, chunks: int, i: int) -> range:
    """Return the i-th chunk of ``range(size)``; chunk sizes differ by at most one, long first."""
    each, longer = divmod(size, chunks)
    start = i * each + min(i, longer)
    return range(start, start + each + (i < longer))


@attrs.frozen(eq=False, repr=False)
class Split:
    """Assignment of the terms of a sum to ranks; ranks beyond the number of terms have none."""

    count: int
    ranks: int

    @property
    def active(self) -> int:
        """The number of ranks with at least one term."""
        return min(self.count, self.ranks)

    def terms(self, rank: int) -> range:
        """Return the terms of a rank."""
        return chunk_range(self.count, self.active, rank) if rank < self.active else range(0)

    def holders(self, start: int, stop: int) -> range:
        """Return the ranks with at least one term in a range."""
        ranks = [r for r in range(self.active) if _overlap(self.terms(r), start, stop)]
        return range(ranks[0], ranks[-1] + 1)


class Vectors:
    """A tree of numbers as one new vector per data type; no other object shares the vectors."""

    def __init__(self, like: Tree, factor: float | None = None) -> None:
        arrays = [np.asarray(leaf) for leaf in tree.leaves(like)]
        self.like = like
        self.layout: list[tuple[str, slice, tuple[int, ...]]] = []
        sizes: dict[str, int] = {}
        for array in arrays:
            if array.dtype.kind not in "iufc":
                raise TypeError(f"expected a tree of arrays of numbers, got {describe(array)}")
            name = array.dtype.str
            start = sizes.get(name, 0)
            sizes[name] = start + array.size
            self.layout.append((name, slice(start, start + array.size), array.shape))
        self.vectors = {name: np.empty(size, name) for name, size in sizes.items()}
        for array, view in zip(arrays, self._views(), strict=True):
            if factor is None:
                view[...] = array
            else:
                np.multiply(array, factor, out=view)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of elements per data type."""
        return {name: vector.size for name, vector in self.vectors.items()}

    def __iadd__(self, other: "Vectors") -> "Vectors":
        for name, vector in self.vectors.items():
            vector += other.vectors[name]
        return self

    def tree(self) -> Tree:
        """Return the tree, whose leaves are views into the vectors."""
        return tree.unflatten(self.like, self._views())

    def _views(self) -> list[Array]:
        return [self.vectors[name][part].reshape(shape) for name, part, shape in self.layout]


def fixed_sum(
    start: int, stop: int, term: Callable[[int], T], add: Callable[[T, T], T] = operator.iadd
) -> T:
    """Return the sum of the terms of one subtree; terms are added with ``+=`` by default."""
    if stop - start == 1:
        return term(start)
    middle = middle_of(start, stop)
    return add(fixed_sum(start, middle, term, add), fixed_sum(middle, stop, term, add))


def subtrees(mine: range, count: int) -> list[tuple[int, int]]:
    """Return the largest subtrees within a range of the terms, in order."""
    found: list[tuple[int, int]] = []

    def visit(start: int, stop: int) -> None:
        if mine.start <= start and stop <= mine.stop:
            found.append((start, stop))
        elif _overlap(mine, start, stop):
            middle = middle_of(start, stop)
            visit(start, middle)
            visit(middle, stop)

    visit(0, count)
    return found


def middle_of(start: int, stop: int) -> int:
    """Return the term at which the tree splits a range of terms."""
    return start + (1 << (stop - start - 1).bit_length() - 1)


def local_sums(mine: range, count: int, term: Callable[[int], T]) -> dict[tuple[int, int], T]:
    """Return the sums of the largest subtrees within a range, computed in the order of terms."""
    return {node: fixed_sum(*node, term) for node in subtrees(mine, count)}


def allreduce(split: Split, comm: Any, sums: dict[tuple[int, int], Vectors]) -> Vectors:
    """Return the sum of all terms on every rank with a term, from the result of `local_sums`."""
    mine = split.terms(comm.Get_rank())

    def total(start: int, stop: int) -> Vectors | None:
        if (start, stop) in sums:
            return sums.pop((start, stop))
        if not _overlap(mine, start, stop):
            return None
        middle = middle_of(start, stop)
        left, right = total(start, middle), total(middle, stop)
        return _add_halves(
            comm, left, right, split.holders(start, middle), split.holders(middle, stop)
        )

    result = total(0, split.count)
    assert result is not None
    return result


def _add_halves(
    comm: Any, left: Vectors | None, right: Vectors | None, lefts: range, rights: range
) -> Vectors:
    """Return left + right on every rank that holds either half; a rank may hold both."""
    rank = comm.Get_rank()
    sends, source = [], None
    for half, owners, others in ((left, lefts, rights), (right, rights, lefts)):
        # Each rank without this half receives it from one of its owners, in turn.
        for i, receiver in enumerate(other for other in others if other not in owners):
            sender = owners[i % len(owners)]
            if sender == rank:
                sends.append((half, receiver))
            if receiver == rank:
                source = sender
    own: Any = right if left is None else left
    for name, vector in own.vectors.items():
        size = MESSAGE_BYTES // vector.itemsize
        buffer = np.empty(min(size, vector.size), vector.dtype)
        for block in _blocks(vector.size, size):
            requests = [
                comm.Isend(half.vectors[name][block].view(np.uint8), to)  # type: ignore[union-attr]
                for half, to in sends
            ]
            mine = vector[block]
            received = buffer[: mine.size]
            if source is not None:
                comm.Recv(received.view(np.uint8), source)
            for request in requests:
                request.Wait()
            if left is None:
                np.add(received, mine, out=mine)
            else:
                np.add(mine, received if right is None else right.vectors[name][block], out=mine)
    return own  # type: ignore[no-any-return]


def _blocks(size: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, size, step))


def _overlap(terms: range, start: int, stop: int) -> bool:
    return terms.start < stop and start < terms.stop
