"""Losses of policies: distributions of actions, weighted by signed advantages."""

from typing import Any

from npdl.functional._arrays import describe
from npdl.functional._targets import class_items, item_values
from npdl.functional.losses._means import (
    as_rows,
    cross_entropies_in_blocks,
    scale_of_rows,
    total,
)
from npdl.tree import Array

__all__ = ["policy_gradient_loss"]


def policy_gradient_loss(
    logits: Array,
    actions: Any,
    advantages: Any,
    weights: Any = None,
    *,
    per_example: bool = False,
) -> tuple[Any, Array]:
    """Mean of ``l = -A log softmax(z)_a``, whose negative gradient is the policy gradient.

    A positive advantage `A` makes the action `a` more probable, a negative one less probable.

    Parameters
    ----------
    logits : array of floats (batch, ..., actions)
        The `z`, any real numbers; -inf excludes an action.
    actions : array of ints (batch, ...)
        The actions `a`, from 0.
    advantages : array of numbers (batch, ...)
        The `A`, of either sign, such as the return minus a baseline.
    weights : array (batch,) or further leading axes of logits, optional
        As in :func:`softmax_cross_entropy`; a mask excludes the padded steps of episodes.
    per_example : bool
        Whether to return the loss of each example instead of their mean.

    Returns
    -------
    loss : NumPy scalar, or array (batch,) with `per_example`
        The mean over all leading axes. Only its gradient has a meaning.
    g : array
        Its gradient in `logits`, ``g = A (softmax(z) - onehot(a)) / n`` for n rows without weights.

    Raises
    ------
    ValueError
        As in :func:`softmax_cross_entropy`, and if the shapes of actions and advantages differ.
    TypeError
        As in :func:`softmax_cross_entropy`, and if actions are not ints.

    References
    ----------
    Williams: Simple statistical gradient-following algorithms for connectionist reinforcement
    learning, 1992, equation 11.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.policy_gradient_loss(np.zeros((2, 2)), np.array([0, 0]), np.array([1.0, -2.0]))
    >>> round(float(loss), 4), g
    (-0.3466, array([[-0.25,  0.25], [ 0.5 , -0.5 ]]))
    """
    name = "policy_gradient_loss"
    z, ids, each = class_items(name, logits, actions, weights)
    if ids.ndim != 1:
        raise TypeError(
            f"{name}: actions are ints (batch, ...), one axis less than logits {describe(z)}, got "
            f"an array of the same shape"
        )
    advantage = item_values(name, "advantages", advantages, z, each)
    x = as_rows(z)
    scale = scale_of_rows(name, z, each, per_example)
    signed = advantage * scale
    values, g = cross_entropies_in_blocks(x, ids, signed)
    return total(values, signed, len(z) if per_example else None), g.reshape(z.shape)
