"""Options of attention: shared heads, positions, windows, biases of scores, weights."""

import numpy as np
import pytest
from arrays import noisy_params, normal64, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random
from npdl.gradcheck import check_gradients

BATCH, TIME, STEPS, FEATURES = 3, 5, 7, 8


def layer_and_inputs(steps=None, dtype=np.float64, **options):
    cross = steps is not None
    layer = F.multi_head_attention(4, cross=cross, **options)
    shape = ((TIME, FEATURES), (steps, 6)) if cross else (TIME, FEATURES)
    params = noisy_params(layer, shape, dtype)
    x = normal64(BATCH, TIME, FEATURES).astype(dtype)
    return layer, params, (x, normal64(BATCH, steps, 6).astype(dtype)) if cross else (x,)


# Defaults


def test_defaults_spelled_out_change_no_bit():
    plain, params, (x,) = layer_and_inputs(dtype=np.float32)
    same = F.multi_head_attention(4, kv_heads=4, window=None, rotary=None, return_weights=False)
    assert same_bits(plain(params, x), same(params, x))
    wide = F.multi_head_attention(4, window=TIME)
    np.testing.assert_allclose(wide(params, x), plain(params, x), rtol=1e-5)


def test_shared_heads_equal_copied_heads():
    layer, params, (x,) = layer_and_inputs(kv_heads=2)
    size = FEATURES // 4
    q, k, v = np.split(params["weight"], [FEATURES, FEATURES + 2 * size], axis=1)
    bq, bk, bv = np.split(params["bias"], [FEATURES, FEATURES + 2 * size])

    def copied(array):
        by_head = array.reshape(*array.shape[:-1], 2, size)
        return np.repeat(by_head, 2, axis=-2).reshape(*array.shape[:-1], FEATURES)

    whole = {
        **params,
        "weight": np.concatenate([q, copied(k), copied(v)], axis=1),
        "bias": np.concatenate([bq, copied(bk), copied(bv)]),
    }
    expected = F.multi_head_attention(4)(whole, x)
    np.testing.assert_allclose(layer(params, x), expected, rtol=1e-10)


# Rotary positions


def test_rotary_scores_depend_on_distances_alone():
    layer, params, (x,) = layer_and_inputs(rotary=10.0, causal=True, return_weights=True)
    _, weights = layer(params, np.repeat(x[:, :1], TIME, axis=1))
    scores = np.log(weights[..., -1, :])
    ratios = scores[..., 1:] - scores[..., :-1]
    for t in range(2, TIME):
        row = np.log(weights[..., t, : t + 1])
        np.testing.assert_allclose(row[..., 1:] - row[..., :-1], ratios[..., TIME - 1 - t :])


def test_rotary_positions_of_the_first_step_are_the_identity():
    layer, params, (x,) = layer_and_inputs(rotary=10.0)
    expected = F.multi_head_attention(4)(params, x[:, :1])
    np.testing.assert_allclose(layer(params, x[:, :1]), expected, rtol=1e-12)


def test_distant_positions_keep_their_digits_in_float32():
    layer = F.multi_head_attention(1, causal=True, rotary=10000.0)
    params = noisy_params(layer, (1, 8), np.float32)
    x = normal64(1, 2, 8).astype(np.float32)
    none = {name: np.zeros((1, 1, 0, 8), np.float32) for name in ("keys", "values")}
    outputs = []
    for position in (0, 100_000):
        state = none | {"mask": None, "position": np.array([position])}
        outputs.append(layer.step(params, x, state)[0])
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)


# Biases of scores

SHAPES = [
    (TIME, STEPS),
    (1, TIME, STEPS),
    (BATCH, TIME, STEPS),
    (1, 4, TIME, STEPS),
    (BATCH, 1, TIME, STEPS),
    (BATCH, 4, TIME, STEPS),
]


