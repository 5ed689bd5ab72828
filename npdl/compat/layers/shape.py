"""Layers that change the shape of their input."""

import npdl.functional as F
from npdl.compat.layers._sizes import positive_int
from npdl.compat.layers.base import Stateful
from npdl.functional._layer import Shape

__all__ = ["DimShuffle", "Flatten"]


class Flatten(Stateful):
    """Flatten the last axes: (batch, channels, rows, columns) becomes (batch, features).

    Parameters
    ----------
    outdim : int
        Number of axes of the output; the first ``outdim - 1`` axes, including the batch, are kept.

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
        self.outdim = positive_int(self, "outdim", outdim, 2)
        if outdim == 1:
            raise ValueError(
                "Flatten: outdim includes the batch axis, so it must be at least 2, as in "
                "Flatten(outdim=2); got 1"
            )

    def _build(self, shape: Shape) -> F.Layer:
        return F.flatten(self.outdim - 1)


class DimShuffle(Stateful):
    """Insert an axis of length one.

    Parameters
    ----------
    axis : int
        Index of the new axis in the output; the batch is axis 0.

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
        self.axis = positive_int(self, "axis", axis, 1)

    def _build(self, shape: Shape) -> F.Layer:
        return F.expand_dims(self.axis)
