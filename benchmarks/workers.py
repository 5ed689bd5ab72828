"""The gain from a second worker: steps of one and two ranks, and the cost of the exchange.

Each rank has one BLAS thread. One rank takes the global batch whole and in two shards; two ranks
take one shard each. The times give an estimate for more ranks, on this machine and on a network:
see `docs/workers.md`.

    python benchmarks/workers.py --rounds 2
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import attrs
import numpy as np

BATCH = 128
NAMES = ("cnn_cifar", "lstm_char")
MEGABYTES = (1, 10, 100)
# Seconds per message, and per byte in both directions at once.
NETWORKS = {"25 Gbit/s": (2e-5, 8 / 25e9), "10 Gbit/s": (3e-5, 8 / 10e9), "1 Gbit/s": (5e-5, 8e-9)}


def seconds(run, comm, repeats, warmup=2):
    """Return the median time of a run on all ranks together."""
    times = []
    for _ in range(warmup + repeats):
        comm.Barrier()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warmup:])


def step(name, shards, comm):
    """Return a function that runs a step; each rank has only its own examples."""
    from workloads import WORKLOADS

    import npdl.functional as F
    from npdl.distributed import rows_of
    from npdl.training import TrainState, train_step

    workload = attrs.evolve(WORKLOADS[name], batch=BATCH)
    optimizer, params = F.adam(1e-3), workload.params()
    state = TrainState(0, params, optimizer.init(params), (0,))
    x, labels = workload.data()
    options, rows = {}, slice(None)
    if shards is not None:
        rows = rows_of(BATCH, shards, comm)
        options["size"] = BATCH
    batch = np.ascontiguousarray(x[rows]), np.ascontiguousarray(labels[rows])
    make = train_step(
        workload.model, F.softmax_cross_entropy, optimizer, donate=True, shards=shards,
        comm=comm if shards else None,
    )  # fmt: skip

    def run():
        nonlocal state
        state, _ = make(state, batch, **options)

    return run


def exchange(gradient, comm):
    """Return a function that adds up a gradient of each rank, as the steps of ranks do."""
    from npdl.distributed._exchange import Exchange
    from npdl.distributed._reduction import Split
    from npdl.functional.optimizers._layout import Layout

    ranks = comm.Get_size()
    memory = Exchange(comm, ranks, Layout(gradient, gradient), 0)
    split = Split(ranks, ranks)

    def run():
        memory.written(comm.Get_rank(), split, gradient, 1 / ranks)
        memory.gather(None)
        memory.totals(memory.part_sums(split))

    return run


def work():
    """Measure on the ranks of this job, and print the times on the first rank."""
    from mpi4py import MPI

    from npdl.distributed import all_reduce

    comm = MPI.COMM_WORLD
    figures = {}
    for name in NAMES:
        for shards in (None, 2) if comm.Get_size() == 1 else (2,):
            figures[f"{name}, {shards} shards"] = seconds(step(name, shards, comm), comm, 12)
    if comm.Get_size() > 1:
        for size in MEGABYTES:
            vector = np.ones(size << 18, np.float32)
            figures[f"{size} MB"] = seconds(
                lambda vector=vector: all_reduce(vector, comm), comm, 15
            )
            figures[f"{size} MB shared"] = seconds(exchange(vector, comm), comm, 15)
        figures["1 number"] = seconds(lambda: all_reduce(np.ones(1), comm), comm, 300)
        figures["1 number shared"] = seconds(exchange(np.ones(1), comm), comm, 300)
    if comm.Get_rank() == 0:
        print(json.dumps(figures))


def launch(ranks, *program):
    """Return the result of a program that runs on some ranks, and prints JSON on the first."""
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    launcher = [shutil.which("mpiexec", path=folders), "--oversubscribe", "-n", str(ranks)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # Open MPI refuses to run as root, as in a container, without these variables.
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    output = subprocess.check_output(
        [*launcher, sys.executable, *program],
        env=environment,
        text=True,
        encoding="utf-8",
    )
    return json.loads(output)


def on_host(latency, byte):
    """Return the time of an exchange of a number of bytes between ranks that share memory."""
    return lambda ranks, size: latency + byte * size


def over_network(latency, byte):
    """Return the time of an exchange by messages: a reduce-scatter and an all-gather."""
    return lambda ranks, size: 2 * (ranks - 1) * (latency + byte * size / ranks)


def largest(compute, update, number, exchange):
    """Return the largest power of two of ranks with at least half of their time on shards.

    A step of R ranks takes ``(compute + update) / R + exchange(R, 4 number)``.
    """
    ranks = 1
    while compute / (2 * ranks) >= update / (2 * ranks) + exchange(2 * ranks, 4 * number):
        ranks *= 2
    return ranks


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    jobs = {
        ranks: [launch(ranks, __file__, "--work") for _ in range(arguments.rounds)]
        for ranks in (1, 2)
    }

    def figure(ranks, name):
        return min(job[name] for job in jobs[ranks])

    print(
        f"{'step of 128 examples, ms':26} {'1 rank':>8} {'2 shards':>9} {'2 ranks':>8} {'gain':>5}"
    )
    for name in NAMES:
        whole, cut = figure(1, f"{name}, None shards"), figure(1, f"{name}, 2 shards")
        two = figure(2, f"{name}, 2 shards")
        print(
            f"{name:26} {whole * 1e3:8.1f} {cut * 1e3:9.1f} {two * 1e3:8.1f} "
            f"{min(whole, cut) / two:5.2f}"
        )
    print(f"\n{'of 2 ranks, ms':26} {'all_reduce':>10} {'step':>8}")
    for size in ("1 number", *(f"{size} MB" for size in MEGABYTES)):
        took = figure(2, size), figure(2, f"{size} shared")
        print(f"{size:26} {took[0] * 1e3:10.3f} {took[1] * 1e3:8.3f}")
    byte = figure(2, "10 MB shared") / (10 << 20)
    times = {"one host": on_host(figure(2, "1 number shared"), byte)}
    times |= {name: over_network(*network) for name, network in NETWORKS.items()}
    print(f"\n{'largest number of ranks':26} " + " ".join(f"{name:>13}" for name in times))
    for name in NAMES:
        number, update = costs(name)
        compute = figure(1, f"{name}, None shards") - update
        most = [largest(compute, update, number, each) for each in times.values()]
        print(f"{name:26} " + " ".join(f"{ranks:13}" for ranks in most))


def costs(name):
    """Return the size of the gradient of a workload, and the time of an update."""
    from workloads import WORKLOADS

    import npdl.functional as F
    from npdl import tree
    from npdl.training import TrainState

    params, optimizer = WORKLOADS[name].params(), F.adam(1e-3)
    state = TrainState(0, params, optimizer.init(params), (0,))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        state = state.updated(optimizer, params, donate=True)
        times.append(time.perf_counter() - start)
    return tree.count(params), statistics.median(times)


if __name__ == "__main__":
    main()
