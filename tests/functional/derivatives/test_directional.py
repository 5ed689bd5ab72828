"""Derivatives along directions, over the table of layers: against `backward`, and differences."""

import functools

import numpy as np
import pytest
from arrays import read_only, same_bits
from cases import CASES

import npdl.functional as F
from npdl import random, tree

MODES = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
KEY = (5,)
try:
    from function_cases import FUNCTIONS
except ModuleNotFoundError:  # autograd is not installed
    FUNCTIONS = {}
each_layer = pytest.mark.parametrize(
    "case",
    [*CASES.values(), *FUNCTIONS.values()],
    ids=[*CASES, *(f"function, {name}" for name in FUNCTIONS)],
)


def is_float(leaf):
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"


def direction(values, seed):
    """Return normal numbers for the floats of a tree, and zeros for the other leaves."""
    generator = random.generator(seed)

    def along(leaf):
        return generator.normal(size=leaf.shape) if is_float(leaf) else np.zeros(np.shape(leaf))

    return tree.map(along, values)


def setting(case, batch=3):
    return case.params(np.float64), tree.astype(case.x(batch), np.float64)


def dot(a, b):
    """Return the scalar product of two trees, in which `None` is zero."""
    pairs = zip(tree.aligned(a, b), tree.leaves(b), strict=True)
    return sum(float(np.sum(one * other)) for one, other in pairs if one is not None)


def trained(params, grads, along):
    """Return a direction with zeros for the parameters without a gradient."""
    pairs = zip(tree.aligned(grads, params), tree.leaves(along), strict=True)
    return tree.unflatten(params, [a if g is not None else np.zeros_like(a) for g, a in pairs])


@each_layer
@MODES
def test_the_pushforward_is_the_transpose_of_backward(case, train):
    params, x = read_only(setting(case))
    mode = {"train": train, "rng": KEY if train else None}
    y, cache = case.layer.apply(params, x, **mode)
    g = direction(y, 3)
    grads, gx = case.layer.backward(params, cache, g)
    dparams, dx = trained(params, grads, direction(params, 4)), direction(x, 5)
    same_y, dy = F.jvp(case.layer)(params, x, dparams, dx, **mode)
    for ours, expected in zip(tree.leaves(same_y), tree.leaves(y), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)
    expected = dot(grads, dparams) + dot(gx, dx)
    assert dot(dy, g) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@each_layer
@MODES
def test_the_pushforward_agrees_with_central_differences(case, train):
    params, x = setting(case)
    mode = {"train": train, "rng": KEY if train else None}
    y, cache = case.layer.apply(params, x, **mode)
    dparams = trained(params, case.layer.backward(params, cache, y)[0], direction(params, 4))
    dx = direction(x, 5)
    _, dy = F.jvp(case.layer)(params, x, dparams, dx, **mode)
    step = 1e-6

    def moved(by):
        ends = tree.map(
            lambda leaf, along: leaf + by * along if is_float(leaf) else leaf,
            (params, x),
            (dparams, dx),
        )
        return case.layer.apply(*ends, **mode)[0]

    ahead, behind = moved(step), moved(-step)
    for found, after, before in zip(*map(tree.leaves, (dy, ahead, behind)), strict=True):
        numeric = (after - before) / (2 * step)
        np.testing.assert_allclose(found, numeric, atol=2e-7 * max(1, np.abs(numeric).max()))


def sum_of_squares(y, *targets):
    """A loss that is not linear in any output: the sum of cos(y)."""
    value = sum(np.sum(np.cos(part)) for part in tree.leaves(y))
    return value, tree.map(lambda part: -np.sin(part), y)


@F.layer
def scaled():
    """Multiply each number of an example by a parameter, so that the next layer's input moves."""

    def init(rng, shape):
        return {"a": np.ones(shape, np.float32)}

    def apply(params, x):
        return params["a"] * x, x

    def backward(params, x, g):
        return {"a": np.sum(g * x, axis=0)}, params["a"] * g

    return F.Layer(init, apply, backward, lambda shape: shape)


