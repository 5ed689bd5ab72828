"""The protocol of metrics: sums over examples, a rule to merge them, and their result.

The mean of the recalls of all batches is not the recall of the epoch. So a :class:`Metric` returns
sums, such as the numbers of hits and of targets. The result is computed from the merged sums of all
batches, shards and ranks.
"""

import functools
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional._arrays import describe
from npdl.tree import Array, Tree

__all__ = ["Metric", "add_sums", "metric", "quotient"]


def add_sums(a: Tree, b: Tree) -> Tree:
    """Return the sum of two trees of numbers and arrays, leaf by leaf, in float64."""
    if type(a) is tuple and [type(part) for part in a] == [float, float]:
        return a[0] + b[0], a[1] + b[1]  # hits and count: this is the hot path of small networks
    return tree.map(_added, a, b)


def _added(a: Any, b: Any) -> Any:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape:
        raise ValueError(
            f"the sums of a metric need the same shape in all batches, got {describe(x)} and "
            f"{describe(y)}"
        )
    return x + y if isinstance(a, np.ndarray) else float(x + y)


def quotient(sums: Any, **options: Any) -> Any:
    """Return the first sum divided by the second one; 0 if the second one is 0."""
    part, whole = sums
    return part / whole if whole else 0.0 * part


@attrs.frozen(eq=False, repr=False, slots=False)
class Metric:
    """A metric from sums that are merged over batches, shards and ranks.

    ``metric(outputs, targets, weights=None)`` is ``result(sums(outputs, targets, weights))``.
    Further options are keywords of both functions: ``functools.partial(metric, average="micro")``
    is a metric, too.

    Parameters
    ----------
    sums : callable
        ``sums(outputs, targets, weights=None, **options) -> tree``: a tuple or dict of numbers
        and arrays. It is pure.
    result : callable
        ``result(sums, **options) -> number``.
    merge : callable, optional
        ``merge(sums, sums) -> sums`` of two disjoint sets of examples. The default adds them leaf
        by leaf in float64.

    Examples
    --------
    The root of the mean square error over all examples of an epoch:

    >>> import numpy as np
    >>> import npdl.functional as F
    >>> def sums(outputs, targets, weights=None):
    ...     return {"squares": np.sum((outputs - targets) ** 2), "count": targets.size}
    >>> root_mean_square = F.Metric(sums, lambda sums: np.sqrt(sums["squares"] / sums["count"]))
    >>> float(root_mean_square(np.array([1.0, 7.0]), np.array([0.0, 0.0])))
    5.0
    >>> parts = [root_mean_square.sums(np.array([p]), np.array([0.0])) for p in (1.0, 7.0)]
    >>> float(root_mean_square.result(root_mean_square.merge(*parts)))
    5.0
    """

    sums: Callable[..., Tree]
    result: Callable[..., Any] = quotient
    merge: Callable[[Tree, Tree], Tree] = add_sums

    def __call__(self, outputs: Array, targets: Any, weights: Any = None, **options: Any) -> Any:
        """Return the result for all examples at once."""
        return self.result(self.sums(outputs, targets, weights, **options), **options)

    def __repr__(self) -> str:
        return str(getattr(self, "__qualname__", f"Metric({self.sums!r}, {self.result!r})"))

    def __reduce__(self) -> Any:
        # A decorated metric replaces its function and is pickled by the function's name.
        name = getattr(self, "__qualname__", None)
        return name or (Metric, (self.sums, self.result, self.merge))

    def bound(self, **options: Any) -> "Metric":
        """Return the metric with these options."""
        sums = functools.partial(self.sums, **options)
        return Metric(sums, functools.partial(self.result, **options), self.merge)


def metric(
    result: Callable[..., Any] = quotient, merge: Callable[[Tree, Tree], Tree] = add_sums
) -> Callable[[Callable[..., Tree]], Metric]:
    """Return a decorator that turns a function for the sums into a metric."""

    def decorate(sums: Callable[..., Tree]) -> Metric:
        made = Metric(sums, result, merge)
        vars(made).update(__wrapped__=sums)
        for name in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(sums, name):
                vars(made)[name] = getattr(sums, name)
        return made

    return decorate
