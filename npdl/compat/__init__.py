"""The stateful, Keras-like API of NumpyDL, on top of the pure functions of `npdl.functional`."""

from npdl.compat import activations, initializations, layers, objectives, optimizers, utils

__all__ = ["activations", "initializations", "layers", "objectives", "optimizers", "utils"]
