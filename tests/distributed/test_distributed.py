"""Shards and ranks: the same bits for any number of ranks, and errors raised on all ranks."""

import functools
import itertools
import pickle
import re

import numpy as np
import pytest
from arrays import read_only, same_bits
from communicators import checked, on_ranks

import npdl.functional as F
from npdl import random, tree
from npdl.checkpoint import environment
from npdl.distributed import _reduction as reduction
from npdl.distributed import (
    aborting,
    all_reduce,
    check_agreement,
    fold_stats,
    rows_of,
    sharded,
)
from npdl.distributed._reduction import (
    Split,
    Vectors,
    allreduce,
    chunk_range,
    fixed_sum,
    local_sums,
)
from npdl.training import TrainState, train_step

LOSS = F.softmax_cross_entropy
MODEL = F.serial(F.dense(9), F.batch_norm(), F.relu(), F.dropout(0.3), F.dense(3))
PLAIN = F.serial(F.dense(9), F.tanh(), F.dense(3))


def data(count=26, seed=0):
    generator = random.generator(seed)
    x = generator.normal(size=(count, 5)).astype(np.float32)
    return x, generator.integers(3, size=count)


class Text:
    """A term that records the order of additions."""

    def __init__(self, text):
        self.text = text

    def __iadd__(self, other):
        return Text(f"({self.text}{other.text})")


TREES = {
    1: "0",
    2: "(01)",
    3: "((01)2)",
    4: "((01)(23))",
    5: "(((01)(23))4)",
    6: "(((01)(23))(45))",
    7: "(((01)(23))((45)6))",
    8: "(((01)(23))((45)(67)))",
}


@pytest.mark.parametrize(("count", "expected"), TREES.items())
def test_the_sum_tree_splits_at_powers_of_two(count, expected):
    assert fixed_sum(0, count, lambda i: Text(str(i))).text == expected


def test_chunks_cover_a_range_and_the_first_are_one_longer():
    for size, count in itertools.product(range(1, 20), range(1, 9)):
        chunks = [chunk_range(size, count, i) for i in range(count)]
        assert [i for chunk in chunks for i in chunk] == list(range(size))
        lengths = [len(chunk) for chunk in chunks]
        assert sorted(lengths, reverse=True) == lengths
        assert lengths[0] - lengths[-1] <= 1


def terms(count):
    """Return trees whose sum depends on its order, with several types, empty and 0-d arrays."""
    generator = random.generator(count)
    scale = 10.0 ** generator.integers(-4, 5, size=(count, 37))
    numbers = generator.normal(size=(count, 37)) * scale
    return [
        {
            "wide": row.astype(np.float32).reshape(1, 37),
            "exact": row,
            "half": np.clip(row[:3], -1, 1).astype(np.float16),
            "whole": np.arange(4) * i,
            "one": np.float32(row[0]),
            "none": None,
            "empty": np.zeros((0, 2), np.float32),
        }
        for i, row in enumerate(numbers)
    ]


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 8, 9])
def test_ranks_add_in_the_order_of_one_process(count, ranks, monkeypatch):
    monkeypatch.setattr(reduction, "MESSAGE_BYTES", 64)
    values = terms(count)
    alone = fixed_sum(0, count, lambda i: Vectors(values[i])).tree()
    split = Split(count, ranks)

    def add_up(comm):
        mine = split.terms(comm.Get_rank())
        sums = local_sums(mine, count, lambda i: Vectors(values[i]))
        return allreduce(split, comm, sums).tree() if mine else None

    results = checked(on_ranks(ranks, add_up))
    for result in results[: split.active]:
        assert same_bits(result, alone)
    assert results[split.active :] == [None] * (ranks - split.active)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_powers_of_two_exchange_once_per_tree_level(ranks):
    def traffic(comm):
        all_reduce(np.ones(1000, np.float32), comm)
        return comm.sent, comm.received

    each = 4000 * (ranks.bit_length() - 1)
    assert checked(on_ranks(ranks, traffic)) == [(each, each)] * ranks


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_all_reduce_adds_trees_over_the_ranks(ranks):
    values = terms(ranks)
    expected = fixed_sum(0, ranks, lambda i: Vectors(values[i])).tree()
    before = pickle.loads(pickle.dumps(values))
    for result in checked(on_ranks(ranks, lambda comm: all_reduce(values[comm.Get_rank()], comm))):
        assert tree.paths(result) == tree.paths(expected)
        for leaf, wanted in zip(tree.leaves(result), tree.leaves(expected), strict=True):
            assert same_bits(np.asarray(leaf), np.asarray(wanted))
        assert isinstance(result["one"], np.float32)
        assert result["none"] is None
    for value, old in zip(values, before, strict=True):
        assert same_bits(value, old)
    assert all_reduce({"a": 2, "b": 0.5}, None) == {"a": 2, "b": 0.5}


