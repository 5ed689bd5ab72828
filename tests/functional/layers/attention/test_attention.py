"""Attention: masked steps without influence, extreme numbers, and bad inputs."""

import numpy as np
import pytest
from arrays import noisy_params, normal64
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak

import npdl.functional as F
from npdl import tree
from npdl.gradcheck import check_gradients

BATCH, TIME, STEPS, FEATURES, OTHERS = 3, 5, 7, 6, 4


def by_hand(params, heads, x, context, allowed):
    """Attention as the paper has it, one query of one head at a time."""
    width = x.shape[2]
    if "weight" in params:
        q, k, v = np.split(x @ params["weight"] + params["bias"], 3, axis=-1)
    else:
        q = x @ params["query_weight"] + params["query_bias"]
        k, v = np.split(context @ params["context_weight"] + params["context_bias"], 2, axis=-1)
    mixed = np.zeros_like(q)
    size = width // heads
    for n, t, h in np.ndindex(x.shape[0], x.shape[1], heads):
        some, columns = np.flatnonzero(allowed[n, t]), slice(h * size, (h + 1) * size)
        if some.size:
            likeness = k[n, some, columns] @ q[n, t, columns] / np.sqrt(size)
            powers = np.exp(likeness - likeness.max())
            mixed[n, t, columns] = powers / powers.sum() @ v[n, some, columns]
    y = mixed @ params["output_weight"] + params["output_bias"]
    y[~allowed.any(axis=-1)] = 0
    return y


@settings(max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 6),
    cross=st.booleans(),
    causal=st.booleans(),
    density=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 99),
)
def test_attention_is_the_formula_for_any_sizes_and_masks(sizes, cross, causal, density, seed):
    batch, time, steps, heads, size, others = sizes
    causal, width = causal and not cross, heads * size
    steps, others = (steps, others) if cross else (time, width)
    layer = F.multi_head_attention(heads, cross=cross, causal=causal)
    shape = ((time, width), (steps, others)) if cross else (time, width)
    params = noisy_params(layer, shape)
    x, mask = normal64(batch, time, width, seed=seed), normal64(batch, steps, seed=seed) < density
    context = normal64(batch, steps, others, seed=seed + 1) if cross else x
    allowed = np.broadcast_to(mask[:, None], (batch, time, steps))
    if causal:
        allowed = allowed & np.tri(time, dtype=bool)
    expected = by_hand(params, heads, x, context, allowed)
    y = layer(params, (x, context, mask) if cross else (x, mask))
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)


