"""npdl: deep learning in NumPy, with pure layers and training repeatable to the last bit."""

from typing import TYPE_CHECKING

from npdl import functional, random, tree
from npdl._documented_paths import install, loaded
from npdl._version import __version__
from npdl._versions import show_versions

if TYPE_CHECKING:
    from npdl import compat
    from npdl.compat import (
        activations,
        initializations,
        layers,
        model,
        objectives,
        optimizers,
        utils,
    )
    from npdl.compat.model import Model, Sequential

__all__ = [
    "Model",
    "Sequential",
    "__version__",
    "activations",
    "compat",
    "functional",
    "initializations",
    "layers",
    "model",
    "objectives",
    "optimizers",
    "random",
    "show_versions",
    "tree",
    "utils",
]

install()
__getattr__ = loaded


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
