"""Leaf layers. A file imports no other layers than activations."""

from npdl.functional.layers._batch_norm import batch_norm
from npdl.functional.layers._convolution import conv1d, conv2d
from npdl.functional.layers._convolution_transpose import conv2d_transpose
from npdl.functional.layers._dense import dense
from npdl.functional.layers._dropout import dropout, gaussian_noise
from npdl.functional.layers._embedding import embedding, unembedding
from npdl.functional.layers._from_function import from_function
from npdl.functional.layers._global_pooling import global_avg_pool, global_max_pool
from npdl.functional.layers._magnitude import magnitude
from npdl.functional.layers._normalization import group_norm, layer_norm, rms_norm
from npdl.functional.layers._padding import pad
from npdl.functional.layers._pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from npdl.functional.layers._reshape import expand_dims, flatten, reshape, squeeze, transpose
from npdl.functional.layers._resolution import pixel_shuffle, upsample2d
from npdl.functional.layers.activations import (
    elliot,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    linear,
    log_softmax,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    swiglu,
    symmetric_elliot,
    tanh,
)
from npdl.functional.layers.attention import (
    class_token,
    first_step,
    learned_positions,
    multi_head_attention,
    sinusoidal_positions,
)
from npdl.functional.layers.recurrent import gru, lstm, rnn

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "class_token",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "dense",
    "dropout",
    "elliot",
    "elu",
    "embedding",
    "expand_dims",
    "first_step",
    "flatten",
    "from_function",
    "gaussian_noise",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "glu",
    "group_norm",
    "gru",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "layer_norm",
    "leaky_relu",
    "learned_positions",
    "linear",
    "log_softmax",
    "lstm",
    "magnitude",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "multi_head_attention",
    "pad",
    "pixel_shuffle",
    "relu",
    "reshape",
    "rms_norm",
    "rnn",
    "selu",
    "sigmoid",
    "silu",
    "sinusoidal_positions",
    "softmax",
    "softplus",
    "softsign",
    "squeeze",
    "swiglu",
    "symmetric_elliot",
    "tanh",
    "transpose",
    "unembedding",
    "upsample2d",
]
