"""Exchange of gradients and parameters between ranks, each of which owns a part of the vectors.

The memory of a rank is a row of records. A record has all vectors of the parameters' layout, one
after another. The first records are slots for weighted gradients: the slot i belongs to shard i.
Then follow a record for the sum of the gradients, the parameters, and the optimizer's state::

    slots 0 … shards - 1 | sum | parameters | state …

Each rank owns a part of all records, the same range of bytes. A step has four phases. Each rank
writes the gradients of its shards into their slots. It then adds up its part of all slots in the
order of the fixed tree, and updates its part of the parameters and of the state. Then all ranks get
all parts of the parameters.

On one host, all ranks see the same memory, so both exchanges are barriers. Between hosts, each rank
has its own memory, and messages copy the ranges of bytes: a reduce-scatter and an all-gather.
"""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdl.distributed._job import arrive
from npdl.distributed._memory import Window, shared_memory
from npdl.distributed._reduction import Split, middle_of, subtrees
from npdl.functional._kernels.blocks import MESSAGE_BYTES, UPDATE_BLOCK
from npdl.functional.optimizers._layout import Layout
from npdl.tree import Array, Tree

__all__ = ["Exchange", "PartSums", "Slot"]

# Parts begin at multiples of a page. So no line of memory belongs to two ranks, and each element is
# at the same position of a vector register as in one process.
_PAGE = 4096


class Slot:
    """The sum of some shards' weighted gradients, as vectors of the layout."""

    def __init__(self, exchange: "Exchange", vectors: list[Array]) -> None:
        self.exchange, self.vectors = exchange, vectors

    @property
    def sizes(self) -> dict[str, int]:
        """The number of elements per data type."""
        sizes: dict[str, int] = {}
        for vector in self.vectors:
            sizes[vector.dtype.str] = sizes.get(vector.dtype.str, 0) + vector.size
        return sizes

    def tree(self) -> Tree:
        """Return the tree of gradients, whose leaves are views into the vectors."""
        return self.exchange.layout.trees(None, self.vectors)

    def __iadd__(self, other: "Slot") -> "Slot":
        for vector, more in zip(self.vectors, other.vectors, strict=True):
            vector += more
        return self


class PartSum:
    """A part of one vector of the total gradient; blocks of it are added up on access."""

    def __init__(self, count: int, parts: dict[tuple[int, int], Array]) -> None:
        self.count, self.parts = count, parts

    def __getitem__(self, block: slice) -> Array:
        return self._sum(0, self.count, block)

    def _sum(self, start: int, stop: int, block: slice) -> Array:
        if (found := self.parts.get((start, stop))) is not None:
            return found[block]
        middle = middle_of(start, stop)
        left, right = self._sum(start, middle, block), self._sum(middle, stop, block)
        return np.add(left, right, out=None if (start, middle) in self.parts else left)


class PartSums(tuple[PartSum, ...]):
    """The sum over all shards, for this rank's part of each vector."""


