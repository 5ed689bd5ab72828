"""Read handwritten digits: an MLP on the 1,797 images of 8 by 8 pixels that scikit-learn ships.

Prints the accuracy on a fifth of the images that training has not seen, and draws the learning
curve and the digits that were read wrongly.

    python examples/digits.py --epochs 100 --output output/digits.png
"""

import argparse
import time
from pathlib import Path

import numpy as np

import npdl.functional as F
from npdl import random
from npdl.training import evaluate, fit, predict


def load(key):
    """Return the training, validation and test data: three, one and one fifth of the images."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = random.generator(random.fold(key, "split")).permutation(len(labels))
    x, y = (images / 16).astype(np.float32)[order], labels[order]
    fifth = len(y) // 5
    parts = slice(2 * fifth, None), slice(fifth, 2 * fifth), slice(fifth)
    return [(x[part], y[part]) for part in parts]


def draw(path, history, images, labels, read):
    """Draw the learning curve, and a page of the wrongly read digits, into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    wrong = np.flatnonzero(read != labels)
    figure = plt.figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    axes = left.subplots()
    axes.plot(history["loss"], label="training, with dropout")
    axes.plot(history["val_loss"], label="validation")
    axes.set(xlabel="epoch", ylabel="cross-entropy", yscale="log", title="Learning curve")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    columns = 5
    rows = max(-(-len(wrong) // columns), 1)
    right.suptitle(f"{len(wrong)} of {len(labels)} test digits read wrongly: true → read")
    for place, axis in enumerate(right.subplots(rows, columns, squeeze=False).flat):
        axis.axis("off")
        if place < len(wrong):
            i = wrong[place]
            axis.imshow(images[i].reshape(8, 8), cmap="gray_r")
            axis.set_title(f"{labels[i]} → {read[i]}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main():
    """Train, report and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="decides the split and the training")
    parser.add_argument("--output", type=Path, default=Path("output/digits.png"))
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    training, validation, test = load(key)
    model = F.serial(
        F.dense(256), F.relu(), F.dropout(0.4), F.dense(256), F.relu(), F.dropout(0.4), F.dense(10)
    )
    steps = arguments.epochs * -(-len(training[1]) // 32)
    start = time.perf_counter()
    state, history = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(F.cosine_decay(3e-3, steps)),
        training,
        epochs=arguments.epochs,
        batch_size=32,
        validation=validation,
        metrics={"accuracy": F.accuracy},
        rng=key,
    )
    seconds = time.perf_counter() - start

    figures = evaluate(model, state.params, test, metrics={"accuracy": F.accuracy})
    print(f"test accuracy {figures['accuracy']:.4f}, after {seconds:.1f} s of training")
    images, labels = test
    draw(arguments.output, history, images, labels, predict(model, state.params, images).argmax(1))
    print(f"learning curve and wrongly read digits: {arguments.output}")


if __name__ == "__main__":
    main()
