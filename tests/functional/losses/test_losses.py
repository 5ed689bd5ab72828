"""Losses: values, gradients, weights and errors."""

import functools
import math
import pickle
import warnings

import attrs
import numpy as np
import pytest
from arrays import read_only
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random
from npdl.functional._kernels.loss_terms import softmax_cross_entropies


@attrs.frozen
class Case:
    """A loss, the kinds of its outputs and targets, and its options."""

    loss: object
    outputs: str  # real, probabilities
    targets: str  # real, vectors, counts, binary, ids, rows (of probabilities)
    options: dict = attrs.field(factory=dict)

    def __call__(self, *args):
        return self.loss(*args, **self.options)

    def arrays(self, shape, dtype=np.float64, seed=0):
        """Outputs of the shape, away from kinks, and targets."""
        generator = random.generator((seed, 5))
        if self.outputs == "real":
            outputs = 2 * generator.normal(size=shape)
        elif self.targets == "binary":
            outputs = generator.uniform(0.05, 0.95, shape)
        else:
            outputs = _softmax(generator.normal(size=shape))
        targets = {
            "real": lambda: 2 * generator.normal(size=shape),
            "vectors": lambda: 2 * generator.normal(size=shape),
            "counts": lambda: generator.poisson(2.0, shape).astype(float),
            "binary": lambda: generator.uniform(0, 1, shape),
            "ids": lambda: generator.integers(0, shape[-1], shape[:-1]),
            "rows": lambda: _softmax(generator.normal(size=shape)),
        }[self.targets]()
        cast = targets if targets.dtype.kind == "i" else targets.astype(dtype)
        return outputs.astype(dtype), cast

    def items(self, shape):
        """The shape over which the mean is taken."""
        return shape[:-1] if self.targets in ("ids", "rows", "vectors") else shape


def _softmax(x):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


CASES = {
    "mean_squared_error": Case(F.mean_squared_error, "real", "real"),
    "mean_absolute_error": Case(F.mean_absolute_error, "real", "real"),
    "huber": Case(F.huber, "real", "real"),
    "huber, delta 2.5": Case(F.huber, "real", "real", {"delta": 2.5}),
    "binary_cross_entropy": Case(F.binary_cross_entropy, "probabilities", "binary"),
    "sigmoid_cross_entropy": Case(F.sigmoid_cross_entropy, "real", "binary"),
    "categorical_cross_entropy, ids": Case(F.categorical_cross_entropy, "probabilities", "ids"),
    "categorical_cross_entropy, rows": Case(F.categorical_cross_entropy, "probabilities", "rows"),
    "hellinger_distance, ids": Case(F.hellinger_distance, "probabilities", "ids"),
    "hellinger_distance, rows": Case(F.hellinger_distance, "probabilities", "rows"),
    "poisson_nll": Case(F.poisson_nll, "real", "counts"),
    "quantile_loss": Case(F.quantile_loss, "real", "real", {"level": 0.8}),
    "focal_loss": Case(F.focal_loss, "real", "binary"),
    "focal_loss, options": Case(F.focal_loss, "real", "binary", {"gamma": 0.5, "alpha": 0.6}),
    "cosine_distance": Case(F.cosine_distance, "real", "vectors"),
    "kl_divergence, ids": Case(F.kl_divergence, "real", "ids"),
    "kl_divergence, rows": Case(F.kl_divergence, "real", "rows"),
    "softmax_cross_entropy, ids": Case(F.softmax_cross_entropy, "real", "ids"),
    "softmax_cross_entropy, rows": Case(F.softmax_cross_entropy, "real", "rows"),
    "softmax_cross_entropy, ids, smoothed": Case(
        F.softmax_cross_entropy, "real", "ids", {"label_smoothing": 0.2}
    ),
    "softmax_cross_entropy, rows, smoothed": Case(
        F.softmax_cross_entropy, "real", "rows", {"label_smoothing": 0.2}
    ),
}
# Few classes, a sequence, so many classes that another layout is used, and three axes of items.
SHAPES = [(4, 3), (2, 5, 3), (3, 40), (2, 3, 4, 5)]

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def weights_for(case, shape, dtype=np.float64):
    """No weights, and random ones for each number of leading axes, one of them zero."""
    items, generator = case.items(shape), random.generator(3)
    for axes in range(1, len(items) + 1):
        weights = generator.uniform(0.5, 2, items[:axes]).astype(dtype)
        weights.reshape(-1)[1] = 0
        yield weights
    yield None


