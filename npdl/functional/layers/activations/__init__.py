"""Element-wise layers and the softmax."""

from npdl.functional.layers.activations._bounded import (
    elliot,
    hard_sigmoid,
    hard_tanh,
    linear,
    log_softmax,
    sigmoid,
    softmax,
    softsign,
    symmetric_elliot,
    tanh,
)
from npdl.functional.layers.activations._gated import glu, swiglu
from npdl.functional.layers.activations._rectifiers import (
    elu,
    gelu,
    hard_silu,
    leaky_relu,
    mish,
    relu,
    selu,
    silu,
    softplus,
)

__all__ = [
    "elliot",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mish",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "swiglu",
    "symmetric_elliot",
    "tanh",
]
