"""Callbacks: objects whose methods `fit` calls during training; `_base` has the order."""

from npdl.callbacks._base import Callback, History, call, direction
from npdl.callbacks._csv_log import CSVLogger
from npdl.callbacks._reports import LambdaCallback, ProgressBar, TensorBoard
from npdl.callbacks._schedules import LearningRateScheduler
from npdl.callbacks._steering import (
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
