"""Noise in training: dropout and additive Gaussian noise. In inference, the identity."""

from typing import Any

from npdl.functional._arrays import check_float, describe
from npdl.functional._checks import check_key, check_mode, check_number, is_int, refusal
from npdl.functional._kernels.dropout_mask import keep_mask, keep_threshold
from npdl.functional._layer import Layer, Params, layer, no_params, same_shape
from npdl.random import KeyLike, generator
from npdl.tree import Array

__all__ = ["dropout", "gaussian_noise"]


@layer
def dropout(rate: float, *, shared: tuple[int, ...] = ()) -> Layer:
    """Set elements to zero at random, in training: ``y = x · kept / (1 - rate)``.

    The kept elements are scaled up, so that the expectation of `y` is `x`. Inference is the
    identity. The rate is rounded to a multiple of 1/65536, but never to 0 or 1. The scale follows
    from the rounded rate, so that the expectation is exact.

    Parameters
    ----------
    rate : float
        The dropped fraction, from 0 to below 1.
    shared : tuple of int
        Axes of the batch's array along which all elements are dropped or kept together. (2, 3)
        drops whole channels of images (batch, channels, height, width). (1,) drops the same
        features at all steps of sequences (batch, time, features).

    Raises
    ------
    ValueError
        If the key is missing in training, or the input lacks a shared axis.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout, a simple way to prevent
    neural networks from overfitting, 2014, section 4; for whole channels, Tompson, Goroshin, Jain,
    LeCun, Bregler: Efficient object localization using convolutional networks, 2015, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dropout(0.5)
    >>> x = np.ones((2, 4), np.float32)
    >>> model((), x, train=True, rng=0)
    array([[2., 2., 2., 2.],
           [2., 2., 2., 0.]], dtype=float32)
    >>> model((), x) is x
    True
    """
    rate = check_number(rate, "dropout(rate=0.1)", "in [0, 1)")
    if not isinstance(shared, tuple | list) or not all(map(is_int, shared)):
        raise ValueError(refusal(shared, "dropout(0.1, shared=(2, 3))", "a tuple of axes"))
    threshold, scale = keep_threshold(rate)

    def apply(
        params: Params, x: Array, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Array, Array | None]:
        check_mode(train, rng)
        check_float(x, "dropout")
        if not train or rate == 0:
            return x, None
        key, shape = check_key("dropout", rng), _mask_shape(x, shared) if shared else x.shape
        kept = keep_mask(key, shape, threshold)
        y = x * kept
        y *= scale
        return y, kept

    def backward(
        params: Params, kept: Array | None, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad or kept is None:
            return None, g if input_grad else None
        dx = g * kept
        dx *= scale
        return None, dx

    return Layer(no_params, apply, backward, same_shape, keeps_axes=True, step=True)


def _mask_shape(x: Array, shared: tuple[int, ...]) -> tuple[int, ...]:
    sizes = list(x.shape)
    for axis in shared:
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"dropout: shared={shared} needs axis {axis}, got {describe(x)}")
        sizes[axis] = 1
    return tuple(sizes)


@layer
def gaussian_noise(std: float) -> Layer:
    """Add normal random numbers in training: ``y = x + std · ε``, ``ε ~ N(0, 1)``.

    Parameters
    ----------
    std : float
        The standard deviation of the noise, not negative.

    Raises
    ------
    ValueError
        If the key is missing in training.

    References
    ----------
    Bishop: Training with noise is equivalent to Tikhonov regularization, 1995.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.gaussian_noise(0.1)
    >>> x = np.ones(5000, np.float32)
    >>> round(float(model((), x, train=True, rng=0).std()), 2)
    0.1
    >>> model((), x) is x
    True
    """
    std = check_number(std, "gaussian_noise(std=0.1)", "of at least 0")

    def apply(
        params: Params, x: Array, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Array, None]:
        check_mode(train, rng)
        check_float(x, "gaussian_noise")
        if not train or std == 0:
            return x, None
        dtype = x.real.dtype  # the type of the values, also of dual numbers
        noise: Any = generator(check_key("gaussian_noise", rng)).standard_normal(x.shape, dtype)
        noise *= std
        return noise + x, None

    def backward(params: Params, cache: None, g: Array) -> tuple[None, Array]:
        return None, g

    return Layer(no_params, apply, backward, same_shape, keeps_axes=True, step=True)
