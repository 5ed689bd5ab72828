"""A source of rows ``(x, *targets)`` from the containers of other libraries."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl._data import check_data
from npdl.data._readers import columns_reader, items_reader, reader
from npdl.functional._arrays import is_float
from npdl.tree import Array

__all__ = ["Source", "source"]


@attrs.frozen(eq=False)
class Source:
    """Rows of data that are read on demand: the result of :func:`source`.

    ``data[rows]`` returns the tuple ``(x, *targets)`` for an array of row numbers or a slice.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import data
    >>> rows = data.source(np.eye(3, dtype=np.float32), np.arange(3))
    >>> isinstance(rows, data.Source), len(rows), rows[1:][1]
    (True, 3, array([1, 2]))
    """

    _count: int
    _read: Callable[[Array], tuple[Any, ...]] = attrs.field(repr=False)
    _dtype: Any = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Any) -> tuple[Any, ...]:
        if not (isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu"):
            rows = np.atleast_1d(np.arange(self._count)[rows])
        found = self._read(rows)
        if self._dtype is None:
            return found
        converted: tuple[Any, ...] = tree.astype(found, self._dtype)
        return converted


def source(
    x: Any, *targets: Any, columns: Sequence[str] | None = None, dtype: Any = None
) -> Source:
    """Return a source of rows from arrays, tables, sparse matrices, files or data sets.

    Parameters
    ----------
    x : container, tuple of containers, or data set
        The inputs. A container is an array (also memory-mapped, or of another library), a table of
        pandas or polars, a SciPy sparse matrix, or a data set of h5py or zarr. A data set has
        examples ``(x, *targets)``: one of PyTorch, of Grain, of Hugging Face, or any object with a
        length and ``data[row]``. Then no `targets` are passed.
    *targets : containers
        Labels and optional weights, as for :func:`npdl.training.fit`; a single column of a table
        has one number per example.
    columns : sequence of str, optional
        The names of ``(x, *targets)`` in a data set of Hugging Face, or of dicts.
    dtype : float32 or float64, optional
        The data type of all arrays of floats; ints and booleans keep theirs. Tables often have
        float64, and parameters float32.

    Returns
    -------
    Source
        The argument `data` of :func:`fit` and :func:`evaluate`, and `x` of :func:`predict`. Each
        batch is a new array: sparse rows are made dense, and rows of files are read in
        rising order, and then ordered as requested.

    Raises
    ------
    TypeError, ValueError
        If a table has columns that are not numbers, or missing values; if the lengths differ; if
        there are no rows; or if the shapes of examples differ.

    Notes
    -----
    The columns of a table are converted to one data type, as by :func:`numpy.result_type`. Data
    sets of Hugging Face return float32 and int64.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.data import source
    >>> data = source(np.ones((5, 2)), np.arange(5), dtype=np.float32)
    >>> [(array.dtype.name, array.shape) for array in data[np.array([4, 0])]]
    [('float32', (2, 2)), ('int64', (2,))]
    """
    if dtype is not None and not is_float(dtype := np.dtype(dtype)):
        raise ValueError(
            f"source(…, dtype): expected float32 or float64, for arrays of floats, got {dtype}"
        )
    made = Source(*_readers(x, targets, columns), dtype)
    if not len(made):
        raise ValueError("source: x is empty; expected at least one example")
    check_data(made[np.zeros(1, np.intp)], "the first row of the source")
    return made


def _readers(
    x: Any, targets: tuple[Any, ...], columns: Sequence[str] | None
) -> tuple[int, Callable[[Array], tuple[Any, ...]]]:
    """Return the number of rows, and the reader of ``(x, *targets)``."""
    if isinstance(columns, str):
        raise TypeError(f"source(…, columns): expected a list of names, got {columns!r}")
    if _is_dataset(x):
        if targets:
            raise ValueError(
                "source: a data set has its targets in its examples; pass it alone: source(dataset)"
            )
        if hasattr(x, "column_names"):
            if columns is None:
                raise ValueError(
                    f"source: name the columns of (x, *targets) among {x.column_names}: "
                    f"source(dataset, columns=[…])"
                )
            read, count = columns_reader(x, columns)
        else:
            read, count = items_reader(x, columns)
        return count, read
    if columns is not None:
        raise ValueError(
            "source(…, columns): only for data sets; select the columns of a table instead: "
            "source(frame[names], frame[label])"
        )
    return _joined((x, *targets))


def _is_dataset(x: Any) -> bool:
    """Whether `x` has examples rather than rows of an array."""
    others: Any = tuple, str, bytes, dict
    kind = type(x)
    return (
        not isinstance(x, others)
        and hasattr(kind, "__len__")
        and hasattr(kind, "__getitem__")
        and not any(hasattr(x, name) for name in ("dtype", "to_numpy", "tocsr"))
    )


def _joined(parts: tuple[Any, ...]) -> tuple[int, Callable[[Array], tuple[Any, ...]]]:
    """Return the common number of rows of containers, and their reader."""
    lengths: dict[str, int] = {}
    readers = []
    for index, part in enumerate(parts):
        where = "x" if index == 0 else f"targets[{index - 1}]"
        inner = [reader(each, where) for each in (part if isinstance(part, tuple) else (part,))]
        lengths |= {f"{where}{f'[{i}]' * (i > 0)}": length for i, (_, length) in enumerate(inner)}
        readers.append([read for read, _ in inner])
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{where} has {length}" for where, length in lengths.items())
        raise ValueError(f"source: the numbers of examples differ: {listed}")

    def read(rows: Array) -> tuple[Any, ...]:
        found = [tuple(each(rows) for each in inner) for inner in readers]
        return tuple(
            each if isinstance(part, tuple) else each[0]
            for part, each in zip(parts, found, strict=True)
        )

    return next(iter(lengths.values()), 0), read
