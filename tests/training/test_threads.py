"""BLAS threads in training: one for small networks, all for large ones."""

import numpy as np
import pytest
from arrays import same_bits

import npdl
import npdl.functional as F
from npdl import _blas
from npdl.training import TrainState, fit, predict, train_step

pytestmark = pytest.mark.skipif(_blas.threads() is None, reason="NumPy has another BLAS")

SMALL, LARGE = 8, 4000
X, LABELS = np.ones((64, 64), np.float32), np.arange(64) % 2


@pytest.fixture(autouse=True)
def three_threads():
    """Give OpenBLAS three threads, more than any other test."""
    before = _blas.threads()
    set_threads(3)
    yield
    set_threads(before)


def set_threads(count):
    _blas._openblas()["set_num_threads"](count)


def threads_now():
    return _blas._openblas()["get_num_threads"]()


@F.layer
def noting(seen):
    """Append the number of threads to `seen`."""

    def apply(params, x):
        seen.append(threads_now())
        assert _blas.threads() == 3
        if isinstance(seen, Failing):
            raise ValueError("stop")
        return x, None

    return F.Layer(lambda rng, shape: (), apply, lambda params, cache, g: ((), g), lambda s: s)


class Failing(list):
    """A list whose layer raises."""


def model(units, seen):
    return F.serial(F.dense(units), noting(seen), F.dense(2))


@pytest.mark.parametrize(("units", "threads"), [(SMALL, 1), (LARGE, 3)])
def test_only_steps_of_small_networks_use_one_thread(units, threads):
    seen = []
    layer = model(units, seen)
    params = layer.init(0, (64,))
    seen.clear()  # of the probe for shapes
    state, _ = fit(layer, F.softmax_cross_entropy, F.sgd(0.1), (X, LABELS), params=params,
                   epochs=1, progress=False)  # fmt: skip
    predict(layer, state.params, X)
    train_step(layer, F.softmax_cross_entropy, F.sgd(0.1), shards=2)(state, (X, LABELS))
    assert set(seen[1:]) == {threads}  # the first is a check before the first step
    assert threads_now() == 3


@pytest.mark.parametrize(("units", "threads"), [(SMALL, 1), (LARGE, 3)])
def test_the_keras_like_model_limits_its_threads_too(units, threads):
    seen = []

    class Noting(npdl.layers.Linear):
        def forward(self, x, *args, **kwargs):
            seen.append(threads_now())
            return super().forward(x, *args, **kwargs)

    keras_like = npdl.Model([Noting(n_out=units, n_in=64), npdl.layers.Softmax(n_out=2)])
    keras_like.compile()
    keras_like.train_on_batch(X, LABELS)
    keras_like.predict(X)
    assert seen[1:] == [threads] * 2  # the first is a check before the first step
    assert threads_now() == 3


def test_threads_are_restored_after_an_error():
    layer = model(SMALL, seen := Failing())
    params = F.dense(SMALL).init(0, (64,)), (), F.dense(2).init(0, (SMALL,))
    with pytest.raises(ValueError, match="stop"):
        predict(layer, params, X)
    assert seen == [1]
    assert threads_now() == 3


def test_a_large_step_may_begin_and_end_during_a_small_one():
    # As in two threads of Python that share a step function.
    small, params = _blas.SmallSteps(), F.dense(SMALL).init(0, (64,))
    with small(params, X):
        with small(params, np.broadcast_to(X[0], (10**6, 64))):
            assert threads_now() == 1
        assert threads_now() == 1
    assert threads_now() == 3


def test_the_bits_of_a_small_network_do_not_depend_on_the_threads():
    layer, optimizer = F.serial(F.dense(96), F.relu(), F.dense(2)), F.adam(0.01)
    generator = np.random.default_rng(0)
    x, labels = generator.normal(size=(512, 64)).astype(np.float32), np.arange(512) % 2
    state = TrainState.create(layer, optimizer, (64,))
    step = train_step(layer, F.softmax_cross_entropy, optimizer)
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        found.append(step(state, (x, labels))[0])
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


@pytest.mark.parametrize(
    ("x", "rows"),
    [
        (np.ones((5, 7), np.float32), 5),
        (np.ones((5, 7), int), 35),
        (np.ones((5, 7, 3), np.float32), 35),
        (np.ones((5, 3, 8, 9), np.float32), 360),
        ((np.ones((5, 7), int), np.ones((5, 7), bool), None), 35),
    ],
    ids=["features", "ids", "sequences", "images", "several"],
)
def test_work_is_counted_in_examples_times_steps_or_pixels(x, rows):
    assert _blas._positions(x) == rows
