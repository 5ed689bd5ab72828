"""An ensemble has the bits of its models, over the table of layers."""

import numpy as np
import pytest
from arrays import normal, read_only, same_bits
from cases import CASES

import npdl.functional as F
from npdl import random, tree
from npdl.training import fit

KEY = (5,)
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def member(stacked, i):
    return tree.map(lambda leaf: leaf[i, ...], stacked)


def stacked(trees):
    return tree.map(lambda *leaves: np.stack(leaves), *trees)


def noisy(case, n):
    generator = random.generator(3)

    def moved(leaf):
        noise = generator.normal(0, 0.05, leaf.shape) ** 2
        return np.asarray(leaf + noise, leaf.dtype)

    params = case.params()
    return [tree.map(moved, params) for _ in range(n)]


def cotangent(y):
    generator = random.generator(9)
    return tree.map(lambda part: generator.normal(size=part.shape).astype(part.dtype), y)


@each_case
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_each_model_has_the_bits_of_a_single_one(case, train, batch):
    if train and batch == 1 and not case.empty:
        pytest.skip("the variance of one example is undefined")
    n, members = 3, noisy(case, 3)
    model, x = F.ensemble(case.layer, n), read_only(case.x(batch))
    params = read_only(stacked(members))
    y, cache = model.apply(params, x, train=train, rng=KEY if train else None)
    g = cotangent(y)
    grads, dx = model.backward(params, cache, g)
    of_params, none = model.backward(params, cache, g, input_grad=False)
    fresh = model.update_stats(params, cache)
    assert none is None
    total = None
    for i, own in enumerate(members):
        key = random.fold(KEY, i) if train else None
        its_y, its_cache = case.layer.apply(own, x, train=train, rng=key)
        its_grads, its_dx = case.layer.backward(own, its_cache, member(g, i))
        assert same_bits(member(y, i), its_y)
        assert same_bits(member(grads, i), its_grads)
        assert same_bits(member(of_params, i), its_grads)
        assert same_bits(member(fresh, i), case.layer.update_stats(own, its_cache))
        total = tree.add(total, its_dx)
    for ours, expected in zip(tree.leaves(dx), tree.leaves(total), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 4, 3), (5, 1, 3), (5, 4, 1), (64, 33, 17)])
def test_dense_layers_have_the_same_bits_for_all_sizes(sizes):
    batch, features, units = sizes
    layer = F.dense(units)
    model = F.ensemble(F.serial(layer, F.relu(), F.dense(3)), 4)
    single = F.serial(layer, F.relu(), F.dense(3))
    params, x = model.init(1, (features,)), normal(batch, features)
    y, cache = model.apply(params, x)
    g = normal(*y.shape, seed=1)
    grads, _ = model.backward(params, cache, g)
    for i in range(4):
        own = single.init(random.fold(1, i), (features,))
        assert same_bits(own, member(params, i))
        its_y, its_cache = single.apply(own, x)
        assert same_bits(y[i], its_y)
        assert same_bits(single.backward(own, its_cache, g[i])[0], member(grads, i))


def test_trained_together_each_model_has_the_bits_of_a_model_trained_alone():
    x, labels = normal(60, 4), np.arange(60) % 3
    single = F.serial(F.dense(8), F.tanh(), F.dense(3))

    def of_all(outputs, labels):
        value, g = F.softmax_cross_entropy(outputs, np.broadcast_to(labels, outputs.shape[:2]))
        return value, g * np.float32(4)

    four = F.ensemble(single, 4)
    params = four.init(2, (4,))
    options = {"epochs": 2, "batch_size": 20, "progress": False, "shuffle": False}
    together, _ = fit(four, of_all, F.sgd(0.1), (x, labels), params=params, **options)
    for i in range(4):
        own = member(params, i)
        alone, _ = fit(
            single, F.softmax_cross_entropy, F.sgd(0.1), (x, labels), params=own, **options
        )
        for ours, expected in zip(
            tree.leaves(member(together.params, i)), tree.leaves(alone.params), strict=True
        ):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_layers_of_all_models_are_applied_once():
    calls = []

    @F.layer
    def counted():
        def apply(params, x):
            calls.append(x.shape)
            return x, None

        return F.Layer(lambda rng, shape: (), apply, lambda p, c, g: (None, g), lambda s: s)

    model = F.ensemble(F.serial(F.dense(4), counted(), F.relu()), 3)
    model(model.init(0, (2,)), np.ones((5, 2), np.float32))
    assert calls == [(5, 4)] * 3  # a layer of the user's, which may join examples


def test_derivatives_along_directions_pass_through_an_ensemble():
    inner = F.serial(F.conv1d(3, 2), F.gelu(), F.flatten(), F.dense(2))
    model = F.ensemble(inner, 3)
    params = tree.astype(model.init(0, (2, 5)), np.float64)
    x = normal(4, 2, 5, dtype=np.float64)
    v = tree.map(lambda leaf: normal(*leaf.shape, seed=2, dtype=np.float64), params)
    _, dy = F.jvp(model)(params, x, v, x)
    for i in range(3):
        _, expected = F.jvp(inner)(member(params, i), x, member(v, i), x)
        np.testing.assert_allclose(dy[i], expected, atol=1e-13)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="ensemble: argument 0 is 3, not a layer"):
        F.ensemble(3, 2)
    with pytest.raises(ValueError, match="ensemble: n must be a positive int"):
        F.ensemble(F.dense(2), 0)
    model = F.ensemble(F.dense(2), 3)
    params = model.init(0, (4,))
    with pytest.raises(TypeError, match="nothing is promoted silently"):
        model(params, np.ones((5, 4)))
    with pytest.raises(ValueError, match="these params take 4 features"):
        model(params, np.ones((5, 3), np.float32))
    with pytest.raises(ValueError, match="the model as first axis"):
        F.per_example_grads(model, F.mean_squared_error)(
            params, np.ones((5, 4), np.float32), np.ones((3, 5, 2), np.float32)
        )