def test_a_batch_in_blocks_gives_the_same_as_its_examples():
    # 2 heads of 96 × 96 weights: seven examples fill the first block.
    layer = F.multi_head_attention(2, causal=True)
    params = noisy_params(layer, (96, FEATURES))
    x, mask = normal64(17, 96, FEATURES), normal64(17, 96, seed=2) > -1
    g = normal64(*x.shape, seed=3)
    y, cache = layer.apply(params, (x, mask))
    grads, (dx, _) = layer.backward(params, cache, g)
    total = None
    for n in range(17):
        one = slice(n, n + 1)
        y_one, cache = layer.apply(params, (x[one], mask[one]))
        grads_one, (dx_one, _) = layer.backward(params, cache, g[one])
        np.testing.assert_allclose(y[one], y_one, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(dx[one], dx_one, rtol=1e-10, atol=1e-12)
        total = tree.add(total, grads_one)
    assert tree.all_close(grads, total, rtol=1e-9, atol=1e-9)


def test_dropout_in_blocks_equals_dropout_with_one_key():
    layer, shape = F.multi_head_attention(2, dropout=0.4), (96, FEATURES)
    params, x = noisy_params(layer, shape), normal64(9, *shape)
    check_gradients(layer, shape, x=x, params=params, train=True, rng=4, directions=1)


# Steps without influence


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e3], ids=["small", "large"])
def test_masked_steps_have_no_influence_and_get_no_gradient(causal, size):
    layer = F.multi_head_attention(2, causal=causal)
    params, x = noisy_params(layer, (TIME, FEATURES)), normal64(BATCH, TIME, FEATURES)
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 1, 1, 1]], bool)
    g = normal64(BATCH, TIME, FEATURES, seed=2) * mask[..., None]
    y, cache = layer.apply(params, (x, mask))
    grads, (dx, _) = layer.backward(params, cache, g)
    changed = np.where(mask[..., None], x, size * normal64(BATCH, TIME, FEATURES, seed=3))
    other, cache = layer.apply(params, (changed, mask))
    other_grads, (other_dx, _) = layer.backward(params, cache, g)
    np.testing.assert_allclose(other[mask], y[mask], rtol=1e-11, atol=1e-12)
    assert tree.all_close(other_grads, grads, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(other_dx[mask], dx[mask], rtol=1e-9, atol=1e-11)
    assert not dx[~mask].any()


def test_masked_context_steps_have_no_influence_and_no_gradient():
    layer = F.multi_head_attention(2, cross=True)
    params = noisy_params(layer, ((TIME, FEATURES), (STEPS, OTHERS)))
    x, context = normal64(BATCH, TIME, FEATURES), normal64(BATCH, STEPS, OTHERS)
    mask = np.arange(STEPS) < np.array([[3], [7], [1]])
    y, cache = layer.apply(params, (x, context, mask))
    _, (_, d_context, nothing) = layer.backward(params, cache, np.ones_like(y))
    assert nothing is None
    assert not d_context[~mask].any()
    assert d_context[mask].all()
    for n, steps in enumerate((3, 7, 1)):
        alone = layer(params, (x[n : n + 1], context[n : n + 1, :steps]))
        np.testing.assert_allclose(y[n : n + 1], alone, rtol=1e-11, atol=1e-12)


@settings(max_examples=30)
@given(changed=st.integers(1, TIME - 1), dtype=st.sampled_from([np.float32, np.float64]))
def test_causal_attention_does_not_look_ahead(changed, dtype):
    layer = F.multi_head_attention(3, causal=True)
    params = noisy_params(layer, (TIME, FEATURES), dtype)
    x = normal64(BATCH, TIME, FEATURES, dtype=dtype)
    other = x.copy()
    other[:, changed:] = normal64(BATCH, TIME - changed, FEATURES, seed=2, dtype=dtype)
    y, cache = layer.apply(params, x)
    later = layer(params, other)
    assert np.array_equal(later[:, :changed], y[:, :changed])
    assert (later[:, changed:] != y[:, changed:]).all()
    g = np.ones_like(y)
    g[:, changed:] = 0
    assert not layer.backward(params, cache, g)[1][:, changed:].any()


# Extreme numbers


@pytest.mark.parametrize("causal", [False, True])
def test_a_fully_masked_query_gives_zeros_and_finite_gradients(causal):
    layer = F.multi_head_attention(2, causal=causal)
    params, x = noisy_params(layer, (TIME, FEATURES)), normal64(BATCH, TIME, FEATURES)
    mask = np.zeros((BATCH, TIME), bool)
    mask[1, 3:], mask[2] = True, True
    y, cache = layer.apply(params, (x, mask))
    grads, (dx, _) = layer.backward(params, cache, np.ones_like(y))
    assert not y[0].any()
    assert not dx[0].any()
    if causal:
        assert not y[1, :3].any()
    else:
        assert y[1].all()
    assert y[1, 3:].all()
    assert y[2].all()
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves((y, grads, dx)))
    check_gradients(layer, None, x=(x, mask), params=params)


def test_with_everything_masked_all_gradients_are_zero():
    layer = F.multi_head_attention(2, cross=True)
    params = noisy_params(layer, ((TIME, FEATURES), (STEPS, OTHERS)))
    x, context = normal64(BATCH, TIME, FEATURES), normal64(BATCH, STEPS, OTHERS)
    y, cache = layer.apply(params, (x, context, np.zeros((BATCH, STEPS), bool)))
    grads, dx = layer.backward(params, cache, np.ones_like(y))
    assert not y.any()
    assert not any(leaf.any() for leaf in tree.leaves((grads, dx)))


