"""The protocol of metrics: sums over examples, a rule to merge them, and their result.

The mean of the recalls of all batches is not the recall of the epoch. So a :class:`Metric` returns
sums, such as the numbers of hits and of targets. The result is computed from the merged sums of all
batches, shards and ranks. Some metrics, such as the area under a curve, need all examples at once.
Their sums are the examples themselves: :func:`collected`.
"""

import functools
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional._arrays import describe
from npdl.functional._checks import check_function
from npdl.tree import Array, Tree

__all__ = ["Metric", "add_sums", "collected", "joined", "metric", "quotient", "recorded"]


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
            f"{describe(y)}; F.collected(function) keeps the outputs and targets of all batches"
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
    each_step : bool
        Whether `fit` also computes the result after each step, for progress and callbacks. False
        for expensive results, which are computed once per epoch.

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
    each_step: bool = True

    def __call__(self, outputs: Array, targets: Any, weights: Any = None, **options: Any) -> Any:
        """Return the result for all examples at once."""
        return self.result(self.sums(outputs, targets, weights, **options), **options)

    def __repr__(self) -> str:
        if call := vars(self).get("call"):
            return f"{call[0].__name__}({call[1][0]!r})"
        return str(getattr(self, "__qualname__", f"Metric({self.sums!r}, {self.result!r})"))

    def __reduce__(self) -> Any:
        # A decorated metric replaces its function and is pickled by the function's name. Others may
        # know the call that makes them.
        name = getattr(self, "__qualname__", None)
        fields = Metric, (self.sums, self.result, self.merge, self.each_step)
        return name or vars(self).get("call", fields)

    def bound(self, **options: Any) -> "Metric":
        """Return the metric with these options."""
        sums = functools.partial(self.sums, **options)
        result = functools.partial(self.result, **options)
        return Metric(sums, result, self.merge, self.each_step)


def recorded(made: Metric, function: Callable[[Any], Metric], argument: Any) -> Metric:
    """Record the call that makes a metric, for pickling; return the metric itself."""
    vars(made)["call"] = function, (argument,)
    return made


def metric(
    result: Callable[..., Any] = quotient,
    merge: Callable[[Tree, Tree], Tree] = add_sums,
    each_step: bool = True,
) -> Callable[[Callable[..., Tree]], Metric]:
    """Return a decorator that turns a function for the sums into a metric."""

    def decorate(sums: Callable[..., Tree]) -> Metric:
        made = Metric(sums, result, merge, each_step)
        vars(made).update(__wrapped__=sums)
        for name in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(sums, name):
                vars(made)[name] = getattr(sums, name)
        return made

    return decorate


def joined(a: Tree, b: Tree) -> Tree:
    """Return the parts of two sets of examples: tuples of trees of arrays.

    Two parts at the end are concatenated when the first one is not the larger one. So an epoch of n
    examples has at most ``log₂ n`` parts, and each array is copied at most as many times.
    """
    parts = (*a, *b)
    while len(parts) > 1 and _length(parts[-2]) <= _length(parts[-1]):
        parts = (*parts[:-2], _concatenated(parts[-2:]))
    return parts


def _length(part: Tree) -> int:
    return len(tree.leaves(part)[0])


def _concatenated(parts: Tree) -> Tree:
    return parts[0] if len(parts) == 1 else tree.map(lambda *x: np.concatenate(x), *parts)


def collected(function: Callable[..., Any]) -> Metric:
    """Return a metric that is a function of the outputs and targets of all examples.

    `fit` collects the arrays of an epoch, and calls the function at its end. Their memory is the
    memory of all outputs and targets. A checkpoint in mid-epoch contains them.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets) -> number``, or with further targets, or with an argument
        `weights`. Further options are keywords of the metric, too.

    Raises
    ------
    TypeError
        If it is not a function.

    Examples
    --------
    The median error of an epoch, which is not the mean of the medians of its batches:

    >>> import numpy as np
    >>> import npdl.functional as F
    >>> median_error = F.collected(lambda outputs, targets: np.median(np.abs(outputs - targets)))
    >>> parts = [median_error.sums(np.array(p), np.zeros(2)) for p in ([1.0, 2.0], [3.0, 9.0])]
    >>> float(median_error.result(median_error.merge(*parts)))
    2.5
    """

    check_function(function, "collected(function=np.median)", "a function")

    def sums(outputs: Any, *targets: Any, weights: Any = None, **options: Any) -> Tree:
        while targets and targets[-1] is None:  # absent weights
            targets = targets[:-1]
        return ((outputs, targets, {} if weights is None else {"weights": weights}),)

    def result(parts: Tree, **options: Any) -> Any:
        outputs, targets, weights = _concatenated(parts)
        return function(outputs, *targets, **weights, **options)

    made = Metric(sums, result, joined, each_step=False)
    vars(made).update(__wrapped__=function)  # the signature
    return recorded(made, collected, function)
