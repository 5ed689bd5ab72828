"""A frozen layer is one function in training and in evaluation, but for the dropout inside."""

import json
import pickle

import numpy as np
import pytest
from arrays import normal
from cases import CASES
from small_layers import notes_of, spy

import npdl.functional as F
from npdl import random, tree
from npdl.training import TrainState, train_step


def moving_mean(rate=0.5):
    """Subtract a running mean, without a part that is a layer."""

    def init(rng, shape):
        return {"mean": np.ones(shape, np.float32)}

    def apply(params, x, *, train=False):
        mean = x.mean(axis=0) if train else params["mean"]
        return x - mean, x.mean(axis=0) if train else None

    def update_stats(params, cache):
        if cache is None:
            return params
        return {"mean": params["mean"] + rate * (cache - params["mean"])}

    return F.Layer(
        init, apply, lambda params, cache, g: ({"mean": None}, g), lambda s: s, update_stats
    )


@F.layer
def centered(rate=0.5):
    """The same with a name and a configuration."""
    return moving_mean(rate)


@F.layer
def of_serial(units):
    """A constructor that returns a serial."""
    return F.serial(F.dense(units), F.batch_norm(), F.relu())


@F.layer
def noisy(units):
    """A constructor that returns the layer of another one."""
    return of_serial_with_noise(units)


@F.layer
def of_serial_with_noise(units):
    return F.serial(F.dense(units), F.batch_norm(), F.dropout(0.5))


@F.layer
def around(inner):
    """Twice a layer: a combinator of the user's."""
    parts = F.parts(
        "x",
        {"inner": (inner, "x"), "twice": (F.add(), ("inner", "inner"), None)},
        "twice",
    )

    def apply(params, x, *, train=False, rng=None):
        key = None if rng is None else random.fold(rng, 0)
        y, cache = inner.apply(params["inner"], x, train=train, rng=key)
        return 2 * y, cache

    def backward(params, cache, g):
        grads, dx = inner.backward(params["inner"], cache, 2 * g)
        return {"inner": grads}, dx

    return F.Layer(
        lambda rng, shape: {"inner": inner.init(random.fold(rng, 0), shape)},
        apply,
        backward,
        inner.out_shape,
        lambda params, cache: {"inner": inner.update_stats(params["inner"], cache)},
        parts,
    )


@F.layer
def between(inner):
    """A constructor that adds its own layers to its argument."""
    return F.serial(F.batch_norm(), inner, F.residual(F.batch_norm()))


@F.layer
def rnn_and_norm(units, reverse=False):
    """A recurrent layer for bidirectional that returns a serial."""
    rnn = F.rnn(units, return_sequence=True, reverse=reverse)
    return F.serial(rnn, F.batch_norm(axis=-1), F.tanh())


@F.layer
def with_parts_inside(units):
    """A layer with parts that are not its arguments."""
    first, norm, noise = F.dense(units), F.batch_norm(), F.dropout(0.5)

    def apply(params, x, *, train=False, rng=None):
        y, one = first.apply(params["first"], x)
        y, two = norm.apply(params["norm"], y, train=train)
        y, three = noise.apply((), y, train=train, rng=rng)
        return y, (one, two, three)

    def backward(params, cache, g):
        _, g = noise.backward((), cache[2], g)
        of_norm, g = norm.backward(params["norm"], cache[1], g)
        of_first, g = first.backward(params["first"], cache[0], g)
        return {"first": of_first, "norm": of_norm}, g

    def init(rng, shape):
        return {"first": first.init(rng, shape), "norm": norm.init(rng, (units,))}

    def update_stats(params, cache):
        stats = norm.update_stats(params["norm"], None if cache is None else cache[1])
        return {**params, "norm": stats}

    return F.Layer(init, apply, backward, lambda shape: (units,), update_stats)


@F.layer
def normal_rnn(units, reverse=False):
    """A recurrent layer with a batch norm, for bidirectional."""
    inner = F.serial(
        F.rnn(units, return_sequence=True, reverse=reverse), F.batch_norm(axis=-1), F.tanh()
    )
    return F.Layer(inner.init, inner.apply, inner.backward, inner.out_shape, inner.update_stats)


