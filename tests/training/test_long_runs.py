"""Long runs: histories and states of callbacks of any length are saved and restored."""

import json

import attrs
import numpy as np
import pytest
from arrays import same_bits

import npdl.functional as F
from npdl import checkpoint
from npdl.callbacks import History, LambdaCallback
from npdl.checkpoint import CheckpointError
from npdl.checkpoint._codec import decode, encode
from npdl.training import Checkpoint, fit
from npdl.training._position import Position


def written(directory, callbacks, **options):
    """Write a checkpoint with the states of callbacks, and return those that are read."""
    trained = {"a": np.ones(2)}
    position = Position(
        step=8, first=0, epoch=2, batch=0, seen=0, totals={}, stopped=False, best=None,
        callbacks=callbacks,
    )  # fmt: skip
    keeper = Checkpoint(directory, **options)
    keeper.write(trained, position, {})
    return keeper.find({}, trained, callbacks)[0].callbacks


def history_of(epochs):
    kept = History()
    losses = np.linspace(1, 0, epochs).tolist()
    kept.history = {name: [*losses] for name in ("loss", "a", "val_loss", "val_a")}
    kept.epoch = list(range(epochs))
    return kept


# Each is the state of a run of very many epochs, most of which a header of 16 MiB could not hold.
LONG = {
    "arrays": lambda: [np.full(1, i / 7) for i in range(45_000)],
    "arrays that grow": lambda: [np.zeros(i % 3) for i in range(45_000)],
    "records": lambda: [{"epoch": i, "loss": i / 7} for i in range(140_000)],
    "pairs": lambda: [(i, i / 7, None) for i in range(140_000)],
    "texts": lambda: [f"epoch {i}, [fine]" for i in range(800_000)],
    "empty lists": lambda: [[] for _ in range(280_000)],
    "brackets": lambda: ["[{" * 300_000, '\\"[' * 300_000],
    "scalars": lambda: [np.float64(i / 7) for i in range(140_000)],
}


@pytest.mark.parametrize("name", LONG)
def test_the_states_of_a_long_run_are_written_and_read(name, tmp_path):
    states = {"Mine": LONG[name]()}
    found = written(tmp_path, states)
    # The text has each type and bit of leaves other than arrays, and is faster to compare.
    assert same_bits(found, states) if "arrays" in name else repr(found) == repr(states)


def test_a_long_history_is_written_and_read_as_lists(tmp_path):
    kept = history_of(250_000)
    found = written(tmp_path, {"History": kept.state()})["History"]
    assert found == {"history": kept.history, "epoch": kept.epoch}
    other = History()
    other.restore(found)
    assert (other.history, other.epoch) == (kept.history, kept.epoch)


@pytest.fixture
def converted(monkeypatch):
    """The lengths of the lists that a checkpoint converts."""
    lengths = []
    convert = np.fromiter

    def counting(values, dtype, count):
        lengths.append(count)
        return convert(values, dtype, count)

    monkeypatch.setattr(np, "fromiter", counting)
    return lengths


def test_a_checkpoint_converts_only_the_new_values_of_the_history(converted):
    kept = history_of(1000)
    for rounds, new in enumerate((1000, 3, 0, 1)):
        for i in range(new if rounds else 0):
            kept.on_epoch_end(1000 + i, {"loss": i / 7, "a": 0.5, "val_loss": np.pi, "val_a": 1.5})
        encode(kept.state())
        assert converted == [new] * 5 * (new > 0)
        converted.clear()


def test_a_history_of_a_run_converts_each_value_once(converted, tmp_path):
    _, history = long_run(30, Checkpoint(tmp_path, every_epochs=1))
    assert sum(converted) == 2 * 30  # the losses, and the numbers of the epochs
    _, more = long_run(34, Checkpoint(tmp_path, every_epochs=1), resume=True)
    assert {name: values[:30] for name, values in more.items()} == history


