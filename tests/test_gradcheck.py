import numpy as np
import pytest
from arrays import read_only

import npdl.functional as F
from npdl import tree
from npdl.gradcheck import check_gradients

SHAPE = (3,)


def layer(backward, apply=None, init=None):
    """A dense layer of 3 features and 5 units with another backward."""
    good = F.dense(5)
    return F.Layer(init or good.init, apply or good.apply, backward)


def right(params, x, g):
    return {"weight": x.T @ g, "bias": g.sum(axis=0)}, g @ params["weight"].T


def changed(**changes):
    """The right gradients but for the passed names, each a function of (params, x, g)."""

    def backward(params, x, g):
        grads, dx = right(params, x, g)
        grads |= {name: f(params, x, g) for name, f in changes.items() if name != "dx"}
        return grads, changes["dx"](params, x, g) if "dx" in changes else dx

    return backward


# Faults that tests of other projects missed, each with the path in the error.
WRONG = {
    "a mean for a sum": (changed(bias=lambda p, x, g: g.mean(axis=0)), "params bias is wrong"),
    "a sum of all": (
        changed(weight=lambda p, x, g: x.sum() * g.sum() * np.ones_like(p["weight"])),
        "params weight is wrong",
    ),
    "zeros for the weight": (
        changed(weight=lambda p, x, g: np.zeros_like(p["weight"])),
        "params weight is wrong",
    ),
    "zeros for all": (
        lambda p, x, g: (tree.map(np.zeros_like, p), np.zeros_like(x)),
        "params bias is wrong",
    ),
    "zeros for the input": (changed(dx=lambda p, x, g: np.zeros_like(x)), "input is wrong"),
    "the input's missing": (changed(dx=lambda p, x, g: None), "input is missing"),
    "wrong for the input": (changed(dx=lambda p, x, g: -(g @ p["weight"].T)), "input is wrong"),
    "twice for the input": (changed(dx=lambda p, x, g: 2 * g @ p["weight"].T), "input is wrong"),
    "the input's examples mixed up": (
        changed(dx=lambda p, x, g: (g @ p["weight"].T)[::-1]),
        "input is wrong",
    ),
    "right for a gradient of ones only": (
        changed(weight=lambda p, x, g: x.T @ np.ones_like(g)),
        "params weight is wrong",
    ),
    "one element wrong": (
        changed(weight=lambda p, x, g: x.T @ g + 1e-3 * (np.arange(15).reshape(3, 5) == 7)),
        "params weight is wrong",
    ),
    "a weight that is transposed": (
        changed(weight=lambda p, x, g: (x.T @ g).T),
        r"params weight has shape \(5, 3\), not \(3, 5\)",
    ),
    "a bias that broadcasts": (
        changed(bias=lambda p, x, g: g.sum(axis=0, keepdims=True)),
        r"params bias has shape \(1, 5\), not \(5,\)",
    ),
    "a number for the bias": (
        changed(bias=lambda p, x, g: g.sum()),
        r"params bias has shape \(\), not \(5,\)",
    ),
    "an input that broadcasts": (
        changed(dx=lambda p, x, g: (g @ p["weight"].T)[:1]),
        r"input has shape \(1, 3\), not \(3, 3\)",
    ),
    "NaN for the bias": (
        changed(bias=lambda p, x, g: np.full(5, np.nan)),
        "params bias is wrong: .* backward says nan",
    ),
    "NaN for one input": (
        changed(dx=lambda p, x, g: np.where(np.arange(3) == 1, np.nan, g @ p["weight"].T)),
        "input is wrong",
    ),
    "infinity": (changed(bias=lambda p, x, g: np.full(5, np.inf)), "params bias is wrong"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("backward", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_gradient_is_found_and_named(backward, message, train):
    check_gradients(layer(right), SHAPE, train=train)
    with pytest.raises(AssertionError, match=f"the gradient of {message}"):
        check_gradients(layer(backward), SHAPE, train=train)


@pytest.mark.parametrize("seed", range(20))
def test_every_seed_finds_it(seed):
    check_gradients(layer(right), SHAPE, rng=seed)
    for name in ("a mean for a sum", "one element wrong", "wrong for the input"):
        with pytest.raises(AssertionError, match="is wrong"):
            check_gradients(layer(WRONG[name][0]), SHAPE, rng=seed, directions=1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_wrong_layer_is_found_amid_right_ones(place):
    broken = layer(changed(bias=lambda p, x, g: g.mean(axis=0)))
    parts = [F.dense(3), F.dense(3), F.dense(3)]
    check_gradients(F.serial(*parts), SHAPE)
    parts[place] = broken
    with pytest.raises(AssertionError, match=f"the gradient of params {place}/bias is wrong"):
        check_gradients(F.serial(*parts[: place + 1]), SHAPE)


def test_the_bias_is_not_left_at_zero_where_errors_hide():
    """y = b² x has no gradient in b at its initial value, zero."""

    def init(rng, shape):
        return {"b": np.zeros((), np.float32)}

    def apply(params, x):
        return params["b"] ** 2 * x, x

    def backward(params, x, g):
        return {"b": np.sum(g * x) * params["b"] * 3}, params["b"] ** 2 * g

    with pytest.raises(AssertionError, match="params b is wrong"):
        check_gradients(layer(backward, apply, init), SHAPE)


def two_inputs(wrong_at=None):
    """y = a b, of two inputs."""

    def backward(params, cache, g):
        a, b = cache
        parts = [g * b, g * a]
        if wrong_at is not None:
            parts[wrong_at] = parts[1 - wrong_at]
        return (), tuple(parts)

    return F.Layer(lambda rng, shape: (), lambda params, x: (x[0] * x[1], x), backward)


def test_each_of_several_inputs_is_checked():
    check_gradients(two_inputs(), ((3, 2), (3, 2)))
    for i in (0, 1):
        with pytest.raises(AssertionError, match=f"the gradient of input {i} is wrong"):
            check_gradients(two_inputs(wrong_at=i), ((3, 2), (3, 2)))


def test_each_of_several_outputs_counts():
    def backward(params, x, g):
        return (), 2 * g[0] + (0 if wrong else 3 * g[1])

    both = F.Layer(lambda rng, shape: (), lambda params, x: ((2 * x, 3 * x), x), backward)
    wrong = False
    check_gradients(both, SHAPE)
    wrong = True
    with pytest.raises(AssertionError, match="input is wrong"):
        check_gradients(both, SHAPE)


def test_inputs_other_than_floats_may_lack_a_gradient():
    def backward(params, ids, g):
        table = np.zeros_like(params["table"])
        np.add.at(table, ids, g)
        return {"table": table}, None

    def init(rng, shape):
        return {"table": np.ones((4, 2), np.float32)}

    looked_up = F.Layer(init, lambda params, ids: (params["table"][ids], ids), backward)
    check_gradients(looked_up, SHAPE, x=np.array([[1, 0, 1], [3, 3, 3]]))


def test_untrained_leaves_are_not_changed():
    """A frozen 1 under a square root that noise would make negative or zero."""

    def init(rng, shape):
        return {"frozen": np.full((), 1e-9, np.float32), "a": np.ones((), np.float32)}

    def apply(params, x):
        assert params["frozen"] == np.float64(np.float32(1e-9))
        return params["a"] * np.sqrt(params["frozen"]) * x, x

    def backward(params, x, g):
        root = np.sqrt(params["frozen"])
        return {"frozen": None, "a": np.sum(g * x) * root}, params["a"] * root * g

    check_gradients(layer(backward, apply, init), SHAPE)


def test_gradients_for_other_parameters_than_there_are_raise():
    extra = changed(scale=lambda p, x, g: g.sum(axis=0))
    with pytest.raises(ValueError, match=r"the trees differ .* scale"):
        check_gradients(layer(extra), SHAPE)


def test_the_given_point_and_batch_are_used():
    seen = []

    def apply(params, x):
        seen.append((params["weight"].copy(), x.copy()))
        return F.dense(5).apply(params, x)

    params, x = F.dense(5).init(3, SHAPE), np.ones((4, 3), np.float32)
    check_gradients(layer(right, apply), SHAPE, x=x, params=params)
    assert np.array_equal(seen[0][0], params["weight"])
    assert np.array_equal(seen[0][1], x)
    assert seen[0][0].dtype == seen[0][1].dtype == np.float64
    seen.clear()
    check_gradients(layer(right, apply), SHAPE, batch=7)
    assert {x.shape for _, x in seen} == {(7, 3)}


def test_training_mode_uses_one_key_throughout():
    keys = []

    def apply(params, x, *, train, rng):
        keys.append((train, rng))
        return x * 2, None

    doubled = F.Layer(lambda rng, shape: (), apply, lambda params, cache, g: ((), 2 * g))
    check_gradients(doubled, SHAPE, train=True, rng=(4, 2))
    assert set(keys) == {(True, (4, 2))}
    keys.clear()
    check_gradients(doubled, SHAPE, rng=(4, 2))
    assert set(keys) == {(False, None)}


def test_a_dropout_layer_is_checked_with_its_mask():
    check_gradients(F.serial(F.dense(6), F.dropout(0.5), F.dense(2)), SHAPE, train=True)


def test_the_tolerance_decides():
    slightly = layer(changed(bias=lambda p, x, g: g.sum(axis=0) * 1.001))
    with pytest.raises(AssertionError, match="params bias is wrong"):
        check_gradients(slightly, SHAPE)
    check_gradients(slightly, SHAPE, tolerance=1e-2)


def test_nothing_given_is_changed():
    params, x = F.dense(5).init(3, SHAPE), np.ones((4, 3), np.float32)
    read_only((params, x))
    check_gradients(F.dense(5), SHAPE, x=x, params=params)
