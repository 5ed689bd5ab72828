"""Complete scripts of the stateful API, as written for the old library."""

import io
from pathlib import Path

import numpy as np
import pytest

import npdl

TREC = Path(__file__).parents[2].parent / "shared" / "data" / "TREC_10.label"
needs_trec = pytest.mark.skipif(not TREC.exists(), reason="the questions are not there")


# The examples of the documentation, unchanged


def test_the_example_of_the_objectives_runs():
    namespace = {}
    exec(
        """
import npdl
model = npdl.model.Model()
model.add(npdl.layers.Dense(n_out=100, n_in=50))
model.add(npdl.layers.Dense(n_out=3, activation=npdl.activations.Softmax()))
model.compile(loss=npdl.objectives.SCCE(), optimizer=npdl.optimizers.SGD(lr=0.005))
""",
        namespace,
    )
    assert namespace["model"].predict(np.zeros((2, 50))).shape == (2, 3)


def test_the_example_of_the_optimizers_runs():
    namespace = {}
    exec(
        """
import npdl
from npdl.activations import ReLU
from npdl.activations import Softmax
from npdl.objectives import SCCE
model = npdl.model.Model()
model.add(npdl.layers.Dense(n_out=100, n_in=50, activation=ReLU()))
model.add(npdl.layers.Dense(n_out=200, activation=ReLU()))
model.add(npdl.layers.Dense(n_out=100, activation=ReLU()))
model.add(npdl.layers.Dense(n_out=10, activation=Softmax()))
model.compile(loss=SCCE(), optimizer=npdl.optimizers.SGD(lr=0.005))
""",
        namespace,
    )
    assert namespace["model"].predict(np.zeros((2, 50))).shape == (2, 10)


# Images


def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    return images[order] / 16, labels[order]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_perceptron_classifies_digits(seed):
    npdl.utils.random.set_seed(seed)
    images, labels = digits()
    held_out = len(images) // 5
    net = npdl.model.Model()
    net.add(npdl.layers.Dense(n_out=500, n_in=64, activation=npdl.activations.ReLU()))
    net.add(npdl.layers.Dense(n_out=10, activation=npdl.activations.Softmax()))
    net.compile(loss=npdl.objectives.SCCE(), optimizer=npdl.optimizers.SGD(lr=0.005))
    targets = npdl.utils.data.one_hot(labels)
    net.fit(
        images[held_out:],
        targets[held_out:],
        max_iter=150,
        batch_size=64,
        validation_split=0.1,
        file=io.StringIO(),
    )
    assert net.accuracy(net.predict(images[:held_out]), targets[:held_out]) >= 0.97


@pytest.mark.slow
def test_a_convolutional_network_classifies_28x28_images():
    npdl.utils.set_seed(100)
    images, labels = digits()
    large = np.pad(
        images[:600].reshape(-1, 1, 8, 8).repeat(3, 2).repeat(3, 3), [(0, 0)] * 2 + [(2, 2)] * 2
    )
    net = npdl.Model()
    net.add(npdl.layers.Convolution(4, (3, 3), input_shape=(None, 1, 28, 28)))
    net.add(npdl.layers.MeanPooling((2, 2)))
    net.add(npdl.layers.Convolution(8, (4, 4)))
    net.add(npdl.layers.MaxPooling((2, 2)))
    net.add(npdl.layers.Flatten())
    net.add(npdl.layers.Softmax(n_out=10))
    net.compile(loss="scce", optimizer=npdl.optimizers.Momentum(lr=0.001))
    net.fit(large, npdl.utils.one_hot(labels[:600]), max_iter=30, batch_size=50, verbose=0)
    assert net.accuracy(net.predict(large), labels[:600]) >= 0.97


# Sentences


def questions():
    """Return word ids of the questions, padded with zeros, and one-hot rows of coarse classes."""
    lines = [line.split() for line in TREC.read_text(encoding="latin-1").splitlines()]
    names = sorted({line[0].split(":")[0] for line in lines})
    labels = np.array([names.index(line[0].split(":")[0]) for line in lines])
    words = {word: i for i, word in enumerate(sorted({w for line in lines for w in line[1:]}), 1)}
    time = max(map(len, lines)) - 1
    ids = np.zeros((len(lines), time), int)
    for row, line in zip(ids, lines, strict=True):
        row[: len(line) - 1] = [words[word] for word in line[1:]]
    return ids, npdl.utils.one_hot(labels), len(words) + 1


