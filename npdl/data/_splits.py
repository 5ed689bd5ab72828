"""Splits of data into parts, by key."""

from typing import Any

import numpy as np

from npdl import tree
from npdl._data import check_data, is_source
from npdl.data._sources import Source
from npdl.functional._checks import is_int, refusal
from npdl.random import KeyLike, fold, generator
from npdl.tree import Array

__all__ = ["train_test_split"]


def train_test_split(
    key: KeyLike, data: Any, test_size: float = 0.2
) -> tuple[tuple[Any, ...] | Source, tuple[Any, ...] | Source]:
    """Return a random part of data for training, and the rest for tests.

    Parameters
    ----------
    key : key
        The key of the split. The same key splits data of the same length equally.
    data : tuple or source
        ``(x, *targets)``, as for :func:`npdl.training.fit`.
    test_size : int or float
        The number of examples for tests, or their share, above 0 and below 1, rounded.

    Returns
    -------
    train, test : tuples of arrays, or sources
        Two parts without common examples, each in the order of `data`. Arrays are copied; parts of
        a source read their rows on demand.

    Raises
    ------
    ValueError, TypeError
        If the data are empty or of different lengths, or a part would have no example.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.data import train_test_split
    >>> train, test = train_test_split(0, (np.ones((10, 3)), np.arange(10)), test_size=0.3)
    >>> len(train[1]), len(test[1]), sorted([*train[1], *test[1]]) == [*range(10)]
    (7, 3, True)
    """
    count = check_data(data, "data", sources=True)
    held_out = _number(test_size, count)
    order = generator(fold(key, "split")).permutation(count)
    train, test = np.sort(order[held_out:]), np.sort(order[:held_out])
    return _part(data, train), _part(data, test)


def _number(size: Any, count: int) -> int:
    """Return the number of examples for tests."""
    call = "train_test_split(test_size=0.2)"
    is_share = isinstance(size, float | np.floating) and 0 < size < 1
    if not is_share and not is_int(size):
        raise ValueError(refusal(size, call, "a share in (0, 1), or a number of examples"))
    held_out = round(size * count) if is_share else int(size)
    if not 0 < held_out < count:
        raise ValueError(
            f"train_test_split: test_size={size} leaves {held_out} of {count} examples for tests; "
            f"both parts need at least one"
        )
    return held_out


def _part(data: Any, rows: Array) -> Any:
    if is_source(data):
        return Source(len(rows), lambda wanted: tuple(data[rows[wanted]]))
    return tree.map(lambda array: array.take(rows, axis=0), tuple(data))
