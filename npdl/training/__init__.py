"""Training: a state that determines the next step, and pure functions that compute the step.

>>> import numpy as np
>>> import npdl.functional as F
>>> from npdl.training import fit, predict
>>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
>>> model = F.serial(F.dense(16), F.tanh(), F.dense(1))
>>> state, history = fit(
...     model, F.mean_squared_error, F.adam(0.03), (x, x**2), epochs=100, progress=False
... )
>>> history["loss"][-1] < 0.01
True
>>> predict(model, state.params, x).shape
(64, 1)
"""

from npdl.training._callback_view import Run
from npdl.training._checkpoint import (
    ChangedCallbackWarning,
    Checkpoint,
    DamagedCheckpointWarning,
    FinishedRunWarning,
    FreshStartWarning,
    OtherEnvironmentWarning,
    ResumeWarning,
    UnwrittenCheckpointWarning,
)
from npdl.training._evaluation import evaluate, predict
from npdl.training._fit import fit
from npdl.training._step import train_step
from npdl.training._train_state import TrainState

__all__ = [
    "ChangedCallbackWarning",
    "Checkpoint",
    "DamagedCheckpointWarning",
    "FinishedRunWarning",
    "FreshStartWarning",
    "OtherEnvironmentWarning",
    "ResumeWarning",
    "Run",
    "TrainState",
    "UnwrittenCheckpointWarning",
    "evaluate",
    "fit",
    "predict",
    "train_step",
]
