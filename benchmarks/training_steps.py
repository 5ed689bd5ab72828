"""The time of whole training steps, and of their matrix products alone (`floor.py`)."""

from floor import floor_step
from steps import STEPS, takes_part
from timing import measure
from workloads import WORKLOADS

ROUNDS = 15


def jobs():
    return list(WORKLOADS)


def run(name, rounds):
    """Return the milliseconds of a step of each library, and of the floor."""
    runs = {
        library: step(WORKLOADS[name])
        for library, step in STEPS.items()
        if takes_part(library, name)
    }
    return measure({**runs, "floor": floor_step(WORKLOADS[name])}, rounds)
