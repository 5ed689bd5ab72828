"""Layers applied in order that all read the same further inputs, such as a mask."""

from npdl.functional._layer import Layer, layer
from npdl.functional.combinators._children import chain, check_layers, connected
from npdl.functional.combinators._declared import declared

__all__ = ["stack"]


@layer
def stack(*layers: Layer) -> Layer:
    """Apply layers one after another, with further inputs for each: ``y = … f₂(f₁(x, m), m)``.

    The input is ``(x, m, …)`` or `x` alone. Each layer replaces only `x`; with `x` alone, this is
    :func:`serial`. For example, all blocks of a transformer, or all recurrent layers that return
    sequences, read one mask. The gradient of a further input is the sum over the layers.

    Parameters
    ----------
    *layers : Layer
        Layers with these inputs and one output; without layers, the output is `x`.

    Returns
    -------
    Layer
        Its output is the last layer's. Its parameters are the tuple of the layers' parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.stack(F.lstm(8, return_sequence=True), F.lstm(4, return_sequence=True))
    >>> params = model.init(0, ((5, 3), (5,)))
    >>> x, mask = np.zeros((2, 5, 3), np.float32), np.ones((2, 5), bool)
    >>> model(params, (x, mask)).shape
    (2, 5, 4)
    """
    check_layers("stack", layers)
    nodes, last = chain(layers, "*more")
    return connected(declared("stack", ("input", "*more"), nodes, last), single=True)
