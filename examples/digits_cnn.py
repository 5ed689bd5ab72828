"""Classify handwritten digits with a convolutional network, in either style.

The script prints the accuracy on the test images and the confusion matrix. It draws the filters of
the first layer, their feature maps, and the model.

    python examples/digits_cnn.py
    python examples/digits_cnn.py --style compat
    python examples/digits_cnn.py --mnist DIRECTORY
    python -m npdl.run examples/digits_cnn.py --shards 4
"""

import argparse
import time

import numpy as np
from example_data import digits
from options import STYLE, directory, folder, integer, seed

import npdl
import npdl.functional as F
from npdl import plot, random
from npdl.distributed import rank
from npdl.training import fit, predict


def with_shifts(x, labels):
    """Return the images, and copies shifted by a pixel up, down, left and right."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (2, 1), (0, 1), (1, 2), (1, 0)]
    shifted = [padded[:, :, row : row + height, col : col + width] for row, col in corners]
    return np.concatenate(shifted), np.tile(labels, len(corners))


def functional(training, validation, epochs, shards, key):
    """Train with pure functions: the layer is a value, `fit` returns the parameters."""

    def convolution(filters, stride=1):
        layer = F.conv2d(filters, 3, stride=stride, padding="same", bias=False)
        return layer, F.batch_norm(), F.relu()

    is_large = training[0].shape[2] > 16
    model = F.serial(
        *(convolution(16, stride=2) if is_large else convolution(32)),
        *(*convolution(32), F.dropout(0.2)),
        *(*convolution(64, stride=2), *convolution(64), F.dropout(0.3), F.flatten()),
        *(F.dense(128), F.relu(), F.dropout(0.5), F.dense(10)),
    )
    steps = epochs * -(-len(training[1]) // 64)
    state, history = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(F.one_cycle(5e-3, steps)),
        training,
        epochs=epochs,
        batch_size=64,
        validation=validation,
        metrics={"accuracy": F.accuracy},
        rng=key,
        shards=shards,
    )
    return model, state.params, history


def compat(training, validation, epochs, shards, key):
    """Train with objects that hold their parameters, in the style of Keras.

    These convolutions have no padding, so the network differs, and the rate is constant. At the
    end, `to_functional` converts the network to a functional model with the same outputs.
    """
    npdl.utils.set_seed(key[0])
    layers = npdl.layers
    model = npdl.Model()
    shape = training[0].shape[1:]
    if shape[1] > 16:  # MNIST's 28 pixels become 24, and 12
        model.add(layers.Convolution(32, (5, 5), input_shape=shape))
        model.add(layers.MaxPooling((2, 2)))
    else:
        model.add(layers.Convolution(32, (3, 3), input_shape=shape))
    model.add(layers.Convolution(64, (3, 3)))
    model.add(layers.MaxPooling((2, 2)))
    model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Softmax(10))
    model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=2e-3), metrics=["accuracy"])
    history = model.fit(
        *training, epochs=epochs, batch_size=64, validation_data=validation, shards=shards
    )
    layer, params = model.to_functional()
    return layer, params, history


def draw(output, model, params, history, image, counts):
    """Draw the model, its curves, filters and feature maps into PNGs."""
    first = model.call.positional[0]
    is_pair = first.call.name == "serial"  # in compat, the activation is part of the layer
    weight = (params[0][0] if is_pair else params[0])["weight"]
    pictures = {
        "curves": plot.learning_curves(history)[0],
        "confusion": plot.confusion_matrix(counts),
        "filters": plot.filters(weight, columns=8),
        "maps": plot.feature_maps(model, params, image, layer=0, columns=8),
        "model": plot.graph(model, image.shape),
    }
    for name, axes in pictures.items():
        axes.figure.savefig(output / f"{name}.png", dpi=120)


def main():
    """Train, print the results and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--style", **STYLE)
    parser.add_argument(
        "--mnist", type=directory, metavar="DIR", help="the directory of MNIST's files"
    )
    parser.add_argument("--epochs", type=integer(), help="default 12; 1 for MNIST")
    parser.add_argument(
        "--shards", type=integer(), help="number of shards of a batch, which several ranks share"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument(
        "--output",
        type=folder,
        metavar="DIR",
        help="default output/digits_cnn, or output/digits_cnn_compat",
    )
    parser.add_argument("--quick", action="store_true", help="four epochs of fewer images")
    arguments = parser.parse_args()

    name = {"functional": "digits_cnn", "compat": "digits_cnn_compat"}[arguments.style]
    output = arguments.output or folder(f"output/{name}")
    key = random.key(arguments.seed)
    training, validation, test = digits(key, arguments.mnist)
    is_small = len(training[1]) < 10_000
    if is_small and not arguments.quick:
        training = with_shifts(*training)
    style = {"functional": functional, "compat": compat}[arguments.style]
    usual = 1 if not is_small else 4 if arguments.quick else 12
    start = time.perf_counter()
    model, params, history = style(
        training, validation, arguments.epochs or usual, arguments.shards, key
    )
    seconds = time.perf_counter() - start

    images, labels = test
    outputs = predict(model, params, images)
    counts = F.confusion_matrix(outputs, labels, classes=10)
    print(f"true digit by row, predicted digit by column:\n{counts}")
    print(f"test accuracy {F.accuracy(outputs, labels):.4f}, after {seconds:.1f} s of training")
    if rank() == 0:  # all ranks run this script
        draw(output, model, params, history, images[0], counts)
        print(f"pictures: {output}/")


if __name__ == "__main__":
    main()
