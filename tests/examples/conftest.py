"""What the tests of the examples share."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest
from mnist_files import write_mnist

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = ("datasets", "options")


@pytest.fixture
def mnist(tmp_path):
    """The directory of a small MNIST."""
    write_mnist(tmp_path)
    return tmp_path


@pytest.fixture
def example(monkeypatch, tmp_path):
    """A function that runs a script in this process, or returns a module that scripts share.

    The script runs in an empty folder, where it may write its output.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    for name in SHARED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # the sweep sets it

    def run(name, *arguments):
        if name in SHARED:
            return importlib.import_module(name)
        path = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        return runpy.run_path(str(path), run_name="__main__")

    yield run
    for name in SHARED:
        sys.modules.pop(name, None)
