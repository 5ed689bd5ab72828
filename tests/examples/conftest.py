"""Fixtures for the tests of the examples."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest
from mnist_files import write_mnist

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = ("example_data", "options")


@pytest.fixture
def mnist(tmp_path):
    """Return the directory of a small MNIST data set."""
    write_mnist(tmp_path)
    return tmp_path


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Return a function that runs a script in this process, or imports a shared module.

    The script runs in an empty folder and may write its output there.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    for name in SHARED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # restored after the sweep has set it

    def run(name, *arguments):
        if name in SHARED:
            return importlib.import_module(name)
        path = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        return runpy.run_path(str(path), run_name="__main__")

    yield run
    for name in SHARED:
        sys.modules.pop(name, None)
