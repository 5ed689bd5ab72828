"""Copies and files of estimators: clone, copy, pickle, joblib and skops."""

import copy
import functools
import io
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import npdl.functional as F
from npdl import tree
from npdl.callbacks import EarlyStopping
from npdl.sklearn import NpdlClassifier, NpdlRegressor
from npdl.sklearn._portable import Rebuilt, metric

X, Y = load_iris(return_X_y=True)


def network(n_features, n_outputs, units=8):
    return F.serial(F.dense(units), F.batch_norm(), F.relu(), F.dense(n_outputs))


@F.layer
def doubled():
    """y = 2 x."""

    def apply(params, x):
        return 2 * x, None

    def backward(params, cache, g):
        return (), 2 * g

    return F.Layer(lambda rng, shape: (), apply, backward)


def focal(logits, targets, weights=None):
    return F.softmax_cross_entropy(logits, targets, weights)


ESTIMATORS = {
    "default": NpdlClassifier(epochs=2),
    "layer": NpdlClassifier(
        F.serial(F.dense(8, weight_init=F.he_normal()), doubled(), F.dropout(0.1), F.dense(3)),
        optimizer=F.chain(F.clip_by_global_norm(1.0), F.nadam(F.cosine_decay(0.01, 100))),
        metrics={"accuracy": F.accuracy, "f1": functools.partial(F.f1_score, average="micro")},
        epochs=2,
    ),
    "function": NpdlClassifier(network, loss=focal, epochs=2, random_state=(3, 1)),
    "partial": NpdlClassifier(
        functools.partial(network, units=4),
        loss=functools.partial(F.softmax_cross_entropy, label_smoothing=0.1),
        optimizer=F.by_path({"0/*": F.sgd(0.1), "*": F.lion(1e-3)}),
        epochs=2,
    ),
    "stopped": NpdlClassifier(
        early_stopping=True, callbacks=[EarlyStopping("loss", patience=5)], epochs=2
    ),
    "regressor": NpdlRegressor(hidden=(4,), loss=F.huber, epochs=2),
    "averaged": NpdlRegressor(
        optimizer=F.chain(F.accumulate(F.adam(0.01), 2), F.average_params(0.9)), epochs=2
    ),
}
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


def trained(name):
    return clone(ESTIMATORS[name]).set_params(warm_start=True).fit(X, Y)


def shown(estimator):
    """Return the arguments as strings; callbacks are compared by their type."""
    arguments = estimator.get_params()
    arguments["callbacks"] = [type(each) for each in arguments["callbacks"] or ()]
    return {name: repr(value) for name, value in arguments.items()}


def check_same(a, b):
    """Check that two estimators have the same arguments and bits, now and after training."""
    for _ in range(2):
        assert shown(a) == shown(b)
        assert tree.all_close(a.state_, b.state_, rtol=0, atol=0)
        assert a.history_ == b.history_
        assert a.layer_ == b.layer_
        assert np.array_equal(a.predict(X), b.predict(X))
        a.fit(X, Y)
        b.fit(X, Y)


@each_estimator
def test_a_clone_has_the_same_arguments(name):
    estimator = ESTIMATORS[name]
    assert shown(estimator) == shown(clone(estimator))
    assert not hasattr(clone(trained(name)), "state_")


@each_estimator
def test_a_pickled_estimator_continues_with_the_same_bits(name):
    estimator = trained(name)
    check_same(estimator, pickle.loads(pickle.dumps(estimator)))


@each_estimator
def test_a_copied_estimator_continues_with_the_same_bits(name):
    estimator = trained(name)
    check_same(copy.deepcopy(estimator), copy.copy(estimator))


@each_estimator
def test_an_estimator_in_a_joblib_file_continues_with_the_same_bits(name, tmp_path):
    estimator = trained(name)
    joblib.dump(estimator, tmp_path / "estimator.joblib", compress=3)
    check_same(estimator, joblib.load(tmp_path / "estimator.joblib"))


@pytest.mark.slow  # skops imports all of scikit-learn
@each_estimator
def test_an_estimator_in_a_skops_file_continues_with_the_same_bits(name):
    skops = pytest.importorskip("skops.io")
    estimator = trained(name)
    file = skops.dumps(make_pipeline(StandardScaler(), estimator))
    unknown = skops.get_untrusted_types(data=file)
    assert {each.partition(".")[0] for each in unknown} <= {
        "npdl",
        "functools",
        *__name__.split(".")[:1],
    }
    check_same(estimator, skops.loads(file, trusted=unknown)[-1])
    with pytest.raises(skops.exceptions.UntrustedTypesFoundException):
        skops.loads(file)


@pytest.mark.slow
def test_a_skops_file_calls_only_trusted_functions():
    skops = pytest.importorskip("skops.io")
    file = skops.dumps(trained("function"))
    unknown = skops.get_untrusted_types(data=file)
    own = [each for each in unknown if each.startswith("npdl.")]
    assert any(each.endswith("focal") for each in unknown)
    with pytest.raises(skops.exceptions.UntrustedTypesFoundException, match="focal"):
        skops.loads(file, trusted=own)


@pytest.mark.parametrize("function", [print, str.upper, np.save, focal])
def test_a_file_calls_only_constructors(function):
    with pytest.raises(TypeError, match="expected a constructor"):
        Rebuilt(function, ("a",), {})
    with pytest.raises((TypeError, AttributeError)):
        Rebuilt(metric, ("dense",), {})


def test_a_training_estimator_is_not_changed_by_its_pickle():
    estimator = trained("layer")
    before = vars(estimator).copy()
    pickle.dump(estimator, io.BytesIO())
    assert all(before[key] is value for key, value in vars(estimator).items())
