"""Losses of tuples of outputs, of regions and of actions: one table, checked in float64."""

import functools

import attrs
import numpy as np
import pytest
from arrays import read_only

import npdl.functional as F
from npdl import random, tree
from npdl.gradcheck import check_loss


@attrs.frozen
class Case:
    """A loss, its number of outputs, the kinds of its targets and the axes of an item."""

    loss: object
    outputs: int = 1
    targets: tuple = ()
    axes: int = 0
    alone: bool = True  # the loss of an example does not depend on the others

    def arrays(self, shape, dtype=np.float64, seed=0):
        """Outputs of the shape, and targets."""
        generator = random.generator((seed, 3))
        outputs = tuple(generator.normal(size=shape).astype(dtype) for _ in range(self.outputs))
        if self.targets == ("region",):
            outputs = (generator.uniform(0.05, 0.95, shape).astype(dtype),)
        make = {
            "real": lambda: generator.normal(size=shape).astype(dtype),
            "region": lambda: generator.integers(0, 2, shape),
            "actions": lambda: generator.integers(0, shape[-1], shape[:-1]),
            "advantages": lambda: generator.normal(size=shape[:-1]).astype(dtype),
        }
        outputs = outputs if self.outputs > 1 else outputs[0]
        return read_only((outputs, tuple(make[kind]() for kind in self.targets)))

    def weights(self, shape):
        """No weights, and weights for each number of leading axes, one of them zero."""
        yield None
        for axes in range(1, len(shape) - self.axes + 1):
            weights = random.generator(3).uniform(0.5, 2, shape[:axes])
            weights.reshape(-1)[1] = 0
            yield weights


CASES = {
    "gaussian_nll": (Case(F.gaussian_nll, 2, ("real",)), [(4,), (4, 3), (2, 5, 3)]),
    "triplet_loss": (Case(F.triplet_loss, 3, axes=1), [(4, 3), (2, 5, 3), (3, 40)]),
    "info_nce": (Case(F.info_nce, 2, axes=1, alone=False), [(4, 3), (7, 5), (40, 3)]),
    "info_nce, warm": (
        Case(functools.partial(F.info_nce, temperature=1.5), 2, axes=1, alone=False),
        [(5, 4)],
    ),
    "dice_loss": (Case(F.dice_loss, targets=("region",), axes=1), [(4, 3)]),
    "dice_loss of images": (Case(F.dice_loss, targets=("region",), axes=3), [(4, 2, 3, 5)]),
    "policy_gradient_loss": (
        Case(F.policy_gradient_loss, targets=("actions", "advantages"), axes=1),
        [(4, 3), (2, 5, 3), (3, 40)],
    ),
}
ROWS = {f"{n}, {s}": (case, s) for n, (case, shapes) in CASES.items() for s in shapes}

