"""What outputs are compared with: the checks that losses and metrics share.

NumPy would broadcast targets of another shape and take a label of -1 for the last class; here
both are errors. Class labels are ints, one axis less than the outputs, whose last axis is the
classes; or there is a probability for each class, such as a one-hot row. Weights belong to the
examples, or to the places on further leading axes: to the time steps of sequences.
"""

import math
from typing import Any

import numpy as np

from npdl.functional.layer import Array, check_float, describe

__all__ = [
    "check_probabilities",
    "class_ids",
    "class_targets",
    "labels_of",
    "mean_scale",
    "predicted_and_true",
    "ratio",
    "value_targets",
]

# A softmax in low precision may end a little above one.
_ONE = 1.001
_INT, _UNSIGNED = np.dtype(np.intp), np.dtype(np.uintp)


def value_targets(name: str, outputs: Array, given: Any) -> Array:
    """Return targets that are numbers, in the data type of the outputs and of their shape."""
    targets: Array = np.asarray(given)
    if outputs.ndim == 0 or targets.shape != outputs.shape:
        hint = "; use targets.reshape(outputs.shape)" if targets.size == outputs.size else ""
        raise ValueError(
            f"{name}: outputs and targets need one shape, the batch first, and are not broadcast; "
            f"got outputs {describe(outputs)} and targets {describe(targets)}{hint}"
        )
    _check_numbers(name, "targets", targets)
    return targets.astype(outputs.dtype, copy=False)


def class_targets(name: str, outputs: Array, given: Any) -> Array:
    """Return class ids (rows,), or probabilities (rows, classes) in the outputs' data type."""
    shape = outputs.shape
    targets: Array = np.asarray(given)
    if len(shape) > 1 and targets.shape == shape[:-1]:
        return class_ids(name, "targets", targets, shape[-1])
    if len(shape) > 1 and targets.shape == shape:
        check_probabilities(
            name, "targets", targets, "class labels have one axis less than outputs"
        )
        return targets.astype(outputs.dtype, copy=False).reshape(-1, shape[-1])
    raise ValueError(
        f"{name}: expected outputs (batch, ..., classes) with labels (batch, ...) or "
        f"probabilities (batch, ..., classes), got outputs {describe(outputs)} and targets "
        f"{describe(targets)}"
    )


def class_ids(name: str, what: str, ids: Array, classes: int) -> Array:
    """Return ids as one axis of `intp`, or raise for one outside the classes."""
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: class labels are ints, got {what} {describe(ids)}; "
            f"convert them with {what}.astype(int)"
        )
    flat = ids if ids.ndim == 1 and ids.dtype == _INT else ids.astype(_INT).reshape(-1)
    if flat.size:
        # As unsigned numbers, negative labels are the largest; argmax is the fastest maximum.
        unsigned = flat.view(_UNSIGNED)
        worst = unsigned.argmax()
        if unsigned.item(worst) >= classes:
            place = ", ".join(str(int(i)) for i in np.unravel_index(worst, ids.shape))
            raise ValueError(
                f"{name}: {what}[{place}] is {ids.reshape(-1)[worst]}, but there are {classes} "
                f"classes, labelled 0 to {classes - 1}; padding needs a label too, and a weight "
                f"of 0"
            )
    return flat


def predicted_and_true(
    name: str, outputs: Array, targets: Any, classes: int | None
) -> tuple[Array, Array, tuple[int, ...], int]:
    """Return predicted and true ids, both along one axis, their shape, and how many classes."""
    if classes is not None and not (isinstance(classes, int | np.integer) and classes > 0):
        raise ValueError(f"{name}: classes must be a positive int, got {classes!r}")
    if not (isinstance(outputs, np.ndarray) and outputs.dtype.kind in "iub"):
        check_float(outputs, name)
        true = labels_of(class_targets(name, outputs, targets))
        n_classes = outputs.shape[-1]
        if classes not in (None, n_classes):
            raise ValueError(f"{name}: the outputs have {n_classes} classes, not {classes}")
        predicted = outputs.argmax(axis=-1).reshape(-1)
        return predicted, true, outputs.shape[:-1], n_classes
    targets = np.asarray(targets)
    if outputs.ndim == 0 or targets.shape != outputs.shape:
        raise ValueError(
            f"{name}: outputs that are ints are class ids and need the shape of the targets, got "
            f"outputs {describe(outputs)} and targets {describe(targets)}; scores are floats"
        )
    if classes is None:
        classes = 1 + max(int(ids.max(initial=0)) for ids in (outputs, targets))
    predicted = class_ids(name, "outputs", outputs, classes)
    return predicted, class_ids(name, "targets", targets, classes), outputs.shape, classes


def labels_of(targets: Array) -> Array:
    """Return class ids, also of rows of probabilities."""
    return targets if targets.ndim == 1 else targets.argmax(axis=1)


def check_probabilities(name: str, what: str, values: Array, hint: str) -> None:
    """Raise if a value is outside [0, 1]; NaN passes through to the result."""
    _check_numbers(name, what, values)
    if values.size and (values.min() < 0 or values.max() > _ONE):
        raise ValueError(
            f"{name}: {what} must be in [0, 1], got values from {values.min()} to "
            f"{values.max()}; {hint}"
        )


def mean_scale(name: str, shape: tuple[int, ...], given: Any, dtype: Any) -> float | Array:
    """Return what each item is multiplied by, so that their sum is the (weighted) mean.

    Parameters
    ----------
    name : str
        The loss or metric.
    shape : tuple of int
        The shape of the items.
    given : array or None
        A weight for each item, or for all items that share their first indices.
    dtype : data type
        The one of the result.

    Returns
    -------
    float or array
        ``1 / n``, or weights / Σ weights with as many axes as the items; zeros where all are.
    """
    count = math.prod(shape)
    if count == 0:
        raise ValueError(f"{name}: the mean of an empty batch is undefined, got items {[*shape]}")
    if given is None:
        return 1 / count
    weights: Array = np.asarray(given)
    _check_numbers(name, "weights", weights)
    if weights.ndim == 0 or weights.shape != shape[: weights.ndim]:
        allowed = " or ".join(str(shape[:n]) for n in range(1, len(shape) + 1))
        raise ValueError(
            f"{name}: expected weights of shape {allowed}, one for each example or position, "
            f"got {describe(weights)}"
        )
    if np.minimum.reduce(weights, None) < 0:
        raise ValueError(f"{name}: weights must not be negative, got {weights.min()}")
    scale = weights.astype(dtype, copy=False)
    total = float(np.add.reduce(scale, None)) * (count // weights.size)
    if total != 0:
        scale = scale / total
    return scale.reshape(weights.shape + (1,) * (len(shape) - weights.ndim))


def ratio(part: Array, whole: Array) -> Array:
    """Divide, with 0 where the whole is 0."""
    zeros = np.zeros(np.shape(whole), np.result_type(part, whole, np.float16))
    return np.divide(part, whole, out=zeros, where=whole != 0)


def _check_numbers(name: str, what: str, values: Array) -> None:
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected {what} that are numbers, got {describe(values)}")
