"""Decoding step by step computes the outputs of the whole sequence, for any model and any steps."""

import re

import numpy as np
import pytest
from arrays import arrays_of, noisy_params, normal64, read_only, same_bits
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak

import npdl.functional as F
from npdl import random, tree

VOCABULARY, TIME = 11, 9


def ids(batch=3, time=TIME, seed=1):
    return random.generator((seed, batch, time)).integers(0, VOCABULARY, (batch, time))


def block(**arguments):
    return F.transformer_encoder_block(4, 9, causal=True, **arguments)


LLAMA = {
    "norm": F.rms_norm(epsilon=1e-6),
    "activation": F.swiglu(),
    "bias": False,
    "kv_heads": 2,
    "rotary": 100.0,
}
WORDS = F.embedding(VOCABULARY, 8)
MODELS = {
    "llama": F.serial(WORDS, block(**LLAMA), block(**LLAMA), F.rms_norm(), F.dense(VOCABULARY)),
    "gpt": F.serial(WORDS, F.learned_positions(TIME), block(activation=F.gelu()), F.layer_norm()),
    "post-norm": F.serial(WORDS, F.sinusoidal_positions(), F.stack(*[block(pre_norm=False)] * 2)),
    "window": F.serial(WORDS, *[block(window=3, rotary=10.0)] * 2),
    "shared heads": F.serial(WORDS, F.multi_head_attention(4, kv_heads=1, causal=True)),
    "weights of attention": F.serial(
        WORDS,
        F.graph(
            "x",
            {("y", "weights"): (F.multi_head_attention(2, causal=True, return_weights=True), "x")},
            "y",
        ),
    ),
    "frozen": F.serial(WORDS, F.freeze(F.serial(block(), F.dropout(0.5), F.dense(3)))),
    "residual": F.serial(WORDS, F.residual(F.layer_norm(), F.gru(8, return_sequence=True))),
    "recurrent": F.serial(
        WORDS, F.lstm(5, return_sequence=True), F.rnn(4, return_sequence=True), F.dense(2)
    ),
    "last output": F.serial(WORDS, F.gru(5), F.dense(2)),
    "branches": F.serial(
        WORDS,
        F.parallel(
            F.multi_head_attention(2, causal=True),
            F.lstm(6, return_sequence=True),
            F.dense(3),
            join="concatenate",
        ),
    ),
    "joined by a product": F.serial(WORDS, F.parallel(F.dense(3), block(), F.tanh(), join=None)),
    "one layer": F.embedding(VOCABULARY, 3),
    "nothing": F.serial(WORDS, F.serial(), F.linear()),
    "tied embedding": F.graph(
        "ids",
        {
            "words": (WORDS, "ids"),
            "thoughts": (block(), "words"),
            "scores": (F.unembedding(VOCABULARY), "thoughts", "words"),
        },
        "scores",
    ),
}


def decoded(model, params, x, sizes, *context):
    """Return all outputs, in steps of these sizes."""
    step, state, outputs, start = F.decode_step(model), None, [], 0
    for size in sizes:
        chunk = x[:, start : start + size]
        y, state = step(params, (chunk, *context) if context else chunk, read_only(state))
        outputs.append(y)
        start += size
    return outputs


def assert_close(found, expected):
    for one, other in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sizes", [(1,) * 9, (4, 1, 1, 1, 1, 1), (2, 3, 4), (9,)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_steps_compute_the_outputs_of_the_whole_sequence(name, sizes):
    model, x = MODELS[name], ids()
    params = noisy_params(model, (TIME,))
    outputs, start = decoded(model, params, x, sizes), 0
    for size, y in zip(sizes, outputs, strict=True):
        expected = model(params, x[:, : start + size])
        if name != "last output":
            expected = tree.map(lambda part, size=size: part[:, -size:], expected)
        assert_close(y, expected)
        start += size


def test_float32_stays_float32_and_nothing_is_written():
    for model in MODELS.values():
        params = read_only(noisy_params(model, (TIME,), np.float32))
        x, step = read_only(ids()), F.decode_step(model)
        y, state = step(params, x[:, :4])
        read_only((y, state))
        before = [array.copy() for array in arrays_of(state)]
        once, twice = (step(params, x[:, 4:5], state) for _ in range(2))
        assert same_bits(once, twice)
        assert same_bits(before, arrays_of(state))
        assert {leaf.dtype.name for leaf in tree.leaves((y, once[0]))} == {"float32"}


