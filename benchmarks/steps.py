"""A whole training step of a workload, for each library: forward, loss, backward, Adam.

The loss is the softmax cross-entropy. All libraries start with the same parameters, and take the
same batch in each step. Each function returns a function that runs a number of steps and returns
their losses. It reads each loss as a Python number before the next step. Only `jax_ahead` reads the
losses after the last step.
"""

import contextlib
import math
from functools import partial

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl.training import TrainState, train_step

LEARNING_RATE = 1e-3


def converted(workload, dtype):
    """Return the batch and the parameters of a workload in another type of floats."""
    return tree.astype(workload.data(), dtype), tree.astype(workload.params(), dtype)


def npdl_step(workload, dtype=np.float32, donate=True, **ranks):
    """Return the step of npdl, by default in the form of `fit`."""
    batch, params = converted(workload, dtype)
    optimizer = F.adam(LEARNING_RATE)
    state = TrainState(0, params, optimizer.init(params), (0,))
    step = train_step(workload.model, F.softmax_cross_entropy, optimizer, donate=donate, **ranks)

    def run(count):
        nonlocal state
        losses = []
        for _ in range(count):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
        return losses

    return run


def pure_step(workload, dtype=np.float32):
    """Return the pure step of npdl, which does not change the previous state."""
    return npdl_step(workload, dtype, donate=False)


def compat_step(workload, dtype=np.float32):
    """Return the steps of `Model.fit`, one per epoch, including its accuracy."""
    from compat_models import compat_model

    import npdl

    (x, labels), params = converted(workload, dtype)
    # In compat, the gradient is the sum over the batch.
    adam = npdl.optimizers.Adam(lr=LEARNING_RATE, epsilon=1e-8 * labels.size)
    npdl.utils.set_dtype(dtype)
    model = compat_model(workload.model, params, workload.shape, adam)
    npdl.utils.set_dtype(np.float32)

    def run(count):
        history = model.fit(x, labels, count, len(x), shuffle=False, verbose=0)
        return history.history["loss"]

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

    def run(count):
        losses = []
        for _ in range(count):
            optimizer.zero_grad()
            outputs = model(x)
            loss = torch.nn.functional.cross_entropy(outputs.reshape(len(labels), -1), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


def jax_step(workload, dtype=np.float32, ahead=False):
    """Return the step of JAX: one compiled function with donated state and optax's Adam."""
    import jax
    import optax
    from jax_functions import function

    exact = jax.enable_x64 if dtype == np.float64 else contextlib.nullcontext
    model, optimizer = function(workload.model), optax.adam(LEARNING_RATE)

    def loss(params, x, labels):
        losses = optax.softmax_cross_entropy_with_integer_labels(model(params, x), labels)
        return losses.mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, labels):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params, x, labels)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    with exact():
        (x, labels), params = jax.tree.map(jax.numpy.array, converted(workload, dtype))
        state = params, optimizer.init(params)

    def run(count):
        nonlocal state
        losses = []
        with exact():
            for _ in range(count):
                state, value = step(state, x, labels)
                losses.append(value if ahead else float(value))
            return list(map(float, losses))

    return run


def jax_ahead_step(workload, dtype=np.float32):
    """Return the step of JAX that may start before the previous step has ended."""
    return jax_step(workload, dtype, ahead=True)


def sklearn_step(workload, dtype=np.float32):
    """Return the step of scikit-learn's classifier, for models of `dense` and `relu`."""
    (x, labels), params = converted(workload, dtype)
    model = sklearn_model(params, x, labels)
    adam = model._optimizer

    def run(count):
        losses = []
        for _ in range(count):
            # scikit-learn adds ε, the others add ε / √(1 - β₂ᵗ).
            adam.epsilon = 1e-8 * math.sqrt(1 - 0.999 ** (adam.t + 1))
            losses.append(model.partial_fit(x, labels).loss_)
        return losses

    return run


def sklearn_model(params, x, labels):
    """Return a classifier with these parameters, before its first step.

    For two classes, it has one logistic output.
    """
    from sklearn.neural_network import MLPClassifier

    arrays = [part for part in params if part]
    model = MLPClassifier(
        [len(part["bias"]) for part in arrays[:-1]],
        alpha=0,
        batch_size=len(x),
        learning_rate_init=LEARNING_RATE,
        shuffle=False,
    )
    # A first step creates the arrays. Then the common parameters are copied into them.
    model.partial_fit(x, labels, classes=np.arange(len(arrays[-1]["bias"])))
    for weight, bias, part in zip(model.coefs_, model.intercepts_, arrays, strict=True):
        weight[...], bias[...] = part["weight"][:, : len(bias)], part["bias"][: len(bias)]
    model._optimizer.t = 0
    for slot in (*model._optimizer.ms, *model._optimizer.vs):
        slot[...] = 0
    return model


STEPS = {
    "npdl": npdl_step,
    "npdl_pure": pure_step,
    "compat": compat_step,
    "torch": torch_step,
    "jax": jax_step,
    "jax_ahead": jax_ahead_step,
    "sklearn": sklearn_step,
}


def takes_part(library, name):
    """Whether a library takes part in a workload."""
    if library == "sklearn":
        return name.startswith("mlp")
    return library != "npdl_pure" or name in ("mlp_tiny", "mlp_small")