each = pytest.mark.parametrize(("case", "shape"), ROWS.values(), ids=ROWS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def part(value, index):
    return tree.map(lambda leaf: leaf[index], value)


def close(found, expected, tolerance=1e-12):
    for a, b in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@each
def test_the_gradient_agrees_with_central_differences(case, shape):
    outputs, targets = case.arrays(shape)
    for weights in case.weights(shape):
        check_loss(case.loss, outputs, *targets, weights)
        assert all(np.linalg.norm(g) > 1e-3 for g in tree.leaves(case.loss(outputs, *targets)[1]))


@each
def test_weights_make_a_weighted_mean(case, shape):
    if not case.alone:
        pytest.skip("the loss of an example depends on the others")
    outputs, targets = case.arrays(shape)
    for weights in list(case.weights(shape))[1:]:
        values = [
            case.loss(*(part(v, (*i[:-1], slice(i[-1], i[-1] + 1))) for v in (outputs, *targets)))
            for i in np.ndindex(weights.shape)
        ]
        expected = np.average([value for value, _ in values], weights=weights.reshape(-1))
        assert case.loss(outputs, *targets, weights)[0] == pytest.approx(expected, rel=1e-12)


@each
def test_each_value_is_the_loss_of_the_example(case, shape):
    outputs, targets = case.arrays(shape)
    for weights in case.weights(shape):
        values, g = case.loss(outputs, *targets, weights, per_example=True)
        assert values.shape == shape[:1]
        if weights is None:
            loss, gradient = case.loss(outputs, *targets)
            assert values.mean() == pytest.approx(loss, rel=1e-12)
            close(tree.map(lambda leaf: leaf / shape[0], g), gradient)
        for i in range(shape[0] if case.alone else 0):
            rows = slice(i, i + 1)
            w = None if weights is None else weights[rows]
            arguments = (part(v, rows) for v in (outputs, *targets))
            value, alone = case.loss(*arguments, w)
            assert values[i] == pytest.approx(value, rel=1e-12, abs=1e-15)
            close(part(g, rows), alone)


@each
@each_dtype
def test_values_and_gradients_have_the_type_of_the_outputs(case, shape, dtype):
    outputs, targets = case.arrays(shape, dtype)
    exact, exact_g = case.loss(*case.arrays(shape)[:1], *case.arrays(shape)[1])
    for weights in case.weights(shape):
        value, g = case.loss(outputs, *targets, weights)
        assert {value.dtype, *(leaf.dtype for leaf in tree.leaves(g))} == {np.dtype(dtype)}
        assert isinstance(value, np.generic)
        if weights is None:
            assert value == pytest.approx(exact, rel=1e-5)
            close(g, exact_g, 1e-5)
    value, g = case.loss(outputs, *targets, np.zeros(shape[0]))
    assert value == 0
    assert not any(leaf.any() for leaf in tree.leaves(g))


@each
@pytest.mark.parametrize("kind", [np.nan, np.inf, -3.0], ids=str)
def test_a_weight_of_zero_leaves_an_item_out(case, shape, kind):
    outputs, targets = case.arrays(shape)
    kept = np.arange(shape[0]) != 1
    value, g = case.loss(*(part(v, kept) for v in (outputs, *targets)))

    def spoiled(leaf):
        copy = leaf.copy()
        if leaf.dtype.kind == "f":
            copy[1] = kind
        return copy

    changed = tree.map(spoiled, (outputs, *targets))
    found, found_g = case.loss(*changed, kept.astype(float))
    assert found == pytest.approx(value, rel=1e-12)
    close(part(found_g, kept), g)
    assert not any(leaf[1].any() for leaf in tree.leaves(found_g))
    values, _ = case.loss(*changed, kept, per_example=True)
    assert values[1] == 0


@each
def test_nan_with_a_weight_passes_through(case, shape):
    outputs, targets = case.arrays(shape)
    first = tree.leaves(outputs)[0].copy()
    first[1] = np.nan
    value, g = case.loss((first, *outputs[1:]) if case.outputs > 1 else first, *targets)
    assert np.isnan(value)
    assert np.isnan(tree.leaves(g)[0][1]).any()


@each
def test_an_empty_batch_is_an_error(case, shape):
    outputs, targets = case.arrays(shape)
    with pytest.raises(ValueError, match="mean of an empty batch is undefined"):
        case.loss(*(part(v, slice(0)) for v in (outputs, *targets)))


@each
def test_the_hessian_product_agrees_with_differences(case, shape):
    _, targets = case.arrays(shape)
    if len(shape) == 1:
        pytest.skip("a dense layer needs an axis of features")
    last = F.sigmoid() if case.targets == ("region",) else F.tanh()
    heads = [F.serial(F.dense(shape[-1]), last) for _ in range(case.outputs)]
    model = F.parallel(*heads, join=None) if case.outputs > 1 else heads[0]
    generator = random.generator(6)
    params = tree.astype(model.init(0, shape[1:]), np.float64)
    v = tree.map(lambda leaf: generator.normal(size=leaf.shape), params)
    data = generator.normal(size=shape)

    def gradient(by):
        moved = tree.map(lambda p, a: p + by * a, params, v)
        return F.value_and_grad(model, case.loss)(moved, data, *targets)[1]

    found = F.hvp(model, case.loss)(params, v, data, *targets)
    numeric = tree.map(lambda a, b: (a - b) / 2e-5, gradient(1e-5), gradient(-1e-5))
    close(found, numeric, 1e-6)


def real(*shape):
    return np.zeros(shape, np.float32)


IDS = np.zeros(4, int)
PAIR = real(4, 3), real(4, 3)
WRONG = {
    "one output": (F.gaussian_nll, (real(4), real(4)), TypeError, r"tuple of outputs \(means, log"),
    "three outputs": (F.info_nce, ((*PAIR, real(4, 3)),), TypeError, r"\(queries, keys\), got"),
    "two outputs": (F.triplet_loss, (PAIR,), TypeError, "anchors, positives, negatives"),
    "outputs of two shapes": (
        F.gaussian_nll, ((real(4), real(4, 1)), real(4)), ValueError, "of one shape",
    ),
    "outputs of two types": (
        F.info_nce, ((real(4, 3), np.zeros((4, 3))),), TypeError, "of one data type",
    ),
    "half outputs": (F.info_nce, ((real(4, 3).astype(np.float16),) * 2,), TypeError, "float16"),
    "targets of another shape": (F.gaussian_nll, (PAIR, real(4)), ValueError, "not broadcast"),
    "no features": (F.triplet_loss, ((real(4),) * 3,), ValueError, "one shape, the batch first"),
    "vectors without features": (
        F.cosine_distance, (real(4), real(4)), ValueError, "outputs .batch, ..., features",
    ),
    "sequences of queries": (F.info_nce, ((real(2, 3, 4),) * 2,), ValueError, "keys .batch, feat"),
    "temperature": (
        functools.partial(F.info_nce, temperature=0), (PAIR,), ValueError, "above 0.*got 0",
    ),
    "margin": (
        functools.partial(F.triplet_loss, margin=-1), ((real(4, 3),) * 3,), ValueError, "got -1",
    ),
    "level": (
        functools.partial(F.quantile_loss, level=1), (real(4), real(4)), ValueError, "in .0, 1.",
    ),
    "negative counts": (F.poisson_nll, (real(4), IDS - 1), ValueError, "at least 0, got -1"),
    "gamma": (functools.partial(F.focal_loss, gamma=-1), (real(4), IDS), ValueError, "got -1"),
    "alpha": (functools.partial(F.focal_loss, alpha=2), (real(4), IDS), ValueError, "got 2"),
    "binary targets": (F.focal_loss, (real(4), IDS + 2), ValueError, "targets must be in"),
    "logits": (F.dice_loss, (real(4) - 1, IDS), ValueError, "sigmoid.* returns probabilities"),
    "smooth": (functools.partial(F.dice_loss, smooth=0), (real(4), IDS), ValueError, "got 0"),
    "weights of pixels": (
        F.dice_loss, (real(4, 3), real(4, 3), real(4, 3)), ValueError, r"shape \(4,\), one",
    ),
    "actions of floats": (
        F.policy_gradient_loss, (real(4, 3), real(4), real(4)), TypeError, "labels are ints",
    ),
    "probabilities of actions": (
        F.policy_gradient_loss, (real(4, 3), real(4, 3), real(4)), TypeError, "actions are ints",
    ),
    "advantages": (
        F.policy_gradient_loss, (real(4, 3), IDS, real(4, 1)), ValueError, "advantages of shape",
    ),
    "negative weights": (
        F.policy_gradient_loss, (real(4, 3), IDS, real(4), real(4) - 1), ValueError, "got -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "arguments", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_errors_that_name_the_fault(loss, arguments, error, message):
    with pytest.raises(error, match=message):
        loss(*arguments)


@pytest.mark.parametrize("case", [case for case, _ in CASES.values()], ids=CASES)
def test_per_example_is_a_boolean(case):
    outputs, targets = case.arrays((4, 3))
    with pytest.raises(TypeError, match=r"per_example must be True or False.*got 1"):
        case.loss(outputs, *targets, per_example=1)


@each_dtype
def test_extreme_numbers_are_exact_without_a_warning(dtype):
    z = np.array([-np.inf, -np.inf, 1000, 0], dtype)
    values, g = F.poisson_nll(z, np.array([0, 1, 1, 2]), per_example=True)
    np.testing.assert_array_equal(values, [0, np.inf, np.inf, 1])
    np.testing.assert_array_equal(g[[0, 1, 3]], [0, -1, -1])
    s = np.array([-1000, 1000, -1000], dtype)
    values, (g_mean, _) = F.gaussian_nll((np.zeros(3, dtype), s), np.zeros(3), per_example=True)
    np.testing.assert_array_equal(values, [-500, 500, -500])
    assert not g_mean.any()
    z = np.array([1000, -1000, np.inf, -np.inf], dtype)
    values, g = F.focal_loss(z, np.array([1, 1, 1, 0]), alpha=0.25, per_example=True)
    np.testing.assert_array_equal(values, [0, 250, 0, 0])
    np.testing.assert_array_equal(g, [0, -0.25, 0, 0])
    for size in (1e30, 1e-30):
        v = np.array([[3, 4]], dtype) * dtype(size)
        value, g = F.cosine_distance(v, np.array([[4, 3]]))
        assert value == pytest.approx(0.04, rel=1e-5)
        np.testing.assert_allclose(g * size, [[-0.0448, 0.0336]], rtol=1e-4)


@each_dtype
def test_vectors_of_zeros_have_no_direction(dtype):
    zero = np.zeros((2, 3), dtype)
    value, g = F.cosine_distance(zero, np.ones((2, 3)))
    assert (value, g.any()) == (1, False)
    value, gradients = F.triplet_loss((zero, zero, zero))
    assert value == 1
    assert not any(g.any() for g in gradients)
    value, gradients = F.info_nce((zero, zero))
    assert value == pytest.approx(np.log(2))
    assert not any(g.any() for g in gradients)


def test_the_divergence_of_equal_distributions_is_zero():
    z = random.generator(0).normal(size=(5, 4))
    t = F.softmax()((), z)
    value, g = F.kl_divergence(z, t)
    assert value == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(g, 0, atol=1e-16)
    rows = np.eye(4)[[0, 1, 2, 3, 0]]
    assert F.kl_divergence(z, rows)[0] == pytest.approx(F.softmax_cross_entropy(z, rows)[0])


def test_a_constant_learns_the_quantile_of_the_data():
    data = random.generator(0).normal(size=501)
    p = np.array([np.quantile(data, 0.9)])
    best = F.quantile_loss(np.repeat(p, 501), data, level=0.9)[0]
    for moved in (p - 0.1, p + 0.1):
        assert F.quantile_loss(np.repeat(moved, 501), data, level=0.9)[0] > best


def test_two_empty_regions_overlap():
    value, g = F.dice_loss(np.zeros((2, 4)), np.zeros((2, 4), int))
    assert value == 0
    assert (g > 0).all()
