"""Generation: greedy, sampling and beam search, against searches written with whole sequences."""

import itertools

import numpy as np
import pytest
from arrays import noisy_params, normal, normal64

import npdl.functional as F
from npdl import random

SIZE = 5


def transformer(size=SIZE):
    block = F.transformer_encoder_block(2, 16, causal=True, rotary=100.0, kv_heads=1)
    return F.serial(F.embedding(size, 8), block, F.layer_norm(), F.dense(size))


def recurrent(size=SIZE):
    return F.serial(F.embedding(size, 6), F.gru(8, return_sequence=True), F.dense(size))


MODELS = {"transformer": transformer(), "recurrent": recurrent()}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def params_of(model, seed=0):
    params = noisy_params(model, (3,))
    table = 2 * normal64(*params[-1]["weight"].shape, seed=seed)
    return (*params[:-1], params[-1] | {"weight": table})


def prompts(batch=4, time=3, size=SIZE):
    return random.generator((batch, time)).integers(0, size, (batch, time))


def log_p(model, params, ids):
    """Log-probabilities of the next token, from the whole sequence."""
    return F.log_softmax()((), model(params, np.asarray(ids)))[:, -1]


# Greedy


@each_model
def test_without_temperature_each_token_has_the_highest_score(model):
    params, ids = params_of(model), prompts()
    found = F.generate(model, params, ids, length=6, temperature=0)
    for t in range(6):
        whole = np.concatenate([ids, found[:, :t]], axis=1)
        assert np.array_equal(log_p(model, params, whole).argmax(axis=1), found[:, t])
    assert found.dtype == np.int64


@each_model
def test_one_prompt_of_a_batch_gets_the_tokens_that_it_gets_alone(model):
    params, ids = params_of(model), prompts()
    together = F.generate(model, params, ids, length=6, temperature=0)
    alone = F.generate(model, params, ids[2], length=6, temperature=0)
    assert alone.shape == (6,)
    assert np.array_equal(alone, together[2])


def test_the_prompt_is_read_once_and_each_token_once():
    shapes = []

    @F.layer
    def spy():
        def apply(params, x):
            shapes.append(x.shape)
            return x, None

        return F.Layer(lambda rng, shape: (), apply, lambda p, c, g: ((), g), step=True)

    model = F.serial(spy(), *transformer().call.positional)
    params = ((), *params_of(transformer()))
    F.generate(model, params, prompts(), length=4, temperature=0)
    assert shapes == [(4, 3), (4, 1), (4, 1), (4, 1)]


# Sampling


@each_model
def test_the_same_key_gives_the_same_tokens_and_other_keys_others(model):
    params, ids = params_of(model), prompts(batch=1)

    def drawn():
        keys = [(0, i) for i in range(30)]
        return [F.generate(model, params, ids, key, length=8, temperature=3.0) for key in keys]

    assert np.array_equal(drawn(), drawn())
    assert len(np.unique(drawn(), axis=0)) > 20


def shares(model, params, ids, count=4000, **arguments):
    """Fractions of the sampled next tokens after one prompt."""
    many = np.repeat(ids[:1], count, axis=0)
    found = F.generate(model, params, many, 5, length=1, **arguments)
    return np.bincount(found[:, 0], minlength=SIZE) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_sampled_by_their_probabilities(temperature):
    model = recurrent()
    params, ids = params_of(model, seed=3), prompts()
    p = F.softmax()((), log_p(model, params, ids[:1]) / temperature)[0]
    found = shares(model, params, ids, temperature=temperature)
    assert np.abs(found - p).max() < 5 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize("top_k", [1, 2, 4, 5, 99])
def test_top_k_keeps_the_k_highest_scores(top_k):
    model = recurrent()
    params, ids = params_of(model, seed=3), prompts()
    p = F.softmax()((), log_p(model, params, ids[:1]))[0]
    kept = np.argsort(-p)[:top_k]
    expected = np.zeros(SIZE)
    expected[kept] = p[kept] / p[kept].sum()
    found = shares(model, params, ids, top_k=top_k)
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / 4000)
    assert not found[expected == 0].any()


@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.6, 0.9, 1.0])
def test_top_p_keeps_the_fewest_tokens_of_this_probability(top_p):
    model = recurrent()
    params, ids = params_of(model, seed=3), prompts()
    p = F.softmax()((), log_p(model, params, ids[:1]))[0]
    order = np.argsort(-p)
    count = 1 + int((np.cumsum(p[order]) < top_p - 1e-12).sum())
    expected = np.zeros(SIZE)
    expected[order[:count]] = p[order[:count]] / p[order[:count]].sum()
    found = shares(model, params, ids, top_p=top_p)
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / 4000)
    assert not found[expected == 0].any()


