"""Branches: layers with the same input and joined outputs."""

from typing import Any

from npdl.functional._checks import check_axis, refusal
from npdl.functional._layer import Layer, layer
from npdl.functional.combinators._children import check_layers, connected
from npdl.functional.combinators._declared import declared
from npdl.functional.combinators._joins import JOINS, joined

__all__ = ["parallel"]


@layer
def parallel(*layers: Layer, join: str | None = "add", axis: int = -1) -> Layer:
    """Apply layers to the same input and join their outputs: ``y = f₁(x) + f₂(x) + …``.

    Parameters
    ----------
    *layers : Layer
        The branches, at least one.
    join : {"add", "multiply", "concatenate"} or None
        How the outputs are joined; `None` returns them as a tuple.
    axis : int
        The axis of ``"concatenate"`` in the batched arrays: 1 for the channels of images, -1 for
        features. Axis 0, the batch, is not allowed.

    Returns
    -------
    Layer
        Its parameters are the tuple of the branches' parameters.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.parallel(F.dense(3), F.dense(5), join="concatenate").out_shape((2,))
    (8,)
    """
    check_layers("parallel", layers)
    if not layers:
        raise ValueError("parallel needs at least one layer: parallel(dense(8), dense(8))")
    if not (join is None or isinstance(join, str)) or join not in (*JOINS, None):
        expected = f"one of {', '.join(map(repr, (*JOINS, None)))}"
        raise ValueError(refusal(join, 'parallel(…, join="concatenate")', expected))
    axis = check_axis(axis, 'parallel(…, axis=-1, join="concatenate")')
    outputs: Any = tuple(str(i) for i in range(len(layers)))
    nodes: dict[str, Any] = {str(i): (child, "input", (i,)) for i, child in enumerate(layers)}
    if join is not None:
        nodes["joined"] = (joined(join, axis), outputs, None)
        outputs = "joined"
    return connected(declared("parallel", "input", nodes, outputs))
