"""Applying updates, and optimizers made of optimizers."""

import math

import numpy as np
import pytest

import npdl.functional as F
from npdl import tree
from npdl.functional.optimizers._optimizer import linked, update_arrays


def grad(*values):
    return np.array(values, np.float32)


PARAMS = {
    "layers": ({"weight": grad(1.0, 2.0), "bias": grad(3.0)}, {"weight": grad(4.0)}),
    "table": grad(5.0, 6.0, 7.0),
}
GRADS = {
    "layers": ({"weight": grad(0.3, -0.4), "bias": grad(1.0)}, {"weight": grad(-2.0)}),
    "table": None,
}


def steps(optimizer, params, all_grads):
    """Return the params after each of the gradients, and the last state."""
    state, history = optimizer.init(params), []
    for grads in all_grads:
        updates, state = optimizer.update(grads, state, params)
        params = F.apply_updates(params, updates)
        history.append(params)
    return history, state


def exactly(a, b):
    return tree.all_close(a, b, rtol=0, atol=0)


def test_a_part_multiplies_by_the_factor_of_the_next_one_only():
    # Adam takes the first scale with it; the second one, and the count of the third, are left.
    alone = F.scale_by_adam()
    optimizer = F.chain(alone, F.scale(2.0), F.scale(-0.5), F.scale_by_learning_rate(lambda n: n))
    params = grad(1.0, -2.0, 3.0)
    state, own = optimizer.init(params), alone.init(params)
    for count in range(3):
        g = grad(0.3, -1.0, 2.0) * (count + 1)
        expected, own = alone.update(g, own, params)
        updates, state = optimizer.update(g, state, params)
        np.testing.assert_allclose(updates, count * expected, rtol=1e-6)
        assert state[1:] == ((), (), (count + 1,))
        assert exactly(state[0], own)


@pytest.mark.parametrize(
    ("rate", "bad", "message"),
    [
        (0.1, (3,), r"expected a state of the type tuple with 0 entries"),
        (lambda count: 0.1, (), r"expected a state of the type CountState with 1 entries"),
        (lambda count: math.nan, None, r"returned nan at step 0"),
    ],
    ids=["a number", "a schedule", "nan"],
)
def test_an_error_of_a_factor_names_the_part_that_it_is_of(rate, bad, message):
    optimizer, params = F.adam(rate), grad(1.0)
    first, last = optimizer.init(params)
    with pytest.raises(ValueError, match=message) as caught:
        optimizer.update(params, (first, last if bad is None else bad), params)
    assert caught.value.__notes__[0].startswith("in chain[1] = scale_by_learning_rate(")


def test_apply_updates_keeps_types_and_leaves_without_an_update():
    params = {"a": grad(1.0, 2.0), "b": np.array(3.0), "c": (grad(4.0), np.float32(5))}
    updates = {"a": np.array([0.5, 1e-9]), "b": np.float64(1.0), "c": (None, grad(1.0).sum())}
    before = tree.map(np.copy, params)
    new = F.apply_updates(params, updates)
    assert exactly(new, {"a": grad(1.5, 2.0), "b": np.array(4.0), "c": (grad(4.0), np.array(6.0))})
    assert new["c"][0] is params["c"][0]
    assert [leaf.dtype for leaf in tree.leaves(new)] == [np.float32, np.float64, *[np.float32] * 2]
    assert all(type(leaf) is np.ndarray for leaf in tree.leaves(new))
    assert exactly(params, before)
    assert F.apply_updates(params, None) is params
    assert exactly(F.apply_updates(grad(1.0), grad(2.0)), grad(3.0))


@pytest.mark.parametrize(
    ("updates", "message"),
    {
        "shape": ({"a": (np.ones((2, 1)), None)}, r"of a/0 is float64\[2, 1\].*is float64\[2\]"),
        "scalar": ({"a": (np.float64(1), None)}, r"of a/0 is float64\[\], but .* is float64\[2\]"),
        "keys": ({"b": (np.ones(2), None)}, "differ at the root.*only the first has b"),
        "count": ({"a": (np.ones(2),)}, "differ at a: a tuple of 1"),
    }.values(),
    ids=["shape", "scalar", "keys", "count"],
)
def test_updates_that_do_not_fit_are_an_error_with_the_path(updates, message):
    with pytest.raises(ValueError, match=message):
        F.apply_updates({"a": (np.ones(2), np.ones(3))}, updates)


