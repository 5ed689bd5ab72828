"""Callbacks: objects whose methods `fit` calls during training; `_base` has the order."""

from npdl.callbacks._base import Callback, History, call, direction
from npdl.callbacks._csv_log import CSVLogger
from npdl.callbacks._learning_rate_scheduler import LearningRateScheduler
from npdl.callbacks._monitors import (
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from npdl.callbacks._reports import LambdaCallback, ProgressBar, TensorBoard

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
