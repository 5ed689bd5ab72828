"""The tools of scikit-learn take the estimators."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
from joblib import parallel_config
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, learning_curve
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import npdl.functional as F
from npdl.sklearn import NpdlClassifier, NpdlRegressor

X, Y = load_iris(return_X_y=True)


def network(n_features, n_outputs):
    return F.serial(F.dense(2 * n_features), F.tanh(), F.dense(n_outputs))


def classifier(**arguments):
    arguments = {"epochs": 8, "optimizer": F.adam(0.03)} | arguments
    return make_pipeline(StandardScaler(), NpdlClassifier(network, **arguments))


def test_cross_validation():
    assert cross_val_score(classifier(), X, Y).mean() > 0.85
    p = cross_val_predict(classifier(), X, Y, method="predict_proba")
    assert p.shape == (150, 3)
    sizes, _, scores = learning_curve(classifier(), X, Y, shuffle=True, cv=3, train_sizes=[0.5, 1])
    assert scores.shape == (len(sizes), 3)


SEARCHED = {
    "npdlclassifier__optimizer": [F.adam(0.03), F.chain(F.clip_by_value(1.0), F.momentum(0.1))],
    "npdlclassifier__model": [network, F.serial(F.dense(8), F.relu(), F.dense(3))],
}


def searched(**options):
    with warnings.catch_warnings():  # Python 3.12 warns of a fork next to threads
        warnings.simplefilter("ignore", DeprecationWarning)
        return GridSearchCV(classifier(epochs=4), SEARCHED, cv=3, **options).fit(X, Y)


BACKENDS = [pytest.param("loky", marks=pytest.mark.slow), "multiprocessing", "threading"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_search_in_two_processes_has_the_scores_of_one(backend):
    alone = searched()
    with parallel_config(backend=backend):
        parallel = searched(n_jobs=2)
    for key in ("mean_test_score", "params"):
        assert np.array_equal(alone.cv_results_[key], parallel.cv_results_[key])
    assert parallel.best_estimator_.predict(X).shape == (150,)


@pytest.mark.parametrize("values", [[None, (4,), (8, 8)], [(4,), (8,)]])
def test_a_search_over_sizes(values):
    model = NpdlClassifier(epochs=2)
    found = GridSearchCV(model, {"hidden": values, "loss": [None, F.sigmoid_cross_entropy]}, cv=2)
    assert found.fit(X, Y).best_params_["hidden"] in values


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(method):
    model = CalibratedClassifierCV(classifier(), method=method, cv=3).fit(X, Y)
    assert model.score(X, Y) > 0.85


def test_boosting():
    arguments = {"epochs": 20, "optimizer": F.adam(0.01)}
    boosted = AdaBoostClassifier(NpdlClassifier(**arguments), n_estimators=3, random_state=0)
    assert boosted.fit(X, Y).score(X, Y) > 0.85
    regressor = AdaBoostRegressor(NpdlRegressor(**arguments), n_estimators=3, random_state=0)
    assert regressor.fit(X[:, :3], X[:, 3]).score(X[:, :3], X[:, 3]) > 0.7


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting(voting):
    members = [("npdl", classifier()), ("bayes", GaussianNB())]
    assert VotingClassifier(members, voting=voting).fit(X, Y).score(X, Y) > 0.85


def test_other_ensembles():
    members = [("a", NpdlRegressor(epochs=5)), ("b", NpdlRegressor(hidden=(4,), epochs=5))]
    assert VotingRegressor(members).fit(X[:, :3], X[:, 3]).predict(X[:, :3]).shape == (150,)
    bagged = BaggingClassifier(NpdlClassifier(epochs=5), n_estimators=2, random_state=0).fit(X, Y)
    states = {member.random_state for member in bagged.estimators_}
    assert len(states) == 2
    stacked = StackingClassifier([("a", classifier())], GaussianNB(), cv=2).fit(X, Y)
    assert stacked.score(X, Y) > 0.8


def test_several_outputs():
    y = np.stack([Y, (X[:, 0] > 5.5) + 0], axis=1)
    assert MultiOutputClassifier(NpdlClassifier(epochs=3)).fit(X, y).predict(X).shape == (150, 2)
    chain = ClassifierChain(NpdlClassifier(epochs=3)).fit(X, y > 0)
    assert chain.predict(X).shape == (150, 2)


def test_permutation_importance():
    x = np.c_[Y + 0.1 * X[:, 0], X[:, 0] % 0.1]
    trained = classifier().fit(x, Y)
    importance = permutation_importance(trained, x, Y, n_repeats=3, random_state=0)
    assert importance.importances_mean.argmax() == 0


def test_set_output_gives_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), SelectKBest(k=2), NpdlClassifier(epochs=2))
    model.set_output(transform="pandas").fit(frame, Y)
    names = model[:-1].get_feature_names_out().tolist()
    assert model[-1].feature_names_in_.tolist() == names
    assert model.predict(frame).shape == (150,)


@pytest.mark.parametrize("requested", [True, False])
def test_metadata_routing_of_sample_weight(requested):
    seen = []

    def loss(outputs, targets, weights=None):
        seen.append(weights is not None)
        return F.softmax_cross_entropy(outputs, targets, weights)

    with sklearn.config_context(enable_metadata_routing=True):
        model = NpdlClassifier(epochs=1, loss=loss).set_fit_request(sample_weight=requested)
        model.set_score_request(sample_weight=requested)
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, model)
        weights = {"sample_weight": 1.0 + (Y > 0)}
        if requested:
            assert cross_val_score(model, X, Y, params=weights, error_score="raise").size == 5
        pipeline.fit(X, Y, **weights)
    assert set(seen) == {requested}


def test_nested_parameters():
    model = classifier()
    model.set_params(npdlclassifier__optimizer=F.sgd(0.1), npdlclassifier__hidden=None)
    assert model.get_params()["npdlclassifier__optimizer"] == F.sgd(0.1)
    assert repr(NpdlClassifier(F.dense(2), epochs=3)) == (
        "NpdlClassifier(epochs=3, model=dense(units=2))"
    )