def test_a_chain_passes_the_result_of_each_transform_on():
    optimizer = F.chain(F.clip_by_value(0.5), F.trace(0.5), F.scale(-2.0))
    history, state = steps(optimizer, PARAMS, [GRADS, GRADS])
    change = tree.map(lambda g: -2 * np.clip(g, -0.5, 0.5), GRADS)
    first = F.apply_updates(PARAMS, change)
    second = F.apply_updates(first, tree.map(lambda u: u * 1.5, change))
    assert tree.all_close(history, [first, second])
    assert [type(part).__name__ for part in state] == ["tuple", "TraceState", "tuple"]
    assert exactly(F.chain().update(GRADS, (), PARAMS), (GRADS, ()))


def test_a_chain_notes_the_part_in_which_an_error_was_raised():
    optimizer = F.chain(F.scale(1.0), F.chain(F.trace(0.5), F.add_decayed_weights(0.1)))
    with pytest.raises(ValueError, match="needs the params") as caught:
        optimizer.update(GRADS, optimizer.init(PARAMS))
    assert caught.value.__notes__ == [
        "in chain[1] = add_decayed_weights(rate=0.1)",
        "in chain[1] = chain(trace(decay=0.5), add_decayed_weights(rate=0.1))",
    ]


@pytest.mark.parametrize("state", [(), ((), ()), None, {"a": 1}, [(), (), ()]])
def test_a_chain_rejects_the_state_of_another_optimizer(state):
    with pytest.raises(ValueError, match=r"chain: expected the states of 3 optimizers.*another"):
        F.chain(F.scale(1.0), F.scale(1.0), F.scale(1.0)).update(GRADS, state, PARAMS)
    with pytest.raises(ValueError, match="by_path: expected the states of 1"):
        F.by_path({"*": F.scale(1.0)}).update(GRADS, ((), ()), PARAMS)


SELECTIONS = {
    "a glob": ("*weight", ["layers/0/weight", "layers/1/weight"]),
    "a folder": ("layers/0/*", ["layers/0/bias", "layers/0/weight"]),
    "several": (("table", "*/bias"), ["layers/0/bias", "table"]),
    "a set of letters": ("layers/[12]/*", ["layers/1/weight"]),
    "everything": ("*", ["layers/0/bias", "layers/0/weight", "layers/1/weight", "table"]),
    "a function": (lambda path: path.endswith("s/1/weight"), ["layers/1/weight"]),
}


@pytest.mark.parametrize(("select", "selected"), SELECTIONS.values(), ids=SELECTIONS)
def test_masked_touches_the_selected_leaves_only(select, selected):
    optimizer = F.masked(F.trace(0.5), select)
    state = optimizer.init(PARAMS)
    assert tree.paths(state) == [f"0/velocity/{path}" for path in selected]
    grads = tree.map(np.ones_like, PARAMS)
    _, state = optimizer.update(grads, state, PARAMS)
    for params in (PARAMS, None):
        updates, _ = optimizer.update(grads, state, params)
        for path, u in tree.items(updates):
            assert (u == (1.5 if path in selected else 1.0)).all()


def test_masked_norms_count_the_selected_gradients_only():
    optimizer = F.masked(F.clip_by_global_norm(1.0), "layers/0/weight")
    grads = {"layers": ({"weight": grad(3.0, 4.0), "bias": grad(9.0)}, None), "table": None}
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    weight, bias = updates["layers"][0]["weight"], updates["layers"][0]["bias"]
    np.testing.assert_allclose(weight, [0.6, 0.8], rtol=1e-6)
    assert bias == 9.0
    assert tree.paths(updates) == ["layers/0/bias", "layers/0/weight"]


def test_by_path_gives_each_parameter_to_the_first_match():
    optimizer = F.by_path(
        {
            "*/bias": F.sgd(1.0),
            ("layers/0/*", "nowhere"): F.momentum(0.5, decay=0.5),
            (lambda path: "layers" in path): F.sgd(0.25),
            "*": F.adam(1.0),
        }
    )
    grads = tree.map(np.ones_like, PARAMS)
    history, state = steps(optimizer, PARAMS, [grads, grads])
    moved = tree.map(lambda after, before: before - after, history[-1], PARAMS)
    expected = {
        "layers": ({"weight": grad(1.25, 1.25), "bias": grad(2.0)}, {"weight": grad(0.5)}),
        "table": grad(2.0, 2.0, 2.0),
    }
    assert tree.all_close(moved, expected)
    assert tree.paths(state) == [
        "1/0/velocity/layers/0/weight",
        "3/0/count",
        "3/0/gradients/table",
        "3/0/squares/table",
    ]


