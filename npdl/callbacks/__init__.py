"""Callbacks, which `fit` calls while it trains; `base` says when."""

from npdl.callbacks.base import Callback, History, call, direction
from npdl.callbacks.csv_log import CSVLogger
from npdl.callbacks.reports import LambdaCallback, ProgressBar, TensorBoard
from npdl.callbacks.schedules import LearningRateScheduler
from npdl.callbacks.steering import (
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "call",
    "direction",
]