@pytest.mark.parametrize("count", [1, 2, 7, 8, 26])
@pytest.mark.parametrize("shards", [1, 2, 3, 8, 30])
def test_shards_give_the_mean_over_the_batch(count, shards):
    x, labels = tree.astype(data(count), np.float64)
    params = tree.astype(PLAIN.init(0, (5,)), np.float64)
    whole = F.value_and_grad(PLAIN, LOSS)
    loss, grads, _ = whole(params, x, labels)
    got, got_grads, aux = sharded(whole, shards)(params, x, labels)
    np.testing.assert_allclose(got, loss, rtol=1e-13)
    assert tree.all_close(got_grads, grads, rtol=1e-11, atol=1e-14)
    assert [leaf.dtype for leaf in tree.leaves(got_grads)] == [np.float64] * 4
    outputs = np.concatenate([part.outputs for part in aux])
    np.testing.assert_allclose(outputs, PLAIN(params, x), rtol=1e-12)
    assert len(aux) == min(shards, count)


def test_a_weighted_loss_stays_the_weighted_mean():
    x, labels = tree.astype(data(), np.float64)
    weights = random.generator(1).random(26)
    weights[:9] = 0
    optimizer = F.sgd(0.5)
    state = tree.astype(TrainState.create(PLAIN, optimizer, (5,)), np.float64)
    for loss in (LOSS, functools.partial(LOSS, label_smoothing=0.1)):
        metrics = {"accuracy": F.accuracy}
        whole, expected = train_step(PLAIN, loss, optimizer, metrics=metrics)(
            state, (x, labels, weights)
        )
        step = train_step(PLAIN, loss, optimizer, metrics=metrics, shards=8)
        parts, got = step(state, (x, labels, weights))
        assert tree.all_close(parts.params, whole.params, rtol=1e-11)
        assert got == pytest.approx(expected, rel=1e-12)
    nothing, _ = step(state, (x, labels, 0 * weights))
    assert same_bits(nothing.params, state.params)


def by_hand(params, x, labels, key):
    """Return the sum for four shards of 7, 7, 6 and 6 examples, and the shards' caches."""
    grads, caches = [], []
    for i, rows in enumerate([slice(0, 7), slice(7, 14), slice(14, 20), slice(20, 26)]):
        f = F.value_and_grad(MODEL, LOSS)
        _, g, aux = f(params, x[rows], labels[rows], train=True, rng=random.fold(key, i))
        weight = (rows.stop - rows.start) / 26
        grads.append(tree.map(lambda leaf, weight=weight: leaf * weight, g))
        caches.append(aux.cache)
    total = tree.add(tree.add(grads[0], grads[1]), tree.add(grads[2], grads[3]))
    return total, caches


def test_each_shard_has_its_key_and_rows_in_a_fixed_order():
    x, labels = data()
    params = MODEL.init(0, (5,))
    total, caches = by_hand(params, x, labels, (4, 2))
    f = sharded(F.value_and_grad(MODEL, LOSS), 4)
    _, grads, aux = f(params, x, labels, train=True, rng=(4, 2))
    assert same_bits(grads, total)
    folded = params
    for cache in caches:
        folded = MODEL.update_stats(folded, cache)
    assert same_bits(fold_stats(MODEL, params, [part.cache for part in aux]), folded)
    assert folded[1]["count"] == 4


def train(comm=None, shards=6, part=False, steps=3, source=None, **options):
    """Train for some steps; with `part`, each rank reads only its rows of the source."""
    optimizer = F.adam(0.05)
    state = TrainState.create(MODEL, optimizer, (5,), rng=7)
    metrics = {
        "accuracy": F.accuracy,
        "counts": lambda y, labels: np.bincount(y.argmax(1), None, 3),
    }
    step = train_step(MODEL, LOSS, optimizer, metrics=metrics, shards=shards, comm=comm, **options)
    x, labels = data() if source is None else source
    history = []
    for _ in range(steps):
        rows = rows_of(26, shards, comm) if part else slice(None)
        size = {"size": 26} if part else {}
        state, metrics = step(state, (x[rows], labels[rows]), **size)
        history.append(metrics)
    return state, history


@pytest.mark.parametrize("part", [False, True], ids=["whole batches", "own rows"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 9])
def test_any_number_of_ranks_takes_the_same_steps(ranks, part):
    state, history = train()
    for result in checked(on_ranks(ranks, lambda comm: train(comm, part=part))):
        assert same_bits(result[0], state)
        assert same_bits(result[1], history)
    assert state.params[1]["count"] == 18


