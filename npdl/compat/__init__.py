"""The stateful, Keras-like API of NumpyDL, on top of the pure functions of `npdl.functional`."""

from npdl.compat import layers, utils

__all__ = ["layers", "utils"]
