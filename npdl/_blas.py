"""The BLAS library that NumPy has loaded: its kernels, and its threads.

Two threads save time in large matrix products. In small ones they save nothing, and next to another
busy process they wait for each other: milliseconds per product. So the steps of a small network use
one thread. The choice depends only on shapes, because the number of threads can change the bits.
"""

import contextlib
import functools
import importlib
import math
import threading
from typing import Any

import numpy as np

from npdl import tree
from npdl.tree import Tree

__all__ = ["SmallSteps", "kernel", "threads"]

# Parameters × examples × steps or pixels. Below it, two threads save less than 5 % of a step.
_SMALL = 1 << 22


def kernel() -> str | None:
    """Return the processor type of OpenBLAS's kernels; `None` for another BLAS."""
    function = _openblas().get("get_corename")
    return None if function is None else function().decode("ascii", "replace")


def threads() -> int | None:
    """Return the number of threads of OpenBLAS outside small steps; `None` for another BLAS."""
    function = _openblas().get("get_num_threads")
    with _one_thread.lock:
        return _one_thread.before if _one_thread.count else None if function is None else function()


class _OneThread:
    """The context of small steps: the number of BLAS threads is one for the whole process."""

    def __init__(self) -> None:
        self.lock, self.count, self.before = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.count:
                self.before = _openblas()["get_num_threads"]()
                _openblas()["set_num_threads"](1)
            self.count += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.count -= 1
            if not self.count:
                _openblas()["set_num_threads"](self.before)


_one_thread, _all_threads = _OneThread(), contextlib.nullcontext()


class SmallSteps:
    """A choice of threads: ``with small(params, x): ...`` runs a small step with one BLAS thread.

    Other steps keep all threads.
    """

    def __init__(self) -> None:
        self._has_many = "set_num_threads" in _openblas() and (threads() or 1) > 1
        self._known: dict[Any, bool] = {}  # whether a step is small, by the shape of its inputs

    def __call__(self, params: Tree, x: Any) -> "contextlib.AbstractContextManager[None]":
        return _one_thread if self._has_many and self._is_small(params, x) else _all_threads

    def _is_small(self, params: Tree, x: Any) -> bool:
        shape = x.shape if type(x) is np.ndarray else str(tree.map(np.shape, x))
        if shape not in self._known:
            self._known[shape] = tree.count(params) * _positions(x) < _SMALL
        return self._known[shape]


def _positions(x: Any) -> int:
    """Return an upper bound of the rows in a matrix product: examples × steps or pixels."""
    arrays = [np.asarray(leaf) for leaf in tree.leaves(x)]
    return max((math.prod(_rows(array)) for array in arrays), default=0)


def _rows(array: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = array.shape
    if array.ndim == 4:  # images (batch, channels, height, width)
        return (shape[0], *shape[2:])
    return shape[:1] if array.ndim == 2 and array.dtype.kind == "f" else shape[:2]


@functools.cache
def _openblas() -> dict[str, Any]:
    """Return the functions of the OpenBLAS library that NumPy has loaded."""
    found: dict[str, Any] = {}
    try:
        import ctypes

        # The lookup of a symbol includes the libraries that this one is linked with.
        core: Any = importlib.import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(core.__file__)
    except (ImportError, OSError, TypeError):
        return found
    for name, given, returned in (
        ("get_corename", [], ctypes.c_char_p),
        ("get_num_threads", [], ctypes.c_int),
        ("set_num_threads", [ctypes.c_int], None),
    ):
        for form in ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}"):
            function = getattr(library, form.format(name), None)
            if function is not None:
                function.argtypes, function.restype = given, returned
                found[name] = function
                break
    return found
