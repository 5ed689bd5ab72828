"""Data for training: checked once, then cut into batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.functional.layer import Array, describe

__all__ = ["batches", "check_data", "check_positive", "order_of"]


def check_data(data: Any, name: str) -> int:
    """Return the number of examples; raise unless all arrays hold that many numbers."""
    if not isinstance(data, tuple | list):
        raise TypeError(f"{name} must be a tuple (x, *targets) of arrays, got {describe(data)}")
    lengths = {}
    for path, array in tree.items(tuple(data)):
        where = f"{name}[{path.replace('/', '][')}]"
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise TypeError(
                f"{where} must be a NumPy array of floats, ints or bools, got {describe(array)}; "
                f"convert it with np.asarray(values, np.float32)"
            )
        if array.ndim == 0:
            raise ValueError(f"{where} is a single number, and needs an axis of examples")
        lengths[where] = len(array)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{where} has {length}" for where, length in lengths.items())
        raise ValueError(f"the arrays have different numbers of examples: {listed}")
    if not any(lengths.values()):
        raise ValueError(f"{name} is empty: there is no example in it")
    return next(iter(lengths.values()))


def check_positive(name: str, value: Any) -> None:
    """Raise unless an argument is a positive int."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, got {value!r}")


def order_of(rng: random.Key, epoch: int, count: int) -> Array:
    """Return the order of the examples in an epoch."""
    return random.generator(random.fold(rng, "epoch", epoch)).permutation(count)


def batches(
    data: Any, count: int, batch_size: int, order: Array | None = None
) -> Iterator[tuple[Any, int]]:
    """Yield each batch with its size; nothing is copied where there is no order."""
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        chosen = slice(start, start + size)
        if order is None:
            yield tree.map(lambda array, chosen=chosen: array[chosen], tuple(data)), size
        else:
            rows = order[chosen]
            yield tree.map(lambda array, rows=rows: array.take(rows, axis=0), tuple(data)), size
