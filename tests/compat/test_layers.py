"""Properties of every stateful layer, over the table in `compat_layers.py`."""

import copy
import json
import pickle

import numpy as np
import pytest
from arrays import normal64, same_bits
from compat_layers import BATCH, CASES, Case, after

import npdl
from npdl import layers, tree


def rows(chosen=lambda case: True):
    cases = {name: case for name, case in CASES.items() if chosen(case)}
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


each_case = rows()
each_trained = rows(lambda case: case.params)
# Rows with a mask or states have a fixed batch size.
each_independent = rows(lambda case: case.params and not case.mixes and not case.forward)
MODES = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


def with_weights_of(other, case, layer=None):
    """Return another connected layer of the row, with the same weights."""
    layer = case.made() if layer is None else layer
    layer.connect_to(after(*case.shape))
    for name in (*case.params, *case.statistics, *case.untrained):
        setattr(layer, name, getattr(other, name))
    if isinstance(layer, layers.Functional):
        for mine, array in zip(layer.params, other.params, strict=True):
            mine[...] = array
    return layer


@each_trained
def test_params_and_grads_have_the_documented_order_and_names(case: Case):
    layer = case.connected()
    assert layer.parameter_names == tuple(case.params)
    assert len(layer.params) == len(layer.grads)
    assert all(g is None for g in layer.grads)
    layer.backward(normal64(*case.call(layer).shape))
    arrays = zip(layer.params, layer.grads, layer.param_grads, strict=True)
    for (name, shape), (array, g, pair) in zip(case.params.items(), arrays, strict=True):
        assert array.shape == g.shape == shape, name
        for other in (getattr(layer, name), pair[0]):
            assert np.shares_memory(array, other)
            assert np.array_equal(array, other)
        for other in (getattr(layer, f"d{name}"), pair[1]):
            assert np.shares_memory(g, other)
            assert np.array_equal(g, other)


@each_case
def test_the_declared_shape_is_the_actual_shape(case: Case):
    layer = case.connected()
    assert layer.out_shape == (None, *case.out)
    assert case.call(layer).shape == (BATCH, *case.out)
    assert case.call(layer, train=False).shape == (BATCH, *case.out)


@each_case
@MODES
def test_gradients_are_sums_over_the_batch(case: Case, train):
    npdl.utils.set_dtype("float64")
    layer, x = case.connected(), case.input()
    case.call(layer)
    weights = normal64(*case.call(layer, train=train).shape, seed=8)
    dx = layer.backward(weights)
    points = list(zip(layer.params, layer.grads, strict=True))
    if case.differentiable:
        points.append((x, dx))
    else:
        assert dx is None
    for i, (array, gradient) in enumerate(points):
        assert gradient.shape == array.shape
        for seed in range(2):
            d = normal64(*array.shape, seed=(9, i, seed))
            ends = []
            before = array.copy()
            for step in (1e-6, -1e-6):
                array += step * d
                ends.append(np.sum(weights * case.call(layer, x, train=train)))
                array[...] = before
            numeric = (ends[0] - ends[1]) / 2e-6
            assert abs(numeric - np.sum(gradient * d)) < 1e-6 * max(np.linalg.norm(gradient), 1)


@each_independent
def test_a_doubled_batch_has_twice_the_gradient(case: Case):
    npdl.utils.set_dtype("float64")
    layer, x = case.connected(), case.input()
    g = normal64(*case.call(layer, x).shape)
    layer.backward(g)
    once = [array.copy() for array in layer.grads]
    case.call(layer, np.concatenate([x, x]))
    layer.backward(np.concatenate([g, g]))
    for one, two in zip(once, layer.grads, strict=True):
        np.testing.assert_allclose(two, 2 * one, rtol=1e-12, atol=1e-12)


@each_trained
def test_in_place_changes_of_params_change_the_layer(case: Case):
    layer = case.connected()
    held, before = layer.params, case.call(layer)
    case.call(layer)
    layer.backward(normal64(*before.shape))
    for i, array in enumerate(held):
        array -= 0.1 * normal64(*array.shape, seed=i)
        assert np.array_equal(layer.params[i], array)
    after_update = case.call(layer)
    assert not np.array_equal(before, after_update)
    assert np.array_equal(after_update, case.call(with_weights_of(layer, case)))


@each_trained
def test_assigned_weights_are_copied_into_the_layers_arrays(case: Case):
    layer, other = case.connected(), case.connected(noise=0.7)
    held = layer.params
    for name in case.params:
        given = np.array(getattr(other, name), np.float64)
        setattr(layer, name, given)
        given += 1
    assert same_bits(held, other.params)
    assert same_bits(layer.params, other.params)
    assert np.array_equal(case.call(layer), case.call(other))
    name, shape = next(iter(case.params.items()))
    with pytest.raises(ValueError, match="has the shape"):
        setattr(layer, name, np.zeros((*shape, 1)))


