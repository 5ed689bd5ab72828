"""Outputs, targets and weights: the shared checks of losses and metrics.

NumPy would broadcast targets of another shape, and use a label of -1 as the last class; here both
are errors. Class labels are ints, with one axis less than the outputs, whose last axis is the class
axis. Probabilities, such as one-hot rows, have the shape of the outputs. Weights belong to the
examples, or to positions on further leading axes, such as time steps. Outputs and targets with a
weight of 0 are replaced by 0, so that their NaN and inf have no effect.
"""

import math
from typing import Any

import numpy as np

from npdl.functional._arrays import DOUBLE, SINGLE, check_array, check_class, check_float, describe
from npdl.functional._checks import check_int
from npdl.functional._dual import is_dual
from npdl.tree import Array

__all__ = [
    "check_probabilities",
    "class_ids",
    "class_items",
    "class_targets",
    "item_values",
    "labels_of",
    "mean_scale",
    "predicted_and_true",
    "ratio",
    "several_items",
    "value_items",
    "value_targets",
]

# Rounding in low precision may raise a probability slightly above one.
_ONE = 1.001
_INT, _UNSIGNED = np.dtype(np.intp), np.dtype(np.uintp)


def value_items(
    name: str, outputs: Any, targets: Any, weights: Any, axes: int = 0
) -> tuple[Array, Array, Array | None]:
    """Return outputs, targets of numbers of the same shape, and weights.

    A weight belongs to an element; with ``axes=1``, to a vector on the last axis.
    """
    p, t = _outputs(name, outputs), _numbers(name, "targets", targets)
    _check_same_shape(name, p, t)
    each = _item_weights(name, p.shape[: p.ndim - axes], weights)
    if each is not None:
        p, t = _without_zeros(each, p, t)
    return p, t, each


def several_items(
    name: str, roles: tuple[str, ...], outputs: Any, weights: Any, axes: int, targets: Any = None
) -> tuple[tuple[Array, ...], Array | None]:
    """Return several outputs of one shape and type, targets if there are any, and weights.

    The items have the shape of the outputs without the last `axes` axes.
    """
    expected = f"{name}: expected a tuple of outputs ({', '.join(roles)})"
    if not isinstance(outputs, tuple) or len(outputs) != len(roles):
        raise TypeError(f"{expected}, got {describe(outputs)}")
    arrays = [_outputs(name, output) for output in outputs]
    shape = arrays[0].shape
    if len(shape) <= axes or any(array.shape != shape for array in arrays):
        raise ValueError(f"{expected} of one shape, the batch first, got {describe(outputs)}")
    if len({array.dtype for array in arrays if not is_dual(array)}) > 1:
        raise TypeError(f"{expected} of one data type, got {describe(outputs)}")
    if targets is not None:
        targets = _numbers(name, "targets", targets)
        _check_same_shape(name, arrays[0], targets)
        arrays.append(targets.astype(arrays[0].dtype, copy=False))
    each = _item_weights(name, shape[: len(shape) - axes], weights)
    return tuple(arrays) if each is None else _without_zeros(each, *arrays), each


def item_values(name: str, role: str, given: Any, outputs: Array, weights: Array | None) -> Array:
    """Return a number for each row of the outputs, in their data type; weights are (rows,)."""
    values = _numbers(name, role, given)
    if values.shape != outputs.shape[:-1]:
        raise ValueError(
            f"{name}: expected {role} of shape {outputs.shape[:-1]}, one number for each row of "
            f"outputs {describe(outputs)}, got {describe(values)}"
        )
    values = values.astype(outputs.dtype, copy=False).reshape(-1)
    return values if weights is None else _without_zeros(weights, values)[0]


def value_targets(name: str, outputs: Array, given: Any) -> Array:
    """Return targets of numbers in the data type and shape of the outputs."""
    targets = _numbers(name, "targets", given)
    _check_same_shape(name, outputs, targets)
    return targets.astype(outputs.dtype, copy=False)


def class_items(
    name: str, outputs: Any, targets: Any, weights: Any
) -> tuple[Array, Array, Array | None]:
    """Return outputs, the targets of :func:`class_targets`, and the weights (rows,)."""
    p, t = outputs, targets
    # Inline, because a function call costs time on this hot path of small networks.
    if type(p) is not np.ndarray or (p.dtype is not SINGLE and p.dtype is not DOUBLE):
        p = _outputs(name, p)
    if type(t) is not np.ndarray or t.dtype is not _INT:
        t = _numbers(name, "targets", t)
    if weights is None and p.size:
        return p, _class_targets(name, p, t), None
    items = p.shape[:-1]
    if t.shape not in (items, p.shape):
        _class_targets(name, p, t)
    each = _item_weights(name, items, weights)
    if each is None:
        return p, _class_targets(name, p, t), None
    if t.shape == p.shape:
        p, t = _without_zeros(each, p, t)
    else:
        (p,) = _without_zeros(each, p)
    every = each if each.shape == items else np.broadcast_to(each, items)
    return p, _class_targets(name, p, t), every.reshape(-1)


