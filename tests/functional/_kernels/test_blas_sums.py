"""Sums over many items in float32: losses, gradients of biases, statistics."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random
from npdl.functional._kernels.blas_sums import sum_of_columns, sum_of_rows, sum_of_vector


def numbers(*shape, dtype=np.float32):
    return random.generator(shape).random(shape).astype(dtype)


COUNTS = [0, 1, 511, 512, 513, 1000, 4096, 4097, 70_001, 300_000]


@pytest.mark.parametrize(
    ("width", "count"), [(w, c) for w in (1, 3, 40) for c in COUNTS if w * c < 1 << 22]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_exact_for_any_number_of_terms(count, width, dtype):
    x = numbers(count, width, dtype=dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    expected = x.sum(0, dtype=np.float64)
    for layout in (np.ascontiguousarray, np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2]):
        found = sum_of_rows(layout(x))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance)
        np.testing.assert_allclose(sum_of_columns(layout(x.T)), expected, rtol=tolerance)
    np.testing.assert_allclose(sum_of_vector(x[:, 0].copy()), expected[0], rtol=tolerance)


@pytest.mark.parametrize("value", [0.1, 1 / 3, np.log(3)])
def test_equal_terms_do_not_drift(value):
    x = np.full((2_000_003, 2), value, np.float32)
    expected = [float(x[0, 0]) * len(x)] * 2
    np.testing.assert_allclose(sum_of_rows(x), expected, rtol=2e-6)
    np.testing.assert_allclose(sum_of_columns(x.T), expected, rtol=2e-6)
    np.testing.assert_allclose(sum_of_columns(np.ascontiguousarray(x.T)), expected, rtol=2e-6)
    np.testing.assert_allclose(sum_of_vector(x[:, 0].copy()), expected[0], rtol=1e-6)


COUNT = 1_000_003
# A layer, the shape of an example, and the parameters whose gradients are sums over examples.
LAYERS = {
    "dense": (F.dense(1), (1,), ["bias"]),
    "batch_norm": (F.batch_norm(), (1,), ["shift"]),
    "layer_norm": (F.layer_norm(), (2,), ["shift"]),
    "convolution": (F.conv1d(1, 1), (1, 4), ["bias"]),
    "embedding": (F.embedding(3, 1), (), ["table"]),
    "positions": (F.learned_positions(1), (1, 1), ["table"]),
}


@pytest.mark.parametrize(("layer", "shape", "names"), LAYERS.values(), ids=LAYERS)
def test_gradients_of_a_million_examples_keep_their_digits(layer, shape, names):
    params = layer.init(0, shape)
    x = numbers(COUNT, *shape) if shape else np.zeros(COUNT, int)
    y, cache = layer.apply(params, x, train=True)
    g = np.full(y.shape, 0.1, np.float32)
    grads, _ = layer.backward(params, cache, g, input_grad=False)
    expected = float(g.flat[0]) * g.size / y.shape[1] if y.ndim == 2 else float(g.flat[0]) * g.size
    for name in names:
        largest = np.abs(grads[name]).max()
        np.testing.assert_allclose(largest, expected, rtol=2e-6, err_msg=name)


def test_ids_that_occur_often_and_seldom_have_exact_sums():
    generator = random.generator(1)
    ids = np.concatenate([np.zeros(100_001, int), [4, 4, 2], generator.integers(5, 9, 3000)])
    generator.shuffle(ids)
    layer = F.embedding(10, 3)
    params = layer.init(0, ())
    y, cache = layer.apply(params, ids)
    g = numbers(*y.shape)
    table = layer.backward(params, cache, g)[0]["table"]
    for i in range(10):
        expected = g[ids == i].sum(0, dtype=np.float64)
        np.testing.assert_allclose(table[i], expected, rtol=2e-6)
