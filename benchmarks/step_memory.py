"""The peak memory of training steps, in separate processes per library.

The value is the largest growth of the process in a few steps, after steps of small models with the
same layers. It includes parameters, optimizer state, activations, gradients and workspaces. It
excludes code that a library loads on first use, about 90 MiB in PyTorch. For JAX, it includes the
memory of the compilation.
"""

import resource
import subprocess
import sys

from steps import STEPS
from timing import summary
from workloads import WORKLOADS, Workload, ids

import npdl.functional as F

ROUNDS = 3
LIBRARIES = ("npdl", "torch", "jax")
SMALL = [
    Workload(
        F.serial(F.conv2d(2, 3), F.relu(), F.max_pool2d(2), F.flatten(), F.dense(3)), (1, 8, 8), 2
    ),
    Workload(
        F.serial(F.embedding(9, 4), F.lstm(3, return_sequence=True), F.gru(3)), (5,), 2, ids(9)
    ),
    Workload(F.serial(F.transformer_encoder_block(2, 8)), (5, 4), 2),
]
STEPS_MADE = 5


def jobs():
    return list(WORKLOADS)


def run(name, rounds):
    """Return the peak memory of each library in MiB, in alternating new processes."""
    found = {library: [] for library in LIBRARIES}
    for _ in range(rounds):
        for library, figures in found.items():
            command = [sys.executable, __file__, name, library]
            figures.append(float(subprocess.check_output(command, text=True, encoding="utf-8")))
    return {library: summary(figures) for library, figures in found.items()}


def growth(name, library):
    """Return the largest growth of this process in the steps of a workload, in MiB."""
    for small in SMALL:
        STEPS[library](small)(1)
    before = peak()
    STEPS[library](WORKLOADS[name])(STEPS_MADE)
    return peak() - before


def peak():
    """Return the largest size of this process so far, in MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    print(growth(*sys.argv[1:]))
