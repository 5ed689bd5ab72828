"""A recurrent layer from one step agrees with the recurrent layers, in all their forms."""

import numpy as np
import pytest
from arrays import normal64, same_bits

import npdl.functional as F
from npdl import random, tree
from npdl.gradcheck import check_gradients


def rnn_cell(units):
    """The step of :func:`rnn`."""
    nodes = {
        "a": (F.dense(units), "x"),
        "b": (F.dense(units, bias=False), "h"),
        "sum": (F.add(), ("a", "b")),
        "y": (F.tanh(), "sum"),
    }
    return F.graph(("x", "h"), nodes, ("y", "y"))


def as_cell(params):
    return {
        "a": {"weight": params["weight"], "bias": params["bias"]},
        "b": {"weight": params["recurrent_weight"]},
        "sum": (),
        "y": (),
    }


FORMS = [
    {},
    {"return_sequence": True},
    {"return_state": True},
    {"return_sequence": True, "return_state": True, "reverse": True},
]
MASK = np.array([[True] * 5, [True, False, True, True, False], [False, False, True, True, True]])


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("inputs", ["x", "mask", "state", "mask and state"])
def test_a_scan_of_the_step_is_the_recurrent_layer(options, inputs):
    ours, theirs = F.scan(rnn_cell(4), (4,), **options), F.rnn(4, **options)
    params = tree.astype(theirs.init(0, (5, 3)), np.float64)
    mask = MASK if "mask" in inputs else None
    state = normal64(3, 4, seed=2) if "state" in inputs else None
    x = normal64(3, 5, 3) if inputs == "x" else (normal64(3, 5, 3), mask, state)
    if mask is not None and state is not None:
        # The output of a masked first step is the state here, and zero in a scan.
        mask = mask | (np.arange(5) == (4 if options.get("reverse") else 0))
        x = (x[0], mask, state)
    y, cache = ours.apply(as_cell(params), x)
    expected, its_cache = theirs.apply(params, x)
    g = tree.map(lambda part: normal64(*part.shape, seed=3), y)
    grads, dx = ours.backward(as_cell(params), cache, g)
    its_grads, its_dx = theirs.backward(params, its_cache, g)
    assert tree.all_close(y, expected, 1e-12)
    assert tree.all_close(tree.leaves(grads), tree.leaves(as_cell(its_grads)), 1e-10)
    assert tree.all_close(dx, its_dx, 1e-10)
    assert ours.out_shape(((5, 3), (5,))) == theirs.out_shape(((5, 3), (5,)))


def test_a_cell_of_one_function():
    anp = pytest.importorskip("autograd.numpy")

    def init(rng, shape):
        (features,), (units,) = shape
        return {"w": F.glorot_uniform()(rng, (features + units, units))}

    def step(params, inputs):
        x, h = inputs
        h = anp.tanh(anp.concatenate([x, h], axis=1) @ params["w"]) + 0.5 * h
        return h**2, h

    model = F.scan(F.from_function(step, init), (4,), return_sequence=True)
    check_gradients(model, (5, 3))
    check_gradients(F.bidirectional(model), (5, 3))
    params = tree.astype(model.init(0, (5, 3)), np.float64)
    x, along = normal64(2, 5, 3), tree.map(lambda leaf: normal64(*leaf.shape), params)
    y, cache = model.apply(params, x)
    g = normal64(*y.shape, seed=1)
    _, dy = F.jvp(model)(params, x, along, x)
    grads, dx = model.backward(params, cache, g)
    expected = np.sum(grads["w"] * along["w"]) + np.sum(dx * x)
    assert np.sum(dy * g) == pytest.approx(expected, rel=1e-12)


def test_ids_are_sequences_too():
    nodes = {"e": (F.embedding(7, 4), "i"), "h_new": (F.add(), ("e", "h"))}
    model = F.scan(F.graph(("i", "h"), nodes, ("h_new", "h_new")), (4,))
    params = model.init(0, (6,))
    ids = random.generator(1).integers(0, 7, (3, 6))
    y, cache = model.apply(params, ids)
    np.testing.assert_allclose(y, params["e"]["table"][ids].sum(axis=1), rtol=1e-5)
    grads, dx = model.backward(params, cache, np.ones_like(y))
    assert dx is None
    assert grads["e"]["table"][ids[0, 0], 0] == np.count_nonzero(ids == ids[0, 0])