@each_case
@each_shape
def test_the_gradient_agrees_with_central_differences(case, shape):
    p, t = case.arrays(shape)
    for i, weights in enumerate(weights_for(case, shape)):
        _, g = case(p, t, weights)
        direction, step = random.generator((7, i)).normal(size=shape), 1e-6
        if case.outputs == "probabilities":
            direction *= p  # small probabilities have large third derivatives
        upper, lower = (case(p + by * direction, t, weights)[0] for by in (step, -step))
        numeric = (upper - lower) / (2 * step)
        assert numeric == pytest.approx(np.sum(g * direction), abs=1e-7)
        assert np.linalg.norm(g) > 1e-3


@each_case
@each_shape
def test_weights_make_a_weighted_mean_of_the_losses_of_the_items(case, shape):
    p, t = case.arrays(shape)
    n = len(case.items(shape))
    for weights in weights_for(case, shape):
        if weights is None:
            weights = np.ones(shape[:1])
        assert weights.ndim <= n
        each = np.array(
            [
                case(p[index][None], np.asarray(t[index])[None])[0]
                if p[index].ndim
                else case(p[index].reshape(1), t[index].reshape(1))[0]
                for index in np.ndindex(weights.shape)
            ]
        )
        value, _ = case(p, t, weights)
        assert value == pytest.approx(np.average(each, weights=weights.reshape(-1)), rel=1e-12)


@each_case
def test_without_weights_it_is_as_with_equal_ones(case):
    p, t = case.arrays((4, 3))
    value, g = case(p, t)
    for weights in (np.ones(4), np.full(4, 7), np.ones(4, bool)):
        other_value, other_g = case(p, t, weights)
        assert other_value == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(other_g, g, rtol=1e-12)


@each_case
def test_a_weight_of_zero_leaves_an_item_out(case):
    p, t = case.arrays((3, 6, 4))
    mask = np.arange(6) < np.array([[6], [2], [4]])
    value, g = case(p, t, mask)
    kept_value, kept_g = case(p[mask], t[mask])
    assert value == pytest.approx(kept_value, rel=1e-13)
    np.testing.assert_allclose(g[mask], kept_g, rtol=1e-12)
    assert not g[~mask].any()


