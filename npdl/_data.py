"""Training data: checked once, then split into batches.

Data are arrays, possibly memory-mapped, or a source that reads rows on demand. A source is an
object with a length and ``data[rows]``, which returns the tuple (x, *targets) for an array of row
numbers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.functional._arrays import conversion, describe, is_data
from npdl.tree import Array

__all__ = ["augmented", "batches", "check_data", "first_input", "is_source", "order_of"]


def check_data(data: Any, name: str, sources: bool = False) -> int:
    """Return the number of examples; raise unless all arrays have this length.

    The data may be a source only if `sources` is true.
    """
    if is_source(data) and sources:
        if not len(data):
            raise ValueError(f"{name} is empty; expected at least one example")
        return len(data)
    if not isinstance(data, tuple | list):
        raise _not_data(data, name, sources)
    lengths = {}
    for path, array in tree.items(tuple(data)):
        where = f"{name}[{path.replace('/', '][')}]"
        if not is_data(array):
            raise TypeError(
                f"{where} must be a NumPy array of floats, ints or bools, got {describe(array)}; "
                f"{conversion(array)}"
            )
        if array.ndim == 0:
            raise ValueError(f"{where} is a single number, but needs an axis of examples")
        lengths[where] = len(array)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{where} has {length}" for where, length in lengths.items())
        raise ValueError(f"the arrays have different numbers of examples: {listed}")
    if not any(lengths.values()):
        raise ValueError(f"{name} is empty; expected at least one example")
    return next(iter(lengths.values()))


def _not_data(data: Any, name: str, sources: bool, reason: str = "") -> TypeError:
    source = ", or a source of them with a length and data[rows]" if sources else ""
    if hasattr(data, "to_numpy"):
        reason = "; pass its columns as arrays, such as data[names].to_numpy(np.float32)"
    elif is_source(data) and not sources:
        reason = "; read the rows of a source first: data[np.arange(len(data))]"
    return TypeError(
        f"{name} must be a tuple (x, *targets) of arrays{source}, got {describe(data)}{reason}"
    )


def is_source(data: Any) -> bool:
    """Whether `data` is a source of rows; a table (with columns) is not."""
    others: Any = (tuple, list, str, bytes, bytearray, range, Mapping, np.ndarray)
    return (
        not isinstance(data, others)
        and hasattr(type(data), "__len__")
        and hasattr(type(data), "__getitem__")
        and not hasattr(data, "to_numpy")
        # Arrays of other libraries and sparse matrices have both methods, but no targets.
        and not hasattr(type(data), "__array__")
        and not hasattr(type(data), "toarray")
    )


def first_input(data: Any, name: str = "data") -> Any:
    """Return the inputs of the first example, as a batch of one.

    Raises
    ------
    TypeError
        If the data have a length and ``[]``, but ``data[rows]`` fails.
    """
    if not is_source(data):
        return tree.map(lambda array: array[:1], data[0])
    try:
        found = data[np.zeros(1, np.intp)]
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        reason = f", whose data[np.array([0])] raised {type(error).__name__}: {error}"
        raise _not_data(data, name, True, reason) from error
    return tree.map(lambda array: array[:1], _checked(found, 1)[0])


def example_shape(x: Any) -> Any:
    """Return the shape of one example of a batch of inputs, or a tuple of shapes."""
    return tree.map(lambda array: array.shape[1:], x)


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
    change: Callable[[Any, Array], Any] | None = None,
) -> Iterator[tuple[Any, int]]:
    """Yield each batch, from number `first` on, with its size.

    Arrays without an order are not copied. ``part(n)`` selects the examples to read from a batch of
    n examples. ``change(batch, rows)`` returns the batch to yield.
    """
    source = is_source(data)
    if source and len(data) != count:
        raise ValueError(
            f"the source had {count} examples at the start, and has {len(data)} now; its length "
            f"must not change"
        )
    for start in range(first * batch_size, count, batch_size):
        size = min(batch_size, count - start)
        wanted = part(size)
        if source or order is not None or change is not None:
            rows = np.arange(start, start + size) if order is None else order[start : start + size]
            found = (_read if source else _taken)(data, rows[wanted])
            yield (found if change is None else change(found, rows[wanted])), size
        else:
            here = slice(start, start + size)
            yield tree.map(lambda array, here=here: array[here][wanted], tuple(data)), size  # noqa: B023


def augmented(
    augment: Callable[[random.Key, Any], Any], key: random.Key, batch: Any, rows: Array
) -> Any:
    """Return a batch with augmented inputs; the key of an example is ``fold(key, row)``.

    Raises
    ------
    TypeError, ValueError
        If an augmentation changes the shape, the data type or the structure of an example.
    """
    x, *targets = batch
    changed = []
    for i, row in enumerate(rows.tolist()):
        example = tree.map(lambda array, i=i: _read_only(array[i]), x)
        found = augment(random.fold(key, row), example)
        if describe(found) != describe(example):
            raise ValueError(
                f"augment must return an example like its argument, {describe(example)}, got "
                f"{describe(found)} for row {row}; the shape and the data type must not change"
            )
        changed.append(found)
    if changed:
        x = tree.map(lambda *arrays: np.stack(arrays), *changed)
    return (x, *targets)


def _read_only(x: Any) -> Any:
    """Return an example that an augmentation cannot write; a number is never writeable."""
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    return x


def _taken(data: Any, rows: Array) -> Any:
    return tree.map(lambda array: array.take(rows, axis=0), tuple(data))


def _read(source: Any, rows: Array) -> Any:
    """Return rows of a source; raise if their number is wrong."""
    # Never request zero rows, for which a source may not know its data types.
    found = _checked(source[rows if len(rows) else np.zeros(1, np.intp)], max(len(rows), 1))
    return found if len(rows) else tree.map(lambda array: array[:0], found)


def _checked(found: Any, count: int) -> tuple[Any, ...]:
    if (length := check_data(found, "the result of data[rows]")) != count:
        raise ValueError(f"data[rows] returned {length} examples for {count} rows")
    return tuple(found)