def behind_parameters(case, params, x):
    """Return a model in which the inputs of a layer depend on parameters, and its parameters."""
    if not isinstance(x, tuple):
        if not is_float(x):
            return case.layer, params
        return F.serial(scaled(), case.layer), ({"a": np.ones(x.shape[1:])}, params)
    names = tuple(f"x{i}" for i in range(len(x)))
    nodes, given, own = {}, [], {"layer": params}
    for name, part in zip(names, x, strict=True):
        given.append(name)
        if is_float(part):
            nodes[f"a{name}"] = (scaled(), name)
            own[f"a{name}"] = {"a": np.ones(part.shape[1:])}
            given[-1] = f"a{name}"
    nodes["layer"] = (case.layer, tuple(given))
    return F.graph(names, nodes, "layer"), own


@each_layer
@MODES
def test_hessian_products_are_symmetric_and_derivatives_of_gradients(case, train):
    params, x = read_only(setting(case))
    mode = {"train": train, "rng": KEY if train else None}
    model, params = behind_parameters(case, params, x)

    def gradient(params):
        return F.value_and_grad(model, sum_of_squares)(params, x, **mode)[1]

    grads = gradient(params)
    u, v = (trained(params, grads, direction(params, seed)) for seed in (6, 7))
    product = F.hvp(model, sum_of_squares)
    hu, hv = (product(params, along, x, **mode) for along in (u, v))
    missing = [leaf is None for leaf in tree.aligned(grads, params)]
    assert [leaf is None for leaf in tree.aligned(hv, params)] == missing
    assert dot(hv, u) == pytest.approx(dot(hu, v), rel=1e-8, abs=1e-8)
    step = 1e-5
    ends = [gradient(tree.map(lambda p, a: p + by * a, params, v)) for by in (step, -step)]  # noqa: B023
    for found, after, before in zip(*map(tree.leaves, (hv, *ends)), strict=True):
        numeric = (after - before) / (2 * step)
        np.testing.assert_allclose(found, numeric, atol=1e-6 * max(1, np.abs(numeric).max()))


@each_layer
@MODES
def test_mixed_derivatives_are_derivatives_of_gradients_along_the_input(case, train):
    params, x = read_only(setting(case))
    mode = {"train": train, "rng": KEY if train else None}
    v, dx = direction(params, 6), direction(x, 7)
    grads = F.value_and_grad(case.layer, sum_of_squares)(params, x, **mode)[1]
    v = trained(params, grads, v)
    found = F.hvp(case.layer, sum_of_squares)(params, v, x, dx=dx, **mode)
    step = 1e-5

    def gradient(by):
        ends = tree.map(
            lambda leaf, along: leaf + by * along if is_float(leaf) else leaf, (params, x), (v, dx)
        )
        return F.value_and_grad(case.layer, sum_of_squares)(*ends, **mode)[1]

    for ours, after, before in zip(
        *map(tree.leaves, (found, gradient(step), gradient(-step))), strict=True
    ):
        numeric = (after - before) / (2 * step)
        np.testing.assert_allclose(ours, numeric, atol=1e-6 * max(1, np.abs(numeric).max()))


@each_layer
def test_the_directional_derivatives_have_the_same_bits_twice(case):
    params, x = setting(case)
    along = direction(params, 1), direction(x, 2)
    first, second = (F.jvp(case.layer)(params, x, *along, train=True, rng=KEY) for _ in range(2))
    assert same_bits(first, second)


