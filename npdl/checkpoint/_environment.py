"""The environment that determines the bits: versions, BLAS, its kernels, threads, machine."""

import os
import platform
import sys
from typing import Any

import numpy as np

from npdl import _blas
from npdl._version import __version__

__all__ = ["here"]


def here() -> dict[str, Any]:
    """Return the environment of this process, for :func:`npdl.checkpoint.environment`."""

    build = np.show_config(mode="dicts")
    blas = build["Build Dependencies"]["blas"]
    return {
        "npdl": __version__,
        "numpy": np.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "kernel": _kernel(),
        "threads": _blas.threads() or _threads(str(blas.get("name"))),
        "machine": f"{platform.system()} {platform.machine()}",
        "simd": list(build.get("SIMD Extensions", {}).get("found", [])),
        "byteorder": sys.byteorder,
    }


_KERNELS = ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "BLIS_ARCH_TYPE")


def _kernel() -> str:
    """Return the processor type of the BLAS kernels, or the environment variables that set it."""
    chosen = [
        f"{variable}={os.environ[variable]}" for variable in _KERNELS if variable in os.environ
    ]
    return _blas.kernel() or ", ".join(chosen) or "unknown"


# In order of precedence. The variables of OpenBLAS are read only if its functions are missing.
_THREADS = {
    "openblas": ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS",),
    "accelerate": ("VECLIB_MAXIMUM_THREADS",),
    "blis": ("BLIS_NUM_THREADS",),
}


def _threads(blas: str) -> int:
    """Return the number of threads from the variables of this BLAS, or the number of processors."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    variables = [each for name, own in _THREADS.items() if name in blas for each in own]
    last = ["OPENBLAS_DEFAULT_NUM_THREADS"] if "openblas" in blas else []
    for variable in [*variables, "OMP_NUM_THREADS", *last]:
        value = os.environ.get(variable, "")
        if value.isascii() and value.isdigit() and int(value) > 0:
            return min(int(value), available)
    return available
