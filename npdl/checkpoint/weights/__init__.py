"""Weights from the files of other libraries."""

from npdl.checkpoint.weights._keras import from_keras
from npdl.checkpoint.weights._torch import from_torch

__all__ = ["from_keras", "from_torch"]
