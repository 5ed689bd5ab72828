"""The stateful, Keras-like API of NumpyDL, on top of the pure functions of `npdl.functional`."""

from npdl.compat import activations, initializations, layers, model, objectives, optimizers, utils
from npdl.compat.model import Model, Sequential

__all__ = [
    "Model",
    "Sequential",
    "activations",
    "initializations",
    "layers",
    "model",
    "objectives",
    "optimizers",
    "utils",
]
