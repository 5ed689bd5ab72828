"""Small runs whose updates are divided among ranks."""

import numpy as np

import npdl.functional as F
from npdl import random
from npdl.training import TrainState, fit, train_step

LOSS = F.softmax_cross_entropy
GENERATOR = random.generator(0)
DATA = GENERATOR.normal(size=(30, 5)).astype(np.float32), GENERATOR.integers(3, size=30)
# The weight of the second dense layer has 88 pages, so parts begin in the middle of it.
MODEL = F.serial(
    *(F.dense(300), F.batch_norm(), F.relu(), F.dropout(0.3)),
    *(F.dense(300), F.tanh(), F.dense(3)),
)


def train(comm=None, optimizer=None, model=MODEL, **options):
    optimizer = F.adam(0.02) if optimizer is None else optimizer
    options = {"epochs": 2, "batch_size": 11, "shards": 4, "rng": 5} | options
    return fit(
        model, LOSS, optimizer, options.pop("data", DATA), metrics={"accuracy": F.accuracy},
        progress=False, comm=comm, **options,
    )  # fmt: skip


@F.layer
def scaled():
    """Multiply by a number; an array of the parameters is empty, one is not trained."""

    def init(rng, shape):
        one = np.full((), 2.0, np.float32)
        return {"a": one, "empty": np.zeros((0, 3), np.float32), "fixed": one}

    def backward(params, x, g):
        return {"a": np.sum(g * x), "empty": params["empty"], "fixed": None}, params["a"] * g

    return F.Layer(init, lambda params, x: (params["a"] * x, x), backward)


MODELS = {
    "numbers": F.serial(scaled(), F.dense(40), scaled(), F.dense(3)),
    "frozen": F.serial(F.freeze(F.dense(300)), F.tanh(), F.dense(200), F.tanh(), F.dense(3)),
    "small": F.dense(3),
}


def steps(comm, number=5, donate=True, optimizer=None, state=None):
    """Run some steps of a function, on the same batch."""
    optimizer = F.adam(0.05) if optimizer is None else optimizer
    if state is None:
        state = TrainState.create(MODEL, optimizer, (5,), rng=7)
    step = train_step(MODEL, LOSS, optimizer, shards=4, comm=comm, donate=donate)
    for _ in range(number):
        state, _ = step(state, DATA)
    return state
