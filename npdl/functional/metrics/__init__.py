"""Metrics: sums over examples, and the results computed from merged sums."""

from npdl.functional.metrics._confusion import confusion_matrix, f1_score, precision, recall
from npdl.functional.metrics._metric import Metric
from npdl.functional.metrics._scores import (
    absolute_error,
    accuracy,
    binary_accuracy,
    r2_score,
    top_k_accuracy,
)

__all__ = [
    "Metric",
    "absolute_error",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "f1_score",
    "precision",
    "r2_score",
    "recall",
    "top_k_accuracy",
]
