"""The workloads of the benchmarks: for each, a model of npdl and a batch.

For each other library, a function builds the same model from npdl's description and parameters:
`torch_modules.py`, `jax_functions.py`, `compat_models.py`.
"""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

import npdl.functional as F
from npdl import random


@F.layer
def mean_over_time():
    """Compute the mean over the steps of sequences (batch, time, features)."""

    def apply(params, x):
        return x.mean(axis=1), x.shape

    def backward(params, shape, g):
        return (), np.broadcast_to((g / shape[1])[:, None], shape)

    return F.Layer(lambda rng, shape: (), apply, backward, lambda shape: shape[1:])


def normal(generator, shape):
    """Draw numbers from N(0, 1)."""
    return generator.standard_normal(shape, np.float32)


def ids(vocabulary):
    """Return a function that draws word ids."""
    return lambda generator, shape: generator.integers(vocabulary, size=shape)


def one_hot(generator, shape):
    """Draw one-hot vectors along the last axis."""
    return np.eye(shape[-1], dtype=np.float32)[generator.integers(shape[-1], size=shape[:-1])]


@attrs.frozen
class Workload:
    """A classifier of examples or of their time steps, and the batch of one training step."""

    model: F.Layer
    shape: tuple[int, ...]  # of one example
    batch: int
    inputs: Callable[..., Any] = normal

    def params(self):
        """Return the initial parameters of all libraries."""
        return self.model.init(0, self.shape)

    def data(self):
        """Return a batch: inputs, and one label per output."""
        generator = random.generator(1)
        *places, classes = self.model.out_shape(self.shape)
        x = self.inputs(generator, (self.batch, *self.shape))
        return x, generator.integers(classes, size=(self.batch, *places))


def convolutions(filters):
    """Return two convolutions with the same image size, and pooling."""
    each = (F.conv2d(filters, 3, padding="same"), F.relu())
    return (*each, *each, F.max_pool2d(2))


def mlp(inputs, *units, batch):
    """Return a workload of dense layers with ReLU between them."""
    hidden = [layer for count in units[:-1] for layer in (F.dense(count), F.relu())]
    return Workload(F.serial(*hidden, F.dense(units[-1])), (inputs,), batch)


WORKLOADS = {
    "mlp_tiny": mlp(8, 32, 32, 2, batch=16),
    "mlp_small": mlp(64, 64, 64, 10, batch=32),
    "mlp_mnist": mlp(784, 512, 512, 10, batch=128),
    "mlp_wide": mlp(784, 2048, 2048, 10, batch=512),
    "cnn_lenet": Workload(
        F.serial(
            *(F.conv2d(6, 5), F.relu(), F.max_pool2d(2)),
            *(F.conv2d(16, 5), F.relu(), F.max_pool2d(2)),
            *(F.flatten(), F.dense(120), F.relu(), F.dense(84), F.relu(), F.dense(10)),
        ),
        (1, 28, 28),
        64,
    ),
    "cnn_cifar": Workload(
        F.serial(
            *(*convolutions(32), *convolutions(64)),
            *(F.flatten(), F.dense(128), F.relu(), F.dense(10)),
        ),
        (3, 32, 32),
        64,
    ),
    "lstm_char": Workload(
        F.serial(F.lstm(300, return_sequence=True), F.dense(65)), (30, 65), 40, one_hot
    ),
    "lstm_sentence": Workload(
        F.serial(
            F.embedding(2000, 200),
            F.lstm(400, return_sequence=True),
            F.lstm(200, return_sequence=True),
            mean_over_time(),
            F.dense(6),
        ),
        (20,),
        30,
        ids(2000),
    ),
    "gru": Workload(F.serial(F.gru(128), F.dense(10)), (64, 64), 32),
    "attention": Workload(
        F.serial(F.transformer_encoder_block(4, 512), mean_over_time(), F.dense(10)),
        (64, 128),
        32,
    ),
}
