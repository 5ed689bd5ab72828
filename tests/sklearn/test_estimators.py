"""Estimators train as `fit` does: the same bits, losses, weights and states."""

import functools

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification

import npdl.functional as F
from npdl import random, tree
from npdl.callbacks import EarlyStopping, LambdaCallback
from npdl.sklearn import NpdlClassifier, NpdlRegressor
from npdl.training import TrainState, fit, predict

X, Y = make_classification(100, 8, n_informative=5, n_classes=3, random_state=0)
NAMES = np.array(["ash", "birch", "cedar"])
BINARY = (Y > 0).astype(int)
VALUES = X @ np.arange(-3.0, 5) + X[:, 0] * X[:, 1]
LABELS = make_multilabel_classification(100, 8, n_classes=4, random_state=0)
MODEL = F.serial(F.dense(16), F.relu(), F.dropout(0.2), F.dense(3))
OPTIMIZER = F.adam(0.01)


def classifier(**arguments):
    return NpdlClassifier(**{"hidden": (16,), "epochs": 4, "optimizer": OPTIMIZER} | arguments)


def regressor(**arguments):
    return NpdlRegressor(**{"hidden": (16,), "epochs": 4, "optimizer": OPTIMIZER} | arguments)


def same(a, b):
    """Whether two estimators have the same bits in their state."""
    left, right = tree.leaves(a.state_), tree.leaves(b.state_)
    return all(map(np.array_equal, left, right)) and len(left) == len(right)


def test_a_classifier_has_the_bits_of_fit():
    trained = NpdlClassifier(MODEL, optimizer=OPTIMIZER, epochs=3, random_state=5).fit(X, NAMES[Y])
    state, history = fit(
        MODEL, F.softmax_cross_entropy, OPTIMIZER, (X.astype(np.float32), Y), epochs=3, rng=5,
        batch_size=64, progress=False,
    )  # fmt: skip
    assert tree.all_close(trained.params_, state.params, rtol=0, atol=0)
    assert trained.history_ == history
    assert (trained.layer_, trained.n_iter_) == (MODEL, 3)
    assert trained.loss_ == history["loss"][-1]
    outputs = predict(MODEL, tree.astype(state.params, float), X.astype(np.float32).astype(float))
    assert np.array_equal(trained.decision_function(X), outputs)
    assert np.array_equal(trained.predict(X), NAMES[outputs.argmax(axis=1)])
    assert np.allclose(trained.predict_proba(X), F.softmax()((), outputs), rtol=1e-12)


def test_a_regressor_has_the_bits_of_fit():
    model = F.serial(F.dense(8), F.tanh(), F.dense(2))
    targets = np.stack([VALUES, -VALUES], axis=1)
    weights = np.arange(1.0, 101)
    trained = NpdlRegressor(model, optimizer=OPTIMIZER, epochs=3, loss=F.huber)
    trained.fit(X, targets, sample_weight=weights)
    data = X.astype(np.float32), targets.astype(np.float32), weights
    state, history = fit(model, F.huber, OPTIMIZER, data, epochs=3, batch_size=64, progress=False)
    assert tree.all_close(trained.params_, state.params, rtol=0, atol=0)
    assert trained.history_ == history


@pytest.mark.parametrize("make", [classifier, regressor])
def test_continued_training_has_the_bits_of_one_run(make):
    y = Y if make is classifier else VALUES
    whole = make(epochs=6).fit(X, y)
    warm = make(epochs=3, warm_start=True).fit(X, y).fit(X, y)
    online = make()
    for _ in range(6):
        online.partial_fit(X, y, *[np.unique(Y)] * (make is classifier))
    assert same(whole, warm)
    assert same(whole, online)
    assert whole.history_ == warm.history_ == online.history_
    assert whole.n_iter_ == warm.n_iter_ == online.n_iter_ == 6


def test_partial_fit_continues_with_another_number_of_examples():
    trained = classifier(batch_size=10)
    for rows in (slice(50), slice(50, 75), slice(75, 76)):
        trained.partial_fit(X[rows], Y[rows], classes=[0, 1, 2])
    assert (trained.n_iter_, trained.state_.step) == (3, 5 + 4 + 1)  # from whole epochs: 0, 6, 9
    state = TrainState.create(trained.layer_, OPTIMIZER, (8,), rng=0)
    assert trained.state_.rng == state.rng


def test_fit_without_warm_start_starts_anew():
    assert same(classifier().fit(X, Y), classifier().fit(X, BINARY).fit(X, Y))


