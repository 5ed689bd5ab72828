"""Layers connected by name: models with several inputs, outputs and branches."""

from typing import Any

from npdl.functional._layer import Layer, layer
from npdl.functional.combinators._children import connected
from npdl.functional.combinators._declared import declared

__all__ = ["graph"]


@layer
def graph(
    inputs: str | tuple[str, ...],
    nodes: dict[str | tuple[str, ...], tuple[Any, ...]],
    outputs: str | tuple[str, ...],
) -> Layer:
    """Connect layers by name, with any number of inputs and outputs.

    Parameters
    ----------
    inputs : str or tuple of str
        Names of the inputs: one name, or a tuple for a model that takes a tuple.
    nodes : dict
        ``name: (layer, source)`` or ``name: (layer, (source, source, …))``, each after the nodes
        that it reads. A source is the name of an input or of a node, or `None` for a missing
        optional input of the layer. A layer with several outputs has a tuple of names.
        ``name: (layer, source, node)`` shares the parameters of an earlier node, as in siamese
        branches, or in a tied input and output embedding (:func:`unembedding`). The gradients of
        both uses are added.
    outputs : str or tuple of str
        Names of the outputs.

    Returns
    -------
    Layer
        Its parameters are a dict by node name; a node with several names uses the first one. A
        node with shared parameters has no entry.

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.graph(
    ...     ("left", "right"),
    ...     {
    ...         "both": (F.parallel(F.dense(4), join=None), "left"),
    ...         "other": (F.dense(3), "right"),
    ...     },
    ...     ("both", "other"),
    ... )
    >>> model.out_shape(((5,), (6,)))
    (((4,),), (3,))

    The outputs of one layer for two inputs:

    >>> twins = F.graph(
    ...     ("left", "right"),
    ...     {
    ...         "a": (F.dense(4), "left"),
    ...         "b": (F.dense(4), "right", "a"),
    ...         "both": (F.concatenate(), ("a", "b")),
    ...     },
    ...     "both",
    ... )
    >>> list(twins.init(0, ((5,), (5,))))
    ['a', 'both']
    """
    return connected(declared("graph", inputs, nodes, outputs))
