"""Masks, states, directions, single steps and bad input of the recurrent layers."""

import numpy as np
import pytest
from arrays import noisy_params, normal64
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak

import npdl.functional as F
from npdl import tree

BATCH, TIME, FEATURES, UNITS = 3, 5, 2, 4
KINDS = {
    "rnn": F.rnn,
    "gru": F.gru,
    "gru, reset before": lambda units, **options: F.gru(units, reset_after=False, **options),
    "lstm": F.lstm,
    "lstm, other activations": lambda units, **options: F.lstm(
        units, activation=F.softsign(), gate_activation=F.hard_sigmoid(), **options
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def made(layer, features=FEATURES, dtype=np.float64):
    """Parameters with some noise, so that no bias is zero."""
    return noisy_params(layer, (None, features), dtype)


def a_state(kind, batch=BATCH, units=UNITS):
    parts = normal64(batch, units, seed=2), normal64(batch, units, seed=3)
    return parts if "lstm" in repr(kind(1)) else parts[0]


def rows(state, some):
    return tree.map(lambda part: part[some], state)


def close(a, b, atol=1e-12):
    return tree.all_close(a, b, rtol=0, atol=atol)


PLACES = {"at the end": [0, 1, 2], "at the beginning": [2, 3, 4], "within": [0, 2, 3]}


@each_kind
@each_direction
@pytest.mark.parametrize("steps", PLACES.values(), ids=PLACES.keys())
def test_masked_steps_count_as_if_they_were_not_there(kind, reverse, steps):
    layer = kind(UNITS, return_sequence=True, return_state=True, reverse=reverse)
    params, x, state = made(layer), normal64(BATCH, TIME, FEATURES), a_state(kind)
    mask = np.zeros((BATCH, TIME), bool)
    mask[:, steps] = True
    (y, last), cache = layer.apply(params, (x, mask, state))
    (short_y, short_last), short_cache = layer.apply(params, (x[:, steps], None, state))
    assert close(y[:, steps], short_y)
    assert close(last, short_last)
    g, g_state = normal64(*y.shape), a_state(kind)
    # The cotangents of carried outputs are zero, so that both sides have the same ones.
    g[~mask] = 0
    grads, (dx, no_mask, d_state) = layer.backward(params, cache, (g, g_state))
    expected, (short_dx, _, short_d_state) = layer.backward(
        params, short_cache, (g[:, steps], g_state)
    )
    assert no_mask is None
    assert close(grads, expected)
    assert close(dx[:, steps], short_dx)
    assert not dx[~mask].any()
    assert close(d_state, short_d_state)


@each_kind
@each_direction
def test_each_example_has_its_own_mask(kind, reverse):
    layer = kind(UNITS, return_sequence=True, return_state=True, reverse=reverse)
    params, x, state = made(layer), normal64(BATCH, TIME, FEATURES), a_state(kind)
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 1, 1]], bool)
    y, last = layer(params, (x, mask, state))
    for i in range(BATCH):
        one = slice(i, i + 1)
        alone, alone_last = layer(params, (x[one][:, mask[i]], None, rows(state, one)))
        assert close(y[one][:, mask[i]], alone)
        assert close(rows(last, one), alone_last)


@each_kind
@each_direction
def test_a_masked_step_outputs_the_bits_of_the_carried_state(kind, reverse):
    layer = kind(UNITS, return_sequence=True, return_state=True, reverse=reverse)
    params, x, state = made(layer), normal64(BATCH, TIME, FEATURES), a_state(kind)
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]], bool)
    y, last = layer(params, (x, mask, state))
    first = state[0] if isinstance(state, tuple) else state
    carried = {
        False: [(0, 2, 1), (0, 3, 1), (2, 3, 2), (2, 4, 2)],
        True: [(0, 3, 4), (0, 2, 4), (2, 1, 2), (2, 0, 2)],
    }[reverse]
    for example, t, source in carried:
        assert np.array_equal(y[example, t], y[example, source])
    assert np.array_equal(y[1], np.tile(first[1], (TIME, 1)))
    assert all(map(np.array_equal, tree.leaves(rows(last, 1)), tree.leaves(rows(state, 1))))
    no_state = layer(params, (x, mask))[1]
    assert not any(part[1].any() for part in tree.leaves(no_state))


