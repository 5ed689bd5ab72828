"""Muon and Schedule-Free against the papers' equations, and updates that are skipped."""

import numpy as np
import pytest
from arrays import same_bits

import npdl.functional as F
from npdl import random, tree
from npdl.checkpoint import load, save
from npdl.training import fit


def muon_update(m):
    """Jordan's iteration on a matrix, and the factor of Liu et al., equation 4."""
    x = m / np.linalg.norm(m)
    if m.shape[0] > m.shape[1]:
        x = x.T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return 0.2 * np.sqrt(max(m.shape)) * (x.T if m.shape[0] > m.shape[1] else x)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3), (6,), ()], ids=str)
def test_each_update_of_muon_is_the_iteration(shape, nesterov):
    generator = random.generator((1, *shape))
    transform, m = F.scale_by_muon(decay=0.8, nesterov=nesterov), np.zeros(shape)
    state = transform.init(m)
    for _ in range(4):
        g = np.asarray(generator.normal(size=shape))
        found, state = transform.update(g, state)
        m = 0.8 * m + 0.2 * g
        ahead = 0.8 * m + 0.2 * g if nesterov else m
        expected = muon_update(ahead.reshape(shape[0] if len(shape) > 1 else 1, -1))
        np.testing.assert_allclose(found, expected.reshape(shape), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_singular_values_of_muon_are_near_one(size):
    g = random.generator(2).normal(size=(10, 30)).astype(np.float32) * np.float32(size)
    transform = F.scale_by_muon()
    u, _ = transform.update(g, transform.init(g))
    values = np.linalg.svd(u / (0.2 * np.sqrt(30)), compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_keeps_zeros_and_empty_arrays():
    zeros = {"a": np.zeros((2, 3)), "b": np.zeros((0, 4))}
    transform = F.scale_by_muon()
    updates, _ = transform.update(zeros, transform.init(zeros))
    assert same_bits(updates, zeros)


def schedule_free_paper(y, grads, rates, beta1, beta2, epsilon, decay):
    """Algorithm 1 of Defazio et al., with AdamW's steps; returns y and x."""
    z = x = y
    v = weight = largest = 0.0
    for t, (g, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        y = (1 - beta1) * z + beta1 * x
        v = beta2 * v + (1 - beta2) * g**2
        step = g / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        z = z - rate * step - rate * decay * y
        largest = max(largest, rate)
        weight += largest**2
        c = largest**2 / weight if weight else 0.0
        x = (1 - c) * x + c * z
    return (1 - beta1) * z + beta1 * x, x


@pytest.mark.parametrize("rate", [0.1, F.warmup(0.1, 4)], ids=["constant", "warmup"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_each_update_of_schedule_free_is_the_papers(rate, decay):
    generator = random.generator(3)
    start = generator.normal(size=(3, 2))
    grads = [generator.normal(size=(3, 2)) for _ in range(9)]
    rates = [rate(step) if callable(rate) else rate for step in range(9)]
    optimizer = F.schedule_free_adamw(rate, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=decay)
    params, state = {"a": start}, optimizer.init({"a": start})
    for t, g in enumerate(grads, start=1):
        updates, state = optimizer.update({"a": g}, state, params)
        params = F.apply_updates(params, updates)
        y, x = schedule_free_paper(start, grads[:t], rates[:t], 0.8, 0.9, 1e-3, decay)
        np.testing.assert_allclose(params["a"], y, rtol=1e-10)
        average = F.schedule_free_params(state, params)
        np.testing.assert_allclose(average["a"], x, rtol=1e-10)


def test_schedule_free_resumes_to_the_same_bits(tmp_path):
    grads = [random.generator((4, i)).normal(size=3) for i in range(8)]

    def run(resume):
        optimizer = F.schedule_free_adamw(F.warmup(0.1, 4))
        params, state = np.ones(3), optimizer.init(np.ones(3))
        for i, g in enumerate(grads):
            if resume and i == 5:
                save(tmp_path / "state.npz", (params, state))
                optimizer = F.schedule_free_adamw(F.warmup(0.1, 4))
                params, state = load(tmp_path / "state.npz", like=(params, state))
            updates, state = optimizer.update(g, state, params)
            params = F.apply_updates(params, updates)
        return params, state

    assert same_bits(run(False), run(True))


def test_the_average_of_schedule_free_scores_better():
    generator = random.generator(5)
    x = generator.normal(size=(256, 4)).astype(np.float32)
    y = x @ np.ones((4, 1), np.float32) + generator.normal(size=(256, 1)).astype(np.float32)
    state, _ = fit(
        F.dense(1), F.mean_squared_error, F.schedule_free_adamw(0.3), (x, y),
        epochs=20, batch_size=8, progress=False,
    )  # fmt: skip
    average = F.schedule_free_params(state.opt_state, state.params)
    losses = [F.mean_squared_error(F.dense(1)(p, x), y)[0] for p in (average, state.params)]
    assert losses[0] < losses[1]


def test_schedule_free_params_needs_one_state():
    params = {"a": np.ones(2)}
    for optimizer, count in (
        (F.adam(), 0),
        (F.chain(F.schedule_free(0.1), F.schedule_free(0.1)), 2),
    ):
        with pytest.raises(ValueError, match=f"one schedule_free, found {count}; a right call"):
            F.schedule_free_params(optimizer.init(params), params)


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_an_update_that_is_not_finite_is_skipped(bad):
    optimizer, params = F.skip_not_finite(F.adam(0.1), limit=2), {"a": np.ones(3), "b": np.ones(2)}
    plain = F.adam(0.1)
    state, expected = optimizer.init(params), plain.init(params)
    good = {"a": np.array([1.0, 2.0, 3.0]), "b": None}
    wrong = {"a": np.array([1.0, bad, 3.0]), "b": None}
    for g, skipped in ((good, 0), (wrong, 1), (wrong, 2), (good, 0), (wrong, 1)):
        updates, state = optimizer.update(g, state, params)
        assert state.skipped == skipped
        if skipped:
            assert updates is None
        else:
            other, expected = plain.update(g, expected, params)
            assert same_bits(updates, other)
        assert same_bits(state.inner, expected)


def test_too_many_skips_are_an_error():
    optimizer, g = F.skip_not_finite(F.sgd(0.1), limit=2), np.array([np.nan])
    state = optimizer.init(np.ones(1))
    for _ in range(2):
        _, state = optimizer.update(g, state)
    with pytest.raises(FloatingPointError, match=r"3 consecutive updates .* limit is 2"):
        optimizer.update(g, state)


def test_an_update_that_overflows_is_skipped():
    optimizer, g = F.skip_not_finite(F.adam(0.1)), np.full(2, 1e30, np.float32)
    updates, state = optimizer.update(g, optimizer.init(g))
    assert updates is None
    assert tree.leaves(state.inner)[0] == 0


def test_training_continues_after_a_bad_batch():
    x = np.ones((8, 2), np.float32)
    x[3] = np.inf
    y = np.ones((8, 1), np.float32)
    optimizer = F.skip_not_finite(F.sgd(0.1))
    with np.errstate(invalid="ignore"), pytest.warns(match="not finite|is nan|is inf"):
        state, _ = fit(
            F.dense(1), F.mean_squared_error, optimizer, (x, y),
            epochs=1, batch_size=2, progress=False,
        )  # fmt: skip
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(state.params))
