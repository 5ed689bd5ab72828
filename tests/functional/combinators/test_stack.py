"""Stacks: further inputs reach every layer, and their gradients are added up."""

import numpy as np
import pytest
from arrays import normal
from small_layers import counting, failing, masked_sum, notes_of, split, spy

import npdl.functional as F
from npdl import random, tree
from npdl.gradcheck import check_gradients


@F.layer
def scaled_by_context():
    """y = a x c."""

    def init(rng, shape):
        return {"a": random.generator(rng).normal(size=()).astype(np.float32)}

    def apply(params, x):
        return params["a"] * x[0] * x[1], x

    def backward(params, x, g):
        a = params["a"]
        return {"a": np.sum(g * x[0] * x[1])}, (a * g * x[1], a * g * x[0])

    return F.Layer(init, apply, backward, lambda shape: shape[0])


def test_a_stack_of_one_input_is_a_serial():
    layers = F.dense(4), F.tanh(), F.dense(2)
    stack, serial = F.stack(*layers), F.serial(*layers)
    params, x = stack.init(5, (3,)), normal(6, 3)
    assert tree.all_close(params, serial.init(5, (3,)), rtol=0, atol=0)
    y, cache = stack.apply(params, x)
    expected, serial_cache = serial.apply(params, x)
    assert np.array_equal(y, expected)
    assert tree.all_close(
        stack.backward(params, cache, y)[0], serial.backward(params, serial_cache, y)[0]
    )


def test_a_stack_equals_a_graph_with_further_inputs_per_layer():
    layer = scaled_by_context()
    stack = F.stack(layer, layer, layer)
    graph = F.graph(
        ("x", "c"),
        {"a": (layer, ("x", "c")), "b": (layer, ("a", "c")), "y": (layer, ("b", "c"))},
        "y",
    )
    params, x = stack.init(0, ((3,), (3,))), (normal(2, 3), normal(2, 3, seed=1))
    named = dict(zip("aby", params, strict=True))
    assert tree.all_close(graph.init(0, ((3,), (3,))), named, rtol=0, atol=0)
    y, cache = stack.apply(params, x)
    expected, graph_cache = graph.apply(named, x)
    assert np.array_equal(y, expected)
    grads, dx = stack.backward(params, cache, y)
    graph_grads, graph_dx = graph.backward(named, graph_cache, y)
    assert tree.all_close(dict(zip("aby", grads, strict=True)), graph_grads, rtol=0, atol=0)
    assert tree.all_close(dx, graph_dx, rtol=1e-6)
    check_gradients(stack, ((3,), (3,)))


def test_a_mask_reaches_every_layer_and_gets_no_gradient():
    model = F.stack(F.gru(4, return_sequence=True), F.gru(3, return_sequence=True))
    params, x = model.init(0, ((5, 2), (5,))), normal(2, 5, 2)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    y, cache = model.apply(params, (x, mask))
    short = model(params, (x[:1, :3], None))
    np.testing.assert_allclose(y[:1, :3], short, rtol=1e-5, atol=1e-7)
    _, (dx, nothing) = model.backward(params, cache, np.ones_like(y))
    assert nothing is None
    assert not dx[0, 3:].any()


def test_layers_below_the_first_trained_one_run_no_backward():
    log = []
    model = F.stack(spy(log, "plain", False), spy(log, "a"), spy(log, "b"))
    params, x = model.init(0, (3,)), normal(2, 3)
    _, cache = model.apply(params, x)
    log.clear()
    assert model.backward(params, cache, x, input_grad=False)[1] is None
    assert log == [("b", True), ("a", False)]
    frozen = F.stack(F.freeze(spy(log, "frozen")), spy(log, "c"))
    params = frozen.init(0, (3,))
    _, cache = frozen.apply(params, x)
    log.clear()
    grads, _ = frozen.backward(params, cache, x, input_grad=False)
    assert log == [("c", False)]
    assert grads[0] is None