@settings(max_examples=40)
@given(
    shape=st.sampled_from(SHAPES),
    boolean=st.booleans(),
    masked=st.booleans(),
    density=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 50),
)
def test_a_bias_is_added_to_the_scores_of_allowed_keys(shape, boolean, masked, density, seed):
    layer, params, (x, context) = layer_and_inputs(STEPS, kv_heads=2, return_weights=True)
    generator = random.generator(seed)
    allowed = generator.random(shape) < density
    bias = allowed if boolean else np.where(allowed, generator.normal(size=shape), -np.inf)
    mask = generator.random((BATCH, STEPS)) < 0.7 if masked else None
    y, weights = layer(params, (x, context, mask, bias))

    plain = F.multi_head_attention(4, cross=True, kv_heads=2, return_weights=True)
    _, before = plain(params, (x, context))
    four = bias.reshape((1,) * (4 - bias.ndim) + shape) if bias.ndim != 3 else bias[:, None]
    factors = four.astype(float) if boolean else np.exp(four)
    factors = factors * (1.0 if mask is None else mask[:, None, None])
    expected = before * factors
    sums = expected.sum(axis=-1, keepdims=True)
    expected = np.divide(expected, sums, out=np.zeros_like(expected), where=sums > 0)
    np.testing.assert_allclose(weights, expected, rtol=1e-8, atol=1e-12)
    without = ~(sums > 0).any(axis=(1, 3))
    assert not y[without].any()
    assert np.isfinite(y).all()


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_hold_where_some_heads_have_no_key(causal):
    layer, params, (x,) = layer_and_inputs(causal=causal, return_weights=True)
    bias = np.where(normal64(BATCH, 4, TIME, TIME) > 0.5, 0.3, -np.inf)
    given_inputs = (x, None, bias)
    (y, weights), cache = layer.apply(params, given_inputs)
    g = (normal64(*y.shape, seed=2), normal64(*weights.shape, seed=3))
    grads, (_, nothing, d_bias) = layer.backward(params, cache, g)
    assert nothing is None
    assert np.isfinite(d_bias).all()
    assert not d_bias[np.isinf(bias)].any()
    allowed = bias > -np.inf
    check_gradients(layer, (TIME, FEATURES), x=(x, None, allowed), params=params)
    other = layer.backward(params, layer.apply(params, (x, None, allowed))[1], g)[0]
    assert grads.keys() == other.keys()


def test_a_bias_of_the_first_heads_leaves_the_other_heads_unchanged():
    layer, params, (x,) = layer_and_inputs(return_weights=True)
    bias = np.zeros((1, 4, TIME, TIME))
    bias[:, :2] = normal64(2, TIME, TIME)
    _, weights = layer(params, (x, None, bias))
    _, plain = layer(params, x)
    np.testing.assert_allclose(weights[:, 2:], plain[:, 2:], rtol=1e-12)
    assert not np.allclose(weights[:, :2], plain[:, :2])


def test_large_biases_neither_overflow_nor_vanish():
    layer, params, (x,) = layer_and_inputs(dtype=np.float32, return_weights=True)
    bias = np.zeros((TIME, TIME), np.float32)
    bias[:, 1], bias[:, 2] = 1e30, -1e30
    _, weights = layer(params, (x, None, bias))
    assert (weights[..., 1] == 1).all()
    assert not np.delete(weights, 1, axis=-1).any()


# Steps that are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["booleans", "floats", "window", "context"])
def test_keys_that_no_query_sees_may_be_nan(kind, value):
    layer, params, inputs = layer_and_inputs(
        TIME if kind == "context" else None, **({"window": 2} if kind == "window" else {})
    )
    allowed = np.abs(np.arange(TIME)[:, None] - np.arange(TIME)) < 2
    bias = {"floats": np.where(allowed, 0.0, -np.inf), "window": None}.get(kind, allowed)
    given_inputs = (*inputs, None, bias)
    expected, _ = layer.apply(params, given_inputs)
    *first, last = (array.copy() for array in inputs)
    last[:, 4, 0] = value
    y, cache = layer.apply(params, (*first, last, None, bias))
    np.testing.assert_allclose(y[:, :3], expected[:, :3], rtol=1e-11)
    assert np.isnan(y[:, 3:]).all()
    grads, dx = layer.backward(params, cache, np.where(np.isnan(y), 0, 1.0))
    assert all(np.isfinite(array).all() for array in grads.values())
    assert np.isfinite(dx[len(first)]).all()


def test_weights_of_queries_that_see_nan_are_nan():
    layer, params, (x,) = layer_and_inputs(causal=True, return_weights=True)
    x = x.copy()
    x[:, 3, 0] = np.nan
    (y, weights), cache = layer.apply(params, x)
    assert np.isnan(weights[:, :, 3:]).all()
    assert np.isfinite(weights[:, :, :3]).all()
    g = np.where(np.isnan(y), np.nan, 1.0), np.where(np.isnan(weights), np.nan, 1.0)
    grads, dx = layer.backward(params, cache, g)
    assert all(np.isfinite(array).all() for array in (*grads.values(), dx))


