"""Splits by key are disjoint, complete and repeatable."""

import numpy as np
import pytest
from arrays import normal, same_bits

from npdl.data import source, train_test_split

X, IDS = normal(30, 4), np.arange(30)


@pytest.mark.parametrize(("size", "expected"), [(0.2, 6), (7, 7), (0.99, None), (1, 1), (0.5, 15)])
def test_a_split_has_every_example_once(size, expected):
    if expected is None:
        with pytest.raises(ValueError, match="leaves 30 of 30"):
            train_test_split(3, (X, IDS), size)
        return
    train, test = train_test_split(3, (X, IDS), size)
    assert len(test[1]) == expected
    assert sorted([*train[1], *test[1]]) == IDS.tolist()
    for x, ids in (train, test):
        assert same_bits(x, X[ids])
        assert np.all(np.diff(ids) > 0)


def test_a_split_follows_from_its_key():
    tests = [train_test_split(key, (X, IDS))[1][1].tolist() for key in (0, 0, 1, (0, 1))]
    assert tests[0] == tests[1]
    assert len(set(map(tuple, tests))) == 3


def test_parts_of_a_source_read_on_demand():
    arrays = train_test_split(5, (X, IDS), 0.3)
    for part, expected in zip(train_test_split(5, source(X, IDS), 0.3), arrays, strict=True):
        assert len(part) == len(expected[1])
        rows = np.array([4, 1, 4])
        assert same_bits(part[rows], tuple(array[rows] for array in expected))


def test_several_inputs_are_split_alike():
    ((a, b), _), _ = train_test_split(0, ((X, IDS), IDS))
    assert same_bits(a, X[b])


WRONG = {
    "zero": (lambda: train_test_split(0, (X, IDS), 0), "leaves 0 of 30"),
    "all": (lambda: train_test_split(0, (X, IDS), 30), "leaves 30 of 30"),
    "a share of one": (lambda: train_test_split(0, (X, IDS), 1.0), "a share in"),
    "a boolean": (lambda: train_test_split(0, (X, IDS), True), "a share in"),
    "lengths": (lambda: train_test_split(0, (X, IDS[1:])), "different numbers of examples"),
    "an array": (lambda: train_test_split(0, X), "must be a tuple"),
    "a key": (lambda: train_test_split("a", (X, IDS)), "expected a key"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_split_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
