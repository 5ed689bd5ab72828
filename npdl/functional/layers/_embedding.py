"""Vectors for ids, looked up in a table, and scores of ids by the same table."""

import math
from typing import Any

import numpy as np

from npdl.functional._arrays import (
    check_array,
    check_example,
    check_float,
    check_names,
    check_params,
    check_types,
    describe,
)
from npdl.functional._checks import check_function, check_int, is_int, refusal
from npdl.functional._initializers import Initializer, normal
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["embedding", "sums_of_ids", "unembedding"]


@layer
def embedding(
    vocabulary: int,
    units: int,
    *,
    padding_id: int | None = None,
    table_init: Initializer = normal(1.0),  # noqa: B008 - an immutable value
) -> Layer:
    """Look up a row for each id: ``y = table[ids]``.

    The gradient of the ids is `None`. ``freeze(embedding(...))`` excludes the table from training.

    Parameters
    ----------
    vocabulary : int
        The number of ids. They range from 0 to vocabulary - 1.
    units : int
        The length of a row.
    padding_id : int, optional
        The id of padding. Its output is zeros for any content of its row, and the gradient of this
        row is zero.
    table_init : Initializer
        Initial rows; from N(0, 1) by default, as in PyTorch. The row of `padding_id` is zero.

    Returns
    -------
    Layer
        From ids (batch, ...) of any integer type to (batch, ..., units) of the table's type.
        Parameters: ``table`` (vocabulary, units).

    Raises
    ------
    TypeError
        If the ids are not ints.
    ValueError
        If an id is negative, or not in the vocabulary.

    References
    ----------
    Bengio, Ducharme, Vincent, Jauvin: A neural probabilistic language model, 2003, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.embedding(100, 8, padding_id=0)
    >>> params = model.init(0, (3,))
    >>> y = model(params, np.array([[1, 2, 0], [5, 0, 0]]))
    >>> y.shape, bool(y[1, 1:].any())
    ((2, 3, 8), False)
    """
    vocabulary = check_int(vocabulary, "embedding(vocabulary=5000, units=64)")
    units = check_int(units, "embedding(5000, units=64)")
    check_function(table_init, "embedding(5000, 64, table_init=normal(0.02))")
    if padding_id is not None and not (is_int(padding_id) and 0 <= padding_id < vocabulary):
        ids = f"one of the ids 0 to {vocabulary - 1}, or None"
        raise ValueError(refusal(padding_id, "embedding(5000, 64, padding_id=0)", ids))

    def init(rng: KeyLike, shape: Shape) -> Params:
        table = table_init(fold(rng, "table"), (vocabulary, units))
        if padding_id is not None:
            table = np.array(table)
            table[padding_id] = 0
        return {"table": table}

    def apply(params: Params, ids: Array) -> tuple[Array, Any]:
        check_params("embedding", params, {"table": (vocabulary, units)})
        table = params["table"]
        _check_ids(ids, len(table))
        ids = ids.astype(np.intp, copy=False)  # NumPy 2.0 takes no uint64
        y = table.take(ids, axis=0)
        padding = None if padding_id is None else ids == padding_id
        if padding is not None:
            y[padding] = 0
        return y, (ids, padding)

    def backward(params: Params, cache: Any, g: Array) -> tuple[Params, None]:
        ids, padding = cache
        table = params["table"]
        if padding is not None:
            g = g.copy()
            g[padding] = 0
        rows = g.reshape(ids.size, table.shape[1])
        return {"table": sums_of_ids(ids.reshape(-1), rows, len(table))}, None

    def out_shape(shape: Shape) -> Shape:
        return (*shape, units)

    return Layer(init, apply, backward, out_shape, step=True)


