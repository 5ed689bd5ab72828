"""Read handwritten digits with a multilayer perceptron.

The data are the 1,797 images of 8 by 8 pixels that scikit-learn ships, or MNIST's. Prints the
accuracy on images that training has not seen, a fifth of the 1,797, and draws the learning curve
and the digits that were read wrongly.

    python examples/digits.py --epochs 100 --output output/digits.png
    python examples/digits.py --mnist DIRECTORY
"""

import argparse
import time
from pathlib import Path

import numpy as np
from datasets import digits

import npdl.functional as F
from npdl import plot, random
from npdl.training import evaluate, fit, predict


def draw(path, history, images, labels, read):
    """Draw the learning curve, and a page of the wrongly read digits, into a PNG."""
    from matplotlib.figure import Figure

    wrong = np.flatnonzero(read != labels)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    losses = {name: values for name, values in history.items() if name.endswith("loss")}
    (axes,) = plot.learning_curves(losses, ax=left.subplots())
    axes.set(ylabel="cross-entropy", yscale="log", title="Learning curve")
    columns, most = 5, 20
    rows = max(-(-min(len(wrong), most) // columns), 1)
    right.suptitle(f"{len(wrong)} of {len(labels)} test digits read wrongly: true → read")
    for place, axis in enumerate(right.subplots(rows, columns, squeeze=False).flat):
        axis.axis("off")
        if place < len(wrong):
            i = wrong[place]
            axis.imshow(images[i, 0], cmap="gray_r")
            axis.set_title(f"{labels[i]} → {read[i]}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main():
    """Train, report and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="where MNIST's IDX files are")
    parser.add_argument("--epochs", type=int, help="100; 12 of MNIST")
    parser.add_argument("--seed", type=int, default=0, help="decides the split and the training")
    parser.add_argument("--output", type=Path, default=Path("output/digits.png"))
    parser.add_argument("--quick", action="store_true", help="a few epochs, to see that it runs")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    training, validation, test = digits(key, arguments.mnist)
    model = F.serial(
        F.flatten(),
        *(F.dense(256), F.relu(), F.dropout(0.4), F.dense(256), F.relu(), F.dropout(0.4)),
        F.dense(10),
    )
    large = len(training[1]) > 10_000
    epochs = arguments.epochs or (8 if arguments.quick else 12 if large else 100)
    batch_size = 128 if large else 32
    steps = epochs * -(-len(training[1]) // batch_size)
    start = time.perf_counter()
    state, history = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(F.cosine_decay(3e-3, steps)),
        training,
        epochs=epochs,
        batch_size=batch_size,
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
