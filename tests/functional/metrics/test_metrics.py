"""Metrics: agreement with scikit-learn, definitions at the edges, errors."""

import math
import warnings

import numpy as np
import pytest
from arrays import read_only
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random


def scores(shape, seed=0, dtype=np.float64):
    """Scores, and targets that the highest one meets about half of the time."""
    generator = random.generator((seed, *shape))
    outputs = generator.normal(size=shape)
    ids = generator.integers(0, shape[-1], shape[:-1])
    outputs += 1.5 * np.eye(shape[-1])[ids]
    return outputs.astype(dtype), ids


OF_CLASSES = {
    "accuracy": F.accuracy,
    "top_k_accuracy": lambda *args: F.top_k_accuracy(*args, k=2),
    "precision": F.precision,
    "recall": F.recall,
    "f1_score": F.f1_score,
    "matthews_correlation": F.matthews_correlation,
    "calibration_error": lambda *args: F.calibration_error(*args, logits=True),
}
AVERAGES = pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])


@pytest.fixture(scope="module")
def sklearn():
    return pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("n_classes", [3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_accuracies_agree_with_scikit_learn(sklearn, n_classes, weighted):
    p, ids = read_only(scores((50, n_classes)))
    w = random.generator(1).uniform(size=50) if weighted else None
    expected = sklearn.accuracy_score(ids, p.argmax(-1), sample_weight=w)
    assert F.accuracy(p, ids, w) == pytest.approx(expected)
    assert F.accuracy(p.argmax(-1), ids, w) == pytest.approx(expected)
    for k in range(1, n_classes):
        expected = sklearn.top_k_accuracy_score(
            ids, p, k=k, sample_weight=w, labels=range(n_classes)
        )
        assert F.top_k_accuracy(p, ids, w, k=k) == pytest.approx(expected)
    assert F.top_k_accuracy(p, ids, w, k=n_classes) == pytest.approx(1)


@AVERAGES
@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True], ids=["all classes", "some absent"])
def test_precision_recall_and_f1_agree_with_scikit_learn(
    sklearn, average, n_classes, weighted, missing
):
    p, ids = scores((60, n_classes))
    if missing:  # one class is never a target, another is never predicted
        ids[ids == 1] = 0
        p[:, 0] = -100
    w = random.generator(1).uniform(size=60) if weighted else None
    read_only((p, ids, w))
    options = {"labels": range(n_classes), "average": average, "zero_division": 0}
    expected = sklearn.precision_recall_fscore_support(
        ids, p.argmax(-1), sample_weight=w, **options
    )
    for metric, figure in zip((F.precision, F.recall, F.f1_score), expected, strict=False):
        found = metric(p, ids, w, average=average)
        np.testing.assert_allclose(found, figure, rtol=1e-12)
        assert isinstance(found, float if average else np.ndarray)
        same = metric(p.argmax(-1), ids, w, average=average, classes=n_classes)
        np.testing.assert_array_equal(same, found)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_confusion_matrix_agrees_with_scikit_learn(sklearn, n_classes):
    p, ids = read_only(scores((60, n_classes)))
    found = F.confusion_matrix(p, ids)
    assert found.dtype.kind == "i"
    expected = sklearn.confusion_matrix(ids, p.argmax(-1), labels=range(n_classes))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(40,), (40, 3)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_errors_and_r2_agree_with_scikit_learn(sklearn, shape, weighted, dtype, tolerance):
    generator = random.generator(2)
    t = (3 + generator.normal(size=shape)).astype(dtype)
    p = (t + generator.normal(size=shape)).astype(dtype)
    if len(shape) > 1:
        t[:, 1] = 0  # does not vary, nor its mean by rounding
    w = generator.uniform(size=40) if weighted else None
    read_only((p, t, w))
    expected = sklearn.r2_score(t, p, sample_weight=w)
    assert F.r2_score(p, t, w) == pytest.approx(expected, rel=tolerance)
    expected = sklearn.mean_absolute_error(t, p, sample_weight=w)
    assert F.absolute_error(p, t, w) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("metric", OF_CLASSES.values(), ids=OF_CLASSES)
def test_one_hot_targets_are_as_good_as_ids(metric):
    p, ids = scores((20, 4))
    assert metric(p, np.eye(4)[ids]) == metric(p, ids)
    assert metric(p, np.eye(4, dtype=int)[ids]) == metric(p, ids)