def test_by_path_is_the_same_as_each_optimizer_alone():
    rules = {"layers/0/*": F.adamw(0.1), "layers/*": F.nadam(0.2), "table": F.lion(0.3)}
    all_grads = [tree.map(lambda p, i=i: np.sin(i + p), PARAMS) for i in range(4)]
    _, state = steps(F.by_path(rules), PARAMS, all_grads)
    history, _ = steps(F.by_path(rules), PARAMS, all_grads)
    parts = [
        lambda t: t["layers"][0],
        lambda t: t["layers"][1],
        lambda t: t["table"],
    ]
    for part, optimizer in zip(parts, rules.values(), strict=True):
        alone, _ = steps(optimizer, part(PARAMS), [part(grads) for grads in all_grads])
        assert exactly(part(history[-1]), alone[-1])
    assert len(state) == 3


def test_leaves_without_an_update_in_their_group_stay():
    grads = tree.map(np.ones_like, PARAMS)
    grouped = F.by_path({"table": F.accumulate(F.sgd(1.0), 2), "*": F.sgd(1.0)})
    part = F.masked(F.accumulate(F.scale(2.0), 2), "table")
    for optimizer, passed in ((grouped, -1.0), (part, 1.0)):
        state = optimizer.init(PARAMS)
        for updated in (False, True):
            updates, state = optimizer.update(grads, state, PARAMS)
            assert (updates["table"] is not None) == updated
            assert (updates["layers"][0]["weight"] == passed).all()


def test_paths_without_a_rule_and_unused_rules_are_errors():
    with pytest.raises(ValueError, match=r"no pattern matches layers/1/weight, table; add \"\*\""):
        F.by_path({"layers/0/*": F.sgd(1.0)}).init(PARAMS)
    for rules in ({"*/bais": F.sgd(1.0), "*": F.sgd(1.0)}, {"*": F.sgd(1.0), "*/bais": F.sgd(1.0)}):
        with pytest.raises(ValueError, match=r"no parameter is left for '\*/bais', of the paths"):
            F.by_path(rules).init(PARAMS)
    for optimizer in (F.masked(F.sgd(1.0), "*/bais"), F.adamw(0.1, mask="*/bais")):
        with pytest.raises(ValueError, match=r"masked: no parameter is left for '\*/bais'"):
            optimizer.init(PARAMS)


