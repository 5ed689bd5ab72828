"""The callback that sets the learning rate of each epoch, in both kinds of fit."""

import numpy as np
import pytest

import npdl
import npdl.functional as F
from npdl.callbacks import Callback, LearningRateScheduler
from npdl.training import Checkpoint, fit

X = np.linspace(-1, 1, 24, dtype=np.float32)[:, None]
Y = X**2


class Rates(Callback):
    """Keeps the rate of each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(self.model.learning_rate)

    def state(self):
        return {"seen": self.seen}

    def restore(self, state):
        self.seen = state["seen"]


def functional(callbacks, **options):
    optimizer = options.pop("optimizer", F.sgd(0.5))
    state, _ = fit(
        F.dense(1),
        F.mean_squared_error,
        optimizer,
        (X, Y),
        epochs=4,
        batch_size=12,
        callbacks=callbacks,
        progress=False,
        **options,
    )
    return npdl.tree.leaves(state.params)


def stateful(callbacks, **options):
    npdl.utils.set_seed(0)
    model = npdl.Model([npdl.layers.Linear(1, n_in=1)])
    model.compile("mse", npdl.optimizers.SGD(lr=0.5))
    model.fit(X, Y, epochs=4, batch_size=12, callbacks=callbacks, verbose=0, **options)
    return model.get_weights()


both = pytest.mark.parametrize("train", [functional, stateful])

SCHEDULES = {
    "epoch and rate": (lambda epoch, lr: lr * 0.5 if epoch else lr, [0.5, 0.25, 0.125, 0.0625]),
    "epoch": (lambda epoch: 0.1 * (epoch + 1), [0.1, 0.2, 0.3, 0.4]),
    "of npdl": (F.step_decay(0.8, (1, 3), factor=0.5), [0.8, 0.4, 0.4, 0.2]),
    "the same": (lambda epoch, lr: lr, [0.5] * 4),
    "nothing at the end": (lambda epoch: float(epoch < 3), [1, 1, 1, 0]),
    "numbers of NumPy": (lambda epoch: np.float32(0.25), [0.25] * 4),
}


@both
@pytest.mark.parametrize(("schedule", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_an_epoch_has_the_rate_of_its_schedule(train, schedule, expected):
    rates = Rates()
    train([LearningRateScheduler(schedule), rates])
    np.testing.assert_allclose(rates.seen, np.repeat(expected, 2), rtol=1e-12)


def test_a_schedule_of_the_optimizer_is_scaled():
    rates = Rates()
    optimizer = F.sgd(F.exponential_decay(0.5, steps=2, rate=0.5))
    functional([LearningRateScheduler(lambda epoch, lr: 0.1), rates], optimizer=optimizer)
    np.testing.assert_allclose(rates.seen[::2], [0.1] * 4, rtol=1e-12)


@both
def test_a_run_continues_with_its_rate(train, tmp_path):
    def callbacks():
        return [LearningRateScheduler(lambda epoch, lr: 0.5 * lr), Rates()]

    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == (2, 0):
                raise KeyboardInterrupt

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    whole = callbacks()
    expected = train(whole)
    checkpoint = Checkpoint(tmp_path, every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train([*callbacks(), Stop()], checkpoint=checkpoint)
    resumed = callbacks()
    weights = train(resumed, checkpoint=checkpoint, resume=True)
    assert resumed[1].seen == whole[1].seen
    assert all(map(np.array_equal, weights, expected))


def test_the_rate_can_be_printed(capsys):
    stateful([LearningRateScheduler(lambda epoch: 0.25, verbose=1)])
    assert capsys.readouterr().out.splitlines()[0] == "epoch 1: the learning rate is 0.25"


def test_values_other_than_functions_are_refused():
    with pytest.raises(TypeError, match="expected a function"):
        LearningRateScheduler(0.1)


@pytest.mark.parametrize("value", [-0.1, None, float("nan"), float("inf"), "0.1", True])
def test_invalid_rates_are_refused(value):
    with pytest.raises(ValueError, match=r"schedule\(0\) must return a finite number"):
        stateful([LearningRateScheduler(lambda epoch: value)])


def test_a_rate_of_zero_stays():
    with pytest.raises(ValueError, match="the rate was 0"):
        stateful([LearningRateScheduler(lambda epoch: float(epoch))])
