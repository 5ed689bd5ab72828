"""Losses of classes: ``loss, g = softmax_cross_entropy(logits, labels)``.

The last axis of the outputs is the class axis, and the mean is over the other axes. Targets are
class ids, with one axis less, or a probability for each class. Weights and errors are as in the
regression losses. The arithmetic of blocks is in `_kernels/loss_terms.py`.
"""

from typing import Any

from npdl.functional._checks import check_number
from npdl.functional._kernels.loss_terms import (
    EPSILON,
    categorical_cross_entropies,
    hellinger_distances,
)
from npdl.functional._targets import class_items
from npdl.functional.losses._means import (
    as_rows,
    cross_entropies_in_blocks,
    mean_of_rows,
    scale_of_rows,
    total,
)
from npdl.tree import Array

__all__ = ["categorical_cross_entropy", "hellinger_distance", "softmax_cross_entropy"]


def categorical_cross_entropy(
    probabilities: Array,
    targets: Any,
    weights: Any = None,
    *,
    epsilon: float = EPSILON,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = -Σⱼ tⱼ log pⱼ``, for the probabilities of a softmax.

    :func:`softmax_cross_entropy` takes the logits instead, is faster and exact everywhere.

    Parameters
    ----------
    probabilities : array of floats (batch, ..., classes)
        The `p`, in [0, 1].
    targets, weights, per_example
        As in :func:`softmax_cross_entropy`.
    epsilon : float
        Lower bound of `p` in the value and in the derivative ``-t/p``. So the derivative does not
        vanish at this bound.

    Returns
    -------
    loss, g
        The mean over all leading axes and its gradient in `probabilities`.

    Raises
    ------
    ValueError
        As in :func:`softmax_cross_entropy`, and if a probability is outside [0, 1].

    References
    ----------
    Bridle: Probabilistic interpretation of feedforward classification network outputs, with
    relationships to statistical pattern recognition, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> p = np.array([[0.5, 0.5], [0.2, 0.8]])
    >>> loss, g = F.categorical_cross_entropy(p, np.array([0, 0]))
    >>> round(float(loss), 4), g
    (1.1513, array([[-1. ,  0. ], [-2.5,  0. ]]))
    """
    name = "categorical_cross_entropy"
    return mean_of_rows(
        name, categorical_cross_entropies, probabilities, targets, weights, epsilon, per_example
    )


def hellinger_distance(
    probabilities: Array,
    targets: Any,
    weights: Any = None,
    *,
    epsilon: float = EPSILON,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``H = √(½ Σⱼ (√pⱼ - √tⱼ)²)``, a distance of distributions from 0 to 1.

    Parameters
    ----------
    probabilities : array of floats (batch, ..., classes)
        The `p`, in [0, 1].
    targets, weights, per_example
        As in :func:`softmax_cross_entropy`.
    epsilon : float
        Lower bound of `p` in the derivative ``(1 - √(t/p)) / 4H``. At the minimum, ``H = 0``, which
        is a corner, the derivative is defined as 0.

    Returns
    -------
    loss, g
        The mean over all leading axes and its gradient in `probabilities`.

    Raises
    ------
    ValueError
        As in :func:`softmax_cross_entropy`, and if a probability is outside [0, 1].

    References
    ----------
    Hellinger: Neue Begründung der Theorie quadratischer Formen von unendlichvielen
    Veränderlichen, 1909.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.hellinger_distance(np.array([[0.25, 0.75]]), np.array([0]))
    >>> round(float(loss), 4), g.round(4)
    (0.7071, array([[-0.3536,  0.3536]]))
    """
    name = "hellinger_distance"
    return mean_of_rows(
        name, hellinger_distances, probabilities, targets, weights, epsilon, per_example
    )


def softmax_cross_entropy(
    logits: Array,
    targets: Any,
    weights: Any = None,
    *,
    label_smoothing: float = 0.0,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = log Σⱼ exp(zⱼ) - z_t``: the cross-entropy of ``softmax(z)``.

    Parameters
    ----------
    logits : array of floats (batch, ..., classes)
        The `z`, any real numbers; -inf excludes a class.
    targets : array of ints (batch, ...), or of numbers (batch, ..., classes)
        The class ids, from 0; or a probability for each class, such as one-hot rows. The loss for
        probabilities is ``l = Σⱼ tⱼ (log Σₖ exp(zₖ) - zⱼ)``, also if a row does not sum to one.
    weights : array (batch,) or further leading axes of logits, optional
        Finite and not negative, for the mean ``Σ wᵢ lᵢ / Σ wᵢ``. Zeros exclude padded steps,
        including NaN. The class axis has no weights.
    label_smoothing : float
        The share `a` of each target, in [0, 1), to spread evenly over all classes:
        ``(1 - a) t + a / classes``.
    per_example : bool
        Whether to return the loss of each example instead of their mean.

    Returns
    -------
    loss : NumPy scalar, or array (batch,) with `per_example`
        The mean over all leading axes.
    g : array
        Its gradient in `logits`, which is ``g = (softmax(z) - t) / n`` for n rows without weights.

    Raises
    ------
    ValueError
        If the shapes do not match; if a label is not one of the classes; if a probability is
        outside [0, 1]; if the batch is empty; if a weight is negative, NaN or inf.
    TypeError
        If the logits are not an array of float32 or float64, or labels not ints; if an array is
        float16, a masked array or a matrix.

    References
    ----------
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture for computer
    vision, 2016, section 7 (label smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.softmax_cross_entropy(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([0, 0]))
    >>> round(float(loss), 4), g
    (0.3466, array([[-0.25,  0.25], [ 0.  ,  0.  ]]))
    """
    name = "softmax_cross_entropy"
    smoothing = label_smoothing
    if type(smoothing) is not float or smoothing:
        smoothing = check_number(smoothing, f"{name}(z, t, label_smoothing=0.1)", "in [0, 1)")
    logits, t, each = class_items(name, logits, targets, weights)
    x = logits if logits.ndim == 2 else as_rows(logits)
    scale = scale_of_rows(name, logits, each, per_example)
    batch = len(logits) if per_example else None
    values, g = cross_entropies_in_blocks(x, t, scale, smoothing)
    return total(values, scale, batch), g if x is logits else g.reshape(logits.shape)
