"""The fully connected layer."""

import math

import numpy as np

from npdl.functional._arrays import (
    DOUBLE,
    SINGLE,
    check_example,
    check_float,
    check_params,
    describe,
    other_layer,
)
from npdl.functional._checks import check_flag, check_function, check_int
from npdl.functional._initializers import Initializer, glorot_uniform, zeros
from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["dense"]


@layer
def dense(
    units: int,
    *,
    bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008 - an immutable value
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Multiply by a matrix and add a vector: ``y = x W + b``, over the last axis.

    Parameters
    ----------
    units : int
        Number of output features.
    bias : bool
        Whether the layer has the parameter `b`.
    weight_init, bias_init : Initializer
        Initial values; Glorot's uniform and zeros by default.

    Returns
    -------
    Layer
        From (batch, ..., features) to (batch, ..., units), with any number of axes between.
        Parameters: ``weight`` (features, units) and ``bias`` (units,).

    Raises
    ------
    ValueError
        If the number of input features differs from the shape passed to `init`.

    References
    ----------
    Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, 1986,
    equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(3)
    >>> params = model.init(0, (2,))
    >>> model(params, np.zeros((5, 2), np.float32)).shape
    (5, 3)
    """
    units = check_int(units, "dense(units=128)")
    bias = check_flag(bias, "dense(128, bias=False)")
    check_function(weight_init, "dense(128, weight_init=he_uniform())")
    check_function(bias_init, "dense(128, bias_init=zeros())")

    out, names = (units,), ("bias", "weight") if bias else ("weight",)
    n_params = len(names)

    def init(rng: KeyLike, shape: Shape) -> Params:
        n_features = _features(shape)
        params = {"weight": weight_init(fold(rng, "weight"), (n_features, units))}
        if bias:
            params["bias"] = bias_init(fold(rng, "bias"), (units,))
        return params

    def apply(params: Params, x: Array) -> tuple[Array, Array]:
        try:
            weight = params["weight"]
            shift = params["bias"] if bias else None
        except (TypeError, LookupError):
            raise other_layer("dense", f"names {', '.join(names)}", params) from None
        # Inline, because a function call costs time on this hot path of small networks.
        if not (
            type(x) is np.ndarray
            and type(weight) is np.ndarray
            and (dtype := weight.dtype) is x.dtype
            and (dtype is SINGLE or dtype is DOUBLE)
            and weight.shape == (*x.shape[-1:], units)
            and len(params) == n_params
            and (
                not bias
                or (type(shift) is np.ndarray and shift.shape == out and shift.dtype is dtype)
            )
        ):
            check(params, x)
        shape = x.shape
        # One matrix product for all leading axes. `dot` costs 0.7 µs less than the operator `@`.
        rows = x if len(shape) <= 2 else x.reshape(math.prod(shape[:-1]), shape[-1])
        y = rows.dot(weight)
        if shift is not None:
            y += shift
        return y if len(shape) <= 2 else y.reshape(*shape[:-1], units), x

    def check(params: Params, x: Array) -> None:
        weight = params["weight"]
        check_float(x, "dense", weight.dtype)
        expected: dict[str, Shape] = {"weight": (*weight.shape[:1], units)}
        check_params("dense", params, expected | ({"bias": out} if bias else {}))
        if x.shape[-1:] != weight.shape[:1]:
            raise ValueError(
                f"dense: these params take {weight.shape[0]} features (the last axis), but the "
                f"input is {describe(x)}; init them with the shape of one example"
            )

    def backward(
        params: Params, x: Array, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        weight, shape = params["weight"], x.shape
        if len(shape) != 2:
            rows = math.prod(shape[:-1])
            x, g = x.reshape(rows, shape[-1]), g.reshape(rows, units)
        grads = {"weight": x.T.dot(g)}
        if bias:
            grads["bias"] = sum_of_rows(g)
        if not input_grad:
            return grads, None
        dx = g.dot(weight.T)
        return grads, dx if len(shape) == 2 else dx.reshape(shape)

    def out_shape(shape: Shape) -> Shape:
        _features(shape)
        return (*shape[:-1], units)

    return Layer(init, apply, backward, out_shape, step=True)


def _features(shape: Shape) -> int:
    check_example("dense", shape, known=1)
    return int(shape[-1])
