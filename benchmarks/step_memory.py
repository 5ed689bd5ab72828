"""The peak memory of training steps of npdl and of PyTorch, each in a process of its own.

It is what the process grows by at most in a few steps, once the library has made steps of small
models with the same layers: parameters, the optimizer's state, activations, gradients and
workspaces, but not the code that a library loads when it first needs it, which is some 90 MiB in
PyTorch.

    python benchmarks/step_memory.py --only cnn_cifar
"""

import argparse
import resource
import statistics
import subprocess
import sys

from steps import STEPS
from workloads import WORKLOADS, Workload, ids

import npdl.functional as F

SMALL = [
    Workload(
        F.serial(F.conv2d(2, 3), F.relu(), F.max_pool2d(2), F.flatten(), F.dense(3)), (1, 8, 8), 2
    ),
    Workload(
        F.serial(F.embedding(9, 4), F.lstm(3, return_sequence=True), F.gru(3)), (5,), 2, ids(9)
    ),
    Workload(F.serial(F.transformer_encoder_block(2, 8)), (5, 4), 2),
]
COUNT = 5


def growth(library, name):
    """Return by how many MiB this process grows at most in the steps of a workload."""
    for small in SMALL:
        STEPS[library](small)()
    before = peak()
    run = STEPS[library](WORKLOADS[name])
    for _ in range(COUNT):
        run()
    return peak() - before


def peak():
    """Return the largest size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Print a table, or what one process of the measurement found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--library", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.library:
        print(growth(arguments.library, arguments.only))
        return
    print(f"{'steps of':14} {'npdl MiB':>10} {'torch MiB':>10} {'ratio':>6}")
    for name in [arguments.only] if arguments.only else WORKLOADS:
        found = {library: [] for library in STEPS}
        for _ in range(arguments.rounds):
            for library, figures in found.items():
                command = [sys.executable, __file__, "--only", name, "--library", library]
                figures.append(float(subprocess.check_output(command, text=True)))
        ours, theirs = (statistics.median(figures) for figures in found.values())
        print(f"{name:14} {ours:10.1f} {theirs:10.1f} {ours / theirs:6.2f}", flush=True)


if __name__ == "__main__":
    main()
