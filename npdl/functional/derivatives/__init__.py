"""Derivatives of layers in other forms."""

from npdl.functional.derivatives._remat import remat

__all__ = ["remat"]
