"""A whole training step of a workload, for each library: forward, loss, backward, Adam.

The loss is the softmax cross-entropy. All libraries begin with the same parameters, and take the
same batch each time. Each function returns one that makes a step and returns its loss.
"""

import numpy as np

import npdl.functional as F
from npdl import random, tree
from npdl.training import TrainState, train_step

LEARNING_RATE = 1e-3


def npdl_step(workload, dtype=np.float32):
    """Return the step of npdl, in the form in which `fit` makes it."""
    batch, params = converted(workload, dtype)
    optimizer = F.adam(LEARNING_RATE)
    state = TrainState(0, params, optimizer.init(params), random.key(0))
    step = train_step(workload.model, F.softmax_cross_entropy, optimizer, donate=True)

    def run():
        nonlocal state
        state, figures = step(state, batch)
        return float(figures["loss"])

    return run


def torch_step(workload, dtype=np.float32):
    """Return the step of PyTorch, with its fused Adam."""
    import torch
    from torch_modules import module

    batch, params = converted(workload, dtype)
    x, labels = map(torch.tensor, batch)
    labels = labels.reshape(-1)
    model = module(workload.model, params)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, LEARNING_RATE, fused=True)

    def run():
        optimizer.zero_grad()
        outputs = model(x)
        loss = torch.nn.functional.cross_entropy(outputs.reshape(len(labels), -1), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def converted(workload, dtype):
    """Return the batch and the parameters of a workload in another type of floats."""
    return tree.astype(workload.data(), dtype), tree.astype(workload.params(), dtype)


STEPS = {"npdl": npdl_step, "torch": torch_step}
