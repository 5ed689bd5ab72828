"""Ranks in threads: a communicator with the methods of mpi4py's that npdl calls."""

import pickle
import threading
from collections import defaultdict, deque
from unittest import mock

from npdl.distributed import _exchange

SECONDS = 20


class Done:
    """A request that is complete."""

    def Wait(self):
        pass


class Job:
    """The shared state of the ranks. A rank runs while it holds the condition, so one at a time."""

    def __init__(self, size):
        self.size = size
        self.turn = threading.Condition()
        self.boxes = defaultdict(deque)
        self.gathered = defaultdict(dict)
        self.exposed = {}

    def wait_for(self, predicate):
        if not self.turn.wait_for(predicate, SECONDS):
            raise TimeoutError("the ranks wait for each other")


class Comm:
    """One rank's communicator."""

    def __init__(self, job, rank):
        self.job, self.rank, self.round = job, rank, 0
        self.sent = self.received = 0

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.job.size

    def put(self, item, dest):
        self.job.boxes[self.rank, dest].append(item)
        self.job.turn.notify_all()

    def take(self, source):
        box = self.job.boxes[source, self.rank]
        self.job.wait_for(lambda: box)
        return box.popleft()

    def send(self, value, dest):
        self.put(pickle.dumps(value), dest)

    def recv(self, source):
        return pickle.loads(self.take(source))

    def Isend(self, array, dest):
        self.put(array.copy(), dest)
        self.sent += array.nbytes
        return Done()

    def Recv(self, array, source):
        item = self.take(source)
        assert (item.dtype, item.shape) == (array.dtype, array.shape)
        array[...] = item
        self.received += array.nbytes

    def allgather(self, value):
        gathered = self.job.gathered[self.round]
        self.round += 1
        gathered[self.rank] = pickle.dumps(value)
        self.job.turn.notify_all()
        self.job.wait_for(lambda: len(gathered) == self.job.size)
        return [pickle.loads(gathered[rank]) for rank in range(self.job.size)]

    def bcast(self, value, root):
        return self.allgather(value if self.rank == root else None)[root]

    def Bcast(self, array, root):
        array[...] = self.bcast(array, root)

    def Barrier(self):
        self.allgather(None)

    def Abort(self, status):
        raise SystemExit(status)


class Window:
    """Memory that the other ranks can read, in the place of a window of MPI."""

    def __init__(self, comm, memory):
        self.comm = comm
        comm.job.exposed[comm.rank] = memory
        comm.Barrier()

    def read(self, rank, start, out):
        assert rank != self.comm.rank
        out[...] = self.comm.job.exposed[rank][start : start + out.size]

    def free(self):
        self.comm.Barrier()


def on_ranks(size, function):
    """Return the result of ``function(comm)`` on each rank, or its exception."""
    job = Job(size)
    results = [None] * size

    def run(rank):
        with job.turn:
            try:
                results[rank] = function(Comm(job, rank))
            except BaseException as error:
                results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    with mock.patch.object(_exchange, "Window", Window):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    left = [box for box in job.boxes.values() if box]
    assert not left or any(isinstance(result, BaseException) for result in results)
    return results


def checked(results):
    """Return the results of ranks, or raise the first exception among them."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