def test_a_sharded_step_is_pure_and_its_metrics_are_means():
    optimizer = F.adam(0.05)
    state = TrainState.create(PLAIN, optimizer, (5,))
    x, labels = data()
    read_only((x, labels, state))
    step = train_step(PLAIN, LOSS, optimizer, metrics={"accuracy": F.accuracy}, shards=5)
    first, metrics = step(state, (x, labels))
    copy = pickle.loads(pickle.dumps(first))
    step(first, (x, labels))
    again, same = step(state, (x, labels))
    assert same_bits(first, copy)
    assert same_bits(first, again)
    outputs = PLAIN(state.params, x)
    assert metrics == same
    assert metrics["loss"] == pytest.approx(float(LOSS(outputs, labels)[0]), rel=1e-6)
    assert metrics["accuracy"] == pytest.approx(F.accuracy(outputs, labels), rel=1e-12)


def test_the_next_call_does_not_write_returned_gradients():
    x, labels = data()
    f = sharded(F.value_and_grad(PLAIN, LOSS), 4)
    _, grads, _ = f(PLAIN.init(0, (5,)), x, labels)
    before = pickle.loads(pickle.dumps(grads))
    f(PLAIN.init(1, (5,)), x, labels)
    assert same_bits(grads, before)


def test_strided_and_mapped_arrays_give_the_same_bits(tmp_path):
    expected, _ = train()
    x, labels = data()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in ((np.asfortranarray(x), labels), (mapped, labels), (x[::-1][::-1], labels)):
        for ranks in (1, 3):
            run = functools.partial(train, part=True, source=source)
            for state, _ in checked(on_ranks(ranks, run)):
                assert same_bits(state, expected)


@pytest.mark.parametrize("size", [1, 5, 8, 26, 64])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 11])
def test_the_rows_of_all_ranks_cover_the_batch(size, ranks):
    slices = checked(on_ranks(ranks, lambda comm: rows_of(size, 8, comm)))
    assert [i for rows in slices for i in range(size)[rows]] == list(range(size))


def test_check_finite_names_step_and_shard():
    x, labels = data()
    x[17, 3] = np.nan
    with pytest.raises(FloatingPointError, match="the input is not finite") as caught:
        train(source=(x, labels), check_finite=True)
    assert caught.value.__notes__ == ["in shard 3 of 6, of 26 examples", "in step 0"]


def test_an_error_of_one_rank_is_raised_on_all():
    x, labels = data()
    labels[20] = 3

    results = on_ranks(3, lambda comm: train(comm, source=(x, labels)))
    assert isinstance(results[2], ValueError)
    for result in results[:2]:
        assert isinstance(result, RuntimeError)
        assert re.search("rank 2 failed.*3 classes.*in shard 4 of 6", str(result))


@F.layer
def fickle():
    """Return `None` as the gradient for some data."""
    return F.Layer(
        lambda rng, shape: {"weight": np.ones(shape, np.float32)},
        lambda params, x: (x * params["weight"], x),
        lambda params, x, g: ({"weight": None if x[0, 0] > 0 else (g * x).sum(0)}, g),
    )


def with_x(x, labels=None):
    labels = data()[1][: len(x)] if labels is None else labels
    return sharded(F.value_and_grad(F.serial(fickle(), F.dense(3)), LOSS), 4)(
        (fickle().init(0, (5,)), F.dense(3).init(0, (5,))), x, labels
    )


