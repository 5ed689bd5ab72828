"""Running statistics computed again, for parameters that were not trained in this form."""

import functools
from collections.abc import Iterable
from typing import Any

from npdl import random
from npdl._calls import signature_of
from npdl.functional._layer import Layer, Params, keep_params
from npdl.functional.combinators._children import check_layers
from npdl.functional.combinators._rebuilt import first_call, rebuilt
from npdl.functional.layers import batch_norm

__all__ = ["reestimate_statistics"]


def reestimate_statistics(
    model: Layer, params: Params, batches: Iterable[Any], *, rng: random.KeyLike | None = None
) -> Params:
    """Return the parameters with new running statistics: the means over batches of inputs.

    ``mean = 1/k · Σᵢ meanᵢ`` for k batches, and the variance alike. The statistics of averaged
    weights are not the average of the statistics. So they are computed again after averaging.

    Parameters
    ----------
    model : Layer
        The model.
    params : tree
        Its parameters, such as the averages of :func:`average_params`.
    batches : iterable
        Inputs of the model, one batch each, preferably of equal sizes. They pass through the model
        in training mode.
    rng : key, optional
        The key of random layers, such as dropout.

    Returns
    -------
    tree
        The parameters. Only running statistics differ. Layers of your own update their statistics
        with each batch, as in training.

    Raises
    ------
    ValueError
        If `batches` is empty.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging weights leads to wider optima and
    better generalization, 2018, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.batch_norm()
    >>> x = np.array([[1.0], [3.0], [5.0], [9.0]], np.float32)
    >>> params = F.reestimate_statistics(model, model.init(0, (1,)), [x[:2], x[2:]])
    >>> params["mean"], params["variance"]
    (array([4.5], dtype=float32), array([5.], dtype=float32))
    """
    check_layers("reestimate_statistics", (model,))
    key = None if rng is None else random.key(rng)
    count = 0
    for x in batches:
        count += 1
        # With this momentum, the update computes the mean of all batches so far.
        averaging = _with_momentum(model, 1 / count)
        batch_key = None if key is None else random.fold(key, count)
        _, cache = averaging.apply(params, x, train=True, rng=batch_key)
        params = averaging.update_stats(params, cache)
    if not count:
        raise ValueError("reestimate_statistics: expected at least one batch of inputs, got none")
    return params


def _with_momentum(layer: Layer, momentum: float) -> Layer:
    """Return the layer with another momentum of all batch norms inside."""
    if layer.update_stats is keep_params:
        return layer
    call = first_call(layer)
    if call is not None and call.constructor is batch_norm and layer.parts is None:
        bound = signature_of(call.constructor).bind(*call.positional, **call.keywords)
        return batch_norm(**bound.arguments | {"momentum": momentum})
    if layer.parts is not None:
        return rebuilt(layer, functools.partial(_with_momentum, momentum=momentum))
    return layer
