"""Randomness as a value: a key is a tuple of ints, and the same key gives the same numbers.

:func:`key` builds a key from a seed, and :func:`fold` derives new keys, one per use. A key is never
consumed, and no state is global. So a draw depends only on its key.

>>> from npdl import random
>>> key = random.key(0)
>>> key
(0,)
>>> random.fold(key, 3)
(0, 3)
>>> float(random.generator(random.fold(key, 3)).random()) == float(
...     random.generator((0, 3)).random())
True

Streams of different keys are independent: a key is the entropy and the spawn key of a
:class:`numpy.random.SeedSequence`. Functions accept any seed or generator as a key, by the
convention SPEC 7 of Scientific Python.
"""

import operator
from typing import Any, TypeAlias, Union

import numpy as np

__all__ = ["Key", "KeyLike", "fold", "generator", "key"]

Key: TypeAlias = tuple[int, ...]
KeyLike: TypeAlias = Union[
    Key, int, "np.random.SeedSequence", "np.random.Generator", "np.random.RandomState"
]

# A longer seed would equal a seed of 128 bits with a number folded in.
_SEED = 1 << 128
_WORD = 1 << 32
_STRING = 1 << 64  # strings fold to numbers from here on, ints to numbers below


def key(seed: KeyLike) -> Key:
    """Return the key for a seed.

    Parameters
    ----------
    seed : int, key, SeedSequence, Generator or RandomState
        An int from 0 to 2¹²⁸ - 1; a key, which is returned unchanged; or a NumPy source of
        randomness. `key` draws one number from a `Generator` or a `RandomState`.

    Returns
    -------
    tuple of int
        The key.

    Examples
    --------
    >>> from npdl import random
    >>> random.key(42)
    (42,)
    >>> random.key((42, 1))
    (42, 1)
    """
    if type(seed) is tuple:
        if {*map(type, seed)} == {int} and min(seed) >= 0 and seed[0] < _SEED:
            return seed
    elif isinstance(seed, np.random.Generator):
        return (int(seed.integers(1 << 63)),)
    elif isinstance(seed, np.random.RandomState):
        return (int(seed.randint(1 << 63, dtype=np.int64)),)
    elif isinstance(seed, np.random.SeedSequence):
        words = np.atleast_1d(np.asarray(seed.entropy, dtype=object))
        # Entropy of more than 128 bits, or in several words, is mixed to a number of 128 bits.
        is_seed = len(words) == 1 and words[0] < _SEED
        entropy = words[0] if is_seed else _joined(seed.generate_state(4))
        return (int(entropy), *(int(word) for word in seed.spawn_key))
    elif not isinstance(seed, bool | np.bool_):
        try:
            number = operator.index(seed)  # type: ignore[arg-type]
        except TypeError:
            number = -1
        if 0 <= number < _SEED:
            return (number,)
    raise TypeError(
        f"expected a key: an int from 0 to 2**128 - 1, a tuple that begins with one, or a NumPy "
        f"SeedSequence, Generator or RandomState; got {_shown(seed)}. "
        f"Create a key with npdl.random.key(seed)"
    )


def fold(key: KeyLike, *data: int | str) -> Key:
    """Return a new key, independent of `key` and of its folds with other data.

    Parameters
    ----------
    key : tuple of int
        A key, or a seed as in :func:`key`.
    *data : int or str
        Integers from 0 to 2⁶⁴ - 1, or strings of at most 32 bytes, such as an index, a step or a
        name.

    Examples
    --------
    >>> from npdl import random
    >>> random.fold((0,), 7, 2)
    (0, 7, 2)
    >>> random.fold((0,), "weight") == random.fold((0,), "bias")
    False
    """
    return (*_key(key), *(_number(item) for item in data))


def generator(key: KeyLike) -> "np.random.Generator":
    """Return a generator for `key`, at the beginning of its stream.

    Examples
    --------
    >>> from npdl import random
    >>> bool(random.generator((0, 1)).normal() == random.generator((0, 1)).normal())
    True
    """
    entropy, *spawn_key = _key(key)
    words = [word for number in spawn_key for word in _words(number)]
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=words))


_key = key


def _number(item: int | str) -> int:
    if isinstance(item, str):
        encoded = item.encode()
        if 0 < len(encoded) <= 32:
            return _STRING + int.from_bytes(b"\x01" + encoded, "big")
    elif not isinstance(item, bool | np.bool_):
        try:
            number = operator.index(item)
        except TypeError:
            number = -1
        if 0 <= number < _STRING:
            return number
    raise TypeError(
        f"expected an int from 0 to 2**64 - 1 or a string of 1 to 32 bytes to fold into a key, "
        f"got {_shown(item)}"
    )


def _words(number: int) -> list[int]:
    """Return 32-bit words that encode the number uniquely, also within the words of others."""
    if number < _WORD >> 1:
        return [number]
    count = (number.bit_length() + 31) // 32
    return [(_WORD >> 1) + count, *((number >> 32 * i) % _WORD for i in range(count))]


def _joined(words: Any) -> int:
    return sum(int(word) << 32 * i for i, word in enumerate(words))


def _shown(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:60]}"
