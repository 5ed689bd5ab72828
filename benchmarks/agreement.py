"""Whether all libraries do the same work: the losses of their first steps are the same.

They begin with the same parameters and take the same batch. A few steps of float32 are enough to
drive two libraries apart, once another pixel of a window is the largest one by rounding; so ten
steps are compared in float64, and the first one in float32.
"""

import numpy as np
from steps import STEPS, takes_part
from workloads import WORKLOADS

CHECKS = {np.float64: (10, 1e-6), np.float32: (1, 1e-5)}


def jobs():
    return list(WORKLOADS)


def run(name):
    """Return the largest relative difference of each library's losses from those of npdl."""
    # The losses of scikit-learn are others where there are two classes.
    libraries = [
        library
        for library in STEPS
        if takes_part(library, name) and (library, name) != ("sklearn", "mlp_tiny")
    ]
    return differences(WORKLOADS[name], libraries)


def differences(workload, libraries):
    """Return the largest relative difference in float64, or raise where losses do not agree."""
    found = {}
    for dtype, (count, tolerance) in CHECKS.items():
        expected = np.array(STEPS["npdl"](workload, dtype)(count))
        for library in libraries:
            losses = np.array(STEPS[library](workload, dtype)(count))
            difference = float(np.max(np.abs(losses / expected - 1)))
            if not difference <= tolerance:
                raise AssertionError(
                    f"in {dtype.__name__}, the losses of {library} are {losses}, those of npdl "
                    f"{expected}"
                )
            found.setdefault(library, difference)
    return found
