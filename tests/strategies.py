"""What Hypothesis draws: trees of every kind of node, and arrays of any bits."""

from collections import OrderedDict
from typing import Any, NamedTuple

import attrs
import numpy as np
from hypothesis import strategies as st

from npdl import random

FLOATS = ["<f2", "<f4", "<f8", ">f4", ">f8"]
NUMBERS = [*FLOATS, "?", "i1", "u1", "<i2", "<i4", "<i8", ">i8", "<u2", "<u4", "<u8"]

# Any text but halves of surrogate pairs, NUL and the separator of paths.
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=4)
scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 200), 1 << 200),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


class Pair(NamedTuple):
    first: Any
    second: Any


@attrs.frozen
class Record:
    weight: Any
    bias: Any


@st.composite
def arrays(draw, dtypes=NUMBERS):
    """Arrays of any bits, NaNs with a payload among them, also without axes or elements."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape, dtype=int))
    generator = random.generator(draw(st.integers(0, 1 << 30)))
    if dtype.kind == "b":
        return generator.integers(2, size=shape).astype(bool)
    array = np.frombuffer(generator.bytes(count * dtype.itemsize), dtype).reshape(shape)
    return array.copy(order=draw(st.sampled_from("CF")))


def trees(leaves, keys=keys):
    """Trees with every kind of node, and `None` here and there."""

    def nodes(children):
        return st.one_of(
            st.dictionaries(keys, children, max_size=3),
            st.dictionaries(keys, children, max_size=3).map(OrderedDict),
            st.lists(children, max_size=3),
            st.lists(children, max_size=3).map(tuple),
            st.builds(Pair, children, children),
            st.builds(Record, children, children),
        )

    return st.recursive(st.none() | leaves, nodes, max_leaves=8)


def identical(a, b):
    """Whether two trees have the same nodes in the same order, and the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(identical(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, Record):
        return identical((a.weight, a.bias), (b.weight, b.bias))
    return np.float64(a).tobytes() == np.float64(b).tobytes() if type(a) is float else a == b
