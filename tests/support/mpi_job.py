"""The jobs that the tests run under mpiexec or without MPI: ``mpi_job.py NAME DIRECTORY``."""

import os
import pickle
import signal
import sys
from pathlib import Path

import numpy as np

import npdl.functional as F
from npdl import random
from npdl.callbacks import Callback
from npdl.distributed import _exchange, aborting, check_agreement, rows_of
from npdl.training import Checkpoint, TrainState, fit, train_step

MODEL = F.serial(
    *(F.conv2d(4, 3), F.batch_norm(), F.relu(), F.dropout(0.2)),
    *(F.flatten(), F.dense(7), F.batch_norm(), F.tanh(), F.dropout(0.3), F.dense(3)),
)
STEPS, BATCH, SHARDS = 100, 22, 8  # shards of two and three examples


def train(comm, model=MODEL, count=60, steps=STEPS, on_step=lambda step: None):
    """Train; each rank reads only its rows."""
    generator = random.generator(1)
    x = generator.normal(size=(count, 2, 6, 6)).astype(np.float32)
    labels = generator.integers(3, size=count)
    optimizer = F.adam(0.01)
    state = TrainState.create(model, optimizer, (2, 6, 6), rng=3)
    check_agreement(comm, model=model, state=state, lengths=count)
    step = train_step(
        model, F.softmax_cross_entropy, optimizer, metrics={"accuracy": F.accuracy}, donate=True,
        shards=SHARDS, comm=comm,
    )  # fmt: skip
    history = []
    for number in range(steps):
        on_step(number)
        order = random.generator((5, number)).permutation(count)[:BATCH]
        rows = order[rows_of(BATCH, SHARDS, comm)]
        state, metrics = step(state, (x[rows], labels[rows]), size=BATCH)
        history.append(metrics)
    return state, history


def resumed(comm, directory, epochs, die_at=None):
    """Resume with `fit` from the newest checkpoint; kill rank 1 at step `die_at`, if passed."""
    generator = random.generator(1)
    x = generator.normal(size=(66, 2, 6, 6)).astype(np.float32)
    data = x, generator.integers(3, size=66)

    class Killer(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if comm.Get_rank() == 1 and self.model.state.step == die_at:
                kill()

    return fit(
        MODEL, F.softmax_cross_entropy, F.adam(0.01), data, epochs=epochs, batch_size=BATCH, rng=3,
        shards=SHARDS, comm=comm, checkpoint=Checkpoint(directory, every_steps=1), resume=True,
        callbacks=[Killer()] if die_at else [], progress=False,
    )  # fmt: skip


def fails(rank, how):
    """Return a function that calls `how` on one rank, in step 5."""

    def on_step(number):
        if number == 5 and rank == 1:
            how()

    return on_step


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def divide():
    raise ZeroDivisionError


def main(name, directory):
    """Run one job."""
    if name == "alone":
        Path(directory, "alone.pkl").write_bytes(pickle.dumps(train(None)))
        return
    if name == "fit alone":
        result = resumed(None, Path(directory, "alone"), 4)
        Path(directory, "alone.pkl").write_bytes(pickle.dumps(result))
        return
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    rank = comm.Get_rank()
    if name.endswith(", messages"):  # as between hosts
        name = name.removesuffix(", messages")
        _exchange.shared_memory = lambda comm, size: None
    with aborting(comm):
        if name == "train":
            result = train(comm)
            Path(directory, f"{rank}.pkl").write_bytes(pickle.dumps(result))
        elif name == "fit dies":
            resumed(comm, Path(directory, "run"), 4, die_at=5)
        elif name == "fit":
            result = resumed(comm, Path(directory, "run"), 4)
            Path(directory, f"{rank}.pkl").write_bytes(pickle.dumps(result))
        elif name == "killed":
            train(comm, on_step=fails(rank, kill))
        elif name == "raises":
            train(comm, on_step=fails(rank, divide))
        elif name == "models":
            train(comm, model=F.serial(F.flatten(), F.dense(3 + rank % 2)))
        elif name == "lengths":
            train(comm, count=60 + rank // 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
