"""The cost of a step of `Model.fit`, compared with the functional step of the same network.

Both train 784-512-512-10 on batches of 128 with Adam in float32, in one process, in alternation.
The functional step donates its state, as in `fit` of `npdl.training`.

    python benchmarks/compat_step.py --rounds 30
"""

import argparse
import statistics
import time

import numpy as np

import npdl
import npdl.functional as F
from npdl.training import TrainState, train_step

SIZES, BATCH, STEPS = (784, 512, 512, 10), 128, 5


def functional(x, labels):
    layers = [layer for units in SIZES[1:-1] for layer in (F.dense(units), F.relu())]
    model, optimizer = F.serial(*layers, F.dense(SIZES[-1])), F.adam(1e-3)
    state = TrainState.create(model, optimizer, SIZES[:1])
    step = train_step(model, F.softmax_cross_entropy, optimizer, donate=True)

    def run():
        nonlocal state
        for start in range(0, len(x), BATCH):
            rows = slice(start, start + BATCH)
            state, _ = step(state, (x[rows], labels[rows]))

    return run


def stateful(x, labels):
    model = npdl.Model()
    for i, units in enumerate(SIZES[1:-1]):
        model.add(npdl.layers.Dense(units, None if i else SIZES[0], activation="relu"))
    model.add(npdl.layers.Softmax(SIZES[-1]))
    model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=1e-3 / BATCH))
    return lambda: model.fit(x, labels, max_iter=1, batch_size=BATCH, shuffle=False, verbose=0)


def main():
    """Measure and print both times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(STEPS * BATCH, SIZES[0])).astype(np.float32)
    labels = generator.integers(SIZES[-1], size=len(x))
    runs = {"functional": functional(x, labels), "Model.fit": stateful(x, labels)}
    times = {name: [] for name in runs}
    for i in range(parser.parse_args().rounds + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if i > 1:
                times[name].append((time.perf_counter() - start) / STEPS * 1e3)
    for name, found in times.items():
        low, *_, high = statistics.quantiles(found, n=10)
        print(f"{name:12} {statistics.median(found):8.3f} ms per step, {low:.3f} to {high:.3f}")
    pairs = zip(times["Model.fit"], times["functional"], strict=True)
    print(f"ratio        {statistics.median(a / b for a, b in pairs):8.2f}")


if __name__ == "__main__":
    main()