def test_a_state_may_continue_with_other_examples_in_any_order():
    for name, model in MODELS.items():
        params, x, step = noisy_params(model, (TIME,)), ids(), F.decode_step(model)
        _, state = step(params, x[:, :5])
        rows = np.array([2, 0, 0])
        _, state = step(params, x[rows, 5:7], tree.map(lambda part, rows=rows: part[rows], state))
        y, _ = step(params, x[rows, 7:8], state)
        expected = model(params, x[rows, :8])
        if name != "last output":
            expected = tree.map(lambda part: part[:, -1:], expected)
        assert_close(y, expected)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
    window=st.sampled_from([None, 1, 2, 5]),
    rotary=st.sampled_from([None, 10.0]),
    density=st.sampled_from([0.2, 0.7, 1.0, None]),
    seed=st.integers(0, 50),
)
def test_attention_in_steps_of_any_size(sizes, heads, window, rotary, density, seed):
    count, shared = heads
    layer = F.multi_head_attention(
        count, kv_heads=shared, causal=True, window=window, rotary=rotary
    )
    time, width = sum(sizes), 4 * count
    params, x = noisy_params(layer, (time, width)), normal64(2, time, width, seed=seed)
    mask = None if density is None else random.generator((seed, 1)).random((2, time)) < density
    expected, state, start = layer(params, (x, mask)), None, 0
    for size in sizes:
        some = slice(start, start + size)
        given_mask = None if mask is None else mask[:, some]
        y, state = layer.step(params, (x[:, some], given_mask), state)
        assert_close(y, expected[:, some])
        start += size


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("sizes", [(1,) * 8, (5, 1, 1, 1)], ids=str)
def test_a_step_that_is_not_finite_spoils_only_the_steps_that_see_it(sizes, value, window):
    for layer in (
        F.multi_head_attention(2, causal=True, window=window),
        F.transformer_encoder_block(2, 7, causal=True, window=window),
    ):
        params, x = noisy_params(layer, (8, 6)), normal64(2, 8, 6)
        x[0, 3, 1] = value
        y = np.concatenate(decoded(layer, params, x, sizes), axis=1)
        expected = layer(params, x)
        assert np.isfinite(expected[0, :3]).all()
        assert np.isnan(expected[0, 3 : None if window is None else 6]).all()
        assert window is None or np.isfinite(expected[0, 6:]).all()
        np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-11)


# Further inputs


def test_an_encoder_runs_once_and_may_mix_the_steps():
    calls = []

    @F.layer
    def counted():
        def apply(params, x):
            calls.append(x.shape)
            return x[:, ::-1] * 2, None

        return F.Layer(lambda rng, shape: (), apply, lambda *_: ((), None), lambda shape: shape)

    model = F.graph(
        ("answer", "question", "mask"),
        {
            "asked": (F.embedding(VOCABULARY, 6), "question"),
            "turned": (counted(), "asked"),
            "memory": (F.bidirectional(F.gru(3, return_sequence=True)), ("turned", "mask")),
            "words": (F.embedding(VOCABULARY, 8), "answer"),
            "blocks": (
                F.stack(*[F.transformer_decoder_block(2, 9, rotary=10.0)] * 2),
                ("words", "memory", "mask"),
            ),
            "scores": (F.dense(VOCABULARY), "blocks"),
        },
        "scores",
    )
    params = noisy_params(model, ((TIME,), (7,), (7,)))
    x, question = ids(), ids(time=7, seed=2)
    mask = np.arange(7) < np.array([[7], [3], [5]])
    expected = model(params, (x, question, mask))
    calls.clear()
    y = decoded(model, params, x, (2, *(1,) * 7), question, mask)
    assert len(calls) == 1
    assert_close(np.concatenate(y, axis=1), expected)


def test_a_recurrent_decoder_starts_from_a_state_and_continues_from_its_own():
    writer = F.lstm(8, return_sequence=True, return_state=True)
    model = F.graph(
        ("x", "state"),
        {("y", "last"): (writer, ("x", None, "state")), "scores": (F.dense(3), "y")},
        ("scores", "last"),
    )
    params = noisy_params(model, ((TIME, 4), ((8,), (8,))))
    x, state = normal64(2, TIME, 4), (normal64(2, 8, seed=2), normal64(2, 8, seed=3))
    expected, last = model(params, (x, state))
    outputs = decoded(model, params, x, (3, 1, 5), state)
    assert_close(np.concatenate([y for y, _ in outputs], axis=1), expected)
    assert_close(outputs[-1][1], last)


def test_a_mask_has_the_steps_of_its_sequence():
    model = F.graph(
        ("x", "mask"),
        {
            "blocks": (F.stack(block(), block(window=2)), ("x", "mask")),
            "y": (F.lstm(5, return_sequence=True), ("blocks", "mask")),
        },
        "y",
    )
    params, x = noisy_params(model, ((TIME, 8), (TIME,))), normal64(3, TIME, 8)
    mask = np.arange(TIME) >= np.array([[0], [3], [8]])
    expected = model(params, (x, mask))
    step, state = F.decode_step(model), None
    for t in range(TIME):
        y, state = step(params, (x[:, t : t + 1], mask[:, t : t + 1]), state)
        np.testing.assert_allclose(y, expected[:, t : t + 1], rtol=1e-9, atol=1e-11)


# Cost


def test_a_step_reads_the_stored_keys_and_does_not_compute_them_again():
    model = MODELS["llama"]
    params = noisy_params(model, (TIME,))
    _, state = F.decode_step(model)(params, ids(time=TIME - 1))
    keys = [leaf for path, leaf in tree.items(state) if path.endswith("keys")]
    assert [array.shape for array in keys] == [(3, 2, TIME - 1, 2)] * 2


