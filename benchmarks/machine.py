"""The machine, the versions, and the number of threads, equal for all libraries."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("numpy", "torch", "jax", "optax", "scikit-learn")
LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")


def limit_threads(count):
    """Set the number of cores for libraries that are imported later, also in new processes."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if count > len(cores):
            raise SystemExit(
                f"{count} threads need as many cores, but the machine has {len(cores)}"
            )
        os.sched_setaffinity(0, cores[:count])
    # JAX reads NPROC and the number of available cores.
    os.environ.update(dict.fromkeys(LIMITS, str(count)))


def describe(threads):
    """Return the facts about the machine and the versions, as strings."""
    import numpy  # noqa: F401 - loads its BLAS
    from threadpoolctl import threadpool_info

    blas = next(found for found in threadpool_info() if found["user_api"] == "blas")
    return {
        "name": short_name(),
        "processor": processor(),
        "cores": f"{os.cpu_count()}, of which {threads} are used, with one thread each",
        "caches": caches(),
        "system": " ".join([platform.system(), *platform.libc_ver()]),
        "BLAS": f"{blas['internal_api']} {blas['version']}, kernels for {blas['architecture']}",
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def short_name():
    """Return a name such as "AMD EPYC, AVX2"."""
    maker = "Intel Xeon" if "Intel" in processor() else " ".join(processor().split()[:2])
    return f"{maker.rstrip(',')}, {'AVX-512' if 'avx512f' in processor() else 'AVX2'}"


def processor():
    """Return the model of the processor, with its numbers and widest vector instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = dict([part.strip() for part in line.split(":", 1)] for line in lines if ":" in line)
    names = ("cpu family", "model", "stepping")
    numbers = ", ".join(f"{name} {found[name]}" for name in names if name in found)
    widest = [name for name in ("amx_tile", "avx512f", "avx2") if name in found.get("flags", "")]
    return f"{found.get('model name', platform.processor())}, {numbers}, {', '.join(widest)}"


def caches():
    """Return the sizes of the caches that the first core uses."""
    found = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (
            (cache / name).read_text(encoding="utf-8").strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction":
            found[f"L{level}"] = f"{int(size.rstrip('K')):,} KiB"
    return ", ".join(f"{name} {size}" for name, size in found.items()) or "not known"
