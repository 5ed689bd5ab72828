"""Examples with a weight of 0, whose outputs the model still computes.

A loss ignores such examples. But if their inputs are NaN or infinite, the product with a gradient
of 0 is NaN. This product is added to the gradients of the parameters.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from npdl import tree
from npdl.functional._layer import Params
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["all_finite", "check_left_out", "left_out", "refusal_of"]

# The path of an input, and the index and the value of a number in it.
Found: TypeAlias = tuple[str, tuple[int, ...], Any]

# Rows per block, for data that may be memory-mapped.
_BLOCK = 1024
# Rows that are checked before the first step; every step checks its batch.
_TRIED = 256


def left_out(batch: Any, weights_index: int | None) -> Iterator[Found]:
    """Yield the first input of each example that is not finite and has the weight 0.

    If the weights have an axis of positions, such as time steps, each input has the weight of its
    position. If the input has no such axis, all weights of its example must be 0.

    Parameters
    ----------
    batch : tuple
        ``(x, *targets)``.
    weights_index : int or None
        The index of the weights in the batch; `None` without weights.
    """
    given = None if weights_index is None or len(batch) <= weights_index else batch[weights_index]
    if given is None or np.count_nonzero(given) == np.size(given):
        return
    weights = np.asarray(given)
    for path, array in tree.items(batch[0]):
        zero = weights == 0
        if array.dtype.kind != "f" or zero.shape[:1] != array.shape[:1]:
            continue
        if array.shape[: zero.ndim] != zero.shape:
            zero = zero.reshape(len(zero), -1).all(axis=1)
        rows = np.flatnonzero(zero.reshape(len(zero), -1).any(axis=1))
        for start in range(0, len(rows), _BLOCK):
            yield from _first_of_rows(path, array, zero, rows[start : start + _BLOCK])


def _first_of_rows(path: str, array: Array, zero: Array, rows: Array) -> Iterator[Found]:
    values, where = np.asarray(array[rows]), zero[rows]
    where = where.reshape(*where.shape, *[1] * (values.ndim - where.ndim))
    wrong = np.argwhere(~np.isfinite(values) & where)
    for i in np.unique(wrong[:, 0], return_index=True)[1]:
        row, *rest = wrong[i].tolist()
        yield path, (int(rows[row]), *rest), values[tuple(wrong[i])]


def check_left_out(
    gradient: Callable[..., Any],
    weights_index: int | None,
    params: Params,
    batch: Any,
    rng: KeyLike,
    grads: Params = None,
) -> None:
    """Raise if inputs that are not finite reach the gradients, though their weight is 0.

    A layer may ignore such inputs, as recurrent layers ignore masked steps. So the check computes
    the gradient of these examples alone, with all weights set to 0.

    Parameters
    ----------
    gradient : callable
        The result of :func:`value_and_grad`.
    weights_index : int or None
        The index of the weights in the batch; `None` without weights.
    params : tree
        The parameters of the model.
    batch : tuple
        ``(x, *targets)``.
    rng : key
        The key of the step.
    grads : tree, optional
        The gradients of the whole batch, if they are known; if they are finite, the check passes.

    Raises
    ------
    ValueError
        If such an input reaches the gradients. The error names the first one.
    """
    found = list(itertools.islice(left_out(batch, weights_index), _TRIED))

    def reaches(rows: list[int]) -> bool:
        # A batch norm needs at least two examples for its statistics.
        chosen = np.array(rows if len(rows) > 1 else rows * 2)
        tried = list(tree.map(lambda array: array[chosen], tuple(batch)))
        tried[weights_index] = np.zeros_like(tried[weights_index])  # type: ignore[index]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            grads = gradient(params, *tried, train=True, rng=rng)[1]
        return not all_finite(grads)

    if found and grads is not None and all_finite(grads):
        return
    if found and reaches([index[0] for _, index, _ in found]):
        raise refusal_of(next((each for each in found if reaches([each[1][0]])), found[0]))


def all_finite(grads: Any) -> bool:
    """Whether all numbers of a tree are finite."""
    return all(np.isfinite(g).all() for g in tree.leaves(grads))


def refusal_of(found: Found, name: str = "x") -> ValueError:
    """Return the error about an input that is not finite and has the weight 0."""
    path, index, value = found
    where = "".join(f"[{part}]" for part in path.split("/") if part)
    return ValueError(
        f"{name}{where}[{', '.join(map(str, index))}] is {value}, and the weight there is 0: a "
        f"weight of 0 leaves an example out of the loss, but its inputs still reach the gradients, "
        f"where 0 · {value} is nan; leave the example out of the data, or replace its inputs, as "
        f"in np.nan_to_num({name}{where}, posinf=0, neginf=0)"
    )
