"""Losses for rare classes: few positive examples, or small regions of images."""

from typing import Any

from npdl.functional._checks import check_number
from npdl.functional._kernels.likelihood_terms import dice_distances, focal_errors
from npdl.functional._targets import check_probabilities, value_items
from npdl.functional.losses._means import mean_of_elements, mean_of_items
from npdl.functional.losses._regression import check_binary
from npdl.tree import Array

__all__ = ["dice_loss", "focal_loss"]


def focal_loss(
    logits: Array,
    targets: Any,
    weights: Any = None,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = -a (1 - p_t)^γ log p_t``, which is small for examples that are right.

    With ``p = sigmoid(z)``: ``p_t = p`` and ``a = alpha`` for the target 1, ``p_t = 1 - p`` and
    ``a = 1 - alpha`` for the target 0. Targets between 0 and 1 interpolate ``log p_t``, ``p_t`` and
    `a`. With ``gamma=0`` and ``alpha=0.5``, this is half of :func:`sigmoid_cross_entropy`.

    Parameters
    ----------
    logits, targets, weights, per_example
        As in :func:`sigmoid_cross_entropy`.
    gamma : float
        The exponent γ, at least 0.
    alpha : float
        The weight of the target 1, in [0, 1].

    Returns
    -------
    loss, g
        The mean over all elements and its gradient in `logits`.

    Raises
    ------
    ValueError
        As in :func:`sigmoid_cross_entropy`, and for `gamma` or `alpha` outside their ranges.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár: Focal loss for dense object detection, 2017, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.focal_loss(np.array([0.0, -9.0]), np.array([1, 0]))
    >>> round(float(loss), 4), g.round(4)
    (0.0217, array([-0.0373,  0.    ]))
    """
    gamma = check_number(gamma, "focal_loss(z, t, gamma=2.0)", "of at least 0")
    alpha = check_number(alpha, "focal_loss(z, t, alpha=0.25)", "in [0, 1]")
    given = logits, targets, weights, per_example
    return mean_of_elements("focal_loss", focal_errors, *given, gamma, alpha, check=check_binary)


def dice_loss(
    probabilities: Array,
    targets: Any,
    weights: Any = None,
    *,
    smooth: float = 1.0,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = 1 - (2 Σ p t + s) / (Σ p + Σ t + s)``, the overlap of regions.

    The sums are over all axes of an example. For a mean over classes, merge their axis with the
    batch: ``p.reshape(-1, height, width)``.

    Parameters
    ----------
    probabilities : array of floats (batch, ...)
        The `p`, in [0, 1], such as the outputs of a sigmoid.
    targets : array of numbers or booleans (batch, ...)
        The `t`, in [0, 1].
    weights : array (batch,), optional
        Finite and not negative, one for each example; 0 excludes an example, including NaN.
    smooth : float
        The `s`, positive. Two empty regions have the loss 0.
    per_example : bool
        Whether to return the loss of each example instead of their mean.

    Returns
    -------
    loss, g
        The mean over the batch and its gradient in `probabilities`.

    Raises
    ------
    ValueError
        As in :func:`binary_cross_entropy`, and if `smooth` is not positive.

    References
    ----------
    Dice: Measures of the amount of ecologic association between species, 1945. Drozdzal, Vorontsov,
    Chartrand, Kadoury, Pal: The importance of skip connections in biomedical image segmentation,
    2016, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.dice_loss(np.array([[1.0, 0.5, 0.0]]), np.array([[1, 1, 0]]))
    >>> round(float(loss), 4), g.round(4)
    (0.1111, array([[-0.2469, -0.2469,  0.1975]]))
    """
    name = "dice_loss"
    smooth = check_number(smooth, "dice_loss(p, t, smooth=1.0)", "above 0")
    axes = max(0, getattr(probabilities, "ndim", 1) - 1)
    p, t, each = value_items(name, probabilities, targets, weights, axes)
    check_probabilities(name, "outputs", p, "F.sigmoid() returns probabilities")
    check_binary(name, p, t)
    rows = t.astype(p.dtype, copy=False).reshape(len(p), -1)
    values, g = dice_distances(p.reshape(len(p), -1), rows, smooth)
    each = None if each is None else each.reshape(-1)
    loss, (g,) = mean_of_items(name, values, (g,), each, per_example)
    return loss, g.reshape(p.shape)
