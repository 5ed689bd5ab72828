"""Classify handwritten digits with a multilayer perceptron, in either style.

The data are the 1,797 images of 8 × 8 pixels of scikit-learn, or MNIST. The script prints the
accuracy on the test images, a fifth of the 1,797. It draws the learning curve and the
misclassified digits.

    python examples/digits.py --epochs 100 --output output/digits.png
    python examples/digits.py --style compat
    python examples/digits.py --mnist DIRECTORY
"""

import argparse
import time

import numpy as np
from example_data import digits
from options import STYLE, directory, integer, picture, seed

import npdl
import npdl.functional as F
from npdl import plot, random
from npdl.training import fit, predict


def functional(training, validation, epochs, batch_size, key):
    """Train with pure functions: the network is a value, and `fit` returns its parameters."""
    model = F.serial(
        F.flatten(),
        *(F.dense(256), F.relu(), F.dropout(0.4), F.dense(256), F.relu(), F.dropout(0.4)),
        F.dense(10),
    )
    steps = epochs * -(-len(training[1]) // batch_size)
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
    return lambda images: predict(model, state.params, images), history


def compat(training, validation, epochs, batch_size, key):
    """Train with objects that hold their parameters, in the style of Keras.

    The softmax is part of the network, and the optimizer decays the rate.
    """

    def flat(images):
        return images.reshape(len(images), -1)

    npdl.utils.set_seed(key[0])
    layers = npdl.layers
    model = npdl.Model()
    model.add(layers.Dense(256, n_in=training[0][0].size, activation="relu"))
    model.add(layers.Dropout(0.4))
    model.add(layers.Dense(256, activation="relu"))
    model.add(layers.Dropout(0.4))
    model.add(layers.Softmax(10))
    model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=2e-3, decay=1e-3))
    history = model.fit(
        flat(training[0]),
        training[1],
        epochs=epochs,
        batch_size=batch_size,
        validation_data=(flat(validation[0]), validation[1]),
    )
    return lambda images: model.predict(flat(images)), history.history


def draw(path, history, images, labels, predicted):
    """Draw the learning curve and the misclassified digits into a PNG."""
    from matplotlib.figure import Figure

    wrong = np.flatnonzero(predicted != labels)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    losses = {name: values for name, values in history.items() if name.endswith("loss")}
    (axes,) = plot.learning_curves(losses, ax=left.subplots())
    axes.set(ylabel="cross-entropy", yscale="log", title="Learning curve")
    columns, most = 5, 20
    rows = max(-(-min(len(wrong), most) // columns), 1)
    right.suptitle(f"{len(wrong)} of {len(labels)} test digits misclassified: true → predicted")
    for index, axis in enumerate(right.subplots(rows, columns, squeeze=False).flat):
        axis.axis("off")
        if index < len(wrong):
            i = wrong[index]
            axis.imshow(images[i, 0], cmap="gray_r")
            axis.set_title(f"{labels[i]} → {predicted[i]}", fontsize=10)
    figure.savefig(path, dpi=120)


def main():
    """Train, print the accuracy and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--style", **STYLE)
    parser.add_argument(
        "--mnist", type=directory, metavar="DIR", help="the directory of MNIST's files"
    )
    parser.add_argument("--epochs", type=integer(), help="default 100; 12 for MNIST")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument(
        "--output",
        type=picture,
        metavar="PNG",
        help="default output/digits.png, or output/digits_compat.png",
    )
    parser.add_argument("--quick", action="store_true", help="a few epochs, as a trial")
    arguments = parser.parse_args()

    name = {"functional": "digits", "compat": "digits_compat"}[arguments.style]
    output = arguments.output or picture(f"output/{name}.png")
    key = random.key(arguments.seed)
    training, validation, (images, labels) = digits(key, arguments.mnist)
    large = len(training[1]) > 10_000
    epochs = arguments.epochs or (8 if arguments.quick else 12 if large else 100)
    style = {"functional": functional, "compat": compat}[arguments.style]
    start = time.perf_counter()
    classify, history = style(training, validation, epochs, 128 if large else 32, key)
    seconds = time.perf_counter() - start

    scores = classify(images)
    accuracy = F.accuracy(scores, labels)
    print(f"test accuracy {accuracy:.4f}, after {seconds:.1f} s of training")
    draw(output, history, images, labels, scores.argmax(1))
    print(f"learning curve and misclassified digits: {output}")


if __name__ == "__main__":
    main()
