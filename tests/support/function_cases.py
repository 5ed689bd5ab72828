"""Functions of autograd.numpy as layers: rows of the table of layers."""

import autograd.numpy as anp
import numpy as np
from cases import Case, normal_inputs

import npdl.functional as F
from npdl import random


def weights(**shapes):
    """Return an `init` of normal arrays, each of a shape that may have None for the features."""

    def init(rng, shape):
        return {
            name: F.normal(0.5)(random.fold(rng, name), [shape[-1] if s is None else s for s in of])
            for name, of in shapes.items()
        }

    return init


def swish(x):
    return x / (1 + anp.exp(-x))


def dense_tanh(params, x):
    return anp.tanh(x @ params["weight"] + params["bias"])


dense_init = weights(weight=(None, 4), bias=(4,))


def attention(params, x):
    """Two heads over (batch, time, 6)."""
    made = x @ params["weight"] + params["bias"]
    queries, keys, values = (
        anp.reshape(part, (*x.shape[:2], 2, 3)) for part in anp.split(made, 3, axis=-1)
    )
    likeness = anp.einsum("nthd,nshd->nhts", queries, keys) / 3**0.5
    powers = anp.exp(likeness - anp.max(likeness, axis=-1, keepdims=True))
    powers = powers / anp.sum(powers, axis=-1, keepdims=True)
    mixed = anp.reshape(anp.einsum("nhts,nshd->nthd", powers, values), x.shape)
    return mixed @ params["output_weight"] + params["output_bias"]


def convolution(params, x):
    """A kernel of 3 by 2 over (batch, channels, height, width), without padding."""
    _, _, height, width = x.shape
    weight = params["weight"]
    parts = [
        anp.einsum(
            "nchw,oc->nohw", x[:, :, i : height - 2 + i, j : width - 1 + j], weight[:, :, i, j]
        )
        for i in range(3)
        for j in range(2)
    ]
    return sum(parts) + params["bias"][:, None, None]


def nested(params, x):
    """Parameters in a dict, a tuple and a list, with None and an empty tuple among them."""
    (first, nothing), empty, layers = params["blocks"]
    assert nothing is None
    assert empty == ()
    x = anp.tanh(x @ first["weight"])
    for weight in layers:
        x = x @ weight
    return params["scale"] * x


def nested_init(rng, shape):
    first = F.dense(4, bias=False).init(random.fold(rng, 0), shape)
    layers = [F.normal()(random.fold(rng, 1), size) for size in ((4, 5), (5, 2))]
    return {"blocks": ((first, None), (), layers), "scale": np.full((), 2, np.float32)}


def lookup(params, inputs):
    """Ids, a mask, and numbers that are added."""
    ids, mask, x = inputs
    vectors = params["table"][ids] * mask[:, :, None]
    return anp.sum(vectors, axis=1) / anp.sum(mask + 0.0, axis=1).astype(x.dtype)[:, None] + x


def lookup_shape(shape):
    return (4,)


def lookup_inputs(generator, batch, shape):
    ids = generator.integers(0, 7, (batch, 5))
    mask = np.arange(5) < generator.integers(1, 6, (batch, 1))
    return ids, mask, normal_inputs(generator, batch, shape[2])


def divide(params, x):
    """Two outputs of one input, and one of nothing but the shape."""
    y = x @ params["weight"]
    return y, (anp.mean(y, axis=1), np.ones((len(x), 2), params["weight"].dtype))


def divide_shape(shape):
    return (4,), ((), (2,))


def noisy(x, train, rng):
    if not train:
        return x
    return x * random.generator(rng).normal(1, 0.1, x.shape).astype(x.dtype)


FUNCTIONS = {
    "no parameters": Case(F.from_function(swish), (2, 5)),
    "dense": Case(F.from_function(dense_tanh, dense_init), (3,)),
    "attention": Case(
        F.from_function(
            attention,
            weights(weight=(6, 18), bias=(18,), output_weight=(6, 4), output_bias=(4,)),
        ),
        (5, 6),
    ),
    "convolution": Case(
        F.from_function(convolution, weights(weight=(4, 3, 3, 2), bias=(4,))), (3, 5, 6)
    ),
    "nested parameters": Case(F.from_function(nested, nested_init), (3,)),
    "ids, masks and floats": Case(
        F.from_function(lookup, weights(table=(7, 4)), out_shape=lookup_shape),
        ((5,), (5,), (4,)),
        inputs=lookup_inputs,
    ),
    "nested outputs": Case(
        F.from_function(divide, weights(weight=(3, 4)), out_shape=divide_shape), (3,)
    ),
    "train and rng": Case(F.from_function(noisy), (4, 5), random=True),
    "inside others": Case(
        F.serial(
            F.dense(3), F.residual(F.from_function(dense_tanh, weights(weight=(3, 3), bias=(3,))))
        ),
        (2,),
    ),
}
