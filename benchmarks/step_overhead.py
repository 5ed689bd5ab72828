"""The price of the library: a training step of npdl against the same step written by hand.

Both make the same numbers (forward, softmax cross-entropy, backward, Adam, float32), in one
process, in alternation. The step by hand is plain NumPy with all parameters in one vector; it has
no checks, and overwrites its arrays.

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


def measure(sizes, batch, repeats, rounds):
    """Return the medians in milliseconds of the step by hand, npdl's, and npdl's with donation."""
    layers = [layer for units in sizes[1:-1] for layer in (F.dense(units), F.relu())]
    model, optimizer = F.serial(*layers, F.dense(sizes[-1])), F.adam(RATE)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, sizes[0])).astype(np.float32)
    labels = generator.integers(sizes[-1], size=batch)
    state = TrainState.create(model, optimizer, (sizes[0],))
    by_hand = ByHand(state.params)
    states = {"npdl": state}
    states["npdl, donating"] = TrainState.create(model, optimizer, (sizes[0],))
    steps = {
        name: train_step(model, F.softmax_cross_entropy, optimizer, donate="donating" in name)
        for name in states
    }

    def run(name):
        if name == "by hand":
            return by_hand(x, labels)
        states[name], figures = steps[name](states[name], (x, labels))
        return figures["loss"]

    names = ["by hand", *states]
    for _ in range(10):
        losses = [float(run(name)) for name in names]
        np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            start = time.perf_counter()
            for _ in range(repeats):
                run(name)
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    return times


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    print(f"{'workload':28} {'step':16} {'median ms':>10} {'spread':>17} {'ratio':>6}")
    for workload, (sizes, batch, repeats) in WORKLOADS.items():
        times = measure(sizes, batch, repeats, rounds)
        for name, values in times.items():
            ratio = statistics.median(
                ours / theirs for ours, theirs in zip(values, times["by hand"], strict=True)
            )
            low, *_, high = statistics.quantiles(values, n=10)
            spread = f"{low:.3f} to {high:.3f}"
            median = statistics.median(values)
            print(f"{workload:28} {name:16} {median:10.3f} {spread:>17} {ratio:6.2f}")


if __name__ == "__main__":
    main()
