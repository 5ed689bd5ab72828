"""npdl: deep learning in NumPy, with layers as pure functions and training to the last bit."""

from npdl import functional, random, tree

__all__ = ["__version__", "functional", "random", "tree"]

__version__ = "1.0.0.dev0"