@pytest.mark.parametrize("metric", OF_CLASSES.values(), ids=OF_CLASSES)
@settings(max_examples=10)
@given(
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    n_classes=st.integers(2, 6),
    data=st.data(),
)
def test_any_leading_axes_are_one_batch(metric, leading, n_classes, data):
    p, ids = scores((*leading, n_classes))
    axes = data.draw(st.integers(1, len(leading)))
    weights = random.generator(4).uniform(size=leading[:axes])
    every = np.broadcast_to(weights.reshape(*weights.shape, *[1] * (len(leading) - axes)), leading)
    flat, flat_ids = p.reshape(-1, n_classes), ids.reshape(-1)
    assert metric(p, ids) == pytest.approx(metric(flat, flat_ids))
    assert metric(p, ids, weights) == pytest.approx(metric(flat, flat_ids, every.reshape(-1)))


@pytest.mark.parametrize("metric", OF_CLASSES.values(), ids=OF_CLASSES)
def test_a_mask_leaves_padding_out(metric):
    p, ids = scores((3, 6, 4))
    mask = np.arange(6) < np.array([[6], [2], [4]])
    assert metric(p, ids, mask) == pytest.approx(metric(p[mask], ids[mask]))
    assert metric(p, ids, mask) != pytest.approx(metric(p, ids))
    assert metric(p, ids, np.zeros((3, 6))) == 0


def test_a_mask_leaves_padding_out_of_regression_metrics():
    generator = random.generator(0)
    t = generator.normal(size=(3, 6, 2))
    p = t + generator.normal(size=t.shape)
    mask = np.arange(6) < np.array([[6], [2], [4]])
    for metric in (F.r2_score, F.absolute_error):
        assert metric(p, t, mask) == pytest.approx(metric(p[mask], t[mask]))
        assert metric(p, t) == pytest.approx(metric(p.reshape(18, 2), t.reshape(18, 2)))
        assert metric(p, t, np.zeros(3)) == 0


