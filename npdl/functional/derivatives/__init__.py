"""Derivatives of layers in other forms: recomputed, forward, second, for each example."""

from npdl.functional.derivatives._directional import gauss_newton_vp, hvp, jvp
from npdl.functional.derivatives._ensemble import ensemble
from npdl.functional.derivatives._minimize import minimize
from npdl.functional.derivatives._per_example import per_example_grads, per_example_norms
from npdl.functional.derivatives._remat import remat
from npdl.functional.derivatives._trace import Trace, trace_layers

__all__ = [
    "Trace",
    "ensemble",
    "gauss_newton_vp",
    "hvp",
    "jvp",
    "minimize",
    "per_example_grads",
    "per_example_norms",
    "remat",
    "trace_layers",
]
