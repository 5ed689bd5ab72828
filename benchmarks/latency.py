"""The time from one example to the output of a model, both NumPy arrays."""

import numpy as np
from compat_models import compat_model
from steps import sklearn_model, takes_part
from timing import measure, repeated
from workloads import WORKLOADS

ROUNDS = 9


def jobs():
    return list(WORKLOADS)


def run(name, rounds):
    """Return the milliseconds of one inference of each library."""
    workload = WORKLOADS[name]
    params, x = workload.params(), workload.data()[0][:1]
    runs = {
        library: repeated(prepare(workload, params, x))
        for library, prepare in CALLS.items()
        if takes_part(library, name)
    }
    return measure(runs, rounds)


def npdl_call(workload, params, x):
    model = workload.model
    return lambda: model(params, x)


def compat_call(workload, params, x):
    model = compat_model(workload.model, params, workload.shape)
    return lambda: model.predict(x)


def torch_call(workload, params, x):
    import torch
    from torch_modules import module

    model = module(workload.model, params).eval()

    def call():
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    return call


def jax_call(workload, params, x):
    import jax
    from jax_functions import function

    compiled, arrays = jax.jit(function(workload.model)), jax.tree.map(jax.numpy.array, params)
    return lambda: np.asarray(compiled(arrays, x))


def sklearn_call(workload, params, x):
    model = sklearn_model(params, *workload.data())
    return lambda: model.predict_proba(x)


CALLS = {
    "npdl": npdl_call,
    "compat": compat_call,
    "torch": torch_call,
    "jax": jax_call,
    "sklearn": sklearn_call,
}
