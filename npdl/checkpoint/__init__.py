"""Trees in files: written whole or not at all, and read back to the last bit.

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

An `.npz` holds each array under its path, as in ``numpy.load("run.npz")["params/0/weight"]``, and
a header, the member ``npdl.json``: the version of the format, the environment and the leaves that
are Python scalars, ``path: [type, value]``. There an int is hexadecimal and a float the hexadecimal
digits of its eight bytes, so that neither is rounded. A `.safetensors` holds the header in its
metadata, with checksums, which that format lacks and `.npz` has.

Nothing in a file is executed. Beyond the arrays that `like` asks for, reading takes at most 128 MiB
of memory, however a file is made: its header may have 16 MiB, with 2¹⁸ brackets and 2²⁰ values, and
its list of arrays 4 MiB.
"""

import importlib
from typing import TYPE_CHECKING, Any

from npdl.checkpoint._files.limits import CheckpointError
from npdl.checkpoint._trees import array_shapes, environment, load, save, scalars

if TYPE_CHECKING:
    from npdl.checkpoint.weights import from_keras, from_torch

__all__ = [
    "CheckpointError",
    "array_shapes",
    "environment",
    "from_keras",
    "from_torch",
    "load",
    "save",
    "scalars",
]


def __getattr__(name: str) -> Any:
    # Few programs need these, and all would wait for their import.
    if name in ("from_keras", "from_torch"):
        return getattr(importlib.import_module("npdl.checkpoint.weights"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