def test_a_missing_gradient_leaves_those_for_further_inputs():
    @F.layer
    def looked_up():
        return F.Layer(
            lambda rng, shape: {"a": np.ones((), np.float32)},
            lambda params, x: (params["a"] * np.ones_like(x[1]), None),
            lambda params, cache, g: ({"a": np.sum(g)}, None),
            lambda shape: shape[1],
        )

    model = F.stack(scaled_by_context(), looked_up(), scaled_by_context())
    params, x = model.init(0, ((3,), (3,))), (normal(2, 3), normal(2, 3, seed=1))
    y, cache = model.apply(params, x)
    grads, (dx, d_context) = model.backward(params, cache, np.ones_like(y))
    assert grads[0] is None
    assert dx is None
    np.testing.assert_allclose(d_context, params[2]["a"] * np.ones((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(grads[1]["a"], params[2]["a"] * x[1].sum(), rtol=1e-5)


def test_statistics_are_folded_in():
    model = F.stack(counting(), F.dense(2), counting())
    params = model.init(0, (3,))
    _, cache = model.apply(params, normal(6, 3), train=True)
    after = model.update_stats(params, cache)
    assert [float(after[i]["seen"]) for i in (0, 2)] == [6, 6]
    assert model.update_stats(params, None) is params


def test_the_notes_name_the_layer():
    model = F.stack(F.tanh(), failing())
    assert notes_of(lambda: model(((), failing().init(0, (3,))), normal(2, 3)))[0].startswith(
        "in stack[1] = failing(), given float32[2, 3]"
    )


WRONG = {
    "no layer": (
        lambda: F.stack(F.dense(2), F.relu),
        TypeError,
        "stack: argument 1 .* not a",
    ),
    "two outputs": (
        lambda: F.stack(split())(((),), normal(2, 3)),
        ValueError,
        r"stack: each layer must have one output, but this one returns \(float32\[2, 3\], float32",
    ),
    "the params of another model": (
        lambda: F.stack(F.tanh())(((), ()), normal(2, 3)),
        ValueError,
        "stack: expected the parameters of 1 layers",
    ),
    "a layer of one input": (
        lambda: F.stack(F.tanh())(((),), (normal(2, 3), normal(2, 3))),
        TypeError,
        "tanh: expected a NumPy array, got tuple",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_bad_inputs_are_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# add

ADD = {
    "one array": (lambda: F.add()((), normal(2, 3)), ValueError, "two or more arrays"),
    "a tuple of one": (lambda: F.add()((), (normal(2, 3),)), ValueError, "two or more arrays"),
    "none": (lambda: F.add()((), (normal(2, 3), None)), ValueError, r"got \(float32.*, None\)"),
    "broadcast": (
        lambda: F.add()((), (normal(2, 3), normal(1, 3))),
        ValueError,
        r"shapes must be equal, got \(float32\[2, 3\], float32\[1, 3\]\)",
    ),
    "promoted": (
        lambda: F.add()((), (normal(2, 3), normal(2, 3).astype(float))),
        TypeError,
        r"data types must be equal.*float64\[2, 3\]",
    ),
    "declared": (lambda: F.add().out_shape(((2, 3), (3,))), ValueError, "must be equal"),
    "declared alone": (lambda: F.add().out_shape((3,)), ValueError, "two or more equal shapes"),
}


@pytest.mark.parametrize(("call", "error", "message"), ADD.values(), ids=ADD)
def test_add_takes_equal_arrays_only(call, error, message):
    with pytest.raises(error, match=f"^add: .*{message}"):
        call()


def test_the_ways_of_a_graph_meet_in_a_sum():
    model = F.graph(
        ("x", "mask"),
        {"one": (masked_sum(), ("x", "mask")), "two": (masked_sum(), ("x", None)),
         "y": (F.add(), ("one", "two", "one"))},
        "y",
    )  # fmt: skip
    x, mask = normal(2, 4, 3), np.array([[1, 0, 1, 0], [0, 0, 1, 1]], bool)
    params = model.init(0, ((4, 3), (4,)))
    expected = 2 * (x * mask[..., None]).sum(axis=1) + x.sum(axis=1)
    np.testing.assert_allclose(model(params, (x, mask)), expected, rtol=1e-5, atol=1e-6)