@pytest.mark.parametrize("length", [500, 2000])
def test_the_memory_of_a_step_grows_with_the_length_and_not_with_its_square(length):
    layer = F.multi_head_attention(2, causal=True)
    params, x = layer.init(0, (1, 16)), np.zeros((1, length, 16), np.float32)
    step = F.decode_step(layer)
    _, state = step(params, x)
    keys_and_values = sum(array.nbytes for array in arrays_of(state))
    most, _ = peak(lambda: step(params, x[:, :1], state))
    assert most < 2 * keys_and_values + 20_000


def test_a_window_bounds_the_state():
    layer = F.multi_head_attention(2, causal=True, window=3, rotary=10.0)
    params, x = noisy_params(layer, (20, 8)), normal64(1, 20, 8)
    step, state = F.decode_step(layer), None
    for t in range(20):
        _, state = step(params, x[:, t : t + 1], state)
    assert state["keys"].shape == (1, 2, 2, 4)


# Errors

WITHOUT_STEPS = {
    "attention": (F.multi_head_attention(2), "multi_head_attention(heads=2)", "serial[1]"),
    "a block": (
        F.transformer_encoder_block(2, 9),
        "multi_head_attention(heads=2)",
        "serial[1] → transformer_encoder_block[attention]",
    ),
    "reversed": (F.gru(3, reverse=True), "gru(units=3, reverse=True)", "serial[1]"),
    "bidirectional": (
        F.bidirectional(F.rnn(3)),
        "rnn(units=3, reverse=True)",
        "serial[1] → bidirectional[1]",
    ),
    "convolution": (F.conv1d(3, 3, padding=1), "conv1d(filters=3, kernel_size=3", "serial[1]"),
    "pooling": (F.global_avg_pool(), "global_avg_pool()", "serial[1]"),
    "flatten": (F.flatten(), "flatten()", "serial[1]"),
    "a norm over time": (F.layer_norm((-2, -1)), "layer_norm(axes=(-2, -1))", "serial[1]"),
    "a norm over channels": (F.batch_norm(), "batch_norm()", "serial[1]"),
    "inside a graph": (
        F.graph("x", {"a": (F.tanh(), "x"), "b": (F.transpose((0, 2, 1)), "a")}, "b"),
        "transpose(axes=(0, 2, 1))",
        "serial[1] → graph[b]",
    ),
    "a join over time": (
        F.parallel(F.tanh(), F.relu(), join="concatenate", axis=1),
        "joined(",
        "serial[1] → parallel[joined]",
    ),
    "own": (F.Layer(lambda *_: (), lambda p, x: (x, x), lambda *_: None), "Layer", "serial[1]"),
}


@pytest.mark.parametrize("name", WITHOUT_STEPS)
def test_a_layer_that_mixes_steps_is_named_before_anything_runs(name):
    layer, label, place = WITHOUT_STEPS[name]
    with pytest.raises(ValueError, match=r"has no one-step form.*causal=True") as raised:
        F.decode_step(F.serial(F.embedding(5, 6), layer))
    assert re.search(
        f"^decode_step: .*{re.escape(label)}.* in {re.escape(place)} has", str(raised.value)
    )


def test_every_layer_of_the_table_agrees_or_is_refused():
    known = 0
    for name, case in CASES.items():
        x, params = case.x(3), case.params(np.float64)
        first = x[0] if isinstance(x, tuple) else x
        if first.ndim < 2 or case.layer.step is False:
            continue
        y, step = case.layer(params, tree.astype(x, np.float64)), case.layer.step
        if step is True and isinstance(y, np.ndarray) and y.ndim == first.ndim == 3:
            moved = tree.map(lambda part: part[:, 1:3], tree.astype(x, np.float64))
            np.testing.assert_allclose(
                case.layer(params, moved), y[:, 1:3], rtol=1e-9, err_msg=name
            )
            known += 1
    assert known > 3


def test_a_sequence_longer_than_the_positions_is_an_error():
    model = F.serial(F.embedding(5, 4), F.learned_positions(3))
    params, step = model.init(0, (2,)), F.decode_step(model)
    _, state = step(params, np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="sequence of 4 steps is longer than the table of 3"):
        step(params, np.zeros((1, 1), int), state)


def test_errors_of_a_step_have_the_path_of_the_layer():
    model = MODELS["llama"]
    params = noisy_params(model, (TIME,))
    with pytest.raises(ValueError, match="the id 99 is not") as raised:
        F.decode_step(model)(params, np.full((1, 1), 99))
    assert "in serial[0] = embedding" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="expected the parameters of 5 layers"):
        F.decode_step(model)(params[:3], ids())
    with pytest.raises(TypeError, match="expected a layer, got"):
        F.decode_step(lambda x: x)


def test_a_bias_of_scores_is_refused():
    layer = F.multi_head_attention(2, causal=True)
    params, x = layer.init(0, (1, 4)), np.zeros((1, 1, 4), np.float32)
    with pytest.raises(ValueError, match="one step takes no bias"):
        layer.step(params, (x, None, np.zeros((1, 1), np.float32)), None)
