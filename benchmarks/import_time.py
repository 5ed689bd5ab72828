"""The time of `import npdl` beyond `import numpy`, in new processes, in alternation.

The modules are compiled to bytecode first, as pip does.

    python benchmarks/import_time.py --rounds 20
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

PROGRAM = """
import time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
import {module}
print(middle - start, time.perf_counter() - middle)
"""


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    times = {"npdl.functional": [], "npdl": []}
    numpy = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        for i in range(rounds + 1):
            for module, found in times.items():
                program = PROGRAM.format(module=module)
                output = subprocess.check_output(
                    [sys.executable, "-c", program],
                    text=True,
                    env=environment,
                    encoding="utf-8",
                )
                before, after = map(float, output.split())
                if i > 0:  # the first round compiles
                    numpy.append(before)
                    found.append(after)
    print(f"{'import':28} {'median ms':>10} {'from':>8} {'to':>8}")
    for name, values in {
        "numpy": numpy,
        **{f"{m}, after numpy": t for m, t in times.items()},
    }.items():
        figures = (statistics.median(values), min(values), max(values))
        print(
            f"{name:28} "
            + " ".join(f"{1e3 * x:{w}.1f}" for x, w in zip(figures, (10, 8, 8), strict=True))
        )


if __name__ == "__main__":
    main()
