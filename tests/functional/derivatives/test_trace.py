"""The activations and gradients inside a model, by path."""

import numpy as np
import pytest
from arrays import normal64, read_only, same_bits
from cases import CASES

import npdl.functional as F
from npdl import random, tree

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def loss_of(y):
    value = sum(np.sum(np.cos(part)) for part in tree.leaves(y))
    return value, tree.map(lambda part: -np.sin(part), y)


@each_case
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_a_traced_model_computes_the_same_bits(case, train):
    params, x = read_only((case.params(), case.x(3)))
    mode = {"train": train, "rng": (5,) if train else None}
    traced = F.trace_layers(case.layer, params, x, loss_of, **mode)
    gradient = F.value_and_grad(case.layer, loss_of, input_grad=True)
    value, grads, aux = gradient(params, x, **mode)
    assert same_bits(traced.loss, value)
    assert tree.paths(traced.grads) == tree.paths(grads)
    for ours, expected in zip(tree.leaves(traced.grads), tree.leaves(grads), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    for ours, expected in zip(
        tree.leaves(traced.input_grad), tree.leaves(aux.input_grad), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    assert list(traced.layers)[-len(traced) :] == list(traced) or list(traced) == [""]
    assert len(repr(traced).splitlines()) == len(traced) + 4
    assert "<table" in traced._repr_html_()


def test_the_gradient_of_each_activation_is_the_gradient_of_the_rest():
    layers = [F.dense(5), F.tanh(), F.residual(F.dense(5), F.relu()), F.dense(3)]
    model = F.serial(*layers)
    params = tree.astype(model.init(0, (4,)), np.float64)
    x, labels = normal64(6, 4, seed=1), np.arange(6) % 3
    traced = F.trace_layers(model, params, x, F.softmax_cross_entropy, labels)
    assert list(traced) == ["0", "1", "2", "2/0", "2/1", "2/sum", "3"]
    for i in range(4):
        rest = F.serial(*layers[i + 1 :])
        gradient = F.value_and_grad(rest, F.softmax_cross_entropy, input_grad=True)
        _, _, aux = gradient(params[i + 1 :], traced[str(i)].output, labels)
        np.testing.assert_allclose(traced[str(i)].gradient, aux.input_grad, atol=1e-15)
    inside = traced["2/1"].output + traced["1"].output
    assert np.array_equal(inside, traced["2"].output)


def test_a_value_that_is_read_twice_has_the_sum_of_the_gradients():
    model = F.graph(
        "x",
        {
            "a": (F.dense(3), "x"),
            "b": (F.tanh(), "a"),
            "c": (F.multiply(), ("a", "b")),
            "unused": (F.dense(2), "a"),
        },
        "c",
    )
    params = tree.astype(model.init(0, (4,)), np.float64)
    traced = F.trace_layers(model, params, normal64(5, 4), loss_of)
    a, b = traced["a"].output, traced["b"].output
    g = traced["c"].gradient
    np.testing.assert_allclose(traced["a"].gradient, g * b + g * a * (1 - b * b))
    assert traced["unused"].gradient is None
    assert traced["unused"].output.shape == (5, 2)


def test_several_outputs_and_missing_inputs_are_shown():
    model = F.serial(F.lstm(4, return_state=True))
    params, x = model.init(0, (5, 3)), np.ones((2, 5, 3), np.float32)
    traced = F.trace_layers(model, params, x)
    y, (h, _) = traced["0"].output
    assert np.array_equal(y, h)
    assert traced["0"].gradient is traced.grads is traced.loss is None
    assert "((batch, 4), ((batch, 4), (b...)" in repr(traced)
    assert repr(traced).endswith("no loss")


def test_a_trace_is_a_tree():
    model = F.serial(F.dense(2), F.dense(3))
    traced = F.trace_layers(model, model.init(0, (4,)), np.ones((5, 4), np.float32), loss_of)
    shapes = tree.map(np.shape, traced)
    assert tree.paths(traced) == ["0/output", "0/gradient", "1/output", "1/gradient"]
    assert shapes["1"].output == (5, 3)


def test_a_single_layer_has_one_entry():
    traced = F.trace_layers(F.tanh(), (), np.zeros((2, 3)), loss_of)
    assert list(traced) == [""]
    assert repr(traced).splitlines()[2].startswith("tanh()")


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="trace_layers: argument 0 is 3, not a layer"):
        F.trace_layers(3, (), np.zeros(2))
    with pytest.raises(TypeError, match="trace_layers: expected a loss or None, got 'mse'"):
        F.trace_layers(F.tanh(), (), np.zeros((2, 3)), "mse")


def test_activations_and_gradients_agree_with_hooks_of_pytorch():
    torch = pytest.importorskip("torch")
    model = F.serial(F.conv2d(4, 3), F.relu(), F.max_pool2d(2), F.flatten(), F.dense(5), F.tanh())
    params = model.init(0, (2, 8, 6))
    x = random.generator(1).normal(size=(7, 2, 8, 6)).astype(np.float32)
    labels = np.arange(7) % 5
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(24, 5), torch.nn.Tanh(),
    )  # fmt: skip
    state = {
        "0.weight": params[0]["weight"],
        "0.bias": params[0]["bias"],
        "4.weight": params[4]["weight"].T,
        "4.bias": params[4]["bias"],
    }
    theirs.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    outputs, gradients = {}, {}
    for i, module in enumerate(theirs):

        def keep(module, _, y, i=i):
            outputs[str(i)] = y
            y.register_hook(lambda g: gradients.__setitem__(str(i), g))

        module.register_forward_hook(keep)
    value = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
    value.backward()
    traced = F.trace_layers(model, params, x, F.softmax_cross_entropy, labels)
    assert list(traced) == list(outputs)
    np.testing.assert_allclose(traced.loss, value.item(), rtol=1e-6)
    for path, (y, g) in traced.items():
        np.testing.assert_allclose(y, outputs[path].detach().numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(g, gradients[path].numpy(), rtol=1e-5, atol=1e-6)
