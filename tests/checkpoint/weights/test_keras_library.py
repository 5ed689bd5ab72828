"""Weights in both directions between npdl and the library Keras, with PyTorch as its backend."""

import os

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F
from npdl import checkpoint, random, tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

S = {"return_sequence": True}
K = {"return_sequences": True}
IMAGES, SEQUENCES, IDS = (3, 9, 8), (7, 6), (7,)


@pytest.fixture(scope="module")
def keras():
    """Return the library; its import takes seconds."""
    pytest.importorskip("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def attention(k, heads, size, kv_heads=None):
    """Return self-attention as a layer with one input."""

    class Attention(k.Layer):
        def __init__(self):
            super().__init__()
            if kv_heads is None:
                self.inner = k.MultiHeadAttention(heads, size)
            else:
                self.inner = k.GroupQueryAttention(size, heads, kv_heads)

        def build(self, shape):
            self.inner.build(shape, shape)

        def call(self, x):
            return self.inner(x, x)

    return Attention()


# Layer of npdl, the shape of an example, and the layers of Keras.
MODELS = {
    "dense": (F.serial(F.dense(5), F.relu(), F.dense(3, bias=False)), (6,), lambda k: [
        k.Dense(5, "relu"), k.Dense(3, use_bias=False)
    ]),
    "convolutional": (
        F.serial(
            *(F.conv2d(6, 3, padding=1), F.batch_norm(epsilon=1e-3), F.relu(), F.max_pool2d(2)),
            *(F.conv2d(4, (2, 3), bias=False), F.group_norm(2, epsilon=1e-3), F.flatten()),
            *(F.batch_norm(scale=False, epsilon=1e-3), F.dense(5)),
        ),
        IMAGES,
        lambda k: [
            *(k.Conv2D(6, 3, padding="same"), k.BatchNormalization(), k.ReLU()),
            *(k.MaxPooling2D(2), k.Conv2D(4, (2, 3), use_bias=False)),
            *(k.GroupNormalization(2), k.Flatten()),
            *(k.BatchNormalization(scale=False), k.Dense(5)),
        ],
    ),
    "transposed convolution": (
        F.conv2d_transpose(5, 3, stride=2), IMAGES, lambda k: [k.Conv2DTranspose(5, 3, strides=2)]
    ),
    "convolution of sequences": (
        F.serial(F.conv1d(5, 3), F.relu(), F.transpose((0, 2, 1)), F.lstm(4)),
        (6, 9),
        lambda k: [k.Conv1D(5, 3, activation="relu"), k.LSTM(4)],
    ),
    "recurrent": (
        F.serial(
            *(F.embedding(10, 6), F.lstm(5, **S), F.gru(4, **S), F.gru(5, reset_after=False, **S)),
            *(F.rnn(4, **S), F.bidirectional(F.lstm(3, **S)), F.bidirectional(F.gru(2))),
        ),
        IDS,
        lambda k: [
            *(k.Embedding(10, 6), k.LSTM(5, **K), k.GRU(4, **K)),
            *(k.GRU(5, reset_after=False, **K), k.SimpleRNN(4, **K)),
            *(k.Bidirectional(k.LSTM(3, **K)), k.Bidirectional(k.GRU(2))),
        ],
    ),
    "attention": (
        F.serial(F.multi_head_attention(2), F.layer_norm(epsilon=1e-3), F.rms_norm(epsilon=1e-6)),
        SEQUENCES,
        lambda k: [attention(k, 2, 3), k.LayerNormalization(), k.RMSNormalization()],
    ),
    "shared heads": (
        F.multi_head_attention(4, kv_heads=2), (7, 8), lambda k: [attention(k, 4, 2, kv_heads=2)]
    ),
}  # fmt: skip


def example(shape):
    if shape == IDS:
        return random.generator(1).integers(0, 10, (4, *shape))
    return normal(4, *shape)


def channels_last(x, shape):
    return np.moveaxis(x, 1, -1) if shape in (IMAGES, (6, 9)) else x


@pytest.mark.parametrize(("model", "shape", "parts"), MODELS.values(), ids=MODELS)
def test_both_libraries_compute_the_same(model, shape, parts, keras):
    x = example(shape)
    given_shape = keras.Input(channels_last(x, shape).shape[1:])
    other = keras.Sequential([given_shape, *parts(keras.layers)])
    for i, weight in enumerate(other.weights):
        noise = normal(*weight.shape, seed=i)
        weight.assign(np.abs(noise) + 0.5 if "variance" in weight.path else 0.4 * noise)
    given = {weight.path: weight.numpy() for weight in other.weights}
    like = model.init(0, shape)
    params = checkpoint.from_keras(given, model, like)
    expected = other.predict(channels_last(x, shape), verbose=0)
    agree(channels_last(model(params, x), shape if expected.ndim > 2 else ()), expected)

    trained = tree.map(lambda leaf: leaf + np.float32(0.1), params)
    arrays = checkpoint.to_keras(trained, model)
    other.set_weights(list(arrays.values()))
    expected = other.predict(channels_last(x, shape), verbose=0)
    agree(channels_last(model(trained, x), shape if expected.ndim > 2 else ()), expected)
    read = checkpoint.from_keras(arrays, model, like)
    for (path, found), leaf in zip(tree.items(read), tree.leaves(trained), strict=True):
        assert path.endswith("count") or np.array_equal(found, leaf), path


def agree(found, expected):
    bound = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
