"""LSTM states, masks, frozen parameters, and gradients of first layers."""

from types import SimpleNamespace

import numpy as np
import pytest
from arrays import normal64
from compat_layers import BATCH, MASK, N_IN, N_OUT, TIME, after

import npdl
from npdl.compat.layers import GRU, LSTM, BatchLSTM, SimpleRNN

MEMORIES = pytest.mark.parametrize("kind", [LSTM, BatchLSTM])
RECURRENT = pytest.mark.parametrize("kind", [SimpleRNN, GRU, LSTM, BatchLSTM])
GATED = pytest.mark.parametrize("kind", [GRU, LSTM, BatchLSTM])


def made(kind, dtype="float64", **options):
    npdl.utils.set_dtype(dtype)
    layer = kind(n_out=N_OUT, n_in=N_IN, **options)
    layer.connect_to()
    for i, array in enumerate(layer.params):
        array += 0.3 * normal64(*array.shape, seed=i)
    return layer


def sequence():
    return normal64(BATCH, TIME, N_IN)


def state(seed):
    return normal64(BATCH, N_OUT, seed=seed)


@MEMORIES
@pytest.mark.parametrize("return_sequence", [False, True])
def test_attributes_hold_the_last_states_after_forward(kind, return_sequence):
    layer = made(kind, return_sequence=return_sequence)
    y = layer.forward(sequence())
    last = y[:, -1] if return_sequence else y
    assert np.array_equal(layer.h0, last)
    assert layer.c0.shape == (BATCH, N_OUT)
    assert not np.allclose(layer.c0, layer.h0)


@MEMORIES
def test_feeding_states_back_gives_the_whole_sequence(kind):
    layer, x = made(kind, return_sequence=True), sequence()
    whole = layer.forward(x, mask=MASK)
    c0, h0 = layer.c0, layer.h0
    steps = []
    layer.c0 = layer.h0 = None
    for t in range(TIME):
        step = layer.forward(x[:, t : t + 1], mask=MASK[:, t : t + 1], c0=layer.c0, h0=layer.h0)
        steps.append(step)
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, rtol=1e-12)
    np.testing.assert_allclose(layer.c0, c0, rtol=1e-12)
    np.testing.assert_allclose(layer.h0, h0, rtol=1e-12)


def test_a_decoder_can_use_the_arrays_and_activations():
    layer, x = made(LSTM), sequence()
    gate, squash = layer.gate_activation.forward, layer.activation.forward
    c, h = state(2), state(3)
    expected = layer.forward(x, None, c, h)
    for t in range(TIME):
        f, i, o = (
            gate(
                x[:, t] @ getattr(layer, f"U_{name}")
                + h @ getattr(layer, f"W_{name}")
                + getattr(layer, f"b_{name}")
            )
            for name in "fio"
        )
        c = f * c + i * squash(x[:, t] @ layer.U_g + h @ layer.W_g + layer.b_g)
        h = o * squash(c)
    np.testing.assert_allclose(h, expected, rtol=1e-12)
    np.testing.assert_allclose(c, layer.c0, rtol=1e-12)


@MEMORIES
def test_the_next_forward_does_not_change_earlier_states(kind):
    layer, x = made(kind), sequence()
    layer.forward(x)
    c0, h0 = layer.c0, layer.h0
    before = c0.copy(), h0.copy()
    layer.forward(x, c0=c0, h0=h0)
    assert np.array_equal(c0, before[0])
    assert np.array_equal(h0, before[1])
    assert not np.allclose(layer.c0, c0)


@MEMORIES
@pytest.mark.parametrize("return_sequence", [False, True])
@pytest.mark.parametrize("only_states", [False, True])
def test_gradients_flow_from_the_last_to_the_initial_states(kind, return_sequence, only_states):
    layer = made(kind, return_sequence=return_sequence)
    points = {"x": sequence(), "c0": state(2), "h0": state(3)}
    arrays = list(points.values()) + layer.params
    dcn, dhn = state(5), state(6)

    def run():
        x, c0, h0 = points.values()
        return layer.forward(x, mask=MASK, c0=c0, h0=h0)

    y = run()
    g = np.zeros_like(y) if only_states else normal64(*y.shape, seed=4)

    def value():
        y = run()
        return np.sum(g * y) + np.sum(dcn * layer.c0) + np.sum(dhn * layer.h0)

    dx = layer.backward(None if only_states else g, dcn, dhn)
    gradients = [dx, layer.dc0, layer.dh0, *layer.grads]
    for i, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        d, before, ends = normal64(*array.shape, seed=(9 + i)), array.copy(), []
        for step in (1e-6, -1e-6):
            array += step * d
            ends.append(value())
            array[...] = before
        numeric = (ends[0] - ends[1]) / 2e-6
        assert abs(numeric - np.sum(gradient * d)) < 1e-6 * max(np.linalg.norm(gradient), 1)


