"""Stateful layers.

>>> from npdl.compat import layers
>>> str(layers.Layer())
'Layer'
"""

from npdl.compat.layers.base import Functional, Layer

__all__ = ["Functional", "Layer"]
