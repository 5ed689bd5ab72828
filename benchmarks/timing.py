"""Times of several functions in one process, in alternation.

A round is one run of each function. A pause before each run lets the threads of other libraries
sleep: a thread of OpenBLAS spins for a tenth of a second, on a core that others need. Then an
untimed call loads the data of the function into the caches.
"""

import statistics
import time

SECONDS_A_RUN, PAUSE = 0.15, 0.15


def measure(runs, rounds):
    """Return a summary of the milliseconds of a call, for each ``run(count)``."""
    for run in runs.values():
        run(3)  # compiles, allocates
    counts = {name: max(3, round(SECONDS_A_RUN / seconds(run, 3))) for name, run in runs.items()}
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE)
            run(1)
            times[name].append(1e3 * seconds(run, counts[name]))
    return {name: summary(found) for name, found in times.items()}


def seconds(run, count):
    """Return the mean seconds per call over a number of calls."""
    start = time.perf_counter()
    run(count)
    return (time.perf_counter() - start) / count


def repeated(function):
    """Return a function that repeats another one."""

    def run(count):
        for _ in range(count):
            function()

    return run


def summary(values):
    """Return the median, and the 10th and the 90th percentile."""
    if len(values) == 1:
        return dict.fromkeys(("median", "low", "high"), values[0])
    low, *_, high = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "low": low, "high": high}
