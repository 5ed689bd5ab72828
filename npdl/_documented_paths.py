"""The import paths of NumpyDL, as its documentation has them.

`npdl.layers.core` is the module `npdl.compat.layers.core`. The stateful API is loaded on first use,
which halves the time of `import npdl.functional`.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from typing import Any

__all__ = ["install", "loaded"]

_MODULES = {"activations", "initializations", "layers", "model", "objectives", "optimizers"}
_MODULES |= {"utils"}
_NAMES = {*_MODULES, "Model", "Sequential"}


def loaded(name: str) -> Any:
    """Return `npdl.compat` or one of its names, for the attribute of `npdl` with this name."""
    if name == "compat" or name in _NAMES:
        compat = importlib.import_module("npdl.compat")
        return compat if name == "compat" else getattr(compat, name)
    raise AttributeError(f"module 'npdl' has no attribute {name!r}")


def install() -> None:
    """Let the import system find the documented paths."""
    # Before the other finders: these would load `npdl.layers.core` as a second module.
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        package, _, rest = fullname.partition(".")
        if package != "npdl" or rest.partition(".")[0] not in _MODULES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: Any) -> Any:
        module = importlib.import_module(spec.name.replace("npdl.", "npdl.compat.", 1))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: Any) -> None:
        # The import system has replaced the module's own spec by the one of the documented path.
        module.__spec__ = module.__spec__.loader_state