def sums_of_ids(ids: Array, rows: Array, vocabulary: int) -> Array:
    """Return the sum of the rows of each id."""
    # np.add.at takes two to eight times as long as sorting. A matrix product with one-hot rows is
    # faster only for some dozens of ids.
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    first = np.ones(ids.size + 1, bool)
    np.not_equal(in_order[1:], in_order[:-1], out=first[1:-1])
    sums = np.zeros((vocabulary, rows.shape[1]), rows.dtype)
    # reduceat costs a microsecond per sum: rows of ids that occur once are copied instead.
    once = first[:-1] & first[1:]
    sums[in_order[once]] = rows.take(order[once], axis=0)
    several = ~once
    starts = np.flatnonzero(first[:-1][several])
    if starts.size:
        repeated = rows.take(order[several], axis=0)
        sums[in_order[several][starts]] = _sums_from(repeated, starts)
    return sums


def _sums_from(rows: Array, starts: Array) -> Array:
    """Return the sums of the rows from each start up to the next one."""
    # A running sum of many float32 numbers loses digits; sums of partial sums keep them.
    parts = -(-np.diff(starts, append=len(rows)) // _PART)
    if parts.max() == 1:
        sums: Array = np.add.reduceat(rows, starts, axis=0)
        return sums
    firsts = np.cumsum(parts) - parts
    within = np.arange(parts.sum()) - np.repeat(firsts, parts)
    return _sums_from(np.add.reduceat(rows, np.repeat(starts, parts) + _PART * within), firsts)


_PART = 256


def _check_ids(ids: Any, vocabulary: int) -> None:
    if type(ids) is not np.ndarray:
        check_array(ids, "embedding")
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"embedding: expected an array of ids, which are ints, got {describe(ids)}; "
            f"convert it with np.asarray(ids, np.int64)"
        )
    if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
        flat = np.ravel(ids)
        wrong = flat[(flat < 0) | (flat >= vocabulary)][0]
        raise ValueError(
            f"embedding: the id {wrong} is not in the vocabulary, whose ids are 0 to "
            f"{vocabulary - 1}"
        )


@layer
def unembedding(vocabulary: int, *, table_init: Initializer = normal(0.02)) -> Layer:  # noqa: B008
    """Score each id by the product with its row: ``y = x tableᵀ``, with the table of an embedding.

    In a :func:`graph`, the layer can share the table with :func:`embedding`.

    Parameters
    ----------
    vocabulary : int
        The number of ids.
    table_init : Initializer
        Initial rows if the table is not shared; from N(0, 0.02²) by default, as in GPT-2.

    Returns
    -------
    Layer
        From (batch, ..., units) to (batch, ..., vocabulary). Parameters: ``table`` (vocabulary,
        units).

    References
    ----------
    Press, Wolf: Using the output embedding to improve language models, 2016.

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.graph(
    ...     "ids",
    ...     {
    ...         "words": (F.embedding(100, 8), "ids"),
    ...         "thoughts": (F.lstm(8, return_sequence=True), "words"),
    ...         "scores": (F.unembedding(100), "thoughts", "words"),
    ...     },
    ...     "scores",
    ... )
    >>> list(model.init(0, (5,))), model.out_shape((5,))
    (['words', 'thoughts'], (5, 100))
    """
    vocabulary = check_int(vocabulary, "unembedding(vocabulary=5000)")
    check_function(table_init, "unembedding(5000, table_init=normal(0.02))")

    def init(rng: KeyLike, shape: Shape) -> Params:
        check_example("unembedding", shape, known=1)
        return {"table": table_init(fold(rng, "table"), (vocabulary, shape[-1]))}

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        check_names("unembedding", params, {"table"})
        check_float(x, "unembedding", check_types("unembedding", params))
        table = params["table"]
        if table.shape != (vocabulary, *x.shape[-1:]):
            raise ValueError(
                f"unembedding: expected a table of {vocabulary} ids and {x.shape[-1:]} units for "
                f"the input {describe(x)}, got {describe(table)}"
            )
        return _rows(x).dot(table.T).reshape(*x.shape[:-1], vocabulary), x

    def backward(
        params: Params, x: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        rows, table = _rows(g), params["table"]
        grads = {"table": rows.T.dot(_rows(x))}
        return grads, rows.dot(table).reshape(x.shape) if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        check_example("unembedding", shape, known=1)
        return (*shape[:-1], vocabulary)

    return Layer(init, apply, backward, out_shape, step=True)


def _rows(x: Array) -> Array:
    """Return (batch, ..., features) as a matrix (rows, features)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
