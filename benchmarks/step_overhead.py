"""The overhead of the library: a training step of npdl and the same step in plain NumPy.

Both compute the same numbers (forward, softmax cross-entropy, backward, Adam, float32), in one
process, in alternation. The plain step has all parameters in one vector and no checks, and it
overwrites its arrays.

    python benchmarks/step_overhead.py --rounds 40
"""

import argparse
import statistics
import time

import numpy as np

import npdl.functional as F
from npdl.training import TrainState, train_step

WORKLOADS = {"64-64-64-10, batch 32": ((64, 64, 64, 10), 32, 100)}
WORKLOADS |= {"784-512-512-10, batch 128": ((784, 512, 512, 10), 128, 5)}
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


class ByHand:
    """An MLP with ReLU and Adam in plain NumPy."""

    def __init__(self, params):
        arrays = [child[name] for child in params if child for name in ("weight", "bias")]
        self.vector = np.concatenate([array.ravel() for array in arrays])
        self.gradient = np.empty_like(self.vector)
        self.weights, self.biases = self.views(self.vector, arrays)
        self.weight_grads, self.bias_grads = self.views(self.gradient, arrays)
        self.m, self.v = np.zeros_like(self.vector), np.zeros_like(self.vector)
        self.t = 0

    @staticmethod
    def views(vector, arrays):
        ends = np.cumsum([array.size for array in arrays])
        parts = [
            part.reshape(array.shape)
            for part, array in zip(np.split(vector, ends[:-1]), arrays, strict=True)
        ]
        return parts[::2], parts[1::2]

    def __call__(self, x, labels):
        activations = [x]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = activations[-1] @ weight
            z += bias
            activations.append(np.maximum(z, 0, out=z))
        z = activations[-1] @ self.weights[-1]
        z += self.biases[-1]
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        rows = np.arange(len(x))
        loss = (np.log(total).sum() - z[rows, labels].sum()) / len(x)
        p /= total
        p[rows, labels] -= 1
        p /= len(x)
        g = p
        for i in range(len(self.weights) - 1, -1, -1):
            np.matmul(activations[i].T, g, out=self.weight_grads[i])
            np.add.reduce(g, axis=0, out=self.bias_grads[i])
            if i:
                g = g @ self.weights[i].T
                g *= activations[i] > 0
        self.adam()
        return loss

    def adam(self):
        self.t += 1
        g = self.gradient
        self.m *= BETA1
        self.m += (1 - BETA1) * g
        np.multiply(g, g, out=g)
        g *= 1 - BETA2
        self.v *= BETA2
        self.v += g
        np.sqrt(self.v, out=g)
        g /= np.sqrt(1 - BETA2**self.t)
        g += EPSILON
        np.divide(self.m, g, out=g)
        g *= RATE / (1 - BETA1**self.t)
        self.vector -= g


def measure(sizes, batch, repeats, rounds, donate):
    """Return the times in milliseconds of npdl's step and of the step by hand, in alternation."""
    layers = [layer for units in sizes[1:-1] for layer in (F.dense(units), F.relu())]
    model, optimizer = F.serial(*layers, F.dense(sizes[-1])), F.adam(RATE)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, sizes[0])).astype(np.float32)
    labels = generator.integers(sizes[-1], size=batch)
    state = TrainState.create(model, optimizer, (sizes[0],))
    by_hand = ByHand(state.params)
    step = train_step(model, F.softmax_cross_entropy, optimizer, donate=donate)

    def npdl():
        nonlocal state
        state, metrics = step(state, (x, labels))
        return metrics["loss"]

    runs = {"npdl": npdl, "by hand": lambda: by_hand(x, labels)}
    for _ in range(10):
        losses = [float(run()) for run in runs.values()]
        np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    return times


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    print(f"{'step of npdl':42} {'median ms':>10} {'spread':>16} {'by hand':>8} {'ratio':>6}")
    # Donating steps, as in `fit`, come first: pure steps change the state of the heap, which
    # influences the time of later steps.
    for donate in (True, False):
        for workload, (sizes, batch, repeats) in WORKLOADS.items():
            times = measure(sizes, batch, repeats, rounds, donate)
            ours, theirs = times["npdl"], times["by hand"]
            low, *_, high = statistics.quantiles(ours, n=10)
            values = (
                f"{workload}, {'donating' if donate else 'pure'}",
                statistics.median(ours),
                f"{low:.3f} to {high:.3f}",
                statistics.median(theirs),
                statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
            )
            print("{:42} {:10.3f} {:>16} {:8.3f} {:6.2f}".format(*values))


if __name__ == "__main__":
    main()
