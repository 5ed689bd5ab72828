"""Translation of Keras's argument names to the names of this API.

One table translates argument names. Another table lists the arguments without a counterpart, with
advice. Constructors and the methods of a model call :func:`translated`.

>>> import npdl
>>> npdl.layers.Dense(units=8, input_dim=4, kernel_initializer="zeros")
Dense(n_out=8, n_in=4, init='zeros')
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np

__all__ = ["keras_arguments", "translated"]

F = TypeVar("F", bound=Callable[..., Any])

# Keras's name → names in this API; the first one in the signature of the callee is used.
NAMES: dict[str, tuple[str, ...]] = {
    "units": ("n_out",),
    "input_dim": ("n_in", "input_size"),
    "output_dim": ("n_out",),
    "input_length": ("nb_seq",),
    "filters": ("nb_filter",),
    "kernel_size": ("filter_size",),
    "strides": ("stride",),
    "rate": ("p",),
    "kernel_initializer": ("init",),
    "embeddings_initializer": ("init",),
    "recurrent_initializer": ("inner_init",),
    "beta_initializer": ("beta_init",),
    "gamma_initializer": ("gamma_init",),
    "recurrent_activation": ("gate_activation",),
    "return_sequences": ("return_sequence",),
    "shape": ("input_shape",),
    "learning_rate": ("lr",),
    "clipvalue": ("clip",),
    "beta_1": ("beta1",),
    "beta_2": ("beta2",),
    "x": ("X",),
    "y": ("Y",),
    "nb_epoch": ("epochs",),
}

# Keras's name of a loss or an initializer → its name in this API.
VALUES = {
    "binary_crossentropy": "bce",
    "categorical_crossentropy": "scce",
    "sparse_categorical_crossentropy": "scce",
    "ones": "one",
    "random_uniform": "uniform",
    "zeros": "zero",
}

_FUNCTIONAL = "train layer, params = model.to_functional() with npdl.training.fit"
_NO_DECAY = f"weights are not regularized here; {_FUNCTIONAL} and F.adamw(1e-3)"
_NO_BOUND = "weights have no constraints here"
_BY_EPOCH = "an epoch is one pass over arrays, and validation follows each one"
_ARRAYS = "data are arrays here, loaded by the caller"
_NO_MASK = (
    "a Model does not pass masks between layers; Functional(F.graph(...)) computes the mask from "
    "the ids, and npdl.training.fit takes the mask as an input"
)

_AS_ARRAYS = "layer.set_weights(weights) sets them, after compile"
_FORM = "a summary has one form"
_STATISTICS = "running statistics begin with 0 and 1"

# Keras's name without a counterpart → the values that have no effect and are accepted (`None`: all
# values), and advice for any other value.
ABSENT: dict[str, tuple[Collection[Any] | None, str]] = {
    "activity_regularizer": ((None,), _NO_DECAY),
    "amsgrad": ((False,), "Adam has no AMSGrad variant here"),
    "auto_scale_loss": (None, ""),
    "axis": ((-1,), "Activation('softmax') is a softmax over the last axis"),
    "batch_input_shape": (
        (None,),
        "input_shape=(4,) is the shape of an example, without the batch",
    ),
    "batch_size": ((None,), "a batch may have any size"),
    "bias_constraint": ((None,), _NO_BOUND),
    "bias_initializer": ((None, "zeros", "zero"), "biases are initialized to 0; assign layer.b"),
    "bias_regularizer": ((None,), _NO_DECAY),
    "by_name": ((False,), "weights have the order of the layers"),
    "callbacks": ((None,), "npdl.Model.fit takes them"),
    "center": ((True,), "Functional(F.batch_norm(shift=False)) is a batch norm without a shift"),
    "centered": ((False,), f"squares are not centered here; {_FUNCTIONAL}"),
    "class_weight": ((None,), "npdl.Model.fit takes it"),
    "clipnorm": ((None,), f"gradients are clipped by value (clip=1.0); {_FUNCTIONAL}"),
    "data_format": ((None, "channels_first"), "images are (batch, channels, rows, columns)"),
    "dilation_rate": ((1, (1, 1)), "Functional(F.conv2d(8, 3, dilation=2)) has a dilation"),
    "dropout": ((0,), "npdl.layers.Dropout is a separate layer"),
    "dtype": ((None, "float32"), "npdl.utils.set_dtype('float64') is for all layers"),
    "embeddings_regularizer": ((None,), _NO_DECAY),
    "expand_nested": (None, _FORM),
    "global_clipnorm": ((None,), f"gradients are clipped by value (clip=1.0); {_FUNCTIONAL}"),
    "go_backwards": ((False,), "Functional(F.bidirectional(F.lstm(8))) has both directions"),
    "gradient_accumulation_steps": ((None, 1), f"{_FUNCTIONAL} and F.accumulate"),
    "groups": ((1,), "Functional(F.conv2d(8, 3, groups=2)) has groups"),
    "implementation": (None, ""),
    "include_optimizer": ((True,), "save_weights(path) writes only the weights"),
    "initial_accumulator_value": ((0,), f"{_FUNCTIONAL} and F.adagrad(0.01, initial_squares=0.1)"),
    "inputs": ((), "layers form a sequence, as in Model([...]); F.graph has branches"),
    "jit_compile": (None, ""),
    "kernel_constraint": ((None,), _NO_BOUND),
    "kernel_regularizer": ((None,), _NO_DECAY),
    "line_length": (None, _FORM),
    "loss_scale_factor": ((None,), "gradients are not scaled here"),
    "loss_weights": ((None,), "a Model has one loss"),
    "mask": ((None,), _NO_MASK),
    "mask_zero": ((False,), _NO_MASK),
    "max_queue_size": ((10,), _ARRAYS),
    "momentum": ((0,), "Momentum(momentum=0.9, lr=0.01) is SGD with momentum, the only form here"),
    "moving_mean_initializer": ((None, "zeros"), _STATISTICS),
    "moving_variance_initializer": ((None, "ones"), _STATISTICS),
    "name": (None, ""),
    "nesterov": ((False,), "NesterovMomentum(momentum=0.9, lr=0.01) is SGD with this momentum"),
    "noise_shape": ((None,), "each element is dropped independently"),
    "outputs": ((), "layers form a sequence, as in Model([...]); F.graph has branches"),
    "overwrite": ((True,), "an existing file is replaced"),
    "padding": (("valid",), "the blocks of a pooling layer must fill the image"),
    "positions": (None, _FORM),
    "recurrent_constraint": ((None,), _NO_BOUND),
    "recurrent_dropout": ((0,), "npdl.layers.Dropout is a separate layer"),
    "recurrent_regularizer": ((None,), _NO_DECAY),
    "reset_metrics": (None, ""),
    "return_dict": ((False,), "model.evaluate(X, Y, return_dict=True) has the metrics too"),
    "return_state": ((False,), "layer.c0 and layer.h0 are the last states of an LSTM"),
    "run_eagerly": (None, ""),
    "sample_weight_mode": ((None,), "each example has one weight"),
    "save_format": ((None,), "the suffix .npz is the format"),
    "scale": ((True,), "Functional(F.batch_norm(scale=False)) is a batch norm without a scale"),
    "seed": ((None,), "npdl.utils.set_seed(0) is for all layers"),
    "show_trainable": (None, _FORM),
    "skip_mismatch": ((False,), "all weights must fit"),
    "stateful": ((False,), "layer.forward(x, c0=layer.c0, h0=layer.h0) starts at the last state"),
    "steps": ((None,), _BY_EPOCH),
    "steps_per_epoch": ((None,), _BY_EPOCH),
    "steps_per_execution": (None, ""),
    "strides": ((None,), "the blocks of a pooling layer do not overlap"),
    "synchronized": ((False,), "a Model trains in one process"),
    "unit_forget_bias": ((True,), "forget_bias_num=0 sets the initial forget bias to 0"),
    "unroll": ((False, True), ""),
    "use_bias": ((True,), "only Dense, Linear, Softmax and Convolution can omit the bias"),
    "use_cudnn": (None, ""),
    "use_ema": ((False,), f"{_FUNCTIONAL} and F.average_params(0.999)"),
    "use_multiprocessing": ((False,), _ARRAYS),
    "validation_batch_size": ((None,), "validation takes batches of batch_size"),
    "validation_freq": ((1,), _BY_EPOCH),
    "validation_steps": ((None,), _BY_EPOCH),
    "weight_decay": ((None, 0), _NO_DECAY),
    "weighted_metrics": ((None,), "the metrics of a Model are weighted: pass them as metrics"),
    "weights": ((None,), f"Embedding(table) takes a table, and {_AS_ARRAYS}"),
    "workers": ((1,), _ARRAYS),
}


def translated(
    callee: str, known: Collection[str], keywords: Mapping[str, Any], others: Collection[str] = ()
) -> dict[str, Any]:
    """Return keyword arguments under the names in the signature of a callee.

    Parameters
    ----------
    callee : str
        The class or function, for messages.
    known : collection of str
        The names of its arguments.
    keywords : dict
        The arguments as they were passed.
    others : collection of str
        Additional names that are passed unchanged.

    Raises
    ------
    TypeError
        If a name is unknown, an argument is passed under two names, or a name of Keras has no
        counterpart.

    Examples
    --------
    >>> translated("Dense", ("n_out", "n_in"), {"units": 8, "kernel_regularizer": None})
    {'n_out': 8}
    """
    found: dict[str, Any] = {}
    for given, value in keywords.items():
        candidates = (name for name in NAMES.get(given, ()) if name in known)
        name = given if given in known or given in others else next(candidates, None)
        if name is None:
            _check_absent(callee, known, given, value)
        elif name in found or (name != given and name in keywords):
            raise TypeError(f"{callee}: {given} and {name} are the same argument; pass only {name}")
        else:
            found[name] = value
    return found


def _check_absent(callee: str, known: Collection[str], name: str, value: Any) -> None:
    """Raise unless an argument without a counterpart has a value without effect."""
    if name not in ABSENT:
        keras = [given for given, names in NAMES.items() if not set(names).isdisjoint(known)]
        near = difflib.get_close_matches(name, [*known, *keras], 1)
        suggestion = f" (did you mean {near[0]!r}?)" if near else ""
        arguments = ", ".join(known) or "none"
        raise TypeError(
            f"{callee}: unknown argument {name!r}; the arguments are {arguments}{suggestion}"
        )
    neutral, advice = ABSENT[name]
    scalar = value is None or isinstance(value, str | bool | int | float | np.generic | tuple)
    if neutral is not None and not (scalar and value in neutral):
        raise TypeError(f"{callee} has no argument {name!r}, got {name}={value!r:.80}: {advice}")


def keras_arguments(function: F) -> F:
    """Let a method also accept Keras's names of its arguments."""
    names = [*inspect.signature(function).parameters][1:]
    known = dict.fromkeys(names)

    @functools.wraps(function)
    def renamed(self: Any, *args: Any, **keywords: Any) -> Any:
        if not keywords.keys() <= known.keys():
            method = "" if function.__name__ == "__init__" else f".{function.__name__}"
            callee = f"{type(self).__name__}{method}"
            keywords = translated(callee, known, keywords)
        return function(self, *args, **keywords)

    return renamed  # type: ignore[return-value]
