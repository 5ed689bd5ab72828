"""Layers, losses, optimizers and schedules as pure functions, in one flat namespace.

>>> import npdl.functional as F
>>> F.serial(F.dense(128), F.relu(), F.dense(10))
serial(dense(units=128), relu(), dense(units=10))
"""

from npdl.functional import (
    _initializers,
    combinators,
    derivatives,
    layers,
    losses,
    metrics,
    optimizers,
)
from npdl.functional._from_config import from_config
from npdl.functional._generation import generate
from npdl.functional._initializers import *
from npdl.functional._layer import Layer, layer, value_and_grad
from npdl.functional._reestimate import reestimate_statistics
from npdl.functional._summary import summary
from npdl.functional.combinators import *
from npdl.functional.derivatives import *
from npdl.functional.layers import *
from npdl.functional.losses import *
from npdl.functional.metrics import *
from npdl.functional.optimizers import *

__all__ = ["Layer", "from_config", "generate", "layer", "reestimate_statistics", "summary"]
__all__ += ["value_and_grad"]
__all__ += _initializers.__all__
__all__ += combinators.__all__
__all__ += derivatives.__all__
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += metrics.__all__
__all__ += optimizers.__all__
