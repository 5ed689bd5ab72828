"""Pooling layers, which reduce each block of an image to one number."""

from typing import Any

import npdl.functional as F
from npdl.compat.layers._sizes import positive_int
from npdl.compat.layers.base import Stateful
from npdl.functional._layer import Shape

__all__ = ["MaxPooling", "MeanPooling"]


class _Pooling(Stateful):
    """Divide the last two axes into adjacent blocks."""

    known_axes = 2

    def __init__(self, pool_size: tuple[int, int]) -> None:
        sizes = _pair(pool_size)
        if len(sizes) != 2:
            raise ValueError(
                f"{self}: pool_size must be a pair of ints, as in {self}((2, 2)), got {pool_size!r}"
            )
        rows, columns = (positive_int(self, "pool_size", size, 2) for size in sizes)
        self.pool_size = (rows, columns)

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # Blocks are adjacent: strides of another size are refused as an unknown argument.
        size = args[0] if args else keywords.get("pool_size")
        strides = keywords.get("strides")
        if strides is not None and _pair(strides) == _pair(size):
            keywords = {name: value for name, value in keywords.items() if name != "strides"}
        return args, keywords

    def _pool(self) -> F.Layer:
        """Return the functional layer for images."""
        raise NotImplementedError(f"{self}._pool")

    def _build(self, shape: Shape) -> F.Layer:
        self._check(shape)
        if len(shape) == 3:
            return self._pool()
        (rows, columns), (down, across) = shape, self.pool_size
        return F.serial(
            F.expand_dims(axis=1), self._pool(), F.reshape((rows // down, columns // across))
        )

    def forward(self, input: Any, *args: Any, train: bool = True, **kwargs: Any) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            (batch, channels, rows, columns) or (batch, rows, columns).
        train : bool
            Ignored by this layer.
        """
        x = self._as_input(input)
        if self.functional is not None and x.shape[1:] != self.shape:
            self._initialize(x.shape[1:])  # images of another size
        return self._apply(x, train)

    def _check(self, shape: Shape) -> None:
        """Raise unless the blocks fill the last two axes of an example."""
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{self}: expected inputs with 3 or 4 axes, including the batch, got examples of "
                f"the shape {tuple(shape)}"
            )
        (rows, columns), (down, across) = shape[-2:], self.pool_size
        if rows % down or columns % across:
            raise ValueError(
                f"{self}: blocks of {down}×{across} do not fill {rows}×{columns} (the last two "
                f"axes of the input); each block size must divide the input size"
            )


def _pair(size: Any) -> Any:
    return tuple(size) if isinstance(size, tuple | list) else (size, size)


class MeanPooling(_Pooling):
    """Mean of each block of an image: ``y[c, p] = 1/n · Σ_k x[c, s·p + k]``.

    The index p is a block, k one of its n pixels, and s its size.

    From (batch, channels, rows, columns) or (batch, rows, columns) to the same axes with fewer rows
    and columns. ``MeanPooling((time, 1))`` computes the mean over time of (batch, time, features).

    Parameters
    ----------
    pool_size : pair of ints
        Rows and columns of a block; they must divide the image. An int sets both.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> before = npdl.layers.Convolution(1, (1, 1), input_shape=(1, 2, 4))
    >>> before.connect_to()
    >>> layer = npdl.layers.MeanPooling((2, 2))
    >>> layer.connect_to(before)
    >>> layer.forward(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[2.5, 4.5]]]])
    """

    def _pool(self) -> F.Layer:
        return F.avg_pool2d(self.pool_size)


class MaxPooling(_Pooling):
    """Maximum of each block of an image: ``y[c, p] = max_k x[c, s·p + k]``.

    The index p is a block, k one of its pixels, and s its size.

    From (batch, channels, rows, columns) or (batch, rows, columns) to the same axes with fewer rows
    and columns. The gradient goes to the first maximum in row-major order.

    Parameters
    ----------
    pool_size : pair of ints
        Rows and columns of a block; they must divide the image. An int sets both.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> before = npdl.layers.Convolution(1, (1, 1), input_shape=(1, 2, 4))
    >>> before.connect_to()
    >>> layer = npdl.layers.MaxPooling((2, 2))
    >>> layer.connect_to(before)
    >>> layer.forward(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[5., 7.]]]])
    """

    def _pool(self) -> F.Layer:
        return F.max_pool2d(self.pool_size)
