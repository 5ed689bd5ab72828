"""Metrics merged from batches and shards have scikit-learn's value for all examples at once."""

import functools
import inspect
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random
from npdl.training import evaluate, fit

sklearn = pytest.importorskip("sklearn.metrics")


def perplexity_of(t, p, w):
    labels = range(p.shape[1])
    return np.exp(sklearn.log_loss(t, p, sample_weight=w, labels=labels))


def calibration_of(t, p, w, bins=15):
    """The equation of Guo et al., with scikit-learn's intervals."""
    confidence = p if p.ndim == 1 else p.max(axis=1)
    hit = t if p.ndim == 1 else p.argmax(axis=1) == t
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    gaps = [abs(np.sum((w * (hit - confidence))[index == k])) for k in range(bins)]
    return sum(gaps) / w.sum()


def averaged(function, average):
    def of(t, p, w):
        labels = range(p.shape[1])
        found = function(
            t, p.argmax(axis=1), labels=labels, average=average, sample_weight=w, zero_division=0
        )
        return found

    return of


def binary(function):
    return lambda t, p, w: function(
        t, (p > 0.5).astype(int), average="binary", sample_weight=w, zero_division=0
    )


def curve(function, average="macro"):
    """The area of each class against all others; scikit-learn refuses absent classes."""

    def of(t, p, w):
        if p.ndim == 1 or p.shape[1] == 2:
            return function(t, p if p.ndim == 1 else p[:, 1], sample_weight=w)
        each, counts = [], []
        for k in range(p.shape[1]):
            hit = t == k
            if function is sklearn.roc_auc_score and len(np.unique(hit[w > 0])) < 2:
                continue
            each.append(function(hit, p[:, k], sample_weight=w))
            counts.append(w @ hit)
        if average is None:
            return each
        return np.average(each, weights=counts if average == "weighted" else None)

    return of


# The metric, scikit-learn's value of (targets, outputs, weights).
CLASSES = {
    "accuracy": (F.accuracy, lambda t, p, w: np.average(p.argmax(1) == t, weights=w)),
    "top_2": (
        functools.partial(F.top_k_accuracy, k=2),
        lambda t, p, w: sklearn.top_k_accuracy_score(
            t, p[:, 1] if p.shape[1] == 2 else p, k=2, sample_weight=w, labels=range(p.shape[1])
        ),
    ),
    "matthews": (
        F.matthews_correlation,
        lambda t, p, w: sklearn.matthews_corrcoef(t, p.argmax(1), sample_weight=w),
    ),
    "confusion_matrix": (
        F.confusion_matrix,
        lambda t, p, w: sklearn.confusion_matrix(
            t, p.argmax(1), labels=range(p.shape[1]), sample_weight=w
        ),
    ),
    "roc_auc": (F.roc_auc, curve(sklearn.roc_auc_score)),
    "roc_auc, weighted": (
        functools.partial(F.roc_auc, average="weighted"),
        curve(sklearn.roc_auc_score, "weighted"),
    ),
    "average_precision": (F.average_precision, curve(sklearn.average_precision_score)),
    "perplexity": (F.perplexity, perplexity_of),
    "calibration_error": (F.calibration_error, calibration_of),
    "calibration_error, 4 bins": (
        functools.partial(F.calibration_error, bins=4),
        functools.partial(calibration_of, bins=4),
    ),
}
for name in ("precision", "recall", "f1_score"):
    for average in ("macro", "micro", "weighted"):
        CLASSES[f"{name}, {average}"] = (
            functools.partial(getattr(F, name), average=average),
            averaged(getattr(sklearn, f"{name}".replace("_score", "") + "_score"), average),
        )
