"""Strategies of Hypothesis: trees of all kinds of nodes, arrays of any bits, windowed layers."""

from collections import OrderedDict

import numpy as np
from arrays import Pair, Record
from hypothesis import strategies as st

import npdl.functional as F
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


CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv2d_transpose)
POOLING = (F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d)


@st.composite
def layers_with_windows(draw, makers=(*CONVOLUTIONS, *POOLING)):
    """A convolution or pooling with any arguments, and the shape of an example that it fits.

    Height, width and channels are all different, and so are the channels and the filters.
    """
    make = draw(st.sampled_from(makers))
    pooling, axes = make in POOLING, 1 if "1d" in make.__name__ else 2

    def per_axis(most):
        return tuple(draw(st.integers(1, most)) for _ in range(axes))

    size, stride = per_axis(4), per_axis(4)
    dilation = (1,) * axes if pooling else per_axis(3)
    most = [n - 1 if pooling else n + 2 for n in size]
    sides = tuple((draw(st.integers(0, n)), draw(st.integers(0, n))) for n in most)
    padding = draw(st.sampled_from(["valid", "same", sides]))
    image = []
    for n, gap, pads in zip(size, dilation, sides, strict=True):
        reach = (n - 1) * gap + 1
        least = max(reach - {"valid": 0, "same": reach}.get(padding, sum(pads)), 1)
        if make is F.conv2d_transpose:
            # The cropped padding must leave an output.
            least = max(sum(pads) - reach + 2, 1)
        image.append(draw(st.integers(least, least + 5).filter(lambda n: n not in image)))
    size, stride, dilation = (n[0] if axes == 1 else n for n in (size, stride, dilation))
    options = {
        "stride": stride,
        "padding": padding[0] if axes == 1 and padding is sides else padding,
    }
    if pooling:
        channels = draw(st.integers(1, 4).filter(lambda n: n not in image))
        if make in (F.avg_pool1d, F.avg_pool2d):
            options["count_padding"] = draw(st.booleans())
        return make(size, **options), (channels, *image)
    groups = draw(st.integers(1, 3))
    channels, filters = (
        groups * n for n in draw(st.permutations(range(1, 4)).map(lambda order: order[:2]))
    )
    options |= {"dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    return make(filters, size, **options), (channels, *image)
