"""Normalization: running statistics, numbers far from zero, and wrong input."""

import numpy as np
import pytest
from arrays import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak

import npdl.functional as F
from npdl import random, tree
from npdl.gradcheck import check_gradients

FAR = 1e4


def trained(layer, shape, *batches):
    params = layer.init(0, shape)
    for x in batches:
        params = layer.update_stats(params, layer.apply(params, x, train=True)[1])
    return params


def test_running_statistics_average_the_unbiased_variance():
    layer = F.batch_norm(momentum=0.25)
    batches = [seed + normal(6, 3, 4, seed=seed) for seed in range(3)]
    params = trained(layer, (3, 4), *batches)
    mean, variance = np.zeros(3), np.ones(3)
    for x in batches:
        mean = 0.75 * mean + 0.25 * x.mean((0, 2))
        variance = 0.75 * variance + 0.25 * x.var((0, 2), ddof=1)
    np.testing.assert_allclose(params["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(params["variance"], variance, rtol=1e-5)
    assert params["count"] == 3
    assert params["count"].shape == ()


def test_evaluation_uses_the_running_statistics_only():
    layer = F.batch_norm(epsilon=1e-3)
    params = trained(layer, (3,), normal(6, 3))
    params |= {"scale": np.float32([1, 2, 3]), "shift": np.float32([4, 5, 6])}
    x = normal(5, 3, seed=1)
    expected = (x - params["mean"]) / np.sqrt(params["variance"] + 1e-3)
    y = layer(params, x)
    np.testing.assert_allclose(y, expected * [1, 2, 3] + [4, 5, 6], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer(params, x[:1]), y[:1])


def test_evaluation_leaves_the_running_statistics_as_they_are():
    layer = F.batch_norm()
    params = trained(layer, (3,), normal(6, 3))
    _, cache = layer.apply(params, normal(4, 3, seed=1))
    assert layer.update_stats(params, cache) is params


def test_evaluating_an_untrained_batch_norm_names_the_right_call():
    model = F.serial(F.dense(3), F.batch_norm())
    params = model.init(0, (2,))
    with pytest.raises(ValueError, match=r"seen no batch.*layer\.update_stats") as raised:
        model(params, normal(4, 2))
    assert "serial[1]" in "".join(raised.value.__notes__)
    assert np.isfinite(model(trained(model, (2,), normal(4, 2)), normal(4, 2))).all()


def test_the_marker_of_a_batch_seen_survives_a_change_of_type():
    layer = F.batch_norm()
    fresh = tree.astype(layer.init(0, (3,)), np.float64)
    with pytest.raises(ValueError, match="seen no batch"):
        layer(fresh, normal(4, 3).astype(np.float64))
    params = tree.astype(trained(layer, (3,), normal(6, 3)), np.float64)
    assert layer(params, normal(4, 3).astype(np.float64)).dtype == np.float64


def test_a_frozen_batch_norm_keeps_its_running_statistics():
    layer = F.freeze(F.batch_norm())
    params = trained(F.batch_norm(), (3,), normal(6, 3))
    _, cache = layer.apply(params, normal(4, 3, seed=1), train=True)
    assert layer.update_stats(params, cache) is params


@pytest.mark.parametrize("shape", [(60000, 3), (50, 3, 80), (50, 3, 8, 10)])
def test_a_mean_of_ten_thousand_costs_the_batch_norm_no_digits(shape):
    x = np.float32(FAR) + normal(*shape)
    exact = x.astype(np.float64)
    axes = (0, *range(2, len(shape)))
    mean, variance = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
    layer = F.batch_norm(momentum=1.0)
    params = layer.init(0, shape[1:])
    y, cache = layer.apply(params, x, train=True)
    np.testing.assert_allclose(y, (exact - mean) / np.sqrt(variance + 1e-5), atol=2e-6, rtol=2e-6)
    stats = layer.update_stats(params, cache)
    np.testing.assert_allclose(stats["variance"], exact.var(axes, ddof=1), rtol=2e-6)
    np.testing.assert_allclose(stats["mean"], mean.ravel(), rtol=1e-7)
    g = normal(*shape, seed=1)
    grads, dx = layer.backward(params, cache, g)
    double = tree.astype(params, np.float64)
    _, cache = layer.apply(double, exact, train=True)
    expected, exact_dx = layer.backward(double, cache, g.astype(np.float64))
    np.testing.assert_allclose(dx, exact_dx, atol=1e-5)
    np.testing.assert_allclose(grads["scale"], expected["scale"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (F.layer_norm(), (7, 500), (1,)),
        (F.layer_norm(axes=(-2, -1)), (3, 40, 50), (1, 2)),
        (F.group_norm(1), (3, 4, 50, 60), (1, 2, 3)),
    ],
    ids=repr,
)
def test_a_mean_of_ten_thousand_costs_the_others_no_digits(layer, shape, axes):
    x = np.float32(FAR) + normal(*shape)
    exact = x.astype(np.float64)
    mean, variance = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
    y = layer(layer.init(0, shape[1:]), x)
    np.testing.assert_allclose(y, (exact - mean) / np.sqrt(variance + 1e-5), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (F.batch_norm(), (4, 3, 5)),
        (F.layer_norm(), (4, 3)),
        (F.group_norm(3), (4, 3, 5)),
        (F.rms_norm(), (4, 3)),
    ],
    ids=repr,
)
def test_features_that_do_not_vary_give_finite_numbers(layer, shape):
    x = np.full(shape, 3e4 / 7, np.float32) if layer != F.rms_norm() else np.zeros(shape, "f4")
    params = layer.init(0, shape[1:])
    y, cache = layer.apply(params, x, train=True)
    _, dx = layer.backward(params, cache, normal(*shape))
    np.testing.assert_allclose(y, 0, atol=1e-6)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize(
    "layer", [F.layer_norm(), F.rms_norm(), F.layer_norm(scale=False)], ids=repr
)
@pytest.mark.parametrize("shape", [(9001, 3), (700, 300), (3, 70000)], ids=str)
def test_rows_in_several_blocks_give_the_same_as_alone(layer, shape):
    params = tree.map(lambda leaf: leaf + normal(*leaf.shape, seed=2), layer.init(0, shape[1:]))
    x, g = normal(*shape), normal(*shape, seed=1)
    y, cache = layer.apply(params, x)
    grads, dx = layer.backward(params, cache, g)
    found = {"y": y, "dx": dx, **grads}
    params, parts = tree.astype(params, np.float64), []
    for start in range(0, len(x), 500):
        exact, exact_g = (array[start : start + 500].astype(np.float64) for array in (x, g))
        part_y, cache = layer.apply(params, exact)
        part_grads, part_dx = layer.backward(params, cache, exact_g)
        parts.append({"y": part_y, "dx": part_dx, **part_grads})
    for name, array in found.items():
        join = np.concatenate if name in ("y", "dx") else sum
        expected = join([part[name] for part in parts])
        bound = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(array, expected, rtol=0, atol=bound, err_msg=name)


def test_images_that_lie_batch_last_in_memory_stay_so():
    x = normal(2, 3, 4, 5).transpose(3, 0, 1, 2)
    layer = F.batch_norm()
    params = layer.init(0, x.shape[1:])
    y, cache = layer.apply(params, x, train=True)
    plain, plain_cache = layer.apply(params, np.ascontiguousarray(x), train=True)
    assert y.strides == x.strides
    np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-6)
    g = normal(*x.shape, seed=1)
    dx = layer.backward(params, cache, g)[1]
    np.testing.assert_allclose(dx, layer.backward(params, plain_cache, g)[1], rtol=1e-5, atol=1e-6)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.data(),
    st.booleans(),
    st.booleans(),
)
def test_gradients_hold_for_all_shapes(shape, data, scale, shift):
    options = {"scale": scale, "shift": shift, "epsilon": 1e-2}
    axes = tuple(range(-data.draw(st.integers(1, len(shape))), 0))
    groups = data.draw(st.sampled_from([n for n in range(1, 6) if shape[0] % n == 0]))
    axis = data.draw(st.integers(1, len(shape)))
    check_gradients(F.layer_norm(axes, **options), tuple(shape))
    check_gradients(F.rms_norm(axes, scale=scale, epsilon=1e-2), tuple(shape))
    check_gradients(F.group_norm(groups, **options), tuple(shape))
    check_gradients(F.batch_norm(axis=axis, **options), tuple(shape), train=True)
    check_gradients(
        F.batch_norm(axis=axis - len(shape) - 1 or -1, **options), tuple(shape), train=True
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: F.batch_norm(axis=0), "other than 0, which is the batch"),
        (lambda: F.batch_norm(axis=(1, 2)), r"got \(1, 2\)"),
        (lambda: F.batch_norm(momentum=0), r"momentum must be a number in \(0, 1\].*got 0"),
        (lambda: F.batch_norm(momentum=1.1), r"momentum must be a number in \(0, 1\].*got 1.1"),
        (lambda: F.batch_norm(epsilon=0), "epsilon must be a number above 0"),
        (lambda: F.layer_norm(epsilon=-1), "layer_norm: epsilon must be a number above 0"),
        (lambda: F.rms_norm(epsilon=float("nan")), "rms_norm: epsilon must be a number above 0"),
        (lambda: F.group_norm(2, epsilon=0), "group_norm: epsilon must be a number above 0"),
        (lambda: F.layer_norm(axes=-2), "layer_norm: axes must be -1, or several of the last"),
        (lambda: F.layer_norm(axes=1), "layer_norm: axes must be -1, or several of the last"),
        (lambda: F.layer_norm(axes=()), "layer_norm: axes must be -1, or several of the last"),
        (lambda: F.rms_norm(axes=(-3, -1)), "rms_norm: axes must be -1, or several of the last"),
        (lambda: F.group_norm(0), "positive int, as in group_norm"),
        (lambda: F.group_norm(1.5), "positive int, as in group_norm"),
        (lambda: F.batch_norm().init(0, (2, 3, 4, 5, 6)), "2 to 5 axes"),
        (lambda: F.batch_norm(axis=2).init(0, (3,)), "axis 2 is not a feature axis"),
        (lambda: F.batch_norm(axis=-2).init(0, (3,)), "axis -2 is not a feature axis"),
        (lambda: F.batch_norm().out_shape(()), "shape of one example"),
        (lambda: F.layer_norm().init(0, 5), "shape of one example"),
        (lambda: F.layer_norm((-2, -1)).init(0, (3,)), r"axes are \(-2, -1\)"),
        (lambda: F.group_norm(4).init(0, (6, 5)), "4 groups do not divide the 6 channels"),
        (lambda: F.group_norm(4).out_shape((6, 5)), "4 groups do not divide the 6 channels"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "x", "message"),
    [
        (F.batch_norm(), (3,), normal(4, 5), r"3 channels, on axis 1.*float32\[4, 5\]"),
        (F.batch_norm(), (3, 5), normal(4, 5, 3), r"3 channels, on axis 1.*\[4, 5, 3\]"),
        (F.batch_norm(), (3,), normal(0, 3), "empty"),
        (F.batch_norm(), (3, 2), normal(4, 3, 0), "empty"),
        (F.batch_norm(), (3,), normal(1, 3), "a single value per channel"),
        (F.batch_norm(), (3,), np.float32(1.0), "3 channels"),
        (F.layer_norm(), (3,), normal(4, 5), r"features of shape \(3,\).*\[4, 5\]"),
        (F.layer_norm((-2, -1)), (3, 4), normal(3, 4), r"axes are \(-2, -1\)"),
        (F.layer_norm((-2, -1)), (3, 4), normal(2, 4, 3), r"of shape \(3, 4\).*\[2, 4, 3\]"),
        (F.group_norm(3), (6,), normal(4, 9), r"features of shape \(6,\).*\[4, 9\]"),
        (F.group_norm(3), (6,), normal(4, 5), "3 groups do not divide the 5 channels"),
        (F.rms_norm(), (3,), normal(4, 1), r"features of shape \(3,\).*\[4, 1\]"),
    ],
)
def test_wrong_input_is_named(layer, shape, x, message):
    with pytest.raises(ValueError, match=message):
        layer.apply(layer.init(0, shape), x, train=True)