@each_kind
def test_the_gradient_of_a_carried_state_passes_unchanged(kind):
    layer = kind(UNITS, return_state=True)
    params, x, state = made(layer), normal64(BATCH, TIME, FEATURES), a_state(kind)
    mask = np.zeros((BATCH, TIME), bool)
    _, cache = layer.apply(params, (x, mask, state))
    g_state = tree.map(lambda part: normal64(*part.shape, seed=7), state)
    grads, (dx, _, d_state) = layer.backward(params, cache, (None, g_state))
    assert all(map(np.array_equal, tree.leaves(d_state), tree.leaves(g_state)))
    assert not dx.any()
    assert not any(grad.any() for grad in tree.leaves(grads))


@each_kind
@pytest.mark.parametrize("filling", [np.nan, np.inf, 1e300])
def test_values_at_masked_steps_have_no_effect(kind, filling):
    layer = kind(UNITS, return_sequence=True)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
    y, cache = layer.apply(params, (x, mask))
    g = normal64(*y.shape)
    expected = layer.backward(params, cache, g)
    filled = x.copy()
    filled[~mask] = filling
    filled_y, cache = layer.apply(params, (filled, mask))
    assert np.array_equal(filled_y, y)
    found = layer.backward(params, cache, g)
    assert all(map(np.array_equal, tree.leaves(found), tree.leaves(expected)))


@each_kind
@each_direction
@pytest.mark.parametrize("sequence", [False, True], ids=["last", "sequence"])
def test_a_batch_of_any_size_is_its_parts_side_by_side(kind, reverse, sequence):
    layer = kind(UNITS, return_sequence=sequence, return_state=True, reverse=reverse)
    batch, parts = 11, (slice(0, 1), slice(1, 4), slice(4, 11))
    params, x, state = made(layer), normal64(batch, TIME, FEATURES), a_state(kind, batch)
    mask = normal64(batch, TIME, seed=4) > -0.5
    outputs, cache = layer.apply(params, (x, mask, state))
    g = normal64(*outputs[0].shape, seed=5), a_state(kind, batch)
    grads, dx = layer.backward(params, cache, g)
    total = None
    for part in parts:
        found, found_cache = layer.apply(params, rows((x, mask, state), part))
        assert close(found, rows(outputs, part))
        found_grads, found_dx = layer.backward(params, found_cache, rows(g, part))
        assert close(found_dx, rows(dx, part))
        total = found_grads if total is None else tree.add(total, found_grads)
    assert close(grads, total)


def test_a_batch_of_any_size_stays_finite_where_its_examples_do():
    # Without the examples' inputs, the state would double at each step.
    layer = F.rnn(1, activation=F.relu())
    params = {
        "weight": np.full((1, 1), -1, np.float32),
        "recurrent_weight": np.full((1, 1), 2, np.float32),
        "bias": np.ones(1, np.float32),
    }
    y, cache = layer.apply(params, np.ones((9, 200, 1), np.float32))
    grads, _ = layer.backward(params, cache, np.ones_like(y))
    assert not y.any()
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(grads))


@each_kind
def test_a_mask_of_all_true_has_no_effect(kind):
    layer = kind(UNITS)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    mask = np.ones((BATCH, TIME), bool)
    assert np.array_equal(layer(params, (x, mask)), layer(params, x))


@each_kind
@each_direction
def test_a_sequence_in_two_pieces_gives_the_same_as_in_one(kind, reverse):
    layer = kind(UNITS, return_sequence=True, return_state=True, reverse=reverse)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    y, last = layer(params, x)
    pieces = [x[:, :2], x[:, 2:]]
    state, outputs = None, {}
    for i in (1, 0) if reverse else (0, 1):
        outputs[i], state = layer(params, (pieces[i], None, state))
    assert close(np.concatenate([outputs[0], outputs[1]], axis=1), y)
    assert close(state, last)


@each_kind
def test_reverse_is_the_forward_layer_on_the_turned_sequence(kind):
    forward = kind(UNITS, return_sequence=True)
    reverse = kind(UNITS, return_sequence=True, reverse=True)
    params, x = made(forward), normal64(BATCH, TIME, FEATURES)
    assert close(reverse(params, x), forward(params, x[:, ::-1])[:, ::-1])
    last = kind(UNITS, reverse=True)
    assert close(last(params, x), reverse(params, x)[:, 0])


