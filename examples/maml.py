"""Learn to learn: first-order meta-learning of sine waves from ten points each.

A task is a sine wave with a random amplitude and phase. Training finds a tree of parameters from
which a few steps of gradient descent fit any wave. The inner steps return new trees, the outer step
updates the first tree. The script prints the errors on new waves for three initial trees: these
parameters, the parameters of a network trained on all waves at once, and random parameters.

    python examples/maml.py --steps 3000

Finn, Abbeel, Levine: Model-agnostic meta-learning for fast adaptation of deep networks, 2017,
sections 3, 5.1 and 5.2.
"""

import argparse
import time

import numpy as np
from options import integer, seed

import npdl.functional as F
from npdl import random, tree

MODEL = F.serial(F.dense(40), F.relu(), F.dense(40), F.relu(), F.dense(1))
GRADIENT = F.value_and_grad(MODEL, F.mean_squared_error)
RATE = 0.01  # learning rate of the inner steps


def waves(generator, count):
    """Return functions that draw points (x, y) of waves with random amplitude and phase."""

    def wave(amplitude, phase):
        def points(count):
            x = generator.uniform(-5, 5, (count, 1)).astype(np.float32)
            return x, (amplitude * np.sin(x - phase)).astype(np.float32)

        return points

    return [wave(generator.uniform(0.1, 5), generator.uniform(0, np.pi)) for _ in range(count)]


def adapted(params, x, y, steps):
    """Return the parameters after steps of gradient descent on a few points, as a new tree."""
    for _ in range(steps):
        _, grads, _ = GRADIENT(params, x, y)
        params = tree.map(lambda p, g: p - RATE * g, params, grads)
    return params


def trained(key, steps, inner_steps, tasks=4, points=10):
    """Return parameters trained for a low error after `inner_steps` steps."""
    params = MODEL.init(random.fold(key, "params"), (1,))
    optimizer = F.adam(2e-3)
    state = optimizer.init(params)
    generator = random.generator(random.fold(key, "waves"))
    for _ in range(steps):
        total = None
        for wave in waves(generator, tasks):
            fast = adapted(params, *wave(points), inner_steps)
            # First order: the gradient after the inner steps replaces the gradient before them.
            total = tree.add(total, GRADIENT(fast, *wave(points))[1])
        mean = tree.map(lambda g: g / tasks, total)
        updates, state = optimizer.update(mean, state, params)
        params = F.apply_updates(params, updates)
    return params


def errors(params, key, inner_steps, tasks=200, points=10):
    """Return the mean squared error on new waves after each number of inner steps."""
    found = []
    for wave in waves(random.generator(key), tasks):
        x, y = wave(points)
        test_x, test_y = wave(100)
        fast, each = params, []
        for step in range(inner_steps + 1):
            fast = adapted(fast, x, y, 1) if step else fast
            each.append(np.mean((MODEL(fast, test_x) - test_y) ** 2))
        found.append(each)
    return np.mean(found, axis=0)


def main():
    """Train in both ways, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=integer(), help="default 5000")
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random numbers")
    parser.add_argument("--quick", action="store_true", help="600 steps")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    steps = arguments.steps or (600 if arguments.quick else 5000)
    start = time.perf_counter()
    rows = {
        "meta-learned": trained(key, steps, inner_steps=3),
        "trained on all": trained(key, steps, inner_steps=0),
        "random": MODEL.init(random.fold(key, "params"), (1,)),
    }
    print(f"{steps} steps each in {time.perf_counter() - start:.0f} s")
    shown = (0, 1, 3, 5, 10)
    print("mean squared error on new waves, after steps on ten points:")
    print(f"{'parameters':<18}" + "".join(f"{step:>8}" for step in shown))
    for name, params in rows.items():
        found = errors(params, random.fold(key, "test"), shown[-1])
        print(f"{name:<18}" + "".join(f"{found[step]:8.2f}" for step in shown))


if __name__ == "__main__":
    main()
