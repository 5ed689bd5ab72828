"""All checks of scikit-learn for estimators pass, and default arguments are good ones."""

import re

import pytest

pytest.importorskip("sklearn")

from estimators import DATA, compare
from sklearn.utils.estimator_checks import parametrize_with_checks

import npdl.functional as F
from npdl.sklearn import NpdlClassifier, NpdlRegressor


def each_check(*estimators):
    """Return `parametrize_with_checks` with a list. In old versions it has a generator."""
    mark = parametrize_with_checks([*estimators]).mark
    names, cases = mark.args
    named = mark.kwargs["ids"]

    def without_addresses(value):
        return re.sub(r"at0x\w+", "", named(value) or "")

    return pytest.mark.parametrize(names, list(cases), ids=without_addresses)


@each_check(NpdlClassifier(), NpdlRegressor())
def test_an_estimator_passes_the_checks(estimator, check):
    check(estimator)


def network(n_features, n_outputs):
    return F.serial(F.dense(64), F.tanh(), F.dense(n_outputs))


OTHERS = [
    NpdlClassifier(
        network, loss=F.sigmoid_cross_entropy, dtype="float64", optimizer=F.adam(0.01), epochs=200
    ),
    NpdlRegressor(network, loss=F.huber, dtype="float64", optimizer=F.adam(0.01)),
]


@pytest.mark.slow
@each_check(*OTHERS)
def test_an_estimator_with_arguments_passes_the_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", DATA)
def test_default_arguments_score_like_an_mlp(name):
    load, mlp, npdl = DATA[name]
    models = [mlp(hidden_layer_sizes=(64, 64)), npdl(hidden=(64, 64))]
    (theirs, ours), _ = compare(models, *load(return_X_y=True))
    assert ours > theirs - 0.01  # two or three examples of the smallest data set
