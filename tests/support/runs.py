"""Small runs of training that hold all that a resume must bring back; also run as a program.

    python tests/support/runs.py NAME DIRECTORY RESULT EPOCHS

resumes a run from its checkpoints, prints ``begun`` and its process, a line for each
checkpoint once it is written, and ``done`` when the result is in its file. Without arguments, it
does so in a child for each line that it reads, four arguments with tabs between them, and prints
``ended`` and how, as ``os.waitpid`` says it.
"""

import os
import sys
import traceback
import warnings

import attrs
import numpy as np

import npdl
import npdl.functional as F
from npdl import checkpoint
from npdl.callbacks import Callback
from npdl.compat.utils.random import get_state
from npdl.training import Checkpoint, fit
from npdl.training._checkpoint import FinishedRunWarning, FreshStartWarning


class Plateau(Callback):
    """Halves the learning rate where a metric is not better, and ends with the best weights."""

    def __init__(self, figure="val_loss", patience=1):
        self.figure, self.patience = figure, patience

    def on_train_begin(self, logs=None):
        self.best, self.weights, self.waited, self.lowered = float("inf"), None, 0, 0

    def on_epoch_end(self, epoch, logs=None):
        if logs[self.figure] < self.best:
            self.best, self.weights = logs[self.figure], self.model.get_weights()
            self.waited = 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.model.scale_learning_rate(0.5)
            self.waited, self.lowered = 0, self.lowered + 1

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)

    def state(self):
        names = ("best", "weights", "waited", "lowered")
        return {name: getattr(self, name) for name in names}

    def restore(self, state):
        vars(self).update(state)


class Smooth(Callback):
    """Changes the learning rate in the middle of an epoch, by the losses so far."""

    mean = 0.0

    def on_train_batch_end(self, batch, logs=None):
        before, self.mean = self.mean, 0.9 * self.mean + 0.1 * logs["loss"]
        if self.mean < before:
            self.model.scale_learning_rate(0.99)

    def state(self):
        return {"mean": self.mean}

    def restore(self, state):
        self.mean = state["mean"]


def classes(shape, count=46, number=3, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(number, size=count)
    centres = generator.normal(size=(number, *shape))
    x = centres[labels] + 1.5 * generator.normal(size=(count, *shape))
    return x.astype(np.float32), labels


def pieces(shape):
    x, labels = classes(shape)
    return (x[:30], labels[:30]), (x[30:], labels[30:])


def functional(model, optimizer, shape):
    def run(epochs=6, callbacks=(), **options):
        data, validation = pieces(shape)
        options = {"batch_size": 8, "rng": 5} | options
        state, history = fit(
            model, F.softmax_cross_entropy, optimizer, data, epochs=epochs, validation=validation,
            metrics={"accuracy": F.accuracy}, callbacks=[Plateau(), Smooth(), *callbacks],
            progress=False, **options,
        )  # fmt: skip
        return {"state": state, "history": as_arrays(history)}

    return run


def compat(epochs=6, callbacks=(), **options):
    """A model with dropout and batch normalization, which draw from one generator."""
    layers, rng = npdl.layers, npdl.utils.get_rng()
    npdl.utils.set_seed(3)
    try:
        model = npdl.Model()
        model.add(layers.Dense(n_out=7, n_in=6))
        model.add(layers.BatchNormal())
        model.add(layers.Dropout(p=0.3))
        model.add(layers.Softmax(n_out=3))
        model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=0.02))
        (x, y), validation = pieces((6,))
        history = model.fit(
            x, y, epochs=epochs, batch_size=8, validation_data=validation, verbose=0,
            callbacks=[Plateau(), Smooth(), *callbacks], **options,
        )  # fmt: skip
        return {
            "weights": model.get_weights(),
            "optimizer": model.optimizer.get_state(model.params),
            "generator": get_state(),
            "history": as_arrays(history.history),
        }
    finally:
        npdl.utils.set_rng(rng)


def as_arrays(history):
    return {name: np.array(values) for name, values in history.items()}


RUNS = {
    "mlp": functional(
        F.serial(F.dense(7), F.tanh(), F.dropout(0.3), F.dense(3)), F.adam(0.05), (6,)
    ),
    "convolution": functional(
        F.serial(F.conv2d(4, 3), F.batch_norm(), F.relu(), F.global_avg_pool(), F.dense(3)),
        F.chain(F.clip_by_global_norm(1.0), F.momentum(F.exponential_decay(2.0, 9, rate=0.8))),
        (2, 5, 6),
    ),
    "lstm": functional(
        F.serial(F.lstm(5), F.dropout(0.2), F.dense(3)),
        F.chain(F.accumulate(F.adamw(0.05, weight_decay=0.1), 3), F.average_params(0.8)),
        (4, 3),
    ),
    "compat": compat,
}


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@attrs.frozen
class Reporting(Checkpoint):
    """Prints a line after each checkpoint."""

    def write(self, trained, position, settings):
        Checkpoint.write(self, trained, position, settings)
        say(f"written {position.step}")


def main(name, directory, result, epochs):
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", FreshStartWarning)
    warnings.filterwarnings("ignore", "the gradients after the last update of accumulate")
    warnings.simplefilter("ignore", FinishedRunWarning)  # killed between its end and its result
    say(f"begun {os.getpid()}")
    keeping = Reporting(directory, every_steps=1, best="val_loss")
    found = RUNS[name](epochs=int(epochs), checkpoint=keeping, resume=True)
    checkpoint.save(result, found)
    say("done")


def serve():
    """Run each in a child of this process, which has imported all that it needs."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                main(*line.rstrip("\n").split("\t"))
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        say(f"ended {os.waitpid(child, 0)[1]}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else serve()
