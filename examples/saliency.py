"""Find the pixels of a digit that decide its classification.

`backward` returns the gradient of the highest score with respect to the pixels. The script removes
the most important pixels, or as many other pixels with ink, and prints the accuracy without them.
It also draws the saliency maps, and compares them with two other methods: integrated gradients, and
Grad-CAM, which reads the last convolution inside the network.

    python examples/saliency.py --output output/saliency.png

Sundararajan, Taly, Yan: Axiomatic attribution for deep networks, 2017, equation 3. Selvaraju et
al.: Grad-CAM, 2017, equations 1 and 2.
"""

import argparse

import numpy as np
from example_data import digits
from options import integer, picture, seed

import npdl.functional as F
from npdl import random
from npdl.training import fit, predict


def highest(scores):
    """Return the sum of the highest scores, and its gradient."""
    chosen = np.eye(scores.shape[1], dtype=scores.dtype)[scores.argmax(1)]
    return np.sum(scores * chosen), chosen


def saliency(model, params, x):
    """Return x times the gradient of the highest score: the contribution of each pixel."""
    gradient = F.value_and_grad(model, highest, input_grad=True)
    return x * gradient(params, x)[2].input_grad


def integrated_gradients(model, params, x, steps=32):
    """Return x times the mean gradient of the highest score on the way from zeros to x.

    The contributions of all pixels add up to the difference of the scores of x and of zeros.
    """
    chosen = highest(model(params, x))[1]
    gradient = F.value_and_grad(model, lambda y: (np.sum(y * chosen), chosen), input_grad=True)
    shares = (np.arange(steps, dtype=x.dtype) + 0.5) / steps
    return x * sum(gradient(params, share * x)[2].input_grad for share in shares) / steps


def grad_cam(model, params, x):
    """Return the channels of the last rectifier, weighted by their mean gradients.

    The map is coarse: the pooling has halved the image, so four pixels share a value.
    """
    y, g = F.trace_layers(model, params, x, highest)["4"]
    weights = g.mean(axis=(2, 3), keepdims=True)
    maps = np.maximum(np.sum(weights * y, axis=1, keepdims=True), 0)
    return maps.repeat(2, axis=2).repeat(2, axis=3)


def without(x, order, count):
    """Return images without the first `count` pixels of each image's order."""
    pixels = x.reshape(len(x), -1).copy()
    np.put_along_axis(pixels, order[:, :count], 0, axis=1)
    return pixels.reshape(x.shape)


def draw(path, x, maps, predicted):
    """Draw digits above their maps: red pixels support the digit, blue pixels contradict it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.6), layout="constrained")
    different, first = np.unique(predicted, return_index=True)
    columns = figure.subplots(2, len(first), squeeze=False).T
    for digit, i, axes in zip(different, first, columns, strict=True):
        largest = np.abs(maps[i]).max()
        axes[0].imshow(x[i, 0], cmap="gray_r")
        axes[1].imshow(maps[i, 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes[0].set_title(f"predicted {digit}", fontsize=9)
        for each in axes:
            each.axis("off")
    figure.savefig(path, dpi=120)


def main():
    """Train, explain and check the explanation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=integer(), help="default 12")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument("--output", type=picture, metavar="PNG", default="output/saliency.png")
    parser.add_argument("--quick", action="store_true", help="four epochs")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    training, _, (x, labels) = digits(key)
    model = F.serial(
        *(F.conv2d(16, 3, padding="same"), F.relu(), F.max_pool2d(2)),
        *(F.conv2d(32, 3, padding="same"), F.relu(), F.flatten(), F.dense(10)),
    )
    epochs = arguments.epochs or (4 if arguments.quick else 12)
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(2e-3),
        training,
        epochs=epochs,
        rng=key,
        progress=False,
    )
    maps = saliency(model, state.params, x)
    flat, ink = maps.reshape(len(x), -1), x.reshape(len(x), -1) > 0
    chance = random.generator(random.fold(key, "chance")).random(flat.shape)
    orders = {
        "with the most support": np.argsort(-flat, axis=1),
        "chosen at random": np.argsort(np.where(ink, chance, 2.0), axis=1),
        "with the least support": np.argsort(np.where(ink, flat, np.inf), axis=1),
    }
    counts = (0, 2, 4, 8)
    print("accuracy without this number of pixels with ink:")
    print(f"{'':<30}" + "".join(f"{count:>8}" for count in counts))
    for name, order in orders.items():
        accuracies = [
            F.accuracy(predict(model, state.params, without(x, order, count)), labels)
            for count in counts
        ]
        print(f"{name:<30}" + "".join(f"{accuracy:8.3f}" for accuracy in accuracies))
    print("accuracy without the 4 pixels with ink of largest value, by method:")
    for method in (saliency, integrated_gradients, grad_cam):
        values = method(model, state.params, x).reshape(len(x), -1)
        left = without(x, np.argsort(-np.where(ink, values, -np.inf), axis=1), 4)
        accuracy = F.accuracy(predict(model, state.params, left), labels)
        print(f"{method.__name__.replace('_', ' '):<30}{accuracy:8.3f}")
    scores, zero = (predict(model, state.params, part) for part in (x, np.zeros_like(x)))
    chosen = highest(scores)[1]
    difference = np.sum((scores - zero) * chosen, axis=1)
    sums = integrated_gradients(model, state.params, x).sum(axis=(1, 2, 3))
    error = np.mean(np.abs(sums - difference)) / np.mean(np.abs(difference))
    print(f"integrated gradients miss the difference of the scores by {error:.2%}")
    draw(arguments.output, x, maps, predict(model, state.params, x).argmax(1))
    print(f"digits and maps: {arguments.output}")


if __name__ == "__main__":
    main()
