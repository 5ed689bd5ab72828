"""Weights of training examples: of each example, and of its class."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from npdl._calls import shown
from npdl._data import is_source
from npdl.functional._arrays import describe, plain_array
from npdl.functional._layer import Shape
from npdl.training._scores import index_of_weights
from npdl.tree import Array

__all__ = ["check_weights", "class_labels", "weights_of_classes", "with_weights"]


def with_weights(
    data: Any,
    count: int,
    loss: Callable[..., Any],
    shape: Shape,
    sample_weight: Any,
    class_weight: Any,
) -> Any:
    """Return data with the weights of examples and classes, as the weights of the loss.

    Parameters
    ----------
    data : tuple or source
        The data of :func:`npdl.training.fit`.
    count : int
        The number of examples.
    loss : callable
        The loss, with an argument `weights`.
    shape : tuple
        The shape of one output of the model.
    sample_weight, class_weight
        The arguments of `fit`.

    Raises
    ------
    ValueError, TypeError
        If the loss takes no weights, if the data have weights already, or if a weight is wrong.
    """
    if sample_weight is None and class_weight is None:
        return data
    index = index_of_weights(loss)
    if index is None:
        raise ValueError(
            f"sample_weight and class_weight need a loss with an argument weights, "
            f"loss(outputs, targets, weights), such as F.softmax_cross_entropy, got {shown(loss)}"
        )
    weights = None if sample_weight is None else check_weights(sample_weight, count)
    if is_source(data):
        if isinstance(class_weight, str):
            raise ValueError(
                f"class_weight={class_weight!r} needs all targets at once, and a source is read "
                f"batch by batch; pass class_weight={{class: weight}}"
            )
        source = WeightedSource(data, index, shape, weights, class_weight)
        source[np.zeros(1, np.intp)]  # checks the classes
        return source
    return _joined(tuple(data), index, shape, weights, class_weight, complete=True)


@attrs.frozen(eq=False, repr=False)
class WeightedSource:
    """A source of rows with the weights of examples and classes."""

    source: Any
    index: int
    shape: Shape
    weights: Array | None
    class_weight: Any

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> tuple[Any, ...]:
        weights = None if self.weights is None else self.weights[rows]
        batch = tuple(self.source[rows])
        return _joined(batch, self.index, self.shape, weights, self.class_weight, complete=False)


def _joined(
    data: tuple[Any, ...],
    index: int,
    shape: Shape,
    weights: Array | None,
    class_weight: Any,
    complete: bool,
) -> tuple[Any, ...]:
    """Return data with weights at an index; weights that the data have already are multiplied."""
    if len(data) < index:
        raise ValueError(
            f"the weights are the argument {index} of the loss after the outputs, but data has "
            f"only {len(data) - 1} targets"
        )
    if len(data) > index and data[index] is not None:
        if weights is not None:
            raise ValueError(
                f"weights were passed twice, as sample_weight and as data[{index}]; pass one of "
                f"them, or their product"
            )
        weights = data[index]
    if class_weight is not None:
        labels, classes = class_labels(data[1], shape)
        factors = weights_of_classes(class_weight, labels, classes, weights, complete)
        weights = factors if weights is None else _product(weights, factors)
    return (*data[:index], weights, *data[index + 1 :])


def _product(a: Array, b: Array) -> Array:
    """Return the product; missing axes of positions are axes of length one."""
    axes = max(a.ndim, b.ndim)
    a, b = (x.reshape(*x.shape, *[1] * (axes - x.ndim)) for x in (a, b))
    return np.asarray(a, np.float64) * b


def check_weights(given: Any, count: int) -> Array:
    """Return the argument `sample_weight` as an array, or raise.

    Raises
    ------
    ValueError
        Unless it has a finite number of at least 0 for each example, or each of its positions.
    """
    weights = plain_array(given, "sample_weight")
    expected = f"sample_weight must have a finite, non-negative number for each of the {count} "
    if weights.shape[:1] != (count,) or weights.dtype.kind not in "fiub":
        raise ValueError(f"{expected}examples, got {describe(weights)}")
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if wrong.size:
        raise ValueError(f"{expected}examples, got {wrong[0]}; a weight of 0 leaves an example out")
    return weights


def class_labels(targets: Any, shape: Any) -> tuple[Array, int | None]:
    """Return the class ids of targets, and the number of classes, if it is known.

    Parameters
    ----------
    targets : array
        Class ids, with one axis less than the outputs; rows of probabilities of classes; or numbers
        of 0 and 1, for a single output.
    shape : tuple of ints
        The shape of one output of the model.

    Raises
    ------
    ValueError
        If the targets do not have one class each.
    """
    if isinstance(targets, np.ndarray):
        each = targets.shape[1:]
        if each == shape and shape[-1:] > (1,):
            rows = targets.reshape(-1, shape[-1])
            if rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
                return targets.argmax(axis=-1), shape[-1]
        elif shape and each == shape[:-1] and targets.dtype.kind in "iu":
            return targets, shape[-1]
        elif each in (shape, (), (1,)):
            labels = targets[..., 0] if each[-1:] == (1,) else targets
            if np.array_equal(labels, np.rint(labels)):
                return labels.astype(np.intp), 2 if each == shape else None
    raise ValueError(
        f"class_weight needs a class for each target: ids, or rows of probabilities of classes; "
        f"got {describe(targets)} for outputs of the shape {shape}; pass sample_weight for other "
        f"targets"
    )


def weights_of_classes(
    given: Any,
    labels: Array,
    classes: int | None = None,
    weights: Array | None = None,
    complete: bool = True,
) -> Array:
    """Return the weight of each label from the argument `class_weight`.

    Parameters
    ----------
    given : dict or "balanced"
        The weights by class, 1 for a missing one. "balanced" weights each of the k classes by
        ``n / (k nₖ)``, where n is the number of labels, or the sum of their weights.
    labels : array of ints
        The class ids.
    classes : int, optional
        The number of classes.
    weights : array, optional
        The weights of the labels, or of leading axes.
    complete : bool
        Whether these are all labels, so that each class must be among them.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If a weight is negative or not finite, or a class does not exist. All weights of classes may
        be passed, even if some classes have no label.
    """
    found, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    if isinstance(given, str) and given == "balanced":
        each = None if weights is None else _product(weights, np.ones(labels.shape)).reshape(-1)
        sums = np.bincount(index.reshape(-1), each)
        factors: Array = sums.sum() / np.where(sums == 0, 1, np.count_nonzero(sums) * sums)
        return factors[index]
    if not isinstance(given, Mapping):
        raise TypeError(
            f"class_weight must be 'balanced', or a dict from class to weight, as in "
            f"{{0: 1.0, 1: 5.0}}, got {given!r:.80}"
        )
    for label, weight in given.items():
        if not (_is_number(label) and _is_number(weight) and 0 <= weight < math.inf):
            raise ValueError(
                f"class_weight must have a finite, non-negative weight for each class, as in "
                f"{{0: 1.0, 1: 5.0}}, got {weight!r:.40} for {label!r:.40}"
            )
    names, known = set(given), set(found.tolist())
    if not complete or names >= known:
        known = names if classes is None else set(range(classes))
    if unknown := sorted(names - known):
        raise ValueError(
            f"class_weight has a weight for the class {unknown[0]}, which is not among the "
            f"classes {_listed(sorted(known))} of the targets"
        )
    return np.array([given.get(label, 1.0) for label in found.tolist()], np.float64)[index]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _listed(names: list[int]) -> str:
    return ", ".join(map(str, names[:10])) + ", …" * (len(names) > 10)
