"""Gradients of each example: over the table of layers, against a loop over batches of one."""

import functools

import numpy as np
import pytest
from arrays import read_only
from cases import CASES

import npdl.functional as F
from npdl import random, tree

try:
    from function_cases import FUNCTIONS
except ModuleNotFoundError:  # autograd is not installed
    FUNCTIONS = {}
each_layer = pytest.mark.parametrize(
    "case",
    [*CASES.values(), *FUNCTIONS.values()],
    ids=[*CASES, *(f"function, {name}" for name in FUNCTIONS)],
)


def loss_of(y, *targets):
    """A loss that is not linear in any output: the mean over the examples of Σ cos(y)."""
    count = len(tree.leaves(y)[0])
    value = sum(np.sum(np.cos(part)) for part in tree.leaves(y)) / count
    return value, tree.map(lambda part: -np.sin(part) / count, y)


def rows(values, i):
    return tree.map(lambda array: array[i : i + 1], values)


def looped(model, loss, params, x, *targets, **mode):
    """Return the gradients of batches of one example, stacked."""
    gradient = F.value_and_grad(model, loss)
    each = [
        gradient(params, rows(x, i), *(rows(t, i) for t in targets), **mode)[1]
        for i in range(len(tree.leaves(x)[0]))
    ]
    return tree.map(lambda *parts: np.stack(parts), *each)


def check(found, expected, tolerance=1e-10):
    assert tree.paths(found) == tree.paths(expected)
    for (path, ours), theirs in zip(tree.items(found), tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        scale = max(1.0, np.abs(theirs).max(initial=0))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, err_msg=path)


def norms_of(grads, count):
    squares = [np.sum(leaf.reshape(count, -1) ** 2, axis=1) for leaf in tree.leaves(grads)]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros(count)


@each_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_and_norms_agree_with_a_loop(case, dtype):
    params, x = read_only((case.params(dtype), tree.astype(case.x(5), dtype)))
    expected = looped(case.layer, loss_of, params, x)
    found = F.per_example_grads(case.layer, loss_of)(params, x)
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    check(found, expected, tolerance)
    if tree.leaves(expected):
        norms = F.per_example_norms(case.layer, loss_of)(params, x)
        assert norms.dtype == dtype
        scale = max(1.0, norms_of(expected, 5).max())
        np.testing.assert_allclose(norms, norms_of(expected, 5), rtol=0, atol=tolerance * scale)


@each_layer
def test_in_training_their_mean_is_the_gradient_of_the_batch(case):
    if case.statistics:
        pytest.skip("the statistics of a batch norm join the examples")
    params, x = case.params(np.float64), tree.astype(case.x(4), np.float64)
    _, expected, _ = F.value_and_grad(case.layer, loss_of)(params, x, train=True, rng=(5,))
    found = F.per_example_grads(case.layer, batch_mean)(params, x, train=True, rng=(5,))
    mean = tree.map(lambda array: array.mean(axis=0), found)
    check(mean, tree.unflatten(mean, [g for g in tree.aligned(expected, params) if g is not None]))


def batch_mean(y):
    """The loss of one example: the loop divides by one, not by the size of the batch."""
    return loss_of(y)


