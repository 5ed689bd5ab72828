"""Normalization over the batch, with running statistics for evaluation."""

import math
from typing import Any

import numpy as np

from npdl._parameter_limit import claim
from npdl.functional._arrays import check_example, check_float, check_names, check_types, describe
from npdl.functional._checks import check_axis, check_flag, check_number
from npdl.functional._initializers import scale_and_shift
from npdl.functional._kernels.image_layout import memory_order
from npdl.functional._kernels.normalization import (
    as_outer_features_inner,
    exponents,
    feature_dots,
    feature_sums,
    scaled_epsilon,
)
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["batch_norm"]


@layer
def batch_norm(
    *,
    axis: int = 1,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    scale: bool = True,
    shift: bool = True,
) -> Layer:
    """Normalize each channel over the batch: ``y = a (x - mean) / √(variance + ε) + b``.

    Training uses the statistics of the batch; evaluation uses the running statistics in the
    parameters. `update_stats` updates them: ``running = (1 - momentum) running + momentum batch``.
    They start from mean 0 and variance 1. The batch variance in this update is unbiased, as in
    PyTorch. (Keras's momentum is one minus this one.)

    Parameters
    ----------
    axis : int
        The channel axis of an array with 2 to 5 axes: 1 for features and for images, -1 for
        sequences (batch, time, features). It cannot be 0, the batch axis.
    momentum : float
        The weight of the newest batch in the running statistics, above 0 and at most 1.
    epsilon : float
        Added to the variance, which may be zero.
    scale, shift : bool
        Whether the layer has the parameter `a`, and `b`.

    Returns
    -------
    Layer
        Keeps the shape. Parameters of shape (channels,): ``scale`` and ``shift``, and the running
        ``mean`` and ``variance``. The scalar ``count`` is the number of batches in the running
        statistics. The last three are not trained. For imported running statistics, set
        ``count`` to 1.

    Raises
    ------
    ValueError
        In training, if the batch is empty or has a single value per channel, whose variance is
        undefined. In evaluation, if the running statistics do not include any batch yet.

    References
    ----------
    Ioffe, Szegedy: Batch normalization, 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.batch_norm()
    >>> params = model.init(0, (2,))
    >>> x = np.array([[1, 5], [3, 9]], np.float32)
    >>> y, cache = model.apply(params, x, train=True)
    >>> y.round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> params = model.update_stats(params, cache)
    >>> params["mean"], params["variance"]
    (array([0.2, 0.7], dtype=float32), array([1.1, 1.7], dtype=float32))
    """
    axis = check_axis(axis, "batch_norm(axis=1)")
    momentum = check_number(momentum, "batch_norm(momentum=0.1)", "in (0, 1]")
    epsilon = check_number(epsilon, "batch_norm(epsilon=1e-5)", "above 0")
    scale = check_flag(scale, "batch_norm(scale=False)")
    shift = check_flag(shift, "batch_norm(shift=False)")
    names = {*scale_and_shift((), scale, shift), "mean", "variance", "count"}

    def init(rng: KeyLike, shape: Shape) -> Params:
        size = _channels(shape, axis)
        claim((size,))
        return {
            **scale_and_shift((size,), scale, shift),
            "mean": np.zeros(size, np.float32),
            "variance": np.ones(size, np.float32),
            "count": np.zeros((), np.float32),
        }

    def apply(params: Params, x: Array, *, train: bool = False) -> tuple[Array, Any]:
        check_names("batch_norm", params, names)
        trained = {name: array for name, array in params.items() if name != "count"}
        check_float(x, "batch_norm", check_types("batch_norm", trained))
        if x.ndim == 0 or _channels(x.shape[1:], axis) != params["mean"].size:
            raise ValueError(
                f"batch_norm: these params have {params['mean'].size} channels, on axis {axis}, "
                f"but the input is {describe(x)}"
            )
        order = memory_order(x)
        x3 = _to_three(x, order, axis)
        added: Any = epsilon
        powers = None
        if train:
            x3, (y, mean, rest, variance), powers = _batch_statistics(x3)
            if powers is not None:
                added = scaled_epsilon(epsilon, powers, x3.dtype)
        else:
            y, mean, rest, variance = _centered_by_running(params, x3)
        inverse = 1 / np.sqrt(variance + added)
        factor = inverse * params["scale"] if scale else inverse
        offset = -rest * factor
        if shift:
            offset += params["shift"]
        y *= factor[:, None]
        y += offset[:, None]
        fresh = (mean + rest, _unbiased(variance, x3)) if train else None
        return _from_three(y, x, order), (x3, order, mean, rest, inverse, powers, fresh)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        x3, order, mean, rest, inverse, powers, fresh = cache
        g3 = _to_three(g, order, axis)
        grads: dict[str, Any] = {"mean": None, "variance": None, "count": None}
        factor = inverse * params["scale"] if scale else inverse
        if fresh is None and not scale:
            grads |= {"shift": feature_sums(g3)} if shift else {}
            return grads, _from_three(g3 * factor[:, None], g, order) if input_grad else None
        # With x̂ = (centered - rest) · inverse, these are the sums of g and of g · x̂.
        centered = x3 - mean[:, None]
        sum_g = feature_sums(g3)
        sum_gx = (feature_dots(g3, centered) - rest * sum_g) * inverse
        grads |= {"scale": sum_gx} if scale else {}
        grads |= {"shift": sum_g} if shift else {}
        if not input_grad:
            return grads, None
        if fresh is None:
            return grads, _from_three(g3 * factor[:, None], g, order)
        # dx = factor · (g - mean(g) - x̂ · mean(g · x̂)), written over `centered`.
        size = x3.size // mean.size
        mean_gx = inverse * sum_gx / size
        dx = centered
        dx *= -mean_gx[:, None]
        dx += g3
        dx += (rest * mean_gx - sum_g / size)[:, None]
        if powers is not None:
            factor = np.ldexp(factor, -powers)
        dx *= factor[:, None]
        return grads, _from_three(dx, g, order)

    def out_shape(shape: Shape) -> Shape:
        _channels(shape, axis)
        return shape

    def update_stats(params: Params, cache: Any) -> Params:
        if cache is None or cache[-1] is None:
            return params
        powers, (mean, variance) = cache[-2:]
        if powers is not None:
            mean, variance = _unscaled(mean, variance, powers)
        return {
            **params,
            "mean": params["mean"] + momentum * (mean - params["mean"]),
            "variance": params["variance"] + momentum * (variance - params["variance"]),
            "count": np.asarray(params["count"] + 1),
        }

    # The other arrays of the cache are as large as the batch.
    update_stats.needed = lambda cache: (None, *cache[-2:])  # type: ignore[attr-defined]

    return Layer(init, apply, backward, out_shape, update_stats, keeps_axes=True, step=axis == -1)


