"""Blocks of transformers: masked inputs, the order of sublayers, and bad inputs."""

import numpy as np
import pytest
from arrays import noisy_params, normal64
from hypothesis import given, settings
from hypothesis import strategies as st
from small_layers import notes_of

import npdl.functional as F
from npdl import random, tree
from npdl.training import TrainState, train_step

BATCH, TIME, STEPS, FEATURES, OTHERS, HIDDEN = 3, 5, 7, 6, 4, 11
NORMS = pytest.mark.parametrize("pre_norm", [True, False], ids=["pre-norm", "post-norm"])


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def encoder(**options):
    block = F.transformer_encoder_block(2, HIDDEN, **options)
    return F.stack(block, block)


def decoder(**options):
    block = F.transformer_decoder_block(3, HIDDEN, **options)
    return F.stack(block, block)


# The output of a block


def test_a_pre_norm_block_adds_each_part_to_its_input():
    block = F.transformer_encoder_block(2, HIDDEN, activation=F.gelu())
    params, x = noisy_params(block, (TIME, FEATURES)), normal64(BATCH, TIME, FEATURES)
    norm = F.layer_norm()
    middle = x + F.multi_head_attention(2)(params["attention"], norm(params["attention_norm"], x))
    hidden, _, _, output = params["feed_forward"]
    inner = norm(params["feed_forward_norm"], middle)
    inner = F.gelu()((), inner @ hidden["weight"] + hidden["bias"])
    close(block(params, x), middle + inner @ output["weight"] + output["bias"])


def test_a_post_norm_decoder_block_normalizes_each_sum():
    block = F.transformer_decoder_block(2, HIDDEN, pre_norm=False)
    params = noisy_params(block, ((TIME, FEATURES), (STEPS, OTHERS)))
    x, memory = normal64(BATCH, TIME, FEATURES), normal64(BATCH, STEPS, OTHERS)
    norm = F.layer_norm()
    attention, cross = F.multi_head_attention(2, causal=True), F.multi_head_attention(2, cross=True)
    y = norm(params["attention_norm"], x + attention(params["attention"], x))
    y = norm(params["cross_attention_norm"], y + cross(params["cross_attention"], (y, memory)))
    hidden, _, _, output = params["feed_forward"]
    inner = np.maximum(y @ hidden["weight"] + hidden["bias"], 0)
    inner = inner @ output["weight"] + output["bias"]
    close(block(params, (x, memory)), norm(params["feed_forward_norm"], y + inner))


@NORMS
def test_the_parameters_read_well(pre_norm):
    block = F.transformer_decoder_block(2, HIDDEN, dropout=0.1, pre_norm=pre_norm)
    params = block.init(0, ((TIME, FEATURES), (STEPS, OTHERS)))
    parts = {path.split("/")[0] for path in tree.paths(params)}
    named = {"attention", "cross_attention", "feed_forward"}
    assert parts == named | {f"{name}_norm" for name in named}
    assert params["cross_attention"]["context_weight"].shape == (OTHERS, 2 * FEATURES)
    assert params["feed_forward"][3]["weight"].shape == (HIDDEN, FEATURES)


def test_alone_x_needs_no_tuple():
    block = F.transformer_encoder_block(2, HIDDEN)
    params, x = noisy_params(block, (TIME, FEATURES)), normal64(BATCH, TIME, FEATURES)
    outputs, gradients = [], []
    for inputs in (x, (x,), (x, None), (x, np.ones((BATCH, TIME), bool))):
        y, cache = block.apply(params, inputs)
        outputs.append(y)
        gradients.append(block.backward(params, cache, x)[1])
    assert all(np.array_equal(y, outputs[0]) for y in outputs)
    assert [len(dx) for dx in gradients[1:]] == [1, 2, 2]
    assert gradients[2][1] is None
    assert all(np.array_equal(dx[0], gradients[0]) for dx in gradients[1:])


def test_the_times_may_be_left_open():
    assert encoder(pre_norm=False).out_shape((None, FEATURES)) == (None, FEATURES)
    assert encoder().out_shape(((None, FEATURES), (None,))) == (None, FEATURES)
    shape = ((None, FEATURES), (None, OTHERS), (None,))
    assert decoder().out_shape(shape) == (None, FEATURES)
    expected = decoder().init(0, ((TIME, FEATURES), (STEPS, OTHERS)))
    assert tree.all_close(decoder().init(0, shape), expected, rtol=0, atol=0)