LOSSES = {
    "softmax_cross_entropy": (F.softmax_cross_entropy, lambda n: (np.arange(n) % 3,)),
    "label smoothing": (
        functools.partial(F.softmax_cross_entropy, label_smoothing=0.1),
        lambda n: (np.arange(n) % 3,),
    ),
    "weights": (F.softmax_cross_entropy, lambda n: (np.arange(n) % 3, 1.0 + np.arange(n))),
    "weights of zero": (F.mean_squared_error, lambda n: (np.ones((n, 3)), np.arange(n) % 2)),
    "per_example already": (
        functools.partial(F.huber, per_example=True),
        lambda n: (np.full((n, 3), 0.3),),
    ),
    "huber": (F.huber, lambda n: (np.full((n, 3), 0.3),)),
    "own": (lambda y, t: (np.sum(y**3 * t), 3 * y**2 * t), lambda n: (np.ones((n, 3)),)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_loss_of_one_example(name):
    loss, make = LOSSES[name]
    model = F.serial(F.dense(5), F.tanh(), F.dense(3))
    params = tree.astype(model.init(0, (4,)), np.float64)
    x, targets = random.generator(1).normal(size=(7, 4)), make(7)
    found = F.per_example_grads(model, loss)(params, x, *targets)
    single = loss.func if "already" in name else loss
    check(found, looped(model, single, params, x, *targets))


def test_several_inputs_and_outputs():
    model = F.graph(
        ("a", "b"),
        {
            "left": (F.dense(3), "a"),
            "right": (F.conv1d(2, 2), "b"),
            "flat": (F.flatten(), "right"),
            "both": (F.parallel(F.dense(2), F.dense(4), join="concatenate"), "left"),
        },
        ("both", "flat"),
    )
    shape = ((4,), (3, 5))
    params = tree.astype(model.init(0, shape), np.float64)
    x = tuple(random.generator(1).normal(size=(6, *part)) for part in shape)
    found = F.per_example_grads(model, loss_of)(params, x)
    check(found, looped(model, loss_of, params, x))


def test_shared_parameters_add_their_gradients_before_the_norm():
    tied = F.dense(4)

    def build():
        nodes = {"a": (tied, "x", ("w",)), "t": (F.tanh(), "a", None), "b": (tied, "t", ("w",))}
        parts = F.parts("x", nodes, "b")

        def apply(params, x):
            y, first = tied.apply(params["w"], x)
            z, second = F.tanh().apply((), y)
            y, third = tied.apply(params["w"], z)
            return y, (first, second, third)

        def backward(params, cache, g):
            one, g = tied.backward(params["w"], cache[2], g)
            _, g = F.tanh().backward((), cache[1], g)
            other, g = tied.backward(params["w"], cache[0], g)
            return {"w": tree.add(one, other)}, g

        return F.Layer(
            lambda rng, shape: {"w": tied.init(rng, shape)}, apply, backward, parts=parts
        )

    model = build()
    params = tree.astype(model.init(0, (4,)), np.float64)
    x = random.generator(1).normal(size=(5, 4))
    expected = looped(model, loss_of, params, x)
    check(F.per_example_grads(model, loss_of)(params, x), expected)
    norms = F.per_example_norms(model, loss_of)(params, x)
    np.testing.assert_allclose(norms, norms_of(expected, 5))


def test_a_batch_norm_in_training_is_refused():
    model = F.serial(F.dense(3), F.batch_norm())
    params, x = model.init(0, (4,)), np.ones((5, 4), np.float32)
    with pytest.raises(ValueError, match="each output depends on all examples of the batch"):
        F.per_example_grads(model, loss_of)(params, x, train=True)
    frozen = F.serial(F.dense(3), F.freeze(F.batch_norm()))
    trained = tree.map(np.ones_like, params)
    grads = F.per_example_grads(frozen, loss_of)(trained, x, train=True)
    assert grads[0]["weight"].shape == (5, 4, 3)
    assert grads[1] is None


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="per_example_grads: argument 0 is 3, not a layer"):
        F.per_example_grads(3, F.huber)
    with pytest.raises(TypeError, match="per_example_norms: expected a loss"):
        F.per_example_norms(F.dense(2), "mse")
    with pytest.raises(TypeError, match="per_example_grads: expected a loss"):
        F.per_example_grads(F.dense(2), None)


def test_layers_of_the_batch_are_applied_once():
    calls = []

    @F.layer
    def counted():
        def apply(params, x):
            calls.append(len(x))
            return x, None

        return F.Layer(lambda rng, shape: (), apply, lambda p, c, g: (None, g), lambda s: s)

    model = F.serial(F.conv2d(3, 2), counted(), F.flatten(), F.dense(4), counted(), F.dense(2))
    params = model.init(0, (2, 5, 4))
    x = np.ones((128, 2, 5, 4), np.float32)
    labels = np.arange(128) % 2
    calls.clear()
    F.per_example_grads(model, F.softmax_cross_entropy)(params, x, labels)
    assert calls == [128, 128]
