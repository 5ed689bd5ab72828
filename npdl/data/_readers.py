"""Readers of rows: one function per kind of container, none of which imports its library.

A reader is a function of an array of row numbers, and returns a new array.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from npdl.functional._arrays import check_class
from npdl.tree import Array

__all__ = ["Reader", "columns_reader", "items_reader", "reader"]

Reader: TypeAlias = Callable[[Array], Any]


def reader(x: Any, where: str) -> tuple[Reader, int]:
    """Return the reader of an array or of a table, and its number of rows.

    Raises
    ------
    TypeError, ValueError
        If `x` is another object, or a table has columns that are not numbers.
    """
    if hasattr(x, "detach"):  # a tensor of PyTorch
        x = np.asarray(x.detach().cpu())
    if isinstance(x, np.ndarray):
        check_class(x, where)
        array = np.asarray(x)  # not a subclass for memory-mapped files
        return (lambda rows: array.take(rows, axis=0)), _length(x, where)
    if hasattr(x, "tocsr"):
        matrix = x.tocsr()
        return (lambda rows: matrix[rows].toarray()), _length(x, where)
    if hasattr(x, "to_numpy") and hasattr(x, "to_frame"):  # a single column
        rows_of, length = _frame_reader(x.to_frame(), where)
        return (lambda rows: rows_of(rows)[:, 0]), length
    if hasattr(x, "to_numpy") and hasattr(x, "columns"):
        return _frame_reader(x, where)
    if hasattr(x, "shape") and hasattr(x, "dtype") and hasattr(type(x), "__getitem__"):
        return (lambda rows: _in_rising_order(x, rows)), _length(x, where)
    raise TypeError(
        f"{where}: expected an array, a table, a sparse matrix or a data set, got "
        f"{type(x).__name__}; convert it with np.asarray(x)"
    )


def _length(x: Any, where: str) -> int:
    if not x.shape:
        raise ValueError(f"{where} is a single number, but needs an axis of examples")
    return int(x.shape[0])


def _in_rising_order(x: Any, rows: Array) -> Array:
    """Read rows of a data set in a file once each, in rising order; return them as requested."""
    wanted, inverse = np.unique(rows, return_inverse=True)
    first, last = int(wanted[0]), int(wanted[-1])
    if last - first + 1 == len(wanted):
        found = x[first : last + 1]
    else:
        found = (x.oindex if hasattr(x, "oindex") else x)[wanted]
    return np.asarray(found).take(inverse, axis=0)


def _frame_reader(frame: Any, where: str) -> tuple[Reader, int]:
    """Return the reader of a table of pandas or polars; all batches have one data type."""
    is_pandas = hasattr(frame, "iloc")
    kinds = []
    for index, name in enumerate(frame.columns):
        column = frame.iloc[:, index] if is_pandas else frame.to_series(index)
        kind = getattr(column.dtype, "numpy_dtype", column.dtype)
        if not is_pandas:
            kind = column[:0].to_numpy().dtype
        if not isinstance(kind, np.dtype) or kind.kind not in "iubf":
            raise TypeError(
                f"{where}: the column {name!r} must have numbers, got {column.dtype}; drop it, or "
                f"encode it as numbers"
            )
        missing = int(column.isna().sum() if is_pandas else column.null_count())
        if missing and not (is_pandas and isinstance(column.dtype, np.dtype)):
            raise ValueError(
                f"{where}: the column {name!r} has {missing} missing values; fill them first, such "
                f"as with {'fillna' if is_pandas else 'fill_null'}(0)"
            )
        kinds.append(kind)
    if not kinds:
        raise ValueError(f"{where}: the table has no columns")
    common = np.result_type(*kinds)

    def rows_of(rows: Array) -> Array:
        part = frame.iloc[rows] if is_pandas else frame[rows]
        return np.ascontiguousarray(part.to_numpy(), dtype=common)

    return rows_of, len(frame)


def columns_reader(dataset: Any, columns: Sequence[str]) -> tuple[Reader, int]:
    """Return the reader of columns of a Hugging Face data set.

    Raises
    ------
    ValueError
        If a column does not exist.
    """
    for name in columns:
        if name not in dataset.column_names:
            raise ValueError(
                f"source(…, columns={list(columns)}): there is no column {name!r}, but "
                f"{', '.join(map(repr, dataset.column_names))}"
            )
    selected = dataset.select_columns(list(columns)).with_format("numpy")

    def rows_of(rows: Array) -> tuple[Array, ...]:
        found = selected[rows.tolist()]
        return tuple(_stacked(list(found[name]), rows) for name in columns)

    return rows_of, len(dataset)


def items_reader(dataset: Any, columns: Sequence[str] | None) -> tuple[Reader, int]:
    """Return the reader of a data set of single examples, such as one of PyTorch.

    An example is a tuple ``(x, *targets)``, or a dict with the `columns`.
    """

    def item(row: int) -> tuple[Any, ...]:
        found = dataset[row]
        if isinstance(found, Mapping):
            if columns is None:
                raise ValueError(
                    f"source: an example of the data set is a dict with the keys {list(found)}; "
                    f"name those of (x, *targets): source(dataset, columns=[…])"
                )
            if missing := [name for name in columns if name not in found]:
                raise ValueError(
                    f"source(…, columns={list(columns)}): an example has no {missing[0]!r} among "
                    f"the keys {list(found)}"
                )
            return tuple(found[name] for name in columns)
        if columns is not None:
            raise ValueError(
                f"source(…, columns={list(columns)}): expected a table, or examples that are "
                f"dicts, got {type(found).__name__}; leave columns out"
            )
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    def rows_of(rows: Array) -> tuple[Any, ...]:
        items = [item(row) for row in rows.tolist()]
        sizes = {len(each) for each in items}
        if len(sizes) > 1:
            raise ValueError(f"source: examples have different numbers of targets: {sorted(sizes)}")
        return tuple(_stacked(list(each), rows) for each in zip(*items, strict=True))

    return rows_of, len(dataset)


def _stacked(values: list[Any], rows: Array) -> Any:
    """Return the values of examples along a new first axis, or a tuple for tuples of values."""
    if isinstance(values[0], tuple):
        return tuple(_stacked(list(each), rows) for each in zip(*values, strict=True))
    arrays = [np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for v in values]
    for row, array in zip(rows.tolist(), arrays, strict=True):
        if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
            raise ValueError(
                f"source: row {rows[0]} is {arrays[0].dtype}{list(arrays[0].shape)}, but row {row} "
                f"is {array.dtype}{list(array.shape)}; all rows need one shape and one data type"
            )
    return np.stack(arrays)
