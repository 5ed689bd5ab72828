"""Faults that would end a run later, or spoil its numbers, are found before its first step."""

import warnings

import numpy as np
import pytest

import npdl.functional as F
from npdl import tree
from npdl.callbacks import LambdaCallback
from npdl.training import TrainState, evaluate, fit, train_step

random = np.random.default_rng(0)
X = random.normal(size=(24, 3)).astype(np.float32)
Y = np.arange(24) % 2
LOSS = F.softmax_cross_entropy
MODEL = F.serial(F.dense(4), F.batch_norm(), F.tanh(), F.dropout(0.1), F.dense(2))


class Source:
    """Reads rows of arrays on demand."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[-1])

    def __getitem__(self, rows):
        return tree.map(lambda array: array[rows], self.arrays)


def refused(error, match, model=MODEL, data=(X, Y), loss=LOSS, **options):
    """Call `fit`, which must raise before an update; return the error."""
    steps = []
    log = LambdaCallback(on_train_batch_end=lambda *_: steps.append(1))
    with pytest.raises(error, match=match) as caught:
        fit(
            model, loss, F.sgd(0.1), data, epochs=2, batch_size=8, progress=False,
            callbacks=[log], **options,
        )  # fmt: skip
    assert not steps
    assert getattr(caught.value, "state", None) is None or caught.value.state.step == 0
    return caught.value


# Validation data

WRONG = {
    "fewer columns": ((X[:, :2], Y), ValueError, r"float32\[16, 2\]"),
    "another axis": ((X[:, :, None], Y), ValueError, r"\[16, 3, 1\]"),
    "float64": ((X.astype(np.float64), Y), TypeError, "the parameters are float32"),
    "float16": ((X.astype(np.float16), Y), TypeError, "astype"),
    "ints": ((np.ones((24, 3), int), Y), TypeError, "an array of floats"),
    "fewer labels": ((X, Y[:7]), ValueError, "different numbers of examples"),
    "a label beyond": ((X, np.where(np.arange(24) == 23, 2, 0)), ValueError, r"targets\[23\] is 2"),
    "a label below": ((X, Y - 1), ValueError, r"targets\[0\] is -1"),
    "labels in floats": ((X, Y.astype(float)), TypeError, "class labels are ints"),
    "targets of another shape": ((X, np.ones((24, 3))), ValueError, "labels"),
    "no targets": ((X,), TypeError, "targets"),
    "negative weights": ((X, Y, np.full(24, -1.0)), ValueError, "must not be negative"),
    "two inputs": (((X, X), Y), Exception, "dense"),
}


@pytest.mark.parametrize(("data", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_validation_data_are_found_before_the_first_step(data, error, message):
    caught = refused(error, message, validation=data)
    if not str(caught).startswith(("the arrays have", "validation[0]")):
        assert "found before the first step, with the validation data" in caught.__notes__


@pytest.mark.parametrize("count", [1, 2, 3, 24])
def test_right_validation_data_of_any_length_are_taken(count):
    options = {"epochs": 1, "batch_size": 8, "progress": False}
    plain, _ = fit(MODEL, LOSS, F.adam(0.1), (X, Y), **options)
    metrics = {"accuracy": F.accuracy, "f1": F.f1_score}
    state, history = fit(
        MODEL, LOSS, F.adam(0.1), (X, Y), validation=(X[:count], Y[:count]), metrics=metrics,
        **options,
    )  # fmt: skip
    assert all(map(np.array_equal, *map(tree.leaves, (plain.params, state.params))))
    expected = evaluate(MODEL, state.params, (X[:count], Y[:count]), loss=LOSS, metrics=metrics)
    assert {name: history[f"val_{name}"][0] for name in expected} == expected


def test_the_check_of_validation_data_warns_of_nothing():
    def warning(outputs, targets):
        if len(np.unique(outputs.argmax(axis=1))) < 3:
            warnings.warn("ill-defined", UserWarning, stacklevel=2)
        return float(np.log(outputs - outputs).max())

    with pytest.warns(UserWarning, match="ill-defined") as caught, np.errstate(all="ignore"):
        fit(
            MODEL, LOSS, F.sgd(0.1), (X, Y), batch_size=24, validation=(X, Y), progress=False,
            metrics={"own": warning},
        )  # fmt: skip
    assert len([w for w in caught if "ill-defined" in str(w.message)]) == 2


# Metrics


def failing(outputs, targets):
    raise RuntimeError("no metric")


METRICS = {
    "raises": (failing, RuntimeError, "no metric"),
    "an array": (lambda outputs, targets: outputs, TypeError, "'own' of a batch must be a number"),
    "a list": (lambda outputs, targets: [0.5, 0.5], TypeError, "number"),
    "one number in a list": (lambda o, t: np.ones(1), TypeError, "must be a number"),
    "a string": (lambda outputs, targets: "high", (TypeError, ValueError), "float|number"),
    "nothing": (lambda outputs, targets: None, TypeError, "number"),
    "more arguments": (lambda outputs, targets, more, most: 0.5, TypeError, "missing"),
    "a result": (
        F.Metric(lambda o, t, w=None: 1.0, lambda s: np.ones(2)),
        TypeError,
        "a number",
    ),
}


@pytest.mark.parametrize(("metric", "error", "message"), METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("validation", [None, (X, Y)], ids=["alone", "validation"])
def test_a_metric_that_fails_is_found_before_the_first_update(
    metric, error, message, shards, validation
):
    caught = refused(error, message, metrics={"own": metric}, shards=shards, validation=validation)
    assert "in the metric 'own'" in caught.__notes__ or "'own'" in str(caught)


# Inputs with a weight of 0

GOOD = np.where(np.arange(24) == 5, 0.0, 1.0)
BAD = X.copy()
BAD[5, 1] = np.nan
SEQUENCES = random.normal(size=(24, 5, 3)).astype(np.float32)
MASK = np.ones((24, 5), bool)
MASK[7, 3:] = False
PADDED = np.where(MASK[..., None], SEQUENCES, np.inf).astype(np.float32)
BY_STEP = np.zeros((24, 5), int)
INFINITE = np.where(np.isnan(BAD), -np.inf, BAD).astype(np.float32)
TWO = F.graph(
    ("a", "b"),
    {"left": (F.dense(2), "a"), "right": (F.dense(2), "b"), "sum": (F.add(), ("left", "right"))},
    "sum",
)

LEFT_OUT = {
    "nan": (MODEL, (BAD, Y, GOOD), r"x\[5, 1\] is nan"),
    "infinite": (F.dense(2), (INFINITE, Y, GOOD), r"x\[5, 1\] is -inf"),
    "all weights": (F.dense(2), (BAD, Y, np.zeros(24)), r"x\[5, 1\] is nan"),
    "booleans": (F.dense(2), (BAD, Y, GOOD > 0), r"x\[5, 1\] is nan"),
    "steps": (F.dense(2), (PADDED, BY_STEP, MASK * 1.0), r"x\[7, 3, 0\] is inf"),
    "weights of examples": (
        F.dense(2), (PADDED, BY_STEP, MASK.all(axis=1) * 1.0), r"x\[7, 3, 0\] is inf",
    ),
    "two inputs": (TWO, ((X, BAD), Y, GOOD), r"x\[1\]\[5, 1\] is nan"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "data", "message"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_inputs_of_nan_with_a_weight_of_0_are_found(model, data, message):
    message = f"{message}, and the weight there is 0.*leave the example out"
    refused(ValueError, message, model, data)
    found = pytest.raises(ValueError, match=r"is -?(nan|inf), and the weight there is 0")
    with np.errstate(all="ignore"), found:
        fit(model, LOSS, F.sgd(0.1), Source(*data), batch_size=8, progress=False)
    shapes = tree.map(lambda array: array.shape[1:], data[0])
    state = TrainState.create(model, F.sgd(0.1), shapes)
    for options in ({}, {"shards": 1}):
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
            train_step(model, LOSS, F.sgd(0.1), **options)(state, data)


def test_inputs_that_a_layer_leaves_out_itself_are_taken():
    model = F.graph(
        ("source", "mask"),
        {
            "thought": (F.lstm(4, return_sequence=True), ("source", "mask")),
            "scores": (F.dense(2), "thought"),
        },
        "scores",
    )
    options = {"epochs": 2, "batch_size": 8, "progress": False}
    found = [
        fit(model, LOSS, F.sgd(0.1), ((x, MASK), BY_STEP, MASK * 1.0), **options)[0].params
        for x in (PADDED, np.where(MASK[..., None], SEQUENCES, 0).astype(np.float32))
    ]
    for a, b in zip(*map(tree.leaves, found), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_evaluation_leaves_out_inputs_of_nan_with_a_weight_of_0():
    model = F.dense(2)
    params = model.init(0, (3,))
    rest = GOOD > 0
    metrics = {"accuracy": F.accuracy}
    with np.errstate(all="ignore"):
        found = evaluate(model, params, (BAD, Y, GOOD), loss=LOSS, metrics=metrics)
    expected = evaluate(model, params, (X[rest], Y[rest]), loss=LOSS, metrics=metrics)
    assert found == pytest.approx(expected, rel=1e-5)
