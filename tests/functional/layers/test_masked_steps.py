"""Values at masked steps change neither other steps nor any gradient."""

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F
from npdl import tree

MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
MEMORY_MASK = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], bool)
X, MEMORY = normal(4, 5, 6), normal(4, 3, 7, seed=1)


def encoder(**given):
    return F.transformer_encoder_block(2, 9, **given)


def decoder(**given):
    return F.transformer_decoder_block(2, 9, **given)


# A layer; whether it takes a memory and its mask; the mask of x, where it takes one.
LAYERS = {
    "attention": (F.multi_head_attention(2), False, MASK),
    "attention without bias": (F.multi_head_attention(2, bias=False), False, MASK),
    "attention with dropout": (F.multi_head_attention(3, dropout=0.3), False, MASK),
    "causal": (F.multi_head_attention(2, causal=True), False, MASK),
    "cross": (F.multi_head_attention(2, cross=True), True, None),
    "encoder": (encoder(), False, MASK),
    "encoder, post-norm": (encoder(pre_norm=False), False, MASK),
    "encoder, causal": (encoder(causal=True, dropout=0.2), False, MASK),
    "decoder": (decoder(), True, MASK),
    "decoder, post-norm": (decoder(pre_norm=False), True, MASK),
    "stack of encoders": (F.stack(encoder(), encoder(pre_norm=False)), False, MASK),
    "stack of decoders": (F.stack(decoder(), decoder()), True, MASK),
    "rnn": (F.rnn(4, return_sequence=True), False, MASK),
    "lstm": (F.lstm(4, return_sequence=True, reverse=True), False, MASK),
    "both ways": (F.bidirectional(F.gru(4, return_sequence=True)), False, MASK),
}


def inputs(filler, memory, mask):
    """The inputs, with a number in all masked steps."""
    x, context = X.copy(), MEMORY.copy()
    if mask is not None:
        x[~mask] = filler
    context[~MEMORY_MASK] = filler
    if not memory:
        return x, mask
    return (x, context, MEMORY_MASK) if mask is None else (x, context, MEMORY_MASK, mask)


def results(name, filler):
    """The outputs at the steps with data, and all gradients for a cotangent of zero elsewhere."""
    layer, memory, mask = LAYERS[name]
    given = inputs(filler, memory, mask)
    params = layer.init(0, tree.map(lambda array: array.shape[1:], given))
    y, cache = layer.apply(params, given, train=True, rng=5)
    rows = slice(None) if mask is None else mask
    g = np.zeros_like(y)
    g[rows] = normal(*y.shape, seed=2)[rows]
    grads, dx = layer.backward(params, cache, g)
    return y[rows], grads, dx


@pytest.mark.parametrize("filler", [np.nan, np.inf, -np.inf, 1e38, -3e38, 1e25], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_values_of_masked_steps_reach_no_output_or_gradient(name, filler):
    found, expected = results(name, np.float32(filler)), results(name, 0)
    assert tree.all_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_masked_steps_of_the_usual_size_are_left_as_they_are(name):
    found, expected = results(name, np.float32(2)), results(name, 0)
    assert tree.all_close(found[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("filler", [np.nan, np.inf, 1e200], ids=str)
def test_float64_too(filler):
    layer = F.multi_head_attention(2)
    params = tree.astype(layer.init(0, (5, 6)), np.float64)
    x = X.astype(np.float64)
    expected = layer(params, (x, MASK))[MASK]
    x[~MASK] = filler
    assert np.allclose(layer(params, (x, MASK))[MASK], expected, rtol=1e-9)


@pytest.mark.parametrize("filler", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize(
    "layer",
    [F.multi_head_attention(2, causal=True), encoder(causal=True), F.stack(encoder(causal=True))],
    ids=["attention", "block", "stack"],
)
def test_steps_before_one_that_is_not_finite_do_not_attend_to_it(layer, filler):
    params, x = layer.init(0, (5, 6)), X.copy()
    expected, cache = layer.apply(params, x)
    g = normal(*expected.shape, seed=2)
    g[:, 3:] = 0
    grads, dx = layer.backward(params, cache, g)
    x[:, 3] = filler
    y, cache = layer.apply(params, x)
    assert np.allclose(y[:, :3], expected[:, :3], atol=1e-6)
    assert np.isnan(y[:, 3:]).all()
    found, found_dx = layer.backward(params, cache, g)
    assert tree.all_close(found, grads, rtol=1e-4, atol=1e-5)
    assert np.allclose(found_dx, dx, rtol=1e-4, atol=1e-5)


def test_steps_with_data_that_are_not_finite_still_come_through():
    layer, x = F.multi_head_attention(2), X.copy()
    params = layer.init(0, (5, 6))
    x[1, 3] = np.nan
    y = layer(params, (x, MASK))
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[0]).all()


def test_a_query_at_a_masked_step_uses_its_own_values():
    layer, x = F.multi_head_attention(2), X.copy()
    params = layer.init(0, (5, 6))
    y = layer(params, (x, MASK))
    x[0, 2] += 1
    assert not np.allclose(layer(params, (x, MASK))[0, 2], y[0, 2])


def test_a_padding_id_gives_zeros_for_any_values_of_its_row():
    layer, ids = F.embedding(4, 3, padding_id=0), np.array([[1, 0], [0, 2]])
    table = layer.init(0, (2,))["table"]
    table[0] = np.nan
    y, cache = layer.apply({"table": table}, ids)
    assert np.array_equal(y[ids == 0], np.zeros((2, 3), np.float32))
    g = np.ones_like(y)
    g[ids == 0] = np.inf
    assert np.array_equal(layer.backward({"table": table}, cache, g)[0]["table"][0], np.zeros(3))
