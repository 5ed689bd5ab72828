"""Compare the libraries: the losses of their first steps must agree.

All libraries start with the same parameters and the same batch. In float32, rounding can change the
largest pixel of a pooling window, and then two libraries diverge within a few steps. So ten steps
are compared in float64, and the first step in float32.
"""

import numpy as np
from steps import STEPS, takes_part
from workloads import WORKLOADS


def jobs():
    return list(WORKLOADS)


def run(name):
    """Return the differences between the losses of each library and of npdl."""
    # For two classes, scikit-learn has other losses.
    libraries = [
        library
        for library in STEPS
        if takes_part(library, name) and (library, name) != ("sklearn", "mlp_tiny")
    ]
    return differences(WORKLOADS[name], libraries)


def differences(workload, libraries, count=10):
    """Return the largest difference in float64, over the first loss; raise if one is too large."""
    found = {}
    for dtype, steps, tolerance in ((np.float64, count, 1e-6), (np.float32, 1, 1e-5)):
        expected = np.array(STEPS["npdl"](workload, dtype)(steps))
        for library in libraries:
            losses = np.array(STEPS[library](workload, dtype)(steps))
            difference = float(np.max(np.abs(losses - expected)) / expected[0])
            if not difference <= tolerance:
                raise AssertionError(
                    f"in {dtype.__name__}, the losses of {library} are {losses}, but npdl has "
                    f"{expected}"
                )
            found.setdefault(library, difference)
    return found