@each_kind
@each_direction
def test_the_last_output_equals_the_output_of_the_last_step(kind, reverse):
    sequence = kind(UNITS, return_sequence=True, reverse=reverse)
    last = kind(UNITS, reverse=reverse)
    params, x = made(last), normal64(BATCH, TIME, FEATURES)
    y, cache = last.apply(params, x)
    all_y, all_cache = sequence.apply(params, x)
    end = 0 if reverse else TIME - 1
    assert np.array_equal(y, all_y[:, end])
    g = np.zeros_like(all_y)
    g[:, end] = normal64(*y.shape)
    assert close(last.backward(params, cache, g[:, end]), sequence.backward(params, all_cache, g))


@each_kind
def test_a_state_without_a_gradient_counts_as_zero(kind):
    layer = kind(UNITS, return_sequence=True, return_state=True)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    (y, state), cache = layer.apply(params, x)
    g, zeros = normal64(*y.shape), tree.map(np.zeros_like, state)
    expected = layer.backward(params, cache, (g, zeros))
    assert close(layer.backward(params, cache, (g, None)), expected)
    some = tree.map(np.ones_like, state)
    expected = layer.backward(params, cache, (np.zeros_like(y), some))
    assert close(layer.backward(params, cache, (None, some)), expected)


def test_either_part_of_the_state_of_an_lstm_may_lack_a_gradient():
    layer = F.lstm(UNITS, return_state=True)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    (_, (h, c)), cache = layer.apply(params, x)
    g = normal64(*h.shape)
    for part, full in (((g, None), (g, 0 * c)), ((None, g), (0 * h, g))):
        expected = layer.backward(params, cache, (None, full))
        assert close(layer.backward(params, cache, (None, part)), expected)


@each_kind
def test_an_absent_input_has_an_absent_gradient(kind):
    layer = kind(UNITS)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    mask, state = normal64(BATCH, TIME) > 0, a_state(kind)
    for given_x in ((x, None), (x, mask), (x, None, None), (x, mask, None), (x, None, state)):
        y, cache = layer.apply(params, given_x)
        _, dx = layer.backward(params, cache, normal64(*y.shape))
        assert len(dx) == len(given_x)
        assert dx[0].shape == x.shape
        assert dx[1] is None
        if len(dx) == 3:
            assert tree.paths(dx[2]) == tree.paths(given_x[2])


@each_kind
@each_direction
def test_a_sequence_of_length_zero_leaves_the_state_as_it_is(kind, reverse):
    layer = kind(UNITS, return_sequence=True, return_state=True, reverse=reverse)
    params, state = made(layer), a_state(kind)
    x, mask = np.zeros((BATCH, 0, FEATURES)), np.zeros((BATCH, 0), bool)
    (y, last), cache = layer.apply(params, (x, mask, state))
    assert y.shape == (BATCH, 0, UNITS)
    assert all(map(np.array_equal, tree.leaves(last), tree.leaves(state)))
    grads, (dx, _, d_state) = layer.backward(params, cache, (y, state))
    assert dx.shape == x.shape
    assert all(map(np.array_equal, tree.leaves(d_state), tree.leaves(state)))
    assert tree.map(np.shape, grads) == tree.map(np.shape, params)
    assert not any(grad.any() for grad in tree.leaves(grads))
    assert not kind(UNITS)(params, x).any()


@each_kind
@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_single_steps_give_the_numbers_of_the_sequence(kind, dtype, atol, batch):
    layer = kind(UNITS, return_sequence=True, return_state=True)
    step = F.one_step(layer)
    params, x = made(layer, dtype=dtype), normal64(batch, TIME, FEATURES, dtype=dtype)
    y, last = layer(params, x)
    state = None
    for t in range(TIME):
        one, state = step(params, (x[:, t], state))
        assert close(one, y[:, t], atol)
    assert close(state, last, atol)
    assert close(step(params, x[:, 0])[0], y[:, 0], atol)


@each_kind
def test_single_steps_chained_have_the_gradient_of_the_sequence(kind):
    layer = kind(UNITS, return_sequence=True)
    step = F.one_step(layer)
    params, x = made(layer), normal64(BATCH, TIME, FEATURES)
    y, cache = layer.apply(params, x)
    g = normal64(*y.shape)
    expected, expected_dx = layer.backward(params, cache, g)
    state, caches = None, []
    for t in range(TIME):
        (_, state), cache = step.apply(params, (x[:, t], state))
        caches.append(cache)
    total, d_state = None, None
    for t in reversed(range(TIME)):
        grads, (dx, d_state) = step.backward(params, caches[t], (g[:, t], d_state))
        total = tree.add(total, grads)
        assert close(dx, expected_dx[:, t])
    assert close(total, expected)


