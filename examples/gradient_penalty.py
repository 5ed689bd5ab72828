"""Train a generative adversarial network with a gradient penalty.

A generator turns normal noise into points of the plane, and a critic estimates the Wasserstein
distance between these points and points on a circle. The distance is defined for critics with
gradients of norm 1 in their input. So the loss of the critic has the penalty mean (|dD/dx| - 1)².
The gradient of this penalty in the parameters is a mixed derivative of the critic: F.hvp computes
it along a direction of the input.

    python examples/gradient_penalty.py --output samples.png

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville: Improved training of Wasserstein GANs, 2017,
algorithm 1.
"""

import argparse

import numpy as np
from options import integer, number, picture, seed

import npdl.functional as F
from npdl import random, tree

BATCH, NOISE, CRITIC_STEPS = 128, 2, 3


def circle(key, count):
    """Return points near the unit circle."""
    generator = random.generator(key)
    angles = generator.uniform(0, 2 * np.pi, count)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return (points + generator.normal(0, 0.05, points.shape)).astype(np.float32)


def noise(key, count):
    """Return the input of the generator."""
    return random.generator(key).normal(size=(count, NOISE)).astype(np.float32)


def total(outputs):
    """Return the sum of the outputs and its gradient, a loss that keeps the examples apart."""
    return outputs.sum(), np.ones_like(outputs)


def penalty_gradient(critic):
    """Return a function of (params, x): the gradient of the penalty, and the gradient norms."""
    mixed = F.hvp(critic, total)
    gradient = F.value_and_grad(critic, total, input_grad=True)

    def penalty(params, x):
        slopes = gradient(params, x)[2].input_grad
        norms = np.linalg.norm(slopes, axis=1, keepdims=True)
        # The derivative of mean (|s| - 1)² in the slopes s.
        direction = 2 * (norms - 1) * slopes / (np.maximum(norms, 1e-12) * len(x))
        return mixed(params, None, x, dx=direction), norms

    return penalty


class Network:
    """A network with its parameters and the state of its optimizer."""

    def __init__(self, layer, inputs, steps, key):
        self.layer, self.params = layer, layer.init(key, (inputs,))
        self.optimizer = F.adam(F.cosine_decay(2e-3, steps), beta1=0.0, beta2=0.9)
        self.state = self.optimizer.init(self.params)

    def update(self, grads):
        """Apply one update."""
        updates, self.state = self.optimizer.update(grads, self.state, self.params)
        self.params = F.apply_updates(self.params, updates)


def train(generator, critic, steps, key, weight):
    """Train both networks; return the gradient norms of the critic at the end."""
    penalty = penalty_gradient(critic.layer)
    signs = np.repeat(np.array([[-1], [1]], np.float32) / BATCH, BATCH, axis=0)
    for step in range(steps):
        for i in range(CRITIC_STEPS):
            here = random.fold(key, "critic", step, i)
            real = circle(random.fold(here, "real"), BATCH)
            fake = generator.layer(generator.params, noise(here, BATCH))
            share = random.generator(random.fold(here, "mix")).random((BATCH, 1), np.float32)
            of_penalty, norms = penalty(critic.params, share * real + (1 - share) * fake)
            _, cache = critic.layer.apply(critic.params, np.concatenate([real, fake]))
            grads, _ = critic.layer.backward(critic.params, cache, signs, input_grad=False)
            scaled = tree.map(lambda leaf: leaf * np.float32(weight), of_penalty)
            critic.update(tree.add(grads, scaled))
        z = noise(random.fold(key, "generator", step), BATCH)
        fake, cache = generator.layer.apply(generator.params, z)
        _, of_critic = critic.layer.apply(critic.params, fake)
        _, g = critic.layer.backward(critic.params, of_critic, -signs[BATCH:])
        generator.update(generator.layer.backward(generator.params, cache, g)[0])
    return norms


def energy_distance(a, b):
    """Return the energy distance of two samples: 2 E|a - b| - E|a - a'| - E|b - b'|."""

    def mean(x, y):
        return np.linalg.norm(x[:, None] - y[None], axis=2).mean()

    return 2 * mean(a, b) - mean(a, a) - mean(b, b)


def draw(path, real, fake):
    """Draw both samples."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*real.T, ".", markersize=4, color="gray", alpha=0.5, label="data")
    axes.plot(*fake.T, ".", markersize=4, color="#D55E00", alpha=0.5, label="generator")
    axes.legend(loc="upper right")
    axes.set_aspect("equal")
    figure.savefig(path, dpi=120)


def main():
    """Train, and compare the samples of the generator with the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=integer(), default=600, help="default 600")
    parser.add_argument(
        "--penalty", type=number(0, 100), default=1.0, help="weight of the penalty; default 1.0"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of data, noise and training")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--output", type=picture, help="name of a PNG with samples")
    arguments = parser.parse_args()
    steps = min(arguments.steps, 200) if arguments.quick else arguments.steps

    key = random.key(arguments.seed)

    def network(inputs, outputs, count, name):
        rectifier = F.leaky_relu(0.2)
        layers = F.dense(48), rectifier, F.dense(48), rectifier, F.dense(outputs)
        return Network(F.serial(*layers), inputs, count, random.fold(key, name))

    generator = network(NOISE, 2, steps, "generator")
    critic = network(2, 1, steps * CRITIC_STEPS, "critic")
    z, data = noise(random.fold(key, "test"), 1000), circle(random.fold(key, "data"), 1000)
    before = energy_distance(generator.layer(generator.params, z), data)
    norms = train(generator, critic, steps, key, arguments.penalty)
    samples = generator.layer(generator.params, z)
    near = np.abs(np.linalg.norm(samples, axis=1) - 1) < 0.2
    print(f"energy distance: before {before:.4f}, after {energy_distance(samples, data):.4f}")
    print(f"samples near the circle: {near.mean():.1%}")
    print(f"gradient norm of the critic: {norms.mean():.3f} on average")
    if arguments.output:
        draw(arguments.output, data, samples)
        print(f"drawn: {arguments.output}")


if __name__ == "__main__":
    main()
