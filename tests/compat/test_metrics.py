"""Metrics of a model by name, and their weights; weights of classes."""

import copy
import functools
import pickle

import numpy as np
import pytest
from arrays import same_bits

import npdl
import npdl.functional as F
from npdl import random
from npdl.callbacks import direction
from npdl.compat._metrics import METRICS, metric_of

GENERATOR = random.generator(7)
X = GENERATOR.normal(size=(40, 4)).astype(np.float32)
IDS = GENERATOR.choice(3, size=40, p=[0.6, 0.3, 0.1])
WEIGHTS = GENERATOR.uniform(0.1, 3, 40) * (np.arange(40) % 7 > 0)
SEQUENCES = GENERATOR.normal(size=(40, 6, 4)).astype(np.float32)
STEPS = GENERATOR.integers(3, size=(40, 6))
NUMBERS = GENERATOR.normal(size=(40, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _same_generator():
    rng = npdl.utils.get_rng()
    npdl.utils.set_seed(4)
    yield
    npdl.utils.set_rng(rng)


def classifier(outputs=3, activation="softmax", loss="scce", rate=0.0, **options):
    model = npdl.Model([npdl.layers.Dense(outputs, n_in=4, activation=activation)])
    model.compile(loss, npdl.optimizers.Adam(lr=rate), **options)
    return model


# Name → the value of (targets, outputs, weights) by scikit-learn, for outputs of three classes.
sklearn = pytest.importorskip("sklearn.metrics")
LABELS = {"labels": range(3)}
MACRO = LABELS | {"average": "macro", "zero_division": 0}


def area(function):
    def of(t, p, w):
        return np.mean([function(t == k, p[:, k], sample_weight=w) for k in range(3)])

    return of


CLASSES = {
    "accuracy": lambda t, p, w: np.average(p.argmax(1) == t, weights=w),
    "precision": lambda t, p, w: sklearn.precision_score(t, p.argmax(1), sample_weight=w, **MACRO),
    "recall": lambda t, p, w: sklearn.recall_score(t, p.argmax(1), sample_weight=w, **MACRO),
    "f1": lambda t, p, w: sklearn.f1_score(t, p.argmax(1), sample_weight=w, **MACRO),
    "mcc": lambda t, p, w: sklearn.matthews_corrcoef(t, p.argmax(1), sample_weight=w),
    "auc": area(sklearn.roc_auc_score),
    "average_precision": area(sklearn.average_precision_score),
    "perplexity": lambda t, p, w: np.exp(
        sklearn.log_loss(t, p.astype(np.float64), sample_weight=w, **LABELS)
    ),
    "calibration_error": lambda t, p, w: F.calibration_error(p, t, w),
}
BINARY = {
    "accuracy": lambda t, p, w: np.average((p > 0.5) == t, weights=w),
    "binary_accuracy": lambda t, p, w: np.average((p > 0.5) == t, weights=w),
    "precision": lambda t, p, w: sklearn.precision_score(t, p > 0.5, sample_weight=w),
    "recall": lambda t, p, w: sklearn.recall_score(t, p > 0.5, sample_weight=w),
    "f1_score": lambda t, p, w: sklearn.f1_score(t, p > 0.5, sample_weight=w),
    "matthews_correlation": lambda t, p, w: sklearn.matthews_corrcoef(t, p > 0.5, sample_weight=w),
    "roc_auc": lambda t, p, w: sklearn.roc_auc_score(t, p, sample_weight=w),
    "average_precision": lambda t, p, w: sklearn.average_precision_score(t, p, sample_weight=w),
    "calibration_error": lambda t, p, w: F.calibration_error(p, t, w),
}
OF_NUMBERS = {
    "mae": lambda t, p, w: sklearn.mean_absolute_error(t, p, sample_weight=w),
    "mse": lambda t, p, w: sklearn.mean_squared_error(t, p, sample_weight=w),
    "rmse": lambda t, p, w: np.sqrt(sklearn.mean_squared_error(t, p, sample_weight=w)),
    "r2": lambda t, p, w: sklearn.r2_score(t, p, sample_weight=w),
}


def check(model, targets, table, true, prepared):
    """Compare the metrics of an epoch and of evaluation with scikit-learn's."""
    p = prepared(model.predict(X).astype(np.float64))
    for weights in (None, WEIGHTS):
        each = np.ones(40) if weights is None else WEIGHTS
        expected = {name: value(true, p, each) for name, value in table.items()}
        options = {"metrics": list(table), "batch_size": 7, "sample_weight": weights}
        found = model.evaluate(X, targets, return_dict=True, **options)
        assert {name: found[name] for name in table} == pytest.approx(expected, rel=1e-6)
        validation = (X, targets) if weights is None else (X, targets, weights)
        history = model.fit(
            X, targets, epochs=1, validation_data=validation, verbose=0, **options
        ).history
        for name in table:
            assert history[name] == pytest.approx([expected[name]], rel=1e-6), name
            assert history[f"val_{name}"] == pytest.approx([expected[name]], rel=1e-6), name


FORMS = {
    "ids": IDS,
    "one-hot": np.eye(3)[IDS],
    "column": IDS[:, None],
    "floats": IDS.astype(np.float32),
}


@pytest.mark.parametrize("targets", FORMS.values(), ids=FORMS)
def test_metrics_of_classes_are_those_of_scikit_learn(targets):
    check(classifier(), targets, CLASSES, IDS, lambda p: p / p.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("column", [False, True])
def test_metrics_of_one_output_are_of_the_class_one(loss, column):
    true = (IDS > 0).astype(int)
    targets = true[:, None] if column else true
    check(classifier(1, "sigmoid", loss), targets, BINARY, true, lambda p: p[:, 0])


def test_metrics_of_numbers_are_those_of_scikit_learn():
    check(classifier(2, "linear", "mse"), NUMBERS, OF_NUMBERS, NUMBERS, lambda p: p)
    one = NUMBERS[:, 0]
    check(classifier(1, "linear", "mse"), one, OF_NUMBERS, one, lambda p: p[:, 0])


def test_the_top_k_accuracy_has_names_of_keras():
    x = GENERATOR.normal(size=(60, 4))
    ids = GENERATOR.integers(9, size=60)
    names = ["top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"]
    model = classifier(9, metrics=names)
    found = model.evaluate(x, ids, return_dict=True)
    expected = F.top_k_accuracy(model.predict(x), ids)
    assert {found[name] for name in names} == {expected}


KERAS = ["Accuracy", "BinaryAccuracy", "AUC", "Precision", "Recall", "F1Score", "R2Score", "MSE"]
KERAS += ["RootMeanSquaredError", "MeanAbsoluteError", "TopKCategoricalAccuracy", "mae", "acc"]
KERAS += ["SparseCategoricalAccuracy"]


@pytest.mark.parametrize("name", KERAS)
def test_names_of_keras_are_accepted(name):
    assert metric_of(name) in METRICS.values()
    model = classifier(metrics=[name])
    assert model.metrics_names == ["loss", "accuracy" if name == "acc" else name]
    assert npdl.Model.from_json(model.to_json()).metrics_names == model.metrics_names


@pytest.mark.parametrize("name", METRICS)
def test_a_named_metric_can_be_pickled_and_copied(name):
    known = metric_of(name)
    assert pickle.loads(pickle.dumps(known)) is known
    assert copy.deepcopy({name: known}) == {name: known}


def test_a_dict_may_have_names_of_metrics():
    model = classifier(metrics={"mine": "f1", "own": F.accuracy})
    assert model.metrics == {"mine": METRICS["f1"], "own": F.accuracy}


def test_an_unknown_name_is_an_error_that_lists_all():
    with pytest.raises(ValueError, match=r"unknown metric 'hinge': expected one of accuracy.*f1"):
        classifier(metrics=["hinge"])


@pytest.mark.parametrize("name", METRICS)
def test_the_best_value_of_a_metric_is_known(name):
    errors = {"mae", "mse", "rmse", "perplexity"}
    small = name in errors or "error" in name
    assert direction(f"val_{name}") == ("min" if small else "max")


def test_metrics_that_do_not_fit_are_found_before_the_first_update():
    wrong = {
        "perplexity": (classifier(2, "linear", "mse"), NUMBERS),
        "auc": (classifier(3, "linear", "mse"), np.eye(3)[IDS] + 1),
        "top_k_accuracy": (classifier(3), IDS),
        "r2": (classifier(3), IDS),
    }
    for name, (model, targets) in wrong.items():
        before = model.get_weights()
        with pytest.raises((ValueError, TypeError)) as found:
            model.fit(X, targets, epochs=1, metrics=[name], verbose=0)
        assert f"in the metric '{name}'" in found.value.__notes__
        assert all(map(np.array_equal, before, model.get_weights()))


def test_validation_split_keeps_the_weights_of_examples():
    held_out = slice(30, None)
    for weights in (WEIGHTS, None):
        model = classifier(metrics=["f1"])
        given = None if weights is None else weights[held_out]
        expected = model.evaluate(X[held_out], IDS[held_out], sample_weight=given, return_dict=True)
        history = model.fit(
            X, IDS, epochs=1, validation_split=0.25, sample_weight=weights, verbose=0,
            class_weight={0: 3.0},
        ).history  # fmt: skip
        assert {name: history[f"val_{name}"][0] for name in expected} == expected


def test_labels_are_no_classes():
    labels = (GENERATOR.random((40, 3)) < 0.4).astype(np.float32)
    model = classifier(3, "sigmoid", "bce")
    p = model.predict(X)
    found = model.evaluate(
        X, labels, return_dict=True, metrics=["auc", "average_precision", "binary_accuracy"]
    )
    assert found["auc"] == pytest.approx(sklearn.roc_auc_score(labels, p))
    assert found["average_precision"] == pytest.approx(sklearn.average_precision_score(labels, p))
    for name in ("precision", "recall", "f1", "mcc", "calibration_error", "top_k_accuracy"):
        with pytest.raises(ValueError, match=r"one class for each example.*threshold=0\.5"):
            model.evaluate(X, labels, metrics=[name])
    f1 = functools.partial(F.f1_score, average="binary", threshold=0.5)
    found = model.evaluate(X, labels, return_dict=True, metrics={"f1": f1})["f1"]
    assert found == pytest.approx(sklearn.f1_score(labels.ravel(), p.ravel() > 0.5))


def f1(outputs, targets):
    return F.f1_score(outputs, targets)


def test_a_function_that_is_not_a_mean_is_found():
    model = classifier()
    before = model.get_weights()
    with pytest.raises(ValueError, match="the metric 'f1' is not a mean over the examples"):
        model.fit(X, IDS, epochs=1, metrics=[f1], verbose=0)
    assert all(map(np.array_equal, before, model.get_weights()))
    history = model.fit(X, IDS, epochs=1, metrics={"f1": F.collected(f1)}, verbose=0)
    assert 0 <= history.history["f1"][0] <= 1


# Weights of classes

BALANCED = {k: 40 / (3 * np.sum(k == IDS)) for k in range(3)}
OF_EXAMPLES = np.array([BALANCED[k] for k in IDS])


def trained(*data, **options):
    npdl.utils.set_seed(4)
    model = classifier(rate=0.05)
    history = model.fit(*data, epochs=2, batch_size=7, verbose=0, **options).history
    return model.get_weights(), history


def test_a_model_takes_balanced_classes():
    expected = trained(X, IDS, sample_weight=OF_EXAMPLES)
    for targets in FORMS.values():
        assert same_bits(trained(X, targets, class_weight="balanced"), expected)
    losses = []
    for options in ({"class_weight": "balanced"}, {"sample_weight": OF_EXAMPLES}):
        npdl.utils.set_seed(4)
        losses.append(classifier().train_on_batch(X, IDS, **options))
    assert losses[0] == losses[1]


WRONG = {
    "a class that is not there": ({3: 2.0}, "the class 3, .*classes 0, 1, 2"),
    "a negative class": ({-1: 2.0}, "the class -1, .*classes 0, 1, 2"),
    "a class by its name": ({"1": 2.0}, "got 2.0 for '1'"),
    "a negative weight": ({1: -2.0}, "got -2.0 for 1"),
    "an infinite weight": ({1: np.inf}, "got inf for 1"),
    "nan": ({1: np.nan}, "got nan for 1"),
    "a list": ([1, 2, 3], r"\{0: 1.0, 1: 5.0\}, got \["),
    "another word": ("even", "must be 'balanced', or a dict.*got 'even'"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_a_model_refuses_wrong_weights_of_classes(given, message):
    model = classifier(rate=0.1)
    before = model.get_weights()
    for method in (functools.partial(model.fit, verbose=0), model.train_on_batch):
        with pytest.raises((ValueError, TypeError), match=message):
            method(X, IDS, class_weight=given)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_model_refuses_weights_of_classes_of_positions():
    model = npdl.Model([npdl.layers.Functional(F.dense(3), input_shape=(6, 4))])
    model.add(npdl.layers.Activation("softmax"))
    model.compile("scce", "sgd")
    with pytest.raises(ValueError, match=r"one class for each example, got targets int64\[40, 6\]"):
        model.fit(SEQUENCES, STEPS, class_weight={1: 2.0}, verbose=0)
