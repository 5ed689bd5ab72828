"""Layers that put the elements into another shape."""

import npdl.functional as F
from npdl.compat.layers._sizes import Shape, positive_int
from npdl.compat.layers.base import Stateful

__all__ = ["DimShuffle", "Flatten"]


class Flatten(Stateful):
    """Join the last axes into one: (batch, channels, rows, columns) becomes (batch, features).

    Parameters
    ----------
    outdim : int
        Number of axes of the output: the first ``outdim - 1`` axes stay, the batch among them.

    Examples
    --------
    >>> import npdl
    >>> before = npdl.layers.Convolution(4, (3, 3), input_shape=(1, 8, 8))
    >>> before.connect_to()
    >>> layer = npdl.layers.Flatten()
    >>> layer.connect_to(before)
    >>> layer.out_shape
    (None, 144)
    """

    def __init__(self, outdim: int = 2) -> None:
        self.outdim = positive_int(self, "outdim", outdim)
        if outdim == 1:
            raise ValueError(
                "Flatten: outdim counts the axis of the batch, which stays, so that it is 2 or "
                "more, as in Flatten(outdim=2); got 1"
            )

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return F.flatten(self.outdim - 1)


class DimShuffle(Stateful):
    """Insert an axis of length one.

    Parameters
    ----------
    axis : int
        Where it is in the output, the batch being axis 0.

    Examples
    --------
    >>> import npdl
    >>> words = npdl.layers.Embedding(input_size=100, n_out=8, nb_seq=20)
    >>> words.connect_to()
    >>> layer = npdl.layers.DimShuffle(axis=1)
    >>> layer.connect_to(words)
    >>> layer.out_shape
    (None, 1, 20, 8)
    """

    def __init__(self, axis: int = 1) -> None:
        self.axis = positive_int(self, "axis", axis)

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        return F.expand_dims(self.axis)
