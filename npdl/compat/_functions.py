"""The functions that a configuration of the stateful API may call."""

from collections.abc import Callable, Iterable
from typing import Any

import npdl.functional as F
from npdl._config import Functions
from npdl.functional._from_config import known_constructors
from npdl.functional._layer import Params
from npdl.tree import Array

__all__ = ["functions_with", "softmax_before_cross_entropy"]


@F.layer
def softmax_before_cross_entropy() -> F.Layer:
    """Softmax before a loss with gradient ``p - t``, which includes the derivative of the softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.activations import softmax_before_cross_entropy
    >>> layer = softmax_before_cross_entropy()
    >>> p, cache = layer.apply((), np.array([[1000.0, 1000.0]]))
    >>> layer.backward((), cache, p - np.array([[0.0, 1.0]]))[1]
    array([[ 0.5, -0.5]])
    """
    softmax = F.softmax()

    def backward(params: Params, cache: Any, g: Array) -> tuple[None, Array]:
        return None, g

    return F.Layer(softmax.init, softmax.apply, backward, softmax.out_shape, step=True)


# A pickle names the public path.
softmax_before_cross_entropy.__module__ = "npdl.compat.activations"


def functions_with(own: Iterable[Callable[..., Any]] = ()) -> Functions:
    """Return the functions by name, and the user's own ones."""
    return known_constructors((softmax_before_cross_entropy, *own))