BAD_CALLS = {
    "chain of a number": (lambda: F.chain(F.sgd(0.1), 0.1), "chain: argument 1 is 0.1, not an opt"),
    "chain of a constructor": (lambda: F.chain(F.adam), "chain: argument 0 is adam"),
    "masked alone": (lambda: F.masked("*", F.sgd(0.1)), r"masked\(scale\(0.1\), \"\*/bias\"\)"),
    "mask of ints": (lambda: F.masked(F.sgd(0.1), (1, 2)), r"a pattern of paths.*got \(1, 2\)"),
    "no pattern": (lambda: F.masked(F.sgd(0.1), ()), r"a tuple of patterns.*got \(\)"),
    "decay mask": (lambda: F.adamw(0.1, mask=True), "pattern of paths.*got True"),
    "no rules": (lambda: F.by_path({}), r"by_path takes a dict, as in by_path\(\{"),
    "rules as list": (lambda: F.by_path([("*", F.sgd(0.1))]), "by_path takes a dict"),
    "rule of a number": (lambda: F.by_path({"*": 0.1}), r"the value of '\*' is 0.1, not an opt"),
    "rule for a number": (lambda: F.by_path({1: F.sgd(0.1)}), "by_path: expected a pattern.*got 1"),
    "accumulate": (
        lambda: F.accumulate(4, F.sgd(0.1)),
        r"accumulate: the first argument is 4, not",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_parts_are_errors_that_show_a_right_call(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("count", [0, -1, 2.0, True, None])
def test_accumulate_checks_its_steps(count):
    with pytest.raises(ValueError, match=r"steps must be an int of at least 1, as in accumulate\("):
        F.accumulate(F.sgd(0.1), count)


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan, "0.9"])
def test_average_params_checks_its_decay(decay):
    with pytest.raises(ValueError, match=r"average_params: decay must be a number in \[0, 1\)"):
        F.average_params(decay)


def random_grads(count):
    generator = np.random.default_rng(0)
    return [
        tree.map(lambda p: generator.normal(size=p.shape).astype(np.float32), PARAMS)
        for _ in range(count)
    ]


@pytest.mark.parametrize("k", [1, 3, 4])
def test_accumulate_is_one_update_with_the_mean(k):
    all_grads = random_grads(3 * k)
    history, state = steps(F.accumulate(F.adam(0.1), k), PARAMS, all_grads)
    means = [
        tree.map(lambda *gs: sum(gs) / np.float32(k), *all_grads[i : i + k])
        for i in range(0, 3 * k, k)
    ]
    expected, _ = steps(F.adam(0.1), PARAMS, means)
    assert tree.all_close(history[k - 1 :: k], expected, rtol=1e-5)
    assert (state.count, state.inner[0].count) == (3 * k, 3)


def test_params_stay_between_the_updates_of_accumulate():
    history, _ = steps(F.accumulate(F.adamw(0.1), 3), PARAMS, random_grads(5))
    before = [PARAMS, *history]
    same = [after is params for params, after in zip(before, history, strict=False)]
    assert same == [True, True, False, True, True]


def test_accumulate_counts_a_missing_gradient_as_zero():
    optimizer = F.accumulate(F.chain(F.add_decayed_weights(0.5), F.scale(-1.0)), 2)
    params = {"often": grad(2.0), "once": grad(2.0), "never": grad(2.0)}
    first = {"often": grad(1.0), "once": None, "never": None}
    second = {"often": grad(5.0), "once": grad(4.0), "never": None}
    for grads in ([first, second], [second, first], [second, {**first, "often": grad(1.0)}]):
        history, state = steps(optimizer, params, grads)
        # 2 - (mean of gradients + 0.5 * 2), where there was any gradient
        assert exactly(history[-1], {"often": grad(-2.0), "once": grad(-1.0), "never": grad(2.0)})
        assert not any(tree.leaves(state.reached))
        again, _ = optimizer.update(None, state, history[-1])
        assert again is None


def test_an_accumulation_can_begin_and_end_without_any_gradient():
    optimizer = F.accumulate(F.adamw(0.1), 2)
    history, state = steps(optimizer, PARAMS, [None, None, None])
    assert all(exactly(params, PARAMS) for params in history)
    assert state.inner[0].count == 1


def test_average_params_averages_the_results_of_apply_updates():
    optimizer = F.chain(F.momentum(0.1), F.average_params(0.75))
    assert exactly(F.averaged(optimizer.init(PARAMS)), PARAMS)
    all_grads = random_grads(5)
    history, state = steps(optimizer, PARAMS, all_grads)
    expected = history[0]
    for params in history[1:]:
        expected = tree.map(lambda a, p: 0.75 * a + 0.25 * p, expected, params)
    assert tree.all_close(F.averaged(state), expected, rtol=1e-6)
    plain, _ = steps(F.momentum(0.1), PARAMS, all_grads)
    assert exactly(history, plain)


def test_average_params_follows_untrained_params():
    optimizer = F.chain(F.sgd(1.0), F.average_params(0.5))
    params = {"weight": grad(4.0), "mean": grad(np.nan)}
    state = optimizer.init(params)
    for mean in (1.0, 2.0, 3.0):
        updates, state = optimizer.update({"weight": grad(1.0), "mean": None}, state, params)
        params = F.apply_updates(params, updates) | {"mean": grad(mean)}
    _, state = optimizer.update(None, state, params)
    # Of 3, 2 and 1; without an update, the average of the trained leaves stays.
    assert exactly(F.averaged(state), {"weight": grad(1.75), "mean": grad(3.0)})


def test_average_params_stays_between_the_updates_of_accumulate():
    all_grads = random_grads(6)
    around = F.chain(F.accumulate(F.adam(0.1), 3), F.average_params(0.5))
    inside = F.accumulate(F.chain(F.adam(0.1), F.average_params(0.5)), 3)
    found = [F.averaged(steps(optimizer, PARAMS, all_grads)[1]) for optimizer in (around, inside)]
    assert exactly(*found)
    assert not exactly(found[0], PARAMS)


def test_an_average_of_equal_params_is_those_params():
    optimizer = F.chain(F.sgd(0.0), F.average_params(0.9))
    params = {"a": np.random.default_rng(0).normal(size=500).astype(np.float32)}
    _, state = steps(optimizer, params, [params] * 20)
    assert exactly(F.averaged(state), params)


def test_averaged_finds_the_average_anywhere_in_a_state():
    inner = F.accumulate(F.chain(F.adam(0.1), F.average_params(0.9)), 2)
    optimizer = F.by_path({"layers/*": inner, "table": F.sgd(0.1)})
    state = optimizer.init(PARAMS)
    assert exactly(F.averaged(state), {**PARAMS, "table": None})
    assert exactly(F.averaged({"opt_state": [state, 3]}), {**PARAMS, "table": None})


def test_averaged_wants_one_average():
    with pytest.raises(ValueError, match=r"found 0; a right optimizer is chain\(adam"):
        F.averaged(F.adam(0.1).init(PARAMS))
    two = F.by_path({"table": F.average_params(0.9), "*": F.average_params(0.8)})
    with pytest.raises(ValueError, match=r"found 2;.*around by_path"):
        F.averaged(two.init(PARAMS))


def test_average_params_asks_for_the_params():
    optimizer = F.chain(F.sgd(0.1), F.average_params(0.9))
    with pytest.raises(ValueError, match=r"average_params needs the params: update\(grads"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))


