"""The versions of the software and the machine, for reports of errors."""

import os
import platform
import sys
from pathlib import Path

__all__ = ["show_versions"]

# The libraries of the extras for users.
_EXTRAS = "autograd flask matplotlib mpi4py onnx openmpi scikit-learn scipy tensorboard tqdm"
_CPUINFO = Path("/proc/cpuinfo")  # on Linux


def show_versions() -> None:
    """Print the versions of npdl and its libraries, the BLAS and the machine.

    A report of an error should contain these lines. They name no user, path or host.

    Examples
    --------
    >>> import npdl
    >>> npdl.show_versions()
    npdl          ...
    Python        ...
    numpy         ...
    attrs         ...
    BLAS          ...
    kernels       ...
    threads       ...
    SIMD          ...
    system        ...
    processor     ...
    """
    from npdl.checkpoint import _environment

    here = _environment.here()
    lines = {
        "npdl": here["npdl"],
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "numpy": here["numpy"],
        "attrs": _version("attrs"),
        "BLAS": here["blas"],
        "kernels": here["kernel"],
        "threads": here["threads"],
        "SIMD": " ".join(here["simd"]) or "only the baseline",
        "system": f"{here['machine']}, {platform.release()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
    }
    lines |= {name: _version(name) for name in _EXTRAS.split()}
    sys.stdout.write("".join(f"{name:<13} {value}\n" for name, value in lines.items()))


def _version(distribution: str) -> str:
    from importlib import metadata  # it would slow `import npdl` down

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
