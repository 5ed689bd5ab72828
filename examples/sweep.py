"""Compare learning rates in several processes.

A model, an optimizer and a key are values that pickle. So a pool of processes can call a training
run as a function, and its numbers do not depend on the process. The script prints a table, repeats
the best run, and compares the bits.

    python examples/sweep.py --workers 2
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

# Each run has its own process, so one thread is enough. NumPy reads this at import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from example_data import digits
from options import integer, seed

import npdl.functional as F
from npdl import random, tree
from npdl.training import evaluate, fit

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def run(model, optimizer, epochs, key):
    """Return the parameters after training, and the last loss and metrics of the history."""
    training, validation, _ = digits(key)
    with np.errstate(all="ignore"):  # a rate may be too high
        state, history = fit(
            model,
            F.softmax_cross_entropy,
            optimizer,
            training,
            epochs=epochs,
            validation=validation,
            metrics={"accuracy": F.accuracy},
            rng=key,
            progress=False,
        )
    return state.params, {name: values[-1] for name, values in history.items()}


def main():
    """Train with each rate and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workers", type=integer(), default=2, help="largest number of processes; default 2"
    )
    parser.add_argument("--epochs", type=integer(), help="default 10")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument("--quick", action="store_true", help="three rates and two epochs")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    rates = RATES[::3] if arguments.quick else RATES
    epochs = arguments.epochs or (2 if arguments.quick else 10)
    workers = min(arguments.workers, len(rates))
    model = F.serial(F.flatten(), F.dense(128), F.relu(), F.dense(10))
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        futures = [pool.submit(run, model, F.adam(rate), epochs, key) for rate in rates]
        results = [future.result() for future in futures]
    seconds = time.perf_counter() - start

    print(f"{len(rates)} runs, {workers} at a time, {seconds:.0f} s")
    print("    rate   training loss  validation loss  validation accuracy")
    for rate, (_, last) in zip(rates, results, strict=True):
        loss, validation, accuracy = (last[k] for k in ("loss", "val_loss", "val_accuracy"))
        print(f"{rate:8g}  {loss:14.4f}  {validation:15.4f}  {accuracy:19.4f}")
    losses = [last["val_loss"] for _, last in results]
    best = int(np.nanargmin(losses))
    params, _ = run(model, F.adam(rates[best]), epochs, key)
    pairs = zip(tree.leaves(params), tree.leaves(results[best][0]), strict=True)
    same = all(np.array_equal(here, there) for here, there in pairs)
    test = evaluate(model, params, digits(key)[2], metrics={"accuracy": F.accuracy})
    print(f"the best rate is {rates[best]:g}, with a test accuracy of {test['accuracy']:.4f}")
    print(f"its run in this process has the same bits: {'yes' if same else 'no'}")


if __name__ == "__main__":
    main()
