"""Validation, evaluation and prediction read sources batch by batch, within bounded memory."""

import functools

import numpy as np
import pytest
from arrays import normal, same_bits
from communicators import checked, on_ranks
from memory import peak

import npdl.functional as F
from npdl.training import TrainState, evaluate, fit, predict

LOSS = F.softmax_cross_entropy
X, IDS = normal(30, 5), np.arange(30) % 3
WEIGHTS = np.linspace(0, 2, 30).astype(np.float32)
MODEL = F.serial(F.dense(7), F.tanh(), F.dense(3))
PARAMS = MODEL.init(0, (5,))
METRICS = {
    "accuracy": F.accuracy,
    "auc": functools.partial(F.roc_auc, logits=True),
    "f1": F.f1_score,
}


class Source:
    """A source that records the numbers of rows that are read at once."""

    def __init__(self, *arrays):
        self.arrays, self.sizes = arrays, []

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, rows):
        self.sizes.append(len(rows))
        return tuple(array[rows] for array in self.arrays)


def train(validation, **options):
    options = {"metrics": METRICS, "epochs": 2, "progress": False} | options
    return fit(MODEL, LOSS, F.adam(0.1), (X, IDS), validation=validation, **options)


@pytest.fixture(params=[1, 3 * 7, 1 << 20], ids=["a batch", "a few batches", "all"])
def blocks(request, monkeypatch):
    """Blocks of a batch, of a few batches, and of all batches."""
    monkeypatch.setattr("npdl.training._blocks._BLOCK", request.param)


@pytest.mark.parametrize("extra", [(), (WEIGHTS,)], ids=["plain", "weighted"])
def test_a_source_has_the_bits_of_arrays_in_validation(blocks, extra):
    source = Source(X, IDS, *extra)
    assert same_bits(train(source), train((X, IDS, *extra)))
    assert max(source.sizes) <= 256


@pytest.mark.parametrize("extra", [(), (WEIGHTS,)], ids=["plain", "weighted"])
def test_a_source_has_the_bits_of_arrays_in_evaluate(blocks, extra):
    options = {"loss": LOSS, "metrics": METRICS, "batch_size": 4}
    source = Source(X, IDS, *extra)
    found = evaluate(MODEL, PARAMS, source, **options)
    assert same_bits(found, evaluate(MODEL, PARAMS, (X, IDS, *extra), **options))
    assert max(source.sizes) == 4
    outputs = predict(MODEL, PARAMS, X)
    expected = {"loss": LOSS(outputs, IDS, *extra)[0]}
    weights = {"weights": extra[0]} if extra else {}
    expected |= {name: metric(outputs, IDS, **weights) for name, metric in METRICS.items()}
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=1e-5)


def test_a_function_gets_all_outputs_of_a_source_at_once(blocks):
    def spread(outputs, targets):
        assert outputs.shape == (30, 3)
        return np.ptp(outputs)

    metrics = {"spread": spread, "matrix": F.confusion_matrix}
    found = evaluate(MODEL, PARAMS, Source(X, IDS), metrics=metrics, batch_size=4)
    assert found["spread"] == pytest.approx(np.ptp(predict(MODEL, PARAMS, X)), rel=1e-5)
    assert found["matrix"].sum() == 30


def test_arrays_of_a_metric_are_merged_from_blocks(blocks):
    found = evaluate(MODEL, PARAMS, (X, IDS), metrics={"matrix": F.confusion_matrix}, batch_size=4)[
        "matrix"
    ]
    assert np.array_equal(found, F.confusion_matrix(predict(MODEL, PARAMS, X), IDS))


def test_predict_takes_the_inputs_of_a_source():
    source = Source(X, IDS)
    assert same_bits(
        predict(MODEL, PARAMS, source, batch_size=4), predict(MODEL, PARAMS, X, batch_size=4)
    )
    assert max(source.sizes) == 4


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_have_the_bits_of_one_process_for_sources(blocks, ranks):
    def values(comm=None):
        out = np.empty((30, 3), np.float32)
        found = evaluate(
            MODEL, PARAMS, Source(X, IDS, WEIGHTS), loss=LOSS, metrics=METRICS, batch_size=4,
            comm=comm,
        )  # fmt: skip
        given = predict(MODEL, PARAMS, Source(X), batch_size=4, out=out, comm=comm)
        assert given is out
        return found, out

    alone = values()
    for result in checked(on_ranks(ranks, values)):
        assert same_bits(result, alone)


def test_outputs_are_written_into_arrays_of_a_file(blocks, tmp_path):
    mapped = np.memmap(tmp_path / "y", np.float32, "w+", shape=(30, 3))
    assert predict(MODEL, PARAMS, X, batch_size=4, out=mapped) is mapped
    assert np.array_equal(mapped, predict(MODEL, PARAMS, X, batch_size=4))
    turned = np.zeros((3, 30), np.float32).T
    predict(MODEL, PARAMS, X, batch_size=4, out=turned)
    assert np.array_equal(mapped, turned)


