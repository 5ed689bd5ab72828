"""Training: the numbers follow from the state, and from nothing else."""

import json
import pickle
import re
import sys
import warnings

import attrs
import numpy as np
import pytest
from arrays import normal, read_only, same_bits
from classifier import DATA, LOSS, MODEL, classes, each_optimizer, run

import npdl.functional as F
from npdl import random, tree
from npdl.functional.optimizers import _layout as layout
from npdl.functional.optimizers import _packed as packed
from npdl.training import TrainState, evaluate, fit, predict, train_step


def by_hand(model, optimizer, state, batches):
    """Make the steps without `train_step`."""
    for x, y in batches:
        key = random.fold(state.rng, "step", state.step)
        f = F.value_and_grad(model, LOSS)
        _, grads, aux = f(state.params, x, y, train=True, rng=key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = F.apply_updates(state.params, updates)
        params = model.update_stats(params, aux.cache)
        state = TrainState(state.step + 1, params, opt_state, state.rng)
    return state


def batches(data=DATA, size=10):
    return [tuple(a[i : i + size] for a in data) for i in range(0, len(data[0]), size)]


@each_optimizer
@pytest.mark.parametrize("donate", [False, True], ids=["pure", "donating"])
def test_a_step_is_value_and_grad_update_and_apply(optimizer, donate):
    state = TrainState.create(MODEL, optimizer, (6,), rng=4)
    expected = by_hand(MODEL, optimizer, state, batches())
    step = train_step(MODEL, LOSS, optimizer, donate=donate)
    for batch in batches():
        state, _ = step(state, batch)
    assert same_bits(state, expected)


@each_optimizer
@pytest.mark.parametrize("donate", [False, True], ids=["pure", "donating"])
def test_joined_arrays_and_blocks_change_no_bit(optimizer, donate, monkeypatch):
    # Sizes that put arrays below and above the limit, and a remainder after the last block.
    monkeypatch.setattr(layout, "UPDATE_JOINED", 20)
    monkeypatch.setattr(packed, "UPDATE_BLOCK", 7)
    state = TrainState.create(MODEL, optimizer, (6,), rng=4)
    expected = by_hand(MODEL, optimizer, state, batches())
    step = train_step(MODEL, LOSS, optimizer, donate=donate)
    for batch in batches():
        state, _ = step(state, batch)
    assert same_bits(state, expected)


@pytest.mark.parametrize("size", [1e-36, 1e-3, 1.0, 1e36, np.inf, np.nan])
@pytest.mark.parametrize("donate", [False, True], ids=["pure", "donating"])
def test_clipping_before_a_joined_update_changes_no_bit(size, donate, monkeypatch):
    monkeypatch.setattr(layout, "UPDATE_JOINED", 20)
    monkeypatch.setattr(packed, "UPDATE_BLOCK", 7)
    optimizer = F.chain(F.clip_by_global_norm(min(1.0, size)), F.momentum(0.5))
    expected = TrainState.create(MODEL, optimizer, (6,))
    state = TrainState.create(MODEL, optimizer, (6,))  # steps may overwrite it
    for seed in range(3):
        grads = tree.map(lambda p, seed=seed: normal(*p.shape, seed=seed), expected.params)
        grads = tree.map(lambda g: np.array(g * np.float32(size)), grads)
        with np.errstate(all="ignore"):
            updates, opt_state = optimizer.update(grads, expected.opt_state, expected.params)
            params = F.apply_updates(expected.params, updates)
            expected = TrainState(expected.step + 1, params, opt_state, expected.rng)
            state = state.updated(optimizer, grads, donate)
        assert state.packed is not None
    assert same_bits(state, expected)


def test_only_small_arrays_are_joined():
    # To join large ones takes a copy of them at each step, and room for it.
    params = [np.zeros(layout.UPDATE_JOINED + i, np.float32) for i in (-2, 0, -1, 1, 2, -3)]
    found = packed.pack(F.sgd(0.1), params, F.sgd(0.1).init(params), params).layout
    assert sorted(group.leaves for group in found.groups) == [[0, 2, 5], [1], [3], [4]]


KEYS = {
    "numbers": range(12),
    "two numbers": (9, 10),
    "negative numbers": (-10, -9, 0),
    "numbers and strings": (10, "9", 9, "a", "10"),
    "tuples": ((10, "a"), (9, "b"), (2,)),
    "tuples that cannot be compared": ((1, "a"), (1, 2), ("a", 1)),
    "booleans and None": (True, None, False),
    "slashes": ("a/b", "a", "a/0", ""),
}


def keyed(names):
    """A layer with an array under each name, each of another shape."""

    def init(rng, shape):
        return {name: np.full(i % 3 + 1, i + 1, np.float32) for i, name in enumerate(names)}

    def apply(params, x):
        return x * sum((i + 1) * params[name].sum() for i, name in enumerate(names)), x

    def backward(params, x, g):
        found = {
            name: (i + 1) * (g * x).sum() * np.ones_like(params[name])
            for i, name in reversed([*enumerate(names)])
        }
        return found, g

    return F.Layer(init, apply, backward)


@each_optimizer
@pytest.mark.parametrize("names", KEYS.values(), ids=KEYS)
def test_the_keys_of_parameters_change_no_bit(optimizer, names):
    optimizer = F.adam(0.01) if "*" in repr(optimizer) else optimizer  # Keys here are numbers.
    x = np.ones((4, 1), np.float32)
    plain = [f"{i:02}" for i in range(len(names))]
    runs = []
    for model in (keyed(names), keyed(plain)):
        step = train_step(model, F.mean_squared_error, optimizer, donate=True)
        state = TrainState.create(model, optimizer, (1,))
        for _ in range(3):
            state, _ = step(state, (x, x))
        runs.append(state)
    for name, other in zip(names, plain, strict=True):
        np.testing.assert_array_equal(runs[0].params[name], runs[1].params[other], strict=True)
    averages = [F.averaged(run.opt_state) for run in runs if "average" in repr(optimizer)]
    for name, other in zip(names, plain, strict=True) if averages else ():
        np.testing.assert_array_equal(averages[0][name], averages[1][other], strict=True)


def test_a_rate_of_zero_keeps_parameters_under_their_keys():
    x = np.ones((4, 1), np.float32)
    run = keyed((10, 9, 100)), F.mean_squared_error, F.sgd(0.0), (x, x)
    state, _ = fit(*run, progress=False)
    assert same_bits(state.params, run[0].init(0, ()))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_untrained_leaves_keep_their_bits(number):
    layers = [F.dense(8), F.tanh(), F.dense(5), F.tanh(), F.dense(3)]
    layers[2 * number] = F.freeze(layers[2 * number])
    model, optimizer = F.serial(*layers), F.adamw(0.1, weight_decay=0.5)
    state = TrainState.create(model, optimizer, (6,))
    expected = by_hand(model, optimizer, state, batches())
    step = train_step(model, LOSS, optimizer)
    after = state
    for batch in batches():
        after, _ = step(after, batch)
    assert same_bits(after, expected)
    assert same_bits(after.params[2 * number], state.params[2 * number])


@each_optimizer
def test_a_step_is_pure(optimizer):
    step = train_step(MODEL, LOSS, optimizer)
    state = TrainState.create(MODEL, optimizer, (6,))
    state, _ = step(state, batches()[0])
    read_only(state)
    before = pickle.loads(pickle.dumps(state))
    first, figures = step(state, read_only(batches()[1]))
    kept = pickle.loads(pickle.dumps(first))
    other, _ = step(first, batches()[2])
    again, same = step(state, batches()[1])
    fresh, _ = train_step(MODEL, LOSS, optimizer)(before, batches()[1])
    assert same_bits(state, before)
    assert same_bits(first, kept)
    assert same_bits(first, again)
    assert same_bits(first, fresh)
    assert figures["loss"] == same["loss"]
    assert other.step == 3


def test_the_arrays_of_a_state_may_be_changed_by_their_owner():
    optimizer = F.adam(0.01)
    step = train_step(MODEL, LOSS, optimizer)
    state, _ = step(TrainState.create(MODEL, optimizer, (6,)), batches()[0])
    changed = tree.map(lambda x: x + 1 if isinstance(x, np.ndarray) else x, state.params)
    mixed = TrainState(state.step, changed, state.opt_state, state.rng)
    after, _ = step(mixed, batches()[1])
    expected, _ = train_step(MODEL, LOSS, optimizer)(mixed, batches()[1])
    assert same_bits(after, expected)


def test_dropout_follows_from_the_key_and_the_step():
    step = train_step(MODEL, LOSS, F.sgd(0.0))
    state = TrainState.create(MODEL, F.sgd(0.0), (6,))
    one, first = step(state, DATA)
    two, second = step(one, DATA)
    assert first["loss"] != second["loss"]
    back = TrainState(0, two.params, two.opt_state, two.rng)
    assert step(back, DATA)[1]["loss"] == first["loss"]


def test_fit_makes_the_steps_of_train_step_in_key_order():
    state, history = run(epochs=3)
    expected = TrainState.create(MODEL, F.adam(0.02), (6,), rng=3)
    step = train_step(MODEL, LOSS, F.adam(0.02))
    means = []
    for epoch in range(3):
        order = random.generator(random.fold((3,), "epoch", epoch)).permutation(50)
        total = 0.0
        for start in range(0, 50, 8):
            rows = order[start : start + 8]
            expected, figures = step(expected, (DATA[0][rows], DATA[1][rows]))
            total += float(figures["loss"]) * len(rows)
        means.append(total / 50)
    assert same_bits(state, expected)
    assert history == {"loss": means}


def test_two_fits_are_one_long_fit():
    whole, history = run(epochs=5)
    half, first = run(epochs=2)
    before = pickle.loads(pickle.dumps(half))
    rest, second = run(epochs=3, state=read_only(half))
    assert same_bits(rest, whole)
    assert same_bits(half, before)
    assert history["loss"] == first["loss"] + second["loss"]


def test_fit_continues_in_the_middle_of_an_epoch():
    whole, _ = run(epochs=2)
    state = TrainState.create(MODEL, F.adam(0.02), (6,), rng=3)
    step = train_step(MODEL, LOSS, F.adam(0.02))
    order = random.generator(random.fold((3,), "epoch", 0)).permutation(50)
    for start in range(0, 24, 8):
        rows = order[start : start + 8]
        state, _ = step(state, (DATA[0][rows], DATA[1][rows]))
    rest, _ = run(epochs=2, state=state, resume=True)
    assert same_bits(rest, whole)


def test_without_shuffling_the_data_come_in_their_order():
    state, _ = run(epochs=1, shuffle=False)
    expected = TrainState.create(MODEL, F.adam(0.02), (6,), rng=3)
    step = train_step(MODEL, LOSS, F.adam(0.02))
    for batch in batches(size=8):
        expected, _ = step(expected, batch)
    assert same_bits(state, expected)


def test_fit_changes_neither_data_nor_the_global_generator():
    np.random.seed(0)  # noqa: NPY002 - it is this generator that must not move
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    data = read_only(classes())
    run(epochs=2, data=data, validation=data, metrics={"accuracy": F.accuracy})
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_history_has_the_metrics_of_training_and_validation():
    state, history = run(epochs=20, validation=DATA, metrics={"accuracy": F.accuracy})
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {len(values) for values in history.values()} == {20}
    assert history["val_loss"][-1] < history["val_loss"][0] / 2
    figures = evaluate(MODEL, state.params, DATA, loss=LOSS, metrics={"accuracy": F.accuracy})
    assert history["val_loss"][-1] == float(figures["loss"])
    assert history["val_accuracy"][-1] == figures["accuracy"] > 0.9


def test_weights_reach_the_loss():
    x, y = DATA
    weights = (y != 2).astype(np.float32)
    _, history = run(data=(x, y, weights), epochs=30)
    state, _ = run(data=(x, y, weights), epochs=30)
    assert not (predict(MODEL, state.params, x).argmax(1) == 2).any()
    assert history["loss"][-1] < 0.2


def test_several_inputs_and_outputs_go_through_fit_and_predict():
    model = F.graph(
        ("left", "right"),
        {
            "wide": (F.dense(3), "left"),
            "slim": (F.dense(3), "right"),
        },
        ("wide", "slim"),
    )

    def loss(outputs, y):
        left, g_left = LOSS(outputs[0], y)
        right, g_right = LOSS(outputs[1], y)
        return left + right, (g_left, g_right)

    x, y = DATA
    state, history = fit(model, loss, F.adam(0.1), ((x, x[:, :2]), y), epochs=10, progress=False)
    assert history["loss"][-1] < history["loss"][0] / 2
    outputs = predict(model, state.params, (x, x[:, :2]), batch_size=7)
    assert [part.shape for part in outputs] == [(50, 3), (50, 3)]
    # Batches of another size may be summed in another order: some ulps of the terms.
    whole = model(state.params, (x, x[:, :2]))
    np.testing.assert_allclose(outputs, whole, rtol=1e-5, atol=1e-5)


def test_running_statistics_are_folded_in():
    @F.layer
    def counting():
        def init(rng, shape):
            return {"mean": np.zeros(shape, np.float32)}

        def backward(params, cache, g):
            return None, g

        return F.Layer(
            init,
            lambda params, x: (x, x.mean(axis=0)),
            backward,
            update_stats=lambda params, mean: (
                params if mean is None else {"mean": 0.5 * params["mean"] + 0.5 * mean}
            ),
        )

    model = F.serial(counting(), F.dense(3))
    state, _ = fit(
        model, LOSS, F.adam(0.1), DATA, batch_size=25, epochs=1, shuffle=False, progress=False
    )
    x = DATA[0]
    expected = 0.25 * x[:25].mean(axis=0) + 0.5 * x[25:].mean(axis=0)
    np.testing.assert_allclose(state.params[0]["mean"], expected, rtol=1e-5)


def test_the_train_state_is_a_tree():
    state = TrainState.create(F.dense(2), F.adam(0.1), (3,), rng=(1, 2))
    assert "params/weight" in tree.paths(state)
    assert "step" in tree.paths(state)
    doubled = tree.astype(state, np.float64)
    assert doubled.params["weight"].dtype == np.float64
    assert doubled.step == 0


class Terminal:
    """Collects the output, and claims to be a terminal or not."""

    encoding = "utf-8"

    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return self.terminal


def test_progress_is_one_line_per_epoch_without_a_terminal(capsys):
    run(epochs=2, progress=True, validation=DATA)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(re.search(r"  loss \d\.\d+  val_loss \d\.\d+$", line) for line in lines)


def test_progress_is_a_bar_in_a_terminal(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    terminal = Terminal(True)
    monkeypatch.setattr(sys, "stderr", terminal)
    run(epochs=2, progress=True)
    assert "7/7" in terminal.text
    # The lines are for a file, where the output goes to one.
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_progress_false_is_silent(capsys):
    run(epochs=1, progress=False)
    assert capsys.readouterr() == ("", "")


def test_the_figures_of_evaluate_are_numbers_of_python():
    metrics = {"accuracy": F.accuracy, "array": lambda y, t: np.float64(2), "zero": np_zero}
    params = MODEL.init(0, (6,))
    figures = evaluate(MODEL, params, DATA, loss=LOSS, metrics=metrics)
    assert json.loads(json.dumps(figures)) == figures
    assert {type(value) for value in figures.values()} == {float}


def np_zero(outputs, targets):
    return np.array(0)


class Table:
    """Has a length and columns, as the tables of a library that knows no arrays."""

    def __len__(self):
        return 50

    def __getitem__(self, name):
        raise KeyError(f"None of [{name}] are in the columns")


class Columns(Table):
    def to_numpy(self):
        return DATA[0]


class Rows(Table):
    def __getitem__(self, rows):
        return DATA[0][rows]


X, Y = DATA
BAD = {
    "no data": ({"data": (X[:0], Y[:0])}, ValueError, "data is empty"),
    "lengths": ({"data": (X, Y[:-1])}, ValueError, r"data\[0\] has 50, data\[1\] has 49"),
    "not a tuple": ({"data": X}, TypeError, r"a tuple \(x, \*targets\).*float32\[50, 6\]"),
    "a list": ({"data": (X.tolist(), Y)}, TypeError, r"data\[0\].*must be a NumPy array"),
    "objects": ({"data": (X.astype(object), Y)}, TypeError, "floats, ints or bools.*object"),
    "complex": ({"data": (X.astype(complex), Y)}, TypeError, "floats, ints or bools.*complex"),
    "strings": ({"data": (X, Y.astype(str))}, TypeError, "floats, ints or bools.*<U"),
    "float64": ({"data": (X.astype(float), Y)}, TypeError, r"x\.astype\(np\.float32\)"),
    "ints": ({"data": (X.astype(int), Y)}, TypeError, r"x\.astype\(np\.float32\)"),
    "a class too many": ({"data": (X, Y + 1)}, ValueError, "3 classes"),
    "a negative class": ({"data": (X, Y - 1)}, ValueError, "-1"),
    "batch size 0": ({"batch_size": 0}, ValueError, "batch_size must be an int of at least 1"),
    "half an epoch": ({"epochs": 0.5}, ValueError, "epochs must be an int of at least 1"),
    "no key": ({"rng": "seed"}, TypeError, "expected a key"),
    "no optimizer": ({"optimizer": "adam"}, TypeError, "expected an optimizer"),
    "validation": ({"validation": (X, Y[1:])}, ValueError, r"validation\[1\] has 49"),
    "metrics without names": ({"metrics": [F.accuracy]}, TypeError, "must be a dict of functions"),
    "a name alone": (
        {"metrics": "accuracy"},
        TypeError,
        r'metrics=\{"accuracy": F.accuracy\}, got',
    ),
    "no function": (
        {"metrics": {"a": "accuracy"}},
        TypeError,
        "expected a string and a function, as in .*, got 'a' and 'acc",
    ),
    "the name of the loss": (
        {"metrics": {"loss": F.accuracy}},
        ValueError,
        "'loss' is the name of",
    ),
    "several numbers": (
        {"metrics": {"a": lambda outputs, labels: np.ones(3)}},
        TypeError,
        r"'a' of a batch must be a number, got an array of shape \(3,\)",
    ),
    "no state": (
        {"state": MODEL.init(0, (6,))},
        TypeError,
        "state must be a TrainState.*got tuple",
    ),
    "a shuffle of Keras": (
        {"shuffle": "batch"},
        TypeError,
        "shuffle must be True or False, as",
    ),
    "a progress of text": (
        {"progress": "bar"},
        TypeError,
        "progress must be True or False, as",
    ),
    "check_finite of text": (
        {"check_finite": "no"},
        TypeError,
        "check_finite must be True or False, as",
    ),
    "resume of text": (
        {"resume": "auto"},
        TypeError,
        "resume must be True or False, as",
    ),
    "epochs of a boolean": ({"epochs": True}, ValueError, "epochs must be an int of at least 1"),
    "a fraction to hold out": (
        {"validation": 0.2},
        TypeError,
        r"validation must be a tuple \(x, \*targets\) of arrays, or a source.*, got float$",
    ),
    "a table": ({"data": Table()}, TypeError, r"source .*, got Table, whose data\[np.*KeyError: "),
    "a table of columns": ({"data": Columns()}, TypeError, r"got Columns; pass its columns as arr"),
    "a dict": ({"data": {"x": X, "y": Y}}, TypeError, r"must be a tuple .*, got \{x: float32"),
    "a string": ({"data": "digits"}, TypeError, "must be a tuple .*, got str"),
    "bytes": ({"data": b"digits"}, TypeError, "must be a tuple .*, got bytes"),
    "a source of no tuple": (
        {"data": Rows()},
        TypeError,
        r"the result of data\[rows\] must be a t",
    ),
    "a table to hold out": ({"validation": Columns()}, TypeError, "got Columns; pass its"),
    "nan rate": (
        {"optimizer": F.adam(lambda step: float("nan"))},
        ValueError,
        "returned nan at step 0; a learning rate",
    ),
}


@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_to_fit_is_named(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


def test_an_error_in_a_step_leaves_the_state_and_names_the_step():
    state, _ = run(epochs=1)
    before = pickle.loads(pickle.dumps(state))
    x, y = X, Y.copy()
    y[-1] = 7
    with pytest.raises(ValueError, match="7") as caught:
        run(state=state, data=(x, y), shuffle=False)
    assert caught.value.__notes__[-1] == "in step 13 of fit, in epoch 1"
    assert same_bits(state, before)


OTHER = TrainState.create(F.serial(F.dense(5), F.tanh()), F.sgd(0.1), (6,))
STEPS = {
    "params of another model": (
        lambda step, state: step(OTHER, DATA),
        ValueError,
        "parameters of 4 layers",
    ),
    "another width": (
        lambda step, state: step(state, (X[:, :5], Y)),
        ValueError,
        r"take 6 features.*float32\[50, 5\]",
    ),
    "no labels": (lambda step, state: step(state, (X,)), TypeError, "targets"),
}


@pytest.mark.parametrize(("call", "error", "message"), STEPS.values(), ids=STEPS)
def test_bad_input_to_a_step_is_named(call, error, message):
    state = TrainState.create(MODEL, F.sgd(0.1), (6,))
    with pytest.raises(error, match=message):
        call(train_step(MODEL, LOSS, F.sgd(0.1)), state)


def test_a_model_that_needs_a_key_says_where():
    params = MODEL.init(0, (6,))
    with pytest.raises(ValueError, match="needs a key") as caught:
        F.value_and_grad(MODEL, LOSS)(params, X, Y, train=True)
    assert "serial[2] = dropout(rate=0.2)" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="train=False"):
        MODEL.apply(params, X, rng=0)


def test_predict_in_batches_is_predict_at_once():
    params = MODEL.init(0, (6,))
    np.testing.assert_allclose(
        predict(MODEL, params, X, batch_size=7), MODEL(params, X), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="x is empty"):
        predict(MODEL, params, X[:0])


PAIRS = {
    "momentum, rmsprop": (F.momentum(0.1), F.rmsprop(0.1)),
    "momentum, nesterov": (F.momentum(0.1), F.nesterov_momentum(0.1)),
    "momentum, lion": (F.momentum(0.1), F.lion(0.1)),
    "adam, nadam": (F.adam(0.1), F.nadam(0.1)),
    "adam, sgd": (F.adam(0.1), F.sgd(0.1)),
    "accumulate, adam": (F.accumulate(F.adam(0.1), 2), F.adam(0.1)),
    "by path, sgd": (F.by_path({"*": F.adam(0.1)}), F.sgd(0.1)),
}


@pytest.mark.parametrize(("first", "second"), PAIRS.values(), ids=PAIRS)
def test_a_state_of_another_optimizer_ends_training_at_once(first, second):
    for before, after in ((first, second), (second, first)):
        state, _ = fit(MODEL, LOSS, before, DATA, progress=False)
        kept = tree.map(np.copy, state.params)
        with pytest.raises(
            ValueError, match=r"another optimizer; initialize .* optimizer.init\(params\)"
        ):
            fit(MODEL, LOSS, after, DATA, state=state, progress=False)
        for donate in (False, True):
            step = train_step(MODEL, LOSS, after, donate=donate)
            with pytest.raises(ValueError, match="another optimizer"):
                step(state, DATA)
        assert same_bits(state.params, kept)


def test_another_optimizer_of_one_kind_takes_over_the_state():
    # The parameters stay packed between the steps, and the first rate must not stay with them.
    state = TrainState.create(MODEL, F.momentum(0.1), (6,))
    expected, slow = state, F.momentum(1e-3)
    for optimizer in (F.momentum(0.1), slow, slow):
        expected = by_hand(MODEL, optimizer, expected, [DATA])
        state, _ = train_step(MODEL, LOSS, optimizer)(state, DATA)
    assert same_bits(state, expected)


@pytest.mark.parametrize("donate", [False, True], ids=["pure", "donating"])
def test_a_state_for_other_parameters_is_refused(donate):
    optimizer = F.adam(0.1)
    state = TrainState.create(MODEL, optimizer, (6,))
    others = F.serial(F.dense(1), F.tanh(), F.dropout(0.2), F.dense(3))
    step = train_step(MODEL, LOSS, optimizer, donate=donate)
    for model in (others, F.serial(F.dense(8), F.dense(3))):
        wrong = attrs.evolve(state, opt_state=optimizer.init(model.init(0, (6,))))
        with pytest.raises(ValueError, match=r"the state of 0/bias is|the trees differ"):
            step(wrong, DATA)


def spoiled(change):
    """A dense layer whose gradients are changed."""
    dense = F.dense(3)

    def backward(params, cache, g, input_grad=True):
        grads, dx = dense.backward(params, cache, g)
        return {**grads, **change(grads)}, dx

    return F.Layer(dense.init, dense.apply, backward)


WRONG = {
    "float16": (lambda g: {"bias": g["bias"].astype(np.float16)}, TypeError, "bias: .*got float16"),
    "float64": (lambda g: {"bias": g["bias"].astype(np.float64)}, TypeError, "bias is float64"),
    "a number": (lambda g: {"bias": 0.5}, ValueError, "bias is float64"),
    "one for all": (lambda g: {"bias": g["bias"][:1]}, ValueError, r"bias is float32\[1\]"),
    "transposed": (lambda g: {"weight": g["weight"].T}, ValueError, r"weight is float32\[3, 6\]"),
    "masked": (lambda g: {"bias": np.ma.array(g["bias"])}, TypeError, "bias: .*got MaskedArray"),
}


# Only the first step, which packs the parameters, looks at every shape and class.
LATER = [WRONG[name][0] for name in ("transposed", "masked")]


@pytest.mark.parametrize("donate", [False, True], ids=["pure", "donating"])
@pytest.mark.parametrize("size", [0, 1 << 14], ids=["alone", "joined"])
@pytest.mark.parametrize(("change", "error", "message"), WRONG.values(), ids=WRONG)
def test_gradients_of_a_layer_that_do_not_fit_are_named(
    change, error, message, size, donate, monkeypatch
):
    monkeypatch.setattr(layout, "UPDATE_JOINED", size)
    steps = []
    model = spoiled(lambda g: change(g) if len(steps) in wrong else {})
    state = TrainState.create(model, F.adam(0.1), (6,))
    step = train_step(model, LOSS, F.adam(0.1), donate=donate)
    wrong = [0]
    with pytest.raises(error, match=f"the gradient of {message}"):
        step(state, DATA)
    wrong = [1]
    steps.append(step(state, DATA)[0])
    if change not in LATER:
        with pytest.raises(error, match=f"the gradient of {message}"):
            step(steps[0], DATA)


@pytest.mark.parametrize(("steps", "waits"), [(16, True), (3, True), (5, False), (1, False)])
def test_accumulated_gradients_without_an_update_are_warned_of(steps, waits):
    optimizer = F.accumulate(F.sgd(0.1), steps)
    for each in (optimizer, F.by_path({"*": F.chain(F.clip_by_global_norm(1.0), optimizer)})):
        run = MODEL, LOSS, each, DATA
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state, _ = fit(*run, batch_size=5, progress=False)  # 10 steps
        told = [str(warning.message) for warning in caught]
        assert len(told) == waits
        assert all("accumulate" in text and "fit(..., state=state)" in text for text in told)
        assert state.params[0]["bias"].any() == (steps <= 10)


def test_accumulated_gradients_wait_for_the_next_run():
    run = MODEL, LOSS, F.accumulate(F.sgd(0.1), 4), DATA
    with pytest.warns(UserWarning, match="the gradients after the last update"):
        state, _ = fit(*run, batch_size=5, progress=False)
    state, _ = fit(*run, batch_size=5, state=state, progress=False)
    expected, _ = fit(*run, batch_size=5, epochs=2, progress=False)
    assert same_bits(state, expected)