def test_training_can_continue_with_the_state():
    trained = classifier(model=MODEL, hidden=None, epochs=2).fit(X, Y)
    data = X.astype(np.float32), Y
    state, _ = fit(
        MODEL, F.softmax_cross_entropy, OPTIMIZER, data, state=trained.state_, epochs=2,
        batch_size=64, progress=False,
    )  # fmt: skip
    assert tree.all_close(
        state.params, classifier(model=MODEL, hidden=None).fit(X, Y).params_, rtol=0, atol=0
    )


KEYS = {
    "key": ((7, 1), (7, 1)),
    "int": (np.int64(7), (7,)),
    "RandomState": (np.random.RandomState(3), random.key(np.random.RandomState(3))),
    "Generator": (np.random.default_rng(3), random.key(np.random.default_rng(3))),
}


@pytest.mark.parametrize(("given", "key"), KEYS.values(), ids=KEYS)
def test_random_state_is_a_seed_a_key_or_a_generator(given, key):
    assert classifier(random_state=given).fit(X, Y).state_.rng == key


def test_random_state_none_draws_from_the_global_generator():
    np.random.seed(4)  # noqa: NPY002
    first = classifier(random_state=None).fit(X, Y)
    second = classifier(random_state=None).fit(X, Y)
    np.random.seed(4)  # noqa: NPY002
    assert same(classifier(random_state=None).fit(X, Y), first)
    assert not same(second, first)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float64, np.dtype("f4")])
def test_dtype_is_the_type_of_the_parameters(dtype):
    for integers in (X, (10 * X).astype(int), X > 0):
        trained = classifier(dtype=dtype).fit(integers, Y)
        assert {leaf.dtype for leaf in tree.leaves(trained.params_)} == {np.dtype(dtype)}
        assert trained.predict_proba(integers).dtype == np.float64