def test_top_k_of_one_is_greedy():
    model = transformer()
    params, ids = params_of(model), prompts()
    greedy = F.generate(model, params, ids, length=5, temperature=0)
    assert np.array_equal(F.generate(model, params, ids, 1, length=5, top_k=1), greedy)
    assert np.array_equal(F.generate(model, params, ids, 1, length=5, top_p=1e-9), greedy)


def test_forbidden_tokens_are_never_sampled():
    @F.layer
    def without(token):
        def apply(params, x):
            return np.where(np.arange(SIZE) == token, -np.inf, x), None

        return F.Layer(lambda *_: (), apply, lambda *_: None, lambda shape: shape, step=True)

    model = F.serial(*recurrent().call.positional, without(2))
    params = (*params_of(recurrent()), ())
    for arguments in ({}, {"top_k": 4}, {"top_p": 0.99}, {"temperature": 0}, {"beam": 3}):
        assert not (F.generate(model, params, prompts(), 0, length=30, **arguments) == 2).any()


# The end of a sequence


@pytest.mark.parametrize("arguments", [{"temperature": 0}, {}, {"beam": 2}], ids=str)
def test_after_a_stop_token_the_rest_is_filled(arguments):
    model = recurrent()
    params, ids = params_of(model, seed=1), prompts(batch=8)
    free = F.generate(model, params, ids, 3, length=9, **arguments)
    found = F.generate(model, params, ids, 3, length=9, stop=(1, 2), **arguments)
    ended = 0
    for row, other in zip(found, free, strict=True):
        position = next((i for i, token in enumerate(row) if token in (1, 2)), 9)
        ended += position < 9
        assert (row[position + 1 :] == 1).all()
        if "beam" not in arguments:
            assert np.array_equal(row[: position + 1], other[: position + 1])
    assert ended
    assert np.array_equal(
        F.generate(model, params, ids, 3, length=9, stop=2, **arguments),
        F.generate(model, params, ids, 3, length=9, stop=[2], **arguments),
    )


# Prompts of different lengths

RAGGED = [[1, 2, 3, 4, 0], [3], np.array([0, 1]), [2, 2, 2, 4]]


@each_model
@pytest.mark.parametrize("arguments", [{"temperature": 0}, {"beam": 3}], ids=str)
@pytest.mark.parametrize("stop", [None, 1])
def test_prompts_of_different_lengths_get_the_tokens_that_they_get_alone(model, arguments, stop):
    params = params_of(model, seed=4)
    found = F.generate(model, params, RAGGED, length=6, stop=stop, **arguments)
    for prompt, tokens in zip(RAGGED, found, strict=True):
        alone = F.generate(model, params, np.array(prompt), length=6, stop=stop, **arguments)
        assert np.array_equal(tokens, alone)


def test_sampling_after_prompts_of_different_lengths_is_repeatable():
    model = transformer()
    params = params_of(model)
    found = F.generate(model, params, RAGGED, 1, length=7)
    assert found.shape == (4, 7)
    assert np.array_equal(found, F.generate(model, params, RAGGED, 1, length=7))


def test_a_tiny_temperature_is_greedy():
    model = recurrent()
    params, ids = params_of(model), prompts()
    greedy = F.generate(model, params, ids, length=5, temperature=0)
    for temperature in (1e-3, 1e-300, 5e-324):
        assert np.array_equal(
            F.generate(model, params, ids, 1, length=5, temperature=temperature, top_p=0.9), greedy
        )


# Beam search


def total(model, params, prompt, tokens):
    whole = list(prompt)
    value = 0.0
    for token in tokens:
        value += log_p(model, params, [whole])[0, token]
        whole.append(token)
    return value


@each_model
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_agrees_with_an_exhaustive_search(model, seed):
    params, limit, end = params_of(model, seed), 3, 0
    (prompt,) = prompts(batch=1)
    others = [token for token in range(SIZE) if token != end]
    ended = [(*s, end) for n in range(limit) for s in itertools.product(others, repeat=n)]
    candidates = [*ended, *itertools.product(others, repeat=limit)]
    best = max(candidates, key=lambda tokens: total(model, params, prompt, tokens))
    found = F.generate(model, params, prompt, length=limit, beam=SIZE**limit, stop=end)
    assert tuple(found[: len(best)]) == best
    assert (found[len(best) :] == end).all()


