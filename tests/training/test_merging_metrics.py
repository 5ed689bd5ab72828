"""A metric that cannot be merged from batches is found before the first step."""

import functools
import warnings

import numpy as np
import pytest

import npdl.functional as F
from npdl import random, tree
from npdl.callbacks import LambdaCallback
from npdl.training import evaluate, fit

GENERATOR = random.generator(5)
X = GENERATOR.normal(size=(90, 4)).astype(np.float32)
IDS = GENERATOR.integers(3, size=90)
LABELS = np.arange(90) % 2  # the same share of each class in any part
MODEL = F.serial(F.dense(5), F.batch_norm(), F.tanh(), F.dense(3))
BINARY = F.serial(F.dense(1), F.sigmoid())
ONES = LABELS[:, None].astype(np.float32)
NUMBERS = GENERATOR.normal(size=(90, 3))


def hits(outputs, targets):
    predicted = outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else outputs[:, 0] > 0.5
    return np.asarray(predicted, int), targets.reshape(-1).astype(int)


def recall(outputs, targets):
    predicted, true = hits(outputs, targets)
    return float(np.mean(predicted[true == 1] == 1)) if np.any(true == 1) else 0.0


def precision(outputs, targets):
    predicted, true = hits(outputs, targets)
    return float(np.mean(true[predicted == 1] == 1)) if np.any(predicted == 1) else 0.0


def root_mean_square(outputs, targets):
    return np.sqrt(np.mean((outputs - targets) ** 2))


def correlation(outputs, targets):
    return np.corrcoef(outputs.ravel(), targets.ravel())[0, 1]


CLASSES = (MODEL, F.softmax_cross_entropy, IDS)
EVEN = (MODEL, F.softmax_cross_entropy, LABELS)
SINGLE = (BINARY, F.binary_cross_entropy, ONES)
REGRESSION = (F.dense(3), F.mean_squared_error, NUMBERS)

NO_MEANS = {
    "f1": (*CLASSES, lambda outputs, targets: F.f1_score(outputs, targets)),
    "f1 of two classes": (*EVEN, lambda outputs, targets: F.f1_score(outputs, targets)),
    "recall": (*CLASSES, recall),
    "recall of equal shares": (*EVEN, recall),
    "precision": (*CLASSES, precision),
    "precision of equal shares": (*EVEN, precision),
    "recall of one output": (*SINGLE, recall),
    "precision of one output": (*SINGLE, precision),
    "auc of one output": (*SINGLE, lambda outputs, targets: F.roc_auc(outputs, targets)),
    "matthews": (*EVEN, lambda outputs, targets: F.matthews_correlation(outputs, targets)),
    "perplexity": (
        *CLASSES,
        lambda outputs, targets: float(np.exp(F.softmax_cross_entropy(outputs, targets)[0])),
    ),
    "root": (*REGRESSION, root_mean_square),
    "r2": (*REGRESSION, lambda outputs, targets: F.r2_score(outputs, targets)),
    "correlation": (*REGRESSION, correlation),
    "largest": (*REGRESSION, lambda outputs, targets: np.abs(outputs - targets).max()),
    "median": (*REGRESSION, lambda outputs, targets: np.median(outputs - targets)),
    "sum": (*REGRESSION, lambda outputs, targets: np.sum(outputs - targets)),
    "count": (*CLASSES, lambda outputs, targets: len(targets)),
    "spread": (*REGRESSION, lambda outputs, targets: outputs.std()),
}
MEANS = {
    "accuracy": (*CLASSES, lambda outputs, targets: np.mean(outputs.argmax(1) == targets)),
    "loss": (*CLASSES, lambda outputs, targets: F.softmax_cross_entropy(outputs, targets)[0]),
    "error": (*REGRESSION, lambda outputs, targets: np.float32(np.abs(outputs - targets).mean())),
    "bias": (*REGRESSION, lambda outputs, targets: (1e3 + outputs - targets).mean() - 1e3),
    "constant": (*CLASSES, lambda outputs, targets: 0.3),
    "infinite": (*CLASSES, lambda outputs, targets: -np.inf),
    "nan": (*CLASSES, lambda outputs, targets: np.nan),
    "float32": (
        *REGRESSION,
        lambda outputs, targets: np.mean(
            np.float32(outputs) * np.float32(targets), dtype=np.float32
        ),
    ),
}


