"""Weights from and to the files of other libraries."""

from npdl.checkpoint.weights._keras import from_keras, to_keras
from npdl.checkpoint.weights._torch import from_torch, to_torch

__all__ = ["from_keras", "from_torch", "to_keras", "to_torch"]