@each_kind
@pytest.mark.parametrize("join", ["concatenate", "add", None])
def test_bidirectional_is_both_directions_side_by_side(kind, join):
    inner = kind(UNITS, return_sequence=True, return_state=True)
    other = kind(UNITS, return_sequence=True, return_state=True, reverse=True)
    both = F.bidirectional(inner, join=join)
    x, mask = normal64(BATCH, TIME, FEATURES), normal64(BATCH, TIME) > -0.5
    params = tree.astype(both.init(0, (None, FEATURES)), np.float64)
    # The directions have parameters of their own.
    assert not np.array_equal(params[0]["weight"], params[1]["weight"])
    states = a_state(kind), tree.map(lambda part: part + 1, a_state(kind))
    (y, last), cache = both.apply(params, (x, mask, states))
    (a, a_last), a_cache = inner.apply(params[0], (x, mask, states[0]))
    (b, b_last), b_cache = other.apply(params[1], (x, mask, states[1]))
    joined = {"concatenate": lambda: np.concatenate([a, b], -1), "add": lambda: a + b}
    assert close(y, joined[join]() if join else (a, b))
    assert close(last, (a_last, b_last))
    ga, gb = normal64(*a.shape, seed=5), normal64(*b.shape, seed=6)
    gb = ga if join == "add" else gb
    g = {"concatenate": np.concatenate([ga, gb], -1), "add": ga, None: (ga, gb)}[join]
    grads, (dx, no_mask, d_states) = both.backward(params, cache, (g, (a_last, None)))
    a_grads, (a_dx, _, a_state_grad) = inner.backward(params[0], a_cache, (ga, a_last))
    b_grads, (b_dx, _, b_state_grad) = other.backward(params[1], b_cache, (gb, None))
    assert close(grads, (a_grads, b_grads))
    assert close(dx, a_dx + b_dx)
    assert no_mask is None
    assert close(d_states, (a_state_grad, b_state_grad))


def test_a_direction_that_is_not_reached_has_no_gradient():
    layer = F.bidirectional(F.gru(UNITS), join=None)
    params = layer.init(0, (TIME, FEATURES))
    x = normal64(BATCH, TIME, FEATURES, dtype=np.float32)
    (a, _), cache = layer.apply(params, x)
    grads, dx = layer.backward(params, cache, (np.ones_like(a), None))
    assert grads[1] is None
    alone = F.gru(UNITS)
    _, cache = alone.apply(params[0], x)
    assert tree.all_close((grads[0], dx), alone.backward(params[0], cache, np.ones_like(a)))


def test_bidirectional_takes_a_recurrent_layer_of_your_own():
    layer = F.bidirectional(summing(by=2.0), join="add")
    x = np.ones((1, 3, 1), np.float32)
    assert np.array_equal(layer(layer.init(0, (3, 1)), x), [[[8.0], [8.0], [8.0]]])


@F.layer
def summing(by: float = 1.0, reverse: bool = False):
    """Running sums, from either end."""

    def ordered(x):
        return x[:, ::-1] if reverse else x

    def apply(params, x):
        return by * ordered(np.cumsum(ordered(x), axis=1)), None

    def backward(params, cache, g):
        return (), by * ordered(np.cumsum(ordered(g)[:, ::-1], axis=1)[:, ::-1])

    return F.Layer(lambda rng, shape: (), apply, backward)


