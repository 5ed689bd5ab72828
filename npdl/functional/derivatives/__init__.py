"""Derivatives of layers in other forms: recomputed, along a direction, second derivatives."""

from npdl.functional.derivatives._directional import gauss_newton_vp, hvp, jvp
from npdl.functional.derivatives._remat import remat

__all__ = ["gauss_newton_vp", "hvp", "jvp", "remat"]