@each_case
@each_dtype
@pytest.mark.parametrize("kind", [np.nan, np.inf, -np.inf, -3.0], ids=str)
@pytest.mark.parametrize("axes", [1, 2])
def test_a_weight_of_zero_leaves_out_nan_and_inf(case, dtype, kind, axes):
    p, t = case.arrays((3, 6, 4), dtype)
    weights = np.array([[2, 1, 0, 0, 1, 0], [1, 0, 3, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    weights = weights if axes == 2 else weights[:, 0]
    kept = weights > 0
    value, g = case(p[kept], t[kept], weights[kept])
    for change_outputs, change_targets in ((True, False), (False, True), (True, True)):
        q, s = p.copy(), t.copy()
        if change_outputs:
            q[~kept] = kind
        if change_targets and t.dtype.kind == "f":
            s[~kept] = kind
        before = q.copy(), s.copy()
        found, found_g = case(q, s, weights)
        assert found == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(found_g[kept], g, rtol=1e-5)
        assert not found_g[~kept].any()
        np.testing.assert_array_equal(q, before[0])
        np.testing.assert_array_equal(s, before[1])
        assert case(q, s, 0 * weights)[0] == 0


@each_case
def test_nan_with_a_weight_passes_through(case):
    p, t = case.arrays((3, 4), np.float32)
    for weights in (np.array([1, 2, 0]), np.array([1, 1e-30, 0]), np.array([1e300, 1.0, 0])):
        q = p.copy()
        q[1:] = np.nan
        value, g = case(q, t, weights)
        assert np.isnan(value)
        assert np.isnan(g[1]).any()
        assert np.isfinite(g[[0, 2]]).all()
    if t.dtype.kind == "f":
        s = t.copy()
        s[1:] = np.nan
        assert np.isnan(case(p, s, weights)[0])


@each_dtype
def test_an_infinite_loss_with_a_small_weight_is_infinite(dtype):
    x, weights = np.array([[1, 0], [1, -np.inf]], dtype), np.array([1e300, 1e-300])
    assert F.softmax_cross_entropy(x, np.array([0, 1]), weights)[0] == np.inf
    assert F.sigmoid_cross_entropy(x, np.array([[1, 0], [1, 1]]), weights)[0] == np.inf
    assert F.mean_absolute_error(x, np.zeros((2, 2)), weights)[0] == np.inf


@each_case
@each_dtype
@pytest.mark.parametrize("factor", [1e-46, 5e-320, 1e300, 1e306], ids=str)
def test_tiny_and_huge_weights_weigh_like_others(case, dtype, factor):
    p, t = case.arrays((4, 3), dtype)
    weights = np.array([1.0, 2.0, 0.0, 4.0])
    value, g = case(p, t, weights)
    found, found_g = case(p, t, weights * factor)
    assert found == pytest.approx(value, rel=1e-3 if factor < 1e-300 else 1e-6)
    np.testing.assert_allclose(found_g, g, rtol=1e-3 if factor < 1e-300 else 1e-5)


@each_case
@each_dtype
def test_weights_that_are_all_zero_give_zero(case, dtype):
    p, t = case.arrays((2, 5, 3), dtype)
    value, g = case(p, t, np.zeros((2, 5), dtype))
    assert value == 0
    assert not g.any()
    assert (value.dtype, g.dtype, g.shape) == (dtype, dtype, p.shape)


@each_case
@each_shape
@each_dtype
def test_value_and_gradient_have_the_type_of_the_outputs(case, shape, dtype):
    other = np.float32 if dtype == np.float64 else np.float64
    p, t = case.arrays(shape, dtype)
    targets = [t, t.astype(np.int16) if t.dtype.kind == "i" else t.astype(other)]
    for target in targets:
        for weights in weights_for(case, shape, other):
            value, g = case(p, target, weights)
            assert isinstance(value, np.generic)
            assert value.dtype == g.dtype == dtype
            assert g.shape == shape
            assert g.flags.writeable


@each_case
@each_shape
def test_float32_agrees_with_float64(case, shape):
    for weights in weights_for(case, shape):
        value, g = case(*case.arrays(shape, np.float32), weights)
        exact_value, exact_g = case(*case.arrays(shape), weights)
        assert value == pytest.approx(exact_value, rel=1e-5)
        np.testing.assert_allclose(g, exact_g, rtol=1e-5, atol=1e-6)


@each_case
@each_shape
def test_nothing_that_is_given_is_written_or_returned(case, shape):
    p, t = case.arrays(shape)
    for weights in weights_for(case, shape):
        given_arrays = [x for x in (p, t, weights) if x is not None]
        before = [x.copy() for x in given_arrays]
        read_only(given_arrays)
        value, g = case(p, t, weights)
        again, g_again = case(p, t, weights)
        assert value == again
        np.testing.assert_array_equal(g, g_again)
        assert not any(np.shares_memory(g, x) for x in [*given_arrays, g_again])
        for x, old in zip(given_arrays, before, strict=True):
            np.testing.assert_array_equal(x, old)


@each_case
@each_shape
def test_the_layout_in_memory_makes_no_difference(case, shape):
    p, t = case.arrays(shape)
    value, g = case(p, t)
    for change in (
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
    ):
        other, other_g = case(change(p), change(t))
        assert other == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(other_g, g, rtol=1e-12, atol=1e-15)


@each_case
def test_nan_passes_through(case):
    p, t = case.arrays((3, 4), np.float32)
    p[1] = np.nan
    value, g = case(p, t)
    assert np.isnan(value)
    assert np.isnan(g[1]).any()
    assert np.isfinite(g[[0, 2]]).all()


@each_case
def test_an_empty_batch_is_an_error(case):
    p, t = case.arrays((3, 4))
    for weights in (None, np.ones(0)):
        with pytest.raises(ValueError, match="mean of an empty batch is undefined"):
            case(p[:0], t[:0], weights)


@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        (F.softmax_cross_entropy, "real"),
        (functools.partial(F.softmax_cross_entropy, label_smoothing=0.3), "real"),
        (F.categorical_cross_entropy, "probabilities"),
        (F.hellinger_distance, "probabilities"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.int8, bool])
def test_ids_are_as_good_as_one_hot_rows(loss, outputs, n_classes, dtype):
    p, ids = Case(loss, outputs, "ids").arrays((2, 5, n_classes))
    one_hot = np.eye(n_classes, dtype=dtype)[ids]
    weights = random.generator(1).uniform(size=(2, 5))
    value, g = loss(p, ids, weights)
    other, other_g = loss(p, one_hot, weights)
    assert value == pytest.approx(other, rel=1e-13)
    np.testing.assert_allclose(g, other_g, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64, ">i4"])
def test_labels_may_be_ints_of_any_kind(kind):
    p, ids = CASES["softmax_cross_entropy, ids"].arrays((5, 4))
    value, g = F.softmax_cross_entropy(p, ids)
    other, other_g = F.softmax_cross_entropy(p, ids.astype(kind))
    assert value == other
    np.testing.assert_array_equal(g, other_g)


def test_cross_entropies_of_logits_and_probabilities_agree():
    generator = random.generator(0)
    z, ids = generator.normal(size=(6, 4)), generator.integers(0, 4, 6)
    value = F.softmax_cross_entropy(z, ids)[0]
    assert value == pytest.approx(F.categorical_cross_entropy(_softmax(z), ids)[0], rel=1e-13)
    t = generator.uniform(size=(6, 4))
    value = F.sigmoid_cross_entropy(z, t)[0]
    p = 1 / (1 + np.exp(-z))
    assert value == pytest.approx(F.binary_cross_entropy(p, t)[0], rel=1e-13)
    both = F.softmax_cross_entropy(np.stack([0 * z[0], z[0]], -1), np.stack([1 - t[0], t[0]], -1))
    assert F.sigmoid_cross_entropy(z[0], t[0])[0] == pytest.approx(both[0], rel=1e-13)


def test_rows_that_do_not_sum_to_one_keep_their_mass():
    z = np.array([[1.0, 2.0, 3.0]])
    t = np.array([[0.5, 0.0, 1.0]])
    value, g = F.softmax_cross_entropy(z, t)
    log_p = z - np.log(np.exp(z).sum())
    assert value == pytest.approx(-(t * log_p).sum())
    np.testing.assert_allclose(g, 1.5 * np.exp(log_p) - t, rtol=1e-12)
    value, g = F.softmax_cross_entropy(z, 0 * t)
    assert value == 0
    assert not g.any()


@pytest.mark.parametrize("few", [2, 100])
def test_blocks_of_rows_give_the_same_as_one_block(few):
    rows = (1 << 17) // few + 5
    generator = random.generator(0)
    x = generator.normal(size=(rows, few)).astype(np.float32)
    ids, weights = generator.integers(0, few, rows), generator.uniform(size=rows)
    for t in (ids, _softmax(generator.normal(size=x.shape)).astype(np.float32)):
        for given_weights in (None, weights):
            value, g = F.softmax_cross_entropy(x, t, given_weights, label_smoothing=0.1)
            scale = np.full(rows, 1 / rows) if given_weights is None else weights / weights.sum()
            whole, whole_g = softmax_cross_entropies(x, t, scale.astype(np.float32), 0.1)
            assert value == pytest.approx(whole.astype(float) @ scale, rel=1e-5)
            np.testing.assert_allclose(g, whole_g, rtol=1e-5, atol=1e-10)


@each_dtype
@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("size", [1000.0, 1e30])
def test_softmax_cross_entropy_of_extreme_logits(dtype, n_classes, size):
    x = np.zeros((3, n_classes), dtype)
    x[0, 0] = x[1, 1] = size
    x[2] = -size
    value, g = F.softmax_cross_entropy(x, np.array([0, 0, 2]), np.array([1, 0, 0]))
    assert value == 0
    assert not g.any()
    value, g = F.softmax_cross_entropy(x, np.array([0, 0, 2]), np.array([0, 1, 0]))
    assert value == dtype(size)
    np.testing.assert_array_equal(g[1, :3], [-1, 1, 0])
    value, g = F.softmax_cross_entropy(x, np.array([0, 0, 2]), np.array([0, 0, 1]))
    assert value == pytest.approx(math.log(n_classes), rel=1e-6)
    assert g[2].sum() == pytest.approx(0, abs=1e-6)


@each_dtype
def test_a_class_ruled_out_by_minus_infinity_has_no_probability(dtype):
    x = np.array([[0, -np.inf, 0], [-np.inf, 3, -np.inf]], dtype)
    value, g = F.softmax_cross_entropy(x, np.array([2, 1]))
    assert value == pytest.approx(math.log(2) / 2)
    np.testing.assert_allclose(g, [[0.25, 0, -0.25], [0, 0, 0]])


RULED_OUT = [[1, -np.inf, 1], [-np.inf, -np.inf, 2], [-np.inf, 0, 3e38], [-3e38, 0, 3e38]]


@each_dtype
@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("ids", [[2, 2, 2, 2], [0, 2, 2, 2], [2, 2, 1, 2], [2, 2, 2, 0]], ids=str)
def test_one_hot_rows_with_infinite_and_huge_logits(dtype, n_classes, ids):
    x, ids = np.full((4, n_classes), -np.inf, dtype), np.array(ids)
    x[:, :3] = RULED_OUT
    rows = np.eye(n_classes, dtype=dtype)[ids]
    for i in range(4):
        value, g = F.softmax_cross_entropy(x[i : i + 1], ids[i : i + 1])
        other, other_g = F.softmax_cross_entropy(x[i : i + 1], rows[i : i + 1])
        # The loss in float64; 6e38 is inf in float32.
        finite = x[i].astype(np.float64)
        finite = finite - finite.max()
        with np.errstate(over="ignore"):
            expected = dtype(np.log(np.exp(finite).sum()) - finite[ids[i]])
        assert value == pytest.approx(expected, rel=1e-6)
        assert other == value
        np.testing.assert_array_equal(g, other_g)
    # The items do not disturb each other.
    value, g = F.softmax_cross_entropy(x, rows, np.array([1, 1, 0, 0]))
    assert value == F.softmax_cross_entropy(x[:2], rows[:2])[0]
    assert not g[2:].any()


@each_dtype
def test_smoothed_targets_with_infinite_and_huge_logits(dtype):
    x = np.array([[-3e38, 0, 3e38]], dtype)
    for targets in (np.array([2]), np.eye(3)[[2]]):
        value, _ = F.softmax_cross_entropy(x, targets, label_smoothing=0.1)
        assert value == pytest.approx(0.1 / 3 * 9e38, rel=1e-5)
        value, _ = F.softmax_cross_entropy(
            np.where(x < 0, -dtype(np.inf), x), targets, label_smoothing=0.1
        )
        assert value == np.inf
    # A probability of 0 stays 0 without smoothing, and so does a row without mass.
    x[0, 0] = -np.inf
    assert F.softmax_cross_entropy(x / 3e38, np.array([[0, 0.5, 0.5]]))[0] == pytest.approx(
        math.log(1 + math.e) - 0.5, rel=1e-6
    )
    assert F.softmax_cross_entropy(x, np.zeros((1, 3)))[0] == 0


@each_dtype
def test_sigmoid_cross_entropy_of_infinite_logits(dtype):
    x = np.array([np.inf, -np.inf, np.inf, -np.inf, np.inf, -np.inf], dtype)
    targets = [1, 0, 0, 1, 0.5, 0.5]
    values, slopes = [0, 0, np.inf, np.inf, np.inf, np.inf], [0, 0, 1, -1, 0.5, -0.5]
    for i in range(6):
        for weights in (None, np.ones(1)):
            loss, g = F.sigmoid_cross_entropy(x[i : i + 1], np.array(targets[i : i + 1]), weights)
            assert loss == values[i]
            assert g == slopes[i]
    x[2:], targets = 0.5, np.array([1, 0, 1, 1, 1, 1])
    loss, g = F.sigmoid_cross_entropy(x, targets)
    part, part_g = F.sigmoid_cross_entropy(x[2:], targets[2:])
    assert loss == pytest.approx(part * 4 / 6, rel=1e-6)
    np.testing.assert_allclose(g, [0, 0, *(part_g * 4 / 6)], rtol=1e-6)


@each_dtype
def test_sigmoid_cross_entropy_of_extreme_logits(dtype):
    x = np.array([1000, -1000, 1000, -1000, 1e30, 0], dtype)
    for i, (target, value, slope) in enumerate(
        [(1, 0, 0), (0, 0, 0), (0, 1000, 1), (1, 1000, -1), (1, 0, 0), (0, math.log(2), 0.5)]
    ):
        loss, g = F.sigmoid_cross_entropy(x[i : i + 1], np.array([target]))
        assert loss == pytest.approx(value)
        assert g[0] == slope


@each_dtype
def test_sigmoid_cross_entropy_is_precise_where_it_is_small(dtype):
    for sign, target in ((1, 1), (-1, 0)):
        loss, g = F.sigmoid_cross_entropy(np.array([sign * 30], dtype), np.array([target]))
        assert loss == pytest.approx(math.exp(-30), rel=1e-5, abs=0)
    assert g[0] == pytest.approx(math.exp(-30), rel=1e-5, abs=0)


@each_dtype
@pytest.mark.parametrize("epsilon", [1e-12, 1e-3])
def test_cross_entropies_at_probabilities_0_and_1_are_bounded(dtype, epsilon):
    p, t = np.array([0, 0, 1, 1], dtype), np.array([0, 1, 0, 1])
    for i, wrong in enumerate([False, True, True, False]):
        value, g = F.binary_cross_entropy(p[i : i + 1], t[i : i + 1], epsilon=epsilon)
        assert value == pytest.approx(-math.log(epsilon) if wrong else 0, rel=1e-6)
        # The derivative leads away from a wrong 0 or 1.
        if wrong:
            assert g[0] == pytest.approx((1 if p[i] else -1) / epsilon)
        rows = np.stack([1 - p[i : i + 1], p[i : i + 1]], -1)
        for targets in (t[i : i + 1], np.eye(2)[t[i : i + 1]]):
            value, g = F.categorical_cross_entropy(rows, targets, epsilon=epsilon)
            assert value == pytest.approx(-math.log(epsilon) if wrong else 0, rel=1e-6)
            assert g[0, t[i]] == pytest.approx(-1 / epsilon if wrong else -1)
            assert g[0, 1 - t[i]] == 0


@each_dtype
def test_hellinger_distance_of_probabilities_zero_and_one(dtype):
    p = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], dtype)
    for targets in (np.array([0, 0, 0]), np.eye(3)[[0, 0, 0]]):
        distances = [F.hellinger_distance(p[i : i + 1], targets[i : i + 1])[0] for i in range(3)]
        np.testing.assert_allclose(distances, [0, 1, math.sqrt(1 - math.sqrt(0.5))], rtol=1e-6)
        _, g = F.hellinger_distance(p, targets, np.array([1, 0, 0]))
        assert not g.any()
        _, g = F.hellinger_distance(p, targets, np.array([0, 1, 0]), epsilon=1e-4)
        np.testing.assert_allclose(g[1], [(1 - 100) / 4, 0.25, 0.25], rtol=1e-5)


