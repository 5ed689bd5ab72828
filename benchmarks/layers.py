"""Training steps of npdl against those of PyTorch, in one process, in alternation.

Both make the same numbers, as the losses of the first steps confirm, with as many threads. A round
is a run of steps of each library. A pause before it lets the other one's threads go to sleep, and a
step that is not timed brings its own data back into the caches.

    python benchmarks/layers.py --only gru --rounds 20
"""

import argparse
import statistics
import time

import numpy as np
from steps import STEPS
from threadpoolctl import threadpool_limits
from workloads import WORKLOADS

# Steps that must agree, and how well. A few steps of float32 are enough to drive two libraries
# apart, once another pixel of a window is the largest one by rounding.
CHECKS = ((np.float64, 10, 1e-6), (np.float32, 1, 1e-5))
SECONDS_A_RUN, PAUSE = 0.1, 0.1


def check_agreement(workload):
    """Raise unless the first steps of all libraries have the same losses."""
    for dtype, count, tolerance in CHECKS:
        losses = {}
        for name, step in STEPS.items():
            run = step(workload, dtype)
            losses[name] = [run() for _ in range(count)]
            np.testing.assert_allclose(losses[name], losses["npdl"], tolerance, err_msg=name)


def measure(runs, rounds):
    """Return the milliseconds of a step, one figure a round, for each library."""
    times = {name: [] for name in runs}
    repeats = {name: max(1, round(SECONDS_A_RUN / seconds(run, 3))) for name, run in runs.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE)
            run()
            times[name].append(1e3 * seconds(run, repeats[name]))
    return times


def seconds(run, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def spread(times):
    """Return the 10th and the 90th percentile as text."""
    low, *_, high = statistics.quantiles(times, n=10)
    return f"{low:.2f} to {high:.2f}"


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    heads = ("npdl ms", "10th to 90th", "torch ms", "10th to 90th", "ratio")
    print("{:14} {:>8} {:>16} {:>9} {:>16} {:>6}".format("a step of", *heads))
    for name in [arguments.only] if arguments.only else WORKLOADS:
        with threadpool_limits(arguments.threads):
            check_agreement(WORKLOADS[name])
            runs = {library: step(WORKLOADS[name]) for library, step in STEPS.items()}
            ours, theirs = measure(runs, arguments.rounds).values()
        medians = statistics.median(ours), statistics.median(theirs)
        figures = medians[0], spread(ours), medians[1], spread(theirs), medians[0] / medians[1]
        print("{:14} {:8.2f} {:>16} {:9.2f} {:>16} {:6.2f}".format(name, *figures), flush=True)


if __name__ == "__main__":
    main()