BINARY = {
    name: (
        functools.partial(getattr(F, name), average="binary", threshold=0.5),
        binary(getattr(sklearn, name.replace("_score", "") + "_score")),
    )
    for name in ("precision", "recall", "f1_score")
} | {
    "matthews": (
        functools.partial(F.matthews_correlation, threshold=0.5),
        lambda t, p, w: sklearn.matthews_corrcoef(t, p > 0.5, sample_weight=w),
    ),
    "confusion_matrix": (
        functools.partial(F.confusion_matrix, threshold=0.5),
        lambda t, p, w: sklearn.confusion_matrix(t, p > 0.5, sample_weight=w, labels=[0, 1]),
    ),
    "roc_auc": (F.roc_auc, curve(sklearn.roc_auc_score)),
    "average_precision": (F.average_precision, curve(sklearn.average_precision_score)),
    "calibration_error": (F.calibration_error, calibration_of),
    "binary_accuracy": (F.binary_accuracy, lambda t, p, w: np.average((p > 0.5) == t, weights=w)),
}
NUMBERS = {
    "absolute_error": (
        F.absolute_error,
        lambda t, p, w: sklearn.mean_absolute_error(t, p, sample_weight=w),
    ),
    "r2_score": (F.r2_score, lambda t, p, w: sklearn.r2_score(t, p, sample_weight=w)),
}
TASKS = {"classes": CLASSES, "binary": BINARY, "numbers": NUMBERS}
EVERY = [
    pytest.param(task, *pair, id=f"{task}, {name}")
    for task, table in TASKS.items()
    for name, pair in table.items()
]


def examples(task, seed, count, classes, ties):
    """Return outputs, targets and weights, some of them 0."""
    generator = random.generator((seed, count, classes))
    if task == "classes":
        p = F.softmax()((), generator.normal(size=(count, classes)))
        t = generator.integers(classes, size=count)
    else:
        p = generator.random(count)
        t = (generator.random(count) < p).astype(int)
    if task == "numbers":
        t, p = 3 + generator.normal(size=(2, count))
    if ties and task == "binary":
        p = p.round(1)
    weights = generator.uniform(0.1, 2, count) * (generator.random(count) > 0.2)
    t[:2], weights[:2] = (0, 1), 1  # scikit-learn needs two classes
    return p, t, weights


def merged(metric, parts, draw):
    """Merge sums in an order that Hypothesis draws: neighbours in any order."""
    parts = list(parts)
    while len(parts) > 1:
        i = draw(st.integers(0, len(parts) - 2))
        parts[i : i + 2] = [metric.merge(parts[i], parts[i + 1])]
    return parts[0]


def unbound(metric):
    """Return a metric without a partial around it, and its options."""
    return (metric.func, metric.keywords) if isinstance(metric, functools.partial) else (metric, {})


@pytest.mark.parametrize(("task", "metric", "expected"), EVERY)
@settings(max_examples=20)
@given(data=st.data())
def test_any_cuts_have_the_value_of_all_examples(task, metric, expected, data):
    count = data.draw(st.integers(4, 60))
    options = data.draw(st.tuples(st.integers(0, 99), st.integers(2, 5), st.booleans()))
    p, t, weights = examples(task, options[0], count, *options[1:])
    if not data.draw(st.booleans(), "weighted"):
        weights = None
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=8)))
    inner, keywords = unbound(metric)
    sums = [
        inner.sums(p[i:j], t[i:j], None if weights is None else weights[i:j], **keywords)
        for i, j in zip([0, *cuts], [*cuts, count], strict=True)
    ]
    found = inner.result(merged(inner, sums, data.draw), **keywords)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes without an example
        value = expected(t, p, np.ones(count) if weights is None else weights)
    np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("task", "metric", "expected"), EVERY)
