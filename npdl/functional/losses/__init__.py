"""Losses: each returns the mean over the batch, and its gradient in the predictions."""

from npdl.functional.losses._classification import (
    categorical_cross_entropy,
    hellinger_distance,
    softmax_cross_entropy,
)
from npdl.functional.losses._combined import loss_from_function, weighted_losses
from npdl.functional.losses._distributions import (
    gaussian_nll,
    kl_divergence,
    poisson_nll,
    quantile_loss,
)
from npdl.functional.losses._embeddings import cosine_distance, info_nce, triplet_loss
from npdl.functional.losses._imbalanced import dice_loss, focal_loss
from npdl.functional.losses._policy import policy_gradient_loss
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
    "cosine_distance",
    "dice_loss",
    "focal_loss",
    "gaussian_nll",
    "hellinger_distance",
    "huber",
    "info_nce",
    "kl_divergence",
    "loss_from_function",
    "mean_absolute_error",
    "mean_squared_error",
    "poisson_nll",
    "policy_gradient_loss",
    "quantile_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "triplet_loss",
    "weighted_losses",
]