def test_the_absolute_errors_derivative_at_zero_is_zero():
    _, g = F.mean_absolute_error(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    np.testing.assert_array_equal(g, [0, 0.5])


def test_huber_is_a_parabola_inside_and_a_line_outside():
    d = np.array([-3.0, -0.5, 0.0, 1.0, 1.5, 4.0])
    parts = [F.huber(d[i : i + 1], np.zeros(1), delta=1.5) for i in range(6)]
    np.testing.assert_allclose([v for v, _ in parts], [3.375, 0.125, 0, 0.5, 1.125, 4.875])
    np.testing.assert_allclose([g[0] for _, g in parts], [-1.5, -0.5, 0, 1, 1.5, 1.5])
    half_squared = 0.5 * F.mean_squared_error(d, 0 * d)[0]
    assert F.huber(d, 0 * d, delta=math.inf)[0] == pytest.approx(half_squared)


@each_case
def test_a_loss_with_options_can_be_pickled_and_trained_with(case):
    loss = pickle.loads(pickle.dumps(functools.partial(case.loss, **case.options)))
    activation = {"real": F.linear(), "probabilities": F.sigmoid()}[case.outputs]
    model = F.serial(F.dense(4), activation if case.targets == "binary" else F.softmax())
    if case.outputs == "real":
        model = F.dense(4)
    params = model.init(0, (3,))
    x = random.generator(1).normal(size=(6, 3)).astype(np.float32)
    _, t = case.arrays((6, 4), np.float32)
    step = F.value_and_grad(model, loss)
    first, grads, _ = step(params, x, t, np.ones(6))
    params = F.apply_updates(params, F.sgd(0.01).update(grads, F.sgd(0.01).init(params), params)[0])
    assert step(params, x, t)[0] < first


def as_matrix(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(array)


def masked(array):
    return np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) % 2 == 0)


