"""The loss and the metrics of an epoch equal the values of all its data in one piece."""

import functools
import pickle

import numpy as np
import pytest
from communicators import on_ranks

import npdl
import npdl.functional as F
from npdl import random
from npdl.callbacks import Callback
from npdl.training import Checkpoint, TrainState, evaluate, fit, train_step

GENERATOR = random.generator(3)
X = GENERATOR.normal(size=(23, 4)).astype(np.float32)
IDS = (GENERATOR.random(23) ** 2 * 3).astype(int)  # class 0 is much more frequent
WEIGHTS = GENERATOR.uniform(size=23) * (GENERATOR.random(23) > 0.3)
MODEL = F.dense(3)


def root_mean_square(outputs, targets, weights=None):
    """Sums of a metric that is not a mean over batches."""
    return {"squares": np.sum(outputs**2, dtype=np.float32), "count": [len(outputs)]}


CLASSIFICATION = {
    "accuracy": F.accuracy,
    "top_2": functools.partial(F.top_k_accuracy, k=2),
    "precision": F.precision,
    "recall": F.recall,
    "f1": F.f1_score,
    "f1_micro": functools.partial(F.f1_score, average="micro"),
    "recall_weighted": functools.partial(functools.partial(F.recall), average="weighted"),
    "matthews": F.matthews_correlation,
    "auc": functools.partial(F.roc_auc, logits=True),
    "precisions": functools.partial(F.average_precision, logits=True, average="weighted"),
    "perplexity": functools.partial(F.perplexity, logits=True),
    "calibration": functools.partial(F.calibration_error, logits=True, bins=5),
    "collected": F.collected(lambda outputs, targets: np.median(outputs[:, 1])),
    "own": F.Metric(root_mean_square, lambda sums: np.sqrt(sums["squares"] / sums["count"][0])),
    "mean": lambda outputs, targets: float(outputs[:, 1].mean()),
    "weighted mean": lambda outputs, targets, weights=None: np.average(
        outputs[:, 0], weights=weights
    ),
}
REGRESSION = {
    "absolute_error": F.absolute_error,
    "r2": F.r2_score,
    "binary": functools.partial(F.binary_accuracy, threshold=0.2),
}
# The loss, the targets, and the metrics.
TASKS = {
    "softmax": (F.softmax_cross_entropy, IDS, CLASSIFICATION),
    "softmax, smoothed": (
        functools.partial(F.softmax_cross_entropy, label_smoothing=0.1),
        np.eye(3, dtype=np.float32)[IDS],
        CLASSIFICATION,
    ),
    "squares": (F.mean_squared_error, GENERATOR.random((23, 3)), REGRESSION),
    "huber": (functools.partial(F.huber, delta=0.3), GENERATOR.random((23, 3)), REGRESSION),
}


def unchanging(loss, data, metrics, **options):
    """Return the history of two epochs at a learning rate of 0, the data also as validation."""
    options = {"batch_size": 5, "progress": False, "epochs": 2} | options
    return fit(MODEL, loss, F.sgd(0.0), data, validation=data, metrics=metrics, **options)[1]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 5},
        {"batch_size": 22, "shuffle": False},
        {"batch_size": 23},
        {"batch_size": 7, "shards": 1},
        {"batch_size": 7, "shards": 3},
        {"batch_size": 10, "shards": 4, "shuffle": False},
        {"batch_size": 23, "shards": 23},
    ],
    ids=str,
)
def test_an_epoch_with_rate_zero_has_the_values_of_validation(task, weighted, options):
    loss, targets, metrics = task
    data = (X, targets, WEIGHTS) if weighted else (X, targets)
    history = unchanging(loss, data, metrics, **options)
    for name in ("loss", *metrics):
        assert history[name] == pytest.approx(history[f"val_{name}"], rel=2e-6), name
        assert {type(value) for value in history[name] + history[f"val_{name}"]} == {float}


