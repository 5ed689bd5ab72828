"""Adam alone, on a million parameters in float32, in one array and in a thousand.

An update reads the parameters, the gradients and two moments, and writes all but the gradients:
seven times 4 MB. A copy of 14 MB moves the same number of bytes.
"""

import numpy as np
from timing import measure, repeated

import npdl.functional as F
from npdl.training._train_state import TrainState

COUNT = 1_000_000
ARRAYS = {"one_array": 1, "a_thousand_arrays": 1000}

ROUNDS = 15


def jobs():
    return list(ARRAYS)


def run(name, rounds):
    """Return the milliseconds of an update of each library, and of the copy."""
    shape = (ARRAYS[name], COUNT // ARRAYS[name])
    params, grads = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    runs = {library: make(tuple(params), tuple(grads)) for library, make in UPDATES.items()}
    return measure(runs, rounds)


def npdl_updates(params, grads):
    """Return the update of `train_step` with ``donate=True``."""
    optimizer = F.adam(1e-3)
    state = TrainState(0, params, optimizer.init(params), (0,))

    def update():
        nonlocal state
        state = state.updated(optimizer, grads, donate=True)

    return repeated(update)


def pure_updates(params, grads):
    """Return the optimizer's own functions, which write to no array of their caller."""
    optimizer = F.adam(1e-3)
    state = optimizer.init(params)

    def update():
        nonlocal params, state
        updates, state = optimizer.update(grads, state, params)
        params = F.apply_updates(params, updates)

    return repeated(update)


def torch_updates(params, grads):
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in params]
    for tensor, g in zip(tensors, grads, strict=True):
        tensor.grad = torch.tensor(g)
    return repeated(torch.optim.Adam(tensors, 1e-3, fused=True).step)


def jax_updates(params, grads):
    import jax
    import optax

    optimizer = optax.adam(1e-3)
    params, grads = jax.tree.map(jax.numpy.array, (params, grads))
    state = params, optimizer.init(params)

    def update(state, grads):
        params, opt_state = state
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    compiled = jax.jit(update, donate_argnums=0)

    def run(count):
        nonlocal state
        for _ in range(count):
            state = jax.block_until_ready(compiled(state, grads))

    return run


def copies(params, grads):
    source = np.ones(7 * COUNT // 2, np.float32)
    target = np.empty_like(source)
    return repeated(lambda: np.copyto(target, source))


UPDATES = {
    "npdl": npdl_updates,
    "npdl_pure": pure_updates,
    "torch": torch_updates,
    "jax": jax_updates,
    "copy": copies,
}