@each_case
@pytest.mark.parametrize("convert", [masked, as_matrix], ids=["masked", "matrix"])
@pytest.mark.parametrize("which", ["outputs", "targets", "weights"])
def test_masked_arrays_and_matrices_are_refused(case, convert, which):
    arrays = dict(zip(("outputs", "targets"), case.arrays((4, 3)), strict=True))
    arrays["weights"] = np.ones(4)
    arrays[which] = convert(arrays[which])
    name = which if which != "outputs" else ""
    with pytest.raises(
        TypeError, match=rf"{name}: expected a NumPy array, got (Ma|ma).*np\.asarray"
    ):
        case(*arrays.values())


def test_a_list_of_masked_values_is_refused():
    p = np.zeros(3)
    for values in ([1.0, np.ma.masked, 2.0], (0, 1, np.ma.masked)):
        with pytest.raises(TypeError, match=r"got MaskedConstant .*np\.asarray"):
            F.mean_squared_error(p, values)


@each_case
def test_arrays_that_are_mapped_from_files_are_welcome(case, tmp_path):
    arrays = [*case.arrays((4, 3)), np.array([1.0, 0.0, 2.0, 1.0])]
    mapped = []
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", array)
        mapped.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    for count in (2, 3):
        value, g = case(*arrays[:count])
        found, found_g = case(*mapped[:count])
        assert type(found) is type(value)
        assert type(found_g) is np.ndarray
        assert found == value
        np.testing.assert_array_equal(found_g, g)