def test_weights_of_batches_count_in_the_loss_of_the_epoch():
    x, y = np.ones((6, 1), np.float32), np.arange(6, dtype=np.float32)[:, None]
    data = x, y, np.array([1, 0, 0, 1, 1, 1], np.float32)
    model = F.dense(1, weight_init=F.zeros())
    for shards in (None, 1, 2, 3):
        _, history = fit(
            model, F.mean_squared_error, F.sgd(0.0), data, batch_size=3, shuffle=False,
            progress=False, validation=data, shards=shards,
        )  # fmt: skip
        assert history["loss"] == pytest.approx([12.5], rel=1e-6)
        assert history["val_loss"] == pytest.approx([12.5], rel=1e-6)


def test_weights_for_the_steps_of_sequences_reach_the_metrics():
    x = GENERATOR.normal(size=(9, 6, 4)).astype(np.float32)
    ids = GENERATOR.integers(3, size=(9, 6))
    mask = np.arange(6) < GENERATOR.integers(0, 7, (9, 1))
    metrics = {"accuracy": F.accuracy, "f1": F.f1_score}
    history = unchanging(F.softmax_cross_entropy, (x, ids, mask), metrics, batch_size=4)
    state, _ = fit(MODEL, F.softmax_cross_entropy, F.sgd(0.0), (x, ids, mask), progress=False)
    scores = MODEL(state.params, x)
    assert history["accuracy"][0] == pytest.approx(F.accuracy(scores[mask], ids[mask]))
    assert history["f1"][0] == pytest.approx(F.f1_score(scores[mask], ids[mask]))
    assert history["loss"][0] == pytest.approx(
        F.softmax_cross_entropy(scores[mask], ids[mask])[0], rel=1e-6
    )


def test_a_batch_without_any_weight_does_not_count():
    weights = np.repeat([0.0, 1.0], [12, 11])
    data = X, IDS, weights
    history = unchanging(
        F.softmax_cross_entropy, data, {"f1": F.f1_score}, batch_size=4, shuffle=False
    )
    assert history["loss"] == pytest.approx(history["val_loss"], rel=1e-6)
    assert history["f1"] == history["val_f1"]
    nothing = unchanging(F.softmax_cross_entropy, (X, IDS, 0 * weights), {"f1": F.f1_score})
    assert nothing == {name: [0.0, 0.0] for name in ("loss", "f1", "val_loss", "val_f1")}


def test_step_values_cover_the_epoch_so_far():
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs)

    data = X, IDS, WEIGHTS
    unchanging(
        F.softmax_cross_entropy, data, {"f1": F.f1_score}, epochs=1, shuffle=False,
        callbacks=[Watch()],
    )  # fmt: skip
    params = TrainState.create(MODEL, F.sgd(0.0), (4,)).params
    for logs, stop in zip(seen, (5, 10, 15, 20, 23), strict=True):
        part = tuple(array[:stop] for array in data)
        expected = evaluate(
            MODEL, params, part, loss=F.softmax_cross_entropy, metrics={"f1": F.f1_score}
        )
        assert logs == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shards", [None, 4])