def test_the_absolute_error_is_the_figure_of_the_loss():
    generator = random.generator(0)
    p, t = (generator.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
    assert F.absolute_error(p, t) == pytest.approx(float(F.mean_absolute_error(p, t)[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("metric", "outputs", "targets"),
    [
        (F.accuracy, *scores((20, 4), dtype=np.float32)),
        (F.top_k_accuracy, *scores((20, 6), dtype=np.float32)),
        (F.precision, *scores((20, 4), dtype=np.float32)),
        (F.recall, *scores((20, 4), dtype=np.float32)),
        (F.f1_score, *scores((20, 4), dtype=np.float32)),
        (F.binary_accuracy, np.float32([0.2, 0.8]), np.array([True, True])),
        (F.absolute_error, np.float32([0.2, 0.8]), np.array([1, 2])),
        (F.r2_score, np.float32([0.2, 0.8]), np.array([1, 2])),
    ],
)
def test_metrics_return_python_floats(metric, outputs, targets):
    for weights in (None, np.full(len(targets), 0.5, np.float32)):
        assert type(metric(outputs, targets, weights)) is float


def test_the_first_of_equal_scores_is_predicted():
    p, ids = np.zeros((4, 4)), np.array([0, 0, 1, 3])
    assert F.accuracy(p, ids) == 0.5
    assert [F.top_k_accuracy(p, ids, k=k) for k in (1, 2, 3, 4)] == [0.5, 0.75, 0.75, 1]


def test_a_target_whose_score_is_nan_is_not_among_the_highest():
    p = np.array([[np.nan, 1.0, 0.0], [0.0, np.nan, 0.0]])
    assert F.top_k_accuracy(p, np.array([0, 2]), k=2) == 0.5
    assert F.top_k_accuracy(p, np.array([0, 1]), k=3) == 0


def test_binary_accuracy_counts_scores_above_the_threshold():
    p, t = np.array([0.2, 0.5, 0.6, 0.9]), np.array([0, 0, 0, 1])
    assert F.binary_accuracy(p, t) == 0.75
    assert F.binary_accuracy(p, t, threshold=0.6) == 1
    assert F.binary_accuracy(p, t == 1, threshold=0.1) == 0.25
    assert F.binary_accuracy(p, t, np.array([1, 0, 3, 0])) == 0.25
    logits = np.log(p / (1 - p))
    assert F.binary_accuracy(logits, t, threshold=0.0) == 0.75
    assert F.binary_accuracy(p.reshape(2, 2), t.reshape(2, 2), np.array([1, 3])) == 0.625


def test_r2_of_constant_targets_is_one_if_exact_and_zero_if_not():
    t = np.full((7, 2), 0.1, np.float32)
    p = t.copy()
    assert F.r2_score(p, t) == 1
    p[3, 0] += 1
    assert F.r2_score(p, t) == 0.5
    p[3, 1] += 1
    assert F.r2_score(p, t) == 0
    weights = np.float32([0, 1, 1, 0.3, 1, 1, 0.7])
    t[0] = 5
    assert F.r2_score(p, t, weights) == 0
    weights[3] = 0
    assert F.r2_score(p, t, weights) == 1


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 / 7])
def test_rounding_does_not_make_targets_vary(value):
    t = np.full((50, 1), value, np.float32)
    weights = random.generator(0).uniform(size=50)
    weights[0], t[0] = 0, -3
    assert F.r2_score(t, t, weights) == 1
    assert F.r2_score(t + 1, t, weights) == 0


def test_r2_of_the_mean_is_zero_and_may_be_negative():
    t = np.array([1.0, 2.0, 6.0])
    assert F.r2_score(np.full(3, 3.0), t) == 0
    assert F.r2_score(-t, t) < 0


def test_the_confusion_matrix_has_true_classes_on_the_first_axis():
    true, predicted = np.array([[2, 2], [0, 2]]), np.array([[1, 1], [0, 2]])
    expected = np.zeros((4, 4), int)
    expected[2, 1], expected[0, 0], expected[2, 2] = 2, 1, 1
    np.testing.assert_array_equal(F.confusion_matrix(predicted, true), expected[:3, :3])
    np.testing.assert_array_equal(F.confusion_matrix(predicted, true, classes=4), expected)
    p = np.eye(4)[predicted]
    np.testing.assert_array_equal(F.confusion_matrix(p, true, classes=4), expected)


def as_matrix(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(array)


OF_NUMBERS = {
    "binary_accuracy": F.binary_accuracy,
    "absolute_error": F.absolute_error,
    "r2_score": F.r2_score,
}


def arrays_for(name):
    """Outputs, targets and weights, of which some are 0."""
    generator = random.generator(5)
    weights = generator.integers(0, 3, 12).astype(np.float64)
    if name in OF_NUMBERS:
        p = generator.random((12, 3))
        return p, np.clip(p + generator.normal(size=p.shape) / 4, 0, 1), weights
    p, ids = scores((12, 4))
    return p, np.eye(4)[ids], weights


OF_SCORES = {
    "perplexity": lambda *args: F.perplexity(*args, logits=True),
    "roc_auc": lambda *args: F.roc_auc(*args, logits=True),
    "average_precision": lambda *args: F.average_precision(*args, logits=True),
}
ALL = OF_CLASSES | OF_NUMBERS | OF_SCORES
WITHOUT_WEIGHT = {"perplexity": 1, "roc_auc": np.nan}
EACH = pytest.mark.parametrize(("name", "metric"), ALL.items(), ids=ALL)


@EACH
@pytest.mark.parametrize("kind", [np.nan, np.inf, -np.inf, -3.0], ids=str)
def test_a_weight_of_zero_leaves_out_nan_and_inf(name, metric, kind):
    p, t, weights = arrays_for(name)
    kept = weights > 0
    expected = metric(p[kept], t[kept], weights[kept])
    q, s = p.copy(), t.copy()
    q[~kept], s[~kept] = kind, kind
    for outputs, targets in ((q, t), (p, s), (q, s)):
        assert metric(outputs, targets, weights) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_equal(metric(q, s, 0 * weights), WITHOUT_WEIGHT.get(name, 0))


@EACH
@pytest.mark.parametrize("factor", [1e-46, 1e300])
def test_tiny_and_huge_weights_weigh_like_others(name, metric, factor):
    p, t, weights = arrays_for(name)
    p = p.astype(np.float32)
    expected = metric(p, t, weights)
    assert metric(p, t, weights * factor) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@EACH
@pytest.mark.parametrize("which", [0, 1, 2], ids=["outputs", "targets", "weights"])
def test_masked_matrices_and_half_precision_are_refused(name, metric, which):
    given = arrays_for(name)
    for convert in (
        lambda x: np.ma.array(x, mask=x > 0.5),
        as_matrix,
        lambda x: x.astype(np.float16),
    ):
        arrays = list(given)
        arrays[which] = convert(arrays[which])
        with pytest.raises(TypeError, match=r"np\.asarray|float16.*astype\(np\.float32\)"):
            metric(*arrays)


def test_masked_ids_are_refused():
    ids = np.ma.array([0, 1, 1], mask=[0, 0, 1])
    for metric in (F.accuracy, F.confusion_matrix, F.f1_score):
        for arrays in ((ids, np.array([0, 1, 1])), (np.array([0, 1, 1]), ids)):
            with pytest.raises(TypeError, match="MaskedArray"):
                metric(*arrays)


@EACH
def test_weights_must_be_finite_and_not_negative(name, metric):
    p, t, weights = arrays_for(name)
    for wrong in (np.nan, np.inf, -1.0):
        weights[3] = wrong
        with pytest.raises(ValueError, match=rf"{name}: weights must .*got {wrong}; a weight of 0"):
            metric(p, t, weights)


@pytest.mark.parametrize(
    "metric", [F.confusion_matrix, F.precision, F.recall, F.f1_score], ids=lambda f: f.__name__
)
def test_large_ids_are_an_error_that_names_the_largest(metric):
    for outputs, targets in (([0, 10**6], [0, 1]), ([0, 1], [0, 10**6]), ([0], [10**15])):
        largest = max(outputs + targets)
        message = rf"{metric.__name__}: the largest id is {largest}.*classes={largest + 1}\)"
        with pytest.raises(ValueError, match=message):
            metric(np.array(outputs), np.array(targets))


def test_metrics_of_many_classes_need_memory_linear_in_them():
    ids = np.array([0, 10**6, 10**6, 5])
    predicted = np.array([0, 10**6, 5, 5])
    assert F.recall(predicted, ids, average="weighted", classes=10**6 + 1) == 0.75
    assert F.accuracy(predicted, ids) == 0.75
    scores = np.zeros((2, 60_000), np.float32)
    assert F.f1_score(scores, np.array([0, 7]), average="micro") == 0.5


def test_metrics_of_millions_of_rows_keep_their_digits():
    count = 1_000_001
    p = np.full((count, 2), 0.7, np.float32)
    t = np.full((count, 2), 0.1, np.float32)
    t[::2] += np.float32(0.2)
    exact = np.abs(p[:2].astype(np.float64) - t[:2])
    ones = np.ones(count, np.float32)
    for weights in (None, ones):
        mean = (exact[0] * (count + 1) + exact[1] * (count - 1)).mean() / (2 * count)
        assert F.absolute_error(p, t, weights) == pytest.approx(mean, rel=1e-7)
        expected = F.r2_score(p[:2].astype(np.float64), t[:2])
        assert F.r2_score(p, t, weights) == pytest.approx(expected, rel=1e-5)
        assert F.binary_accuracy(p, t, weights) == 0
        assert F.accuracy(p, t, weights) == 1


def real(*shape):
    return np.zeros(shape, np.float32)


IDS = np.zeros(4, int)
WRONG = [
    # metric, arguments, keywords, error, message
    (F.accuracy, (real(4, 3), IDS + 3), {}, ValueError, r"accuracy: targets\[0\] is 3.*3 classes"),
    (F.accuracy, (real(4, 3), IDS - 1), {}, ValueError, r"targets\[0\] is -1"),
    (F.accuracy, (real(4, 3), IDS[:, None]), {}, ValueError, r"int64\[4, 1\]"),
    (F.accuracy, (real(4), IDS), {}, ValueError, r"outputs float32\[4\]"),
    (F.accuracy, (real(4, 3), real(4)), {}, TypeError, "class labels are ints"),
    (F.accuracy, (real(4, 3), IDS > 0), {}, TypeError, r"astype\(int\)"),
    (F.accuracy, (real(4, 3), np.full((4, 3), 2)), {}, ValueError, "one axis less"),
    (F.accuracy, ([1], IDS), {}, TypeError, "accuracy: expected a NumPy array"),
    (F.accuracy, (real(0, 3), IDS[:0]), {}, ValueError, "empty batch"),
    (F.accuracy, (real(4, 3), IDS, real(3)), {}, ValueError, "expected weights of shape"),
    (F.accuracy, (real(4, 3), IDS, real(4) - 1), {}, ValueError, "must not be negative"),
    (F.accuracy, (IDS, IDS[:, None]), {}, ValueError, "need the shape of the targets"),
    (F.accuracy, (IDS - 1, IDS), {}, ValueError, r"outputs\[0\] is -1"),
    (F.accuracy, (IDS, real(4)), {}, TypeError, "class labels are ints, got targets float32"),
    (F.accuracy, (IDS > 0, IDS), {}, TypeError, "class labels are ints, got outputs bool"),
    (F.top_k_accuracy, (real(4, 3), IDS), {}, ValueError, "from 1 to the 3 classes, .* got 5"),
    (F.top_k_accuracy, (real(4, 3), IDS), {"k": 0}, ValueError, "got 0"),
    (F.top_k_accuracy, (real(4, 3), IDS), {"k": True}, ValueError, "got True"),
    (F.top_k_accuracy, (real(4, 3), IDS), {"k": 1.5}, ValueError, "got 1.5"),
    (F.top_k_accuracy, (IDS, IDS), {}, TypeError, "top_k_accuracy: expected an array of floats"),
    (F.top_k_accuracy, (real(4, 9), IDS + 9), {}, ValueError, "there are 9 classes"),
    (F.top_k_accuracy, (real(0, 9), IDS[:0]), {}, ValueError, "empty batch"),
    (F.binary_accuracy, (real(4), IDS[:, None]), {}, ValueError, "not broadcast"),
    (F.binary_accuracy, (real(4), IDS + 2), {}, ValueError, "targets must be in"),
    (F.binary_accuracy, (IDS, IDS), {}, TypeError, "expected an array of floats"),
    (F.binary_accuracy, (real(0), IDS[:0]), {}, ValueError, "empty batch"),
    (F.absolute_error, (real(4), IDS[:, None]), {}, ValueError, "absolute_error.*not broadcast"),
    (F.absolute_error, (IDS, IDS), {}, TypeError, "expected an array of floats"),
    (F.absolute_error, (real(0), IDS[:0]), {}, ValueError, "empty batch"),
    (F.r2_score, (real(4), IDS[:, None]), {}, ValueError, "r2_score.*not broadcast"),
    (F.r2_score, (real(4, 3), real(4, 3), real(4, 3)), {}, ValueError, "weights of shape"),
    (F.r2_score, (IDS, IDS), {}, TypeError, "expected an array of floats"),
    (F.r2_score, (real(0), IDS[:0]), {}, ValueError, "empty batch"),
    (
        F.confusion_matrix,
        (IDS, IDS + 2),
        {"classes": 2},
        ValueError,
        r"targets\[0\] is 2.*2 classes",
    ),
    (
        F.confusion_matrix,
        (IDS + 2, IDS),
        {"classes": 2},
        ValueError,
        r"outputs\[0\] is 2.*2 classes",
    ),
    (F.confusion_matrix, (IDS, IDS), {"classes": 0}, ValueError, "positive int, .* got 0"),
    (F.confusion_matrix, (IDS, IDS), {"classes": 2.0}, ValueError, "positive int, .* got 2.0"),
    (F.confusion_matrix, (real(4, 3), IDS), {"classes": 4}, ValueError, "have 3 classes, not 4"),
    (F.confusion_matrix, (IDS[:0], IDS[:0]), {}, ValueError, "empty batch"),
    (F.precision, (real(4, 3), IDS), {"average": "binary"}, ValueError, "precision.*got 'binary'"),
    (F.recall, (real(4, 3), IDS), {"average": True}, ValueError, "recall: average.*got True"),
    (F.f1_score, (real(4, 3), IDS), {"average": "mean"}, ValueError, "f1_score: average must"),
    (F.f1_score, (real(4, 3), IDS), {"classes": 2}, ValueError, "have 3 classes, not 2"),
    (F.precision, (real(4, 3), IDS + 3), {}, ValueError, "precision: targets"),
    (F.recall, (real(0, 3), IDS[:0]), {}, ValueError, "recall: .*empty batch"),
]


@pytest.mark.parametrize(("metric", "args", "options", "error", "message"), WRONG)
def test_wrong_arguments_are_errors_that_name_the_fault(metric, args, options, error, message):
    with pytest.raises(error, match=message):
        metric(*args, **options)


def test_nan_outputs_are_nan_in_the_figures_of_real_numbers():
    p, t = np.array([1.0, np.nan, 2.0]), np.array([1.0, 2.0, 3.0])
    assert math.isnan(F.absolute_error(p, t))
    assert math.isnan(F.r2_score(p, t))
