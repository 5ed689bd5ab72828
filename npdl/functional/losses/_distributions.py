"""Losses of outputs that are the parameters of a distribution, or one of its quantiles."""

from typing import Any

import numpy as np

from npdl.functional._checks import check_number
from npdl.functional._kernels.likelihood_terms import (
    gaussian_errors,
    poisson_errors,
    quantile_errors,
)
from npdl.functional._targets import class_items, several_items
from npdl.functional.losses._classification import softmax_cross_entropy
from npdl.functional.losses._means import mean_of_elements, mean_of_items, scale_of_rows, total
from npdl.tree import Array

__all__ = ["gaussian_nll", "kl_divergence", "poisson_nll", "quantile_loss"]


def gaussian_nll(
    outputs: tuple[Array, Array], targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, tuple[Array, Array]]:
    """Mean of ``l = ½ (s + (t - m)² exp(-s))``: a normal distribution with the log-variance s.

    This is the negative log-likelihood without its constant ``½ log 2π``.

    Parameters
    ----------
    outputs : tuple of two arrays (batch, ...)
        The means `m` and the log-variances `s`, any real numbers. In the exponential, `s` has the
        lower bound -80.
    targets, weights, per_example
        As in :func:`mean_squared_error`.

    Returns
    -------
    loss : NumPy scalar, or array (batch,) with `per_example`
        The mean over all elements.
    g : tuple of two arrays
        Its gradients in `m` and in `s`.

    Raises
    ------
    ValueError
        As in :func:`mean_squared_error`, and if the shapes of the outputs differ.
    TypeError
        As in :func:`mean_squared_error`, and if the outputs are not a tuple of two arrays.

    References
    ----------
    Nix, Weigend: Estimating the mean and variance of the target probability distribution, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, (g_mean, g_log_variance) = F.gaussian_nll((np.ones(2), np.zeros(2)), np.full(2, 3))
    >>> float(loss), g_mean, g_log_variance
    (2.0, array([-1., -1.]), array([-0.75, -0.75]))
    """
    name = "gaussian_nll"
    roles = "means", "log_variances"
    (m, s, t), each = several_items(name, roles, outputs, weights, 0, targets)
    values, g_mean, g_log_variance = gaussian_errors(m, s, t)
    loss, (g_mean, g_log_variance) = mean_of_items(
        name, values, (g_mean, g_log_variance), each, per_example
    )
    return loss, (g_mean, g_log_variance)


def poisson_nll(
    log_rates: Array, targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = exp(z) - t z``: a Poisson distribution of counts with the rate ``exp(z)``.

    This is the negative log-likelihood without its constant ``log t!``.

    Parameters
    ----------
    log_rates : array of floats (batch, ...)
        The `z`, any real numbers; -inf is the rate 0.
    targets : array of numbers (batch, ...)
        The counts `t`, not negative.
    weights, per_example
        As in :func:`mean_squared_error`.

    Returns
    -------
    loss, g
        The mean over all n elements and its gradient in `log_rates`, ``g = (exp(z) - t) / n``.

    Raises
    ------
    ValueError
        As in :func:`mean_squared_error`, and if a target is negative.

    References
    ----------
    Nelder, Wedderburn: Generalized linear models, 1972.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.poisson_nll(np.zeros(2), np.array([0, 3]))
    >>> float(loss), g
    (1.0, array([ 0.5, -1. ]))
    """
    return mean_of_elements(
        "poisson_nll", poisson_errors, log_rates, targets, weights, per_example, check=_check_counts
    )


def _check_counts(name: str, z: Array, t: Array) -> None:
    if t.size and t.min() < 0:
        raise ValueError(
            f"{name}: targets are counts of at least 0, got {t.min()}; the outputs are log-rates"
        )


def quantile_loss(
    outputs: Array, targets: Any, weights: Any = None, *, level: float, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = max(q (t - p), (q - 1) (t - p))``, which is least at the quantile q.

    For several quantiles, :func:`weighted_losses` takes one output for each.

    Parameters
    ----------
    outputs, targets, weights, per_example
        As in :func:`mean_squared_error`.
    level : float
        The level `q` of the quantile, in (0, 1); 0.5 is the median.

    Returns
    -------
    loss, g
        The mean over all n elements and its gradient in `outputs`: ``(1 - q) / n`` above the
        target, ``-q / n`` below it, and 0 at it.

    Raises
    ------
    ValueError
        As in :func:`mean_squared_error`, and if the level is not in (0, 1).

    References
    ----------
    Koenker, Bassett: Regression quantiles, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.quantile_loss(np.array([1.0, 1.0]), np.array([0.0, 3.0]), level=0.75)
    >>> float(loss), g
    (0.875, array([ 0.125, -0.375]))
    """
    level = check_number(level, "quantile_loss(p, t, level=0.9)", "in (0, 1)")
    return mean_of_elements(
        "quantile_loss", quantile_errors, outputs, targets, weights, per_example, level
    )


def kl_divergence(
    logits: Array, targets: Any, weights: Any = None, *, per_example: bool = False
) -> tuple[Any, Array]:
    """Mean of ``l = Σⱼ tⱼ (log tⱼ - log softmax(z)ⱼ)``, the Kullback-Leibler divergence.

    This is :func:`softmax_cross_entropy` minus the entropy of the targets, as in distillation. So
    it is 0 where ``softmax(z) = t``, and has the same gradient.

    Parameters
    ----------
    logits : array of floats (batch, ..., classes)
        The `z`, any real numbers; -inf excludes a class.
    targets, weights, per_example
        As in :func:`softmax_cross_entropy`.

    Returns
    -------
    loss, g
        The mean over all leading axes and its gradient in `logits`.

    Raises
    ------
    ValueError, TypeError
        As in :func:`softmax_cross_entropy`.

    References
    ----------
    Kullback, Leibler: On information and sufficiency, 1951, equation 2.4. Hinton, Vinyals, Dean:
    Distilling the knowledge in a neural network, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss, g = F.kl_divergence(np.array([[0.0, 0.0]]), np.array([[0.25, 0.75]]))
    >>> round(float(loss), 4), g
    (0.1308, array([[ 0.25, -0.25]]))
    """
    name = "kl_divergence"
    z, t, each = class_items(name, logits, targets, weights)
    items = z.shape[:-1]
    t = t.real  # the targets are constants, also for dual numbers
    shaped = t.reshape(items if t.ndim == 1 else z.shape)
    by_item = None if each is None else each.reshape(items)
    loss, g = softmax_cross_entropy(z, shaped, by_item, per_example=per_example)
    if t.ndim == 1:
        return loss, g
    scale = scale_of_rows(name, z, each, per_example)
    logs = np.log(t, out=np.zeros_like(t), where=t != 0)
    negative_entropies = np.add.reduce(t * logs, axis=1)
    return loss + total(negative_entropies, scale, len(z) if per_example else None), g