def class_targets(name: str, outputs: Array, given: Any) -> Array:
    """Return class ids (rows,), or probabilities (rows, classes) in the outputs' data type."""
    return _class_targets(name, outputs, _numbers(name, "targets", given))


def _class_targets(name: str, outputs: Array, targets: Array) -> Array:
    shape = outputs.shape
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


def class_ids(name: str, role: str, ids: Array, classes: int) -> Array:
    """Return ids as a vector of `intp`; raise if an id is not one of the classes."""
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: class labels are ints, got {role} {describe(ids)}; "
            f"convert them with {role}.astype(int)"
        )
    flat = ids if ids.ndim == 1 and ids.dtype == _INT else ids.astype(_INT).reshape(-1)
    if flat.size:
        # As unsigned ints, negative labels are the largest; argmax is the fastest maximum.
        unsigned = flat.view(_UNSIGNED)
        worst = unsigned.argmax()
        if unsigned.item(worst) >= classes:
            index = ", ".join(str(int(i)) for i in np.unravel_index(worst, ids.shape))
            raise ValueError(
                f"{name}: {role}[{index}] is {ids.reshape(-1)[worst]}, but there are {classes} "
                f"classes, labelled 0 to {classes - 1}; padding needs a label too, and a weight "
                f"of 0"
            )
    return flat


def predicted_and_true(
    name: str, outputs: Any, targets: Any, weights: Any, classes: int | None
) -> tuple[Array, Array, Array | None, int]:
    """Return predicted ids, true ids and weights as vectors, and the number of classes."""
    if classes is not None:
        classes = check_int(classes, f"{name}(outputs, targets, classes=10)")
    if not (isinstance(outputs, np.ndarray) and outputs.dtype.kind in "iub"):
        scores, given, each = class_items(name, outputs, targets, weights)
        n_classes = scores.shape[-1]
        if classes not in (None, n_classes):
            raise ValueError(f"{name}: the outputs have {n_classes} classes, not {classes}")
        return scores.argmax(axis=-1).reshape(-1), labels_of(given), each, n_classes
    ids, targets = _numbers(name, "outputs", outputs), _numbers(name, "targets", targets)
    if ids.ndim == 0 or targets.shape != ids.shape:
        raise ValueError(
            f"{name}: outputs of ints are class ids and need the shape of the targets, got "
            f"outputs {describe(ids)} and targets {describe(targets)}; scores are floats"
        )
    each = _item_weights(name, ids.shape, weights)
    if classes is None:
        classes = 1 + max(int(each_ids.max()) for each_ids in (ids, targets))
    predicted = class_ids(name, "outputs", ids, classes)
    true = class_ids(name, "targets", targets, classes)
    if each is not None:
        each = np.broadcast_to(each, ids.shape).reshape(-1)
    return predicted, true, each, classes


def labels_of(targets: Array) -> Array:
    """Return class ids, from ids or from rows of probabilities."""
    return targets if targets.ndim == 1 else targets.argmax(axis=1)


def check_probabilities(name: str, role: str, values: Array, hint: str) -> None:
    """Raise if a value is outside [0, 1]; NaN is accepted and makes the result NaN."""
    _check_numbers(name, role, values)
    if values.size and (values.min() < 0 or values.max() > _ONE):
        raise ValueError(
            f"{name}: {role} must be in [0, 1], got values from {values.min()} to "
            f"{values.max()}; {hint}"
        )