class Source:
    """Reads rows of arrays on demand."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[-1])

    def __getitem__(self, rows):
        return tree.map(lambda array: array[rows], self.arrays)


def train(model, loss, targets, metric, steps=None, **options):
    count = LambdaCallback(on_train_batch_begin=lambda *_: steps.append(1))
    options = {"batch_size": 8, "progress": False} | options
    data = options.pop("data", (X, targets))
    return fit(
        model, loss, F.sgd(0.1), data, metrics={"own": metric},
        callbacks=[] if steps is None else [count], **options,
    )  # fmt: skip


@pytest.mark.parametrize("case", NO_MEANS.values(), ids=NO_MEANS)
@pytest.mark.parametrize("kind", ["arrays", "source", "one batch", "shards", "weights"])
def test_a_function_that_is_not_a_mean_is_found(case, kind):
    model, loss, targets, metric = case
    steps, options = [], {}
    if kind == "source":
        options = {"data": Source(X, targets)}
    elif kind == "weights":
        options = {"data": (X, targets, np.linspace(0.5, 2, 90))}
    elif kind != "arrays":
        options = {"batch_size": 90} if kind == "one batch" else {"batch_size": 10, "shards": 2}
    message = r"the metric 'own' is not a mean over the examples.*F\.Metric\(.*F\.collected\("
    with pytest.raises(ValueError, match=message):
        train(model, loss, targets, metric, steps, **options)
    assert not steps
    if kind != "source":
        data = options.get("data", (X, targets))
        collected = F.collected(metric)
        state, history = train(model, loss, targets, collected, validation=data, **options)
        again = evaluate(model, state.params, data, metrics={"own": metric})["own"]
        assert history["val_own"] == [pytest.approx(again)]


@pytest.mark.parametrize("case", MEANS.values(), ids=MEANS)
@pytest.mark.parametrize("kind", ["arrays", "source", "weights"])
def test_a_mean_is_accepted(case, kind):
    model, loss, targets, metric = case
    data = {
        "arrays": (X, targets),
        "source": Source(X, targets),
        "weights": (X, targets, np.linspace(0, 2, 90)),
    }[kind]
    train(model, loss, targets, metric, data=data)


UNMERGED = {
    "the outputs": F.Metric(lambda o, t, weights=None: (o, t), lambda s: float(np.ptp(s[0]))),
    "a mean": F.Metric(
        lambda o, t, weights=None: {"f1": F.f1_score(o, t)}, lambda s: float(s["f1"])
    ),
    "a wrong merge": F.Metric(F.f1_score.sums, F.f1_score.result, lambda a, b: a),
}


@pytest.mark.parametrize("metric", UNMERGED.values(), ids=UNMERGED)
def test_a_metric_that_cannot_be_merged_is_found(metric):
    steps = []
    with pytest.raises(
        ValueError, match=r"same shape|'own' cannot be merged from batches"
    ) as found:
        train(*CLASSES, metric, steps)
    assert not steps
    told = str(found.value) + "".join(getattr(found.value, "__notes__", []))
    assert "'own' cannot be merged from batches" in told
    assert "F.collected(function)" in told


RIGHT = {
    "sums": F.Metric(
        lambda o, t, weights=None: (float(np.sum(o.argmax(1) == t)), float(len(t))),
    ),
    "bound": functools.partial(F.f1_score, average="micro"),
    "collected": F.collected(lambda o, t: F.f1_score(o, t)),
}


@pytest.mark.parametrize("metric", RIGHT.values(), ids=RIGHT)
@pytest.mark.parametrize("shards", [None, 3])
def test_a_metric_that_is_merged_is_accepted(metric, shards):
    history = train(*CLASSES, metric, batch_size=9, shards=shards, validation=(X, IDS))[1]
    assert 0 <= history["own"][0] <= 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_examples_are_enough(count):
    data = (X[:count], NUMBERS[:count])
    train(*REGRESSION, lambda o, t: np.mean(o - t), data=data)
    if count > 1:
        with pytest.raises(ValueError, match="not a mean"):
            train(*REGRESSION, root_mean_square, data=data)


def test_the_trial_of_large_outputs_has_few_examples():
    sizes = []

    def largest(outputs, targets):
        sizes.append(outputs.size)
        return np.abs(outputs).max()

    x = GENERATOR.normal(size=(50, 2)).astype(np.float32)
    y = np.broadcast_to(np.zeros(1 << 20, np.float32), (50, 1 << 20))
    with pytest.raises(ValueError, match="not a mean"):
        train(F.dense(1 << 20), F.mean_squared_error, None, largest, data=(x, y), batch_size=2)
    assert max(sizes) == 4 << 20


def test_the_trial_reads_few_rows_of_a_source():
    rows = []

    class Counting(Source):
        def __getitem__(self, wanted):
            rows.extend(wanted.tolist())
            return super().__getitem__(wanted)

    train(*CLASSES, lambda o, t: np.mean(o.argmax(1) == t), data=Counting(X, IDS))
    assert len(rows) <= 90 + 64 + 1


def test_the_trial_changes_no_bit_and_warns_of_nothing():
    def warns(outputs, targets):
        if len(np.unique(outputs.argmax(axis=1))) < 3 and outputs.dtype == np.float64:
            warnings.warn("ill-defined", UserWarning, stacklevel=2)
        return float(np.mean(outputs.argmax(1) == targets))

    plain, _ = fit(MODEL, F.softmax_cross_entropy, F.adam(0.1), (X, IDS), progress=False)
    tried, _ = fit(
        MODEL, F.softmax_cross_entropy, F.adam(0.1), (X, IDS), progress=False,
        metrics={"own": warns},
    )  # fmt: skip
    assert all(map(np.array_equal, *map(tree.leaves, (plain.params, tried.params))))
