"""The stateful, Keras-like API of NumpyDL, on top of the pure functions of `npdl.functional`."""

from npdl.compat import activations, initializations, layers, utils

__all__ = ["activations", "initializations", "layers", "utils"]
