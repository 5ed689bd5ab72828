"""Conversion of labels to one-hot rows and back."""

import numpy as np
import pytest
from npdl.utils import one_hot, unhot
from npdl.utils.data import one_hot as the_same

import npdl


def test_the_documented_paths_give_one_function():
    assert one_hot is the_same
    assert npdl.utils.data.unhot is unhot


def test_by_default_the_columns_are_the_sorted_classes():
    rows = one_hot(np.array([7, 3, 3, 5]))
    assert np.array_equal(rows, [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert np.array_equal(one_hot(["b", "a"]), [[0, 1], [1, 0]])
    assert np.array_equal(one_hot(np.array([2.5, 1.5])), [[0, 1], [1, 0]])


@pytest.mark.parametrize("labels", [np.array([2, 0, 2]), [2, 0, 2], (2, 0, 2), iter([2, 0, 2])])
def test_with_nb_classes_class_k_is_column_k(labels):
    assert np.array_equal(one_hot(labels, 4), [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])


def test_rows_have_the_configured_data_type():
    assert one_hot([0, 1]).dtype == np.float32
    npdl.utils.set_dtype("float64")
    assert one_hot([0, 1], nb_classes=2).dtype == np.float64


def test_no_labels_give_no_rows():
    assert one_hot(np.array([], int), nb_classes=3).shape == (0, 3)


def test_unhot_inverts_one_hot_and_picks_the_largest_output():
    labels = np.array([2, 0, 1, 2])
    assert np.array_equal(unhot(one_hot(labels, 3)), labels)
    assert np.array_equal(unhot([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]]), [1, 0])
    assert np.array_equal(unhot(np.eye(3)[[[0, 2], [1, 1]]]), [[0, 2], [1, 1]])


ERRORS = {
    "a label too large": (lambda: one_hot([0, 3], 3), ValueError, r"one_hot: labels\[1\] is 3"),
    "a negative label": (lambda: one_hot([-1, 0], 3), ValueError, r"labels\[0\] is -1, but there"),
    "floats": (lambda: one_hot([0.0, 1.0], 3), TypeError, "convert them with labels.astype"),
    "two axes": (lambda: one_hot(np.eye(3)), ValueError, r"\(samples,\), got float64\[3, 3\]"),
    "no classes": (lambda: one_hot([0], 0), ValueError, "nb_classes must be a positive int, as in"),
    "classes as a list": (
        lambda: one_hot([0], [0, 1]),
        ValueError,
        r"positive int, as in .* got \[0, 1\]",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
