"""Layers under Keras's names, with Keras's order and defaults of arguments.

The functions return layers of this API, so saved models do not contain other classes.
"""

from typing import Any

import npdl.functional as F
from npdl.compat.layers._functional import Functional
from npdl.compat.layers._sizes import check_channels
from npdl.compat.layers.convolution import Convolution
from npdl.compat.layers.normalization import BatchNormal
from npdl.compat.layers.pooling import MaxPooling, MeanPooling

__all__ = ["AveragePooling2D", "BatchNormalization", "Conv2D", "Input", "MaxPooling2D"]


def Input(shape: Any, dtype: Any = None, **options: Any) -> Functional:  # noqa: N802
    """Return an identity layer with a known input shape, as the first layer of a model.

    Parameters
    ----------
    shape : tuple of ints
        The shape of one example, without the batch; images have channels first.
    dtype : str, optional
        Ignored: floats stay floats, and ids for an :class:`Embedding` stay ints.
    **options
        Further options of the layer, `name`.

    Examples
    --------
    >>> from npdl.layers import Dense, Input
    >>> import npdl
    >>> model = npdl.Sequential([Input(shape=(6,)), Dense(3, "softmax")])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> model.input_shape
    (None, 6)
    """
    if not isinstance(shape, tuple | list):
        raise TypeError(f"Input: shape must be a tuple, as in Input(shape=(4,)), got {shape!r:.80}")
    check_channels(tuple(shape))
    return Functional(F.serial(), input_shape=tuple(shape), **options)


def Conv2D(  # noqa: N802
    filters: int,
    kernel_size: Any,
    strides: Any = 1,
    padding: str = "valid",
    activation: Any = None,
    **keywords: Any,
) -> Convolution:
    """Return a :class:`Convolution`, without an activation by default.

    Parameters
    ----------
    filters, kernel_size, strides, padding, activation
        Keras's names for `nb_filter`, `filter_size`, `stride`, `padding` and `activation`.
    **keywords
        Other arguments of :class:`Convolution`, such as `input_shape` (channels first).

    Examples
    --------
    >>> from npdl.layers import Conv2D
    >>> Conv2D(8, 3, padding="same")
    Convolution(nb_filter=8, filter_size=3, stride=1, activation=None, padding='same')
    """
    given = {"stride": strides, "activation": activation, "padding": padding, **keywords}
    return Convolution(filters, kernel_size, **given)


def MaxPooling2D(pool_size: Any = (2, 2), strides: Any = None, **keywords: Any) -> MaxPooling:  # noqa: N802
    """Return a :class:`MaxPooling` layer, with 2×2 blocks by default.

    Parameters
    ----------
    pool_size : int or pair of ints
        Rows and columns of a block.
    strides : int or pair of ints, optional
        Must be equal to `pool_size`, since blocks do not overlap.
    **keywords
        Options of all layers, such as `name`.

    Examples
    --------
    >>> from npdl.layers import MaxPooling2D
    >>> MaxPooling2D()
    MaxPooling(pool_size=(2, 2))
    """
    return MaxPooling(pool_size, **{"strides": strides, **keywords})


def AveragePooling2D(  # noqa: N802
    pool_size: Any = (2, 2), strides: Any = None, **keywords: Any
) -> MeanPooling:
    """Return a :class:`MeanPooling` layer, with 2×2 blocks by default.

    Parameters
    ----------
    pool_size, strides, **keywords
        As in :func:`MaxPooling2D`.

    Examples
    --------
    >>> from npdl.layers import AveragePooling2D
    >>> AveragePooling2D(3, strides=3)
    MeanPooling(pool_size=3)
    """
    return MeanPooling(pool_size, **{"strides": strides, **keywords})


def BatchNormalization(  # noqa: N802
    axis: Any = -1, momentum: float = 0.99, epsilon: float = 1e-3, **keywords: Any
) -> BatchNormal:
    """Return a :class:`BatchNormal` over the channels, with Keras's defaults.

    Parameters
    ----------
    axis : int
        The channel axis; -1 is axis 1 for images (channels first), otherwise the last axis.
    momentum, epsilon, **keywords
        As in :class:`BatchNormal`.

    Examples
    --------
    >>> from npdl.layers import BatchNormalization
    >>> BatchNormalization()
    BatchNormal(epsilon=0.001, momentum=0.99, axis='channels')
    """
    return BatchNormal(epsilon, momentum, "channels" if axis == -1 else axis, **keywords)