def test_one_block_serves_any_width_with_or_without_dropout():
    block = F.transformer_encoder_block(2, HIDDEN)
    for width in (4, 10):
        params, x = block.init(0, (TIME, width)), normal64(BATCH, TIME, width, dtype="f4")
        y = block(params, x)
        assert y.shape == x.shape
        noisy = F.transformer_encoder_block(2, HIDDEN, dropout=0.5)
        assert tree.all_close(noisy.init(0, (TIME, width)), params, rtol=0, atol=0)
        assert np.array_equal(noisy(params, x), y)
        assert not np.allclose(noisy(params, x, train=True, rng=1), y)


@pytest.mark.parametrize("part", ["attention", "cross_attention", "feed_forward"])
def test_dropout_is_within_and_after_each_sublayer_but_not_at_x(part):
    block = F.transformer_decoder_block(2, HIDDEN, dropout=0.3)
    params = noisy_params(block, ((40, FEATURES), (STEPS, OTHERS)))
    others = {"attention", "cross_attention", "feed_forward"} - {part}
    params |= {other: tree.map(np.zeros_like, params[other]) for other in others}
    # All steps are equal, and so would be their outputs without dropout.
    x = np.broadcast_to(normal64(FEATURES), (50, 40, FEATURES))
    memory = np.broadcast_to(normal64(OTHERS), (50, STEPS, OTHERS))
    added = block(params, (x, memory), train=True, rng=1) - x
    dropped = added == 0
    assert abs(dropped.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / dropped.size)
    for feature in range(FEATURES):
        assert added[~dropped[..., feature], feature].std() > 1e-3
    without = block(params, (x, memory)) - x
    assert np.ptp(without, axis=(0, 1)).max() < 1e-12


# Inputs without influence


@NORMS
@settings(max_examples=15)
@given(changed=st.integers(1, TIME - 1), dtype=st.sampled_from([np.float32, np.float64]))
def test_causal_blocks_do_not_look_ahead(pre_norm, changed, dtype):
    memory = normal64(BATCH, STEPS, OTHERS, dtype=dtype)
    x = normal64(BATCH, TIME, FEATURES, dtype=dtype)
    other = x.copy()
    other[:, changed:] = normal64(BATCH, TIME - changed, FEATURES, seed=2, dtype=dtype)
    for model, shape, rest in (
        (encoder(causal=True, pre_norm=pre_norm), ((TIME, FEATURES),), ()),
        (decoder(pre_norm=pre_norm), ((TIME, FEATURES), (STEPS, OTHERS)), (memory,)),
    ):
        params = noisy_params(model, shape, dtype)
        y, cache = model.apply(params, (x, *rest))
        later = model(params, (other, *rest))
        tolerance = 1e-5 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(later[:, :changed], y[:, :changed], rtol=0, atol=tolerance)
        assert (later[:, changed:] != y[:, changed:]).any(axis=2).all()
        g = normal64(*y.shape, seed=3, dtype=dtype)
        g[:, changed:] = 0
        dx = model.backward(params, cache, g)[1]
        assert not dx[0][:, changed:].any()
        assert dx[0][:, :changed].all()


@NORMS
@settings(max_examples=15)
@given(
    causal=st.booleans(),
    lengths=st.lists(st.integers(1, TIME), min_size=BATCH, max_size=BATCH),
)
def test_padding_has_no_influence_in_an_encoder(pre_norm, causal, lengths):
    model = encoder(causal=causal, pre_norm=pre_norm)
    params, x = noisy_params(model, (TIME, FEATURES)), normal64(BATCH, TIME, FEATURES)
    mask = np.arange(TIME) < np.array(lengths)[:, None]
    g = normal64(*x.shape, seed=2) * mask[..., None]
    y, cache = model.apply(params, (x, mask))
    grads, (dx, _) = model.backward(params, cache, g)
    total = None
    for n, length in enumerate(lengths):
        alone, cache = model.apply(params, x[n : n + 1, :length])
        close(y[n, :length], alone[0])
        alone_grads, alone_dx = model.backward(params, cache, g[n : n + 1, :length])
        close(dx[n, :length], alone_dx[0])
        assert not dx[n, length:].any()
        total = tree.add(total, alone_grads)
    assert tree.all_close(grads, total, rtol=1e-9, atol=1e-9)


