"""Positions: the formula, its limits, the learned table, and bad input."""

import math

import numpy as np
import pytest
from arrays import normal64

import npdl.functional as F


@pytest.mark.parametrize("features", [1, 2, 7, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-7), (np.float64, 1e-12)])
def test_sines_and_cosines_alternate_with_falling_frequency(features, dtype, tolerance):
    y = F.sinusoidal_positions()((), np.zeros((2, 50, features), dtype))
    assert y.dtype == dtype
    for t in (0, 1, 2, 49):
        for i in range(features):
            angle = t / 10000 ** ((i - i % 2) / features)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert abs(y[0, t, i] - expected) <= tolerance
    assert np.array_equal(y[0], y[1])


def test_the_positions_are_added_and_do_not_depend_on_the_length():
    layer, x = F.sinusoidal_positions(), normal64(3, 9, 6)
    y, cache = layer.apply((), x)
    np.testing.assert_array_equal(layer((), x[:, :4]), y[:, :4])
    np.testing.assert_allclose(y - x, layer((), np.zeros_like(x)), atol=1e-15)
    g = normal64(3, 9, 6)
    assert np.array_equal(layer.backward((), cache, g)[1], g)


def test_the_shift_of_positions_is_a_rotation():
    # The reason in section 3.5 of the paper: p[t + k] is linear in p[t], for any k.
    p = F.sinusoidal_positions()((), np.zeros((1, 40, 6)))[0]
    rotation, *_ = np.linalg.lstsq(p[:30], p[7:37], rcond=None)
    np.testing.assert_allclose(p[3:33] @ rotation, p[10:40], atol=1e-9)


def test_a_learned_table_is_added_and_unused_rows_get_zeros():
    layer = F.learned_positions(9)
    params = layer.init(0, (5, 6))
    assert params["table"].shape == (9, 6)
    x, g = normal64(3, 5, 6, dtype="f4"), normal64(3, 5, 6, dtype="f4")
    y, cache = layer.apply(params, x)
    np.testing.assert_array_equal(y, x + params["table"][:5])
    grads, dx = layer.backward(params, cache, g)
    np.testing.assert_allclose(grads["table"][:5], g.sum(axis=0), rtol=1e-5, atol=1e-6)
    assert not grads["table"][5:].any()
    assert np.array_equal(dx, g)


def test_the_initial_table_is_small_relative_to_embeddings():
    table = F.learned_positions(200).init(0, (5, 60))["table"]
    assert table.dtype == np.float32
    assert abs(table.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * table.size)
    given = F.learned_positions(9, table_init=F.constant(3.0)).init(0, (5, 6))["table"]
    assert (given == 3).all()


def test_the_time_may_be_left_open_or_be_as_long_as_the_table():
    for layer in (F.sinusoidal_positions(), F.learned_positions(9)):
        assert layer.out_shape((None, 6)) == (None, 6)
        params = layer.init(0, (None, 6))
        for steps in (0, 9):
            assert layer(params, np.zeros((2, steps, 6), "f4")).shape == (2, steps, 6)


X = normal64(3, 5, 6, dtype="f4")
WRONG = {
    "longer than the table": (
        lambda: F.learned_positions(4)({"table": np.zeros((4, 6), "f4")}, X),
        ValueError,
        r"5 steps is longer than the table of 4; .*learned_positions\(5\)",
    ),
    "declared longer": (
        lambda: F.learned_positions(4).init(0, (5, 6)),
        ValueError,
        "5 steps is longer than the table of 4",
    ),
    "other features": (
        lambda: F.learned_positions(9)({"table": np.zeros((9, 7), "f4")}, X),
        ValueError,
        r"take \(batch, time, 7\), got float32\[3, 5, 6\]",
    ),
    "another type": (
        lambda: F.learned_positions(9)({"table": np.zeros((9, 6), "f4")}, X.astype("f8")),
        TypeError,
        r"float64\[3, 5, 6\], but the parameters are float32",
    ),
    "ids": (
        lambda: F.sinusoidal_positions()((), np.zeros((3, 5, 6), int)),
        TypeError,
        r"expected an array of floats, got int64\[3, 5, 6\]",
    ),
    "one step": (
        lambda: F.sinusoidal_positions()((), X[:, 0]),
        ValueError,
        r"expected \(batch, time, features\), got float32\[3, 6\]",
    ),
    "one axis": (
        lambda: F.sinusoidal_positions().out_shape((6,)),
        ValueError,
        r"expected the shape of one example, \(time, features\), got \(6,\)",
    ),
    "no features": (
        lambda: F.learned_positions(9).init(0, (5, None)),
        ValueError,
        r"\(time, features\), got \(5, None\)",
    ),
    "no rows": (lambda: F.learned_positions(0), ValueError, "positive int.*got 0"),
    "half a row": (lambda: F.learned_positions(0.5), ValueError, "positive int.*got 0.5"),
    "true": (lambda: F.learned_positions(True), ValueError, "positive int.*got True"),
}


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_bad_inputs_are_errors_with_the_remedy(call, error, message):
    with pytest.raises(error, match=f"(sinusoidal|learned)_positions: .*{message}"):
        call()
