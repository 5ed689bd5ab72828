"""Calls that leave an argument out, or nest layers too deep, say how it is done."""

import copy
import pickle
import re

import numpy as np
import pytest

import npdl.functional as F
from npdl.training import fit

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
    with pytest.raises(TypeError, match=r"^params are missing.*layer\(params, x\).*layer\.init"):
        layer(X)
    with pytest.raises(TypeError, match="params are missing"):
        layer(X, train=True)
    with pytest.raises(TypeError, match="params or x are missing"):
        layer(layer.init(0, (3,)) if layer is not LAYERS[-1] else {})


@F.layer
def doubled(inner):
    """A combinator of the user's."""
    return F.serial(inner, F.linear())


NESTINGS = {
    "residual": F.residual,
    "serial": F.serial,
    "parallel": lambda inner: F.parallel(inner, F.linear()),
    "graph": lambda inner: F.graph("x", {"y": (inner, "x")}, "y"),
    "stack": F.stack,
    "freeze": F.freeze,
    "own": doubled,
    "mixed": lambda inner: F.freeze(F.parallel(F.residual(inner))),
}


@pytest.mark.parametrize("nest", NESTINGS.values(), ids=NESTINGS)
def test_a_model_works_or_is_refused_where_it_is_nested_too_deep(nest):
    model = F.dense(3)
    for _ in range(1000):
        before = model
        try:
            model = nest(model)
        except ValueError as error:
            assert re.search(r"nested 51 layers deep.*limit is 50.*serial\(", str(error))  # noqa: PT017
            break
    else:
        raise AssertionError("1000 layers in one another were not refused")
    model, rebuilt = before, F.from_config(before.config(), constructors=[doubled])
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), rebuilt]
    assert all(each == model and hash(each) == hash(model) for each in copies)
    assert repr(copies[0]) == repr(model)
    assert "12 parameters" in str(F.summary(model, (3,)))
    fit(model, F.mean_squared_error, F.adam(0.1), (X, X), epochs=1, progress=False)


def test_any_number_of_layers_may_follow_one_another():
    model = F.serial(*[F.residual(F.tanh())] * 1000)
    assert copy.deepcopy(model) == model
    assert model.out_shape((3,)) == (3,)
