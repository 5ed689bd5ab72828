"""From a new process to the loss of a first training step of mlp_small, beyond `import numpy`.

Each program uses one library alone, in its usual style. A first round compiles the modules to
bytecode, as pip does.
"""

import os
import subprocess
import sys
import tempfile

from timing import summary

PROGRAM = """
import time
import numpy as np
x, labels = np.ones((32, 64), np.float32), np.arange(32) % 10
start = time.perf_counter()
{imports}
imported = time.perf_counter()
{step}
end = time.perf_counter()
print(1e3 * (imported - start), 1e3 * (end - start))
"""
PROGRAMS = {
    "npdl": (
        """
import npdl
import npdl.functional as F
from npdl.training import TrainState, train_step
""",
        """
model = F.serial(F.dense(64), F.relu(), F.dense(64), F.relu(), F.dense(10))
optimizer = F.adam(1e-3)
state = TrainState.create(model, optimizer, shape=(64,))
step = train_step(model, F.softmax_cross_entropy, optimizer, donate=True)
state, metrics = step(state, (x, labels))
float(metrics["loss"])
""",
    ),
    "torch": (
        """
import torch
from torch import nn
""",
        """
layers = nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
model = nn.Sequential(*layers)
optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
loss = nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(labels))
loss.backward()
optimizer.step()
loss.item()
""",
    ),
    "jax": (
        """
import jax
import jax.numpy as jnp
import optax
""",
        """
sizes = (64, 64, 64, 10)
keys = jax.random.split(jax.random.key(0), 3)
init = jax.nn.initializers.he_uniform()
params = [
    (init(key, (n, m)), jnp.zeros(m)) for key, n, m in zip(keys, sizes, sizes[1:])
]
optimizer = optax.adam(1e-3)
opt_state = optimizer.init(params)

def loss(params, x, labels):
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    outputs = x @ params[-1][0] + params[-1][1]
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

@jax.jit
def step(params, opt_state, x, labels):
    value, grads = jax.value_and_grad(loss)(params, x, labels)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value

params, opt_state, value = step(params, opt_state, x, labels)
float(value)
""",
    ),
}

ROUNDS = 15


def jobs():
    return ["mlp_small"]


def run(name, rounds):
    """Return the milliseconds of the import, and of import and step, of each library."""
    times = {library: ([], []) for library in PROGRAMS}
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        for i in range(1 + rounds):
            for library, (imports, step) in PROGRAMS.items():
                program = PROGRAM.format(imports=imports, step=step)
                output = subprocess.check_output(
                    [sys.executable, "-c", program],
                    text=True,
                    env=environment,
                    encoding="utf-8",
                )
                for found, figure in zip(times[library], output.split(), strict=True):
                    if i > 0:  # the first round compiles
                        found.append(float(figure))
    return {
        library: {"import": summary(imports), "first_step": summary(steps)}
        for library, (imports, steps) in times.items()
    }
