"""Whole training steps of npdl against those of its peers, in one process, in alternation."""

import sys, json
import numpy as np
from floor import floor_step
from steps import STEPS
from timing import measure, summary
from workloads import WORKLOADS

CHECKS = ((np.float64, 10, 1e-6), (np.float32, 1, 1e-5))

def libraries(name):
    return [l for l in STEPS if (l != "sklearn" or name.startswith("mlp")) and (l != "npdl_pure" or name in ("mlp_tiny", "mlp_small"))]

def check_agreement(name):
    for dtype, count, tolerance in CHECKS:
        losses = {}
        for library in libraries(name):
            losses[library] = STEPS[library](WORKLOADS[name], dtype)(count)
            if (library, name) != ("sklearn", "mlp_tiny"):
                np.testing.assert_allclose(losses[library], losses["npdl"], 1e-4 if library=="sklearn" else tolerance, err_msg=library)

name, rounds = sys.argv[1], int(sys.argv[2])
if rounds == 0:
    check_agreement(name)
    sys.exit()
runs = {l: STEPS[l](WORKLOADS[name]) for l in libraries(name)} | {"floor": floor_step(WORKLOADS[name])}
t = {k: summary(v) for k, v in measure(runs, rounds).items()}
print(json.dumps({name: t}))