def mean_scale(
    shape: tuple[int, ...], weights: Array | None, dtype: Any, per_example: bool = False
) -> float | Array:
    """Return the factor of each item in the (weighted) mean.

    Parameters
    ----------
    shape : tuple of int
        The shape of the items.
    weights : array or None
        In float64, with as many axes as the items.
    dtype : data type
        The data type of the result.
    per_example : bool
        Whether the mean is over the items of each example, instead of all items.

    Returns
    -------
    float or array
        ``1 / n``, or weights / Σ weights; zeros if all weights are 0.
    """
    count = math.prod(shape)
    if weights is None:
        return shape[0] / count if per_example else 1 / count
    if per_example:
        total = np.add.reduce(weights, tuple(range(1, weights.ndim)), keepdims=True)
        total[total == 0] = 1
        count //= shape[0]
        held = weights.size // shape[0]
    else:
        total, held = np.add.reduce(weights, None), weights.size
        if total == 0:
            return weights.astype(dtype, copy=False)
    # The division is in float64, because small weights may underflow in float32. Factors that
    # underflow become the smallest normal number, so that NaN and inf still reach the mean.
    scale: Array = (weights / total / (count // held)).astype(dtype, copy=False)
    if np.count_nonzero(scale) != np.count_nonzero(weights):
        np.maximum(scale, np.finfo(dtype).tiny, out=scale, where=weights > 0)
    return scale


def ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, and 0 if the whole is 0."""
    zeros = np.zeros(np.shape(whole), np.result_type(part, whole, np.float16))
    return np.divide(part, whole, out=zeros, where=whole != 0)


def _outputs(name: str, given: Any) -> Array:
    """Return outputs, or raise unless they are an array of float32 or float64."""
    if type(given) is np.ndarray and given.dtype.char in "fd":
        return given
    check_float(given, name)
    return given if is_dual(given) else np.asarray(given)


def _numbers(name: str, role: str, given: Any) -> Array:
    """Return an array of numbers; raise for other types, and for masked arrays."""
    if type(given) is not np.ndarray:
        for part in given if isinstance(given, list | tuple) else [given]:
            if isinstance(part, np.ndarray):
                check_class(part, f"{name}, {role}")
        given = np.asarray(given)
    array: Array = given
    if array.dtype.kind not in "iub" and array.dtype.char not in "fd":
        check_array(array, f"{name}, {role}")
        _check_numbers(name, role, array)
    return array


def _check_numbers(name: str, role: str, values: Array) -> None:
    if values.dtype.kind not in "fiub" and not is_dual(values):
        raise TypeError(f"{name}: expected {role} of numbers, got {describe(values)}")


def _check_same_shape(name: str, outputs: Array, targets: Array) -> None:
    if outputs.ndim == 0 or targets.shape != outputs.shape:
        hint = "; use targets.reshape(outputs.shape)" if targets.size == outputs.size else ""
        raise ValueError(
            f"{name}: outputs and targets need one shape, the batch first, and are not broadcast; "
            f"got outputs {describe(outputs)} and targets {describe(targets)}{hint}"
        )


def _item_weights(name: str, shape: tuple[int, ...], given: Any) -> Array | None:
    """Return weights in float64, with as many axes as the items; `None` without weights."""
    if 0 in shape:
        raise ValueError(f"{name}: the mean of an empty batch is undefined, got items {[*shape]}")
    if given is None:
        return None
    weights = _numbers(name, "weights", given)
    if weights.ndim == 0 or weights.shape != shape[: weights.ndim]:
        allowed = " or ".join(str(shape[:n]) for n in range(1, len(shape) + 1))
        raise ValueError(
            f"{name}: expected weights of shape {allowed}, one for each example or position, "
            f"got {describe(weights)}"
        )
    each = weights.astype(np.float64, copy=False)
    # Comparisons with NaN are false, so that NaN is an error, too.
    if not (np.minimum.reduce(each, None) >= 0 and _sum(each, None) < math.inf):
        raise _weights_error(name, weights)
    columns = (1,) * (len(shape) - weights.ndim)
    return each.reshape(weights.shape + columns)


# As a decorator, np.errstate takes a third of the time of a `with` statement.
_sum = np.errstate(over="ignore")(np.add.reduce)


def _weights_error(name: str, weights: Array) -> ValueError:
    wrong = weights[~np.isfinite(weights)]
    if wrong.size:
        return ValueError(
            f"{name}: weights must be finite, got {wrong[0]}; a weight of 0 excludes an example"
        )
    if weights.min() < 0:
        return ValueError(
            f"{name}: weights must not be negative, got {weights.min()}; a weight of 0 excludes an "
            f"example"
        )
    return ValueError(
        f"{name}: the sum of the weights must be finite, got weights up to {weights.max()}; use "
        f"weights / weights.max()"
    )


def _without_zeros(weights: Array, *arrays: Array) -> tuple[Array, ...]:
    """Return arrays with 0 in the items of weight 0; without such items, the same arrays."""
    if np.count_nonzero(weights) == weights.size:
        return arrays
    left_out = weights == 0

    def cleared(array: Array) -> Array:
        copy = array.copy()
        shape = left_out.shape + (1,) * (array.ndim - left_out.ndim)
        np.copyto(copy, np.zeros((), copy.dtype), where=left_out.reshape(shape))
        return copy

    return tuple(map(cleared, arrays))
