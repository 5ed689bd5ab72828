"""Sums in a fixed order, whoever computes their terms.

The terms 0 to n - 1 are added in a binary tree: a range of them is halved at the largest power of
two below its size. Each rank has a contiguous range of the terms. First it adds up the largest
subtrees that lie within its range; then the ranks meet, a node of the tree after the other: when a
node is done, every rank that has a term in it holds its sum. Where the ranks and the terms are
powers of two, this is recursive doubling.

Floating-point sums depend on their order, and this one depends on n alone. So the bits of the
result are the same for any number of ranks.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import numpy as np

from npdl import tree
from npdl.functional._layer import Array, describe
from npdl.tree import Tree

__all__ = ["Split", "Vectors", "fixed_sum", "local_sums", "meet", "part_of"]

# Bytes of a message: few enough that what came is added while it is still in the cache.
BLOCK = 1 << 21

T = TypeVar("T")


def part_of(size: int, parts: int, i: int) -> range:
    """Return the i-th of nearly equal parts of a range: the first ones are one longer."""
    each, longer = divmod(size, parts)
    start = i * each + min(i, longer)
    return range(start, start + each + (i < longer))


@attrs.frozen(eq=False, repr=False)
class Split:
    """Which rank has which of the terms of a sum; ranks beyond their number have none."""

    count: int
    ranks: int

    @property
    def active(self) -> int:
        """The number of ranks that have a term."""
        return min(self.count, self.ranks)

    def terms(self, rank: int) -> range:
        """Return the terms of a rank."""
        return part_of(self.count, self.active, rank) if rank < self.active else range(0)

    def holders(self, start: int, stop: int) -> range:
        """Return the ranks that have a term in a range."""
        ranks = [r for r in range(self.active) if _overlap(self.terms(r), start, stop)]
        return range(ranks[0], ranks[-1] + 1)


class Vectors:
    """A tree of numbers as one vector of each data type, which belong to this value alone."""

    def __init__(self, like: Tree, factor: float | None = None) -> None:
        arrays = [np.asarray(leaf) for leaf in tree.leaves(like)]
        self.like = like
        self.places: list[tuple[str, slice, tuple[int, ...]]] = []
        sizes: dict[str, int] = {}
        for array in arrays:
            if array.dtype.kind not in "iufc":
                raise TypeError(f"expected a tree of arrays of numbers, got {describe(array)}")
            name = array.dtype.str
            start = sizes.get(name, 0)
            sizes[name] = start + array.size
            self.places.append((name, slice(start, start + array.size), array.shape))
        self.vectors = {name: np.empty(size, name) for name, size in sizes.items()}
        for array, view in zip(arrays, self._views(), strict=True):
            if factor is None:
                view[...] = array
            else:
                np.multiply(array, factor, out=view)

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers there are of each data type."""
        return {name: vector.size for name, vector in self.vectors.items()}

    def __iadd__(self, other: "Vectors") -> "Vectors":
        for name, vector in self.vectors.items():
            vector += other.vectors[name]
        return self

    def tree(self) -> Tree:
        """Return the tree, of views into the vectors."""
        return tree.unflatten(self.like, self._views())

    def _views(self) -> list[Array]:
        return [self.vectors[name][place].reshape(shape) for name, place, shape in self.places]


def fixed_sum(
    start: int, stop: int, term: Callable[[int], T], add: Callable[[T, T], T] = operator.iadd
) -> T:
    """Return the sum of the terms of a range that is a subtree, with ``+=`` between terms."""
    if stop - start == 1:
        return term(start)
    middle = _middle(start, stop)
    return add(fixed_sum(start, middle, term, add), fixed_sum(middle, stop, term, add))


def local_sums(
    mine: range, count: int, term: Callable[[int], Vectors]
) -> dict[tuple[int, int], Vectors]:
    """Return the sums of the largest subtrees that lie within a range, computed in its order."""
    sums: dict[tuple[int, int], Vectors] = {}

    def visit(start: int, stop: int) -> None:
        if mine.start <= start and stop <= mine.stop:
            sums[start, stop] = fixed_sum(start, stop, term)
        elif _overlap(mine, start, stop):
            middle = _middle(start, stop)
            visit(start, middle)
            visit(middle, stop)

    visit(0, count)
    return sums


def meet(split: Split, comm: Any, sums: dict[tuple[int, int], Vectors]) -> Vectors:
    """Return the sum of all terms, on every rank that has one, from what `local_sums` returned."""
    mine = split.terms(comm.Get_rank())

    def total(start: int, stop: int) -> Vectors | None:
        if (start, stop) in sums:
            return sums.pop((start, stop))
        if not _overlap(mine, start, stop):
            return None
        middle = _middle(start, stop)
        left, right = total(start, middle), total(middle, stop)
        return _joined(comm, left, right, split.holders(start, middle), split.holders(middle, stop))

    result = total(0, split.count)
    assert result is not None
    return result


def _joined(
    comm: Any, left: Vectors | None, right: Vectors | None, lefts: range, rights: range
) -> Vectors:
    """Return left + right on the ranks of both; one that has both halves already may be among."""
    rank = comm.Get_rank()
    sends, source = [], None
    for half, owners, others in ((left, lefts, rights), (right, rights, lefts)):
        # Those who lack this half take it from one of its owners, in turn.
        for i, receiver in enumerate(other for other in others if other not in owners):
            sender = owners[i % len(owners)]
            if sender == rank:
                sends.append((half, receiver))
            if receiver == rank:
                source = sender
    own: Any = right if left is None else left
    for name, vector in own.vectors.items():
        size = BLOCK // vector.itemsize
        buffer = np.empty(min(size, vector.size), vector.dtype)
        for block in _blocks(vector.size, size):
            requests = [
                comm.Isend(half.vectors[name][block].view(np.uint8), to)  # type: ignore[union-attr]
                for half, to in sends
            ]
            mine = vector[block]
            got = buffer[: mine.size]
            if source is not None:
                comm.Recv(got.view(np.uint8), source)
            for request in requests:
                request.Wait()
            if left is None:
                np.add(got, mine, out=mine)
            else:
                np.add(mine, got if right is None else right.vectors[name][block], out=mine)
    return own  # type: ignore[no-any-return]


def _blocks(size: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, size, step))


def _middle(start: int, stop: int) -> int:
    return start + (1 << (stop - start - 1).bit_length() - 1)


def _overlap(terms: range, start: int, stop: int) -> bool:
    return terms.start < stop and start < terms.stop