@pytest.mark.parametrize("size", [1.0, 30.0, 300.0, 1e15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_large_likenesses_neither_overflow_nor_vanish(size, dtype, masked):
    # One head whose queries, keys and values are x itself: the score of a step with itself wins.
    params = {"weight": np.tile(np.eye(4, dtype=dtype), 3), "output_weight": np.eye(4, dtype=dtype)}
    layer = F.multi_head_attention(1, bias=False)
    x = np.array([[[1, 1, 1, 1], [-1, -1, -1, -1], [0, 0, 0, 0]]], dtype) * dtype(size) ** 0.5
    mask = np.array([[True, True, False]]) if masked else None
    likeness = (x[0] @ x[0].T / 2).astype(np.float64)
    if masked:
        likeness[:, 2] = -np.inf
    powers = np.exp(likeness - likeness.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True) @ x[0]
    y, cache = layer.apply(params, (x, mask))
    grads, (dx, _) = layer.backward(params, cache, np.ones_like(y))
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(y[0], expected, rtol=0, atol=tolerance * size**0.5)
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves((grads, dx)))


@pytest.mark.parametrize("sign", [1, -1], ids=["large", "small"])
@pytest.mark.parametrize("size", [9.5, 11.2, 11.6, 11.9, 20.0])
def test_scores_that_are_all_large_or_small_are_exact_too(size, sign):
    # The keys point as the queries or opposite, and exp(±88) is at the ends of float32.
    eye = np.eye(2, dtype="f4")
    params = {"weight": np.concatenate([eye, sign * eye, eye], axis=1), "output_weight": eye}
    x = np.array([[[1, 0], [0.99, 0], [0.98, 0.1]]], "f4") * np.float32(size)
    likeness = sign * (x[0].astype("f8") @ x[0].T / np.sqrt(2))
    powers = np.exp(likeness - likeness.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True) @ x[0]
    y = F.multi_head_attention(1, bias=False)(params, x)
    np.testing.assert_allclose(y[0], expected, rtol=1e-4)


# Dropout


def test_dropout_drops_single_weights_and_keeps_the_mean():
    # The values of the keys are the columns of a diagonal matrix, so that y shows the weights.
    steps = 16
    x = np.eye(steps, dtype="f4")[None].repeat(400, axis=0)
    zero, one = np.zeros((steps, 2 * steps), "f4"), np.eye(steps, dtype="f4")
    params = {"weight": np.concatenate([zero, one], axis=1), "output_weight": one}
    layer = F.multi_head_attention(1, dropout=0.25, bias=False)
    weights = layer.apply(params, x, train=True, rng=3)[0]
    kept = weights > 0
    np.testing.assert_allclose(weights[kept], 1 / steps / 0.75, rtol=1e-5)
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    rows, columns = kept.mean(axis=(0, 1)), kept.mean(axis=(0, 2))
    assert np.abs(np.concatenate([rows, columns]) - 0.75).max() < 5 * np.sqrt(0.19 / 400 / steps)
    assert not np.array_equal(kept[0], kept[1])
    np.testing.assert_allclose(layer(params, x), 1 / steps, rtol=1e-6)


# Bad input

X, CONTEXT = normal64(BATCH, TIME, FEATURES, dtype="f4"), normal64(BATCH, STEPS, OTHERS, dtype="f4")
MASK, CONTEXT_MASK = np.ones((BATCH, TIME), bool), np.ones((BATCH, STEPS), bool)

WRONG_ARGUMENTS = {
    "no heads": (lambda: F.multi_head_attention(0), r"heads must be a positive int.*got 0"),
    "half a head": (lambda: F.multi_head_attention(1.5), r"heads must be.*got 1.5"),
    "true units": (lambda: F.multi_head_attention(2, units=True), r"units must be.*got True"),
    "no units": (lambda: F.multi_head_attention(2, units=0), r"units must be.*got 0"),
    "causal and cross": (
        lambda: F.multi_head_attention(2, cross=True, causal=True),
        "causal=True orders the steps of one sequence.* use one of the two",
    ),
    "all dropped": (
        lambda: F.multi_head_attention(2, dropout=1.0),
        r"dropout must be a number in \[0, 1\).*got 1.0",
    ),
    "less than none": (lambda: F.multi_head_attention(2, dropout=-0.1), "got -0.1"),
}


@pytest.mark.parametrize(("make", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_a_wrong_argument_is_an_error_where_it_is_given(make, message):
    with pytest.raises(ValueError, match=f"^multi_head_attention: .*{message}"):
        make()


WRONG_SHAPES = {
    "heads that do not divide": (False, (5, 7), "2 heads do not divide the 7 features"),
    "heads that do not divide, cross": (True, ((5, 7), (3, 4)), "2 heads do not divide the 7"),
    "one axis": (False, (6,), r"expected the shape .*\(time, features\).*got \(6,\)"),
    "no features": (False, (5, None), r"got \(5, None\)"),
    "three axes": (False, (3, 5, 6), r"got \(3, 5, 6\)"),
    "two sequences": (False, ((5, 6), (7, 4)), r"has the shape \(5,\), got \(7, 4\)"),
    "one sequence": (True, (5, 6), r"\(\(time, features\), \(steps, features\)\).*got \(5, 6\)"),
    "too many": (True, ((5, 6), (7, 4), (7,), (5, 7), (5,)), "expected the shape of one example"),
    "mask": (False, ((5, 6), (6,)), r"of 5 keys has the shape \(5,\), got \(6,\)"),
    "mask of x": (True, ((5, 6), (7, 4), (5,)), r"of 7 keys has the shape \(7,\), got \(5,\)"),
}


@pytest.mark.parametrize(("cross", "shape", "message"), WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_a_shape_that_does_not_fit_is_an_error(cross, shape, message):
    layer = F.multi_head_attention(2, cross=cross)
    for function in (lambda s: layer.init(0, s), layer.out_shape):
        with pytest.raises(ValueError, match=f"^multi_head_attention: .*{message}"):
            function(shape)


def test_the_time_may_be_left_open():
    layer = F.multi_head_attention(2, units=9)
    assert layer.out_shape((None, 6)) == (None, 9)
    assert layer.out_shape(((None, 6), (None,))) == (None, 9)
    assert layer.init(0, (None, 6))["weight"].shape == (6, 18)


WRONG_INPUTS = {
    "mask of floats": ((X, MASK.astype("f4")), r"must be bool\[3, 5\].*got float32\[3, 5\]"),
    "mask of the batch": ((X, MASK[0]), r"must be bool\[3, 5\], true .* got bool\[5\]"),
    "mask of another batch": ((X, MASK[:1]), r"must be bool\[3, 5\].*got bool\[1, 5\]"),
    "mask of other steps": ((X, CONTEXT_MASK), r"must be bool\[3, 5\].*got bool\[3, 7\]"),
    "mask for each head": ((X, MASK[:, None]), r"got bool\[3, 1, 5\]"),
    "list for a mask": ((X, MASK.tolist()), "got list"),
    "no steps": (X[:, :0], r"a time of one step or more, got float32\[3, 0, 6\]"),
    "other features": (X[..., :5], r"\(batch, time, 6\).*got float32\[3, 5, 5\]"),
    "one step": (X[:, 0], r"\(batch, time, 6\).*got float32\[3, 6\]"),
    "a fourth input": ((X, MASK, None, MASK), r"x, mask, bias\), got \(float32"),
    "nothing": ((), r"expected x or \(x, mask\) or .*, got \(\)"),
    "context of another batch": (
        (X, CONTEXT[:1]),
        r"batches of different sizes: \(float32\[3, 5, 6\], float32\[1, 7, 4\]\)",
    ),
    "context of no steps": ((X, CONTEXT[:, :0]), r"one step or more, got float32\[3, 0, 4\]"),
    "context of other features": ((X, X), r"\(batch, time, 4\).*got float32\[3, 5, 6\]"),
    "mask of x": ((X, CONTEXT, MASK), r"must be bool\[3, 7\].*got bool\[3, 5\]"),
    "no context": (
        X,
        r"expected \(x, context\) or \(x, context, mask\) or .* got float32\[3, 5, 6\]",
    ),
    "float64": (X.astype("f8"), r"float64\[3, 5, 6\], but the parameters are float32"),
    "ints": (X.astype(int), r"expected an array of floats, got int64"),
    "a list": ((X.tolist(), MASK), "expected a NumPy array, got list"),
}
CROSS = {name for name in WRONG_INPUTS if "context" in name or name == "mask of x"}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_a_misshapen_input_is_an_error_that_names_the_sizes(name):
    x, message = WRONG_INPUTS[name]
    layer = F.multi_head_attention(2, cross=name in CROSS)
    shape = ((TIME, FEATURES), (STEPS, OTHERS)) if name in CROSS else (TIME, FEATURES)
    with pytest.raises((TypeError, ValueError), match=f"^multi_head_attention: .*{message}"):
        layer.apply(layer.init(0, shape), x)


def test_inference_keeps_no_weights():
    layer, x = F.multi_head_attention(2), normal64(32, 128, 8).astype(np.float32)
    params = layer.init(0, (128, 8))
    weights = 32 * 2 * 128 * 128 * x.itemsize
    most, _ = peak(lambda: layer(params, x))
    kept, _ = peak(lambda: layer.apply(params, x))
    assert most < weights / 2 < weights < kept
