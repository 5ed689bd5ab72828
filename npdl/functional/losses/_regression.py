"""Losses: ``loss, g = mean_squared_error(outputs, targets)``, a mean and its gradient in outputs.

The value is a scalar and `g` a new array, both of the data type of the outputs. Targets and weights
are converted to this type. In regressions and for binary targets, the mean is over all elements. In
classifications, it is over all axes but the last, the class axis.

With weights, the mean is ``Σ wᵢ lᵢ / Σ wᵢ``. A mask of zeros and ones excludes the padded steps of
sequences, and the other steps count as if alone. Outputs and targets with a weight of 0 have no
effect, including NaN and inf. The inputs of the model must be finite at these positions, too, or
NaN reaches the gradients of the model; `fit` and `train_step` refuse such gradients. A weight
belongs to an example, or to a position on the leading axes. Only the ratios of weights matter. A
negative weight, NaN or inf is an error. If all weights are zero, the loss and the gradient are
zero. The mean of an empty batch is undefined, and an error.

All arrays are plain NumPy arrays, or mapped from files: masked arrays and `np.matrix` are errors.
Float16 and bfloat16 are errors, too; ``x.astype(np.float32)`` converts them.

Options are keywords: ``functools.partial(F.huber, delta=2.0)`` is a loss, too.

With ``per_example=True``, a loss returns the value of each example (batch,): the loss of the
example alone, a mean over its elements or positions. Then `g` has the gradients of these values.
"""

import math
from typing import Any

import numpy as np

from npdl.functional._checks import check_number
from npdl.functional._kernels.loss_terms import (
    EPSILON,
    absolute_errors,
    binary_cross_entropies,
    huber_errors,
    sigmoid_cross_entropies,
    sigmoid_cross_entropies_of_infinite,
    squared_errors,
)
from npdl.functional._targets import check_probabilities
from npdl.functional.losses._means import mean_of_elements
from npdl.tree import Array

__all__ = [
    "binary_cross_entropy",
    "check_binary",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "sigmoid_cross_entropy",
]


