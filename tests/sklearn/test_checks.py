"""All checks of scikit-learn for estimators pass."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

import npdl.functional as F
from npdl.sklearn import NpdlClassifier, NpdlRegressor


def each_check(*estimators):
    """Return `parametrize_with_checks` with a list. In old versions it has a generator."""
    mark = parametrize_with_checks([*estimators]).mark
    names, cases = mark.args
    return pytest.mark.parametrize(names, list(cases), **mark.kwargs)


@each_check(NpdlClassifier(), NpdlRegressor())
def test_an_estimator_passes_the_checks(estimator, check):
    check(estimator)


def network(n_features, n_outputs):
    return F.serial(F.dense(64), F.tanh(), F.dense(n_outputs))


OTHERS = [
    NpdlClassifier(network, loss=F.sigmoid_cross_entropy, dtype="float64", epochs=100),
    NpdlRegressor(network, loss=F.huber, dtype="float64", optimizer=F.adam(0.01)),
]


@pytest.mark.slow
@each_check(*OTHERS)
def test_an_estimator_with_arguments_passes_the_checks(estimator, check):
    check(estimator)
