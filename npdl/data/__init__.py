"""Data from other libraries, random changes of examples, and splits.

:func:`npdl.training.fit` takes arrays, or a source: an object with a length and ``data[rows]``,
which returns the tuple ``(x, *targets)`` for an array of row numbers. :func:`source` returns a
source for tables, sparse matrices, data sets in files, and data sets of PyTorch and Hugging Face.
Training on a source ends in the bits of training on the array.

An augmentation is a pure function ``augment(key, x) -> x`` of one example:

>>> import numpy as np
>>> from npdl import data
>>> augment = data.chain(data.crop(2), data.flip(), data.noise(0.1))
>>> image = np.ones((3, 8, 8), np.float32)
>>> bool(np.all(augment(7, image) == augment(7, image)))
True
"""

from npdl.data._augmentations import chain, crop, cutout, flip, noise, shift
from npdl.data._sources import Source, source
from npdl.data._splits import train_test_split

__all__ = [
    "Source",
    "chain",
    "crop",
    "cutout",
    "flip",
    "noise",
    "shift",
    "source",
    "train_test_split",
]