def _to_three(x: Array, order: tuple[int, ...], axis: int) -> Array:
    position = order.index(axis % x.ndim)
    return as_outer_features_inner(x.transpose(order), position, position + 1)


def _from_three(y: Array, like: Array, order: tuple[int, ...]) -> Array:
    stored = y.reshape([like.shape[i] for i in order])
    return stored.transpose(sorted(range(like.ndim), key=order.__getitem__))


Centered = tuple[Array, Array, Array, Array]


def _batch_statistics(x3: Array) -> tuple[Array, Centered, Array | None]:
    """Return `x3`, the results of :func:`_centered`, and exponents of scale factors, or `None`.

    A channel of `x3` is divided by a power of two if its squares overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = _centered(x3)
        variance = found[-1]
        # This sum is infinite or NaN if any square has overflowed.
        if variance.dot(variance) < math.inf:
            return x3, found, None
        powers = exponents(x3, variance, (0, 2))
        if not powers.any():
            return x3, found, None
        x3 = np.ldexp(x3, -powers[:, None])
        return x3, _centered(x3), powers


def _centered(x3: Array) -> Centered:
    """Return (x - mean, mean, rest, variance); the rest is the rounding error of the mean."""
    size = x3.shape[0] * x3.shape[2]
    if size == 0:
        raise ValueError("batch_norm: the batch is empty, so its mean and variance are undefined")
    if size == 1:
        raise ValueError(
            "batch_norm: the batch has a single value per channel, whose variance is undefined; "
            "train with batches of two examples or more"
        )
    mean = feature_sums(x3) / size
    centered = x3 - mean[:, None]
    # In float32, a mean of 10⁴ has a rounding error of 10⁻³; the mean of the residuals corrects it.
    rest = feature_sums(centered) / size
    variance: Array = feature_dots(centered, centered) / size - rest * rest
    return centered, mean, rest, np.maximum(variance, 0)


def _centered_by_running(params: Params, x3: Array) -> Centered:
    """Return (x - mean, mean, rest, variance) of the running statistics; the rest is zero."""
    if not params["count"] > 0:
        raise ValueError(
            "batch_norm: these params have seen no batch, so there are no running statistics to "
            "evaluate with: train first, and after each apply(params, x, train=True) call "
            "params = layer.update_stats(params, cache), as npdl.training does. A frozen batch "
            "norm evaluates in training too: freeze(layer) comes after its training"
        )
    mean = params["mean"]
    return x3 - mean[:, None], mean, np.zeros_like(mean), params["variance"]


def _unscaled(mean: Array, variance: Array, powers: Array) -> tuple[Array, Array]:
    """Multiply the statistics of scaled inputs by the scale factors, 2**powers."""
    with np.errstate(over="ignore"):
        variance = np.ldexp(variance, 2 * powers)
    if np.isinf(variance).any():
        wider = ", or compute in float64: npdl.tree.astype((params, x), np.float64)"
        raise ValueError(
            f"batch_norm: the variance of this batch is too large for {variance.dtype}, and the "
            f"running statistics cannot hold it; divide the inputs by a constant, such as "
            f"np.abs(x).max(){'' if variance.dtype == np.float64 else wider}"
        )
    return np.ldexp(mean, powers), variance


def _unbiased(variance: Array, x3: Array) -> Array:
    size = x3.shape[0] * x3.shape[2]
    unbiased: Array = variance * (size / (size - 1))
    return unbiased


def _channels(shape: Shape, axis: int) -> int:
    """Return the size of an axis of the batch's array, given the shape of one example."""
    check_example("batch_norm", shape)
    position = axis - 1 if axis > 0 else axis + len(shape)
    if not (len(shape) <= 4 and 0 <= position < len(shape)):
        raise ValueError(
            f"batch_norm: axis {axis} is not a feature axis of an example of shape "
            f"{tuple(shape)}; the input must have 2 to 5 axes, and axis 0 is the batch"
        )
    return int(shape[position])