def graph(inner):
    return F.graph("x", {"a": (F.dense(4), "x"), "b": (inner, "a")}, ("b", "a"))


NESTED = {
    "alone": (F.batch_norm(), (3,)),
    "serial": (F.serial(F.dense(4), F.batch_norm()), (3,)),
    "residual": (F.residual(F.dense(4), F.batch_norm(), F.dense(3)), (3,)),
    "graph": (graph(F.serial(F.batch_norm(scale=False), F.relu())), (3,)),
    "parallel": (F.parallel(F.batch_norm(), F.batch_norm(shift=False), join=None), (3,)),
    "stack": (F.stack(F.dense(4), F.batch_norm()), (3,)),
    "deep": (F.residual(F.serial(F.parallel(F.residual(F.batch_norm())))), (3,)),
    "images": (F.serial(F.conv2d(4, 3), F.batch_norm(), F.relu()), (2, 5, 6)),
    "a constructor's serial": (of_serial(4), (3,)),
    "combinator of a norm": (around(F.batch_norm()), (3,)),
    "combinators in one another": (around(around(of_serial(5))), (3,)),
    "a constructor's norm beside its argument": (between(F.dense(4)), (3,)),
    "and in its argument": (F.serial(between(of_serial(3))), (3,)),
    "own statistics": (centered(), (3,)),
    "own statistics in a combinator": (F.serial(F.dense(4), around(centered())), (3,)),
    "a record made by hand": (moving_mean(), (3,)),
    "frozen twice": (F.freeze(F.serial(F.dense(4), F.batch_norm())), (3,)),
    "both ways": (F.bidirectional(normal_rnn(4)), (5, 3)),
    "both ways of a constructor's serial": (F.bidirectional(rnn_and_norm(4)), (5, 3)),
}
each = pytest.mark.parametrize(("layer", "shape"), NESTED.values(), ids=NESTED)


def trained(layer, shape):
    """Parameters whose statistics have seen a batch unlike the next one."""
    params = layer.init(0, shape)
    _, cache = layer.apply(params, 3 + normal(6, *shape, seed=1), train=True, rng=1)
    return layer.update_stats(params, cache)


@each
def test_a_frozen_layer_is_the_same_in_training_and_evaluation(layer, shape):
    inner = layer.call.keywords["inner"] if layer.call and layer.call.name == "freeze" else layer
    params, x = trained(inner, shape), normal(4, *shape, seed=2)
    frozen = F.freeze(layer)
    expected, expected_cache = frozen.apply(params, x)
    y, cache = frozen.apply(params, x, train=True, rng=3)
    assert tree.all_close(y, inner(params, x), rtol=0, atol=0)
    assert tree.all_close(y, expected, rtol=0, atol=0)
    g = tree.map(lambda part: normal(*part.shape, seed=4), y)
    grads, dx = frozen.backward(params, cache, g)
    assert grads is None
    assert np.array_equal(dx, frozen.backward(params, expected_cache, g)[1])
    assert frozen.update_stats(params, cache) is params


@each
def test_a_layer_outside_the_frozen_one_keeps_its_mode(layer, shape):
    if layer.call and layer.call.name == "freeze":
        pytest.skip("is frozen")
    params, x = trained(layer, shape), normal(4, *shape, seed=2)
    F.freeze(layer).apply(params, x, train=True, rng=3)
    y, cache = layer.apply(params, x, train=True, rng=3)
    assert not tree.all_close(y, layer(params, x), rtol=1e-3, atol=1e-3)
    assert not tree.all_close(layer.update_stats(params, cache), params, rtol=0, atol=0)