def test_a_sequence_without_steps_returns_the_state():
    model = F.scan(rnn_cell(4), (4,), return_sequence=True, return_state=True)
    params, state = model.init(0, (None, 3)), np.ones((2, 4), np.float32)
    y, last = model(params, (np.zeros((2, 0, 3), np.float32), None, state))
    assert y.shape == (2, 0, 4)
    assert same_bits(last, state)
    y, _ = F.scan(rnn_cell(4), (4,)).apply(params, np.zeros((2, 0, 3), np.float32))
    assert same_bits(y, np.zeros((2, 4), np.float32))


def test_each_step_has_its_own_key():
    cell = F.graph(("x", "h"), {"y": (F.dropout(0.5), "x")}, ("y", "h"))
    model = F.scan(cell, (1,), return_sequence=True)
    x = np.ones((1, 8, 64), np.float32)
    y = model(model.init(0, (8, 64)), x, train=True, rng=1)
    assert len({row.tobytes() for row in y[0]}) == 8
    alone, _ = cell({"y": ()}, (x[:, 3], x[:, 0, :1]), train=True, rng=random.fold(1, 3))
    assert same_bits(y[:, 3], alone)


def test_the_steps_are_not_computed_without_a_gradient():
    calls = []

    @F.layer
    def cell():
        def apply(params, inputs):
            return (inputs[0], inputs[1]), None

        def backward(params, cache, g):
            calls.append(g)
            return None, g

        return F.Layer(lambda rng, shape: (), apply, backward, lambda shape: shape)

    model = F.scan(cell(), (2,))
    x = np.ones((3, 4, 2), np.float32)
    _, cache = model.apply((), x)
    _, dx = model.backward((), cache, np.ones((3, 2), np.float32))
    assert len(calls) == 1
    assert same_bits(dx.sum(axis=(0, 2)), np.array([0, 0, 0, 6], np.float32))


WRONG = {
    "no layer": (lambda: F.scan(3, (4,)), TypeError, "scan: argument 0 is 3, not a layer"),
    "state": (
        lambda: F.scan(rnn_cell(4), "h"),
        ValueError,
        "state must be the shape of one example",
    ),
    "running statistics": (
        lambda: F.scan(F.serial(F.batch_norm()), (4,)),
        TypeError,
        "running statistics of a cell are not supported",
    ),
    "one output": (
        lambda: F.scan(F.graph(("x", "h"), {"y": (F.dense(4), "x")}, "y"), (4,))(
            {"y": F.dense(4).init(0, (3,))}, np.ones((2, 5, 3), np.float32)
        ),
        ValueError,
        r"the cell must return \(y, state\), with one array y",
    ),
    "another state": (
        lambda: F.scan(F.graph(("x", "h"), {"y": (F.dense(4), "x")}, ("y", "y")), (3,))(
            {"y": F.dense(4).init(0, (3,))}, np.ones((2, 5, 3), np.float32)
        ),
        ValueError,
        r"a state like the one that it gets, float32\[2, 3\], got float32\[2, 4\]",
    ),
    "shape of the state": (
        lambda: F.scan(rnn_cell(4), (4,))((), (normal64(2, 5, 3), None, normal64(2, 3))),
        ValueError,
        r"the state must have the shape \(2, 4\), got float64\[2, 3\]",
    ),
    "vector": (
        lambda: F.scan(rnn_cell(4), (4,))((), np.ones(5)),
        ValueError,
        r"expected x \(batch, time, ...\), got float64\[5\]",
    ),
    "four inputs": (
        lambda: F.scan(rnn_cell(4), (4,))((), (normal64(2, 5, 3), None, None, None)),
        ValueError,
        r"the input is x, \(x, mask\) or \(x, mask, state\)",
    ),
    "mask": (
        lambda: F.scan(rnn_cell(4), (4,))((), (normal64(2, 5, 3), np.ones((2, 5)))),
        ValueError,
        r"the mask must be bool\[2, 5\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()