@each_case
def test_a_first_layer_returns_none_and_has_the_same_grads(case: Case):
    layer = case.connected()
    g = normal64(*case.call(layer).shape)
    layer.backward(g)
    grads = layer.grads
    layer.first_layer = True
    case.call(layer)
    assert layer.backward(g) is None
    assert same_bits(grads, layer.grads)


@each_case
@MODES
def test_the_configuration_and_the_weights_give_the_same_outputs(case: Case, train):
    layer = case.connected()
    case.call(layer)
    config = layer.to_json()
    text = json.dumps(config)
    loaded = layers.Layer.from_json(text)
    assert type(loaded) is type(layer)
    assert loaded.to_json() == config == json.loads(text)
    for name, value in case.set.items():
        setattr(loaded, name, value)
    copied = with_weights_of(layer, case, loaded)
    assert np.array_equal(case.call(copied, train=train), case.call(layer, train=train))


@each_case
@MODES
def test_the_functional_layer_gives_the_same_bits(case: Case, train):
    layer = case.connected()
    seen = []
    inner = layer.functional.apply

    def spied(params, x, **options):
        seen.append((params, x, options))
        return inner(params, x, **options)

    object.__setattr__(layer.functional, "apply", spied)
    y = case.call(layer, train=train)
    (params, x, options), g = seen[0], normal64(*y.shape).astype(y.dtype)
    expected, cache = inner(params, x, **options)
    several = isinstance(expected, tuple)
    assert np.array_equal(y, expected[0] if several else expected)
    assert options["train"] is train
    dx = layer.backward(g)
    grads, expected_dx = layer.functional.backward(
        params, cache, (g, (None, None)) if several else g
    )
    assert same_bits(tree.leaves(layer.gradients), tree.leaves(grads))
    expected_dx = expected_dx[0] if isinstance(expected_dx, tuple) else expected_dx
    assert same_bits(tree.leaves(dx), tree.leaves(expected_dx))


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_have_the_configured_data_type(case: Case, dtype):
    npdl.utils.set_dtype(dtype)
    layer = case.connected()
    other = np.float32 if dtype == "float64" else np.float64
    x = case.input()
    x = x.astype(other) if x.dtype.kind == "f" and layer.params else x.astype(dtype)
    y = case.call(layer, x)
    dx = layer.backward(normal64(*y.shape).astype(y.dtype))
    for array in [y, *layer.params, *layer.grads, *tree.leaves(dx)]:
        assert array.dtype == dtype


@each_case
def test_the_callers_arrays_are_not_modified(case: Case):
    layer, x = case.connected(), case.input()
    x.flags.writeable = False
    y = case.call(layer, x)
    g, kept = normal64(*y.shape), y.copy()
    g.flags.writeable = False
    layer.backward(g)
    case.call(layer, -x if x.dtype.kind == "f" else x[::-1])
    assert np.array_equal(y, kept)


@each_case
@pytest.mark.parametrize("twin", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_and_independent(case: Case, twin):
    layer = case.connected()
    y = case.call(layer)
    other = twin(layer)
    assert np.array_equal(case.call(other), y)
    for array in layer.params:
        array += 1
    assert np.array_equal(case.call(other), y)


@each_case
def test_connecting_again_keeps_only_the_parameters(case: Case):
    layer = case.connected()
    y = case.call(layer)
    layer.backward(normal64(*y.shape))
    held, copies = layer.params, [array.copy() for array in layer.params]
    layer.connect_to(after(*case.shape))
    if type(layer) is not layers.Embedding:
        assert all(g is None for g in layer.grads)
        with pytest.raises(RuntimeError, match="call forward"):
            layer.backward(y)
    assert all(np.shares_memory(a, b) for a, b in zip(held, layer.params, strict=True))
    assert same_bits(layer.params, copies)
    assert np.array_equal(case.call(layer), y)


def test_connecting_to_another_size_initializes_parameters():
    layer = layers.Dense(3)
    layer.connect_to(after(4))
    held = layer.W
    layer.connect_to(after(5))
    assert held.shape == (4, 3)
    assert layer.W.shape == (5, 3)
    assert layer.forward(normal64(2, 5)).shape == (2, 3)


def test_a_failed_connection_leaves_the_layer_unchanged():
    layer = layers.Convolution(2, (3, 3))
    layer.connect_to(after(1, 5, 5))
    x = normal64(2, 1, 5, 5)
    y = layer.forward(x)
    with pytest.raises(ValueError, match="larger than"):
        layer.connect_to(after(1, 2, 2))
    assert layer.out_shape == (None, 2, 3, 3)
    assert np.array_equal(layer.forward(x), y)