FORMS = {
    "layer": {"model": MODEL, "hidden": None},
    "function": {"model": lambda n, m: F.serial(F.dense(n), F.relu(), F.dense(m)), "hidden": None},
    "partial": {"model": functools.partial(lambda k, n, m: F.dense(m), 3), "hidden": None},
    "sizes": {"hidden": (8, 4)},
    "linear": {"hidden": ()},
    "list": {"hidden": [8]},
    "array": {"hidden": np.array([8, 8])},
    "default": {"hidden": None},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_model_is_a_layer_a_function_or_sizes(form):
    trained = clone(classifier(warm_start=True, **form)).fit(X, Y).fit(X, Y)
    assert trained.layer_.out_shape((8,)) == (3,)
    assert trained.n_iter_ == 8
    assert clone(regressor(warm_start=True, **form)).fit(X, [[1, 2, 3]] * 100).predict(X).ndim == 2


def test_a_model_of_images_begins_with_a_reshape():
    images, digits = load_digits(n_class=3, return_X_y=True)
    model = F.serial(
        F.reshape((1, 8, 8)), F.conv2d(4, 3), F.relu(), F.max_pool2d(2), F.flatten(), F.dense(3)
    )
    trained = NpdlClassifier(model, optimizer=F.adam(0.01), epochs=5).fit(images / 16, digits)
    assert trained.score(images / 16, digits) > 0.9


def ends_with(*layers):
    return lambda n, m: F.serial(F.dense(16), F.relu(), F.dense(m), *layers)


LOSSES = {
    "softmax": (None, F.softmax_cross_entropy),
    "smoothing": (None, functools.partial(F.softmax_cross_entropy, label_smoothing=0.1)),
    "sigmoid": (None, F.sigmoid_cross_entropy),
    "probabilities": (ends_with(F.softmax()), F.categorical_cross_entropy),
    "hellinger": (ends_with(F.softmax()), functools.partial(F.hellinger_distance, epsilon=1e-9)),
    "sigmoid probabilities": (ends_with(F.sigmoid()), F.binary_cross_entropy),
    "log-probabilities": (ends_with(F.log_softmax()), F.softmax_cross_entropy),
    "own": (None, lambda z, t, weights=None: F.softmax_cross_entropy(z, t, weights)),
}


@pytest.mark.parametrize(("model", "loss"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("y", [BINARY, Y, np.zeros(100, int) + (np.arange(100) == 0)])
def test_each_loss_has_consistent_probabilities_and_decisions(model, loss, y):
    hidden = (16,) if model is None else None
    trained = classifier(model=model, hidden=hidden, loss=loss, epochs=30).fit(X, y)
    p, decision = trained.predict_proba(X), trained.decision_function(X)
    assert np.allclose(p.sum(axis=1), 1, rtol=1e-9)
    assert np.allclose(np.exp(trained.predict_log_proba(X)), p, rtol=1e-9)
    assert np.array_equal(p.argmax(axis=1), trained.predict(X))
    if len(trained.classes_) == 2:
        assert decision.shape == (100,)
        assert np.allclose(1 / (1 + np.exp(-decision)), p[:, 1], rtol=1e-6)
    else:
        assert np.array_equal(decision.argmax(axis=1), trained.predict(X))
    assert trained.score(X, y) > 0.8


@pytest.mark.parametrize("loss", [None, F.sigmoid_cross_entropy])
def test_two_classes_take_a_model_of_one_output(loss):
    trained = classifier(model=F.dense(1), hidden=None, loss=loss, epochs=30).fit(X, NAMES[BINARY])
    assert trained.params_["weight"].shape == (8, 1)
    outputs = trained.layer_(tree.astype(trained.params_, float), X)[:, 0]
    assert np.allclose(trained.decision_function(X), outputs, rtol=1e-4, atol=1e-5)
    assert trained.score(X, NAMES[BINARY]) > 0.6


LABEL_LOSSES = {
    "default": (None, None),
    "sigmoid": (None, F.sigmoid_cross_entropy),
    "probabilities": (ends_with(F.sigmoid()), F.binary_cross_entropy),
}


@pytest.mark.parametrize(("model", "loss"), LABEL_LOSSES.values(), ids=LABEL_LOSSES)
def test_labels_have_one_output_each(model, loss):
    x, y = LABELS
    hidden = (16,) if model is None else None
    trained = classifier(model=model, hidden=hidden, loss=loss, epochs=40).fit(x, y)
    p = trained.predict_proba(x)
    assert (p.shape, trained.n_outputs_) == ((100, 4), 4)
    assert np.array_equal(trained.predict(x), (p > 0.5).astype(int))
    assert np.allclose(1 / (1 + np.exp(-trained.decision_function(x))), p)
    assert np.allclose(np.exp(trained.predict_log_proba(x)), p)
    assert (trained.predict(x) == y).mean() > 0.8
    online = classifier().partial_fit(x, y).partial_fit(x, y)
    assert same(online, classifier(epochs=2).fit(x, y))


def test_a_regressor_keeps_the_shape_and_the_units_of_targets():
    far = 1e6 + 1e4 * VALUES
    trained = NpdlRegressor().fit(X, far)
    assert trained.predict(X).shape == (100,)
    assert trained.score(X, far) > 0.9
    assert NpdlRegressor(epochs=1).fit(X, far[:, None]).predict(X).shape == (100, 1)
    constant = NpdlRegressor(epochs=1).fit(X, np.full(100, 3.0))
    assert np.isfinite(constant.predict(X)).all()
    several = NpdlRegressor(epochs=60).fit(X, np.stack([far, VALUES], axis=1))
    assert several.score(X, np.stack([far, VALUES], axis=1)) > 0.9


@pytest.mark.parametrize("make", [classifier, regressor])
def test_weights_of_zero_leave_examples_out(make):
    y = Y if make is classifier else VALUES
    kept = np.arange(100) % 3 > 0
    assert same(make().fit(X, y, sample_weight=kept), make().fit(X[kept], y[kept]))
    assert same(make().fit(X, y, sample_weight=np.full(100, 0.3)), make().fit(X, y))


def test_sample_weight_reaches_the_loss():
    weights = np.linspace(0.5, 2, 100)
    seen = []

    def loss(outputs, targets, weights=None):
        seen.extend(weights)
        return F.softmax_cross_entropy(outputs, targets, weights)

    classifier(loss=loss, epochs=1).fit(X, Y, sample_weight=weights)
    assert set(weights) <= set(seen)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_integer_weights_of_one_batch_repeat_examples(make):
    y, counts = Y if make is classifier else VALUES, np.arange(20) % 3
    order = random.generator(0).permutation(20)
    weighted = make().fit(X[order], y[order], sample_weight=counts[order])
    assert same(weighted, make().fit(X[:20].repeat(counts, axis=0), y[:20].repeat(counts)))


def test_class_weights_multiply_sample_weights():
    counts = np.bincount(Y)
    each = {name: float(weight) for name, weight in zip(NAMES, 100 / (3 * counts), strict=True)}
    balanced = classifier(class_weight="balanced").fit(X, NAMES[Y])
    assert same(balanced, classifier(class_weight=each).fit(X, NAMES[Y]))
    by_example = (100 / (3 * counts))[Y]
    assert same(balanced, classifier().fit(X, NAMES[Y], sample_weight=by_example))
    weights = np.linspace(1, 2, 100)
    both = classifier(class_weight={"ash": 3}).fit(X, NAMES[Y], sample_weight=weights)
    assert same(both, classifier().fit(X, Y, sample_weight=weights * np.array([3, 1, 1])[Y]))
    more = classifier(class_weight=dict.fromkeys([*NAMES, "oak"], 2.0)).fit(X, NAMES[Y])
    assert same(more, classifier().fit(X, NAMES[Y]))
    heavy = classifier(class_weight={0: 1e4}, epochs=20).fit(X, Y)
    assert (heavy.predict(X) == 0).mean() > 0.8


def test_balanced_classes_have_equal_sums_of_weights():
    repeated = np.r_[np.arange(100), np.flatnonzero(Y == 1)]
    weights = 1.0 + (Y == 1)
    seen = {}

    def loss(outputs, targets, weights=None):
        for target, weight in zip(targets.tolist(), weights.tolist(), strict=True):
            seen[target] = seen.get(target, 0) + weight
        return F.softmax_cross_entropy(outputs, targets, weights)

    for rows, sample_weight in ((repeated, None), (np.arange(100), weights)):
        seen.clear()
        trained = classifier(class_weight="balanced", loss=loss, epochs=1, batch_size=1000)
        trained.fit(X[rows], Y[rows], sample_weight=sample_weight)
        assert np.allclose([seen[0], seen[1]], seen[2])


def test_early_stopping_restores_the_best_parameters():
    trained = NpdlClassifier(
        early_stopping=True, validation_fraction=0.3, patience=3, epochs=300, random_state=1
    ).fit(X, Y)
    losses = trained.history_["val_loss"]
    best = int(np.argmin(losses))
    assert trained.n_iter_ == len(losses) == best + 4 < 300
    shorter = clone(trained).set_params(epochs=best + 1).fit(X, Y)
    assert tree.all_close(trained.params_, shorter.params_, rtol=0, atol=0)


def test_validation_examples_come_evenly_from_all_classes():
    y, held_out = np.array(["rare"] * 10 + ["often"] * 90), []

    def count(outputs, targets):
        if len(outputs) == 20:
            held_out.append(np.bincount(targets).tolist())
        return 0.0

    trained = NpdlClassifier(
        early_stopping=True, validation_fraction=0.2, metrics={"count": count}, epochs=1
    )
    trained.fit(X, y)
    assert held_out[-1] == [18, 2]
    assert sorted(trained.history_) == ["count", "loss", "val_count", "val_loss"]


def test_metrics_and_callbacks_are_those_of_fit():
    epochs = []
    stopping = EarlyStopping("accuracy", min_delta=1.0, patience=2)
    noting = LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    trained = classifier(epochs=9, metrics={"accuracy": F.accuracy}, callbacks=[stopping, noting])
    trained.fit(X, Y)
    assert epochs == list(range(trained.n_iter_)) == [0, 1, 2]
    assert len(trained.history_["accuracy"]) == 3
    assert stopping.best_epoch == -1  # fit has a copy


def test_verbose_shows_the_progress(capfd):
    classifier(verbose=True, epochs=1).fit(X, Y)
    assert "".join(capfd.readouterr())
    classifier(epochs=1).fit(X, Y)
    assert not "".join(capfd.readouterr())


@pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse_inputs_have_the_bits_of_dense_ones(form):
    sparse = pytest.importorskip("scipy.sparse")
    x = np.where(X > 0.5, X, 0)
    for options in ({}, {"early_stopping": True}, {"batch_size": 200}):
        dense = classifier(**options).fit(x, Y)
        given = classifier(**options).fit(getattr(sparse, form)(x), Y)
        assert same(dense, given)
        assert np.array_equal(dense.predict_proba(x), given.predict_proba(sparse.csr_array(x)))


def test_predictions_do_not_depend_on_other_rows():
    trained = classifier().fit(X, Y)
    many = np.tile(X, (50, 1))
    each = np.concatenate([trained.decision_function(X[i : i + 1]) for i in range(100)])
    assert np.allclose(trained.decision_function(many), np.tile(each, (50, 1)), rtol=1e-12)


def test_arrays_of_the_user_are_read_only():
    x, y, weights = X.astype(np.float32), Y.copy(), np.linspace(0, 1, 100)
    for array in (x, y, weights):
        array.flags.writeable = False
    classifier().fit(x, y, sample_weight=weights).predict(x)
    regressor().fit(x, VALUES, sample_weight=weights).predict(x)


def test_a_data_frame_gives_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(8)])
    trained = classifier().fit(frame, pandas.Series(NAMES[Y]), pandas.Series(np.ones(100)))
    assert trained.feature_names_in_.tolist() == frame.columns.tolist()
    assert np.array_equal(trained.predict(frame), classifier().fit(X, NAMES[Y]).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        trained.predict(frame[frame.columns[::-1]])
    assert regressor().fit(frame, pandas.DataFrame({"a": VALUES, "b": VALUES})).n_outputs_ == 2
