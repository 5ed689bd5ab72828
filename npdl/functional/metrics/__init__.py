"""Metrics: sums over examples, and the results computed from merged sums."""

from npdl.functional.metrics._confusion import (
    confusion_matrix,
    f1_score,
    matthews_correlation,
    precision,
    recall,
)
from npdl.functional.metrics._metric import Metric, collected
from npdl.functional.metrics._probabilities import calibration_error, perplexity
from npdl.functional.metrics._ranking import average_precision, roc_auc
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
    "average_precision",
    "binary_accuracy",
    "calibration_error",
    "collected",
    "confusion_matrix",
    "f1_score",
    "matthews_correlation",
    "perplexity",
    "precision",
    "r2_score",
    "recall",
    "roc_auc",
    "top_k_accuracy",
]
