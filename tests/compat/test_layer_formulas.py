"""Outputs of layers, compared with the documented formulas in plain NumPy."""

import numpy as np
import pytest
from arrays import normal64
from compat_layers import BATCH, MASK, N_IN, N_OUT, TIME, after

import npdl
import npdl.functional as F
from npdl import layers


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def made(layer, *shape):
    """Return the connected layer in float64, with noise added to its parameters."""
    npdl.utils.set_dtype("float64")
    layer.connect_to(after(*shape))
    for i, array in enumerate(layer.params):
        array += 0.3 * normal64(*array.shape, seed=i)
    return layer


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def unrolled(step, x, *states):
    """Apply a step function to each example, over the time steps of its sequence."""
    outputs = np.zeros((BATCH, TIME, N_OUT))
    for i in range(BATCH):
        state = tuple(part[i] for part in states)
        for t in range(TIME):
            if MASK[i, t]:
                state = step(x[i, t], *state)
            outputs[i, t] = state[0]
    return outputs


def zeros():
    return np.zeros((BATCH, N_OUT))


def recurrent(kind, **options):
    return made(kind(n_out=N_OUT, return_sequence=True, **options), TIME, N_IN)


def test_dense_and_linear():
    x = normal64(BATCH, N_IN)
    linear, dense = made(layers.Linear(N_OUT), N_IN), made(layers.Dense(N_OUT), N_IN)
    close(linear.forward(x), x @ linear.W + linear.b)
    close(dense.forward(x), np.tanh(x @ dense.W + dense.b))


def test_simple_rnn():
    layer, x = recurrent(layers.SimpleRNN), normal64(BATCH, TIME, N_IN)
    expected = unrolled(lambda x, h: (np.tanh(x @ layer.W + h @ layer.U + layer.b),), x, zeros())
    close(layer.forward(x, MASK), expected)


def test_gru_resets_before_the_matrix_product():
    layer, x = recurrent(layers.GRU), normal64(BATCH, TIME, N_IN)

    def step(x, s):
        z = sigmoid(x @ layer.U_z + s @ layer.W_z + layer.b_z)
        r = sigmoid(x @ layer.U_r + s @ layer.W_r + layer.b_r)
        h = np.tanh(x @ layer.U_h + (s * r) @ layer.W_h + layer.b_h)
        return ((1 - z) * h + z * s,)

    close(layer.forward(x, MASK), unrolled(step, x, zeros()))


def test_lstm():
    layer, x = recurrent(layers.LSTM), normal64(BATCH, TIME, N_IN)
    c0, h0 = normal64(BATCH, N_OUT, seed=2), normal64(BATCH, N_OUT, seed=3)

    def step(x, h, c):
        f = sigmoid(x @ layer.U_f + h @ layer.W_f + layer.b_f)
        i = sigmoid(x @ layer.U_i + h @ layer.W_i + layer.b_i)
        o = sigmoid(x @ layer.U_o + h @ layer.W_o + layer.b_o)
        g = np.tanh(x @ layer.U_g + h @ layer.W_g + layer.b_g)
        c = f * c + i * g
        return o * np.tanh(c), c

    close(layer.forward(x, MASK, c0, h0), unrolled(step, x, h0, c0))


