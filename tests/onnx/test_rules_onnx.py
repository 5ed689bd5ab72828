"""Rules of users, and the errors of layers without a rule."""

import functools
import re

import attrs
import numpy as np
import pytest
from onnx_models import agree, exported, noisy

import npdl.functional as F
from npdl import onnx
from npdl.onnx import _registry

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Forget the rules of a test."""
    monkeypatch.setattr(_registry, "_RULES", dict(_registry._RULES))


@F.layer
def scaled(by=2.0, *, offset=0.0):
    """y = a * x + offset, with one trained number."""

    def init(rng, shape):
        return {"a": np.full((), by, np.float32)}

    def apply(params, x):
        return params["a"] * x + np.float32(offset), x

    return F.Layer(init, apply, lambda params, x, g: ({"a": np.sum(g * x)}, params["a"] * g))


def add_rule(constructor=scaled):
    @onnx.rule(constructor)
    def scaled_rule(graph, params, x, *, by, offset):
        y = graph.node("Mul", x, params["a"])
        return y + offset if offset else y

    return scaled_rule


@pytest.mark.parametrize("constructor", [scaled, "scaled"], ids=["function", "name"])
def test_a_layer_of_a_user_is_exported_by_its_rule(constructor, tmp_path):
    add_rule(constructor)
    model = F.serial(F.dense(3), scaled(3.0), F.residual(scaled(offset=0.5)))
    params = model.init(0, (3,))
    agree(exported(tmp_path, model, params, (3,)), model, params, X)


def test_the_error_shows_a_rule_that_can_be_completed(tmp_path):
    model = F.serial(F.dense(3), F.graph("x", {"y": (scaled(by=3.0), "x")}, "y"))
    params = model.init(0, (3,))
    with pytest.raises(NotImplementedError) as raised:
        exported(tmp_path, model, params, (3,))
    message = str(raised.value)
    assert "scaled(by=3.0) in serial[1] → graph[y] has no rule" in message
    assert not list(tmp_path.iterdir())
    code = message.partition("such as\n")[2].replace("npdl.onnx", "onnx")
    exec(code, {"onnx": onnx})
    exported(tmp_path, model, params, (3,))


def test_a_layer_without_arguments_shows_its_rule(tmp_path):
    @F.layer
    def twice():
        return F.Layer(lambda rng, shape: (), lambda params, x: (2 * x, None), lambda *_: None)

    with pytest.raises(NotImplementedError, match=re.escape("def twice_rule(graph, params, x):")):
        exported(tmp_path, twice(), (), (3,))


def test_layers_without_a_constructor_are_named(tmp_path):
    bare = F.Layer(lambda rng, shape: (), lambda params, x: (2 * x, None), lambda *_: None)
    with pytest.raises(NotImplementedError, match=r"layer in serial\[0\] has no constructor"):
        exported(tmp_path, F.serial(bare), ((),), (3,))


def test_from_function_has_no_rule(tmp_path):
    pytest.importorskip("autograd")
    layer = F.from_function(lambda x: 2 * x)
    with pytest.raises(NotImplementedError, match=r"from_function in serial\[1\] can have no rule"):
        exported(tmp_path, F.serial(F.relu(), layer), ((), ()), (3,))
    for constructor in (F.from_function, "from_function"):
        with pytest.raises(TypeError, match="expected a constructor"):
            onnx.rule(constructor)

    @F.layer
    def doubled():
        return F.from_function(lambda x: 2 * x)

    with pytest.raises(NotImplementedError, match=r"doubled\(\) has no rule.*\n@npdl.onnx.rule"):
        exported(tmp_path, doubled(), (), (3,))
    onnx.rule(doubled)(lambda graph, params, x: x + x)
    agree(exported(tmp_path, doubled(), (), (3,)), doubled(), (), X)


@pytest.mark.parametrize(
    "wrong", [scaled(), F.dense(3), lambda x: x, None, F.softmax_cross_entropy, 3]
)
def test_only_constructors_of_layers_have_rules(wrong):
    with pytest.raises(TypeError, match=r"npdl.onnx.rule: expected a constructor"):
        onnx.rule(wrong)


def test_a_constructor_that_returns_a_layer_of_npdl_needs_no_rule(tmp_path):
    @F.layer
    def block(units):
        return F.serial(wide(units), F.relu())

    @F.layer
    def wide(units):
        return F.dense(2 * units, bias=False)

    model = block(2)
    params = model.init(0, (3,))
    agree(exported(tmp_path, model, params, (3,)), model, params, X)


def doubled_apply(inner, params, x):
    y, cache = inner.apply(params, x)
    return 2 * y, cache


@F.layer
def doubled_dense(units):
    """Change the function of another layer."""
    inner = F.dense(units)
    return attrs.evolve(inner, apply=functools.partial(doubled_apply, inner))


@pytest.mark.parametrize(
    "layer",
    [
        doubled_dense(2),
        attrs.evolve(F.dense(2), apply=lambda params, x: (F.dense(2)(params, x) * 2, None)),
        attrs.evolve(
            F.serial(F.dense(2)), apply=lambda params, x: (F.dense(2)(params[0], x) * 2, None)
        ),
    ],
    ids=["in a constructor", "without a constructor", "a combinator"],
)
def test_a_changed_function_is_not_exported_as_the_original(layer, tmp_path):
    with pytest.raises(NotImplementedError, match=r"has no rule|has changed functions"):
        exported(tmp_path, layer, layer.init(0, (3,)), (3,))


def test_a_changed_function_has_a_rule_of_its_own(tmp_path):
    @onnx.rule(doubled_dense)
    def doubled_dense_rule(graph, params, x, *, units):
        return 2 * graph.apply(F.dense(units), params, x)

    params = noisy(doubled_dense(2).init(0, (3,)))
    agree(exported(tmp_path, doubled_dense(2), params, (3,)), doubled_dense(2), params, X)


def test_a_name_does_not_take_over_a_layer_of_npdl(tmp_path):
    @onnx.rule("dense")
    def other_dense(graph, params, x, **arguments):
        return x

    params = F.dense(2).init(0, (3,))
    agree(exported(tmp_path, F.dense(2), params, (3,)), F.dense(2), params, X)


@pytest.mark.parametrize("name", ["add", "multiply", "joined", "serial", "stack", "residual"])
def test_a_name_does_not_take_over_a_combinator_of_npdl(name, tmp_path):
    onnx.rule(name)(lambda graph, params, x, *others, **arguments: x)
    joins = F.graph("x", {"y": (F.add(), ("x", "x")), "z": (F.multiply(), ("y", "x"))}, ("y", "z"))
    for model in (joins, F.stack(F.dense(3), F.dense(2)), F.residual(F.relu())):
        params = model.init(0, (3,))
        agree(exported(tmp_path, model, params, (3,)), model, params, X)


def test_a_layer_with_the_name_of_another_needs_its_own_rule(tmp_path):
    @F.layer
    def dense(units):
        return F.Layer(lambda rng, shape: (), lambda params, x: (x * units, None), lambda *_: None)

    with pytest.raises(NotImplementedError, match="has no rule"):
        exported(tmp_path, dense(3), (), (3,))


def test_a_rule_of_npdl_can_be_replaced(tmp_path):
    @onnx.rule(F.gelu)
    def gelu(graph, params, x, *, approximate):
        return graph.node("Gelu", x, approximate="tanh" if approximate else "none")

    for layer in (F.gelu(), F.gelu(approximate=True)):
        agree(exported(tmp_path, layer, (), (3,), opset=20), layer, (), X)
    with pytest.raises(Exception, match="Gelu") as raised:
        exported(tmp_path, F.gelu(), (), (3,))
    assert "npdl.onnx.save" in "".join(raised.value.__notes__)


def test_a_rule_replaces_the_former_one(tmp_path):
    onnx.rule(scaled)(lambda graph, params, x, **arguments: x)
    add_rule()
    params = scaled().init(0, (3,))
    agree(exported(tmp_path, scaled(), params, (3,)), scaled(), params, X)


@pytest.mark.parametrize("wrong", [X, None, (X,), "x"], ids=lambda wrong: type(wrong).__name__)
def test_a_rule_that_returns_no_value_is_refused(wrong, tmp_path):
    onnx.rule(scaled)(lambda graph, params, x, **arguments: wrong)
    with pytest.raises(TypeError, match=r"the rule of scaled\(\) must return a value"):
        exported(tmp_path, scaled(), scaled().init(0, (3,)), (3,))


def test_an_error_of_a_rule_names_the_layer(tmp_path):
    @onnx.rule(scaled)
    def broken(graph, params, x, **arguments):
        raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError, match="broken") as raised:
        exported(tmp_path, F.serial(scaled(3.0)), (scaled().init(0, (3,)),), (3,))
    assert "in the ONNX rule of scaled(by=3.0)" in raised.value.__notes__


@F.layer
def attended():
    """Several inputs and outputs: (x, mask, ids) -> (masked x, (largest id, mask))."""

    def apply(params, x):
        values, mask, ids = x
        y = np.where(mask[:, :, None], values, 0).astype(values.dtype)
        return (y, (ids.max(axis=1, keepdims=True), mask)), None

    def out_shape(shape):
        return shape[0], ((1,), shape[1])

    return F.Layer(lambda rng, shape: (), apply, lambda *_: ((), None), out_shape)


def test_a_rule_has_several_inputs_and_outputs_of_any_type(tmp_path):
    @onnx.rule(attended)
    def attended_rule(graph, params, x, mask, ids):
        mask, ids = graph.cast(mask, bool), graph.cast(ids, np.int64)
        y = graph.node("Where", graph.node("Unsqueeze", mask, [2]), x, 0.0)
        return y, (graph.reduce("ReduceMax", ids, [1]), mask)

    shape = ((None, 3), (None,), (None,))
    running = exported(tmp_path, attended(), (), shape)
    assert [value.type[7:-1] for value in running.get_inputs()] == ["float", "bool", "int64"]
    assert [value.type[7:-1] for value in running.get_outputs()] == ["float", "int64", "bool"]
    x = np.ones((2, 4, 3), np.float32), np.eye(2, 4, dtype=bool), np.arange(8).reshape(2, 4)
    agree(running, attended(), (), x)


def test_a_rule_may_belong_to_a_layer_that_does_not_tell_its_shape(tmp_path):
    @F.layer
    def one_hot(count):
        def apply(params, ids):
            return np.eye(count, dtype=np.float32)[ids], None

        return F.Layer(lambda rng, shape: (), apply, lambda *_: ((), None))

    @onnx.rule(one_hot)
    def one_hot_rule(graph, params, ids, *, count):
        return graph.node("Gather", np.eye(count, dtype=np.float32), graph.cast(ids, np.int64))

    running = exported(tmp_path, F.serial(one_hot(4)), ((),), (None,))
    agree(running, F.serial(one_hot(4)), ((),), np.array([[1, 0, 3], [2, 2, 2]]))


def test_a_pair_for_an_output_with_two_axes_is_refused(tmp_path):
    onnx.rule(scaled)(lambda graph, params, x, **arguments: (x, x))
    with pytest.raises(ValueError, match="has 1 outputs, but its rules return 2"):
        exported(tmp_path, scaled(), scaled().init(0, (3,)), (3, 2))


def test_a_rule_with_other_outputs_than_the_layer_is_refused(tmp_path):
    onnx.rule(scaled)(lambda graph, params, x, **arguments: (x, x))
    with pytest.raises(ValueError, match="has 1 outputs, but its rules return 2: output_0"):
        exported(tmp_path, scaled(), scaled().init(0, (3,)), (3,))


def test_operators_of_values_are_equations(tmp_path):
    @F.layer
    def equation():
        def apply(params, x):
            a = params["a"]
            y = (1 - x) * 2 / (3 + x * x) - a @ a / 4 + (x @ a) * np.float32(0.5) - x / a[0]
            return 2 / (y * y + 1) + a, None

        def init(rng, shape):
            return {"a": F.glorot_uniform()(rng, (3, 3)) + 2}

        return F.Layer(init, lambda params, x: (apply(params, x)[0][0:], None), lambda *_: None)

    @onnx.rule(equation)
    def equation_rule(graph, params, x):
        a = params["a"]
        y = (1 - x) * 2 / (3 + x * x) - graph.constant(a) @ a / 4 + (x @ a) * np.float32(0.5)
        y = y - x / a[0].astype(np.float64)
        return np.float32(2) / (y**2 + np.int64(1)) + a

    params, x = equation().init(0, (3,)), np.ones((3, 3), np.float32)
    agree(exported(tmp_path, equation(), params, (3,)), equation(), params, x)
