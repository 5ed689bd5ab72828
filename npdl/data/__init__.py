"""Data from other libraries as sources of NumPy arrays, read batch by batch.

:func:`npdl.training.fit` takes arrays, or a source: an object with a length and ``data[rows]``,
which returns the tuple ``(x, *targets)`` for an array of row numbers. :func:`source` returns a
source for tables, sparse matrices, data sets in files, and data sets of PyTorch and Hugging Face.
The rows of a source are the rows of the array, so training ends in the same bits.

>>> import numpy as np
>>> from npdl.data import source
>>> data = source(np.eye(4, dtype=np.float32), np.arange(4))
>>> x, labels = data[np.array([3, 1])]
>>> x.shape, labels
((2, 4), array([3, 1]))
"""

from npdl.data._sources import Source, source

__all__ = ["Source", "source"]
