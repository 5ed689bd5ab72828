"""All arrays of a file, without a tree or a model that determines their sizes."""

import math
import os

import numpy as np

from npdl.checkpoint._files.limits import CheckpointError, Kind
from npdl.checkpoint._files.shards import opened_arrays

__all__ = ["arrays"]

# Compressed weights take more than a tenth of their size, except for small files of zeros.
_EXPANSION, _SMALL = 10, 1 << 26


def arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return all arrays of a file by their names.

    For weights whose names or layouts need a change before :func:`from_torch` reads them.

    Parameters
    ----------
    path : str or PathLike
        A ``.safetensors`` or ``.npz`` file of any library, a ``.safetensors.index.json`` of several
        files, or a folder with one of these.

    Returns
    -------
    dict
        New arrays. Bfloat16 is widened to float32. Python scalars of a checkpoint are left out.

    Raises
    ------
    CheckpointError
        If the file is damaged, if an array has a type that NumPy does not have, or if a compressed
        file expands to more than 64 MiB and ten times its size.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> from pathlib import Path
    >>> from npdl import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "weights.npz"), **{"fc.weight": np.ones((2, 3))})
    ...     found = checkpoint.arrays(Path(folder, "weights.npz"))
    >>> {name: array.T for name, array in found.items()}  # a layer that stores the transpose
    {'fc.weight': array([[1., 1.],
           [1., 1.],
           [1., 1.]])}
    """
    with opened_arrays(path) as (file, container):
        size = sum(_bytes(file, name, kind) for name, kind in container.kinds.items())
        most = max(_SMALL, _EXPANSION * file.stat().st_size)
        if file.suffix == ".npz" and size > most:
            raise CheckpointError(
                f"{file} expands to {size} bytes, more than {most}; read a part of it with "
                f"from_torch, whose model determines the sizes"
            )
        return {name: container.read(name) for name in container.kinds}


def _bytes(path: os.PathLike[str], name: str, kind: Kind) -> int:
    """Return the size of an array in bytes, or raise if it is not an array of numbers."""
    try:
        dtype = np.dtype("float32" if kind[0] == "bfloat16" else kind[0])
        if dtype.kind not in "biufc":
            raise TypeError
    except TypeError:
        raise CheckpointError(
            f"{path} has the array {name!r} of the type {kind[0]}; expected a type of numbers that "
            f"NumPy has, or bfloat16"
        ) from None
    return math.prod(kind[1] or ()) * dtype.itemsize