def test_an_optimizer_of_ones_own_is_a_pair_of_functions():
    def update(grads, state, params=None):
        return tree.map(lambda g: -0.1 * np.sign(g), grads), state + 1

    signs = F.Optimizer(lambda params: 0, update)
    optimizer = F.chain(F.clip_by_value(1.0), signs)
    assert not optimizer.elementwise
    history, state = steps(optimizer, PARAMS, [GRADS, GRADS])
    assert state == ((), 2)
    np.testing.assert_allclose(history[-1]["layers"][0]["weight"], [0.8, 2.2], rtol=1e-6)
    with pytest.raises(TypeError, match="without a constructor"):
        signs.__reduce__()


def overwritten(part, g, state, p):
    """Return the update of an array, and the state, whose arrays are overwritten."""
    u, (state,) = update_arrays(linked(part.rule), g, [state], p, overwrite=True)
    return u, state


@pytest.mark.parametrize(
    "part", [F.scale_by_adam(), F.scale_by_nadam(), F.scale_by_adamax()], ids=repr
)
def test_moments_without_gradients_decay_to_zero_not_subnormals(part):
    # Arithmetic with those takes ten times as long.
    params = {"a": grad(1.0, 2.0, 3.0), "b": np.array(3.0, np.float32), "ids": np.arange(2)}
    grads = {"a": grad(0.5, -1e-3, 0.0), "b": np.array(1.0, np.float32), "ids": None}
    zeros = {"a": grad(0.0, 0.0, 0.0), "b": np.array(0.0, np.float32), "ids": None}
    state = part.init(params)
    bare = part.init(params["a"])
    for i in range(1152):
        g = grads if i < 3 else zeros
        before = tree.map(np.copy, state[1:])
        _, state = part.update(g, state, params)
        bare = overwritten(part, g["a"], bare, params["a"])[1]
        assert exactly(bare[1], state[1]["a"])
        assert exactly(bare[2], state[2]["a"])
        if i == 127:
            # Only tiny numbers are dropped.
            decay = np.float32(0.9)
            np.testing.assert_allclose(state[1]["a"], before[0]["a"] * decay, rtol=1e-6)
    smallest = np.finfo(np.float32).tiny
    for leaf in tree.leaves(state[1:]):
        sizes = np.abs(leaf)
        assert not np.any((sizes > 0) & (sizes < smallest))
    assert not np.any(state[1]["a"])


COUNTED = {
    "adam": F.scale_by_adam(epsilon=1e-30),
    "nadam": F.scale_by_nadam(epsilon=1e-30),
    "adamax": F.scale_by_adamax(epsilon=1e-30),
    "adadelta": F.scale_by_adadelta(epsilon=1e-30),
}


@pytest.mark.parametrize("size", [3e-16, 1e-17, 1e-18])
@pytest.mark.parametrize("part", COUNTED.values(), ids=COUNTED)
def test_tiny_and_rare_gradients_update_as_in_float64(part, size):
    def updates(dtype):
        p = np.zeros(4, dtype)
        state, bare, found = part.init(p), part.init(p), []
        for i in range(400):
            # The zeros of the last ones include the updates at which slots are cleared.
            g = np.array([1, -2, i % 2 == 0, i % 130 < 5], dtype) * dtype(size)
            u, state = part.update(g, state, p)
            again, bare = overwritten(part, g, bare, p)
            assert exactly(u, again)
            found.append(u)
        return np.array(found)

    expected = updates(np.float64)
    largest = np.abs(expected).max(0)
    np.testing.assert_allclose(updates(np.float32) / largest, expected / largest, atol=3e-5)


def test_tiny_gradients_make_steps_of_one_size_with_nadam():
    optimizer, w = F.nadam(1.0, epsilon=1e-30), np.zeros(1, np.float32)
    state = optimizer.init(w)
    for i in range(300):
        u, state = optimizer.update(np.full(1, 3e-16, np.float32), state, w)
        assert i < 120 or abs(u[0] + 1) < 1e-3
