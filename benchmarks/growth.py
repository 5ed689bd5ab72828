"""The growth of time and memory of npdl as a size doubles repeatedly.

Each row is a training step, except the last one: a token generated after a context.

The exponent is the slope of a line fitted to the logarithms: 1 for linear growth, 2 for quadratic
growth. Memory is the peak of NumPy's allocations in a step, without the state before the step.
"""

import tracemalloc

import numpy as np
from steps import npdl_step
from timing import measure, repeated
from workloads import Workload, mlp

import npdl.functional as F


def deep(layers):
    return mlp(256, *[256] * layers, 10, batch=128)


def convolution(batch):
    model = F.serial(F.conv2d(16, 3), F.relu(), F.max_pool2d(2), F.flatten(), F.dense(10))
    return Workload(model, (3, 18, 18), batch)


def recurrent(layer, time, batch=32):
    return Workload(F.serial(layer, F.dense(10)), (time, 64), batch)


def transformer(time):
    return Workload(F.serial(F.transformer_encoder_block(4, 256), F.dense(10)), (time, 64), 16)


def next_token(time):
    """Return a function that computes the scores after one more token, from stored keys."""
    block = F.transformer_encoder_block(4, 256, causal=True, rotary=1e4, kv_heads=2)
    model = F.serial(F.embedding(1000, 64), block, block, F.layer_norm(), F.dense(1000))
    params, step = model.init(0, (None,)), F.decode_step(model)
    _, state = step(params, np.zeros((1, time), int))
    token = np.zeros((1, 1), int)
    return repeated(lambda: step(params, token, state))


GROWING = {
    "batch of an MLP": (lambda size: mlp(256, 256, 256, 10, batch=size), 128),
    "batch of a CNN": (convolution, 32),
    "batch of an LSTM": (lambda size: recurrent(F.lstm(64), 32, size), 32),
    "width of an MLP": (lambda size: mlp(size, size, size, 10, batch=128), 128),
    "depth of an MLP": (deep, 2),
    "length of an LSTM": (lambda size: recurrent(F.lstm(128), size), 16),
    "length of a GRU": (lambda size: recurrent(F.gru(128), size), 16),
    "length of a transformer": (transformer, 16),
    "context of a generated token": (next_token, 128),
}

ROUNDS = 7


def jobs():
    return list(GROWING)


def run(name, rounds):
    """Return the sizes, their times and memory, and the exponents."""
    make, first = GROWING[name]
    sizes = [first * 2**i for i in range(5)]
    made = {size: make(size) for size in sizes}
    runs = {
        size: npdl_step(each) if isinstance(each, Workload) else each for size, each in made.items()
    }
    times = [figures["median"] for figures in measure(runs, rounds).values()]
    memory = [peak(run) for run in runs.values()]
    exponents = [np.polyfit(np.log(sizes), np.log(figures), 1)[0] for figures in (times, memory)]
    return {
        "sizes": sizes,
        "milliseconds": times,
        "mebibytes": memory,
        "exponents": dict(zip(("time", "memory"), exponents, strict=True)),
    }


def peak(run):
    """Return the peak of allocated memory in a step, in MiB."""
    tracemalloc.start()
    run(1)
    tracemalloc.reset_peak()
    run(1)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / (1 << 20)