def test_a_step_returns_the_values_of_its_batch(shards):
    step = train_step(
        MODEL, F.softmax_cross_entropy, F.sgd(0.1), metrics=CLASSIFICATION, shards=shards
    )
    state = TrainState.create(MODEL, F.sgd(0.1), (4,))
    weights = 0.1 + WEIGHTS
    _, found = step(state, (X, IDS, weights))
    expected = evaluate(
        MODEL, state.params, (X, IDS, weights), loss=F.softmax_cross_entropy,
        metrics=CLASSIFICATION,
    )  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_ranks_have_the_metrics_of_one_process():
    def run(comm=None):
        return unchanging(
            F.softmax_cross_entropy, (X, IDS, WEIGHTS),
            {"f1": F.f1_score, "r": F.recall, "auc": CLASSIFICATION["auc"]},
            batch_size=9, shards=4, comm=comm,
        )  # fmt: skip

    alone = run()
    for ranks in (1, 2, 3):
        assert on_ranks(ranks, run) == [alone] * ranks


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_an_epoch_that_is_resumed_has_the_same_bits(tmp_path, task):
    loss, targets, metrics = task

    class EndedError(Exception):
        pass

    class EndAt(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.state.step == 8:
                raise EndedError

    def run(folder, **options):
        return fit(
            MODEL, loss, F.adam(0.1), (X, targets, 0.01 + WEIGHTS), metrics=metrics, epochs=3,
            batch_size=5, progress=False, checkpoint=Checkpoint(folder, every_steps=1), **options,
        )[1]  # fmt: skip

    whole = run(tmp_path / "whole")
    with pytest.raises(EndedError):
        run(tmp_path / "stopped", callbacks=[EndAt()])
    assert run(tmp_path / "stopped", callbacks=[], resume=True) == whole


def test_a_metric_gets_the_second_target_if_it_needs_one():
    def loss(outputs, first, second, weights=None):
        return F.mean_squared_error(outputs, first + second, weights)

    def both(outputs, first, second):
        return float(np.mean(first * second))

    def first_alone(outputs, targets, offset=2.0):
        return float(np.mean(targets)) + offset

    first, second = GENERATOR.random((2, 23, 3)).astype(np.float32)
    metrics = {"both": both, "first": first_alone, "error": F.absolute_error}
    history = unchanging(loss, (X, first, second, WEIGHTS), metrics)
    assert history["both"][0] == pytest.approx(np.mean(first * second))
    assert history["first"][0] == pytest.approx(np.mean(first) + 2)
    outputs = MODEL(TrainState.create(MODEL, F.sgd(0.0), (4,)).params, X)
    assert history["error"][0] == pytest.approx(F.absolute_error(outputs, first, WEIGHTS), rel=1e-5)


def test_a_loss_without_weights_gives_metrics_none():
    def loss(outputs, first, second):
        return F.mean_squared_error(outputs, first + second)

    first, second = GENERATOR.random((2, 23, 3)).astype(np.float32)
    history = unchanging(loss, (X, first, second), {"error": F.absolute_error})
    assert history["error"] == pytest.approx(history["val_error"])


def test_evaluate_without_a_loss_gives_metrics_the_weights():
    params = MODEL.init(0, (4,))
    metrics = {"accuracy": F.accuracy, "two": lambda outputs, targets: len(targets)}
    found = evaluate(MODEL, params, (X, IDS, WEIGHTS), metrics=metrics)
    assert found == {"accuracy": F.accuracy(MODEL(params, X), IDS, WEIGHTS), "two": 23.0}


def test_metrics_of_a_model_get_the_sample_weight():
    model = npdl.Model([npdl.layers.Dense(n_in=4, n_out=3), npdl.layers.Softmax(n_out=3)])
    model.compile("scce", npdl.optimizers.SGD(lr=0.0))
    metrics = {"weighted": F.recall, "plain": lambda outputs, targets: F.accuracy(outputs, targets)}
    history = model.fit(
        X, IDS, epochs=1, batch_size=5, sample_weight=WEIGHTS, metrics=metrics, verbose=0
    ).history
    outputs = model.predict(X)
    assert history["weighted"][0] == pytest.approx(F.recall(outputs, IDS, WEIGHTS))
    assert history["accuracy"][0] == pytest.approx(F.accuracy(outputs, IDS, WEIGHTS))
    assert history["plain"][0] == pytest.approx(F.accuracy(outputs, IDS))
    history = model.fit(
        X, IDS, epochs=1, batch_size=5, metrics=metrics, validation_data=(X, IDS), verbose=0
    ).history
    for name in ("loss", "accuracy", "weighted", "plain"):
        assert history[name] == pytest.approx(history[f"val_{name}"], rel=1e-6)


def test_a_sample_weight_of_zero_leaves_out_a_missing_target():
    def trained(y, weights):
        npdl.utils.set_seed(3)
        model = npdl.Model([npdl.layers.Dense(n_in=4, n_out=1)])
        model.compile("mse", npdl.optimizers.SGD(lr=0.1))
        history = model.fit(
            X, y, epochs=2, batch_size=5, sample_weight=weights, verbose=0, shuffle=False
        )
        return history.history["loss"], model.get_weights()

    rng = npdl.utils.get_rng()
    y = X[:, :1] + 1
    missing = np.where(WEIGHTS[:, None] > 0, y, np.nan)
    (loss, weights), (other, others) = trained(y, WEIGHTS), trained(missing, WEIGHTS)
    npdl.utils.set_rng(rng)
    assert loss == other
    assert all(map(np.array_equal, weights, others))


METRICS = [F.accuracy, F.top_k_accuracy, F.precision, F.recall, F.f1_score]
METRICS += [F.binary_accuracy, F.absolute_error, F.r2_score]


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_sums_of_parts_are_merged_to_the_whole(metric):
    if metric in METRICS[:5]:
        outputs, targets = GENERATOR.normal(size=(23, 7)), GENERATOR.integers(7, size=23)
    else:
        outputs, targets = GENERATOR.random((2, 23, 2))
    for weights in (None, WEIGHTS):
        cuts = [slice(0, 2), slice(2, 3), slice(3, 16), slice(16, 23)]
        parts = [
            metric.sums(outputs[cut], targets[cut], None if weights is None else weights[cut])
            for cut in cuts
        ]
        whole = metric.result(functools.reduce(metric.merge, parts))
        assert whole == pytest.approx(metric(outputs, targets, weights), rel=1e-12)
        nested = metric.merge(metric.merge(parts[0], parts[1]), metric.merge(parts[2], parts[3]))
        assert metric.result(nested) == pytest.approx(whole, rel=1e-12)


def test_classes_that_come_later_extend_the_counts():
    low, high = np.array([0, 1, 1]), np.array([2, 3, 3, 1])
    truth = np.array([0, 1, 0]), np.array([3, 3, 3, 1])
    sums = F.f1_score.merge(F.f1_score.sums(low, truth[0]), F.f1_score.sums(high, truth[1]))
    whole = F.f1_score(np.concatenate([low, high]), np.concatenate(truth))
    assert F.f1_score.result(sums) == pytest.approx(whole)


def test_r2_of_targets_far_from_zero_is_merged_exactly():
    targets = 1e9 + GENERATOR.normal(size=(40, 1))
    outputs = targets + 0.1
    parts = [F.r2_score.sums(outputs[i : i + 8], targets[i : i + 8]) for i in range(0, 40, 8)]
    found = F.r2_score.result(functools.reduce(F.r2_score.merge, parts))
    assert found == pytest.approx(F.r2_score(outputs, targets), rel=1e-6)
    same = np.full((4, 1), 0.1, np.float32)
    sums = F.r2_score.merge(F.r2_score.sums(same, same), F.r2_score.sums(same, same))
    assert F.r2_score.result(sums) == 1


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_metrics_can_be_pickled_and_have_a_name(metric):
    assert pickle.loads(pickle.dumps(metric)) is metric
    assert repr(metric) == metric.__name__
    assert getattr(F, metric.__name__) is metric
    assert pickle.loads(pickle.dumps(functools.partial(metric, k=3))).func is metric


def test_sums_of_other_shapes_are_not_merged():
    own = F.Metric(lambda outputs, targets, weights=None: outputs.sum(0), np.mean)
    with pytest.raises(ValueError, match=r"the same shape in all batches, got float64\[3\] and"):
        own.merge(np.zeros(3), np.zeros(1))