@pytest.mark.parametrize(
    "layer", [F.batch_norm(), F.layer_norm(), F.group_norm(3), F.rms_norm()], ids=repr
)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((4, 3)), "nothing is promoted silently"),
        (np.ones((4, 3), int), "expected an array of floats"),
        ([[1.0, 2.0, 3.0]], "expected a NumPy array"),
    ],
)
def test_wrong_types_are_named(layer, x, message):
    with pytest.raises(TypeError, match=f"{layer.call.name}: .*{message}"):
        layer.apply(layer.init(0, (3,)), x, train=True)


LARGE = {
    "layer_norm": (F.layer_norm(), (5,)),
    "layer_norm over two axes": (F.layer_norm(axes=(-2, -1)), (4, 3)),
    "rms_norm": (F.rms_norm(), (5,)),
    "group_norm": (F.group_norm(2), (4, 3, 2)),
    "instance norm": (F.group_norm(3, scale=False, shift=False), (3, 5)),
    "batch_norm": (F.batch_norm(), (3,)),
    "batch_norm of images": (F.batch_norm(shift=False), (3, 4, 2)),
}


@pytest.mark.parametrize("scale", [1e12, 1e18, 1e20, 1e30, 5e37])
@pytest.mark.parametrize(("layer", "shape"), LARGE.values(), ids=LARGE)
def test_large_numbers_are_normalized_as_others_are(layer, shape, scale):
    generator = random.generator(1)
    params = tree.map(
        lambda leaf: (leaf + 0.1 * generator.normal(size=leaf.shape)).astype(np.float32),
        layer.init(0, shape),
    )
    x, g = (generator.normal(size=(6, *shape)).astype(np.float32) for _ in range(2))
    # Without epsilon's share, in float64, where the squares are finite.
    wide = tree.astype((params, 1e10 * x.astype(np.float64), g), np.float64)
    y64, cache64 = layer.apply(*wide[:2], train=True)
    grads64, dx64 = layer.backward(wide[0], cache64, wide[2])
    y, cache = layer.apply(params, x * np.float32(scale), train=True)
    grads, dx = layer.backward(params, cache, g)
    assert np.allclose(y, y64, rtol=1e-4, atol=1e-5)
    assert tree.all_close(tree.astype(grads, np.float64), grads64, rtol=1e-4, atol=1e-4)
    assert np.allclose(dx.astype(np.float64) * scale, dx64 * 1e10, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("layer", "shape"), LARGE.values(), ids=LARGE)
