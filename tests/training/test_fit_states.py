"""Training from a given state, and from given parameters."""

import pickle

import attrs
import numpy as np
import pytest
from arrays import read_only, same_bits
from classifier import DATA, LOSS, MODEL, OPTIMIZERS, classes, run

import npdl.functional as F
from npdl import checkpoint, tree
from npdl.callbacks import Callback, LambdaCallback
from npdl.training import (
    Checkpoint,
    FreshStartWarning,
    TrainState,
    fit,
    train_step,
)


class Source:
    """Data that count the rows that were read."""

    def __init__(self, data):
        self.data, self.count = data, 0

    def __len__(self):
        return len(self.data[0])

    def __getitem__(self, rows):
        self.count += len(rows)
        return tuple(array[rows] for array in self.data)


def counted(data, batch_size, state):
    """Return how many examples an epoch from a state is trained on."""
    seen = []

    def loss(outputs, targets):
        seen.append(len(outputs))
        return LOSS(outputs, targets)

    fit(
        MODEL, loss, F.sgd(0.01), data, state=state, batch_size=batch_size, epochs=1, progress=False
    )
    return sum(seen)


# Other data after two epochs of 64 examples in batches of 32, which are four steps: their number,
# the size of a batch, and the steps of an epoch.
ELSEWHERE = {
    "more examples": (160, 32, 5),
    "many more examples": (999, 32, 32),
    "fewer examples": (90, 32, 3),
    "a smaller batch": (64, 10, 7),
    "a larger batch": (640, 200, 4),
    "the same": (64, 32, 2),
    "a divisor of the steps": (128, 32, 4),
}
ORIGINS = {
    "of fit": lambda state: state,
    "of a file": lambda state: tree.map(lambda leaf: leaf, state),
    "pickled": lambda state: pickle.loads(pickle.dumps(state)),
    "of a script": lambda state: TrainState(4, state.params, state.opt_state, state.rng),
}


