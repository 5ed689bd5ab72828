"""What equal bits depend on beside the program: versions, BLAS, threads, machine."""

import os
import platform
import sys
from typing import Any

import numpy as np

__all__ = ["here"]


def here() -> dict[str, Any]:
    """Return what :func:`npdl.checkpoint.environment` returns of this process."""
    from npdl import __version__

    build = np.show_config(mode="dicts")
    blas = build["Build Dependencies"]["blas"]
    return {
        "npdl": __version__,
        "numpy": np.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "threads": _threads(str(blas.get("name"))),
        "machine": f"{platform.system()} {platform.machine()}",
        "simd": list(build.get("SIMD Extensions", {}).get("found", [])),
        "byteorder": sys.byteorder,
    }


_THREADS = {
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "accelerate": "VECLIB_MAXIMUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
}


def _threads(blas: str) -> int:
    """Return the number of threads that the variables of this BLAS, or the processors, allow."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    for variable in [*(v for name, v in _THREADS.items() if name in blas), "OMP_NUM_THREADS"]:
        value = os.environ.get(variable, "")
        if value.isascii() and value.isdigit() and int(value) > 0:
            return min(int(value), available)
    return available