@pytest.mark.parametrize("shards", [None, 3])
def test_an_epoch_has_the_value_of_scikit_learn(task, metric, expected, shards):
    p, t, weights = examples(task, 1, 47, 3, ties=True)
    if task == "binary" or task == "numbers":
        loss = F.mean_squared_error
    else:
        loss = functools.partial(F.categorical_cross_entropy)
    if "confusion_matrix" in repr(metric):
        found = evaluate(F.linear(), (), (p, t, weights), metrics={"m": metric})["m"]
    else:
        _, history = fit(
            F.linear(), loss, F.sgd(0.0), (p, t, weights), metrics={"m": metric}, batch_size=5,
            shards=shards, validation=(p, t, weights), progress=False,
        )  # fmt: skip
        (found,) = history["m"]
        assert found == pytest.approx(history["val_m"][0], rel=1e-12)
    np.testing.assert_allclose(found, expected(t, p, weights), rtol=1e-12, atol=1e-12)


# Definitions


def test_logits_are_ranked_by_their_softmax():
    z = random.generator(0).normal(size=(40, 4)).astype(np.float32)
    t = random.generator(1).integers(4, size=40)
    p = F.softmax()((), z.astype(np.float64))
    for metric in (F.roc_auc, F.average_precision, F.perplexity, F.calibration_error):
        assert metric(z, t, logits=True) == pytest.approx(metric(p, t), rel=1e-12)
        with pytest.raises(ValueError, match=rf"pass {metric.__name__}\(\.\.\., logits=True\)"):
            metric(z, t)
        with pytest.raises(ValueError, match="whose sum is 1, got a row with the sum 2"):
            metric(np.full((4, 4), 0.5), t[:4])


def test_labels_are_ranked_one_by_one():
    generator = random.generator(0)
    scores = 9 * generator.normal(size=(50, 3))
    t = (generator.random((50, 3)) < 0.4).astype(float)
    w = generator.random(50)
    for ours, theirs in (
        (F.roc_auc, sklearn.roc_auc_score),
        (F.average_precision, sklearn.average_precision_score),
    ):
        for average in ("macro", "weighted", None):
            found = ours(scores, t, w, average=average)
            expected = theirs(t, scores, sample_weight=w, average=average)
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_areas_without_positives_or_negatives():
    p = np.array([0.2, 0.9, 0.4])
    for t in (np.zeros(3), np.ones(3)):
        assert np.isnan(F.roc_auc(p, t))
        assert np.isnan(F.roc_auc(p, t, np.zeros(3)))
        assert F.average_precision(p, t) == t[0]
    rows = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.6, 0.2, 0.2]])
    areas = F.roc_auc(rows, np.array([0, 1, 0]), average=None)
    np.testing.assert_array_equal(areas, [1, 1, np.nan])
    assert F.roc_auc(rows, np.array([0, 1, 0])) == 1
    assert F.average_precision(rows, np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_a_score_of_nan_makes_the_area_nan():
    p, t = np.array([0.2, np.nan, 0.4, 0.9]), np.array([0, 1, 1, 0])
    for metric in (F.roc_auc, F.average_precision):
        assert np.isnan(metric(p, t))
        assert metric(p, t, np.array([1, 0, 1, 1])) == metric(p[[0, 2, 3]], t[[0, 2, 3]])


def test_infinite_scores_have_the_highest_and_lowest_ranks():
    p, t = np.array([-np.inf, np.inf, 0.0, np.inf]), np.array([0, 1, 1, 0])
    assert F.roc_auc(p, t) == 0.625


def test_perplexity_at_the_limits():
    uniform, t = np.full((4, 5), 0.2), np.arange(4)
    assert F.perplexity(uniform, t) == pytest.approx(5, rel=1e-14)
    assert F.perplexity(np.eye(4), t) == 1
    assert F.perplexity(np.eye(4), (t + 1) % 4) == np.inf
    assert F.perplexity(np.float32([[1e4, 0]]), np.array([1]), logits=True) == np.inf
    masked = np.array([[0.0, -np.inf, 0.0]])
    assert F.perplexity(masked, np.array([0]), logits=True) == pytest.approx(2, rel=1e-14)
    assert F.perplexity(masked, np.array([1]), logits=True) == np.inf
    assert F.perplexity(np.eye(4), (t + 1) % 4, np.zeros(4)) == 1
    weights = np.array([1, 0, 1, 1])
    wrong = np.where(np.arange(4)[:, None] == 1, np.nan, np.eye(4))
    assert F.perplexity(wrong, t, weights) == 1


def test_calibration_of_one_probability_compares_it_with_the_target():
    p, t = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0])
    assert F.calibration_error(p, t, bins=2) == pytest.approx((0.2 + 0.8) / 4)
    assert F.calibration_error(p[:, None], t[:, None], bins=2) == pytest.approx(0.25)
    z = np.log(p / (1 - p))
    assert F.calibration_error(z, t, bins=2, logits=True) == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"outputs must be in \[0, 1\].*logits=True"):
        F.calibration_error(z, t)


