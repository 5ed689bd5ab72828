"""The rules of npdl's layers; each module registers the rules of a theme."""

from npdl.onnx._rules import activations, arrays, attention, norms, recurrent, windows

__all__ = ["activations", "arrays", "attention", "norms", "recurrent", "windows"]
