"""Warnings of the stateful API point to the line of the user's call."""

import inspect
import warnings

import numpy as np
import pytest
from npdl.layers import Activation, Convolution, Dense, Embedding, Input, SimpleRNN, Softmax
from npdl.optimizers import SGD

import npdl

X, Y = np.ones((8, 4)), np.zeros(8, int)
IDS = np.zeros((8, 3), int)


def compiled(*layers):
    model = npdl.Model([*layers, Softmax(2)])
    model.compile("scce", "sgd")
    return model


def words():
    return compiled(Embedding(5, 4), SimpleRNN(n_out=3))


def connected(layer):
    layer.connect_to()
    return layer


class Own(SGD):
    """A user-defined subclass."""


# A part of the message, and functions whose last call warns.
CALLS = {
    "clips gradients": [lambda: SGD(0.1, 0.9), lambda: Own(0.1, 0.9)],
    "pass only one of them": [
        lambda: compiled(Dense(3, 4)).fit(X, Y, 1, 64, True, 0.5, (X, Y), verbose=0),
        lambda: compiled(Dense(3, 4)).fit(
            X, y=Y, epochs=1, validation_data=(X, Y), validation_split=0.5, verbose=0
        ),
    ],
    "for the opposite": [
        lambda: compiled(Dense(3, 4)).fit(X, Y, 8, 1, verbose=0),
        lambda: compiled(Dense(3, 4)).fit(X, Y, 8, 1, workers=1, verbose=0),
    ],
    "by default, and": [
        lambda: npdl.Model([Dense(3, 4), Activation("relu")]).compile("mse", "sgd"),
        lambda: npdl.Model([Dense(3, 4), Activation("relu")]).compile(optimizer="sgd", loss="mse"),
        lambda: Activation("relu").connect_to(connected(Dense(3, 4))),
    ],
    "which is used": [
        lambda: npdl.Model([Dense(3, 4), Dense(3, 5)]).compile("mse"),
        lambda: Dense(3, 5).connect_to(connected(Dense(3, 4))),
        lambda: SimpleRNN(n_out=3, n_in=5).connect_to(connected(Input((2, 3)))),
    ],
    "channels come first": [
        lambda: Convolution(2, 3, input_shape=(32, 32, 3)),
        lambda: Input(shape=(32, 32, 3)),
    ],
    "static=True keeps it": [
        lambda: words().fit(IDS, Y, 1, verbose=0),
        lambda: words().fit(x=IDS, y=Y, epochs=1, verbose=0),
        lambda: words().train_on_batch(IDS, Y),
        lambda: words().train_on_batch(x=IDS, y=Y),
    ],
}


def place_of_warning(call):
    """Return the message, file and line of the only warning of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    (warning,) = caught
    return str(warning.message), warning.filename, warning.lineno


@pytest.mark.parametrize(
    ("message", "call"),
    [(message, call) for message, calls in CALLS.items() for call in calls],
    ids=[f"{m} {i}" for m, calls in CALLS.items() for i in range(len(calls))],
)
def test_a_warning_points_to_the_line_of_the_call(message, call):
    text, file, line = place_of_warning(call)
    lines, first = inspect.getsourcelines(call)
    assert message in text
    assert file == __file__
    assert line in range(first, first + len(lines))