@each_case
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("which", ["outputs", "targets", "weights"])
def test_half_precision_is_refused(case, kind, which):
    if kind == "bfloat16":
        kind = pytest.importorskip("ml_dtypes").bfloat16
    arrays = dict(zip(("outputs", "targets"), case.arrays((4, 3), np.float32), strict=True))
    arrays["weights"] = np.ones(4)
    arrays[which] = arrays[which].astype(kind)
    with pytest.raises(TypeError, match=r"float16.*astype\(np\.float32\)"):
        case(*arrays.values())


@each_case
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 1, np.nan, 1], "weights must be finite, got nan; a weight of 0 excludes"),
        ([1, np.inf, 1, 1], "weights must be finite, got inf"),
        ([1, 1, -np.inf, np.inf], "weights must be finite, got -inf"),
        ([1, 2, -0.5, 1], "weights must not be negative, got -0.5; a weight of 0 excludes"),
        ([1e308, 1e308, 0, 0], r"the sum of the weights must be finite.*weights / weights\.max"),
    ],
)
def test_weights_must_be_finite_and_not_negative(case, weights, message):
    p, t = case.arrays((4, 3))
    with pytest.raises(ValueError, match=message):
        case(p, t, weights)


@pytest.mark.parametrize("count", [1 << 19, 1_000_003])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_millions_of_rows_keeps_its_digits(count, weighted):
    weights = np.ones(count, np.float32) if weighted else None
    ids = np.zeros(count, np.int8)
    # NumPy 2.0 adds the sums of each 8,192 terms one after the other: a rounding for each.
    digits = 1e-6 + 2 * count / 8192 * 2**-24
    loss, _ = F.softmax_cross_entropy(np.zeros((count, 3), np.float32), ids, weights)
    assert loss == pytest.approx(math.log(3), rel=digits)
    half = np.full((count, 2), 0.3, np.float32)
    loss, _ = F.categorical_cross_entropy(half, ids, weights)
    assert loss == pytest.approx(-math.log(0.3), rel=digits)
    loss, _ = F.hellinger_distance(half, ids, weights)
    exact = F.hellinger_distance(half[:1].astype(np.float64), ids[:1])[0]
    assert loss == pytest.approx(exact, rel=digits)
    for loss in (F.mean_squared_error, F.huber, F.binary_cross_entropy, F.sigmoid_cross_entropy):
        exact = loss(half[:1].astype(np.float64), 0 * half[:1])[0]
        assert loss(half, 0 * half, weights)[0] == pytest.approx(exact, rel=digits)


