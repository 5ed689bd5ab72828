"""Optimizers, the transforms in their chains, and schedules of the learning rate."""

from npdl.functional.optimizers._adam import (
    scale_by_adam,
    scale_by_adamax,
    scale_by_lion,
    scale_by_nadam,
)
from npdl.functional.optimizers._adaptive import (
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_rmsprop,
)
from npdl.functional.optimizers._aliases import (
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    lion,
    momentum,
    nadam,
    nesterov_momentum,
    rmsprop,
    sgd,
)
from npdl.functional.optimizers._amsgrad import amsgrad, scale_by_amsgrad
from npdl.functional.optimizers._averaging import accumulate, average_params, averaged
from npdl.functional.optimizers._combining import by_path, chain, masked
from npdl.functional.optimizers._guards import skip_not_finite
from npdl.functional.optimizers._muon import muon, scale_by_muon
from npdl.functional.optimizers._optimizer import Optimizer, apply_updates
from npdl.functional.optimizers._schedule_free import (
    schedule_free,
    schedule_free_adamw,
    schedule_free_params,
)
from npdl.functional.optimizers._schedules import (
    constant_schedule,
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    join_schedules,
    one_cycle,
    polynomial_decay,
    step_decay,
    warmup,
)
from npdl.functional.optimizers._transforms import (
    add_decayed_weights,
    clip_by_global_norm,
    clip_by_value,
    scale,
    scale_by_learning_rate,
    trace,
)

__all__ = [
    "Optimizer",
    "accumulate",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add_decayed_weights",
    "amsgrad",
    "apply_updates",
    "average_params",
    "averaged",
    "by_path",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "constant_schedule",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "join_schedules",
    "lion",
    "masked",
    "momentum",
    "muon",
    "nadam",
    "nesterov_momentum",
    "one_cycle",
    "polynomial_decay",
    "rmsprop",
    "scale",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_muon",
    "scale_by_nadam",
    "scale_by_rmsprop",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_params",
    "sgd",
    "skip_not_finite",
    "step_decay",
    "trace",
    "warmup",
]
