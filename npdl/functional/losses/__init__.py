"""Losses: each returns the mean over the batch, and its gradient in the predictions."""

from npdl.functional.losses._classification import (
    categorical_cross_entropy,
    hellinger_distance,
    softmax_cross_entropy,
)
from npdl.functional.losses._combined import loss_from_function, weighted_losses
from npdl.functional.losses._regression import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_cross_entropy,
)

__all__ = [
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "hellinger_distance",
    "huber",
    "loss_from_function",
    "mean_absolute_error",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "weighted_losses",
]
