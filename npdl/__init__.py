"""npdl: deep learning in NumPy, with pure layers and training repeatable to the last bit."""

import sys

from npdl import compat, functional, random, tree
from npdl._version import __version__
from npdl.compat import activations, initializations, layers, model, objectives, optimizers, utils
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
    "tree",
    "utils",
]

# The documented import paths, such as `from npdl.activations import ReLU`, name the same modules.
sys.modules.update(
    {
        name.replace(".compat", "", 1): module
        for name, module in sys.modules.items()
        if name.startswith("npdl.compat.")
    }
)