def test_the_value_for_class_one_needs_two_classes():
    ids = np.array([0, 1, 2]), np.array([0, 1, 1])
    for metric in (F.precision, F.recall, F.f1_score):
        with pytest.raises(ValueError, match=r"'binary' for 2 classes, or None.*got 'binary'"):
            metric(*ids, average="binary")
        assert metric(ids[0][:1], ids[1][:1], average="binary") == 0  # no class 1
    assert F.recall(np.array([0, 1, 1]), np.array([1, 1, 0]), average="binary") == 0.5


@pytest.mark.parametrize("metric", [F.precision, F.matthews_correlation, F.confusion_matrix])
def test_a_threshold_is_for_scores_of_two_classes(metric):
    p, t = np.array([0.2, 0.8]), np.array([0, 1])
    with pytest.raises(ValueError, match="a threshold is for 2 classes, got classes=3"):
        metric(p, t, threshold=0.5, classes=3)
    with pytest.raises(ValueError, match="threshold must be a number that is finite"):
        metric(p, t, threshold="0.5")
    with pytest.raises(ValueError, match="not broadcast"):
        metric(p[:, None], t, threshold=0.5)
    with pytest.raises(ValueError, match=r"targets must be in \[0, 1\]"):
        metric(p, t + 1, threshold=0.5)


def test_the_matrix_of_weighted_positions_has_floats():
    found = F.confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.5, 2, 0]))
    np.testing.assert_array_equal(found, [[0.5, 2], [0, 0]])
    parts = [F.confusion_matrix.sums(np.array([i]), np.array([i])) for i in (0, 2)]
    np.testing.assert_array_equal(F.confusion_matrix.merge(*parts), np.diag([1, 0, 1]))


def test_predictions_of_one_class_have_no_correlation():
    weights = np.array([0.1, 0.2, 0.3, 0.7])
    for ids in ([0, 1, 1, 0], [1, 1, 1, 1]):
        for p, t in (([1, 1, 1, 1], ids), (ids, [1, 1, 1, 1])):
            assert F.matthews_correlation(np.array(p), np.array(t), weights) == 0


# Metrics of all examples at once


def median(outputs, targets, weights=None):
    return np.median(np.abs(outputs - targets)) + (0 if weights is None else weights.sum())


@pytest.mark.parametrize("batch_size", [1, 5, 16, 47])
@pytest.mark.parametrize("shards", [None, 3])
def test_a_collected_function_gets_all_examples_of_an_epoch(batch_size, shards):
    p, t, weights = examples("numbers", 2, 47, 2, ties=False)
    for data in ((p, t), (p, t, weights)):
        _, history = fit(
            F.linear(), F.mean_squared_error, F.sgd(0.0), data, shards=shards, progress=False,
            metrics={"median": F.collected(median)}, batch_size=batch_size, validation=data,
        )  # fmt: skip
        assert history["median"] == pytest.approx([median(*data)], rel=1e-12)
        assert history["val_median"] == pytest.approx([median(*data)], rel=1e-12)
    assert F.collected(median)(p, t) == median(p, t)
    assert F.collected(median)(p, t, weights) == median(p, t, weights)