@pytest.mark.parametrize("kind", ["arrays", "source"])
@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
@pytest.mark.parametrize(("count", "batch_size", "steps"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_other_data_are_trained_on_from_their_first_example(count, batch_size, steps, origin, kind):
    state, _ = fit(MODEL, LOSS, F.sgd(0.01), classes(64), epochs=2, progress=False)
    state, data = origin(state), classes(count)
    assert state.step == 4
    assert counted(Source(data) if kind == "source" else data, batch_size, state) == count
    whole = attrs.evolve(state, step=-(-4 // steps) * steps)
    options = {"data": data, "batch_size": batch_size, "optimizer": F.sgd(0.01), "epochs": 1}
    assert same_bits(run(state=state, **options), run(state=whole, **options))
    assert run(state=state, **options)[0].step == whole.step + steps


class Keep(Callback):
    """Keeps the state after a step."""

    def __init__(self, step):
        self.step, self.state_then = step, None

    def on_train_batch_end(self, batch, logs=None):
        if self.model.state.step == self.step:
            self.state_then = self.model.state


@pytest.mark.parametrize("step", [1, 6, 7, 8, 13])
def test_the_same_data_continue_to_the_same_bits_in_any_epoch(step):
    keep = Keep(step)
    whole, _ = run(epochs=2, callbacks=[keep])
    options = {"epochs": 2 - step // 7, "batch_size": 8}
    for state in (keep.state_then, pickle.loads(pickle.dumps(keep.state_then))):
        rest, _ = run(state=state, resume=True, **options)
        assert same_bits(rest, whole)
    assert same_bits(run(state=keep.state_then, **options)[0], whole) == (step % 7 == 0)


def test_a_state_in_mid_epoch_begins_other_data_at_their_start():
    keep = Keep(3)
    run(epochs=1, callbacks=[keep], optimizer=F.sgd(0.01))
    for count, size in ((51, 8), (50, 9), (20, 8)):
        assert counted(classes(count), size, keep.state_then) == count


def test_an_error_leaves_a_state_that_continues_in_mid_epoch():
    def stop(batch, logs):
        if batch == 4:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped") as caught:
        run(epochs=2, callbacks=[LambdaCallback(on_train_batch_end=stop)])
    rest, _ = run(epochs=2, state=caught.value.state, resume=True)
    assert same_bits(rest, run(epochs=2)[0])


def test_a_first_start_with_a_state_begins_at_the_first_example(tmp_path):
    state, _ = fit(MODEL, LOSS, F.sgd(0.01), classes(64), epochs=2, progress=False)
    options = {"state": state, "optimizer": F.sgd(0.01), "epochs": 1}
    with pytest.warns(FreshStartWarning):
        first, _ = run(checkpoint=Checkpoint(tmp_path), resume=True, **options)
    assert same_bits(first, run(**options)[0])


def test_a_run_resumed_in_mid_epoch_skips_nothing(tmp_path):
    class EndedError(Exception):
        pass

    def end(batch, logs):
        if batch == 4:
            raise EndedError

    def begin(callbacks=()):
        every = Checkpoint(tmp_path, every_steps=1)
        return run(epochs=2, checkpoint=every, resume=True, callbacks=callbacks)

    with pytest.warns(FreshStartWarning), pytest.raises(EndedError):
        begin([LambdaCallback(on_train_batch_end=end)])
    assert same_bits(begin()[0], run(epochs=2)[0])


# From given parameters


def test_training_starts_from_given_parameters():
    given = read_only(MODEL.init(9, (6,)))
    state, history = run(params=given, epochs=2)
    first = TrainState.create(MODEL, F.adam(0.02), (6,), rng=3, params=given)
    assert same_bits(first.params, given)
    assert same_bits(state, run(state=first, epochs=2)[0])
    assert same_bits(run(params=run(epochs=1)[0].params, epochs=1)[0].params, run(
        state=TrainState.create(MODEL, F.adam(0.02), (6,), 3, params=run(epochs=1)[0].params),
        epochs=1,
    )[0].params)  # fmt: skip
    assert history["loss"][0] != run(epochs=2)[1]["loss"][0]
    assert state.rng == (3,)


def test_given_parameters_are_copied():
    given = MODEL.init(9, (6,))
    kept = tree.map(np.copy, given)
    for options in ({"shape": (6,)}, {}):
        state = TrainState.create(MODEL, F.adam(0.02), params=given, **options)
        step = train_step(MODEL, LOSS, F.adam(0.02), donate=True)
        for _ in range(3):
            state, _ = step(state, DATA)
        assert same_bits(given, kept)


def test_given_parameters_may_be_of_float64_lists_and_files(tmp_path):
    given = MODEL.init(9, (6,))
    wide = tree.astype(given, np.float64)
    data = DATA[0].astype(np.float64), DATA[1]
    assert run(params=wide, data=data, epochs=1)[0].params[0]["weight"].dtype == np.float64
    assert same_bits(run(params=list(given), epochs=1)[0], run(params=given, epochs=1)[0])
    np.save(tmp_path / "weight.npy", given[0]["weight"])
    mapped = np.load(tmp_path / "weight.npy", mmap_mode="r")
    parts = ({**given[0], "weight": mapped}, *given[1:])
    assert same_bits(run(params=parts, epochs=1)[0], run(params=given, epochs=1)[0])
    checkpoint.save(tmp_path / "a.npz", given)
    loaded = checkpoint.load(tmp_path / "a.npz", like=given)
    assert same_bits(run(params=loaded, epochs=1)[0], run(params=given, epochs=1)[0])


def test_running_statistics_are_given_too():
    model = F.serial(F.dense(4), F.batch_norm(), F.dense(3))
    state, _ = fit(model, LOSS, F.sgd(0.1), DATA, epochs=1, batch_size=25, progress=False)
    again, _ = fit(
        model, LOSS, F.sgd(0.0), DATA, params=state.params, batch_size=25, progress=False
    )
    assert again.params[1]["count"] > state.params[1]["count"]
    assert same_bits(again.params[0], state.params[0])


GIVEN = MODEL.init(0, (6,))
UNFIT = {
    "a layer less": (GIVEN[:-1], ValueError, r"do not fit the model:.*3/weight: missing, float32"),
    "a layer more": (
        (*GIVEN, {"scale": np.ones(3, np.float32)}),
        ValueError,
        r"4/scale: float32\[3\] is not expected",
    ),
    "another width": (
        MODEL.init(0, (5,)),
        ValueError,
        r"0/weight: float32\[5, 8\], float32\[6, 8\] is expected$",
    ),
    "ints": (
        ({**GIVEN[0], "bias": np.zeros(8, int)}, *GIVEN[1:]),
        ValueError,
        r"0/bias: int64\[8\], float32\[8\] is expected",
    ),
    "numbers": (
        ({**GIVEN[0], "bias": [0.0] * 8}, *GIVEN[1:]),
        TypeError,
        r"expected NumPy arrays of numbers, got float at '0/bias/0'; convert it with np.asarray",
    ),
    "two types": (
        (tree.astype(GIVEN[0], np.float64), *GIVEN[1:]),
        TypeError,
        r"one type, float32 or float64, got float32, float64; convert them with npdl.tree.astype",
    ),
    "half": (tree.astype(GIVEN, np.float16), TypeError, "got float16; convert them with npdl.tree"),
    "a state": (
        TrainState.create(MODEL, F.sgd(0.1), (6,)),
        TypeError,
        "got a TrainState; pass its state.pa",
    ),
    "masked": (
        ({**GIVEN[0], "bias": np.ma.zeros(8, np.float32)}, *GIVEN[1:]),
        TypeError,
        "arrays of numbers",
    ),
}


@pytest.mark.parametrize(("params", "error", "message"), UNFIT.values(), ids=UNFIT)
def test_parameters_that_do_not_fit_the_model_are_refused(params, error, message):
    begun = []
    begin = LambdaCallback(on_train_begin=lambda logs: begun.append(1))
    with pytest.raises(error, match=f"(?s){message}"):
        run(params=params, callbacks=[begin])
    with pytest.raises(error, match=f"(?s){message}"):
        TrainState.create(MODEL, F.sgd(0.1), shape=(6,), params=params)
    assert not begun


def test_the_initial_state_of_training_is_passed_once():
    state = TrainState.create(MODEL, F.adam(0.02), (6,))
    with pytest.raises(ValueError, match="state and params were both passed"):
        run(state=state, params=state.params)
    with pytest.raises(TypeError, match=r"needs the shape of one example, as in shape=\(64,\), or"):
        TrainState.create(MODEL, F.adam(0.02))


FOREIGN = {
    "momentum to nesterov": (F.momentum(0.1), F.nesterov_momentum(0.1)),
    "nesterov to momentum": (F.nesterov_momentum(0.1), F.momentum(0.1)),
    "adagrad to rmsprop": (F.adagrad(0.1), F.rmsprop(0.1)),
    "momentum to rmsprop": (F.momentum(0.1), F.rmsprop(0.01)),
    "momentum to lion": (F.momentum(0.1), F.lion(0.01)),
    "adam to sgd": (F.adam(0.01), F.sgd(0.1)),
    "adam to nadam": (F.adam(0.01), F.nadam(0.01)),
    "sgd to adam": (F.sgd(0.1), F.adam(0.01)),
    "clipped": (F.adam(0.01), F.chain(F.clip_by_global_norm(1.0), F.adam(0.01))),
}


@pytest.mark.parametrize(("one", "other"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_state_is_found_before_the_first_step(one, other):
    state, _ = run(epochs=1, optimizer=one)
    begun = []
    begin = LambdaCallback(on_train_begin=lambda logs: begun.append(1))
    with pytest.raises(ValueError, match="of another optimizer") as caught:
        run(state=state, optimizer=other, callbacks=[begin])
    assert "with zero gradients and this state, before the first step" in caught.value.__notes__[-1]
    assert not begun


@pytest.mark.filterwarnings("ignore:the gradients after the last update")
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_state_of_the_same_optimizer_is_never_refused(optimizer):
    whole, _ = run(epochs=2, optimizer=optimizer)
    half, _ = run(epochs=1, optimizer=optimizer)
    assert same_bits(run(epochs=1, optimizer=optimizer, state=half)[0], whole)


def test_untrained_counts_are_not_gradients():
    @F.layer
    def counting():
        return F.Layer(
            lambda rng, shape: {"seen": np.zeros((), np.int64)},
            lambda params, x: (x, None),
            lambda params, cache, g: (None, g),
        )

    model = F.serial(counting(), F.dense(3))
    state, _ = fit(model, LOSS, F.adam(0.1), DATA, progress=False)
    fit(model, LOSS, F.adam(0.1), DATA, progress=False, state=state)
    fit(model, LOSS, F.adam(0.1), DATA, progress=False, params=state.params)


def test_an_error_has_the_state_and_the_history_so_far():
    class StopError(Exception):
        pass

    def stop(epoch, logs):
        if epoch == 1:
            raise StopError

    expected, figures = run(epochs=2)
    with pytest.raises(StopError) as caught:
        run(epochs=5, callbacks=[LambdaCallback(on_epoch_end=stop)])
    assert same_bits(caught.value.state, expected)
    assert caught.value.history == {"loss": figures["loss"][:1]}
    assert same_bits(run(epochs=3, state=caught.value.state)[0], run(epochs=5)[0])


class Interrupting:
    """An optimizer whose update is interrupted once the first arrays are written."""

    def __init__(self):
        self.calls = 0

    def rate(self, step):
        self.calls += 1
        if self.calls == 8:
            raise KeyboardInterrupt
        return 0.1


def test_weights_half_written_by_an_interrupt_are_not_read():
    tried = []

    class Look(Callback):
        def on_train_exit(self, logs=None):
            for read in (self.model.get_weights, lambda: self.model.state):
                with pytest.raises(RuntimeError, match="was interrupted while it wrote the param"):
                    read()
                tried.append(1)

    # One call of the rate for each array that is too large to be joined: in the third step.
    model = F.serial(F.dense(200), F.tanh(), F.dense(200), F.tanh(), F.dense(3))
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(
            model, LOSS, F.sgd(Interrupting().rate), classes(features=200), batch_size=10,
            callbacks=[Look()], progress=False,
        )  # fmt: skip
    assert not hasattr(caught.value, "state")
    assert caught.value.history == {}
    assert len(tried) == 2
