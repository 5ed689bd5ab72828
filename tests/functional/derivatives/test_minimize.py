"""Training by SciPy's optimizers."""

import numpy as np
import pytest
from arrays import normal, normal64, same_bits

import npdl.functional as F
from npdl import tree

pytest.importorskip("scipy")

FIRST = ("L-BFGS-B", "BFGS", "CG")
SECOND = ("Newton-CG", "trust-ncg", "trust-krylov")
X, Y = normal64(20, 3), normal64(20, 2, seed=1)


@pytest.mark.parametrize("method", [*FIRST, *SECOND])
def test_linear_regression_has_the_solution_of_least_squares(method):
    found = F.minimize(
        F.dense(2), F.mean_squared_error, (X, Y), method, options=OPTIONS.get(method)
    )
    rows = np.concatenate([X, np.ones((20, 1))], axis=1)
    expected, *_ = np.linalg.lstsq(rows, Y, rcond=None)
    np.testing.assert_allclose(found.params["weight"], expected[:3], atol=1e-5)
    np.testing.assert_allclose(found.params["bias"], expected[3], atol=1e-5)
    assert found.loss == pytest.approx(np.mean((rows @ expected - Y) ** 2), abs=1e-9)
    assert found.params["weight"].dtype == np.float32


OPTIONS = {
    "trust-ncg": {"gtol": 1e-8},
    "trust-krylov": {"gtol": 1e-8},
    "CG": {"gtol": 1e-9},
    "BFGS": {"gtol": 1e-9},
    "L-BFGS-B": {"ftol": 1e-15, "gtol": 1e-9},
}


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])
def test_a_small_network_is_fitted_better_than_by_many_steps_of_adam(method):
    model = F.serial(F.dense(8), F.tanh(), F.dense(1))
    x = np.linspace(-2, 2, 40, dtype=np.float32)[:, None]
    y = np.sin(2 * x)
    params = model.init(0, (1,))
    calls = []

    def counted(outputs, targets):
        calls.append(len(outputs))
        return F.mean_squared_error(outputs, targets)

    found = F.minimize(model, counted, (x, y), method, params=params, steps=100)
    gradient, optimizer = F.value_and_grad(model, F.mean_squared_error), F.adam(0.02)
    state, own = optimizer.init(params), params
    for _ in range(len(calls)):
        value, grads, _ = gradient(own, x, y)
        updates, state = optimizer.update(grads, state, own)
        own = F.apply_updates(own, updates)
    assert found.loss < value
    assert found.steps <= 100


def test_nothing_is_written_and_the_same_key_gives_the_same_bits():
    model = F.serial(F.dense(4), F.tanh(), F.dense(2))
    params = model.init(1, (3,))
    before = tree.map(np.array, params)
    results = [F.minimize(model, F.huber, (X, Y), rng=1, steps=5) for _ in range(2)]
    results.append(F.minimize(model, F.huber, (X, Y), params=params, steps=5))
    assert same_bits(params, before)
    assert same_bits(results[0].params, results[1].params)
    assert same_bits(results[0].params, results[2].params)
    assert not results[0].converged
    assert results[0].steps == 5


def test_frozen_parameters_and_running_statistics_stay_unchanged():
    model = F.serial(F.freeze(F.dense(4)), F.batch_norm(), F.dense(2))
    params = tree.map(np.array, model.init(0, (3,)))
    params[1]["count"][...] = 1
    for method in ("L-BFGS-B", "trust-ncg"):
        found = F.minimize(model, F.mean_squared_error, (X, Y), method, params=params, steps=20)
        assert same_bits(found.params[0], params[0])
        for name in ("mean", "variance", "count"):
            assert same_bits(found.params[1][name], params[1][name])
        assert not np.array_equal(found.params[1]["scale"], params[1]["scale"])


def test_several_inputs_and_labels():
    nodes = {"a": (F.dense(3), "x"), "b": (F.embedding(4, 3), "i"), "y": (F.add(), ("a", "b"))}
    model = F.graph(("x", "i"), nodes, "y")
    x, labels = (normal(12, 5), np.arange(12) % 4), np.arange(12) % 3
    found = F.minimize(model, F.softmax_cross_entropy, (x, labels), steps=30)
    assert found.loss < 0.05


WRONG = {
    "method": (
        lambda: F.minimize(F.dense(2), F.huber, (X, Y), "adam"),
        ValueError,
        "method must be",
    ),
    "loss": (lambda: F.minimize(F.dense(2), "mse", (X, Y)), TypeError, "expected a loss"),
    "data": (lambda: F.minimize(F.dense(2), F.huber, X), TypeError, "data must be a tuple"),
    "layer": (lambda: F.minimize(3, F.huber, (X, Y)), TypeError, "argument 0 is 3, not a layer"),
    "steps": (
        lambda: F.minimize(F.dense(2), F.huber, (X, Y), steps=0),
        ValueError,
        "steps must be",
    ),
    "not finite": (
        lambda: F.minimize(F.dense(2), F.mean_squared_error, (X * np.inf, Y)),
        ValueError,
        "the loss of the initial parameters is",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore:.*encountered in")
def test_wrong_arguments_are_refused(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()