@needs_trec
@pytest.mark.slow
def test_a_convolution_classifies_questions():
    npdl.utils.set_seed(3)
    ids, targets, n_words = questions()
    time = ids.shape[1]
    net = npdl.Model()
    net.add(npdl.layers.Embedding(input_size=n_words, n_out=50, nb_seq=time, static=False))
    net.add(npdl.layers.DimShuffle())
    net.add(npdl.layers.Convolution(100, (3, 50)))
    net.add(npdl.layers.MeanPooling((time - 2, 1)))
    net.add(npdl.layers.Flatten())
    net.add(npdl.layers.Softmax(n_out=targets.shape[1]))
    net.compile(loss=npdl.objectives.SCCE(), optimizer=npdl.optimizers.Adam(lr=0.002))
    net.fit(ids, targets, max_iter=25, batch_size=30, verbose=0)
    assert net.accuracy(net.predict(ids), targets) >= 0.95


@needs_trec
@pytest.mark.slow
def test_two_recurrent_layers_classify_questions():
    npdl.utils.set_seed(3)
    ids, targets, n_words = questions()
    time = ids.shape[1]
    net = npdl.Model()
    net.add(npdl.layers.Embedding(input_size=n_words, n_out=50, nb_seq=time, static=False))
    net.add(npdl.layers.BatchLSTM(n_out=60, return_sequence=True))
    net.add(npdl.layers.BatchLSTM(n_out=40, return_sequence=True))
    net.add(npdl.layers.MeanPooling((time, 1)))
    net.add(npdl.layers.Flatten())
    net.add(npdl.layers.Softmax(n_out=targets.shape[1]))
    net.compile(loss="softmax_categorical_cross_entropy", optimizer="adam")
    net.optimizer.lr = 0.003
    net.fit(ids, targets, max_iter=25, batch_size=30, verbose=0)
    assert net.accuracy(net.predict(ids), targets) >= 0.95


# Text

TEXT = "she sells sea shells by the sea shore; the shells she sells are sea shells for sure. " * 3


def characters(window=8):
    """Return one-hot windows of the text, and the next character after each window."""
    alphabet = sorted(set(TEXT))
    codes = np.eye(len(alphabet))[[alphabet.index(c) for c in TEXT]]
    count = len(codes) - window
    return np.stack([codes[i : i + window] for i in range(count)]), codes[window:]


@pytest.mark.parametrize("layer", [npdl.layers.SimpleRNN, npdl.layers.BatchLSTM])
def test_a_recurrent_network_memorizes_a_text(layer):
    npdl.utils.set_seed(4)
    x, y = characters()
    net = npdl.Model()
    net.add(layer(n_out=48, n_in=x.shape[2], nb_seq=x.shape[1]))
    net.add(npdl.layers.Softmax(n_out=y.shape[1]))
    net.compile(npdl.objectives.SCCE(), npdl.optimizers.RMSprop(lr=0.01, clip=5))
    net.fit(x, y, max_iter=30, batch_size=32, verbose=0)
    assert net.accuracy(net.predict(x), y) >= 0.95


def test_a_decoder_with_state_feedback_reverses_sequences():
    """Train an encoder and a decoder with explicit calls and gradients of the states."""
    npdl.utils.set_seed(0)
    generator = np.random.RandomState(0)
    codes = np.eye(5)
    encoder = npdl.layers.BatchLSTM(n_out=32, n_in=5)
    decoder = npdl.layers.BatchLSTM(n_out=32, n_in=5, return_sequence=True)
    scores = npdl.layers.Softmax(n_out=5, n_in=32)
    for layer in (encoder, decoder, scores):
        layer.connect_to()
    objective, optimizer = npdl.objectives.SCCE(), npdl.optimizers.Adam(lr=0.01)
    params = [*encoder.params, *decoder.params, *scores.params]

    def shifted(words):
        return np.concatenate([np.zeros((len(words), 1, 5)), codes[words[:, :-1]]], axis=1)

    for _ in range(300):
        words = generator.randint(5, size=(32, 4))
        turned = words[:, ::-1]
        encoder.forward(codes[words])
        output = decoder.forward(shifted(turned), c0=encoder.c0, h0=encoder.h0)
        p = scores.forward(output.reshape(-1, 32))
        g = scores.backward(objective.backward(p, turned.reshape(-1)))
        decoder.backward(g.reshape(output.shape))
        encoder.backward(np.zeros((32, 32)), dcn=decoder.dc0, dhn=decoder.dh0)
        optimizer.update(params, [*encoder.grads, *decoder.grads, *scores.grads])

    words = generator.randint(5, size=(100, 4))
    encoder.forward(codes[words])
    c, h, inputs, said = encoder.c0, encoder.h0, np.zeros((100, 1, 5)), []
    for _ in range(4):
        output = decoder.forward(inputs, c0=c, h0=h)
        c, h = decoder.c0, decoder.h0
        said.append(scores.forward(output[:, 0]).argmax(axis=1))
        inputs = codes[said[-1]][:, None]
    assert np.mean(np.stack(said, axis=1) == words[:, ::-1]) >= 0.95