def test_large_numbers_change_no_bit_of_other_rows(layer, shape):
    params = layer.init(0, shape)
    x = random.generator(2).normal(size=(6, *shape)).astype(np.float32)
    expected = layer.apply(params, x, train=True)[0]
    large = x.copy()
    beside = np.s_[:, 1:] if layer.call.name == "batch_norm" else np.s_[1:]
    large[np.s_[:, 0] if layer.call.name == "batch_norm" else 0] *= 1e25
    y = layer.apply(params, large, train=True)[0]
    assert np.array_equal(y[beside], expected[beside])
    assert np.allclose(y, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("layer", "shape"), LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("value", [0.0, 1e-20, 3e37, np.nan, np.inf])
def test_a_constant_is_normalized_to_zero_and_nan_stays(layer, shape, value):
    x = np.full((6, *shape), value, np.float32)
    y = layer.apply(layer.init(0, shape), x, train=True)[0]
    if not np.isfinite(value):
        assert np.isnan(y).all()
    elif layer.call.name == "rms_norm" and value > 1:
        assert np.allclose(y, 1, atol=1e-5)
    else:
        assert np.allclose(y, 0, atol=1e-3)


def test_float64_too_beyond_the_square_root_of_its_range():
    x = np.array([[1.0, 2.0, 4.0], [1.0, 1.0, 3.0]])
    for layer in (F.layer_norm(), F.rms_norm(), F.group_norm(1), F.batch_norm()):
        params = tree.astype(layer.init(0, (3,)), np.float64)
        expected = layer.apply(params, x * 1e10, train=True)[0]
        assert np.allclose(layer.apply(params, x * 1e200, train=True)[0], expected)


def test_statistics_that_no_float32_holds_are_an_error():
    layer, x = F.batch_norm(), np.array([[1], [3]], np.float32)
    params = layer.init(0, (1,))
    _, cache = layer.apply(params, x * np.float32(1e25), train=True)
    with pytest.raises(ValueError, match="variance of this batch is too large for float32"):
        layer.update_stats(params, cache)
    _, cache = layer.apply(params, x * np.float32(1e19), train=True)
    assert layer.update_stats(params, cache)["variance"] == pytest.approx(2e37, rel=1e-5)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_the_error_on_a_large_variance_says_a_remedy_that_helps(dtype, size):
    layer, x = F.batch_norm(), np.array([[1, 2], [3, 4]], dtype) * dtype(size)
    params = tree.astype(layer.init(0, (2,)), dtype)
    with pytest.raises(ValueError, match=r"divide the inputs by .*np\.abs\(x\)\.max\(\)") as caught:
        layer.update_stats(params, layer.apply(params, x, train=True)[1])
    assert ("compute in float64" in str(caught.value)) == (dtype is np.float32)
    remedies = {"divided": (params, x / np.abs(x).max())}
    if dtype is np.float32:
        remedies["wider"] = tree.astype(params, np.float64), x.astype(np.float64)
    for changed, inputs in remedies.values():
        after = layer.update_stats(changed, layer.apply(changed, inputs, train=True)[1])
        assert np.isfinite(after["variance"]).all()


def test_a_channel_of_nan_is_not_called_too_large():
    layer = F.batch_norm()
    x = np.array([[1.2e19, np.nan], [-1.2e19, 1], [1.2e19, 1]], np.float32)
    params = layer.init(0, (2,))
    after = layer.update_stats(params, layer.apply(params, x, train=True)[1])
    assert np.isfinite(after["variance"][0])
    assert np.isnan(after["variance"][1])


@pytest.mark.parametrize("layer", [F.layer_norm(), F.rms_norm()], ids=repr)
def test_inference_makes_no_array_but_the_output(layer):
    params, x = layer.init(0, (64,)), normal(4000, 64)
    most, y = peak(lambda: layer(params, x))
    assert most < 1.3 * y.nbytes