def mean_squared_error(
    outputs: Array, targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = (p - t)²``.

    Parameters
    ----------
    outputs : array of floats (batch, ...)
        The predictions `p`.
    targets : array of numbers (batch, ...)
        The values `t`.
    weights : array (batch,) or further leading axes of outputs, optional
        Finite and not negative, for the mean ``Σ wᵢ lᵢ / Σ wᵢ``; one weight for each example, or
        for each position on the leading axes. Zeros exclude padded steps, including NaN. If all
        weights are zero, loss and gradient are zero.
    per_example : bool
        Whether to return the loss of each example instead of their mean.

    Returns
    -------
    loss : NumPy scalar, or array (batch,) with `per_example`
        The mean over all elements.
    g : array
        Its gradient in `outputs`, which is ``g = 2 (p - t) / n`` for n elements without weights.

    Raises
    ------
    ValueError
        If the shapes differ, (n,) and (n, 1) too; if the batch is empty; if a weight is negative,
        NaN or inf.
    TypeError
        If the outputs are not an array of float32 or float64; if targets or weights are not
        numbers; if an argument is float16, a masked array or a matrix.

    References
    ----------
    Legendre: Nouvelles méthodes pour la détermination des orbites des comètes, 1805, for the sum.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.mean_squared_error(np.array([1.0, 3.0]), np.array([0.0, 3.0]))
    >>> float(loss), g
    (0.5, array([1., 0.]))
    >>> F.mean_squared_error(np.array([1.0, 3.0]), np.array([0.0, 3.0]), per_example=True)
    (array([1., 0.]), array([2., 0.]))
    """
    name = "mean_squared_error"
    return mean_of_elements(name, squared_errors, outputs, targets, weights, per_example)


def mean_absolute_error(
    outputs: Array, targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = |p - t|``; the derivative at 0 is defined as 0.

    The corresponding metric is :func:`absolute_error`.

    Parameters
    ----------
    outputs, targets, weights, per_example
        As in :func:`mean_squared_error`.

    Returns
    -------
    loss, g
        The mean over all n elements and its gradient in `outputs`, ``g = sign(p - t) / n``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.mean_absolute_error(np.array([1.0, 3.0]), np.array([0.0, 3.0]))
    >>> float(loss), g
    (0.5, array([0.5, 0. ]))
    """
    name = "mean_absolute_error"
    return mean_of_elements(name, absolute_errors, outputs, targets, weights, per_example)


def huber(
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    delta: float = 1.0,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = d²/2`` where ``d = |p - t| ≤ δ``, and of ``l = δ (d - δ/2)`` beyond.

    Parameters
    ----------
    outputs, targets, weights, per_example
        As in :func:`mean_squared_error`.
    delta : float
        The δ, positive, in the unit of the targets: the loss is quadratic up to it, then linear.

    Returns
    -------
    loss, g
        The mean over all n elements and its gradient in `outputs`,
        ``g = min(max(p - t, -δ), δ) / n``.

    References
    ----------
    Huber: Robust estimation of a location parameter, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.huber(np.array([1.0, 9.0]), np.array([0.0, 0.0]), delta=2.0)
    >>> float(loss), g
    (8.25, array([0.5, 1. ]))
    """
    if not (isinstance(delta, float) and delta == math.inf):
        delta = check_number(delta, "huber(p, t, delta=1.0)", "above 0")
    return mean_of_elements("huber", huber_errors, outputs, targets, weights, per_example, delta)


def binary_cross_entropy(
    probabilities: Array,
    targets: Any,
    weights: Any = None,
    *,
    epsilon: float = EPSILON,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = -t log p - (1 - t) log(1 - p)``, for the probabilities of a sigmoid.

    :func:`sigmoid_cross_entropy` takes the logits instead, is faster and exact everywhere.

    Parameters
    ----------
    probabilities : array of floats (batch, ...)
        The `p`, in [0, 1].
    targets : array of numbers or booleans (batch, ...)
        The `t`, in [0, 1].
    weights, per_example
        As in :func:`mean_squared_error`.
    epsilon : float
        Lower bound of `p` and `1 - p` in the value and in the divisions of the derivative
        ``(1 - t)/(1 - p) - t/p``. So the derivative does not vanish at this bound, and training
        can correct a wrong 0 or 1.

    Returns
    -------
    loss, g
        The mean over all elements and its gradient in `probabilities`.

    Raises
    ------
    ValueError
        As in :func:`mean_squared_error`, and if a probability or target is outside [0, 1].

    References
    ----------
    Solla, Levin, Fleisher: Accelerated learning in layered neural networks, 1988.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.binary_cross_entropy(np.array([0.5, 0.8]), np.array([1, 0]))
    >>> round(float(loss), 4), g
    (1.1513, array([-1. ,  2.5]))
    """
    name = "binary_cross_entropy"
    epsilon = check_number(epsilon, f"{name}(p, t, epsilon=1e-12)", "in (0, 0.5)")
    return mean_of_elements(
        name, binary_cross_entropies, probabilities, targets, weights, per_example, epsilon,
        check=_check_both,
    )  # fmt: skip


def sigmoid_cross_entropy(
    logits: Array, targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = log(1 + exp(z)) - t z``: the binary cross-entropy of ``sigmoid(z)``.

    Parameters
    ----------
    logits : array of floats (batch, ...)
        The `z`, any real numbers, and ±inf.
    targets : array of numbers or booleans (batch, ...)
        The `t`, in [0, 1].
    weights, per_example
        As in :func:`mean_squared_error`.

    Returns
    -------
    loss, g
        The mean over all n elements and its gradient in `logits`, ``g = (sigmoid(z) - t) / n``.

    Raises
    ------
    ValueError
        As in :func:`mean_squared_error`, and if a target is outside [0, 1].

    References
    ----------
    Solla, Levin, Fleisher: Accelerated learning in layered neural networks, 1988.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.sigmoid_cross_entropy(np.array([0.0, 1000.0]), np.array([1, 0]))
    >>> round(float(loss), 4), g
    (500.3466, array([-0.25,  0.5 ]))
    """
    name, given = "sigmoid_cross_entropy", (logits, targets, weights, per_example)
    loss, g = mean_of_elements(name, sigmoid_cross_entropies, *given, check=check_binary)
    if not (np.isfinite(loss).all() if per_example else -math.inf < loss < math.inf):
        loss, g = mean_of_elements(name, sigmoid_cross_entropies_of_infinite, *given)
    return loss, g


def check_binary(name: str, p: Array, t: Array) -> None:
    """Raise if a target is outside [0, 1]."""
    check_probabilities(name, "targets", t, "a target is 0 or 1, or between")


def _check_both(name: str, p: Array, t: Array) -> None:
    check_probabilities(name, "outputs", p, "sigmoid_cross_entropy takes logits")
    check_binary(name, p, t)
