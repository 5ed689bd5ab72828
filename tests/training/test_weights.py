"""Weights of examples and classes reach the loss and the metrics of training."""

import numpy as np
import pytest
from arrays import read_only, same_bits

import npdl.functional as F
from npdl import random, tree
from npdl.callbacks import LambdaCallback
from npdl.training import Checkpoint, FreshStartWarning, evaluate, fit
from npdl.training._position import OtherRunError

GENERATOR = random.generator(7)
X = GENERATOR.normal(size=(40, 4)).astype(np.float32)
IDS = GENERATOR.choice(3, size=40, p=[0.6, 0.3, 0.1])
WEIGHTS = GENERATOR.uniform(0.1, 3, 40) * (np.arange(40) % 7 > 0)
MODEL = F.serial(F.dense(5), F.tanh(), F.dense(3))
LOSS = F.softmax_cross_entropy
SEQUENCES = GENERATOR.normal(size=(40, 6, 4)).astype(np.float32)
STEPS = GENERATOR.integers(3, size=(40, 6))
ONE = F.dense(1)
METRICS = {"accuracy": F.accuracy, "f1": F.f1_score}


class Source:
    """Reads rows of arrays on demand."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[-1])

    def __getitem__(self, rows):
        return tree.map(lambda array: array[rows], self.arrays)


def train(data=(X, IDS), model=MODEL, loss=LOSS, **options):
    options = {"batch_size": 7, "epochs": 2, "progress": False, "metrics": METRICS} | options
    return fit(model, loss, F.adam(0.05), read_only(data), **options)


def factors(ids, table):
    return np.array([table.get(int(label), 1.0) for label in ids.ravel()]).reshape(ids.shape)


TABLE = {1: 5.0, 2: 0.5}
BALANCED = {k: 40 / (3 * np.sum(k == IDS)) for k in range(3)}


@pytest.mark.parametrize("shards", [None, 3])
def test_a_sample_weight_is_the_weight_in_the_data(shards):
    expected = train((X, IDS, WEIGHTS), shards=shards)
    for given in (WEIGHTS, WEIGHTS.tolist(), 1.0 * WEIGHTS):
        assert same_bits(train(sample_weight=given, shards=shards), expected)
    found = train(Source(X, IDS), sample_weight=WEIGHTS, shards=shards)
    assert same_bits(found, train(Source(X, IDS, WEIGHTS), shards=shards))
    assert expected[1] != train(shards=shards)[1]


@pytest.mark.parametrize("given", [TABLE, {0: 1, 1: 5, 2: 0.5}, {np.int64(1): 5, 2.0: 0.5}])
def test_a_class_weight_is_the_weight_of_its_examples(given):
    expected = train((X, IDS, factors(IDS, TABLE)))
    for targets in (IDS, np.eye(3)[IDS], np.eye(3, dtype=int)[IDS], IDS.astype(np.uint8)):
        assert same_bits(train((X, targets), class_weight=given), expected)
    assert same_bits(train(Source(X, IDS), class_weight=given), expected)
    both = train((X, IDS, WEIGHTS * factors(IDS, TABLE)))
    assert same_bits(train(class_weight=given, sample_weight=WEIGHTS), both)
    assert same_bits(train((X, IDS, WEIGHTS), class_weight=given), both)


def test_balanced_classes_have_the_same_sum_of_weights():
    expected = train((X, IDS, factors(IDS, BALANCED)))
    assert same_bits(train(class_weight="balanced"), expected)
    sums = [np.sum(factors(IDS, BALANCED)[k == IDS]) for k in range(3)]
    assert sums == pytest.approx([40 / 3] * 3)


def test_balanced_classes_have_the_same_sum_with_other_weights():
    for data in ((X, IDS, WEIGHTS), (SEQUENCES, STEPS, np.arange(6) < STEPS[:, :1] + 2)):
        x, ids, weights = data
        sums = [np.sum(weights * (k == ids)) for k in range(3)]
        table = {k: np.sum(weights) / (3 * sums[k]) for k in range(3)}
        options = {"model": F.dense(3)}
        found = train(data, class_weight="balanced", **options)
        expected = train((x, ids, weights * factors(ids, table)), **options)
        assert tree.all_close(found[0].params, expected[0].params, rtol=1e-4, atol=1e-5)
    # A class whose weights are all 0 does not count.
    weights = WEIGHTS * (IDS < 2)
    found = train((X, IDS, weights), class_weight="balanced")
    expected = train((X[IDS < 2], IDS[IDS < 2], WEIGHTS[IDS < 2]), class_weight="balanced")
    assert np.isfinite(found[1]["loss"]).all()
    assert len(expected[1]["loss"]) == 2


def test_the_positions_of_sequences_have_the_weights_of_their_classes():
    options = {"model": F.dense(3)}
    expected = train((SEQUENCES, STEPS, factors(STEPS, TABLE)), **options)
    assert same_bits(train((SEQUENCES, STEPS), class_weight=TABLE, **options), expected)
    rows = np.eye(3)[STEPS]
    assert same_bits(train((SEQUENCES, rows), class_weight=TABLE, **options), expected)
    mask = np.arange(6) < GENERATOR.integers(1, 7, (40, 1))
    expected = train((SEQUENCES, STEPS, mask * factors(STEPS, TABLE)), **options)
    assert same_bits(train((SEQUENCES, STEPS, mask), class_weight=TABLE, **options), expected)
    weighted = train((SEQUENCES, STEPS), class_weight=TABLE, sample_weight=WEIGHTS, **options)
    product = WEIGHTS[:, None] * factors(STEPS, TABLE)
    assert same_bits(weighted, train((SEQUENCES, STEPS, product), **options))


def test_one_output_has_the_classes_0_and_1():
    targets = (IDS > 0).astype(np.float32)[:, None]
    options = {"model": ONE, "loss": F.sigmoid_cross_entropy, "metrics": None}
    expected = train((X, targets, factors(targets[:, 0], {1: 3.0})), **options)
    for given in (targets, targets > 0, targets.astype(int)):
        assert same_bits(train((X, given), class_weight={1: 3.0}, **options), expected)
        balanced = train((X, given), class_weight="balanced", **options)
        assert balanced[1]["loss"] == pytest.approx(
            train((X, given), class_weight={1: np.mean(IDS == 0) / np.mean(IDS > 0)}, **options)[1][
                "loss"
            ],
            rel=1e-5,
        )


def test_a_layer_of_ids_without_a_declared_shape_has_classes():
    @F.layer
    def table():
        def init(rng, shape):
            return {"table": np.zeros((9, 3), np.float32)}

        def apply(params, x):
            return params["table"][x], x

        def backward(params, x, g):
            d = np.zeros((9, 3), g.dtype)
            np.add.at(d, x, g)
            return {"table": d}, None

        return F.Layer(init, apply, backward)

    ids = np.arange(40) % 9
    found = train((ids, IDS), model=table(), class_weight=TABLE)
    assert same_bits(found, train((ids, IDS, factors(IDS, TABLE)), model=table()))


@pytest.mark.parametrize("shards", [None, 3])
def test_the_history_is_the_weighted_mean_over_the_epoch(shards):
    weights = WEIGHTS * factors(IDS, TABLE)
    _, history = fit(
        MODEL, LOSS, F.sgd(0.0), (X, IDS), class_weight=TABLE, sample_weight=WEIGHTS,
        batch_size=7, metrics=METRICS, progress=False, shards=shards,
        validation=(X, IDS, weights),
    )  # fmt: skip
    for name in ("loss", "accuracy", "f1"):
        assert history[name] == pytest.approx(history[f"val_{name}"], rel=2e-6)


def test_validation_data_have_their_own_weights():
    options = {"class_weight": TABLE, "sample_weight": WEIGHTS}
    state, history = train(validation=(X, IDS), **options)
    expected = evaluate(MODEL, state.params, (X, IDS), loss=LOSS, metrics=METRICS)
    assert {name: history[f"val_{name}"][-1] for name in expected} == pytest.approx(expected)


def test_a_loss_with_weights_at_another_index():
    def loss(outputs, first, second, weights=None):
        return F.mean_squared_error(outputs, first + second, weights)

    first, second = GENERATOR.normal(size=(2, 40, 3)).astype(np.float32)
    options = {"loss": loss, "metrics": {"error": F.absolute_error}}
    expected = train((X, first, second, WEIGHTS), **options)
    assert same_bits(train((X, first, second), sample_weight=WEIGHTS, **options), expected)
    with pytest.raises(ValueError, match="weights are the argument 3 of the loss"):
        train((X, first), sample_weight=WEIGHTS, **options)


def test_a_resumed_run_needs_the_same_class_weight(tmp_path):
    def run(class_weight, epochs):
        return train(
            class_weight=class_weight, epochs=epochs, checkpoint=Checkpoint(tmp_path), resume=True
        )

    with pytest.warns(FreshStartWarning):
        run(TABLE, 1)
    assert same_bits(run(TABLE, 2), train(class_weight=TABLE))
    for other in (None, "balanced", {1: 4.0}):
        with pytest.raises(OtherRunError, match="class_weight"):
            run(other, 3)


BINARY_ROWS = (IDS[:, None] == [0, 1, 2]) | (np.arange(40)[:, None] % 2 == 0)
WRONG = {
    "a class that is not there": ({"class_weight": {3: 2.0}}, "the class 3, .*classes 0, 1, 2"),
    "a negative class": ({"class_weight": {-1: 2.0}}, "the class -1, .*classes 0, 1, 2"),
    "half a class": ({"class_weight": {0.5: 2.0}}, "the class 0.5, .*classes 0, 1, 2"),
    "a class without targets": (
        {"class_weight": {2: 2.0}, "data": (X, IDS % 2)},
        "the class 2, .*classes 0, 1 of the targets",
    ),
    "a class by its name": ({"class_weight": {"1": 2.0}}, "got 2.0 for '1'"),
    "a boolean": ({"class_weight": {True: 2.0}}, "got 2.0 for True"),
    "a negative weight of a class": ({"class_weight": {1: -2.0}}, "got -2.0 for 1"),
    "an infinite weight of a class": ({"class_weight": {1: np.inf}}, "got inf for 1"),
    "nan as the weight of a class": ({"class_weight": {1: np.nan}}, "got nan for 1"),
    "a list of weights of classes": ({"class_weight": [1, 2, 3]}, r"\{0: 1.0, 1: 5.0\}, got \["),
    "another word": ({"class_weight": "even"}, "must be 'balanced', or a dict.*got 'even'"),
    "targets of labels": (
        {
            "class_weight": {1: 2.0},
            "data": (X, BINARY_ROWS.astype(float)),
            "loss": F.sigmoid_cross_entropy,
            "metrics": None,
        },
        r"a class for each target.*float64\[40, 3\].*pass sample_weight",
    ),
    "numbers": (
        {
            "class_weight": {1: 2.0},
            "data": (X, X[:, :1]),
            "model": ONE,
            "loss": F.mean_squared_error,
            "metrics": None,
        },
        "a class for each target",
    ),
    "weights of another length": ({"sample_weight": WEIGHTS[1:]}, r"each of the 40 .*float64\[39"),
    "one weight": ({"sample_weight": 2.0}, r"each of the 40 examples, got float64\[\]"),
    "negative weights": ({"sample_weight": WEIGHTS - 1}, "each of the 40 examples, got -1.0"),
    "nan": ({"sample_weight": np.where(IDS, WEIGHTS, np.nan)}, "examples, got nan"),
    "infinite weights": ({"sample_weight": np.where(IDS, WEIGHTS, np.inf)}, "examples, got inf"),
    "words": ({"sample_weight": np.array(["a"] * 40)}, "each of the 40 examples, got <U1"),
    "a masked array": ({"sample_weight": np.ma.array(WEIGHTS)}, "MaskedArray"),
    "weights twice": (
        {"sample_weight": WEIGHTS, "data": (X, IDS, WEIGHTS)},
        r"passed twice, as sample_weight and as data\[2\]",
    ),
    "a loss without weights": (
        {"sample_weight": WEIGHTS, "loss": lambda outputs, targets: LOSS(outputs, targets)},
        r"need a loss with an argument weights",
    ),
    "a source that is balanced": (
        {"class_weight": "balanced", "data": Source(X, IDS)},
        "needs all targets at once",
    ),
    "a class of a source": (
        {"class_weight": {3: 1.0}, "data": Source(X, IDS)},
        "the class 3, .*classes 0, 1, 2",
    ),
    "a length of a source": (
        {"sample_weight": WEIGHTS[:9], "data": Source(X, IDS)},
        "each of the 40 examples",
    ),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_weights_are_found_before_the_first_step(options, message):
    steps = []
    count = LambdaCallback(on_train_batch_begin=lambda *_: steps.append(1))
    with pytest.raises((ValueError, TypeError), match=message):
        train(callbacks=[count], **options)
    assert not steps


def test_all_weights_of_classes_may_be_passed_if_a_class_is_missing():
    data = X, IDS % 2
    expected = train((*data, factors(data[1], {0: 2.0})))
    assert same_bits(train(data, class_weight={0: 2.0, 1: 1.0, 2: 7.0}), expected)
    assert same_bits(train(Source(*data), class_weight={0: 2.0, 2: 7.0}), expected)
