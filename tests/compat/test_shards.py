"""`Model.fit` over shards: the sums of a batch, separate keys, statistics per shard."""

import numpy as np
import pytest
from arrays import same_bits

import npdl
from npdl import random
from npdl.callbacks import LambdaCallback
from npdl.compat.utils.random import get_state
from npdl.training import Checkpoint

X = random.generator(1).normal(size=(50, 6)).astype(np.float32)
LABELS = random.generator(2).integers(3, size=50)
WEIGHTS = np.linspace(0.0, 1.0, 50)


def model(*between, loss="scce"):
    npdl.utils.set_seed(3)
    built = npdl.Model([npdl.layers.Dense(8, 6, activation="tanh")])
    for layer in (*between, npdl.layers.Softmax(3)):
        built.add(layer)
    built.compile(loss, npdl.optimizers.Adam(lr=0.01))
    return built


def normalized(**options):
    return model(npdl.layers.BatchNormal(), npdl.layers.Dropout(0.3), **options)


def train(built, **options):
    options = {"epochs": 2, "batch_size": 20, "shards": 4, "verbose": 0} | options
    history = built.fit(X, LABELS, sample_weight=WEIGHTS, **options)
    return built.get_weights(), built.optimizer.get_state(), history.history, get_state()


def test_shards_give_the_gradient_of_the_whole_batch():
    whole, shards = (train(model(), shards=shards, shuffle=False) for shards in (None, 7))
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(shards[2][name], whole[2][name], rtol=1e-5)
    for array, expected in zip(shards[0], whole[0], strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-5)


def test_each_shard_has_its_own_dropout_and_statistics():
    results = [train(normalized(), shards=shards) for shards in (None, 1, 4)]
    assert not any(same_bits(results[0], other) for other in results[1:])
    assert same_bits(train(normalized()), results[2])
    # The global generator draws the order of an epoch, and one key per batch.
    assert results[1][3] == results[2][3]
    counts = [built.layers[1].tree["count"] for built in (normalized(), trained())]
    assert counts[1] - counts[0] == 2 * 3 * 4


def trained():
    built = normalized()
    train(built)
    return built


def test_a_run_over_shards_resumes_to_the_same_bits(tmp_path):
    expected = train(normalized(), epochs=4)

    class StopError(Exception):
        pass

    def stop(batch, logs):
        if batch == 1 and built.optimizer.iterations > 4:
            raise StopError

    built = normalized()
    with pytest.raises(StopError):
        train(
            built, epochs=4, checkpoint=Checkpoint(tmp_path, every_steps=1),
            callbacks=[LambdaCallback(on_train_batch_end=stop)],
        )  # fmt: skip
    resumed = train(normalized(), epochs=4, checkpoint=Checkpoint(tmp_path), resume=True)
    assert same_bits(resumed, expected)
    with pytest.raises(ValueError, match="in 4 shards"):
        train(normalized(), checkpoint=Checkpoint(tmp_path), resume=True, shards=2)


def test_the_environment_sets_the_number_of_shards(monkeypatch):
    expected = train(normalized())
    monkeypatch.setenv("NPDL_SHARDS", "4")
    assert same_bits(train(normalized(), shards=None), expected)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "8"])
def test_a_wrong_number_of_shards_is_refused(wrong):
    with pytest.raises(ValueError, match=r"shards must be .*Model.fit\(X, Y, shards=8\), got"):
        train(model(), shards=wrong)


def test_a_shard_of_one_example_is_refused_before_training():
    built = normalized()
    before = built.get_weights()
    with pytest.raises(ValueError, match="a single value per channel") as caught:
        train(built, shards=8)
    assert "batches of [10, 20] examples in 8 shards" in caught.value.__notes__[-1]
    assert same_bits(built.get_weights(), before)
    train(model(), shards=30)


def test_an_error_in_a_shard_leaves_the_model_unchanged():
    class Fails(npdl.objectives.SCCE):
        def backward(self, outputs, targets):
            raise RuntimeError("no gradient")

    built = normalized(loss=Fails())
    generator, before = npdl.utils.get_rng(), built.get_weights()
    with pytest.raises(RuntimeError, match="no gradient"):
        train(built)
    assert same_bits(built.get_weights(), before)
    assert npdl.utils.get_rng() is generator
