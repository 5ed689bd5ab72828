"""Train a classifier of digits with differential privacy.

Each step takes a random sample of the training data, clips the gradient of each example to a norm,
adds the gradients, and adds normal noise to the sum. So a single example has little influence on
the network. The script prints the bound of this influence: the privacy loss ε for a probability δ.
No gradient of a single example is stored: the norms are enough to scale the output gradients.

    python examples/private_training.py --noise 2.0

Abadi et al.: Deep learning with differential privacy, 2016, algorithm 1. Mironov, Talwar, Zhang:
Rényi differential privacy of the sampled Gaussian mechanism, 2019, section 3.3, for ε.
"""

import argparse
import math

import numpy as np
from example_data import digits
from options import integer, number, seed

import npdl.functional as F
from npdl import random, tree
from npdl.training import predict

BATCH, DELTA = 128, 1e-4


def clipped_gradient(model, loss, bound):
    """Return a function of (params, x, labels): the sum of the gradients, each clipped to a norm.

    ``Σ gᵢ min(1, bound / ‖gᵢ‖)``. The gradient is linear in the output gradient, so scaled output
    gradients give the sum of scaled gradients.
    """
    norms_of = F.per_example_norms(model, loss)

    def gradient(params, x, labels):
        norms = norms_of(params, x, labels)
        factors = np.minimum(1, bound / np.maximum(norms, 1e-12)).astype(x.dtype)

        def scaled(outputs, labels):
            value, g = loss(outputs, labels)  # a mean over the batch
            return value, g * (len(x) * factors)[:, None]

        return F.value_and_grad(model, scaled)(params, x, labels)[1], norms

    return gradient


def privacy_loss(rate, noise, steps, delta):
    """Return the ε of samples with a rate: the smallest bound over the orders of Rényi."""
    bounds = []
    for order in range(2, 128):
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-rate) + k * math.log(rate)
            + (k * k - k) / (2 * noise**2)
            for k in range(order + 1)
        ]  # fmt: skip
        loss = np.logaddexp.reduce(terms) / (order - 1)
        bounds.append(steps * loss - math.log(delta) / (order - 1))
    return min(bounds)


def main():
    """Train with clipped and noisy gradients, and report the accuracy and the privacy loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--noise", type=number(0.3, 100), default=2.0, help="noise per norm bound; default 2.0"
    )
    parser.add_argument("--bound", type=number(1e-3, 1e3), default=0.5, help="norm; default 0.5")
    parser.add_argument("--steps", type=integer(), default=600, help="default 600")
    parser.add_argument("--seed", type=seed, default=0, help="seed of data, training and noise")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    arguments = parser.parse_args()
    steps = min(arguments.steps, 150) if arguments.quick else arguments.steps

    key = random.key(arguments.seed)
    (x, labels), _, (x_test, labels_test) = digits(key)
    model = F.serial(F.flatten(), F.dense(64), F.tanh(), F.dense(10))
    gradient = clipped_gradient(model, F.softmax_cross_entropy, arguments.bound)
    params = model.init(random.fold(key, "init"), x.shape[1:])
    optimizer = F.adam(5e-3)
    state, rate, clipped = optimizer.init(params), BATCH / len(x), []
    for step in range(steps):
        generator = random.generator(random.fold(key, "step", step))
        chosen = generator.random(len(x)) < rate
        if not chosen.any():
            continue
        total, norms = gradient(params, x[chosen], labels[chosen])
        clipped.append(np.mean(norms > arguments.bound))

        def noisy(leaf, generator=generator):
            noise = generator.normal(0, arguments.noise * arguments.bound, leaf.shape)
            return ((leaf + noise) / BATCH).astype(leaf.dtype)

        updates, state = optimizer.update(tree.map(noisy, total), state, params)
        params = F.apply_updates(params, updates)

    epsilon = privacy_loss(rate, arguments.noise, steps, DELTA)
    accuracy = F.accuracy(predict(model, params, x_test), labels_test)
    print(f"{len(x)} examples, {steps} steps with {BATCH} examples on average")
    print(f"gradients clipped: {np.mean(clipped):.1%}")
    print(f"privacy loss: epsilon {epsilon:.2f} for delta {DELTA:g}")
    print(f"test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
