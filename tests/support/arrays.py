"""Arrays for tests: normal numbers, read-only arrays, equality of bits; without Hypothesis."""

import functools
from typing import Any, NamedTuple

import attrs
import numpy as np

from npdl import random, tree


class Pair(NamedTuple):
    first: Any
    second: Any


@attrs.frozen
class Record:
    weight: Any
    bias: Any


def normal(*shape, seed=0, dtype=np.float32):
    """Return normal numbers that depend on the seed and the shape alone."""
    key = random.fold(random.key(seed), *shape)
    return random.generator(key).normal(size=shape).astype(dtype)


normal64 = functools.partial(normal, dtype=np.float64)


def noisy_params(layer, shape, dtype=np.float64):
    """Return initial parameters with noise, so that no bias is zero."""
    params = layer.init(0, shape)
    leaves = enumerate(tree.leaves(params))
    noisy = [leaf + 0.3 * normal64(*leaf.shape, seed=1 + i) for i, leaf in leaves]
    return tree.astype(tree.unflatten(params, noisy), dtype)


def arrays_of(value):
    """Return all arrays of a tree or of a cache."""
    return [leaf for leaf in tree.leaves(value) if isinstance(leaf, np.ndarray)]


def read_only(value):
    """Make all arrays of a tree read-only, and return the tree."""
    for array in arrays_of(value):
        array.flags.writeable = False
    return value


def same_bits(a, b):
    """Return whether two trees have nodes of the same types and leaves of the same bits."""
    both_arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    if not both_arrays and type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same_bits, a, b))
    if attrs.has(type(a)):
        names = [field.name for field in attrs.fields(type(a)) if field.init]
        return all(same_bits(getattr(a, name), getattr(b, name)) for name in names)
    return np.float64(a).tobytes() == np.float64(b).tobytes() if type(a) is float else a == b