def test_a_missing_state_is_zero_and_has_a_gradient():
    layer, x = made(BatchLSTM), sequence()
    y = layer.forward(x, c0=state(2))
    assert np.array_equal(y, layer.forward(x, state(2), np.zeros((BATCH, N_OUT))))
    layer.backward(normal64(*y.shape), dhn=state(5))
    assert layer.d_c0 is layer.dc0
    assert layer.d_h0 is layer.dh0
    assert layer.d_AllW is layer.dAllW
    assert layer.dh0.any()
    assert layer.dc0.any()


@MEMORIES
def test_a_first_layer_has_no_state_gradients(kind):
    layer = made(kind)
    layer.first_layer = True
    y = layer.forward(sequence())
    assert layer.backward(normal64(*y.shape), state(5), state(6)) is None
    assert layer.dc0 is None
    assert layer.dh0 is None
    assert all(g.any() for g in layer.grads)


def test_lstm_and_batch_lstm_are_the_same_function():
    one, other, x = made(LSTM), made(BatchLSTM), sequence()
    other.AllW = np.concatenate(
        [
            np.concatenate([getattr(one, f"{block}_{gate}") for gate in "ifog"], axis=-1).reshape(
                -1, 4 * N_OUT
            )
            for block in "bUW"
        ]
    )
    assert np.array_equal(one.forward(x, MASK), other.forward(x, mask=MASK))
    g = state(4)
    assert np.array_equal(one.backward(g), other.backward(g))
    assert np.array_equal(np.hstack([one.db_i, one.db_f, one.db_o, one.db_g]), other.dAllW[0])


@RECURRENT
def test_a_mask_may_have_ints_or_booleans(kind):
    layer, x = made(kind, return_sequence=True), sequence()
    expected = layer.forward(x, mask=MASK.astype(bool))
    for dtype in (int, np.float32):
        assert np.array_equal(layer.forward(x, mask=MASK.astype(dtype)), expected)


@RECURRENT
def test_masked_inputs_have_no_effect_and_no_gradient(kind):
    layer, x = made(kind, return_sequence=True), sequence()
    y = layer.forward(x, mask=MASK)
    g = normal64(*y.shape)
    dx, grads = layer.backward(g), layer.grads
    x[MASK == 0] = np.nan
    assert np.array_equal(layer.forward(x, mask=MASK), y)
    assert np.array_equal(layer.backward(g), dx)
    assert all(np.array_equal(a, b) for a, b in zip(layer.grads, grads, strict=True))
    assert not dx[MASK == 0].any()
    assert not y[3].any()
    assert np.array_equal(y[1, 1], y[1, 4])


@GATED
def test_without_need_grad_only_the_input_has_a_gradient(kind):
    trained, frozen, x = made(kind), made(kind, need_grad=False), sequence()
    for mine, array in zip(frozen.params, trained.params, strict=True):
        mine[...] = array
    y = trained.forward(x)
    assert np.array_equal(frozen.forward(x), y)
    g = normal64(*y.shape)
    assert np.array_equal(frozen.backward(g), trained.backward(g))
    assert len(frozen.params) == len(frozen.grads)
    assert all(g is None for g in frozen.grads)
    assert all(g is not None for g in trained.grads)


@RECURRENT
def test_sizes_come_from_the_layer_before_or_the_arguments(kind):
    layer = kind(n_out=N_OUT, nb_batch=7, nb_seq=9)
    assert layer.out_shape is None
    layer.connect_to(after(TIME, N_IN))
    assert layer.out_shape == (7, N_OUT)
    assert layer.n_in == N_IN

    layer = kind(n_out=N_OUT, nb_batch=7, nb_seq=9, return_sequence=True)
    layer.connect_to(after(TIME, N_IN))
    assert layer.out_shape == (7, TIME, N_OUT)
    layer.connect_to(after(None, N_IN + 1))
    assert layer.out_shape == (7, TIME, N_OUT)
    assert layer.params[0].shape[0] in (N_IN + 1, 1 + N_IN + 1 + N_OUT)

    layer = kind(n_out=N_OUT, n_in=N_IN, return_sequence=True)
    layer.connect_to()
    assert layer.out_shape == (None, None, N_OUT)
    assert layer.forward(normal64(3, 2, N_IN)).shape == (3, 2, N_OUT)

    layer.connect_to(SimpleNamespace(out_shape=(6, 8, N_IN)))
    assert layer.out_shape == (6, 8, N_OUT)
    assert (layer.nb_batch, layer.nb_seq) == (6, 8)
