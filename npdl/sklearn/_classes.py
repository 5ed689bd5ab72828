"""Classes and their weights."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npdl.tree import Array

__all__ = ["class_factors", "listed"]


def class_factors(given: Any, classes: Array, targets: Array, weights: Array | None) -> Array:
    """Return the weights of all classes from `class_weight`, or raise if it is wrong.

    Parameters
    ----------
    given : dict or "balanced"
        The argument `class_weight`.
    classes : array
        The names of the classes.
    targets, weights : array
        The class ids of the examples, and their weights.
    """
    if isinstance(given, str) and given == "balanced":
        sums = np.bincount(targets, weights, len(classes))
        return len(targets) / np.where(sums == 0, 1, sums)
    names = classes.tolist()
    # A fold of cross-validation may lack a class, so a complete dict may have further classes.
    if isinstance(given, Mapping) and (set(given) <= set(names) or set(names) <= set(given)):
        each = [given.get(name, 1.0) for name in names]
        if all(isinstance(weight, int | float | np.number) for weight in each) and all(
            0 <= weight < math.inf for weight in each
        ):
            return np.array(each, np.float64)
    raise ValueError(
        f"NpdlClassifier: class_weight must be 'balanced', or a dict of weights of at least 0 for "
        f"the classes [{listed(classes)}], got {given!r}"
    )


def listed(classes: Array) -> str:
    """Return the first classes, separated by commas."""
    names = [repr(name) for name in classes[:10].tolist()]
    return ", ".join(names + ["..."] * (len(classes) > 10))