def real(*shape):
    return np.zeros(shape, np.float32)


IDS = np.zeros(4, int)
WRONG = [
    # loss, arguments, keywords, error, message
    (F.mean_squared_error, (real(4), real(4, 1)), {}, ValueError, "not broadcast.*reshape"),
    (F.mean_squared_error, (real(4, 1), real(4)), {}, ValueError, r"float32\[4, 1\] and targets"),
    (F.mean_squared_error, (real(4, 3), real(1, 3)), {}, ValueError, "not broadcast"),
    (F.mean_squared_error, (real(4), 1.0), {}, ValueError, "need one shape"),
    (F.mean_squared_error, (real(), real()), {}, ValueError, "the batch first"),
    (F.mean_squared_error, (IDS, IDS), {}, TypeError, "mean_squared_error: expected an array of"),
    (F.mean_squared_error, ([1.0], [1.0]), {}, TypeError, "expected a NumPy array"),
    (F.mean_squared_error, (real(4), real(4) + 1j), {}, TypeError, r"numbers, got complex64\[4\]"),
    (F.mean_squared_error, (real(4), np.array(list("abcd"))), {}, TypeError, "numbers"),
    (F.mean_squared_error, (real(4, 3), real(4, 3), real(3)), {}, ValueError, r"\(4,\) or \(4, 3"),
    (F.mean_squared_error, (real(4, 3), real(4, 3), real(4, 1)), {}, ValueError, "weights of sha"),
    (F.mean_squared_error, (real(4), real(4), 2.0), {}, ValueError, "one for each example"),
    (F.mean_squared_error, (real(4), real(4), real(4) - 1), {}, ValueError, "negative, got -1"),
    (F.mean_squared_error, (real(2), real(2), ["a", "b"]), {}, TypeError, "weights of num"),
    (F.mean_absolute_error, (real(4), real(4, 1)), {}, ValueError, "mean_absolute_error: outputs"),
    (F.huber, (real(4), real(4, 1)), {}, ValueError, "huber: outputs"),
    (F.huber, (real(4), real(4)), {"delta": 0}, ValueError, "above 0.*got 0"),
    (F.huber, (real(4), real(4)), {"delta": -1.0}, ValueError, "got -1.0"),
    (F.huber, (real(4), real(4)), {"delta": math.nan}, ValueError, "got nan"),
    (F.binary_cross_entropy, (real(4) - 2, IDS), {}, ValueError, "-2.0.*sigmoid_cross_entropy"),
    (F.binary_cross_entropy, (real(4) + 2, IDS), {}, ValueError, "to 2.0; sigmoid_cross_entropy"),
    (F.binary_cross_entropy, (real(4), IDS - 1), {}, ValueError, "targets must be in.*-1 to -1"),
    (F.binary_cross_entropy, (real(4), IDS[:, None]), {}, ValueError, "not broadcast"),
    (F.binary_cross_entropy, (real(4), IDS), {"epsilon": 0}, ValueError, "epsilon must be .*got 0"),
    (F.binary_cross_entropy, (IDS, IDS), {}, TypeError, "expected an array of floats"),
    (F.sigmoid_cross_entropy, (real(4), IDS + 2), {}, ValueError, "targets must be in.*2 to 2"),
    (F.sigmoid_cross_entropy, (real(4, 1), IDS), {}, ValueError, "not broadcast"),
    (F.categorical_cross_entropy, (real(4, 3) - 1, IDS), {}, ValueError, "softmax_cross_entropy"),
    (F.categorical_cross_entropy, (real(4, 3), IDS + 3), {}, ValueError, "there are 3 classes"),
    (F.categorical_cross_entropy, (real(4, 3), IDS), {"epsilon": 1.0}, ValueError, "got 1.0"),
    (F.hellinger_distance, (real(4, 3) + 2, IDS), {}, ValueError, "hellinger_distance: outputs"),
    (F.hellinger_distance, (real(4, 3), IDS), {"epsilon": -1}, ValueError, "got -1"),
    (
        F.softmax_cross_entropy,
        (real(4, 3), IDS + 3),
        {},
        ValueError,
        r"targets\[0\] is 3, but .* 3",
    ),
    (F.softmax_cross_entropy, (real(4, 3), IDS - 1), {}, ValueError, r"targets\[0\] is -1"),
    (
        F.softmax_cross_entropy,
        (real(2, 2, 3), np.array([[0, 1], [2, 5]])),
        {},
        ValueError,
        r"targets\[1, 1\] is 5, but there are 3 classes, labelled 0 to 2",
    ),
    (
        F.softmax_cross_entropy,
        (real(2, 3), np.array([1 << 63, 0], np.uint64)),
        {},
        ValueError,
        "is 9223372036854775808",
    ),
    (F.softmax_cross_entropy, (real(2, 300), np.array([7, -128], np.int8)), {}, ValueError, "-128"),
    (F.softmax_cross_entropy, (real(4, 3), real(4)), {}, TypeError, r"ints, got targets float32"),
    (F.softmax_cross_entropy, (real(4, 3), IDS > 0), {}, TypeError, r"bool\[4\]; .*astype\(int\)"),
    (F.softmax_cross_entropy, (real(4, 3), IDS[:, None]), {}, ValueError, r"int64\[4, 1\]"),
    (F.softmax_cross_entropy, (real(4, 3), IDS[:3]), {}, ValueError, "labels.*or probabilities"),
    (F.softmax_cross_entropy, (real(4), IDS), {}, ValueError, r"outputs float32\[4\]"),
    (F.softmax_cross_entropy, (real(4), np.int64(0)), {}, ValueError, r"outputs float32\[4\]"),
    (F.softmax_cross_entropy, (real(2, 2), np.full((2, 2), 2)), {}, ValueError, "one axis less"),
    (F.softmax_cross_entropy, (real(2, 2), real(2, 2) - 1), {}, ValueError, "targets must be in"),
    (F.softmax_cross_entropy, (real(4, 3), IDS, real(4, 3)), {}, ValueError, r"of shape \(4,\), o"),
    (F.softmax_cross_entropy, (real(4, 3), IDS, real(3)), {}, ValueError, r"got float32\[3\]"),
    (F.softmax_cross_entropy, (IDS, IDS), {}, TypeError, "expected an array of floats"),
    (
        F.softmax_cross_entropy,
        (real(4, 3), IDS),
        {"label_smoothing": 1},
        ValueError,
        r"in \[0, 1\), .* got",
    ),
    (F.softmax_cross_entropy, (real(4, 3), IDS), {"label_smoothing": -0.1}, ValueError, "-0.1"),
    (F.softmax_cross_entropy, (real(4, 3), IDS, None, 0.1), {}, TypeError, "positional"),
]


