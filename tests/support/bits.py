"""Trees of the same bits; programs that tests start import this without Hypothesis."""

from typing import Any, NamedTuple

import attrs
import numpy as np


class Pair(NamedTuple):
    first: Any
    second: Any


@attrs.frozen
class Record:
    weight: Any
    bias: Any


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