@each_model
def test_a_beam_of_one_is_greedy_and_wider_beams_are_not_worse(model):
    ids, totals = prompts(batch=3), dict.fromkeys((1, 3, 125), 0.0)
    for seed in range(5):
        params = params_of(model, seed)
        greedy = F.generate(model, params, ids, length=3, temperature=0)
        for width in totals:
            found = F.generate(model, params, ids, length=3, beam=width)
            for prompt, tokens in zip(ids, found, strict=True):
                totals[width] += total(model, params, prompt, tokens)
            assert width > 1 or np.array_equal(found, greedy)
    assert totals[1] < totals[3] + 1e-9
    assert totals[3] < totals[125] + 1e-9


# Further inputs


@pytest.mark.parametrize("arguments", [{"temperature": 0}, {"beam": 3}], ids=str)
def test_a_decoder_reads_the_memory_of_its_example(arguments):
    blocks = F.transformer_decoder_block(2, 16)
    model = F.graph(
        ("ids", "memory", "mask"),
        {
            "words": (F.serial(F.embedding(SIZE, 8), F.sinusoidal_positions()), "ids"),
            "blocks": (blocks, ("words", "memory", "mask")),
            "scores": (F.dense(SIZE), "blocks"),
        },
        ("scores", "words"),
    )
    params = noisy_params(model, ((3,), (7, 6), (7,)), np.float32)
    params["scores"]["weight"] = 3 * normal(8, SIZE)
    ids, memory = prompts(), 3 * normal(4, 7, 6)
    mask = np.arange(7) < np.array([[7], [3], [1], [5]])
    found = F.generate(model, params, (ids, memory, mask), length=6, **arguments)
    for i in range(4):
        one = (ids[i : i + 1], memory[i : i + 1, : mask[i].sum()], None)
        assert np.array_equal(F.generate(model, params, one, length=6, **arguments)[0], found[i])
    assert len(set(map(str, found.tolist()))) > 1


# Errors

MODEL, IDS = recurrent(), prompts()
PARAMS = params_of(MODEL)

WRONG = {
    "no key": ({}, "sampling needs a key"),
    "no length": ({"key": 0, "length": 0}, "length must be a positive int.*got 0"),
    "cold": ({"temperature": -1.0}, "temperature must be a number of at least 0.*got -1.0"),
    "no tokens": ({"key": 0, "top_k": 0}, "top_k must be a positive int"),
    "no probability": ({"key": 0, "top_p": 0.0}, r"top_p must be a number in \(0, 1\]"),
    "too much probability": ({"key": 0, "top_p": 1.5}, "top_p must be.*got 1.5"),
    "no beam": ({"beam": 0}, "beam must be a positive int"),
    "beam and top_k": ({"beam": 2, "top_k": 3}, "beam search does not sample"),
    "beam and a temperature": ({"beam": 2, "temperature": 0.5}, "beam search does not sample"),
    "a word": ({"key": 0, "stop": "end"}, "stop must be an id, or several ids"),
    "no stop": ({"key": 0, "stop": []}, "stop must be an id"),
    "no prompt": ({"prompt": IDS[:, :0], "key": 0}, r"at least one id, got int64\[4, 0\]"),
    "floats": ({"prompt": IDS * 1.0, "key": 0}, r"prompt of ids.*got float64\[4, 3\]"),
    "three axes": ({"prompt": IDS[None], "key": 0}, r"got int64\[1, 4, 3\]"),
    "an empty prompt among others": ({"prompt": [[1], []], "key": 0}, r"got float64\[0\]"),
    "no prompts": ({"prompt": [], "key": 0}, r"at least one id"),
    "nested prompts": ({"prompt": [[[1]], [[2]]], "key": 0}, r"got int64\[1, 1\]"),
    "one prompt and a memory": ({"prompt": (IDS[0], IDS), "key": 0}, r"pass prompt\[None\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_an_error_before_anything_runs(name):
    changes, message = WRONG[name]
    arguments = {"model": MODEL, "params": PARAMS, "prompt": IDS, "length": 3} | changes
    with pytest.raises(ValueError, match=f"^generate: .*{message}"):
        F.generate(**arguments)


def test_scores_that_are_nan_are_an_error_in_place_of_tokens():
    broken = (*PARAMS[:-1], PARAMS[-1] | {"bias": np.full(SIZE, np.nan)})
    with pytest.raises(ValueError, match="scores of the next token are NaN"):
        F.generate(MODEL, broken, IDS, 0, length=3)


def test_a_model_that_looks_ahead_is_refused():
    model = F.serial(F.embedding(5, 4), F.multi_head_attention(2), F.dense(5))
    with pytest.raises(ValueError, match=r"multi_head_attention\(heads=2\) in serial\[1\]"):
        F.generate(model, model.init(0, (3,)), IDS, 0, length=3)