@pytest.mark.parametrize(("loss", "args", "options", "error", "message"), WRONG)
def test_wrong_arguments_are_errors_that_name_the_fault(loss, args, options, error, message):
    with pytest.raises(error, match=message):
        loss(*args, **options)


@pytest.mark.parametrize(
    ("case", "leading"),
    [(case, leading) for case in CASES.values() for leading in ((), (1,), (2, 3))][::2],
)
@settings(max_examples=5)
@given(data=st.data())
def test_any_number_of_leading_axes_is_one_batch(case, leading, data):
    batch, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 36))
    p, t = case.arrays((batch, *leading, size))
    value, g = case(p, t)
    flat, flat_g = case(p.reshape(-1, size), t.reshape(-1, *t.shape[1 + len(leading) :]))
    assert value == pytest.approx(flat, rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(g.reshape(-1, size), flat_g, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [1 << 12, 1 << 21])
def test_a_row_of_very_many_classes_keeps_its_digits(classes):
    p = np.full((1, classes), 1 / classes, np.float32)
    t = np.zeros((1, classes), np.float32)
    t[:, ::2] = 2 / classes
    assert np.isclose(F.categorical_cross_entropy(p, p)[0], np.log(classes), rtol=2e-6)
    assert np.isclose(F.hellinger_distance(p, t)[0], np.sqrt(1 - np.sqrt(0.5)), rtol=2e-6)
    assert np.isclose(F.softmax_cross_entropy(0 * p, p)[0], np.log(classes), rtol=2e-6)