def test_batch_lstm_packs_rows_bias_x2h_h2h_and_columns_ifog():
    layer, x = recurrent(layers.BatchLSTM), normal64(BATCH, TIME, N_IN)
    c0, h0 = normal64(BATCH, N_OUT, seed=2), normal64(BATCH, N_OUT, seed=3)

    def step(x, h, c):
        i, f, o, g = np.split(np.concatenate([[1.0], x, h]) @ layer.AllW, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    close(layer.forward(x, c0, h0, MASK), unrolled(step, x, h0, c0))


@pytest.mark.parametrize("bias", [1, 0, 2.5])
def test_the_forget_bias_changes_only_the_forget_gate(bias):
    layer = layers.LSTM(n_out=N_OUT, n_in=N_IN, forget_bias_num=bias)
    packed = layers.BatchLSTM(n_out=N_OUT, n_in=N_IN, forget_bias_num=bias)
    layer.connect_to()
    packed.connect_to()
    for name in ("b_g", "b_i", "b_o"):
        assert not getattr(layer, name).any()
    assert (layer.b_f == bias).all()
    assert np.array_equal(packed.AllW[0], np.repeat([0, bias, 0, 0], N_OUT))


def test_convolution_without_padding_stays_inside_the_image():
    layer, x = made(layers.Convolution(2, (2, 4), stride=3), 3, 5, 11), normal64(BATCH, 3, 5, 11)
    expected = np.zeros((BATCH, 2, 2, 3))
    for i, j in np.ndindex(2, 3):
        patch = x[:, None, :, 3 * i : 3 * i + 2, 3 * j : 3 * j + 4]
        expected[:, :, i, j] = np.sum(patch * layer.W, axis=(2, 3, 4)) + layer.b
    assert layer.out_shape == (None, 2, 2, 3)
    close(layer.forward(x), np.maximum(expected, 0))


POOLS = {"mean": (layers.MeanPooling, np.mean), "max": (layers.MaxPooling, np.max)}


@pytest.mark.parametrize(("kind", "function"), POOLS.values(), ids=POOLS)
def test_pooling_reduces_adjacent_blocks(kind, function):
    x = normal64(BATCH, 3, 4, 9)
    expected = function(x.reshape(BATCH, 3, 2, 2, 3, 3), axis=(3, 5))
    # Each layer accepts inputs with 3 and 4 axes, regardless of its connection.
    for shape in ((3, 4, 9), (4, 9)):
        layer = made(kind((2, 3)), *shape)
        close(layer.forward(x), expected)
        dx = layer.backward(expected)
        close(layer.forward(x[:, 1]), expected[:, 1])
        close(layer.backward(expected[:, 1]), dx[:, 1])


def test_pooling_over_time_reduces_each_feature():
    x = normal64(BATCH, TIME, N_IN)
    mean, most = layers.MeanPooling((TIME, 1)), layers.MaxPooling([TIME, 1])
    close(made(mean, TIME, N_IN).forward(x), x.mean(axis=1, keepdims=True))
    close(made(most, TIME, N_IN).forward(x), x.max(axis=1, keepdims=True))


AXES = {
    "features": (0, (N_IN,), (0,)),
    "positions": (0, (3, 2, 4), (0,)),
    "channels": (1, (3, 2, 4), (0, 2, 3)),
    "rows": (2, (3, 2, 4), (0, 1, 3)),
    "features of a sequence": (2, (TIME, N_IN), (0, 1)),
}


@pytest.mark.parametrize(("axis", "shape", "over"), AXES.values(), ids=AXES)
def test_batch_normal_computes_statistics_over_the_other_axes(axis, shape, over):
    layer = made(layers.BatchNormal(axis=axis, momentum=0.7, epsilon=1e-3), *shape)
    x, other = 2 + normal64(6, *shape), normal64(5, *shape, seed=2)
    like = [1 if i in over else size for i, size in enumerate(x.shape)]
    mean, variance = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    beta, gamma = layer.beta.reshape(like), layer.gamma.reshape(like)
    close(layer.forward(x), gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta)

    count = x.size / mean.size
    running_mean = 0.3 * mean
    running_variance = 0.7 + 0.3 * variance * count / (count - 1)
    close(layer.running_mean.reshape(like), running_mean)
    close(layer.running_variance.reshape(like), running_variance)
    expected = gamma * (other - running_mean) / np.sqrt(running_variance + 1e-3) + beta
    close(layer.forward(other, train=False), expected)
    close(layer.running_mean.reshape(like), running_mean)


def test_a_new_batch_normal_evaluates_with_mean_0_and_variance_1():
    layer, x = layers.BatchNormal(epsilon=1e-3, input_shape=(N_IN,)), normal64(BATCH, N_IN)
    npdl.utils.set_dtype("float64")
    layer.connect_to()
    close(layer.forward(x, train=False), x / np.sqrt(1 + 1e-3))


def test_running_statistics_can_be_assigned():
    layer = made(layers.BatchNormal(axis=1), 3, 4)
    layer.running_mean, layer.running_variance = [1, 2, 3], [4, 9, 16]
    layer.beta, layer.gamma = np.zeros(3), np.ones(3)
    y = layer.forward(np.full((1, 3, 4), 5.0), train=False)
    np.testing.assert_allclose(y[0, :, 0], [2, 1, 0.5], rtol=1e-6)


def test_batch_normal_uses_its_initializers():
    layer = layers.BatchNormal(beta_init="one", gamma_init=npdl.initializations.Uniform((2, 3)))
    layer.connect_to(after(4, 5))
    assert (layer.beta == 1).all()
    assert ((layer.gamma >= 2) & (layer.gamma <= 3)).all()
    assert layer.gamma.std() > 0


def test_dropout_drops_a_fraction_p_and_keeps_the_mean():
    layer, x = made(layers.Dropout(0.3), 1000), np.ones((50, 1000))
    y = layer.forward(x)
    assert abs(np.mean(y == 0) - 0.3) < 0.01
    assert len(np.unique(y)) == 2
    assert abs(y.max() - 1 / 0.7) < 1e-4
    assert abs(y.mean() - 1) < 0.02
    assert np.array_equal(layer.backward(np.ones_like(x)), y)
    assert layer.forward(x, False) is x
    assert np.array_equal(layer.backward(x), x)


def test_dropout_draws_from_the_package_generator():
    layer, x = made(layers.Dropout(0.5), 40), np.ones((2, 40))
    npdl.utils.set_seed(1)
    first, second = layer.forward(x), layer.forward(x)
    npdl.utils.set_seed(1)
    assert np.array_equal(layer.forward(x), first)
    assert not np.array_equal(first, second)
    assert np.array_equal(made(layers.Dropout(), 40).forward(x), x)


def test_softmax_passes_the_gradient_unless_exact_softmax_is_set():
    layer, x = made(layers.Softmax(N_OUT + 1), N_IN), normal64(BATCH, N_IN)
    targets = np.eye(N_OUT + 1)[[0, 1, 2, 2]]
    p = layer.forward(x)
    close(p, softmax(x @ layer.W + layer.b))
    dx = layer.backward(p - targets)
    close(layer.dW, x.T @ (p - targets))
    close(dx, (p - targets) @ layer.W.T)

    layer.exact_softmax = True
    assert layer.functional.call.positional[1] == F.softmax()
    g = normal64(*p.shape)
    layer.forward(x)
    layer.backward(g)
    close(layer.db, np.sum(p * (g - np.sum(p * g, axis=1, keepdims=True)), axis=0))


def test_embedding_looks_up_rows_and_sums_their_gradients():
    table = normal64(6, 4)
    layer, ids = layers.Embedding(table, static=False), np.array([[5, 0, 5], [1, 5, 3]])
    y = layer.forward(ids)
    assert np.array_equal(y, table[ids].astype(np.float32))
    g = normal64(2, 3, 4).astype(np.float32)
    assert layer.backward(g) is None
    expected = np.zeros((6, 4))
    np.add.at(expected, ids, g)
    np.testing.assert_allclose(layer.dW, expected, rtol=1e-6)


def test_flatten_and_dim_shuffle_change_the_shape():
    x = normal64(BATCH, 3, 2, 4)
    assert np.array_equal(made(layers.Flatten(), 3, 2, 4).forward(x), x.reshape(BATCH, 24))
    assert np.array_equal(made(layers.Flatten(3), 3, 2, 4).forward(x), x.reshape(BATCH, 3, 8))
    assert np.array_equal(made(layers.DimShuffle(), 3, 2, 4).forward(x), x[:, None])
    assert np.array_equal(made(layers.DimShuffle(2), 3, 2, 4).forward(x), x[:, :, None])
