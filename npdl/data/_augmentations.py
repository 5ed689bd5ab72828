"""Random changes of examples: pure functions ``augment(key, x) -> x`` of one example.

Each changed example is a new array of the same shape and data type. :func:`npdl.training.fit`
passes the key ``fold(rng, "augment", epoch, row)``, so a change depends only on these three values.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from npdl._constructor import RecordedFunction, constructor
from npdl.functional._arrays import check_array, describe, is_float
from npdl.functional._checks import check_function, check_int, check_number, is_int, refusal
from npdl.random import KeyLike, fold, generator
from npdl.tree import Array

__all__ = ["chain", "crop", "cutout", "flip", "noise", "shift"]


@constructor
def chain(*augments: Callable[[KeyLike, Any], Any]) -> RecordedFunction:
    """Return an augmentation that applies several augmentations, each with a separate key.

    Parameters
    ----------
    *augments : callables
        Functions ``augment(key, x) -> x``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> augment = data.chain(data.crop(4), data.flip())
    >>> augment
    chain(crop(padding=4), flip())
    >>> augment(0, np.ones((3, 32, 32), np.float32)).shape
    (3, 32, 32)
    """
    for augment in augments:
        check_function(augment, "chain(crop(4), flip())", "an augmentation")

    def apply(key: KeyLike, x: Any) -> Any:
        for number, augment in enumerate(augments):
            x = augment(fold(key, number), x)
        return x

    return RecordedFunction(apply)


@constructor
def crop(padding: int) -> RecordedFunction:
    """Return an augmentation that pads an image with zeros, and crops it to its size at random.

    Parameters
    ----------
    padding : int
        Number of zeros on each side of the last two axes, height and width.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> data.crop(1)(0, np.arange(1, 5).reshape(2, 2)).shape
    (2, 2)
    """
    padding = check_int(padding, "crop(padding=4)", least=0)

    def apply(key: KeyLike, x: Array) -> Array:
        _check_example(x, "crop", axes=2)
        down, right = generator(key).integers(-padding, padding, size=2, endpoint=True).tolist()
        return _shifted(_shifted(x, down, -2), right, -1)

    return RecordedFunction(apply)


@constructor
def shift(most: int, axis: int = -1) -> RecordedFunction:
    """Return an augmentation that shifts an example along one axis, and fills it with zeros.

    Parameters
    ----------
    most : int
        The largest shift; each shift from -most to most has the same probability.
    axis : int
        The axis of one example, such as -2 for the time of ``(time, features)``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> sorted({data.shift(1)(key, np.arange(1, 4)).tolist()[0] for key in range(20)})
    [0, 1, 2]
    """
    most = check_int(most, "shift(most=2)", least=0)
    axis = _check_axis(axis, "shift(axis=-1)")

    def apply(key: KeyLike, x: Array) -> Array:
        _check_example(x, "shift", axis=axis)
        return _shifted(x, int(generator(key).integers(-most, most, endpoint=True)), axis)

    return RecordedFunction(apply)


@constructor
def flip(axis: int = -1, probability: float = 0.5) -> RecordedFunction:
    """Return an augmentation that reverses an axis at random.

    Parameters
    ----------
    axis : int
        The axis of one example; -1 is the width of an image.
    probability : float
        The probability of a flip, above 0 and at most 1.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> data.flip(probability=1)(0, np.arange(3))
    array([2, 1, 0])
    """
    axis = _check_axis(axis, "flip(axis=-1)")
    probability = check_number(probability, "flip(probability=0.5)", "in (0, 1]")

    def apply(key: KeyLike, x: Array) -> Array:
        _check_example(x, "flip", axis=axis)
        flips = generator(key).random() < probability
        return np.ascontiguousarray(np.flip(x, axis)) if flips else x

    return RecordedFunction(apply)


@constructor
def noise(std: float) -> RecordedFunction:
    """Return an augmentation that adds Gaussian noise: ``x + std · n``, n from N(0, 1).

    Parameters
    ----------
    std : float
        The standard deviation.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> data.noise(0.1)(0, np.zeros(3, np.float32)).dtype
    dtype('float32')
    """
    std = check_number(std, "noise(std=0.1)", "of at least 0")

    def apply(key: KeyLike, x: Array) -> Array:
        _check_example(x, "noise")
        if not is_float(x.dtype):
            raise TypeError(
                f"noise: expected float32 or float64, got {describe(x)}; convert the data with "
                f"x.astype(np.float32)"
            )
        drawn: Array = np.asarray(generator(key).standard_normal(x.shape, x.dtype))
        drawn *= std
        drawn += x
        return drawn

    return RecordedFunction(apply)


@constructor
def cutout(size: int) -> RecordedFunction:
    """Return an augmentation that sets a square of an image to zero.

    Parameters
    ----------
    size : int
        The height and width of the square. Its center is any pixel, so a part may lie outside.

    References
    ----------
    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    2017, https://arxiv.org/abs/1708.04552

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> int(data.cutout(1)(0, np.ones((1, 4, 4))).sum())
    15
    """
    size = check_int(size, "cutout(size=8)")

    def apply(key: KeyLike, x: Array) -> Array:
        _check_example(x, "cutout", axes=2)
        top, left = (generator(key).integers(x.shape[-2:]) - size // 2).tolist()
        changed = x.copy()
        changed[..., max(top, 0) : top + size, max(left, 0) : left + size] = 0
        return changed

    return RecordedFunction(apply)


def _shifted(x: Array, by: int, axis: int) -> Array:
    """Return `x`, shifted along an axis; the positions that become free are zero."""
    if not by:
        return x
    changed, length = np.zeros_like(x), x.shape[axis]
    kept = max(length - abs(by), 0)
    source, target = np.moveaxis(x, axis, 0), np.moveaxis(changed, axis, 0)
    start, end = (0, length - kept) if by > 0 else (length - kept, 0)
    target[end : end + kept] = source[start : start + kept]
    return changed


def _check_axis(axis: Any, call: str) -> int:
    if not is_int(axis):
        raise ValueError(refusal(axis, call, "an axis of one example, an int"))
    return int(axis)


def _check_example(x: Any, name: str, axes: int = 0, axis: int | None = None) -> None:
    """Raise unless an example is an array with enough axes."""
    check_array(x, name)
    if x.ndim < axes:
        raise ValueError(
            f"{name}: expected an image (…, height, width), got an example {describe(x)}"
        )
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: there is no axis {axis} in an example {describe(x)}")
