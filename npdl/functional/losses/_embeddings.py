"""Losses of vectors, such as embeddings: their angles and distances. Features are last."""

from typing import Any

import numpy as np

from npdl.functional._arrays import describe
from npdl.functional._checks import check_number
from npdl.functional._kernels.vector_terms import (
    cosine_distances,
    normalized_gradient,
    triplet_errors,
    unit_vectors,
)
from npdl.functional._targets import several_items, value_items
from npdl.functional.losses._means import (
    cross_entropies_in_blocks,
    mean_of_items,
    scale_of_rows,
    total,
)
from npdl.tree import Array

__all__ = ["cosine_distance", "info_nce", "triplet_loss"]


def cosine_distance(
    outputs: Array, targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = 1 - p·t / (‖p‖ ‖t‖)``, from 0 for equal directions to 2 for opposite ones.

    Parameters
    ----------
    outputs : array of floats (batch, ..., features)
        The vectors `p`. A vector of zeros has the loss 1 and the gradient 0.
    targets : array of numbers (batch, ..., features)
        The vectors `t`.
    weights : array (batch,) or further leading axes of outputs, optional
        One for each example or vector, as in :func:`softmax_cross_entropy`.
    per_example : bool
        Whether to return the loss of each example instead of their mean.

    Returns
    -------
    loss, g
        The mean over all leading axes and its gradient in `outputs`.

    Raises
    ------
    ValueError
        As in :func:`mean_squared_error`, and if the outputs have no axis of features.

    References
    ----------
    Salton, Wong, Yang: A vector space model for automatic indexing, 1975.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.cosine_distance(np.array([[2.0, 0.0]]), np.array([[0.0, 5.0]]))
    >>> float(loss), g
    (1.0, array([[-0. , -0.5]]))
    """
    name = "cosine_distance"
    p, t, each = value_items(name, outputs, targets, weights, 1)
    if p.ndim < 2:
        raise ValueError(
            f"{name}: expected outputs (batch, ..., features), got {describe(outputs)}"
        )
    values, g = cosine_distances(p, t.astype(p.dtype, copy=False).real)
    loss, (g,) = mean_of_items(name, values, (g,), each, per_example)
    return loss, g


def triplet_loss(
    outputs: tuple[Array, Array, Array],
    weights: Any = None,
    *,
    margin: float = 1.0,
    per_example: bool = False,
) -> tuple[Any, tuple[Array, ...]]:
    """Mean of ``l = max(‖a - p‖ - ‖a - n‖ + δ, 0)``: closer to `p` than to `n`, by a margin δ.

    Parameters
    ----------
    outputs : tuple of three arrays (batch, ..., features)
        The anchors `a`, the positives `p` of the same class, and the negatives `n` of another one.
    weights : array (batch,) or further leading axes of outputs, optional
        One for each example or triplet, as in :func:`softmax_cross_entropy`.
    margin : float
        The δ, the distance of the negative beyond the positive, above 0.
    per_example : bool
        Whether to return the loss of each example instead of their mean.

    Returns
    -------
    loss : NumPy scalar, or array (batch,) with `per_example`
        The mean over all leading axes. There are no targets.
    g : tuple of three arrays
        Its gradients in the outputs. The derivative of the distance 0 is defined as 0.

    Raises
    ------
    ValueError
        If the shapes differ or have no axis of features; otherwise as in
        :func:`mean_squared_error`.
    TypeError
        If the outputs are not a tuple of three arrays of float32 or float64.

    References
    ----------
    Balntas, Riba, Ponsa, Mikolajczyk: Learning local feature descriptors with triplets and shallow
    convolutional neural networks, 2016, equation 2, with its margin ranking loss.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> a, p, n = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[0.0, 5.0]])
    >>> loss, (g_a, g_p, g_n) = F.triplet_loss((a, p, n))
    >>> float(loss), g_p, g_n
    (1.0, array([[0.6, 0.8]]), array([[ 0., -1.]]))
    """
    name = "triplet_loss"
    margin = check_number(margin, "triplet_loss((a, p, n), margin=1.0)", "above 0")
    roles = "anchors", "positives", "negatives"
    (a, p, n), each = several_items(name, roles, outputs, weights, 1)
    values, gradients = triplet_errors(a, p, n, margin)
    return mean_of_items(name, values, gradients, each, per_example)


def info_nce(
    outputs: tuple[Array, Array],
    weights: Any = None,
    *,
    temperature: float = 0.1,
    per_example: bool = False,
) -> tuple[Any, tuple[Array, Array]]:
    """Mean of ``lᵢ = log Σⱼ exp(sᵢⱼ) - sᵢᵢ``, with the scores ``sᵢⱼ = cos(qᵢ, kⱼ) / temperature``.

    Each query has to find its own key among the keys of the batch. The symmetric loss is the mean
    of the losses of ``(q, k)`` and ``(k, q)``.

    Parameters
    ----------
    outputs : tuple of two arrays (batch, features)
        The queries `q` and the keys `k`; equal rows belong together. A vector of zeros has the
        cosine 0 and the gradient 0.
    weights : array (batch,), optional
        The weights of the examples, as in :func:`mean_squared_error`. Zeros exclude queries, and
        their keys for all queries, including NaN.
    temperature : float
        The divisor of the cosines, above 0.
    per_example : bool
        Whether to return the loss of each query, with the gradients of the sum of these losses. An
        example is not alone here: its loss depends on all keys.

    Returns
    -------
    loss : NumPy scalar, or array (batch,) with `per_example`
        The mean over the queries. There are no targets.
    g : tuple of two arrays
        Its gradients in the queries and in the keys.

    Raises
    ------
    ValueError
        If the shapes differ or are not (batch, features); otherwise as in
        :func:`mean_squared_error`.
    TypeError
        If the outputs are not a tuple of two arrays of float32 or float64.

    References
    ----------
    Van den Oord, Li, Vinyals: Representation learning with contrastive predictive coding, 2018,
    equation 4. Chen, Kornblith, Norouzi, Hinton: A simple framework for contrastive learning of
    visual representations, 2020, equation 1, for the scores.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, _ = F.info_nce((np.eye(3), 2 * np.eye(3)), temperature=0.5)
    >>> round(float(loss), 4)
    0.2395
    """
    name = "info_nce"
    temperature = check_number(temperature, "info_nce((q, k), temperature=0.1)", "above 0")
    (q, k), each = several_items(name, ("queries", "keys"), outputs, weights, 1)
    if q.ndim != 2:
        raise ValueError(f"{name}: expected queries and keys (batch, features), got {describe(q)}")
    scale = scale_of_rows(name, q, each, per_example)
    (u, query_norm), (v, key_norm) = unit_vectors(q), unit_vectors(k)
    scores = u @ v.T
    scores /= temperature
    if each is not None:
        excluded = np.flatnonzero(each == 0)
        scores[:, excluded] = -np.inf
        scores[excluded, excluded] = 0  # finite losses, which the weight 0 excludes
    values, g = cross_entropies_in_blocks(scores, np.arange(len(q)), scale)
    g = g / temperature
    gradients = (
        normalized_gradient(g @ v, u, query_norm),
        normalized_gradient(g.T @ u, v, key_norm),
    )
    return total(values, scale, len(q) if per_example else None), gradients
