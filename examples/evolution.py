"""Train a network to balance a pole without gradients, by an evolution strategy on its tree.

`tree.ravel` joins all parameters into one vector. Each generation evaluates pairs of opposite
perturbations of this vector, and estimates a gradient from their ranks. Adam applies the updates.
The script prints the number of steps, out of 500, before the pole falls, for new starts.

    python examples/evolution.py --generations 40

Salimans, Ho, Chen, Sidor, Sutskever: Evolution strategies as a scalable alternative to
reinforcement learning, 2017. The cart and its pole: Barto, Sutton, Anderson: Neuronlike adaptive
elements that can solve difficult learning control problems, 1983.
"""

import argparse
import time

import numpy as np
from options import integer, number, seed

import npdl.functional as F
from npdl import random, tree

STEPS = 500


def balance(model, params, states):
    """Return the number of steps with the pole up and the cart on its rail, per start.

    A state is (position of the cart, its speed, angle of the pole, its angular speed). The output
    of the network is the force on the cart, from -10 to 10 newtons.
    """
    gravity, cart, pole, half_length, seconds = 9.8, 1.0, 0.1, 0.5, 0.02
    states, lasted = states.copy(), np.zeros(len(states))
    up = np.ones(len(states), bool)
    for _ in range(STEPS):
        force = 10 * model(params, states)[:, 0]
        _, speed, angle, spin = states.T
        sine, cosine = np.sin(angle), np.cos(angle)
        push = (force + pole * half_length * spin**2 * sine) / (cart + pole)
        turn = (gravity * sine - cosine * push) / (
            half_length * (4 / 3 - pole * cosine**2 / (cart + pole))
        )
        pull = push - pole * half_length * turn * cosine / (cart + pole)
        states = states + np.float32(seconds) * np.stack([speed, pull, spin, turn], axis=1)
        up &= (abs(states[:, 0]) < 2.4) & (abs(states[:, 2]) < np.radians(12))
        if not up.any():
            break
        lasted += up
        states[~up] = 0
    return lasted


def starts(key, count):
    """Return random states near the middle, with the pole nearly upright."""
    return random.generator(key).uniform(-0.2, 0.2, (count, 4)).astype(np.float32)


def ranked(values):
    """Return ranks scaled from -0.5 to 0.5, so that an outlier does not dominate."""
    return (np.argsort(np.argsort(values)) / (len(values) - 1) - 0.5).astype(np.float32)


def main():
    """Train and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=integer(), help="default 25")
    parser.add_argument(
        "--pairs",
        type=integer(1, 10_000),
        default=16,
        help="pairs of perturbations per generation; default 16",
    )
    parser.add_argument(
        "--size",
        type=number(0.001, 100),
        default=0.3,
        help="scale of the perturbations; default 0.3",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random numbers")
    parser.add_argument("--quick", action="store_true", help="three generations")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    model = F.serial(F.dense(16), F.tanh(), F.dense(1), F.tanh())
    params = model.init(random.fold(key, "params"), (4,))
    optimizer = F.adam(0.1)
    state = optimizer.init(params)
    test = starts(random.fold(key, "test"), 100)
    before = balance(model, params, test)
    begin = time.perf_counter()
    for generation in range(arguments.generations or (3 if arguments.quick else 25)):
        now = random.fold(key, "generation", generation)
        vector, unravel = tree.ravel(params)
        shape = arguments.pairs, vector.size
        noise = random.generator(random.fold(now, "noise")).standard_normal(shape, np.float32)
        directions = np.concatenate([noise, -noise])
        practice = starts(random.fold(now, "starts"), 8)
        candidates = [unravel(vector + arguments.size * d) for d in directions]
        lasted = np.array([balance(model, candidate, practice).mean() for candidate in candidates])
        gradient = unravel(
            -(ranked(lasted) @ directions) / (len(directions) * np.float32(arguments.size))
        )
        updates, state = optimizer.update(gradient, state, params)
        params = F.apply_updates(params, updates)
        if generation % 5 == 0:
            print(
                f"generation {generation}: {lasted.mean():.0f} steps, the best {lasted.max():.0f}"
            )
    seconds = time.perf_counter() - begin

    after = balance(model, params, test)
    print(f"{tree.count(params)} parameters, {seconds:.0f} s")
    for name, lasted in (("before", before), ("after", after)):
        fraction = np.mean(lasted == STEPS)
        print(f"{name}: {lasted.mean():.0f} of {STEPS} steps on average, to the end {fraction:.0%}")


if __name__ == "__main__":
    main()
