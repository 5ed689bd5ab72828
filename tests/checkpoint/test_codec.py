"""The codec of checkpoints: each value comes back with its types and bits, or is refused."""

import json
import struct

import numpy as np
import pytest
from arrays import same_bits

from npdl.checkpoint._codec import decode, encode

VALUES = {
    "floats": [0.1, -0.0, float("inf"), float("nan"), 5e-324],
    "ints": [0, -1, 2**63 - 1],
    "ints of more than 64 bits": [1, 2**64, -(2**80)],
    "ints of any number of digits": [[1], [2**63], -(2**63), 10**5000, (-(10**5000),)],
    "floats one by one": (-0.0, float("inf"), -float("inf"), 5e-324, 1e308, {"a": 1.0}),
    "the bits of a NaN": (struct.unpack(">d", b"\xff\xf0\0\0\0\0\0\1")[0], [float("nan")]),
    "truth values": [True, False],
    "ints and floats": [1, 2.0, True],
    "nothing": [[], (), {}, None],
    "arrays alike": [np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)],
    "arrays of other shapes": [np.ones(2), np.ones(3), np.ones(())],
    "arrays of other types": [np.ones(2), np.ones(2, np.int32)],
    "small arrays": [np.ones(1, np.int8), np.zeros(1, np.int8)],
    "empty arrays": [np.zeros((0, 3)), np.zeros((0, 3))],
    "scalars": [np.float32(1), np.float32(2)],
    "small scalars": [np.int8(1), np.int8(2), np.int8(-3)],
    "complex scalars": [np.complex64(1j), np.complex64(2)],
    "scalars of two types": [np.float32(1), np.float64(2), np.True_],
    "arrays and scalars": [np.float64(1), np.ones(())],
    "large arrays": [np.arange(1e5), np.arange(9000.0).reshape(3, -1).T, np.ones(3)],
    "complex ones": [np.complex64(1j), np.ones(2, np.complex128)],
    "a list of dicts": [{"epoch": i, "loss": i / 7, "best": i == 3} for i in range(9)],
    "lists in lists": [[0.5], [0.25, 0.125], [1]],
    "pairs": [(1, 0.5), (2, 0.25)],
    "texts": ["a", "\ud83d", "名", "\ud83d\ude00", "😀", "\0", "[{" * 9, '\\"'],
    "keys": {"": 1, "\ud83d\ude00": 2, "😀": 3, "tuple": 4, "float": 5},
    "tuples and lists": ([(), []], [((1,), [1])], (2.0,), [2.0], {}),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_keeps_its_types_and_bits(value):
    for whole in (value, {"a": value, "b": (value, [value, value])}):
        assert same_bits(decode(encode(whole)), whole)


FORGED = {
    "an unknown kind": {"eval": "print()"},
    "two kinds": {"array": ["floats", [1]], "tuple": []},
    "an array that is not there": {"array": ["1", [1]]},
    "more numbers than there are": {"array": ["floats", [4]]},
    "fewer numbers than there are": {"array": ["floats", [2]]},
    "the same numbers twice": [{"list": ["floats", 3]}, {"list": ["floats", 3]}],
    "a negative size": {"array": ["floats", [-3]]},
    "a size of text": {"list": ["floats", "3"]},
    "a size that is no int": {"list": ["floats", 3.0]},
    "endless scalars": {"scalars": ["floats", 10**12]},
    "endless rows of nothing": {"list": ["floats", [10**12, 0]]},
    "an int without digits": [{"int": "x"}, {"list": ["floats", 3]}],
    "a float of too few bytes": [{"float": "00"}, {"list": ["floats", 3]}],
    "a text for a shape": {"array": ["floats", "abc"]},
    "no shape": {"array": ["floats"]},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_value_is_refused(forged):
    text = np.frombuffer(json.dumps(forged).encode(), np.uint8)
    with pytest.raises((ValueError, TypeError, LookupError, AttributeError, struct.error)):
        decode({"text": text, "floats": np.ones(3)})
