"""Real tasks, which a network has learnt at the end: whole models, trained through `fit`."""

from pathlib import Path

import numpy as np
import pytest

import npdl.functional as F
from npdl import random
from npdl.training import evaluate, fit

pytestmark = pytest.mark.slow

TEXT = Path(__file__).parents[3] / "shared" / "data" / "tiny_shakespeare.txt"


def one_cycle(peak, data, epochs, batch_size):
    return F.one_cycle(peak, epochs * -(-len(data[1]) // batch_size))


def digits(key):
    """The 1,797 images of 8 by 8 pixels, in two parts: four fifths to train with, and the rest."""
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = random.generator(key).permutation(len(labels))
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)[order]
    fifth = len(labels) // 5
    return (x[fifth:], labels[order][fifth:]), (x[:fifth], labels[order][:fifth])


def with_shifts(x, labels):
    """Images, and those shifted by a pixel up, down, left and right."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (2, 1), (0, 1), (1, 2), (1, 0)]
    shifted = [padded[:, :, row : row + 8, column : column + 8] for row, column in corners]
    return np.concatenate(shifted), np.tile(labels, len(corners))


def test_a_convolutional_network_reads_digits():
    def convolution(filters, stride=1):
        layer = F.conv2d(filters, 3, stride=stride, padding="same", bias=False)
        return layer, F.batch_norm(), F.relu()

    training, test = digits(key=0)
    training = with_shifts(*training)
    model = F.serial(
        *(*convolution(32), *convolution(32), F.dropout(0.2)),
        *(*convolution(64, stride=2), *convolution(64), F.dropout(0.3), F.flatten()),
        *(F.dense(128), F.relu(), F.dropout(0.5), F.dense(10)),
    )
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(one_cycle(5e-3, training, epochs=8, batch_size=64)),
        training,
        epochs=8,
        batch_size=64,
        progress=False,
    )
    accuracy = evaluate(model, state.params, test, metrics={"accuracy": F.accuracy})["accuracy"]
    assert accuracy >= 0.985


def additions(count, key, steps=50):
    """Sequences of numbers in [0, 1) and marks, two a sequence; the sum of the marked numbers.

    Hochreiter, Schmidhuber: Long short-term memory, 1997, experiment 4, with other ranges. The
    constant 1 has a mean squared error of 1/6.
    """
    generator = random.generator(key)
    numbers = generator.random((count, steps), np.float32)
    marks = np.zeros((count, steps), np.float32)
    for part in ((0, steps // 2), (steps // 2, steps)):
        marks[np.arange(count), generator.integers(*part, size=count)] = 1
    return np.stack([numbers, marks], axis=2), np.sum(numbers * marks, axis=1, keepdims=True)


@pytest.mark.parametrize("cell", [F.lstm, F.gru], ids=["lstm", "gru"])
def test_a_recurrent_network_adds_two_numbers_of_fifty(cell):
    training = additions(5000, key=(0, 1))
    model = F.serial(cell(32), F.dense(1))
    rate = one_cycle(1e-2, training, epochs=12, batch_size=50)
    state, _ = fit(
        model,
        F.mean_squared_error,
        F.chain(F.clip_by_global_norm(1.0), F.adam(rate)),
        training,
        epochs=12,
        batch_size=50,
        progress=False,
    )
    fresh = additions(2000, key=(0, 2))
    loss = evaluate(model, state.params, fresh, loss=F.mean_squared_error)["loss"]
    assert loss < 0.01


def test_a_transformer_reverses_sequences():
    def sequences(count, key):
        symbols = random.generator(key).integers(10, size=(count, 8))
        return symbols, symbols[:, ::-1].copy()

    training = sequences(4000, key=(0, 1))
    model = F.serial(
        *(F.embedding(10, 32), F.learned_positions(8), F.transformer_encoder_block(4, 128)),
        *(F.layer_norm(), F.dense(10)),
    )
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(one_cycle(1e-2, training, epochs=10, batch_size=64)),
        training,
        epochs=10,
        batch_size=64,
        progress=False,
    )
    fresh = sequences(2000, key=(0, 2))
    accuracy = evaluate(model, state.params, fresh, metrics={"accuracy": F.accuracy})["accuracy"]
    assert accuracy >= 0.99


@pytest.mark.skipif(not TEXT.exists(), reason="the text is not there")
def test_a_character_lstm_learns_english():
    """The pairs of neighbours alone leave some 3.4 bits per character."""

    def windows(starts, length):
        places = starts[:, None] + np.arange(length)
        return ids[places], ids[places + 1]

    characters, ids = np.unique(np.frombuffer(TEXT.read_bytes(), np.uint8), return_inverse=True)
    split, steps, length = len(ids) * 9 // 10, 600, 32
    model = F.serial(
        F.embedding(len(characters), 32),
        F.lstm(96, return_sequence=True),
        F.dense(len(characters)),
    )
    starts = random.generator(0).integers(split - length, size=steps * 32)
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.chain(F.clip_by_global_norm(1.0), F.adam(F.one_cycle(1e-2, steps))),
        windows(starts, length),
        batch_size=32,
        progress=False,
    )
    validation = windows(np.arange(split, len(ids) - 500, 500), 500)
    loss = evaluate(model, state.params, validation, loss=F.softmax_cross_entropy, batch_size=32)
    assert loss["loss"] / np.log(2) < 2.8
