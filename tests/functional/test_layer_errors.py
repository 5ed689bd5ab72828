"""Calls that leave an argument out, or nest layers too deep, say how it is done."""

import numpy as np
import pytest

import npdl.functional as F

X = np.ones((2, 3), np.float32)
LAYERS = [
    F.dense(2),
    F.serial(F.dense(2), F.relu()),
    F.residual(F.dense(3)),
    F.dropout(0.5),
    F.batch_norm(),
    F.freeze(F.batch_norm()),
    F.graph("x", {"y": (F.dense(2), "x")}, "y"),
    F.parallel(F.dense(2)),
    F.stack(F.dense(2)),
    F.multi_head_attention(1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_params_that_are_left_out_are_named_with_the_right_call(layer):
    for call in (layer, layer.apply):
        with pytest.raises(TypeError, match=r"params and x.*layer\(params, x\).*layer\.init\("):
            call(X)
        with pytest.raises(TypeError, match=r"params and x"):
            call(X, train=True)
