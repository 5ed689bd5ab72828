"""The script that the tests of the launcher start: ``python -m npdl.run run_job.py NAME …``."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path

import numpy as np
from arrays import same_bits

import npdl
import npdl.functional as F
from npdl import random
from npdl.callbacks import Callback
from npdl.distributed import alone, rank
from npdl.training import Checkpoint, evaluate, fit, predict

X = random.generator(1).normal(size=(150, 2, 6, 6)).astype(np.float32)
LABELS = random.generator(2).integers(3, size=150)
LOSS = F.softmax_cross_entropy


class Predicts(Callback):
    """A callback that only the first rank calls, and that computes predictions."""

    first_rank_only = True

    def on_epoch_end(self, epoch, logs=None):
        state = getattr(self.model, "state", None)
        y = self.model.predict(X) if state is None else predict(MODEL, state.params, X)
        assert len(y) == 150


MODEL = F.serial(
    *(F.conv2d(4, 3), F.batch_norm(), F.relu(), F.dropout(0.2), F.flatten()),
    *(F.dense(7), F.batch_norm(), F.tanh(), F.dropout(0.3), F.dense(3)),
)


def functional(epochs=2, **options):
    """Train, evaluate and predict with pure functions."""
    state, history = fit(
        MODEL, LOSS, F.adam(0.01), (X, LABELS), validation=(X[:90], LABELS[:90]), epochs=epochs,
        batch_size=44, rng=3, metrics={"accuracy": F.accuracy}, progress=rank() == 0, **options,
    )  # fmt: skip
    values = evaluate(MODEL, state.params, (X, LABELS), loss=LOSS, batch_size=40)
    return state, history, values, predict(MODEL, state.params, X, batch_size=64)


def stateful(epochs=2, **options):
    """Train, evaluate and predict with objects that hold their parameters."""
    npdl.utils.set_seed(3)
    layers = npdl.layers
    model = npdl.Model([layers.Convolution(4, (3, 3), input_shape=(2, 6, 6))])
    for layer in (layers.BatchNormal(), layers.Flatten(), layers.Dense(7), layers.Dropout(0.3)):
        model.add(layer)
    model.add(layers.Softmax(3))
    model.compile("scce", npdl.optimizers.Adam(lr=0.01))
    history = model.fit(
        X, LABELS, epochs=epochs, batch_size=44, validation_split=0.2,
        sample_weight=np.linspace(0.1, 1, 150), callbacks=[Predicts()], **options,
    )  # fmt: skip
    outputs = model.predict(X, batch_size=64)
    return (
        model.get_weights(), model.optimizer.get_state(), history.history, outputs,
        model.evaluate(X, LABELS, batch_size=40),
    )  # fmt: skip


def train(folder):
    results = functional(callbacks=[Predicts()]), stateful()
    Path(folder, f"{rank()}.pkl").write_bytes(pickle.dumps(results))


def resume(folder):
    checkpoint = Checkpoint(Path(folder, "run"), every_steps=1)
    result = functional(epochs=40, checkpoint=checkpoint, resume=True)
    Path(folder, f"{rank()}.pkl").write_bytes(pickle.dumps(result))


def barrier():
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()


def shows(*arguments):
    words = sys.stdin.readline().strip()
    sys.stdout.write(f"rank {rank()} has {words!r}, {__name__}, {sys.argv[2:]}\n")
    barrier()
    sys.exit(5)


def raises():
    barrier()
    if rank() == 1:
        raise ZeroDivisionError("no reason")
    barrier()


def raises_everywhere(folder):
    global kept  # the interpreter writes the end of the file when it exits
    kept = Path(folder, f"{rank()}.txt").open("w", encoding="utf-8")  # noqa: SIM115
    kept.write("not flushed")
    sys.stdout.write("before\n")
    raise ZeroDivisionError(f"on rank {rank()}")


def steps(error):
    """Raise in a step of one rank; all ranks raise, and the cause is reported."""

    def loss(y, labels):
        if rank() == 1:
            raise error("only here")
        return LOSS(y, labels)

    fit(F.dense(3), loss, F.sgd(0.1), (X[:, 0, 0], LABELS), progress=False)


def dies():
    barrier()
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    barrier()


def leaves():
    barrier()
    if rank() == 1:
        os._exit(3)
    barrier()


def stops():
    barrier()
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    barrier()


def hangs_in_an_update():
    """Hang between the gradients and the end of the update of one rank."""

    def rate(step):
        if rank() == 1 and step == 3:
            time.sleep(1000)
        return 0.1

    fit(F.dense(3), LOSS, F.adam(rate), (X[:, 0, 0], LABELS), progress=False)


def hangs():
    if rank() == 1:
        time.sleep(1000)
    functional()


def plots():
    """Let the first rank work longer than the time limit, after the others have ended."""
    barrier()
    if rank() == 0:
        time.sleep(8)
        sys.stdout.write("plotted\n")


def separates():
    """Train another model on each rank; no rank waits for another one."""
    with alone():
        result = functional(epochs=1 + rank())
        stateful(epochs=2 - rank())
    expected = functional(epochs=1)
    if rank() == 0:
        assert same_bits(result, expected)


def draws():
    """Train on data, and from weights, of the global generators without a seed."""
    order = np.random.permutation(150)  # noqa: NPY002
    model = npdl.Model([npdl.layers.Softmax(3, n_in=2)])
    model.compile()
    model.fit(X[order, 0, 0, :2], LABELS[order], epochs=1, verbose=0)
    sys.stdout.write("trained\n")


def waits():
    barrier()
    sys.stdout.write("ready\n")
    time.sleep(1000)


def shuffles():
    """Shuffle the data in another order on each rank."""
    order = random.generator(rank()).permutation(150)
    fit(F.dense(3), LOSS, F.sgd(0.1), (X[order, 0, 0], LABELS[order]), progress=False)


if __name__ == "__main__":
    jobs = {
        "step": lambda: steps(ValueError),
        "text": lambda: sys.exit("the data are missing"),
        "interrupt": lambda: steps(KeyboardInterrupt),
    }
    name, *rest = sys.argv[1:]
    (jobs.get(name) or globals()[name])(*rest)
