"""Trees in files: written atomically, and read back with the same bits.

>>> import tempfile
>>> from pathlib import Path
>>> import numpy as np
>>> from npdl import checkpoint
>>> state = {"step": 3, "params": ({"weight": np.ones((2, 2), np.float32)}, ())}
>>> with tempfile.TemporaryDirectory() as directory:
...     path = Path(directory, "run.npz")
...     checkpoint.save(path, state)
...     checkpoint.load(path, like=state)
{'step': 3, 'params': ({'weight': array([[1., 1.],
       [1., 1.]], dtype=float32)}, ())}

An `.npz` file holds each array under its path, as in ``numpy.load("run.npz")["params/0/weight"]``.
Its header is the member ``npdl.json``: the format version, the environment, and the Python scalars
by their paths. No scalar is rounded: an infinity, a NaN and an int of more than 64 bits are written
in hexadecimal. A `.safetensors` file holds the header in its metadata, together with checksums,
since that format has none (`.npz` has).

Loading never executes code from a file. Any file, valid or malicious, needs at most 128 MiB of
memory in addition to the arrays of `like`. The header is limited to 16 MiB, 2¹⁸ brackets, 2²⁰
values and 2¹⁶ scalars; the list of arrays is limited to 4 MiB.
"""

import importlib
from typing import TYPE_CHECKING, Any

from npdl.checkpoint._files.limits import CheckpointError
from npdl.checkpoint._reading import arrays
from npdl.checkpoint._save_and_load import array_shapes, environment, load, save, scalars

if TYPE_CHECKING:
    from npdl.checkpoint.weights import from_keras, from_torch, to_keras, to_torch

__all__ = [
    "CheckpointError",
    "array_shapes",
    "arrays",
    "environment",
    "from_keras",
    "from_torch",
    "load",
    "save",
    "scalars",
    "to_keras",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: few programs need these functions, and the import takes time.
    if name in ("from_keras", "from_torch", "to_keras", "to_torch"):
        return getattr(importlib.import_module("npdl.checkpoint.weights"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
