"""The training examples of an estimator: checked, in one data type, optionally weighted."""

from typing import Any

import attrs
import numpy as np

from npdl import random
from npdl.sklearn._scikit import assert_all_finite, check_array
from npdl.tree import Array

__all__ = ["Examples", "cast", "check_weights"]


def cast(array: Any, dtype: Any, name: str) -> Any:
    """Return an array or a sparse matrix in a data type; raise if a number is too large for it."""
    with np.errstate(over="ignore"):
        is_sparse = hasattr(array, "toarray")
        found = array.astype(dtype) if is_sparse else np.asarray(array, dtype, order="C")
    assert_all_finite(found, input_name=name)
    return found


def check_weights(given: Any, count: int) -> Array | None:
    """Return weights in float64, or raise unless there is one for each example."""
    if given is None:
        return None
    weights: Array = check_array(
        given, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (count,):
        raise ValueError(
            f"sample_weight: expected one weight for each example, of the shape ({count},), got "
            f"the shape {weights.shape}"
        )
    if weights.min() < 0:
        raise ValueError(
            f"sample_weight must not be negative, got {weights.min()}; a weight of 0 leaves an "
            f"example out"
        )
    return weights


@attrs.frozen(eq=False)
class Examples:
    """Inputs with their targets and weights. It is also a source of rows for `fit`.

    Parameters
    ----------
    x : array or CSR matrix (examples, features)
        The inputs.
    targets : array (examples,) or (examples, outputs)
        The targets.
    weights : array (examples,) or None
        Weights in float64; `None` for equal weights.
    """

    x: Any
    targets: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: Any) -> tuple[Array, ...]:
        """Return ``(x, targets)`` or ``(x, targets, weights)`` of some rows, with dense inputs."""
        return self.take(rows).dense

    @property
    def dense(self) -> tuple[Array, ...]:
        """All examples as a tuple of arrays."""
        x = self.x.toarray() if hasattr(self.x, "toarray") else self.x
        return (x, self.targets) if self.weights is None else (x, self.targets, self.weights)

    @property
    def data(self) -> Any:
        """The data for `fit`: arrays, or this source, which makes each sparse batch dense."""
        return self if hasattr(self.x, "toarray") else self.dense

    def take(self, rows: Any) -> "Examples":
        """Return some of the examples."""
        weights = None if self.weights is None else self.weights[rows]
        return Examples(self.x[rows], self.targets[rows], weights)

    def weighted(self) -> "Examples":
        """Return the examples of positive weight; equal weights become `None`."""
        weights = self.weights
        if weights is None:
            return self
        rows = np.flatnonzero(weights)
        if not rows.size:
            raise ValueError(
                "the weights of all examples are zero; pass a positive sample_weight or "
                "class_weight for those that the network trains on"
            )
        left = self if rows.size == len(self) else self.take(rows)
        is_equal = (weights[rows] == weights[rows[0]]).all()
        return attrs.evolve(left, weights=None) if is_equal else left

    def split(self, fraction: float, key: random.Key) -> tuple["Examples", "Examples"]:
        """Return two parts, the second one with a fraction of the examples.

        The second part takes every n-th example in the order of the first target. So both parts
        have about the same share of each class.
        """
        count, total = max(1, round(fraction * len(self))), len(self)
        if count >= total:
            raise ValueError(
                f"validation_fraction={fraction} of {total} examples leaves none for training; "
                f"pass more examples, or early_stopping=False"
            )
        order = random.generator(random.fold(key, "validation")).permutation(total)
        first = self.targets.reshape(total, -1)[order, 0]
        order = order[np.argsort(first, kind="stable")]
        held_out = np.sort(order[(2 * np.arange(count) + 1) * total // (2 * count)])
        return self.take(np.delete(np.arange(total), held_out)), self.take(held_out)

    def as_set(self, batch_size: int) -> "Examples":
        """Return the examples; their order follows from their values if they fit into one batch.

        The order in a batch changes only the rounding of sums. If the weights are integers with a
        sum of at most `batch_size`, examples are repeated instead.
        """
        rows, weights = np.arange(len(self)), self.weights
        if weights is not None and weights.sum() <= batch_size and (weights % 1 == 0).all():
            rows, weights = rows.repeat(weights.astype(int)), None
        if len(rows) > batch_size:
            return self
        arrays = attrs.evolve(self, weights=weights).dense
        rows = np.array(sorted(rows, key=lambda row: [array[row].tobytes() for array in arrays]))
        x, targets = (array[rows] for array in arrays[:2])
        return Examples(x, targets, None if weights is None else weights[rows])
