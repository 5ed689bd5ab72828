"""Class labels as ints and as one-hot rows.

>>> from npdl.utils import one_hot, unhot
>>> one_hot([0, 2], nb_classes=3)
array([[1., 0., 0.],
       [0., 0., 1.]], dtype=float32)
>>> unhot(one_hot([0, 2], nb_classes=3))
array([0, 2])
"""

from typing import Any

import numpy as np

from npdl.compat.utils.random import get_dtype
from npdl.functional._arrays import describe
from npdl.functional._checks import check_int
from npdl.functional._targets import class_ids
from npdl.tree import Array

__all__ = ["one_hot", "unhot"]


def one_hot(labels: Any, nb_classes: int | None = None) -> Array:
    """Return a one-hot row for each label: 1 in the column of its class, 0 elsewhere.

    Parameters
    ----------
    labels : iterable
        The labels (samples,): sortable values or, with `nb_classes`, ints.
    nb_classes : int, optional
        The number of columns; class k is column k. By default, the columns are the distinct labels
        in sorted order.

    Returns
    -------
    array
        The rows (samples, classes).

    Raises
    ------
    ValueError
        If the labels have more than one axis, or a label is outside 0 to nb_classes - 1.

    Examples
    --------
    >>> from npdl.utils import one_hot
    >>> one_hot(["cat", "dog", "cat"])
    array([[1., 0.],
           [0., 1.],
           [1., 0.]], dtype=float32)
    """
    given: Array = np.asarray(labels if isinstance(labels, np.ndarray) else list(labels))
    if given.ndim != 1:
        raise ValueError(f"one_hot: expected labels (samples,), got {describe(given)}")
    if nb_classes is None:
        classes, ids = np.unique(given, return_inverse=True)
        count = len(classes)
    else:
        count = check_int(nb_classes, "one_hot(labels, nb_classes=10)")
        ids = class_ids("one_hot", "labels", given, count)
    rows = np.zeros((len(ids), count), get_dtype())
    rows[np.arange(len(ids)), ids] = 1
    return rows


def unhot(one_hot_labels: Any) -> Array:
    """Return the column index of the largest value in each row.

    Parameters
    ----------
    one_hot_labels : array
        One-hot rows or outputs of a model, (samples, classes).

    Returns
    -------
    array
        The class indices (samples,), ints.

    Examples
    --------
    >>> from npdl.utils import unhot
    >>> unhot([[0.2, 0.8], [0.9, 0.1]])
    array([1, 0])
    """
    rows: Array = np.asarray(one_hot_labels)
    columns: Array = rows.argmax(axis=-1)
    return columns