ODD = {
    "ints": [1, 2, 3],
    "ints and floats": [1, 2.0, 3],
    "a late int": [1.0, 2.0, 3],
    "booleans": [True, False],
    "texts": [1.0, "high", None],
    "large ints": [1, 2**70],
    "nan": [np.nan, -np.inf, -0.0],
    "nothing": [],
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_values_of_any_type_stay_as_they_are(values, cut, tmp_path):
    kept = History()
    for part in (values[:cut], values[cut:], [], values):
        kept.history.setdefault("own", []).extend(part)
        found = decode(encode(kept.state()))["history"]["own"]
        assert repr(found) == repr(kept.history["own"])
    before = kept.state()["history"]["own"]
    kept.history["own"].append(2.5)
    kept.state()
    assert repr(list(before)) == repr(2 * values) or before is kept.history["own"]


def test_the_history_takes_eight_bytes_a_value(tmp_path):
    written(tmp_path, {"History": history_of(100_000).state()})
    assert (tmp_path / "step-000000008.npz").stat().st_size < 5 * 8 * 100_000 + 10_000


class Norms(LambdaCallback):
    """Remembers a small array of each epoch."""

    def __init__(self):
        self.kept = []
        super().__init__(on_epoch_end=lambda epoch, logs: self.kept.append(np.full(1, epoch)))

    def state(self):
        return self.kept

    def restore(self, state):
        self.kept = state


def older(states, epochs):
    """The states of callbacks after more epochs; after the first, each list holds one value."""
    if not isinstance(states, dict):
        return [value + epoch for value in states for epoch in range(epochs)]
    return {name: older(state, epochs) for name, state in states.items()}


@attrs.frozen
class Older(Checkpoint):
    """Writes the first epoch, of one step, as the last one of so many epochs."""

    epochs: int = attrs.field(kw_only=True)

    def write(self, trained, position, settings):
        states = older(position.callbacks, self.epochs)
        changed = {"step": self.epochs, "epoch": self.epochs, "callbacks": states}
        later = attrs.evolve(position, **changed)
        Checkpoint.write(self, {**trained, "step": self.epochs}, later, settings)


def long_run(epochs, checkpoint, figures=(), **options):
    x = np.ones((2, 1), np.float32)
    metrics = {name: lambda outputs, targets: float(outputs.mean()) / 7 for name in figures}
    return fit(
        F.dense(1), F.mean_squared_error, F.adam(1e-4), (x, 3 * x), epochs=epochs, batch_size=2,
        progress=False, metrics=metrics, checkpoint=checkpoint, **options,
    )  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 40_000], ids=["short", "long"])
def test_a_run_with_an_array_per_epoch_in_a_callback_resumes(epochs, tmp_path):
    long_run(1, Older(tmp_path, epochs=epochs), callbacks=[Norms()])
    for more in (2, 4):
        norms = Norms()
        long_run(epochs + more, Checkpoint(tmp_path), callbacks=[norms], resume=True)
        assert [array.tolist() for array in norms.kept] == [[e] for e in range(epochs + more)]


def test_a_run_of_220_000_epochs_ends_and_continues(tmp_path):
    x = np.ones((2, 1), np.float32)
    options = {"figures": ("a", "b"), "validation": (x, 3 * x)}
    long_run(1, Older(tmp_path, epochs=219_998), **options)
    keeper = Checkpoint(tmp_path)
    state, history = long_run(220_000, keeper, resume=True, **options)
    _, longer = long_run(220_001, keeper, resume=True, **options)
    assert state.step == len(history["val_b"]) == 220_000
    assert {name: values[:-1] for name, values in longer.items()} == history


def test_a_run_of_100_epochs_continues(tmp_path):
    long_run(100, Checkpoint(tmp_path, every_epochs=50), callbacks=[Norms()])
    norms = Norms()
    long_run(102, Checkpoint(tmp_path), callbacks=[norms], resume=True)
    assert [array.tolist() for array in norms.kept] == [[epoch] for epoch in range(102)]


def test_a_limit_of_the_callers_own_still_holds(tmp_path):
    states = {"Norms": [np.ones(100)] * 3}
    with pytest.raises(ValueError, match=r"take 2400 bytes, more than Checkpoint\(limit=2399\)"):
        written(tmp_path, states, limit=2399)
    written(tmp_path, states, limit=2400)
    with pytest.raises(CheckpointError, match=r"more than Checkpoint\(limit=\d+\) allows"):
        Checkpoint(tmp_path, limit=2399).find({}, {"a": np.ones(2)}, states)


def test_a_file_of_a_checkpoint_is_read_by_numpy_alone(tmp_path):
    written(tmp_path, {"History": {"loss": [0.5, 0.25]}})
    with np.load(tmp_path / "step-000000008.npz") as found:
        assert found["run/floats"].tolist() == [0.5, 0.25]
        values = json.loads(found["run/text"].tobytes())["dict"]
    assert values["step"] == 8
    assert values["callbacks"] == {"dict": {"History": {"dict": {"loss": {"list": ["floats", 2]}}}}}
    assert checkpoint.scalars(tmp_path / "step-000000008.npz") == {}
