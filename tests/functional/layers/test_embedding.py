"""Embedding: ids of all kinds, repeated ids, padding, and wrong ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npdl.functional as F
from npdl import random


def table(vocabulary, units):
    return random.generator(0).normal(size=(vocabulary, units)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])
def test_every_type_of_ints_selects_the_same_rows(dtype):
    layer, params = F.embedding(100, 3), {"table": table(100, 3)}
    ids = np.array([[99, 0], [7, 99], [1, 2]], dtype)
    y, cache = layer.apply(params, ids)
    np.testing.assert_array_equal(y, params["table"][ids.astype(int)])
    grads, dx = layer.backward(params, cache, np.ones_like(y))
    assert dx is None
    assert grads["table"][99].tolist() == [2, 2, 2]
    assert grads["table"].sum() == 18


@pytest.mark.parametrize("shape", [(), (4,), (4, 2), (4, 2, 3)])
def test_ids_may_have_any_number_of_axes(shape):
    layer = F.embedding(5, 3)
    ids = np.zeros((2, *shape), int)
    assert layer(layer.init(0, shape), ids).shape == (2, *layer.out_shape(shape)) == (2, *shape, 3)


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 60), st.integers(0, 2**32))
def test_the_gradient_adds_up_the_rows_of_each_id(vocabulary, units, count, seed):
    generator = random.generator(seed)
    # The smaller of two draws: some ids are frequent, and others do not occur.
    ids = generator.integers(0, vocabulary, size=(2, count)).min(axis=0)
    g = generator.normal(size=(count, units))
    layer, params = F.embedding(vocabulary, units), {"table": np.zeros((vocabulary, units))}
    expected = np.zeros((vocabulary, units))
    for position, row in zip(ids, g, strict=True):
        expected[position] += row
    _, cache = layer.apply(params, ids)
    grads, _ = layer.backward(params, cache, g)
    np.testing.assert_allclose(grads["table"], expected, rtol=1e-12, atol=1e-12)


def test_padding_gives_zeros_and_its_row_is_not_trained():
    layer = F.embedding(5, 3, padding_id=2)
    assert not layer.init(0, (4,))["table"][2].any()
    assert layer.init(0, (4,))["table"][[0, 1, 3, 4]].all()
    params = {"table": table(5, 3)}
    y, cache = layer.apply(params, np.array([[2, 1, 2], [2, 4, 4]]))
    expected = params["table"][[[2, 1, 2], [2, 4, 4]]]
    expected[[0, 0, 1], [0, 2, 0]] = 0
    np.testing.assert_array_equal(y, expected)
    grads, _ = layer.backward(params, cache, np.ones_like(y))
    assert grads["table"].tolist() == [[0] * 3, [1] * 3, [0] * 3, [0] * 3, [2] * 3]


def test_the_padding_row_is_zeroed_in_a_copy_of_the_table():
    given_rows = table(5, 3)
    given_rows.flags.writeable = False
    params = F.embedding(5, 3, padding_id=0, table_init=lambda rng, shape: given_rows).init(0, ())
    assert given_rows[0].all()
    np.testing.assert_array_equal(params["table"][1:], given_rows[1:])


def test_a_frozen_embedding_is_a_static_table():
    layer, params = F.freeze(F.embedding(5, 3)), {"table": table(5, 3)}
    y, cache = layer.apply(params, np.array([1, 4]))
    assert layer.backward(params, cache, y) == (None, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: F.embedding(0, 3), r"vocabulary must be a positive int.*got 0"),
        (lambda: F.embedding(5, 2.0), r"units must be a positive int.*got 2.0"),
        (lambda: F.embedding(5, 3, padding_id=5), "padding_id must be one of the ids 0 to 4"),
        (lambda: F.embedding(5, 3, padding_id=-1), "padding_id must be one of the ids 0 to 4"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (np.array([[0, 5]]), ValueError, "the id 5 is not in the vocabulary, whose ids are 0 to 4"),
        (np.array([0, -1]), ValueError, "the id -1 is not in the vocabulary"),
        (np.array([2**63], np.uint64), ValueError, f"the id {2**63} is not in the vocabulary"),
        (np.array([0.0, 1.0]), TypeError, r"which are ints, got float64\[2\]"),
        (np.array([True, False]), TypeError, r"got bool\[2\]"),
        ([0, 1], TypeError, "got list"),
    ],
)
def test_wrong_ids_are_named(ids, error, message):
    layer = F.embedding(5, 3)
    with pytest.raises(error, match=message):
        layer(layer.init(0, (2,)), ids)


@pytest.mark.parametrize("padding_id", [None, 3])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)], ids=["float32", "float64"]
)
def test_output_and_gradient_agree_with_pytorch(padding_id, dtype, tolerance):
    torch = pytest.importorskip("torch")
    rows = table(7, 4).astype(dtype)
    if padding_id is not None:
        rows[padding_id] = 0  # PyTorch gives the row as it is, which is zero at first
    ids = random.generator(1).integers(0, 7, size=(5, 6))
    layer, params = F.embedding(7, 4, padding_id=padding_id), {"table": rows}
    y, cache = layer.apply(params, ids)
    g = random.generator(2).normal(size=y.shape).astype(dtype)
    module = torch.nn.Embedding(7, 4, padding_id, _weight=torch.tensor(rows))
    their_y = module(torch.tensor(ids))
    their_y.backward(torch.tensor(g))
    np.testing.assert_array_equal(y, their_y.detach())
    gradient = layer.backward(params, cache, g)[0]["table"]
    np.testing.assert_allclose(gradient, module.weight.grad, atol=tolerance)
