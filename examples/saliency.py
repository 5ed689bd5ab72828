"""Find the pixels of a digit that decide its classification.

`backward` returns the gradient of the highest score with respect to the pixels. The script removes
the most important pixels, or as many other pixels with ink, and prints the accuracy without them.
It also draws the saliency maps.

    python examples/saliency.py --output output/saliency.png
"""

import argparse

import numpy as np
from datasets import digits
from options import integer, picture, seed

import npdl.functional as F
from npdl import random
from npdl.training import fit, predict


def saliency(model, params, x):
    """Return x times the gradient of the highest score: the contribution of each pixel."""
    scores, cache = model.apply(params, x)
    chosen = np.eye(scores.shape[1], dtype=scores.dtype)[scores.argmax(1)]
    _, dx = model.backward(params, cache, chosen)
    return x * dx


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
    draw(arguments.output, x, maps, predict(model, state.params, x).argmax(1))
    print(f"digits and maps: {arguments.output}")


if __name__ == "__main__":
    main()
