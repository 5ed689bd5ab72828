"""Memory that other ranks see: all memory on one host, or windows that they read from."""

import mmap
import os
from typing import Any

import numpy as np

from npdl.tree import Array

__all__ = ["Window", "shared_memory"]

# The bytes before the memory, which hold the mark.
_HEADER = 4096
# Bytes of one transfer: MPI counts with 31 bits.
_LARGEST = 1 << 30


def shared_memory(comm: Any, size: int) -> Array | None:
    """Return bytes that all ranks can write and read, or `None` if they cannot share memory.

    All ranks must call it, and all get memory or `None`. The memory has no name in a file system:
    the system frees it with the last array of the last process, also after a kill. It is zero at
    first, and takes space only where it is used.

    Parameters
    ----------
    comm : communicator
        An MPI communicator.
    size : int
        The number of bytes.
    """
    first = comm.Get_rank() == 0
    own, offer = _create(size) if first else (None, None)
    offer = comm.bcast(offer, root=0)
    memory = None
    try:
        if offer is not None:
            memory = own if first else _opened(size, *offer)
    finally:
        # The first rank's file stays open until all ranks have opened it.
        shared = all(comm.allgather(memory is not None))
        if offer is not None and first:
            os.close(offer[1])
    return memory if shared else None


def _create(size: int) -> tuple[Array | None, tuple[int, int, bytes] | None]:
    """Return new memory, and its address for other processes: process, file and a mark."""
    if not hasattr(os, "memfd_create"):
        return None, None
    try:
        file = os.memfd_create("npdl")
    except OSError:
        return None, None
    mark = os.urandom(16)
    try:
        os.truncate(file, _HEADER + size)
        os.pwrite(file, mark, 0)
        return _mapped(file, size), (os.getpid(), file, mark)
    except OSError:
        os.close(file)
        return None, None


def _opened(size: int, process: int, file: int, mark: bytes) -> Array | None:
    """Return the memory of another process; `None` if that process is on another host."""
    try:
        own = os.open(f"/proc/{process}/fd/{file}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # On another host, the same numbers can belong to another file.
        return _mapped(own, size) if os.pread(own, len(mark), 0) == mark else None
    except OSError:
        return None
    finally:
        os.close(own)


def _mapped(file: int, size: int) -> Array:
    return np.frombuffer(mmap.mmap(file, _HEADER + size), np.uint8, offset=_HEADER)


class Window:
    """Memory of all ranks from which each rank can read at any time."""

    def __init__(self, comm: Any, memory: Array) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._window = MPI.Win.Create(memory, comm=comm)

    def read(self, rank: int, start: int, out: Array) -> None:
        """Copy bytes of a rank's memory, from `start` on, into an array of bytes."""
        self._window.Lock(rank, self._mpi.LOCK_SHARED)
        for first in range(0, out.size, _LARGEST):
            part = out[first : first + _LARGEST]
            self._window.Get(part, rank, start + first)
        self._window.Unlock(rank)

    def free(self) -> None:
        """End the access; all ranks must call it."""
        self._window.Free()
