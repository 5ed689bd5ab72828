"""Leave out examples whose library is not installed; set Hypothesis and PyTorch up for tests."""

import importlib.util
import os
import sys
import tempfile

from hypothesis import HealthCheck, settings

NEEDS = {
    "npdl/functional/derivatives/_minimize.py": "scipy",
    "npdl/functional/layers/_from_function.py": "autograd",
    "npdl/functional/losses/_combined.py": "autograd",
    "npdl/onnx/_file.py": "onnx",
    "npdl/plot": "matplotlib",
    "npdl/sklearn": "sklearn",
    "tests/support/function_cases.py": "autograd",
}

collect_ignore = [path for path, name in NEEDS.items() if importlib.util.find_spec(name) is None]

# No test depends on the speed of the machine, nor on a source tree that can be written.
settings.register_profile("npdl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("npdl")
if not os.access(".", os.W_OK):
    STORAGE = tempfile.TemporaryDirectory()  # kept until the process ends
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = STORAGE.name


def pytest_configure():
    """Skip fsync: the system keeps written files after a process ends, not after a power loss."""
    os.fsync = lambda descriptor: os.fstat(descriptor) and None


def pytest_collection_modifyitems(items):
    """Leave out examples whose library is not installed, also where they are exported."""
    needs = {"from_function": "autograd", "loss_from_function": "autograd", "minimize": "scipy"}
    names = [name for name, library in needs.items() if importlib.util.find_spec(library) is None]
    left_out = {f"npdl.functional.{name}" for name in names}
    items[:] = [item for item in items if item.name not in left_out]


def pytest_collection_finish():
    """Let PyTorch, where tests have imported it, compute in one thread: its arrays are small."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