# Weights


def test_weights_may_have_the_only_gradient():
    layer, params, (x,) = layer_and_inputs(return_weights=True)
    (_, weights), cache = layer.apply(params, x)
    g = normal64(*weights.shape)
    grads, dx = layer.backward(params, cache, (None, g))
    assert not grads["output_weight"].any()
    assert np.abs(dx).max() > 0
    both, _ = layer.backward(params, cache, (np.zeros((BATCH, TIME, FEATURES)), g))
    assert same_bits(both, grads)


def test_weights_are_those_before_dropout_and_sum_to_one():
    layer, params, (x,) = layer_and_inputs(dropout=0.5, return_weights=True)
    _, weights = layer(params, x)
    _, trained = layer(params, x, train=True, rng=1)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)
    assert same_bits(weights, trained)


def test_weights_of_several_blocks_are_joined():
    layer = F.multi_head_attention(4, kv_heads=2, return_weights=True, causal=True)
    params, x = noisy_params(layer, (96, FEATURES)), normal64(9, 96, FEATURES)
    y, weights = layer(params, x)
    assert weights.shape == (9, 4, 96, 96)
    for n in (0, 4, 8):
        one, single = layer(params, x[n : n + 1])
        np.testing.assert_allclose(weights[n : n + 1], single, rtol=1e-10)
        np.testing.assert_allclose(y[n : n + 1], one, rtol=1e-10, atol=1e-12)


# Bad input

WRONG = {
    "no divisor": (lambda: F.multi_head_attention(4, kv_heads=3), "a divisor of the 4 heads.*3"),
    "no kv_heads": (lambda: F.multi_head_attention(4, kv_heads=0), "kv_heads must be a positive"),
    "no window": (lambda: F.multi_head_attention(4, window=0), "window must be a positive int"),
    "true": (lambda: F.multi_head_attention(4, rotary=True), "rotary must be a number above 0"),
    "no base": (lambda: F.multi_head_attention(4, rotary=0.0), "rotary must be a number above 0"),
    "cross and window": (
        lambda: F.multi_head_attention(4, cross=True, window=3),
        "window=3 orders the steps of one sequence, and cross=True .*; use one of the two",
    ),
    "cross and rotary": (
        lambda: F.multi_head_attention(4, cross=True, rotary=10.0),
        "rotary=10.0 orders the steps of one sequence",
    ),
    "an odd head": (
        lambda: F.multi_head_attention(4, rotary=10.0).init(0, (5, 12)),
        "each head needs an even number of features, got 12 features of 4 heads",
    ),
    "example of a bias": (
        lambda: F.multi_head_attention(4).init(0, ((5, 8), None, (5, 4))),
        r"an example has the shape \(5, 5\) or \(4, 5, 5\), got \(5, 4\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_an_error_where_it_is_given(name):
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=f"^multi_head_attention: .*{message}"):
        make()


BIASES = {
    "one axis": (np.zeros(5, np.float32), r"\[5, 5\], \[3, 5, 5\] or \[3, 4, 5, 5\], got"),
    "other steps": (np.zeros((5, 4), np.float32), r"got float32\[5, 4\]"),
    "other batch": (np.zeros((2, 5, 5), np.float32), r"got float32\[2, 5, 5\]"),
    "heads for a batch": (np.zeros((4, 5, 5), np.float32), r"got float32\[4, 5, 5\]"),
    "other heads": (np.zeros((3, 2, 5, 5), np.float32), r"got float32\[3, 2, 5, 5\]"),
    "five axes": (np.zeros((1, 3, 4, 5, 5), np.float32), "got float32"),
    "float64": (np.zeros((5, 5)), r"float64\[5, 5\], but the parameters are float32"),
    "ints": (np.zeros((5, 5), int), "expected an array of floats, got int64"),
    "a list": ([[0.0]], "expected a NumPy array, got list"),
}


@pytest.mark.parametrize("name", BIASES)
def test_a_misshapen_bias_is_an_error_that_names_the_sizes(name):
    layer, params, (x,) = layer_and_inputs(dtype=np.float32)
    bias, message = BIASES[name]
    with pytest.raises((TypeError, ValueError), match=f"^multi_head_attention.*: .*{message}"):
        layer(params, (x, None, bias))