def test_a_graph_connects_words_mask_and_states():
    model = F.graph(
        ("source", "source_mask", "target"),
        {
            ("coded", "thought"): (
                F.lstm(UNITS, return_sequence=True, return_state=True),
                ("source", "source_mask"),
            ),
            "decoded": (F.lstm(UNITS), ("target", None, "thought")),
        },
        "decoded",
    )
    shape = ((TIME, FEATURES), (TIME,), (7, FEATURES + 1))
    params = tree.astype(model.init(0, shape), np.float64)
    x = (
        normal64(BATCH, TIME, FEATURES),
        normal64(BATCH, TIME) > 0,
        normal64(BATCH, 7, FEATURES + 1),
    )
    assert model.out_shape(shape) == (UNITS,)
    y, cache = model.apply(params, x)
    g = normal64(*y.shape)
    _, (dx, no_mask, d_target) = model.backward(params, cache, g)
    assert no_mask is None
    assert d_target.shape == x[2].shape
    direction, step = normal64(*x[0].shape, seed=8), 1e-6
    ends = [np.sum(g * model(params, (x[0] + by * direction, *x[1:]))) for by in (step, -step)]
    assert np.isclose((ends[0] - ends[1]) / (2 * step), np.sum(dx * direction), atol=1e-8)


@pytest.mark.parametrize("layer", [F.lstm(UNITS), F.gru(UNITS), F.rnn(UNITS)], ids=repr)
def test_the_initial_blocks_belong_to_each_gate(layer):
    params = layer.init(0, (TIME, 300))
    weight, recurrent = params["weight"], params["recurrent_weight"]
    gates = weight.shape[1] // UNITS
    bound = np.sqrt(6 / (300 + UNITS))
    for block in np.split(weight, gates, axis=1):
        assert 0.9 * bound < np.abs(block).max() <= bound
    blocks = np.split(recurrent, gates, axis=1)
    for block in blocks:
        assert np.allclose(block @ block.T, np.eye(UNITS), atol=1e-5)
    assert len({block.tobytes() for block in blocks}) == gates


def test_the_forget_bias_is_added_to_the_initial_bias():
    layer = F.lstm(2, forget_bias=0.5, bias_init=F.constant(3.0))
    bias = layer.init(0, (TIME, FEATURES))["bias"]
    assert np.array_equal(bias, [3, 3, 3, 3, 3.5, 3.5, 3, 3])
    assert np.array_equal(F.lstm(1).init(0, (TIME, FEATURES))["bias"], [0, 0, 1, 0])


@each_kind
def test_large_numbers_saturate_without_a_warning(kind):
    if "other" in repr(kind):
        pytest.skip("softsign has no bound that float32 reaches")
    layer = kind(UNITS, return_sequence=True)
    params = made(layer, dtype=np.float32)
    x = np.full((BATCH, TIME, FEATURES), 1e4, np.float32) * np.array([[[1]], [[-1]], [[1]]])
    y, cache = layer.apply(params, x.astype(np.float32))
    grads, dx = layer.backward(params, cache, np.ones_like(y))
    assert np.isfinite(y).all()
    assert all(np.isfinite(grad).all() for grad in tree.leaves((grads, dx)))


