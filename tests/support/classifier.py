"""A small classifier with dropout, its data, and an optimizer of each kind."""

import numpy as np
import pytest

import npdl.functional as F
from npdl import random
from npdl.training import fit


def classes(count=50, features=6, number=3, seed=0):
    generator = random.generator(seed)
    labels = generator.integers(number, size=count)
    centres = 2 * generator.normal(size=(number, features))
    x = centres[labels] + generator.normal(size=(count, features))
    return x.astype(np.float32), labels


DATA = classes()
MODEL = F.serial(F.dense(8), F.tanh(), F.dropout(0.2), F.dense(3))
LOSS = F.softmax_cross_entropy
OPTIMIZERS = {
    "adam": F.adam(0.01),
    "nadam": F.nadam(0.01),
    "adamw": F.adamw(0.01, weight_decay=0.1),
    "adamw with a mask": F.adamw(0.01, weight_decay=0.1, mask="*/weight"),
    "sgd": F.sgd(0.1),
    "momentum on a schedule": F.momentum(F.exponential_decay(0.1, 5, rate=0.9)),
    "adadelta": F.adadelta(1.0),
    "clipped by norm": F.chain(F.clip_by_global_norm(0.1), F.adam(0.01)),
    "accumulated": F.accumulate(F.adam(0.01), 2),
    "averaged": F.chain(F.adam(0.01), F.average_params(0.9)),
    "by path": F.by_path({"*/bias": F.sgd(0.1), "*": F.adam(0.01)}),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def run(**options):
    """Train the classifier with `fit`."""
    options = {"optimizer": F.adam(0.02), "batch_size": 8, "rng": 3, "progress": False} | options
    optimizer = options.pop("optimizer")
    return fit(MODEL, LOSS, optimizer, options.pop("data", DATA), **options)