@pytest.mark.parametrize(
    "layer",
    [
        F.serial(F.dropout(0.5), F.batch_norm()),
        F.serial(F.dropout(0.5), around(centered())),
        around(F.serial(F.batch_norm(), F.dropout(0.5))),
        noisy(4),
    ],
    ids=["serial", "own statistics", "combinator", "a constructor's serial"],
)
def test_dropout_in_a_frozen_layer_still_drops(layer):
    params, x = trained(layer, (4,)), normal(50, 4)
    frozen = F.freeze(layer)
    assert not np.allclose(frozen(params, x, train=True, rng=1), frozen(params, x), atol=1e-3)
    with pytest.raises(ValueError, match="needs a key"):
        frozen(params, x, train=True)


def test_a_constructor_that_returns_a_frozen_layer_is_frozen():
    @F.layer
    def pretrained(units):
        return F.freeze(F.dense(units))

    log = []
    model = F.serial(spy(log, "below", False), pretrained(2), F.dense(3))
    params, x = model.init(0, (4,)), normal(5, 4)
    y, cache = model.apply(params, x)
    grads, _ = model.backward(params, cache, np.ones_like(y), input_grad=False)
    assert log == []
    assert grads[1] is None


def test_a_frozen_layer_with_inner_layers_evaluates_all_of_them():
    layer = with_parts_inside(4)
    params, x = trained(layer, (3,)), normal(50, 3)
    y, _ = F.freeze(layer).apply(params, x, train=True, rng=1)
    assert np.array_equal(y, layer(params, x))


def test_an_error_inside_leaves_the_mode_as_it_was():
    norm = F.batch_norm()
    params = trained(norm, (3,))
    with pytest.raises(ValueError, match="channels"):
        F.freeze(norm)(params, normal(4, 5), train=True)
    x = normal(4, 3)
    assert not np.allclose(norm(params, x, train=True), norm(params, x), atol=1e-3)


def test_training_steps_leave_a_frozen_norm_as_it_is():
    model = F.serial(F.freeze(F.serial(F.dense(4), F.batch_norm())), F.batch_norm(), F.dense(1))
    params = model.init(0, (3,))
    stats = {"mean": np.full(4, 0.3, np.float32), "count": np.ones((), np.float32)}
    params = (((params[0][0], params[0][1] | stats)), *params[1:])
    optimizer = F.adam(0.1)
    state = TrainState(0, params, optimizer.init(params), (0,))
    step = train_step(model, F.mean_squared_error, optimizer)
    after, _ = step(state, (normal(8, 3), normal(8, 1)))
    assert tree.all_close(after.params[0], params[0], rtol=0, atol=0)
    assert not tree.all_close(after.params[1], params[1], rtol=0, atol=0)


def test_a_frozen_norm_without_statistics_is_an_error():
    model = F.serial(F.dense(2), F.freeze(F.serial(F.batch_norm())))
    params = model.init(0, (3,))
    with pytest.raises(ValueError, match=r"seen no batch.*frozen.*after its training"):
        model(params, normal(4, 3), train=True)
    notes = notes_of(lambda: model(params, normal(4, 3), train=True))
    assert "serial[0] = batch_norm()" in notes[0]
    assert "serial[1] = freeze(" in notes[1]


def test_a_frozen_norm_takes_a_batch_of_one_in_training():
    layer = F.freeze(F.batch_norm())
    params, x = trained(F.batch_norm(), (3,)), normal(1, 3)
    assert np.array_equal(layer(params, x, train=True), layer(params, x))


@each
def test_repr_config_equality_and_pickle_stay(layer, shape):
    frozen = F.freeze(layer)
    assert repr(frozen) == f"freeze(inner={layer!r})"
    if layer.call is None:
        return
    own = [around, between, centered, of_serial, normal_rnn, rnn_and_norm]
    config = json.loads(json.dumps(frozen.config()))
    assert F.from_config(config, constructors=own) == frozen == F.freeze(layer)
    assert pickle.loads(pickle.dumps(frozen)) == frozen


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_any_frozen_layer_evaluates_in_training(case):
    if case.random:
        pytest.skip("drops in training")
    frozen, params, x = F.freeze(case.layer), case.params(), case.x(3)
    y = frozen(params, x, train=True, rng=1)
    assert tree.all_close(y, case.layer(params, x), rtol=0, atol=0)
