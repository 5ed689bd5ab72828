"""Values, gradients, shapes and errors of the layers that reshape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random

# The layer, the shape of an example, and the same in NumPy.
SAME = [
    (F.flatten(), (3, 4, 5), lambda x: x.reshape(2, 60)),
    (F.flatten(axes=2), (3, 4, 5), lambda x: x.reshape(2, 3, 20)),
    (F.flatten(axes=3), (3, 4, 5), lambda x: x.reshape(2, 3, 4, 5)),
    (F.flatten(axes=4), (3, 4, 5), lambda x: x.reshape(2, 3, 4, 5, 1)),
    (F.flatten(), (), lambda x: x.reshape(2, 1)),
    (F.reshape((5, 12)), (3, 4, 5), lambda x: x.reshape(2, 5, 12)),
    (F.reshape([6, -1, 2]), (3, 4, 5), lambda x: x.reshape(2, 6, 5, 2)),
    (F.reshape(()), (1, 1), lambda x: x.reshape(2)),
    (F.expand_dims(1), (3, 4), lambda x: x[:, None]),
    (F.expand_dims(2), (3, 4), lambda x: x[:, :, None]),
    (F.expand_dims(3), (3, 4), lambda x: x[:, :, :, None]),
    (F.expand_dims(-1), (3, 4), lambda x: x[..., None]),
    (F.expand_dims(-3), (3, 4), lambda x: x[:, None]),
    (F.expand_dims(1), (), lambda x: x[:, None]),
    (F.squeeze(1), (1, 3), lambda x: x[:, 0]),
    (F.squeeze(2), (3, 1), lambda x: x[:, :, 0]),
    (F.squeeze(-1), (3, 1), lambda x: x[:, :, 0]),
    (F.squeeze(-2), (1, 3), lambda x: x[:, 0]),
    (F.transpose((0, 2, 1)), (3, 4), lambda x: x.transpose(0, 2, 1)),
    (F.transpose((0, 3, 1, 2)), (3, 4, 5), lambda x: np.moveaxis(x, 3, 1)),
    (F.transpose([0, 2, 3, 1]), (3, 4, 5), lambda x: np.moveaxis(x, 1, 3)),
    (F.transpose((0,)), (), lambda x: x),
]
each_same = pytest.mark.parametrize(
    ("layer", "shape", "function"), SAME, ids=[f"{layer}-{shape}" for layer, shape, _ in SAME]
)


@each_same
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8, np.bool_])
def test_values_are_numpys_for_arrays_of_any_type(layer, shape, function, dtype):
    x = random.generator(1).integers(0, 100, size=(2, *shape)).astype(dtype)
    y = layer(layer.init(0, shape), x)
    assert y.dtype == dtype
    assert y.shape == (2, *layer.out_shape(shape))
    np.testing.assert_array_equal(y, function(x))


@each_same
def test_the_gradient_of_each_element_goes_back_to_its_place(layer, shape, function):
    x = random.generator(1).normal(size=(2, *shape))
    y, cache = layer.apply((), x)
    np.testing.assert_array_equal(layer.backward((), cache, y)[1], x, strict=True)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
@each_same
def test_ids_and_masks_have_no_gradient(layer, shape, function, dtype):
    y, cache = layer.apply((), np.ones((2, *shape), dtype))
    assert layer.backward((), cache, np.ones(y.shape)) == (None, None)


@each_same
def test_an_empty_batch_has_the_same_shapes(layer, shape, function):
    y, cache = layer.apply((), np.ones((0, *shape), np.float32))
    assert y.shape == (0, *layer.out_shape(shape))
    assert layer.backward((), cache, y)[1].shape == (0, *shape)


@settings(max_examples=40)
@given(st.data())
def test_transposing_and_reshaping_back_gives_the_input(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    order = data.draw(st.permutations(range(1, len(shape) + 1)))
    inverse = [1 + order.index(axis) for axis in range(1, len(shape) + 1)]
    model = F.serial(
        F.transpose((0, *order)), F.transpose((0, *inverse)), F.flatten(), F.reshape(shape)
    )
    x = random.generator(1).normal(size=(3, *shape))
    y, caches = model.apply(model.init(0, shape), x)
    np.testing.assert_array_equal(y, x, strict=True)
    np.testing.assert_array_equal(model.backward(((),) * 4, caches, y)[1], x, strict=True)


UNKNOWN = [
    (F.flatten(), (None, 3), (None,)),
    (F.flatten(axes=2), (None, 3, 4), (None, 12)),
    (F.flatten(axes=2), (3, None, 4), (3, None)),
    (F.reshape((5, -1)), (None, 5), (5, None)),
    (F.reshape((5, 2)), (None, 5), (5, 2)),
    (F.expand_dims(1), (None, 3), (1, None, 3)),
    (F.squeeze(2), (None, 1), (None,)),
    (F.squeeze(1), (None, 3), (3,)),
    (F.transpose((0, 2, 1)), (None, 3), (3, None)),
]


@pytest.mark.parametrize(("layer", "shape", "expected"), UNKNOWN, ids=str)
def test_unknown_sizes_stay_unknown_and_known_ones_known(layer, shape, expected):
    assert layer.out_shape(shape) == expected
    assert layer.init(0, shape) == ()


IMPOSSIBLE = [
    (F.flatten(axes=3), (4,), r"3 leading axes stay, but examples of shape \(4,\) have 2"),
    (F.reshape((3, 7)), (4, 5), r"\(4, 5\) have 20 elements, .* fit the shape \(3, 7\)"),
    (F.reshape((3, -1)), (4, 5), r"20 elements, which do not fit the shape \(3, -1\)"),
    (F.expand_dims(4), (3, 4), r"axis 4 does not fit examples of shape \(3, 4\).* 1 to 3"),
    (F.expand_dims(-4), (3, 4), "axis -4 does not fit .* from -3 to -1"),
    (F.squeeze(3), (3, 1), r"axis 3 does not fit examples of shape \(3, 1\).* 1 to 2"),
    (F.squeeze(-3), (3, 1), "axis -3 does not fit"),
    (F.squeeze(1), (3, 1), r"axis 1 of examples of shape \(3, 1\) has size 3"),
    (F.transpose((0, 2, 1)), (3,), r"axes=\(0, 2, 1\) are for 3 axes, .* have 2"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), IMPOSSIBLE, ids=str)
def test_shapes_that_do_not_fit_are_errors_at_once_and_in_apply(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.out_shape(shape)
    with pytest.raises(ValueError, match=message):
        layer.init(0, shape)
    with pytest.raises(ValueError, match=layer.call.name):
        layer((), np.ones((2, *shape), np.float32))


@pytest.mark.parametrize("shape", [3, ((3,), (4,)), (3.0,), (-1, 3)], ids=str)
@pytest.mark.parametrize(
    "layer",
    [F.flatten(), F.reshape((-1,)), F.expand_dims(1), F.squeeze(1), F.transpose((0, 2, 1))],
    ids=str,
)
def test_an_invalid_shape_of_one_example_is_an_error(layer, shape):
    with pytest.raises(ValueError, match=f"^{layer.call.name}: expected the shape of one example"):
        layer.init(0, shape)


BAD = [
    (lambda: F.flatten(0), r"axes must be a positive int, as in flatten\(axes=2\), got 0"),
    (lambda: F.flatten(1.0), "got 1.0"),
    (lambda: F.flatten(True), "got True"),
    (lambda: F.reshape(12), r"as in reshape\(shape=\(8, -1\)\), got 12"),
    (lambda: F.reshape((3, 0)), r"got \(3, 0\)"),
    (lambda: F.reshape((3, -2)), r"got \(3, -2\)"),
    (lambda: F.reshape((3, 2.0)), r"got \(3, 2.0\)"),
    (lambda: F.reshape((-1, 2, -1)), r"only one size may be -1, got \(-1, 2, -1\)"),
    (
        lambda: F.expand_dims(0),
        r"other than 0, which is the batch, as in expand_dims\(axis=1\), got 0",
    ),
    (lambda: F.expand_dims(1.0), "got 1.0"),
    (lambda: F.squeeze(0), r"as in squeeze\(axis=1\), got 0"),
    (lambda: F.squeeze((1, 2)), r"got \(1, 2\)"),
    (lambda: F.transpose((1, 0)), r"the batch is axis 0 and must stay first, .* got \(1, 0\)"),
    (lambda: F.transpose((0, 1, 1)), r"each axis of the batch's array once, .* got \(0, 1, 1\)"),
    (lambda: F.transpose((0, 3, 1)), r"got \(0, 3, 1\)"),
    (lambda: F.transpose((0, -1)), r"got \(0, -1\)"),
    (lambda: F.transpose(()), r"as in transpose\(axes=\(0, 2, 1\)\), got \(\)"),
    (lambda: F.transpose(2), "got 2"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_refused_where_they_are_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