def test_several_outputs_are_written_into_a_tuple(blocks):
    model = F.parallel(F.dense(2), F.dense(4), join=None)
    params = model.init(0, (5,))
    out = np.empty((30, 2), np.float32), np.empty((30, 4), np.float32)
    assert predict(model, params, X, batch_size=4, out=out) is out
    assert same_bits(out, predict(model, params, X, batch_size=4))


BIG = np.zeros((30, 8), np.float32)
BIG[:, :5] = X
READ_ONLY = np.empty((30, 3), np.float32)
READ_ONLY.flags.writeable = False
WRONG_OUT = {
    "another length": (np.ones((29, 3), np.float32), r"expected float32\[30, 3\].*\[29, 3\]"),
    "another shape": (np.ones((30, 4), np.float32), r"expected float32\[30, 3\].*\[30, 4\]"),
    "another type": (np.ones((30, 3)), r"expected float32\[30, 3\].*float64\[30, 3\]"),
    "a tuple": ((np.ones((30, 3), np.float32),), r"expected float32\[30, 3\].*\(float32"),
    "a list": ([np.ones((30, 3), np.float32)], r"expected float32\[30, 3\].*list"),
    "no array": ("y.npy", "expected a NumPy array, got str"),
    "a masked array": (np.ma.zeros((30, 3), np.float32), "expected a NumPy array, got Masked"),
    "read-only": (READ_ONLY, "out is read-only"),
    "the inputs": (BIG[:, 4:7], "shares memory with the inputs"),
}


@pytest.mark.parametrize(("out", "message"), WRONG_OUT.values(), ids=WRONG_OUT)
def test_a_wrong_array_for_outputs_is_refused_unchanged(out, message):
    before = np.array(out)
    with pytest.raises((TypeError, ValueError), match=message):
        predict(MODEL, PARAMS, BIG[:, :5], out=out, batch_size=4)
    assert np.array_equal(np.array(out), before) or out is READ_ONLY


class Broken(Source):
    """A source whose length changes between two reads."""

    def __len__(self):
        return 30 + 2 * bool(self.sizes)


class Short(Source):
    """A source that returns too few rows."""

    def __getitem__(self, rows):
        return tuple(array[rows[:3]] for array in self.arrays)


def test_a_source_that_changes_is_refused():
    with pytest.raises(ValueError, match="had 30 examples at the start, and has 32 now"):
        evaluate(MODEL, PARAMS, Broken(X, IDS), loss=LOSS, batch_size=4)
    with pytest.raises(ValueError, match="had 30 examples at the start, and has 32 now"):
        fit(MODEL, LOSS, F.sgd(0.1), Broken(X, IDS), progress=False)
    with pytest.raises(ValueError, match="returned 3 examples for 4 rows"):
        predict(MODEL, PARAMS, Short(X), batch_size=4)


WRONG_VALIDATION = {
    "labels": Source(X, IDS + 3),
    "inputs": Source(X[:, :4], IDS),
    "no targets": Source(X),
    "no rows": Source(X[:0], IDS[:0]),
    "types": Source(X.astype(np.float16), IDS),
}


@pytest.mark.parametrize("source", WRONG_VALIDATION.values(), ids=WRONG_VALIDATION)
def test_a_wrong_validation_source_is_refused_before_a_step(source):
    state = TrainState.create(MODEL, F.adam(0.1), (5,), rng=0)
    with pytest.raises((ValueError, TypeError, IndexError)) as found:
        train(source, state=state, epochs=1)
    assert not hasattr(found.value, "state")


def mapped(tmp_path, count):
    """Return a million rows in files; only the pages that are written take space."""
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(count, 20))
    ids = np.memmap(tmp_path / "ids", np.int64, "w+", shape=(count,))
    x[::5000], ids[::7] = 1.0, 2
    return x, ids


@pytest.mark.slow
def test_a_million_rows_are_evaluated_in_little_memory(tmp_path):
    count = 1_000_000
    data = mapped(tmp_path, count)
    model = F.serial(F.dense(16), F.relu(), F.dense(50))  # 200 MB of outputs
    params = model.init(0, (20,))
    metrics = {"accuracy": F.accuracy, "matrix": F.confusion_matrix}
    for each in (data, Source(*data)):
        bytes_, found = peak(
            lambda each=each: evaluate(model, params, each, loss=LOSS, metrics=metrics)
        )
        assert bytes_ < 100e6
        assert found["matrix"].sum() == count
    out = np.memmap(tmp_path / "y", np.float32, "w+", shape=(count, 50))
    bytes_, _ = peak(lambda: predict(model, params, Source(*data), out=out))
    assert bytes_ < 100e6
    assert np.array_equal(out[-5:], model(params, data[0][-256:])[-5:])
