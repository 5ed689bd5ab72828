"""Data for training: checked once, then cut into batches.

They are arrays, also mapped from a file, or a source that reads what it is asked for: an object
with a length, which gives for an array of row numbers the tuple (x, *targets) of these rows.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.functional.layer import Array, conversion, describe, is_data

__all__ = ["batches", "check_data", "order_of"]


def check_data(data: Any, name: str) -> int:
    """Return the number of examples; raise unless all arrays hold that many numbers."""
    if is_source(data):
        if not len(data):
            raise ValueError(f"{name} is empty: there is no example in it")
        return len(data)
    if not isinstance(data, tuple | list):
        raise TypeError(
            f"{name} must be a tuple (x, *targets) of arrays, or a source of them with a length "
            f"and data[rows], got {describe(data)}"
        )
    lengths = {}
    for path, array in tree.items(tuple(data)):
        where = f"{name}[{path.replace('/', '][')}]"
        if not is_data(array):
            raise TypeError(
                f"{where} must be a NumPy array of floats, ints or bools, got {describe(array)}; "
                f"{conversion(array)}"
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


def is_source(data: Any) -> bool:
    """Whether `data` reads the rows that it is asked for."""
    return (
        not isinstance(data, tuple | list | dict | str | np.ndarray)
        and hasattr(type(data), "__len__")
        and hasattr(type(data), "__getitem__")
    )


def first_input(data: Any) -> Any:
    """Return the inputs of the first example, as a batch of one."""
    x = _read(data, np.zeros(1, np.intp))[0] if is_source(data) else data[0]
    return tree.map(lambda array: array[:1], x)


def example_shape(data: Any) -> Any:
    """Return the shape of one example of the inputs, or a tuple of shapes."""
    return tree.map(lambda array: array.shape[1:], first_input(data))


def smallest_part(count: int, batch_size: int, shards: int) -> int:
    """Return the number of examples in the smallest shard of the batches of an epoch."""
    sizes = {min(batch_size, count), count % batch_size or batch_size}
    return min(size // min(size, shards) for size in sizes)


def order_of(rng: random.Key, epoch: int, count: int) -> Array:
    """Return the order of the examples in an epoch."""
    return random.generator(random.fold(rng, "epoch", epoch)).permutation(count)


def batches(
    data: Any,
    count: int,
    batch_size: int,
    order: Array | None = None,
    part: Callable[[int], slice] = slice,
    first: int = 0,
) -> Iterator[tuple[Any, int]]:
    """Yield each batch, from number `first` on, with its size.

    Nothing is copied where arrays are given without an order. Of a batch of n examples,
    ``part(n)`` are read.
    """
    source = is_source(data)
    for start in range(first * batch_size, count, batch_size):
        size = min(batch_size, count - start)
        wanted = part(size)
        if source or order is not None:
            rows = np.arange(start, start + size) if order is None else order[start : start + size]
            yield (_read if source else _taken)(data, rows[wanted]), size
        else:
            here = slice(start, start + size)
            yield tree.map(lambda array, here=here: array[here][wanted], tuple(data)), size  # noqa: B023


def _taken(data: Any, rows: Array) -> Any:
    return tree.map(lambda array: array.take(rows, axis=0), tuple(data))


def _read(source: Any, rows: Array) -> Any:
    """Return rows of a source, or raise unless it gave so many."""
    # A source is never asked for nothing, for which it may have no types.
    found = source[rows if len(rows) else np.zeros(1, np.intp)]
    if (given := check_data(found, "what data[rows] returned")) != max(len(rows), 1):
        raise ValueError(f"data[rows] returned {given} examples for {len(rows)} rows")
    return tuple(found) if len(rows) else tree.map(lambda array: array[:0], tuple(found))
