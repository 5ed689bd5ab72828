"""A small run, in epochs of four steps, and its interruption in the middle."""

import numpy as np
import pytest
import runs

import npdl
import npdl.functional as F
from npdl.training import Checkpoint, fit

X, Y = runs.classes((4,), count=20)
MODEL = F.serial(F.dense(5), F.tanh(), F.dense(3))


def train(directory=None, epochs=3, *, resume=False, model=MODEL, **options):
    """Train for epochs of four steps."""
    optimizer = options.pop("optimizer", F.adam(0.05))
    keywords = {"every_steps": 1, "every_epochs": None} | options.pop("keywords", {})
    data = options.pop("data", (X, Y))
    loss = options.pop("loss", F.softmax_cross_entropy)
    checkpoint = Checkpoint(directory, **keywords) if directory is not None else None
    return fit(
        model, loss, optimizer, data, epochs=epochs, checkpoint=checkpoint, resume=resume,
        progress=False, **{"batch_size": 5} | options,
    )  # fmt: skip


def names(directory):
    return sorted(path.name for path in directory.iterdir())


class EndedError(Exception):
    pass


class EndAt:
    """Ends a run in the middle, as a kill would, before the step's checkpoint is written."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, batch, logs):
        if self.model.state.step == self.step:
            raise EndedError

    def set_model(self, model):
        self.model = model


def ended(directory, step, callbacks=(), **options):
    """Train until a step, and end as a kill would."""
    with pytest.raises(EndedError):
        train(directory, callbacks=[*callbacks, EndAt(step)], **options)


class Growing(npdl.callbacks.Callback):
    """Needs more room from step to step."""

    size = 0

    def on_train_batch_end(self, batch, logs=None):
        self.size += 1

    def state(self):
        return np.zeros(500 * self.size)

    def restore(self, state):
        self.size = len(state) // 500
