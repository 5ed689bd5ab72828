import json
import pickle
import sys

import numpy as np
import pytest
from arrays import normal
from small_layers import notes_of

import npdl.functional as F
from npdl import tree
from npdl.gradcheck import check_gradients
from npdl.training import TrainState, fit

pytest.importorskip("autograd")

import autograd.numpy as anp
from function_cases import FUNCTIONS, dense_init, dense_tanh, nested_init, noisy, swish, weights

FLOAT32 = np.float32
X = normal(2, 3)


# Functions, each with the way to make its parameters.


# The same gradients as layers of the library

BY_HAND = {
    "dense": (F.serial(F.dense(4), F.tanh()), (3,), lambda params: params[0]),
    "no parameters": (F.silu(), (2, 5), lambda params: params),
    "attention": (F.multi_head_attention(2, units=4), (5, 6), lambda params: params),
    "convolution": (F.conv2d(4, (3, 2)), (3, 5, 6), lambda params: params),
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_equal_the_gradients_of_the_library_layer(name, train):
    layer, shape, of = BY_HAND[name]
    params = tree.astype(layer.init(3, shape), np.float64)
    x = normal(7, *shape).astype(np.float64)
    y, cache = layer.apply(params, x, train=train)
    g = normal(*y.shape, seed=5).astype(np.float64)
    grads, dx = layer.backward(params, cache, g)
    own = FUNCTIONS[name].layer
    own_y, own_cache = own.apply(of(params), x, train=train)
    own_grads, own_dx = own.backward(of(params), own_cache, g)
    expected = (y, () if name == "no parameters" else of(grads), dx)
    assert tree.all_close((own_y, own_grads, own_dx), expected, rtol=1e-9, atol=1e-12)


def test_it_trains_to_the_same_as_the_layer_written_by_hand():
    x = np.linspace(-1, 1, 60, dtype=FLOAT32).reshape(20, 3)
    targets = np.sin(x[:, :1] + x[:, 1:2])
    hidden, last = F.serial(F.dense(4), F.tanh()), F.dense(1)
    (dense, _), readout = F.serial(hidden, last).init(0, (3,))
    results = []
    for layer, params in ((hidden, (dense, ())), (FUNCTIONS["dense"].layer, dense)):
        model, optimizer = F.serial(layer, last), F.adam(0.05)
        params = (params, readout)
        start = TrainState(0, params, optimizer.init(params), (4,))
        results.append(
            fit(
                model,
                F.mean_squared_error,
                optimizer,
                (x, targets),
                state=start,
                epochs=60,
                batch_size=8,
                progress=False,
            )
        )
    (by_hand, history), (own, own_history) = results
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    assert np.allclose(own_history["loss"], history["loss"], rtol=1e-3)
    assert tree.all_close(
        own.params, (by_hand.params[0][0], by_hand.params[1]), rtol=1e-3, atol=1e-3
    )


# The number of evaluations


def counting_calls(log):
    def f(params, x):
        log.append("call")
        return anp.tanh(x @ params["weight"])

    return F.from_function(f, weights(weight=(3, 4)))


def test_training_runs_the_function_once():
    log = []
    model, x = counting_calls(log), normal(5, 3)
    params = model.init(0, (3,))
    for train, runs in ((True, 1), (False, 2)):
        log.clear()
        y, cache = model.apply(params, x, train=train)
        assert len(log) == 1
        model.backward(params, cache, y)
        assert len(log) == runs


def test_the_input_is_differentiated_only_where_needed():
    """A derivative in `x` would raise, for it is not known."""
    from autograd.extend import defvjp, primitive

    @primitive
    def opaque(x):
        return x * 2

    def refuse(ans, x):
        def raise_error(g):
            raise ZeroDivisionError("the derivative was asked for")

        return raise_error

    defvjp(opaque, refuse)
    model = F.from_function(lambda params, x: opaque(x) * params["weight"], weights(weight=(3,)))
    params, x = model.init(0, (3,)), normal(2, 3)
    for train in (False, True):
        y, cache = model.apply(params, x, train=train)
        g = np.ones_like(y)
        grads, dx = model.backward(params, cache, g, input_grad=False)
        assert np.allclose(grads["weight"], (2 * x).sum(axis=0))
        assert dx is None
        with pytest.raises(ZeroDivisionError):
            model.backward(params, cache, g)


def test_gradients_have_the_types_of_their_parameters():
    """The derivatives of mean, max and where are float64 in autograd."""

    def f(params, x):
        y = x @ params["weight"]
        return anp.where(y > 0, y, 0.1 * y) * anp.mean(y, axis=0) - anp.max(y, axis=1)[:, None]

    model = F.from_function(f, weights(weight=(3, 4)))
    for dtype in (np.float32, np.float64):
        params = tree.astype(model.init(0, (3,)), dtype)
        x = normal(5, 3).astype(dtype)
        y, cache = model.apply(params, x, train=True)
        leaves = tree.leaves((y, model.backward(params, cache, y)))
        assert [leaf.dtype for leaf in leaves] == [dtype] * 3


@pytest.mark.parametrize("train", [False, True])
def test_constant_outputs_have_gradients_of_zero(train):
    def constant(params, x):
        return np.ones((len(x), 2), x.dtype)

    model = F.from_function(constant, weights(weight=(3, 4)))
    params, x = model.init(0, (3,)), normal(5, 3)
    y, cache = model.apply(params, x, train=train)
    grads, dx = model.backward(params, cache, y)
    assert y.shape == (5, 2)
    assert np.array_equal(grads["weight"], np.zeros((3, 4), FLOAT32))
    assert np.array_equal(dx, np.zeros((5, 3), FLOAT32))
    # A constant next to an output that depends on x: its gradient goes nowhere.
    model = F.from_function(lambda x: (x * 3, np.ones((len(x), 2), x.dtype)))
    y, cache = model.apply((), x, train=train)
    assert np.array_equal(model.backward((), cache, (x, normal(5, 2)))[1], 3 * x)
    assert np.array_equal(model.backward((), cache, (None, normal(5, 2)))[1], 0 * x)
    assert np.array_equal(model.backward((), cache, (x, None))[1], 3 * x)


@pytest.mark.parametrize("train", [False, True])
def test_int_parameters_are_untrained_unused_floats_get_zeros(train):
    def f(params, x):
        return params["weight"] * x ** int(params["power"])

    params = {"weight": X[0], "power": np.array(2), "spare": X}
    model = F.from_function(f, dense_init)
    y, cache = model.apply(params, X, train=train)
    grads, _ = model.backward(params, cache, np.ones_like(y))
    assert grads["power"] is None
    assert np.array_equal(grads["spare"], np.zeros_like(X))
    assert np.allclose(grads["weight"], (X**2).sum(axis=0))


@pytest.mark.parametrize("train", [False, True])
def test_inputs_without_floats_and_absent_ones_have_no_gradient(train):
    case = FUNCTIONS["ids, masks and floats"]
    params, x = case.params(), case.x(3)
    y, cache = case.layer.apply(params, x, train=train)
    _, dx = case.layer.backward(params, cache, y)
    assert dx[0] is dx[1] is None
    assert np.array_equal(dx[2], y)
    optional = F.from_function(lambda inputs: inputs[0] if inputs[1] is None else 0 * inputs[0])
    y, cache = optional.apply((), (x[2], None), train=train)
    _, dx = optional.backward((), cache, y)
    assert np.array_equal(dx[0], y)
    assert dx[1] is None
    ids = F.from_function(lambda ids: anp.eye(7)[ids])
    y, cache = ids.apply((), x[0], train=train)
    assert ids.backward((), cache, y) == ((), None)


def test_the_mode_and_the_key_reach_functions_that_ask_for_them():
    seen = []

    def f(x, train, *, rng):
        seen.append((train, rng))
        return 2 * x

    def only_train(x, train=None):
        seen.append(train)
        return 2 * x

    x = normal(2, 3)
    for model in (F.serial(F.from_function(f)), F.serial(F.from_function(only_train))):
        model.apply(((),), x)
        _, cache = model.apply(((),), x, train=True, rng=(5,))
        model.backward(((),), cache, x, input_grad=True)
    assert seen == [(False, None), (True, (5, 0)), False, True]
    seen.clear()
    alone = F.from_function(f)
    _, cache = alone.apply((), x)
    alone.backward((), cache, x)
    _, cache = alone.apply((), x, train=True, rng=(5,))
    alone.backward((), cache, x, input_grad=False)
    assert seen == [(False, None)] * 2 + [(True, (5,))] * 2


def test_any_function_of_numpy_s_names_will_do():
    for f in (anp.tanh, np.tanh, anp.sin):
        check_gradients(F.from_function(f), (3,))


# Errors


def writes(x):
    x += 1
    return x * 2


def assigns(x):
    y = 2 * x
    y[0] = 3
    return y


def broken(x):
    raise ZeroDivisionError("broken")


def test_a_function_cannot_write_into_its_arguments():
    params, x = {"weight": np.ones((3, 4), FLOAT32)}, normal(2, 3)
    before = x.copy()
    with pytest.raises(ValueError, match="read-only"):
        F.from_function(writes)((), x)

    def clears(params, x):
        params.clear()
        return x

    F.from_function(clears, dense_init)(params, x)
    assert np.array_equal(x, before)
    assert list(params) == ["weight"]


BAD = {
    "no function": (lambda: F.from_function(3), TypeError, r"a function f\(x\), got 3"),
    "parameters without init": (
        lambda: F.from_function(dense_tanh),
        TypeError,
        r"f is called as f\(x\), but dense_tanh takes \(params, x\); .* from_function\(f, init\)",
    ),
    "init without parameters": (
        lambda: F.from_function(swish, dense_init),
        TypeError,
        r"f is called as f\(params, x\), but swish takes \(x\)",
    ),
    "parameters for init": (
        lambda: F.from_function(dense_tanh, {"weight": X}),
        TypeError,
        "init must be a function, got {'weight'",
    ),
    "a shape for out_shape": (
        lambda: F.from_function(swish, out_shape=(3,)),
        TypeError,
        r"out_shape must be a function, got \(3,\)",
    ),
    "no key": (
        lambda: F.from_function(noisy).apply((), X, train=True),
        ValueError,
        "noisy needs a key in training: pass rng=",
    ),
    "a key without train": (
        lambda: F.from_function(noisy).apply((), X, rng=3),
        ValueError,
        "a key was passed, but train=False",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


OUTPUTS = {
    "a list": (lambda x: [x], "got list"),
    "a dict": (lambda x: {"y": x}, "got {y: float32"),
    "nothing": (lambda x: None, "got None"),
    "an empty tuple": (lambda x: (), r"got \(\)"),
    "a list in a tuple": (lambda x: (x, [x]), "got list"),
    "None in a tuple": (lambda x: (x, None), "got None"),
    "a number": (lambda x: 3.0, "got float"),
    "a sum over all": (anp.sum, r"got float32\[\]"),
    "an array without a batch": (lambda x: anp.reshape(anp.sum(x), ()), r"got float32\[\]"),
    "complex numbers": (lambda x: x * 1j, r"got complex64\[2, 3\]"),
    "strings": (lambda x: np.array(["a", "b"]), r"got <U1\[2\]"),
    "float64": (
        lambda x: x * np.sqrt(2),
        r"turned float32 into float64, .* write float\(np.sqrt\(2\)\)",
    ),
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("f", "message"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_of_a_wrong_type_are_errors(f, message, train):
    with pytest.raises(TypeError, match=message):
        F.from_function(f).apply((), X, train=train)


def test_numpy_functions_that_drop_gradients_are_errors():
    model = F.from_function(lambda x: np.where(x > 0, x, 0))
    with pytest.raises(TypeError, match=r"got object\[2, 3\]") as caught:
        model.apply((), X, train=True)
    assert "supports functions of autograd.numpy" in caught.value.__notes__[0]
    y, cache = model.apply((), X)
    with pytest.raises(TypeError, match=r"got object\[2, 3\]"):
        model.backward((), cache, y)


NOTES = {
    "in inference": (broken, False, ["in from_function of broken, called with float32[2, 3]"]),
    "in training": (
        broken,
        True,
        ["in from_function of broken, called with float32[2, 3], traced by autograd, which "
         "supports functions of autograd.numpy but not assignments to parts of an array"],
    ),
    "an assignment": (
        assigns,
        True,
        ["in from_function of assigns, called with float32[2, 3], traced by autograd, which "
         "supports functions of autograd.numpy but not assignments to parts of an array"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("f", "train", "notes"), NOTES.values(), ids=NOTES)
def test_errors_say_where_they_are(f, train, notes):
    model = F.serial(F.tanh(), F.from_function(f))
    place = f"in serial[1] = from_function(f={f.__name__}), given float32[2, 3], with params ()"
    if f is broken:
        place = place.removesuffix(", with params ()")
    assert notes_of(lambda: model.apply(((), ()), X, train=train)) == [*notes, place]


def test_an_error_on_the_way_back_says_where_it_is():
    model = F.serial(F.from_function(assigns))
    y, cache = model.apply(((),), X)
    inner, outer = notes_of(lambda: model.backward(((),), cache, y))
    assert inner.startswith("in from_function of assigns, called with float32[2, 3], traced by")
    assert outer == "in backward of serial[0] = from_function(f=assigns), given float32[2, 3]"


def test_without_autograd_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "autograd", None)
    with pytest.raises(ImportError, match=r"pip install 'npdl-functional\[autograd\]'"):
        F.from_function(swish)


# A value like every layer


@F.layer
def gate(bound=1.0):
    """A layer of one's own, with an argument, made of a function that nobody else can name."""
    return F.from_function(
        lambda params, x: bound * anp.tanh(x @ params["weight"]) * x, weights(weight=(None, 3))
    )


def test_a_function_is_printed_and_pickled_by_its_name():
    model = F.serial(F.from_function(dense_tanh, nested_init), F.from_function(swish))
    text = "serial(from_function(f=dense_tanh, init=nested_init), from_function(f=swish))"
    assert repr(model) == text
    assert eval(text, vars(F) | globals()) == model
    copy = pickle.loads(pickle.dumps(model))
    assert copy == model
    assert hash(copy) == hash(model)
    assert copy != F.serial(F.from_function(dense_tanh, dense_init), F.from_function(swish))
    assert repr(F.from_function(lambda x: x)) == "from_function(f=<lambda>)"
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(F.from_function(lambda x: x))


def test_json_needs_a_constructor_around_the_function():
    with pytest.raises(TypeError, match=r"JSON cannot store: <function swish .* with @layer"):
        F.serial(F.from_function(swish)).config()
    model = F.serial(gate(bound=0.5), gate())
    copies = [
        F.from_config(json.loads(json.dumps(model.config())), [gate]),
        pickle.loads(pickle.dumps(model)),
        eval(repr(model), vars(F) | globals()),
    ]
    params = model.init(0, (3,))
    for copy in copies:
        assert copy == model
        assert repr(copy) == "serial(gate(bound=0.5), gate())"
        assert np.array_equal(copy(params, X), model(params, X))
    check_gradients(model, (3,))