def test_padding_has_no_influence_in_a_decoder():
    model = decoder()
    params = noisy_params(model, ((TIME, FEATURES), (STEPS, OTHERS)))
    x, memory = normal64(BATCH, TIME, FEATURES), normal64(BATCH, STEPS, OTHERS)
    lengths, steps = np.array([2, 5, 3]), np.array([7, 4, 1])
    mask, memory_mask = np.arange(TIME) < lengths[:, None], np.arange(STEPS) < steps[:, None]
    g = normal64(*x.shape, seed=2) * mask[..., None]
    outputs = {}
    for name, inputs in {
        "masked": (x, memory, memory_mask, mask),
        "causal alone": (x, memory, memory_mask),
    }.items():
        y, cache = model.apply(params, inputs)
        grads, dx = model.backward(params, cache, g)
        assert dx[2:] == (None,) * (len(inputs) - 2)
        assert not dx[1][~memory_mask].any()
        assert dx[1][memory_mask].all()
        outputs[name] = (y[mask], grads, dx[:2])
    assert tree.all_close(outputs["masked"], outputs["causal alone"], rtol=1e-9, atol=1e-10)
    for n in range(BATCH):
        alone = model(params, (x[n : n + 1, : lengths[n]], memory[n : n + 1, : steps[n]]))
        close(y[n, : lengths[n]], alone[0])


def test_a_fully_masked_memory_leaves_x_to_the_other_sublayers():
    block = F.transformer_decoder_block(2, HIDDEN)
    params = noisy_params(block, ((TIME, FEATURES), (STEPS, OTHERS)))
    x, memory = normal64(BATCH, TIME, FEATURES), normal64(BATCH, STEPS, OTHERS)
    y, cache = block.apply(params, (x, memory, np.zeros((BATCH, STEPS), bool)))
    grads, (dx, d_memory, _) = block.backward(params, cache, np.ones_like(y))
    same = {name: part for name, part in params.items() if not name.startswith("cross")}
    close(y, F.transformer_encoder_block(2, HIDDEN, causal=True)(same, x))
    assert not d_memory.any()
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves((grads, dx)))


# Training


def test_an_encoder_and_a_decoder_learn_to_turn_sequences_round():
    # Each target is the source backwards; the decoder reads the target up to the step before.
    words, length, width = 6, 4, 16
    embedded = F.serial(F.embedding(words, width), F.learned_positions(length))
    model = F.graph(
        ("source", "before"),
        {
            "source_steps": (embedded, "source"),
            "memory": (F.transformer_encoder_block(2, 32), "source_steps"),
            "steps": (embedded, "before"),
            "thought": (F.transformer_decoder_block(2, 32), ("steps", "memory")),
            "scores": (F.serial(F.layer_norm(), F.dense(words)), "thought"),
        },
        "scores",
    )
    source = random.generator(0).integers(1, words, size=(256, length))
    target = source[:, ::-1]
    before = np.concatenate([np.zeros((len(source), 1), int), target[:, :-1]], axis=1)
    optimizer = F.adam(0.01)
    state = TrainState.create(model, optimizer, ((length,), (length,)))
    step = train_step(model, F.softmax_cross_entropy, optimizer)
    for _ in range(60):
        state, metrics = step(state, ((source[:192], before[:192]), target[:192]))
    assert metrics["loss"] < 0.2
    scores = model(state.params, (source[192:], before[192:]))
    assert (scores.argmax(axis=-1) == target[192:]).mean() > 0.9


# Bad input

X, MEMORY = normal64(BATCH, TIME, FEATURES, dtype="f4"), normal64(BATCH, STEPS, OTHERS, dtype="f4")
MASK, MEMORY_MASK = np.ones((BATCH, TIME), bool), np.ones((BATCH, STEPS), bool)

