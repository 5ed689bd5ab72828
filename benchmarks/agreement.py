"""Whether all libraries do the same work: the losses of their first steps are the same.

They begin with the same parameters and take the same batch. A few steps of float32 are enough to
drive two libraries apart, once another pixel of a window is the largest one by rounding; so ten
steps are compared in float64, and the first one in float32.
"""

import numpy as np
from steps import STEPS, takes_part
from workloads import WORKLOADS


def jobs():
    return list(WORKLOADS)


def run(name):
    """Return how far the losses of each library are from those of npdl."""
    # The losses of scikit-learn are others where there are two classes.
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
                    f"in {dtype.__name__}, the losses of {library} are {losses}, those of npdl "
                    f"{expected}"
                )
            found.setdefault(library, difference)
    return found