def test_a_collected_function_is_pickled_with_its_metric():
    found = pickle.loads(pickle.dumps(F.collected(median)))
    assert found(np.ones(2), np.zeros(2)) == 1
    assert repr(found).startswith("collected(<function median at")
    assert inspect.signature(found) == inspect.signature(median)


def test_a_collected_function_takes_options():
    p, t, _ = examples("classes", 1, 40, 3, ties=True)
    metric = functools.partial(F.collected(F.f1_score), average="micro")
    expected = F.f1_score(p, t, average="micro")
    assert metric(p, t) == expected
    found = fit(
        F.linear(), F.categorical_cross_entropy, F.sgd(0.0), (p, t), metrics={"m": metric},
        progress=False,
    )[1]  # fmt: skip
    assert found["m"] == [expected]
    with pytest.raises(TypeError, match=r"function must be a function.*got 3"):
        F.collected(3)


def test_batches_without_weight_have_no_scores():
    p, t, weights = examples("binary", 1, 40, 2, ties=True)
    weights = np.where(np.arange(40) < 17, 0, weights)
    for metric in (F.roc_auc, F.average_precision):
        _, history = fit(
            F.linear(), F.mean_squared_error, F.sgd(0.0), (p, t, weights), batch_size=4,
            metrics={"area": metric}, validation=(p, t, weights), shuffle=False, progress=False,
        )  # fmt: skip
        assert history["area"] == pytest.approx(history["val_area"], rel=1e-12)


@pytest.mark.parametrize("metric", [F.confusion_matrix, functools.partial(F.recall, average=None)])
def test_an_array_is_no_value_of_an_epoch(metric):
    p, t, _ = examples("classes", 1, 40, 3, ties=True)
    with pytest.raises(TypeError, match=r"'m' of a batch must be a number.*evaluate takes arrays"):
        fit(
            F.linear(), F.categorical_cross_entropy, F.sgd(0.0), (p, t), metrics={"m": metric},
            progress=False,
        )  # fmt: skip
    assert evaluate(F.linear(), (), (p, t), metrics={"m": metric})["m"].shape[0] == 3


def test_collected_parts_are_few_and_copied_seldom():
    sums, copied = F.roc_auc.sums(np.zeros(2), np.zeros(2)), 0
    whole = sums
    for _ in range(4096):
        before = {id(part[0]) for part in whole}
        whole = F.roc_auc.merge(whole, sums)
        copied += sum(len(part[0]) for part in whole if id(part[0]) not in before)
    assert len(whole) <= 14
    assert copied <= 2 * 4097 * 14
    assert sum(len(part[0]) for part in whole) == 2 * 4097


def test_expensive_results_are_computed_once_per_epoch():
    calls, seen = [], []

    class Watch:
        def on_train_batch_end(self, batch, logs):
            seen.append(sorted(logs))

    def counted(outputs, targets):
        calls.append(len(outputs))
        return 0.5

    p, t, _ = examples("binary", 1, 40, 2, ties=False)
    fit(
        F.linear(), F.mean_squared_error, F.sgd(0.0), (p, t), batch_size=5, epochs=2,
        metrics={"all": F.collected(counted), "auc": F.roc_auc, "a": F.binary_accuracy},
        callbacks=[Watch()], progress=False,
    )  # fmt: skip
    assert calls.count(40) == 2
    assert seen == [["a", "loss"]] * 16


@pytest.mark.parametrize(
    "metric",
    [getattr(F, name) for name in F.metrics.__all__ if name not in ("Metric", "collected")],
    ids=repr,
)
def test_each_metric_can_be_pickled_and_has_a_name(metric):
    assert pickle.loads(pickle.dumps(metric)) is metric
    assert getattr(F, metric.__name__) is metric