class Exchange:
    """The memory of one rank, and the exchange of its records with the other ranks.

    Parameters
    ----------
    comm : communicator
        An MPI communicator; all ranks must make the exchange together.
    shards : int
        The largest number of shards of a batch.
    layout : Layout
        The layout of the parameters' vectors.
    states : int
        The number of slots of the optimizer's state.
    """

    def __init__(self, comm: Any, shards: int, layout: Layout, states: int) -> None:
        self.comm, self.shards, self.layout, self.states = comm, shards, layout, states
        self.rank, self.ranks = comm.Get_rank(), comm.Get_size()
        self.ranges: list[slice] = []
        end = 0
        for group in layout.groups:
            start, end = end, end + group.size * group.dtype.itemsize
            self.ranges.append(slice(start, end))
            end = -(-end // _PAGE) * _PAGE
        self.record = max(end, _PAGE)
        size = (shards + 2 + states) * self.record
        shared = shared_memory(comm, size + 2 * self.ranks * _PAGE)
        self.is_shared = shared is not None
        self.memory = np.empty(size, np.uint8) if shared is None else shared[:size]
        self._window: Window | None = None
        # Some communicators only have the methods for Python objects.
        self._barrier = getattr(comm, "Barrier", lambda: comm.allgather(None))
        self.records = [self._views(record) for record in self.memory.reshape(-1, self.record)]
        # For each vector, the parameters and the slots of the optimizer's state.
        self.arrays = [list(vectors) for vectors in zip(*self.records[shards + 1 :], strict=True)]
        self.parts = [self._part(k) for k in range(len(self.ranges))]
        self._subtrees: dict[int, list[list[tuple[int, int]]]] = {}
        self._part_sums: dict[int, PartSums] = {}
        # Two boxes per rank, used in turn: all ranks have read one when the next is full.
        self._boxes = None if shared is None else shared[size:].reshape(2, self.ranks, _PAGE)
        self._turn = 0

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, like ``comm.allgather``, through shared memory."""
        if self._boxes is None:
            return list(self.comm.allgather(value))
        boxes, self._turn = self._boxes[self._turn], 1 - self._turn
        data = np.frombuffer(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), np.uint8)
        sizes = boxes[:, :8].view(np.int64)[:, 0]
        sizes[self.rank] = data.size
        boxes[self.rank, 8 : 8 + data.size] = data[: _PAGE - 8]
        self._wait()
        if sizes.max() > _PAGE - 8:
            return list(self.comm.allgather(value))
        return [pickle.loads(box[8 : 8 + size]) for box, size in zip(boxes, sizes, strict=True)]

    def written(self, i: int, split: Split, grads: Tree, weight: float) -> Slot | None:
        """Write the weighted gradients of a shard; return `None` if they do not fit the layout."""
        gradients = self.layout.gradients(grads)
        if gradients is None:
            return None
        is_first = any(start == i for start, _ in self.subtrees(split)[self.rank])
        vectors = self.records[i] if is_first else self._views(np.empty(self.record, np.uint8))
        for group, vector in zip(self.layout.groups, vectors, strict=True):
            for leaf, target in zip(group.leaves, group.parts(vector), strict=True):
                g = gradients[leaf]
                plain = type(g) is np.ndarray or isinstance(g, np.generic)
                if not plain or g.dtype != target.dtype or g.shape != target.shape:
                    return None
                np.multiply(g, weight, out=target)
        return Slot(self, vectors)

    def subtrees(self, split: Split) -> list[list[tuple[int, int]]]:
        """Return for each rank the subtrees of shards that it adds up."""
        if split.count not in self._subtrees:
            ranks = [subtrees(split.terms(rank), split.count) for rank in range(self.ranks)]
            self._subtrees[split.count] = ranks
        return self._subtrees[split.count]

    def part_sums(self, split: Split) -> PartSums:
        """Return the sum over all shards for this rank's part of each vector.

        All ranks must have written their slots before the call.
        """
        ranks = self.subtrees(split)
        if not self.is_shared:
            self._swap(
                lambda to: [self._bytes(start, to) for start, _ in ranks[self.rank]],
                lambda source: [self._bytes(start, self.rank) for start, _ in ranks[source]],
            )
        if split.count not in self._part_sums:
            nodes = [node for each in ranks for node in each]
            self._part_sums[split.count] = PartSums(
                PartSum(split.count, {node: self.records[node[0]][k][part] for node in nodes})
                for k, part in enumerate(self.parts)
            )
        return self._part_sums[split.count]

    def totals(self, sums: PartSums) -> list[Array]:
        """Return the vectors of the sum, in the memory of the exchange."""
        record = self.records[self.shards]
        for vector, part, terms in zip(record, self.parts, sums, strict=True):
            mine = vector[part]
            for start in range(0, mine.size, UPDATE_BLOCK):
                block = slice(start, start + UPDATE_BLOCK)
                mine[block] = terms[block]
        self.complete(self.shards)
        return record

    def total(self, split: Split) -> Tree:
        """Return the sum over all shards as a tree of new arrays."""
        record = self.totals(self.part_sums(split))
        return self.layout.trees(None, [vector.copy() for vector in record])

    def complete(self, record: int | None = None) -> None:
        """Give all ranks all parts of a record, by default of the parameters."""
        if self.is_shared:
            self._wait()
            return
        record = self.shards + 1 if record is None else record
        self._swap(
            lambda to: [self._bytes(record, self.rank)],
            lambda source: [self._bytes(record, source)],
        )

    def expose(self) -> None:
        """Let the other ranks read the state; all ranks must call it, and :meth:`close` at the end.

        Ranks with shared memory need neither.
        """
        if not self.is_shared and self.states and self._window is None:
            self._window = Window(self.comm, self.memory[-self.states * self.record :])

    def fetch(self) -> None:
        """Copy the other ranks' parts of the optimizer's state into this rank's memory.

        A single rank can call it: the other ranks wait for this rank before their next update.
        """
        if self._window is None:
            return
        for source in range(self.ranks):
            if source != self.rank:
                for i, record in enumerate(range(self.shards + 2, len(self.records))):
                    start = self._range(i, source).start
                    self._window.read(source, start, self._bytes(record, source))

    def close(self) -> None:
        """Free the window of the memory; all ranks must call it."""
        if self._window is not None:
            self._window.free()

    def _range(self, record: int, rank: int) -> slice:
        """Return the bytes of a rank's part of a record in the memory."""
        pages, start = self.record // _PAGE, record * self.record
        first, stop = (pages * i // self.ranks * _PAGE for i in (rank, rank + 1))
        return slice(start + first, start + stop)

    def _bytes(self, record: int, rank: int) -> Array:
        return self.memory[self._range(record, rank)]

    def _part(self, k: int) -> slice:
        """Return this rank's part of a vector."""
        mine, vector = self._range(0, self.rank), self.ranges[k]
        itemsize, size = self.layout.groups[k].dtype.itemsize, self.layout.groups[k].size
        first, stop = ((at - vector.start) // itemsize for at in (mine.start, mine.stop))
        return slice(min(max(first, 0), size), min(max(stop, 0), size))

    def _views(self, buffer: Array) -> list[Array]:
        """Return the vectors of a record."""
        return [
            buffer[bytes_].view(group.dtype)
            for group, bytes_ in zip(self.layout.groups, self.ranges, strict=True)
        ]

    def _wait(self) -> None:
        """Wait for all ranks."""
        arrive()
        self._barrier()

    def _swap(
        self, outgoing: Callable[[int], list[Array]], incoming: Callable[[int], list[Array]]
    ) -> None:
        """Send bytes to each other rank, and receive bytes from it."""
        arrive()
        for distance in range(1, self.ranks):
            to, source = (self.rank + distance) % self.ranks, (self.rank - distance) % self.ranks
            requests = [self.comm.Isend(each, to) for each in _blocks(outgoing(to))]
            for each in _blocks(incoming(source)):
                self.comm.Recv(each, source)
            for request in requests:
                request.Wait()


def _blocks(arrays: list[Array]) -> Iterator[Array]:
    """Yield the messages for some arrays of bytes."""
    for array in arrays:
        for start in range(0, array.size, MESSAGE_BYTES):
            yield array[start : start + MESSAGE_BYTES]
