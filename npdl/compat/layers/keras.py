"""Layers under the names that Keras has for them, with Keras's order and defaults of arguments.

What they return are the layers of this API, so a saved model has these alone.

>>> from npdl.layers import Conv2D, MaxPooling2D
>>> Conv2D(8, 3, padding="same")
Convolution(nb_filter=8, filter_size=3, activation=None, padding='same')
>>> MaxPooling2D()
MaxPooling(pool_size=(2, 2))
"""

import functools
from collections.abc import Callable
from typing import Any

import npdl.functional as F
from npdl.compat.layers.base import Layer
from npdl.compat.layers.convolution import Convolution
from npdl.compat.layers.functional import Functional
from npdl.compat.layers.normalization import BatchNormal
from npdl.compat.layers.pooling import MaxPooling, MeanPooling
from npdl.compat.layers.sizes import check_channels

__all__ = ["constructor_named"]


def _input(shape: Any = None, input_shape: Any = None, name: str | None = None) -> Functional:
    """Return a layer that changes nothing, and knows the shape of an example."""
    sizes = tuple(input_shape if shape is None else shape)
    check_channels(sizes)
    layer = Functional(F.linear(), input_shape=sizes)
    if name is not None:
        layer.name = name
    return layer


def _batch_normal(axis: Any = -1, **keywords: Any) -> BatchNormal:
    return BatchNormal(axis="channels" if axis == -1 else axis, **keywords)


_POOLING = (("pool_size", "strides", "padding"), {"pool_size": (2, 2)})

# Keras's name → what it makes, its arguments by position, and its defaults that differ from ours.
_LAYERS: dict[str, tuple[Callable[..., Layer], tuple[str, ...], dict[str, Any]]] = {
    "AveragePooling2D": (MeanPooling, *_POOLING),
    "BatchNormalization": (
        _batch_normal,
        ("axis", "momentum", "epsilon"),
        {"momentum": 0.99, "epsilon": 1e-3},
    ),
    "Conv2D": (
        Convolution,
        ("filters", "kernel_size", "strides", "padding"),
        {"activation": None},
    ),
    "Input": (_input, ("shape",), {}),
    "InputLayer": (_input, ("shape",), {}),
    "MaxPool2D": (MaxPooling, *_POOLING),
    "MaxPooling2D": (MaxPooling, *_POOLING),
}


@functools.cache
def constructor_named(name: str) -> Callable[..., Layer] | None:
    """Return the constructor of Keras's name, or `None` if there is no such layer."""
    if name not in _LAYERS:
        return None
    make, order, defaults = _LAYERS[name]

    def constructor(*args: Any, **keywords: Any) -> Layer:
        positional = dict(zip(order, args, strict=False))
        if len(args) > len(order) or positional.keys() & keywords.keys():
            raise TypeError(
                f"{name}: pass the arguments after {', '.join(order)} by keyword, and each once"
            )
        return make(**{**defaults, **positional, **keywords})

    constructor.__name__ = constructor.__qualname__ = name
    return constructor
