"""A recomputed layer has the bits of the layer itself, and a smaller cache."""

import json
import pickle

import numpy as np
import pytest
from arrays import same_bits
from cases import CASES
from memory import held, peak

import npdl.functional as F
from npdl import random, tree
from npdl.training import TrainState, train_step

KEY = (5,)
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def cotangent(y):
    generator = random.generator(9)
    return tree.map(lambda part: generator.normal(size=part.shape).astype(part.dtype), y)


@each_case
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_recomputation_changes_no_bit(case, train):
    params, x, rng = case.params(), case.x(3), KEY if train else None
    recomputed = F.remat(case.layer)
    results = []
    for model in (case.layer, recomputed):
        y, cache = model.apply(params, x, train=train, rng=rng)
        g = cotangent(y)
        grads = model.backward(params, cache, g)
        of_params, none = model.backward(params, cache, g, input_grad=False)
        assert none is None
        results.append((y, grads, of_params, model.update_stats(params, cache)))
    assert same_bits(*results)
    assert recomputed.out_shape(case.shape) == case.layer.out_shape(case.shape)
    assert same_bits(recomputed.init(KEY, case.shape), case.layer.init(KEY, case.shape))


def test_a_recomputed_layer_is_a_value():
    model = F.remat(F.serial(F.dense(3), F.relu()))
    assert repr(model) == "remat(inner=serial(dense(units=3), relu()))"
    assert pickle.loads(pickle.dumps(model)) == model
    assert F.from_config(json.loads(json.dumps(model.config()))) == model
    assert "0: dense(units=3)" in repr(F.summary(model, (2,)))


def test_something_else_than_a_layer_is_refused():
    with pytest.raises(TypeError, match=r"remat: argument 0 is 3, not a layer"):
        F.remat(3)


def test_a_generator_as_key_gives_the_same_noise_twice():
    layer = F.dropout(0.5)
    x = np.ones((4, 100), np.float32)
    y, cache = F.remat(layer).apply((), x, train=True, rng=np.random.default_rng(1))
    _, dx = F.remat(layer).backward((), cache, x)
    assert np.array_equal(y, dx)


def normed(size):
    return F.serial(F.conv2d(size, 3, padding=1), F.batch_norm(), F.relu())


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("shards", [None, 2])
def test_running_statistics_are_those_of_the_step(donate, shards):
    x = random.generator(1).normal(size=(8, 2, 6, 5)).astype(np.float32)
    labels = np.arange(8) % 3
    states = []
    for around in (lambda block: block, F.remat):
        blocks = around(normed(4)), around(F.residual(normed(4), around(normed(4))))
        model = F.serial(*blocks, F.global_avg_pool(), F.dense(3))
        optimizer = F.adam(0.1)
        state = TrainState.create(model, optimizer, shape=(2, 6, 5))
        step = train_step(model, F.softmax_cross_entropy, optimizer, donate=donate, shards=shards)
        for _ in range(3):
            state, _ = step(state, (x, labels))
        states.append(state)
    assert same_bits(states[0].params, states[1].params)
    assert float(tree.leaves(states[1].params[0][1]["count"])[0]) == (3 if not shards else 6)


def test_the_cache_keeps_the_input_and_small_statistics():
    block = normed(8)
    params = block.init(0, (8, 20, 20))
    x = random.generator(1).normal(size=(4, 8, 20, 20)).astype(np.float32)
    _, cache = F.remat(block).apply(params, x, train=True)
    assert x.nbytes <= held(cache) < x.nbytes + 1000


def test_recomputation_survives_freeze_and_check_finite():
    model = F.serial(F.remat(F.serial(F.dense(4), F.dropout(0.3))), F.freeze(F.remat(normed_row())))
    optimizer = F.sgd(0.1)
    x, labels = np.ones((6, 3), np.float32), np.arange(6) % 2
    state = TrainState.create(model, optimizer, shape=(3,))
    params = tree.map(np.array, state.params)
    params[1][1]["count"][...] = 1
    state = state.with_params(params)
    steps = [
        train_step(model, F.softmax_cross_entropy, optimizer, check_finite=check)
        for check in (False, True)
    ]
    ends = [step(state, (x, labels))[0] for step in steps]
    assert same_bits(ends[0].params, ends[1].params)
    params[0][0]["weight"][0, 0] = 1e38
    bad = state.with_params(params)
    with pytest.raises(FloatingPointError, match=r"(?s)the output.*not finite"):
        steps[1](bad, (x * np.float32(1e6), labels))


def normed_row():
    return F.serial(F.dense(2), F.batch_norm())


def test_a_recomputed_transformer_takes_at_most_half_the_memory():
    block = F.transformer_encoder_block(heads=4, hidden_units=256, dropout=0.1)
    x = random.generator(1).normal(size=(16, 64, 64)).astype(np.float32)
    targets = np.zeros_like(x)
    peaks, gradients = [], []
    for blocks in ([block] * 6, [F.remat(block)] * 6):
        model = F.stack(*blocks)
        params = model.init(0, (64, 64))
        gradient = F.value_and_grad(model, F.mean_squared_error)
        most, result = peak(lambda: gradient(params, x, targets, train=True, rng=3)[1])  # noqa: B023
        peaks.append(most)
        gradients.append(result)
    assert same_bits(*gradients)
    assert peaks[1] <= 0.5 * peaks[0]