@settings(max_examples=25)
@given(
    kind=st.sampled_from(list(KINDS.values())),
    sizes=st.lists(st.integers(1, 7), min_size=4, max_size=4, unique=True),
    reverse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_masks_hold_for_any_sizes(kind, sizes, reverse, seed):
    batch, time, features, units = sizes
    layer = kind(units, return_sequence=True, reverse=reverse)
    params = made(layer, features)
    x = normal64(batch, time, features, seed=seed)
    mask = normal64(batch, time, seed=seed + 1) > 0
    y = layer(params, (x, mask))
    for i in range(batch):
        one = slice(i, i + 1)
        assert close(y[one][:, mask[i]], layer(params, x[one][:, mask[i]]))


X = np.zeros((BATCH, TIME, FEATURES), np.float32)
MASK = np.ones((BATCH, TIME), bool)
H = np.zeros((BATCH, UNITS), np.float32)
WRONG_INPUTS = {
    "two axes": (F.lstm, X[0], ValueError, r"lstm: .*2 features.*float32\[5, 2\]"),
    "features": (F.gru, X[:, :, :1], ValueError, r"gru: .*2 features.*float32\[3, 5, 1\]"),
    "ints": (F.rnn, X.astype(int), TypeError, r"rnn: expected an array of floats, got int64"),
    "data type": (F.rnn, X.astype(float), TypeError, "rnn: the input is float64"),
    "a mask of floats": (
        F.lstm,
        (X, MASK.astype(np.float32)),
        ValueError,
        r"lstm: .*must be bool\[3, 5\].*got float32\[3, 5\]",
    ),
    "a mask of another length": (
        F.gru,
        (X, MASK[:, 1:]),
        ValueError,
        r"gru: .*float32\[3, 5, 2\].*must be bool\[3, 5\].*got bool\[3, 4\]",
    ),
    "a mask with a third axis": (
        F.rnn,
        (X, MASK[..., None]),
        ValueError,
        r"must be bool\[3, 5\].*got bool\[3, 5, 1\]",
    ),
    "a list for a mask": (F.rnn, (X, MASK.tolist()), ValueError, "got list"),
    "a state of another batch": (
        F.gru,
        (X, None, H[:1]),
        ValueError,
        r"gru: .*\[3, 4\], \(batch, units\), got float32\[1, 4\]",
    ),
    "a state of other units": (F.rnn, (X, MASK, H[:, :1]), ValueError, r"got float32\[3, 1\]"),
    "a state of another type": (F.rnn, (X, MASK, H.astype(float)), TypeError, "rnn, state"),
    "one array for two": (F.lstm, (X, None, H), ValueError, "lstm: .*tuple of 2 arrays"),
    "three arrays for two": (F.lstm, (X, None, (H, H, H)), ValueError, "tuple of 2 arrays"),
    "a state of ints": (F.gru, (X, None, H.astype(int)), TypeError, "gru, state.*floats"),
    "a fourth input": (F.gru, (X, MASK, H, H), ValueError, r"gru: .*\(x, mask, state\)"),
    "no input": (F.gru, (), ValueError, r"gru: .*\(x, mask, state\)"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS.values(), ids=WRONG_INPUTS.keys())
def test_a_misshapen_input_is_an_error_with_layer_and_sizes(case):
    constructor, x, error, message = case
    layer = constructor(UNITS)
    params = layer.init(0, (TIME, FEATURES))
    with pytest.raises(error, match=message):
        layer.apply(params, x)


WRONG_SHAPES = {
    "one axis": (F.lstm, (2,), "lstm: expected the shape of one example"),
    "three axes": (F.gru, (3, 5, 2), "gru: expected the shape of one example"),
    "no features": (F.rnn, (5, None), "rnn: expected the shape of one example"),
    "four inputs": (F.rnn, ((5, 2), (5,), (4,), (4,)), "rnn: expected the shape of one example"),
    "mask": (F.gru, ((5, 2), (6,)), r"gru: the mask .*\(5,\), got \(6,\)"),
    "state": (F.gru, ((5, 2), None, (3,)), r"gru: the state has the shape \(4,\), got \(3,\)"),
    "one state for two": (F.lstm, ((5, 2), (5,), (4,)), r"lstm: the state has the shape \(\(4,"),
}


@pytest.mark.parametrize("case", WRONG_SHAPES.values(), ids=WRONG_SHAPES.keys())
def test_a_shape_that_does_not_fit_is_an_error(case):
    constructor, shape, message = case
    for function in (lambda s: constructor(UNITS).init(0, s), constructor(UNITS).out_shape):
        with pytest.raises(ValueError, match=message):
            function(shape)


def test_the_time_may_be_left_open():
    layer = F.lstm(UNITS, return_sequence=True, return_state=True)
    shape = ((None, 2), (None,), ((UNITS,), (UNITS,)))
    assert layer.out_shape(shape) == ((None, UNITS), ((UNITS,), (UNITS,)))
    assert F.bidirectional(F.gru(UNITS)).out_shape((None, 2)) == (2 * UNITS,)


WRONG_ARGUMENTS = {
    "no units": (lambda: F.lstm(0), ValueError, r"lstm: units .*lstm\(units=128\), got 0"),
    "half a unit": (lambda: F.gru(1.5), ValueError, r"gru: units .*gru\(units=128\), got 1.5"),
    "true units": (lambda: F.gru(True), ValueError, r"gru: units .*gru\(units=128\), got True"),
    "flag": (lambda: F.rnn(3, return_state=1), TypeError, "return_state must be True or False"),
    "reset": (lambda: F.gru(3, reset_after="no"), TypeError, "reset_after must be True or False"),
    "forget bias": (
        lambda: F.lstm(3, forget_bias=True),
        ValueError,
        "forget_bias must be a number",
    ),
    "activation by name": (
        lambda: F.lstm(3, activation="tanh"),
        TypeError,
        r"lstm: activation must be a layer, as in lstm\(128, activation=tanh\(\)\), got 'tanh'",
    ),
    "no call": (lambda: F.rnn(3, activation=F.tanh), TypeError, "rnn: activation must be a layer"),
    "not elementwise": (
        lambda: F.gru(3, gate_activation=F.softmax()),
        ValueError,
        "gru: gate_activation must work element by element.*softmax",
    ),
    "parameters": (
        lambda: F.gru(3, activation=F.dense(2)),
        ValueError,
        "gru: activation must work element by element.*dense",
    ),
    "another shape": (
        lambda: F.rnn(3, activation=F.expand_dims(1)),
        ValueError,
        "rnn: activation must work element by element",
    ),
    "join": (lambda: F.bidirectional(F.rnn(3), join="sum"), ValueError, "join .* got 'sum'"),
    "not recurrent": (
        lambda: F.bidirectional(F.dense(3)),
        TypeError,
        r"bidirectional: expected a recurrent layer.*got dense\(units=3\)",
    ),
    "not a layer": (lambda: F.bidirectional(F.lstm), TypeError, "expected a recurrent layer"),
    "reverse twice": (
        lambda: F.bidirectional(F.lstm(3, reverse=True)),
        ValueError,
        "bidirectional: expected a layer that runs forward",
    ),
    "a step back": (lambda: F.one_step(F.lstm(3, reverse=True)), ValueError, "runs forward"),
    "both in a step": (
        lambda: F.one_step(F.bidirectional(F.lstm(3))),
        TypeError,
        "one_step: expected a recurrent layer",
    ),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS.keys())
def test_a_wrong_argument_is_an_error_where_it_is_given(case):
    make, error, message = case
    with pytest.raises(error, match=message):
        make()


def test_bidirectional_and_one_step_name_their_inputs():
    both = F.bidirectional(F.gru(UNITS))
    params = both.init(0, (TIME, FEATURES))
    with pytest.raises(ValueError, match="bidirectional: expected the parameters of 2 layers"):
        both.apply(params[0], X)
    with pytest.raises(ValueError, match=r"forward_state, reverse_state, got float32\[3, 4\]"):
        both.apply(params, (X, None, H))
    step = F.one_step(F.gru(UNITS))
    with pytest.raises(ValueError, match=r"one_step: .*got float32\[3, 5, 2\]"):
        step.apply(params[0], X)


@pytest.mark.parametrize("make", [F.rnn, F.gru, F.lstm], ids=["rnn", "gru", "lstm"])
def test_a_gradient_that_has_vanished_is_zero_and_not_subnormal(make):
    # Arithmetic with subnormal numbers takes ten times as long.
    layer = make(3)
    params = layer.init(0, (400, 2))
    params = params | {"recurrent_weight": params["recurrent_weight"] * np.float32(0.01)}
    x = np.random.default_rng(1).normal(size=(4, 400, 2)).astype(np.float32)
    g = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    grads, dx = layer.backward(params, layer.apply(params, x)[1], g)
    exact = tree.astype(params, np.float64)
    cache = layer.apply(exact, x.astype(np.float64))[1]
    exact_grads, exact_dx = layer.backward(exact, cache, g.astype(np.float64))
    # Rounding errors are relative to the largest gradient of a time step: others may cancel.
    error, size = (np.abs(array).max(axis=(0, 2)) for array in (dx - exact_dx, exact_dx))
    assert np.all(error <= 1e-2 * size + 1e-28)
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, exact_grads[name], rtol=1e-4, atol=1e-6)
    assert np.all(dx[:, -1])
    assert not np.any(dx[:, 0])
    sizes = np.abs(dx)
    assert np.mean((sizes > 0) & (sizes < np.finfo(np.float32).tiny)) < 0.02


@each_kind
@pytest.mark.parametrize("features", [2, 16], ids=["few features", "more features"])
def test_inference_has_the_memory_of_one_step(kind, features):
    layer, time, batch = kind(16), 200, 16
    params, x = made(layer, features), normal64(batch, time, features)
    state = batch * 16 * x.itemsize
    # The only arrays of all steps are the inputs and their matrix product, or (h, x, 1).
    blocks = (features + max(params["weight"].shape[1], 16 + 1)) / 16
    most, y = peak(lambda: layer(params, x))
    assert most < (1.1 * time * blocks + 25) * state
    assert np.array_equal(y, layer.apply(params, x)[0])