LOSSES = {
    "mean_squared_error": (F.mean_squared_error, "values"),
    "mean_absolute_error": (F.mean_absolute_error, "values"),
    "huber": (F.huber, "values"),
    "sigmoid_cross_entropy": (F.sigmoid_cross_entropy, "binary"),
    "softmax_cross_entropy": (F.softmax_cross_entropy, "classes"),
    "softmax_cross_entropy of probabilities": (F.softmax_cross_entropy, "probabilities"),
    "smoothed softmax_cross_entropy": (
        lambda y, t: F.softmax_cross_entropy(y, t, label_smoothing=0.2),
        "classes",
    ),
    "binary_cross_entropy": (F.binary_cross_entropy, "binary"),
    "categorical_cross_entropy": (F.categorical_cross_entropy, "classes"),
    "hellinger_distance": (F.hellinger_distance, "classes"),
    "kl_divergence": (F.kl_divergence, "probabilities"),
    "poisson_nll": (F.poisson_nll, "binary"),
    "focal_loss": (F.focal_loss, "binary"),
    "cosine_distance": (F.cosine_distance, "values"),
    "quantile_loss": (functools.partial(F.quantile_loss, level=0.8), "values"),
}


def targets_of(kind, shape):
    generator = random.generator(11)
    if kind == "values":
        return generator.normal(size=shape)
    if kind == "binary":
        return generator.integers(0, 2, shape)
    if kind == "classes":
        return generator.integers(0, shape[1], shape[0])
    return generator.dirichlet(np.ones(shape[1]), shape[0])


