"""A model of npdl as stateful layers with the same parameters, and a softmax at the end.

Each function builds the counterpart of the constructor with its name. Its arguments are the shape
of an example, the parameters, and the constructor's arguments. It also names the parameter arrays.
Undocumented layers become a `Functional`: a convolution with padding, PyTorch's GRU, a transformer
block.
"""

import numpy as np

import npdl
import npdl.functional as F
from npdl import layers


def compat_model(model, params, shape, optimizer="sgd"):
    """Return the compiled `Model` that computes the softmax of npdl's model."""
    made = []
    for part, of_part in zip(model.call.positional, params, strict=True):
        before = made[-1][0] if made else None
        if part == F.relu() and hasattr(before, "activation"):
            before.activation = npdl.activations.get("relu")
        else:
            made.append(counterpart(part, of_part, shape))
        shape = part.out_shape(shape)
    made[-1][0].activation = npdl.activations.get("softmax")
    stateful = npdl.Model([layer for layer, _ in made])
    stateful.compile("scce", optimizer)
    for layer, arrays in made:
        for name, array in arrays.items():
            setattr(layer, name, array)
    return stateful


def counterpart(part, params, shape):
    call = part.call
    if call.name in COUNTERPARTS and call.keywords.get("padding") is None:
        return COUNTERPARTS[call.name](shape, params, *call.positional, **call.keywords)
    return layers.Functional(part, params, shape), {}


def dense(shape, params, units):
    layer = layers.Dense(units, shape[-1], activation="linear")
    return layer, {"W": params["weight"], "b": params["bias"]}


def conv2d(shape, params, filters, kernel_size):
    sizes = (kernel_size, kernel_size)
    layer = layers.Convolution(filters, sizes, (None, *shape), activation="linear")
    return layer, {"W": params["weight"], "b": params["bias"]}


def embedding(shape, params, vocabulary, units):
    return layers.Embedding(params["table"], static=False, nb_seq=shape[0]), {}


def lstm(shape, params, units, return_sequence=False):
    time, features = shape
    layer = layers.BatchLSTM(
        n_out=units, n_in=features, nb_seq=time, return_sequence=return_sequence
    )
    rows = np.vstack([params["bias"], params["weight"], params["recurrent_weight"]])
    return layer, {"AllW": np.roll(rows, -units, axis=1)}  # the gate g is last there


COUNTERPARTS = {
    "conv2d": conv2d,
    "dense": dense,
    "embedding": embedding,
    "flatten": lambda shape, params: (layers.Flatten(), {}),
    "lstm": lstm,
    "max_pool2d": lambda shape, params, size: (layers.MaxPooling((size, size)), {}),
}
