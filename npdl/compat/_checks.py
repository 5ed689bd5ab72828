"""Checks of inputs, targets and weights, and conversion of targets to the outputs' form."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from npdl.compat.utils.random import check_numbers
from npdl.functional._arrays import describe, plain_array
from npdl.tree import Array

__all__ = [
    "Array",
    "as_array",
    "as_targets",
    "check_axes",
    "check_pair",
    "check_verbose",
    "check_weight",
    "validation_pair",
]


def check_pair(names: str, X: Any, Y: Any) -> tuple[Array, Array]:
    """Return inputs and targets as arrays; raise unless their lengths are equal and positive."""
    x, y = as_array("X", X), as_array("Y", Y)
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise ValueError(
            f"{names} must have the same number of examples, at least one, on the first axis; got "
            f"the shapes {x.shape} and {y.shape}"
        )
    return x, y


def as_array(name: str, values: Any) -> Array:
    """Return data as one array; raise on several arrays and on generators of batches."""
    if not (isinstance(values, Sequence | np.generic) or hasattr(values, "__array__")):
        raise TypeError(
            f"{name} must be an array, got {describe(values)}; for data in batches, call "
            f"model.train_on_batch(X, Y)"
        )
    try:
        array = plain_array(values, name)
    except ValueError as error:
        error.add_note(
            f"{name} must be one array: a Model has one input and one output; npdl.training.fit "
            f"trains an F.graph with several"
        )
        raise
    return check_numbers(name, array)  # type: ignore[no-any-return]


def check_axes(shape: tuple[Any, ...] | None, x: Array) -> None:
    """Raise if inputs have fewer axes than a batch of shape `shape`."""
    if shape is None or x.ndim >= len(shape):
        return
    single = shape == (None, 1) and x.ndim == 1
    raise ValueError(
        f"a batch of inputs has the shape (batch, {', '.join(map(str, shape[1:]))}), got "
        f"{describe(x)}; {'X[:, None] has one feature' if single else 'X[None] is a batch of one'}"
    )


def validation_pair(given: Any) -> tuple[Array, Array, Array | None]:
    """Return inputs, targets and weights of validation data, or raise."""
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise TypeError(
            "validation_data must be a tuple (X, Y), or (X, Y, weights) with a weight for each "
            f"example; got {describe(given)}"
        )
    x, y = check_pair("validation_data", *given[:2])
    return x, y, check_weight(given[2] if len(given) == 3 else None, len(x))


def as_targets(classes: bool | None, shape: tuple[int, ...], targets: Array) -> Array:
    """Return targets in the form that the loss needs for outputs of a shape.

    An axis of length one is added or removed, and class labels in floats become ints.

    Parameters
    ----------
    classes : bool or None
        `True` for class labels or a probability for each class, `False` for numbers. `None` leaves
        the targets unchanged.
    shape : tuple of ints
        The shape of one output.
    targets : array
        The targets, the batch first.
    """
    given = targets.shape[1:]
    if classes is None:
        return targets
    if not classes:
        return targets[..., None] if (*given, 1) == shape else targets
    if given == (*shape[:-1], 1) != shape:
        targets = targets[..., 0]
    is_label = targets.shape[1:] == shape[:-1]
    if is_label and targets.dtype.kind in "bf":
        are_ints = np.all(np.abs(targets) < 2**31) and np.array_equal(np.rint(targets), targets)
        return targets.astype(np.intp) if are_ints else targets
    return targets


def check_weight(weight: Any, count: int) -> Array | None:
    """Return a weight for each example, or raise."""
    if weight is None:
        return None
    weights = plain_array(weight, "sample_weight")
    if (
        weights.shape != (count,)
        or weights.dtype.kind not in "fiub"
        or not np.all((weights >= 0) & np.isfinite(weights))
    ):
        raise ValueError(
            f"sample_weight must have a finite, non-negative number for each of the {count} "
            f"examples, got an array "
            f"{weights.dtype}{list(weights.shape)}"
        )
    return weights


def check_verbose(value: Any) -> bool:
    """Return whether lines are printed, for an argument of Keras that is more than a flag."""
    if not isinstance(value, int | np.integer | np.bool_ | str) or value not in (0, 1, 2, "auto"):
        raise ValueError(
            f"verbose must be 0, 1, 2 or 'auto', as in Model.fit(X, Y, verbose=0), got {value!r}"
        )
    return bool(value)