@pytest.mark.parametrize("rows", [4, 2100], ids=["few", "many"])
@pytest.mark.parametrize("weighted", [False, True], ids=["mean", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_hessian_products(name, weighted, rows):
    loss, kind = LOSSES[name]
    head = (
        F.softmax()
        if name in ("categorical_cross_entropy", "hellinger_distance")
        else (F.sigmoid() if name == "binary_cross_entropy" else F.linear())
    )
    model = F.serial(F.dense(5), F.tanh(), F.dense(40 if rows > 9 else 3), head)
    params = tree.astype(model.init(0, (2,)), np.float64)
    x = random.generator(1).normal(size=(rows, 2))
    targets = [targets_of(kind, model(params, x).shape)]
    if weighted:
        if name == "smoothed softmax_cross_entropy":
            pytest.skip("the wrapped loss takes no weights")
        targets.append((np.arange(rows) % 3).astype(float))
    u, v = direction(params, 2), direction(params, 3)
    product = F.hvp(model, loss)
    hu, hv = (product(params, along, x, *targets) for along in (u, v))
    assert dot(hv, u) == pytest.approx(dot(hu, v), rel=1e-8, abs=1e-10)
    if name in ("mean_absolute_error", "huber", "quantile_loss"):
        return  # a difference may cross a corner
    if name == "cosine_distance" and rows > 9:
        return  # of so many vectors, some are short, and their differences inaccurate

    def gradient(by):
        moved = tree.map(lambda p, a: p + by * a, params, v)
        return F.value_and_grad(model, loss)(moved, x, *targets)[1]

    step = 1e-5
    numeric = tree.map(lambda a, b: (a - b) / (2 * step), gradient(step), gradient(-step))
    for found, expected in zip(tree.leaves(hv), tree.leaves(numeric), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-7 * max(1, np.abs(expected).max()))


CORNERS = {
    "relu": F.relu(),
    "leaky_relu": F.leaky_relu(0.3),
    "elu": F.elu(1.7),
    "selu": F.selu(),
    "softplus": F.softplus(),
    "softsign": F.softsign(),
    "hard_tanh": F.hard_tanh(),
    "hard_sigmoid": F.hard_sigmoid(),
    "hard_silu": F.hard_silu(),
    "silu": F.silu(),
    "gelu": F.gelu(),
    "mish": F.mish(),
}


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("size", [7, 5000])
def test_at_a_corner_the_pushforward_has_the_derivative_of_backward(name, size):
    layer = CORNERS[name]
    x = np.resize(np.array([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 0.5]), (1, size))
    _, cache = layer.apply((), x)
    for dx in (np.ones_like(x), -np.ones_like(x)):
        _, expected = layer.backward((), cache, dx)
        _, dy = F.jvp(layer)((), x, None, dx)
        np.testing.assert_allclose(dy, expected, atol=1e-12)


def test_of_equal_maxima_the_first_one_counts():
    x = np.zeros((1, 2, 4, 4))
    for layer in (F.max_pool2d(2), F.max_pool2d(3, stride=1), F.global_max_pool()):
        dx = random.generator(1).normal(size=x.shape)
        y, cache = layer.apply((), x)
        g = np.ones_like(y)
        _, gx = layer.backward((), cache, g)
        _, dy = F.jvp(layer)((), x, None, dx)
        assert np.sum(dy * g) == pytest.approx(np.sum(gx * dx))


def test_the_gauss_newton_product_is_that_of_the_matrices():
    model = F.serial(F.dense(3), F.tanh(), F.dense(2))
    params = tree.astype(model.init(0, (4,)), np.float64)
    x, t = random.generator(1).normal(size=(5, 4)), np.array([0, 1, 1, 0, 1])
    point, unravel = tree.ravel(params)
    push = F.jvp(model)
    jacobian = np.stack(
        [push(params, x, unravel(e), None)[1].ravel() for e in np.eye(point.size)], axis=1
    )
    p = F.softmax()((), model(params, x))
    of_loss = np.zeros((10, 10))
    for i in range(5):
        block = slice(2 * i, 2 * i + 2)
        of_loss[block, block] = (np.diag(p[i]) - np.outer(p[i], p[i])) / 5
    v = random.generator(2).normal(size=point.size)
    found = F.gauss_newton_vp(model, F.softmax_cross_entropy)(params, unravel(v), x, t)
    expected = jacobian.T @ of_loss @ jacobian @ v
    np.testing.assert_allclose(tree.ravel(found)[0], expected, atol=1e-14)


def test_for_a_linear_model_hessian_and_gauss_newton_products_agree():
    model = F.serial(F.conv2d(3, 2), F.flatten(), F.dense(2))
    params = tree.astype(model.init(0, (2, 4, 3)), np.float64)
    frozen = F.serial(F.freeze(F.conv2d(3, 2)), F.flatten(), F.dense(2))
    x, t = random.generator(1).normal(size=(5, 2, 4, 3)), random.generator(2).normal(size=(5, 2))
    v = direction(params, 3)
    of_hessian = F.hvp(frozen, F.mean_squared_error)(params, v, x, t)
    of_gauss_newton = F.gauss_newton_vp(frozen, F.mean_squared_error)(params, v, x, t)
    assert of_hessian[0] is of_gauss_newton[0] is None
    # The direction of the frozen part counts, too: without it both products agree.
    v = (None, *v[1:])
    of_hessian = F.hvp(frozen, F.mean_squared_error)(params, v, x, t)
    of_gauss_newton = F.gauss_newton_vp(frozen, F.mean_squared_error)(params, v, x, t)
    assert tree.all_close(of_hessian[2], of_gauss_newton[2], 1e-12)


def test_float32_gives_float32():
    model = F.serial(F.dense(3), F.gelu(), F.layer_norm(), F.dense(2))
    params = model.init(0, (4,))
    x, t = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    y, dy = F.jvp(model)(params, x, params, x)
    assert y.dtype == dy.dtype == np.float32
    np.testing.assert_allclose(y, model(params, x), rtol=1e-5, atol=1e-6)
    for product in (F.hvp, F.gauss_newton_vp):
        u = product(model, F.mean_squared_error)(params, params, x, t)
        assert {leaf.dtype for leaf in tree.leaves(u)} == {np.dtype(np.float32)}


def test_a_direction_of_another_form_is_refused_with_its_path():
    model = F.serial(F.dense(3), F.dense(2))
    params = model.init(0, (4,))
    x = np.ones((5, 4), np.float32)
    wrong = (None, {"weight": None, "bias": np.ones((1, 2))})
    with pytest.raises(ValueError, match=r"dparams at 1/bias must have the shape \(2,\), got"):
        F.jvp(model)(params, x, wrong, None)
    with pytest.raises(ValueError, match=r"dx at the root must have the shape \(5, 4\), got"):
        F.jvp(model)(params, x, None, np.ones(4))
    with pytest.raises(ValueError, match=r"the trees differ at"):
        F.hvp(model, F.mean_squared_error)(params, (None,), x, np.zeros((5, 2), np.float32))
    with pytest.raises(TypeError, match=r"hvp: expected a loss"):
        F.hvp(model, 3)
    with pytest.raises(TypeError, match=r"jvp: argument 0 is 3, not a layer"):
        F.jvp(3)


@F.layer
def users_own(by=2.0):
    """A layer with functions that are not analytic: y = a |x| sign(x) max(x, 0) std(x)."""

    def parts_of(x):
        spread = np.std(x, axis=-1, keepdims=True)
        return np.abs(x) * np.sign(x), np.maximum(x, 0), spread

    def apply(params, x):
        linear, positive, spread = parts_of(x)
        return params["a"] * linear * positive * spread + np.where(x > 0.5, x, 0.1 * x), x

    def backward(params, x, g):
        linear, positive, spread = parts_of(x)
        n = x.shape[-1]
        centered = x - x.mean(axis=-1, keepdims=True)
        of_spread = np.sum(g * params["a"] * linear * positive, axis=-1, keepdims=True)
        dx = g * params["a"] * spread * 2 * positive + of_spread * centered / (n * spread)
        dx = dx + np.where(x > 0.5, g, 0.1 * g)
        return {"a": np.sum(g * linear * positive * spread)}, dx

    return F.Layer(lambda rng, shape: {"a": np.full((), by, np.float32)}, apply, backward)


def test_a_layer_of_the_user_needs_no_rule():
    layer = users_own()
    model = F.serial(F.conv1d(3, 2), layer, F.flatten(), F.dense(2))
    params = tree.astype(model.init(0, (2, 6)), np.float64)
    x, t = random.generator(1).normal(size=(4, 2, 6)), np.array([0, 1, 1, 0])
    y, cache = model.apply(params, x)
    g = random.generator(2).normal(size=y.shape)
    grads, gx = model.backward(params, cache, g)
    dparams, dx = direction(params, 3), direction(x, 4)
    _, dy = F.jvp(model)(params, x, dparams, dx)
    assert np.sum(dy * g) == pytest.approx(dot(grads, dparams) + dot(gx, dx), rel=1e-10)
    u, v = direction(params, 5), direction(params, 6)
    product = F.hvp(model, F.softmax_cross_entropy)
    assert dot(product(params, u, x, t), v) == pytest.approx(
        dot(product(params, v, x, t), u), rel=1e-9
    )


def test_complex_arrays_are_still_refused():
    x = np.ones((2, 3), complex)
    for layer in (F.dense(2), F.relu(), F.layer_norm(), F.lstm(2)):
        shape = (4, 3) if layer == F.lstm(2) else (3,)
        params = layer.init(0, shape)
        with pytest.raises((TypeError, ValueError)):
            layer(params, np.ones((2, *shape), complex))
        with pytest.raises((TypeError, ValueError)):
            layer(tree.map(lambda leaf: leaf.astype(complex), params), x)
    with pytest.raises(TypeError):
        F.mean_squared_error(x, x)


@F.layer
def undeclared():
    """A combinator of the user's, without parts."""
    first, second = F.conv1d(3, 2), F.dense(2)

    def init(rng, shape):
        return {"a": first.init(rng, shape), "b": second.init(rng, (3, shape[1] - 1))}

    def apply(params, x):
        y, one = first.apply(params["a"], x)
        y, two = second.apply(params["b"], y)
        return y, (one, two)

    def backward(params, cache, g):
        b, g = second.backward(params["b"], cache[1], g)
        a, g = first.backward(params["a"], cache[0], g)
        return {"a": a, "b": b}, g

    return F.Layer(init, apply, backward)


def test_a_combinator_without_parts_computes_or_names_the_way_out():
    layer = undeclared()
    params, x = layer.init(0, (2, 5)), np.ones((3, 2, 5), np.float32)
    with pytest.raises(TypeError, match=r"for F.jvp, declare the F.parts of your own combinator"):
        F.jvp(layer)(params, x, params, None)