X, Y = data()
BAD = {
    "no shards": (lambda: sharded(with_x, 0), ValueError, "shards must be an int of at least 1"),
    "no communicator": (lambda: sharded(with_x, 2, 4), TypeError, "an MPI communicator.*got 4"),
    "comm alone": (
        lambda: train_step(MODEL, LOSS, F.sgd(0.1), comm=4),
        ValueError,
        r"comm was passed without shards: train_step\(\.\.\., shards=8",
    ),
    "size without shards": (
        lambda: train_step(MODEL, LOSS, F.sgd(0.1))(
            TrainState.create(MODEL, F.sgd(0.1), (5,)), (X, Y), size=26
        ),
        TypeError,
        "size",
    ),
    "no data": (lambda: with_x(X[:0]), ValueError, "batch is empty"),
    "lengths": (lambda: with_x(X, Y[1:]), ValueError, r"batch\[0\] has 26, batch\[1\] has 25"),
    "structures": (
        lambda: with_x(
            X * np.sign(13 - np.arange(26, dtype=np.float32))[:, None] * np.sign(X[:, :1])
        ),
        ValueError,
        "differ in size.*'<f4': 18}",
    ),
    "one example per shard": (
        lambda: train(shards=20),
        ValueError,
        "a single value per channel",
    ),
    "wrong rows": (
        lambda: sharded(F.value_and_grad(PLAIN, LOSS), 4)(PLAIN.init(0, (5,)), X, Y, size=30),
        ValueError,
        r"30 examples in 4 shards.*0 to 29, but its arrays have 26.*rows_of\(30, 4, comm\)",
    ),
    "booleans": (lambda: all_reduce(np.ones(3, bool), None), TypeError, r"numbers, got bool"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def uneven(comm):
    return [X[:20], X][comm.Get_rank()], [Y[:20], Y][comm.Get_rank()]


DIFFER = {
    "batches": (
        lambda comm: train(comm, source=uneven(comm)),
        "different batch sizes: 20 on rank 0, 26 on rank 1",
    ),
    "models": (
        lambda comm: sharded(F.value_and_grad(F.dense(3 + comm.Get_rank()), LOSS), 4, comm)(
            F.dense(3 + comm.Get_rank()).init(0, (5,)), X, Y
        ),
        "gradients of the shards differ in size, {'<f4': 18} and {'<f4': 24}",
    ),
    "trees": (
        lambda comm: all_reduce({"ab"[comm.Get_rank()]: np.ones(2)}, comm),
        r"different trees: \{'a': 'float64\[2\]'\} on rank 0",
    ),
}


@pytest.mark.parametrize(("call", "message"), DIFFER.values(), ids=DIFFER)
def test_different_ranks_all_raise(call, message):
    for result in on_ranks(2, call):
        assert isinstance(result, ValueError)
        assert re.search(message, str(result))


def agree(change):
    """Return the errors of three ranks; rank 1 has other values."""

    def call(comm):
        params = PLAIN.init(0, (5,))
        named = {
            "model": PLAIN,
            "params": params,
            "lengths": {"data": 26, "validation": None},
            "loss": LOSS,
            "optimizer": F.adam(F.exponential_decay(0.1, 5, rate=0.9)),
            "environment": environment(),
        }
        check_agreement(comm, **(change(dict(named)) if comm.Get_rank() == 1 else named))
        return "agreed"

    return on_ranks(3, call)


def other_bit(named):
    params = pickle.loads(pickle.dumps(named["params"]))
    params[2]["bias"][1] = -0.0
    return named | {"params": params}


AGREEMENTS = {
    "model": (
        lambda named: named | {"model": F.serial(F.dense(8), F.tanh(), F.dense(3))},
        r"  model is serial\(dense\(units=9.* on ranks 0, 2; serial\(dense\(units=8.* on rank 1",
    ),
    "one bit": (
        other_bit,
        r"  params/2/bias is float32\[3\] with the hash \w+ on ranks 0, 2; .* on rank 1",
    ),
    "data": (
        lambda named: named | {"lengths": {"data": 25}},
        "lengths/data is 26 on ranks 0, 2; 25 on rank 1",
    ),
    "an additional value": (
        lambda named: named | {"lengths": {"data": 26, "validation": 9}},
        "lengths/validation is missing on ranks 0, 2; 9 on rank 1",
    ),
    "loss": (
        lambda named: named | {"loss": F.mean_squared_error},
        r"softmax_cross_entropy on ranks 0, 2; npdl\..*mean_squared_error on rank 1",
    ),
    "optimizer": (
        lambda named: named | {"optimizer": F.sgd(1.0)},
        r"optimizer is chain\(scale_by_adam",
    ),
    "environment": (
        lambda named: named | {"environment": environment() | {"numpy": "1.26.0"}},
        "environment/numpy is .* on ranks 0, 2; '1.26.0' on rank 1",
    ),
}


@pytest.mark.parametrize(("change", "message"), AGREEMENTS.values(), ids=AGREEMENTS)
def test_differences_at_the_start_are_named_on_every_rank(change, message):
    for result in agree(change):
        assert isinstance(result, ValueError)
        assert re.search(message, str(result))
        assert str(result).count("\n") == 2


def test_two_leaves_with_one_path_must_agree():
    def check(comm):
        named = {1: comm.Get_rank(), "1": 0}
        try:
            check_agreement(comm, params=named)
        except ValueError as error:
            return str(error)

    assert all("params/1 is 0 and 0 on rank 0; 1 and 0 on rank 1" in e for e in on_ranks(2, check))


def test_equal_values_agree():
    assert agree(lambda named: pickle.loads(pickle.dumps(named))) == ["agreed"] * 3


def test_an_error_ends_the_job_with_its_traceback(capsys):
    def call(comm):
        with aborting(comm):
            if comm.Get_rank() == 1:
                raise ZeroDivisionError("broken")
        return "continued"

    first, second = on_ranks(2, call)
    assert first == "continued"
    assert isinstance(second, SystemExit)
    assert second.code == 1
    error = capsys.readouterr().err
    assert error.startswith("rank 1 of 2 failed, and ends the job:\nTraceback")
    assert error.endswith("ZeroDivisionError: broken\n")
    with pytest.raises(ZeroDivisionError), aborting(None):
        raise ZeroDivisionError
