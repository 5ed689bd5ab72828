"""Leaves out the examples of a module whose optional library is not installed."""

import importlib.util

# The package comes first: pytest, given one module's file alone, would put the module in the place
# of the function that has its name.
import npdl.functional  # noqa: F401

NEEDS = {"npdl/functional/from_function.py": "autograd", "npdl/plot": "matplotlib"}

collect_ignore = [path for path, name in NEEDS.items() if importlib.util.find_spec(name) is None]
