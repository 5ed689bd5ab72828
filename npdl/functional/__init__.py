"""Layers, losses, optimizers and schedules as pure functions, in one flat namespace.

>>> import npdl.functional as F
>>> F.serial(F.dense(128), F.relu(), F.dense(10))
serial(dense(units=128), relu(), dense(units=10))
"""

from npdl.functional.activations import (
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
from npdl.functional.adam import scale_by_adam, scale_by_adamax, scale_by_lion, scale_by_nadam
from npdl.functional.adaptive import scale_by_adadelta, scale_by_adagrad, scale_by_rmsprop
from npdl.functional.attention import multi_head_attention
from npdl.functional.averaging import accumulate, average_params, averaged
from npdl.functional.batch_norm import batch_norm
from npdl.functional.bidirectional import bidirectional, one_step
from npdl.functional.chains import by_path, chain, masked
from npdl.functional.class_losses import (
    categorical_cross_entropy,
    hellinger_distance,
    softmax_cross_entropy,
)
from npdl.functional.combinators import freeze, residual, serial
from npdl.functional.confusion import confusion_matrix, f1_score, precision, recall
from npdl.functional.convolution import conv1d, conv2d
from npdl.functional.convolution_transpose import conv2d_transpose
from npdl.functional.dense import dense
from npdl.functional.dropout import dropout, gaussian_noise
from npdl.functional.embedding import embedding
from npdl.functional.from_function import from_function
from npdl.functional.global_pooling import global_avg_pool, global_max_pool
from npdl.functional.graph import add, graph
from npdl.functional.gru import gru
from npdl.functional.initializers import (
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    zeros,
)
from npdl.functional.layer import Layer, layer, value_and_grad
from npdl.functional.losses import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_cross_entropy,
)
from npdl.functional.lstm import lstm
from npdl.functional.metric import Metric
from npdl.functional.metrics import (
    absolute_error,
    accuracy,
    binary_accuracy,
    r2_score,
    top_k_accuracy,
)
from npdl.functional.normalization import group_norm, layer_norm, rms_norm
from npdl.functional.optimizers import (
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    lion,
    momentum,
    nadam,
    nesterov_momentum,
    rmsprop,
    sgd,
)
from npdl.functional.parallel import parallel
from npdl.functional.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from npdl.functional.positions import learned_positions, sinusoidal_positions
from npdl.functional.rectifiers import (
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
from npdl.functional.reshape import expand_dims, flatten, reshape, squeeze, transpose
from npdl.functional.rnn import rnn
from npdl.functional.rules import (
    add_decayed_weights,
    clip_by_global_norm,
    clip_by_value,
    scale,
    scale_by_learning_rate,
    trace,
)
from npdl.functional.schedules import (
    constant_schedule,
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    join_schedules,
    one_cycle,
    polynomial_decay,
    step_decay,
    warmup,
)
from npdl.functional.stack import stack
from npdl.functional.summary import summary
from npdl.functional.transformer import (
    transformer_decoder_block,
    transformer_encoder_block,
)
from npdl.functional.transforms import Optimizer, apply_updates
from npdl.record import from_config

__all__ = [
    "Layer",
    "Metric",
    "Optimizer",
    "absolute_error",
    "accumulate",
    "accuracy",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add",
    "add_decayed_weights",
    "apply_updates",
    "average_params",
    "averaged",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "bidirectional",
    "binary_accuracy",
    "binary_cross_entropy",
    "by_path",
    "categorical_cross_entropy",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "confusion_matrix",
    "constant",
    "constant_schedule",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "cosine_decay",
    "dense",
    "dropout",
    "elliot",
    "elu",
    "embedding",
    "expand_dims",
    "exponential_decay",
    "f1_score",
    "flatten",
    "freeze",
    "from_config",
    "from_function",
    "gaussian_noise",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "glorot_normal",
    "glorot_uniform",
    "graph",
    "group_norm",
    "gru",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "he_normal",
    "he_uniform",
    "hellinger_distance",
    "huber",
    "inverse_time_decay",
    "join_schedules",
    "layer",
    "layer_norm",
    "leaky_relu",
    "learned_positions",
    "lecun_normal",
    "lecun_uniform",
    "linear",
    "lion",
    "log_softmax",
    "lstm",
    "masked",
    "max_pool1d",
    "max_pool2d",
    "mean_absolute_error",
    "mean_squared_error",
    "mish",
    "momentum",
    "multi_head_attention",
    "nadam",
    "nesterov_momentum",
    "normal",
    "one_cycle",
    "one_step",
    "ones",
    "orthogonal",
    "parallel",
    "polynomial_decay",
    "precision",
    "r2_score",
    "recall",
    "relu",
    "reshape",
    "residual",
    "rms_norm",
    "rmsprop",
    "rnn",
    "scale",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_rmsprop",
    "selu",
    "serial",
    "sgd",
    "sigmoid",
    "sigmoid_cross_entropy",
    "silu",
    "sinusoidal_positions",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "softsign",
    "squeeze",
    "stack",
    "step_decay",
    "summary",
    "symmetric_elliot",
    "tanh",
    "top_k_accuracy",
    "trace",
    "transformer_decoder_block",
    "transformer_encoder_block",
    "transpose",
    "truncated_normal",
    "uniform",
    "value_and_grad",
    "warmup",
    "zeros",
]
