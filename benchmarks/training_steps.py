"""The time of whole training steps, and of their matrix products alone (`floor.py`).

The libraries take turns in one process with two threads. Then npdl runs in two ranks of MPI, each
with one thread and with one of two shards of the batch. For the threads of `--threads`, there are
as many ranks.
"""

import json
import os
import sys
import time
from pathlib import Path

from floor import floor_step
from steps import STEPS, npdl_step, takes_part
from timing import PAUSE, SECONDS_A_RUN, measure, seconds, summary
from workloads import WORKLOADS

ROUNDS = 9


def jobs():
    return list(WORKLOADS)


def run(name, rounds):
    """Return the milliseconds of a step of each library, and of the floor."""
    from workers import launch

    runs = {
        library: step(WORKLOADS[name])
        for library, step in STEPS.items()
        if takes_part(library, name)
    }
    found = measure({**runs, "floor": floor_step(WORKLOADS[name])}, rounds)
    ranks = int(os.environ["OMP_NUM_THREADS"])
    return found | {"npdl_ranks": launch(ranks, __file__, name, str(rounds))}


def on_ranks(name, rounds):
    """Return the milliseconds of a step of all ranks of this job together."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    steps = npdl_step(WORKLOADS[name], shards=comm.Get_size(), comm=comm)
    steps(3)
    count = comm.bcast(max(3, round(SECONDS_A_RUN / seconds(steps, 3))))
    times = []
    for _ in range(rounds):
        time.sleep(PAUSE)
        steps(1)
        comm.Barrier()
        times.append(1e3 * comm.allreduce(seconds(steps, count), MPI.MAX))
    return summary(times) if comm.Get_rank() == 0 else None


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if found := on_ranks(sys.argv[1], int(sys.argv[2])):
        print(json.dumps(found))