WRONG_ARGUMENTS = {
    "no heads": (lambda: F.transformer_encoder_block(0, 8), ValueError, "heads must be.*got 0"),
    "no units": (lambda: F.transformer_decoder_block(2, 0), ValueError, "units must be.*got 0"),
    "a name": (
        lambda: F.transformer_encoder_block(2, 8, activation="gelu"),
        TypeError,
        "activation must be a layer, .* got 'gelu'",
    ),
    "dropout": (lambda: F.transformer_decoder_block(2, 8, dropout=1), ValueError, r"in \[0, 1\)"),
    "pre_norm": (
        lambda: F.transformer_encoder_block(2, 8, pre_norm="no"),
        TypeError,
        "transformer_encoder_block: pre_norm must be True or False, .* got 'no'",
    ),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_a_wrong_argument_is_an_error_where_it_is_given(case):
    make, error, message = case
    with pytest.raises(error, match=message):
        make()


ENCODER, DECODER = F.transformer_encoder_block(2, 8), F.transformer_decoder_block(2, 8)
ENCODER_SHAPE, DECODER_SHAPE = (TIME, FEATURES), ((TIME, FEATURES), (STEPS, OTHERS))
WRONG_INPUTS = {
    "heads that do not divide": (
        lambda: F.transformer_encoder_block(4, 8).init(0, (5, 6)),
        "4 heads do not divide the 6 features",
        "in transformer_encoder_block['attention'] = multi_head_attention(heads=4), "
        "initialized for the shape ((5, 6), None)",
    ),
    "one axis": (
        lambda: ENCODER.init(0, (6,)),
        r"encoder_block: expected the shape \(time, features\) of one example of x, got \(6,\)",
        None,
    ),
    "declared alone": (
        lambda: DECODER.out_shape((5, 6)),
        r"decoder_block: expected \(x, memory\) or \(x, memory, memory_mask\) or "
        r"\(x, memory, memory_mask, mask\), got",
        None,
    ),
    "declared mask": (
        lambda: ENCODER.init(0, ((5, 6), (4,))),
        r"of 5 keys has the shape \(5,\), got \(4,\)",
        None,
    ),
    "too many": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), (X, MASK, MASK)),
        r"encoder_block: expected x or \(x, mask\), got \(float32",
        None,
    ),
    "no memory": (
        lambda: DECODER(DECODER.init(0, DECODER_SHAPE), X),
        r"decoder_block: expected \(x, memory\) or .*got \(float32\[3, 5, 6\]\)",
        None,
    ),
    "nothing": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), ()),
        r"expected x or \(x, mask\), got \(\)",
        None,
    ),
    "one step": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), X[:, 0]),
        r"expected x of shape \(batch, time, features\), got float32\[3, 6\]",
        None,
    ),
    "ids": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), MASK.astype(int)),
        r"encoder_block: expected an array of floats, got int64\[3, 5\]",
        None,
    ),
    "other features": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), X[..., :4]),
        r"features of shape \(6,\), but the input is float32\[3, 5, 4\]",
        "in transformer_encoder_block['attention_norm'] = layer_norm(), given float32[3, 5, 4]",
    ),
    "no steps": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), X[:, :0]),
        r"a time of one step or more, got float32\[3, 0, 6\]",
        "in transformer_encoder_block['attention'] = ",
    ),
    "mask of floats": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), (X, MASK.astype("f4"))),
        r"the mask must be bool\[3, 5\].*got float32\[3, 5\]",
        "in transformer_encoder_block['attention'] = ",
    ),
    "mask of another batch": (
        lambda: ENCODER(ENCODER.init(0, ENCODER_SHAPE), (X, MASK[:2])),
        r"the mask must be bool\[3, 5\].*got bool\[2, 5\]",
        "in transformer_encoder_block['attention'] = ",
    ),
    "memory of another batch": (
        lambda: DECODER(DECODER.init(0, DECODER_SHAPE), (X, MEMORY[:2])),
        r"batches of different sizes: \(float32\[3, 5, 6\], float32\[2, 7, 4\]\)",
        "in transformer_decoder_block['cross_attention'] = ",
    ),
    "memory of no steps": (
        lambda: DECODER(DECODER.init(0, DECODER_SHAPE), (X, MEMORY[:, :0])),
        r"one step or more, got float32\[3, 0, 4\]",
        "in transformer_decoder_block['cross_attention'] = ",
    ),
    "masks in the wrong order": (
        lambda: DECODER(DECODER.init(0, DECODER_SHAPE), (X, MEMORY, MASK, MEMORY_MASK)),
        r"the mask must be bool\[3, 5\].*got bool\[3, 7\]",
        "in transformer_decoder_block['attention'] = ",
    ),
}


@pytest.mark.parametrize(("call", "message", "place"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_bad_inputs_are_errors_with_the_path(call, message, place):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
    if place is not None:
        assert notes_of(call)[0].startswith(place)
