"""Wrong data and arguments: one sentence with the value, and an estimator that is unchanged."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError

import npdl.functional as F
from npdl.sklearn import NpdlClassifier, NpdlRegressor

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.arange(40) % 3
NAMES = np.array(["ash", "birch", "cedar"])[Y]
LABELS = np.stack([Y > 0, Y > 1], axis=1).astype(int)


def unweighted(outputs, targets):
    return F.softmax_cross_entropy(outputs, targets)


def widths(n_features, n_outputs):
    return F.serial(F.dense(n_features), F.dense(n_outputs + 1))


ARGUMENTS = {
    "hidden as an int": ({"hidden": 64}, r"hidden must be a tuple.*hidden=\(64, 64\), got 64"),
    "hidden of strings": ({"hidden": ("64",)}, "dense"),
    "hidden of zero": ({"hidden": (0,)}, "dense"),
    "model and hidden": ({"model": widths, "hidden": (8,)}, r"model and hidden=\(8,\)"),
    "model as an optimizer": ({"model": F.adam(0.1)}, "model must be a layer, or a function"),
    "model of None": ({"model": lambda n, m: None}, "model must be a layer.* got None"),
    "model as a string": ({"model": "mlp"}, "model must be a layer.* got 'mlp'"),
    "too many outputs": ({"model": widths}, r"shape \(4,\).*of 3 features.*need \(3,\).*dense\(3"),
    "too few outputs": ({"model": F.dense(1)}, r"shape \(1,\).*need \(3,\)"),
    "images": ({"model": F.serial(F.dense(3), F.expand_dims(-1))}, r"shape \(3, 1\)"),
    "wrong reshape": ({"model": F.reshape((2, 2))}, "reshape"),
    "loss as a string": ({"loss": "log_loss"}, "expected a loss, such as .* got 'log_loss'"),
    "loss of numbers": ({"loss": F.huber}, "outputs and targets need one shape"),
    "optimizer as a string": ({"optimizer": "adam"}, "expected an optimizer.* got 'adam'"),
    "epochs of zero": ({"epochs": 0}, r"epochs must be a positive int|at least 1"),
    "batch_size as a string": ({"batch_size": "auto"}, "batch_size must be .* got 'auto'"),
    "dtype": ({"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'"),
    "dtype unknown": ({"dtype": "single!"}, "dtype must be 'float32' or 'float64', got 'single!'"),
    "random_state": ({"random_state": "seed"}, "expected a key"),
    "metrics": ({"metrics": F.accuracy}, "metrics must be a dict"),
    "patience": ({"early_stopping": True, "patience": -1}, "patience must be"),
    "fraction": (
        {"early_stopping": True, "validation_fraction": 1.5},
        r"NpdlClassifier: validation_fraction must be a number in \(0, 1\).* got 1.5",
    ),
    "fraction of all": (
        {"early_stopping": True, "validation_fraction": 0.999},
        "validation_fraction=0.999 of 40 examples leaves none",
    ),
    "class_weight as a string": ({"class_weight": "even"}, "class_weight must be .*got 'even'"),
    "class_weight unknown": ({"class_weight": {7: 1}}, r"classes \[0, 1, 2\].* got \{7: 1\}"),
    "class_weight zero": ({"class_weight": {0: 0, 1: 0, 2: 0}}, "weights of all .* are zero"),
    "class_weight list": ({"class_weight": [1, 2, 3]}, "class_weight must be 'balanced'"),
    "class_weight string": ({"class_weight": {0: "2"}}, "dict of weights of at least 0"),
    "class_weight negative": (
        {"class_weight": {0: -1}},
        r"weights of at least 0 for .* got \{0: -1\}",
    ),
    "class_weight nan": ({"class_weight": {0: np.nan}}, "weights of at least 0"),
    "loss without weights": (
        {"loss": unweighted, "class_weight": "balanced"},
        r"need a loss with weights, loss\(outputs, targets, weights\), got unweighted",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_wrong_argument_leaves_the_estimator_unchanged(arguments, message):
    model = NpdlClassifier(epochs=1).fit(X[:, :2], NAMES)
    model.set_params(**arguments)
    before = dict(vars(model))
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X, Y)
    assert vars(model) == before
    assert model.set_params(dtype="float32").predict(X[:, :2]).shape == (40,)


DATA = {
    "strings": (np.full((40, 3), "red"), Y, {}, "could not convert|numeric"),
    "objects": (np.full((40, 3), "red", object), Y, {}, "could not convert string"),
    "NaN": (np.where(np.arange(40)[:, None] == 3, np.nan, X), Y, {}, "NaN"),
    "large": (abs(X) * 1e200, Y, {}, "infinity or a value too large for dtype"),
    "images": (np.zeros((40, 3, 8)), Y, {}, "dim 3"),
    "one class": (X, np.zeros(40), {}, "at least two classes.* got only one class, 0.0"),
    "one class with weights": (
        X, NAMES, {"sample_weight": Y == 1}, "got only one class, 'birch'"
    ),
    "regression": (X, X[:, 0], {}, "Unknown label type"),
    "columns of classes": (X, np.stack([Y, Y], axis=1), {}, "MultiOutputClassifier"),
    "weights of another length": (X, Y, {"sample_weight": [1.0]}, r"shape \(40,\), got .* \(1,\)"),
    "two-dimensional weights": (X, Y, {"sample_weight": np.ones((40, 2))}, r"shape \(40, 2\)"),
    "negative weights": (X, Y, {"sample_weight": Y - 1}, "must not be negative, got -1.0"),
    "weights of zero": (X, Y, {"sample_weight": 0 * Y}, "weights of all examples are zero"),
    "weights of NaN": (X, Y, {"sample_weight": np.full(40, np.nan)}, "sample_weight.*NaN"),
    "lengths": (X, Y[:9], {}, "inconsistent numbers of samples"),
    "no targets": (X, None, {}, "y.*None"),
}  # fmt: skip


@pytest.mark.parametrize(("x", "y", "options", "message"), DATA.values(), ids=DATA)
def test_wrong_data_leave_the_estimator_unchanged(x, y, options, message):
    model = NpdlClassifier(epochs=1).fit(X[:, :2], NAMES)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, **options)
    assert vars(model) == before


def test_notes_say_how_to_pass_strings_and_images():
    with pytest.raises(ValueError, match=r"string|numeric") as raised:
        NpdlClassifier().fit(np.full((40, 3), "red"), Y)
    assert "make_pipeline(OneHotEncoder(), NpdlClassifier())" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="dim 4") as raised:
        NpdlRegressor().fit(np.zeros((40, 1, 8, 8)), Y)
    assert "NpdlRegressor(F.serial(F.reshape((1, 8, 8)), ...))" in raised.value.__notes__[0]


def test_labels_have_no_class_weight():
    for weights in ("balanced", {0: 1.0, 1: 2.0}):
        with pytest.raises(ValueError, match="needs one class per example"):
            NpdlClassifier(class_weight=weights).fit(X, LABELS)


def test_a_diverged_training_is_an_error():
    model = NpdlRegressor(F.dense(1), epochs=1).fit(X, X[:, 0])
    model.set_params(optimizer=F.sgd(1e3), epochs=99)
    before = dict(vars(model))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="the loss is"):
        model.fit(X, X[:, 0] * 1e6)
    assert vars(model) == before


def test_strings_as_targets_of_a_regression_are_refused():
    with pytest.raises(ValueError, match=r"y must be numbers.*<U5.*use NpdlClassifier"):
        NpdlRegressor().fit(X, NAMES)


def test_large_targets_of_a_regression_are_refused():
    with pytest.raises(ValueError, match=r"y.*too large for dtype"):
        NpdlRegressor(F.dense(1)).fit(X, abs(X[:, 0]) * 1e200)


PARTIAL = {
    "no classes": ([], {}, r"needs the classes of all calls.*classes=\[0, 1, 2, ...\]"),
    "too few classes": ([], {"classes": [0, 1]}, r"unknown classes \[2\].*classes \[0, 1\]"),
    "new class": ([Y], {"y": Y + 1}, r"unknown classes \[3\].*classes \[0, 1, 2\]"),
    "other classes": ([Y], {"classes": [0, 1, 2, 3]}, r"got the classes \[0, 1, 2, 3\], but"),
    "labels": ([Y], {"y": LABELS}, "one class per example.*labels|unknown classes"),
    "classes": ([LABELS], {}, "one class per example.*labels|unknown classes"),
    "features": ([Y], {"X": X[:, :2]}, "X has 2 features, but NpdlClassifier is expecting 3"),
}


@pytest.mark.parametrize(("before", "options", "message"), PARTIAL.values(), ids=PARTIAL)
def test_a_wrong_call_of_partial_fit_changes_nothing(before, options, message):
    model = NpdlClassifier()
    for y in before:
        model.partial_fit(X, y, classes=None if y.ndim == 2 else [0, 1, 2])
    kept = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.partial_fit(**{"X": X, "y": Y} | options)
    assert vars(model) == kept


def test_partial_fit_refuses_what_needs_all_examples():
    with pytest.raises(ValueError, match="class_weight='balanced' needs all examples"):
        NpdlClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    for make in (NpdlClassifier, NpdlRegressor):
        with pytest.raises(ValueError, match=r"one epoch.*early_stopping=False"):
            make(early_stopping=True).partial_fit(X, Y)


CHANGES = {
    "hidden": {"hidden": (8,)},
    "model": {"model": F.dense(3)},
    "dtype": {"dtype": "float64"},
    "kind of loss": {"loss": F.sigmoid_cross_entropy},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_training_does_not_continue_with_another_network(change):
    model = NpdlClassifier(epochs=1, warm_start=True).fit(X, Y).set_params(**change)
    for train in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match="training cannot continue, because model, hidden"):
            train(X, Y)
    assert model.set_params(warm_start=False).fit(X, Y).n_iter_ == 1


def test_training_does_not_continue_with_another_optimizer():
    model = NpdlClassifier(epochs=1, warm_start=True).fit(X, Y)
    with pytest.raises((TypeError, ValueError)):
        model.set_params(optimizer=F.momentum(0.1)).fit(X, Y)
    assert model.set_params(optimizer=F.adamw(1e-3, weight_decay=0.2)).fit(X, Y).n_iter_ == 2


def test_a_regressor_continues_with_the_same_number_of_targets():
    model = NpdlRegressor().partial_fit(X, X)
    with pytest.raises(ValueError, match=r"y has 2 numbers per example.* 3 outputs"):
        model.partial_fit(X, X[:, :2])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "score"])
def test_an_estimator_without_training_is_refused(method):
    with pytest.raises(NotFittedError):
        getattr(NpdlClassifier(), method)(*[X, Y][: 1 + (method == "score")])
    assert not hasattr(NpdlClassifier(), "params_")


def test_a_missing_library_is_named():
    program = "import sys; sys.modules['sklearn'] = None; import npdl.sklearn"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    message = "npdl.sklearn needs scikit-learn 1.6 or later: pip install 'npdl-functional[sklearn]'"
    assert message in result.stderr
