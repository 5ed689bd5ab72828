"""Classify sentences with a convolutional network and with an LSTM, in either style.

Without a file, the classes are modules of Python's standard library, and the sentences come from
their docstrings. With a file, the classes are the six kinds of answers to TREC's questions. A fifth
of the sentences are the test set. The script prints the test accuracy, the accuracy of the most
frequent class, and the confusion matrix.

    python examples/sentences.py
    python examples/sentences.py --style compat
    python examples/sentences.py --model lstm --trec train_5500.label
"""

import argparse
import collections
import time

import numpy as np
from example_data import docstrings, shuffled, trec
from options import STYLE, file, integer, seed

import npdl
import npdl.functional as F
from npdl import random
from npdl.training import fit, predict

LENGTH = 30  # words; longer sentences are cut
PADDING, UNKNOWN = 0, 1


def cnn(vocabulary, classes):
    """Return a network of filters over three, four and five words, with maximum pooling.

    Kim: Convolutional neural networks for sentence classification, 2014.
    """

    def branch(width):
        return F.serial(F.conv1d(64, width, padding="same"), F.relu(), F.global_max_pool())

    return F.serial(
        F.embedding(vocabulary, 64, padding_id=PADDING, table_init=F.normal(0.1)),
        F.transpose((0, 2, 1)),  # a convolution has the channels first
        F.dropout(0.3),
        F.parallel(branch(3), branch(4), branch(5), join="concatenate"),
        F.dropout(0.5),
        F.dense(classes),
    )


def lstm(vocabulary, classes):
    """Return a bidirectional LSTM; a mask marks the words of each sentence."""
    return F.graph(
        ("ids", "mask"),
        {
            "words": (
                F.serial(
                    F.embedding(vocabulary, 64, padding_id=PADDING, table_init=F.normal(0.1)),
                    F.dropout(0.3),
                ),
                "ids",
            ),
            "encoded": (F.bidirectional(F.lstm(64)), ("words", "mask")),
            "scores": (F.serial(F.dropout(0.5), F.dense(classes)), "encoded"),
        },
        "scores",
    )


def functional(name, training, vocabulary, classes, epochs, key):
    """Train with pure functions; return a function from ids to scores of the classes."""

    def inputs(ids):
        return (ids, ids != PADDING) if name == "lstm" else ids

    model = {"cnn": cnn, "lstm": lstm}[name](vocabulary, classes)
    ids, labels = training
    steps = epochs * -(-len(labels) // 32)
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.chain(F.clip_by_global_norm(1.0), F.adam(F.one_cycle(6e-3, steps))),
        (inputs(ids), labels),
        epochs=epochs,
        metrics={"accuracy": F.accuracy},
        rng=key,
    )
    return lambda ids: predict(model, state.params, inputs(ids))


def compat(name, training, vocabulary, classes, epochs, key):
    """Train with objects that hold their parameters, in the style of Keras.

    The model has one input, so the LSTM gets no mask. Its sentences have the padding in front and
    end at the last step. The convolution treats a sentence as an image whose rows are the words.
    """

    def inputs(ids):
        # Rotate each row, so that the padding comes first.
        positions = (ids != PADDING).sum(1, keepdims=True) + np.arange(LENGTH)
        return np.take_along_axis(ids, positions % LENGTH, 1) if name == "lstm" else ids

    npdl.utils.set_seed(key[0])
    layers = npdl.layers
    model = npdl.Model()
    model.add(layers.Embedding(input_size=vocabulary, n_out=64, nb_seq=LENGTH, static=False))
    model.add(layers.Dropout(0.3))
    if name == "cnn":
        width = 3
        model.add(layers.DimShuffle(1))  # an image of one channel
        model.add(layers.Convolution(192, (width, 64)))
        model.add(layers.MaxPooling((LENGTH - width + 1, 1)))
        model.add(layers.Flatten())
    else:
        model.add(layers.LSTM(n_out=128))
    model.add(layers.Dropout(0.5))
    model.add(layers.Softmax(classes))
    model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=2e-3, decay=1e-3))
    model.fit(inputs(training[0]), training[1], epochs=epochs, batch_size=32)
    return lambda ids: model.predict(inputs(ids))


def encoded(sentences, training):
    """Return an array of ids; a word of the vocabulary is at least twice in the training set."""
    counts = collections.Counter(word for i in training for word in sentences[i])
    words = sorted(word for word, count in counts.items() if count > 1)
    number = {word: i for i, word in enumerate(words, UNKNOWN + 1)}
    ids = np.full((len(sentences), LENGTH), PADDING)
    for row, sentence in zip(ids, sentences, strict=True):
        found = [number.get(word, UNKNOWN) for word in sentence[:LENGTH]]
        row[: len(found)] = found
    return ids, len(words) + 2


def report(outputs, labels, names):
    """Print the confusion matrix with the names of the classes."""
    counts = F.confusion_matrix(outputs, labels, classes=len(names))
    width = max(map(len, names)) + 2
    print("true class by row, predicted class by column:")
    print(" " * width + "".join(f"{name[:9]:>11}" for name in names))
    for name, row in zip(names, counts, strict=True):
        print(f"{name:<{width}}" + "".join(f"{count:11}" for count in row))


def main():
    """Train each model and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--style", **STYLE)
    parser.add_argument("--model", choices=("cnn", "lstm", "both"), default="both")
    parser.add_argument(
        "--trec", type=file, metavar="FILE", help="lines such as 'LOC:city What town ...'"
    )
    parser.add_argument("--epochs", type=integer(), help="default 8")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument("--quick", action="store_true", help="three classes and two epochs")
    arguments = parser.parse_args()

    key = random.key(arguments.seed)
    if arguments.trec:
        sentences, classes = trec(arguments.trec)
    else:
        sentences, classes = docstrings(3 if arguments.quick else 6)
    names, labels = np.unique(classes, return_inverse=True)
    order, labels = shuffled(key, np.arange(len(labels)), labels)
    sentences = [sentences[i] for i in order]
    fifth = len(labels) // 5
    ids, vocabulary = encoded(sentences, range(fifth, len(labels)))
    most = np.bincount(labels[fifth:]).argmax()
    print(f"{len(labels)} sentences of {len(names)} classes, {vocabulary} words")
    print(f"always '{names[most]}': accuracy {np.mean(labels[:fifth] == most):.3f}")

    style = {"functional": functional, "compat": compat}[arguments.style]
    epochs = arguments.epochs or (2 if arguments.quick else 8)
    for name in ("cnn", "lstm") if arguments.model == "both" else [arguments.model]:
        print(f"\n{name}:")
        start = time.perf_counter()
        classify = style(name, (ids[fifth:], labels[fifth:]), vocabulary, len(names), epochs, key)
        seconds = time.perf_counter() - start
        scores = classify(ids[:fifth])
        report(scores, labels[:fifth], names)
        accuracy = F.accuracy(scores, labels[:fifth])
        print(f"{name}: test accuracy {accuracy:.3f}, after {seconds:.0f} s of training")


if __name__ == "__main__":
    main()