def test_a_chatbot_answers_with_assigned_weights():
    """Call an encoder and a decoder of two layers each, with masks and states."""
    from npdl.initializations import _one

    generator = np.random.RandomState(0)
    words, units, time = 11, 6, 7
    table = generator.normal(size=(words, units)).astype(np.float32)
    embedding = npdl.layers.Embedding(table, nb_seq=time)
    embedding.connect_to()
    embedding.embed_words = table
    layers = [
        npdl.layers.LSTM(n_out=units, n_in=units, return_sequence=True, nb_seq=time),
        npdl.layers.LSTM(n_out=units, return_sequence=False),
        npdl.layers.LSTM(n_out=units, n_in=units, return_sequence=True),
        npdl.layers.LSTM(n_out=units, return_sequence=False),
    ]
    encoder_1, encoder_2, decoder_1, decoder_2 = layers
    for before, layer in zip([embedding, encoder_1, embedding, decoder_1], layers, strict=True):
        layer.connect_to(before)
        for gate in "fiog":
            setattr(layer, f"U_{gate}", generator.normal(size=(units, units)))
            setattr(layer, f"W_{gate}", generator.normal(size=(units, units)))
            setattr(layer, f"b_{gate}", generator.normal(size=units))
    linear = npdl.layers.Linear(n_out=embedding.embed_words.shape[0])
    linear.connect_to(decoder_2)
    linear.W = generator.normal(size=(units, words))

    def answer(ids):
        ids = ids[None, :] if np.ndim(ids) == 1 else ids
        mask = np.not_equal(ids, 0).astype("int32")
        encoder_2.forward(encoder_1.forward(embedding.forward(ids), mask), mask)
        states, mask = [encoder_1.c0, encoder_1.h0, encoder_2.c0, encoder_2.h0], _one((1, 1))
        said = [1]
        while len(said) < 9 and said[-1] != 2:
            x = embedding.forward(np.array([[said[-1]]], dtype="int32"))
            x = decoder_1.forward(x, mask, *states[:2])
            y = decoder_2.forward(x, mask, *states[2:])
            states = [decoder_1.c0, decoder_1.h0, decoder_2.c0, decoder_2.h0]
            said.append(int(np.argmax(linear.forward(y)[0])))
        return said

    first = answer(np.array([0, 0, 4, 5, 3, 9, 8], dtype="int32"))
    assert first == answer(np.array([[0, 0, 4, 5, 3, 9, 8]]))
    assert first == answer(np.array([4, 5, 3, 9, 8]))
    assert first != answer(np.array([3, 9]))
    assert decoder_1.gate_activation.forward(np.zeros(1)) == 0.5


def test_weights_can_be_assigned():
    layer = npdl.layers.Dense(n_out=2, n_in=3, activation="linear")
    layer.connect_to()
    weight = np.arange(6.0).reshape(3, 2)
    layer.W, layer.b = weight, [1, 2]
    np.testing.assert_array_equal(layer.forward([[1, 0, 2]]), [[9, 13]])
    npdl.optimizers.SGD(lr=1.0).update(layer.params, [np.ones((3, 2)), np.ones(2)])
    np.testing.assert_array_equal(layer.W, weight - 1)
    np.testing.assert_array_equal(weight, np.arange(6.0).reshape(3, 2))
