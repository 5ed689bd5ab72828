"""The magnitude of complex numbers in two halves of an axis."""

import numpy as np

from npdl.functional._arrays import DOUBLE, SINGLE, check_example, check_float, describe
from npdl.functional._checks import check_axis
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike
from npdl.tree import Array

__all__ = ["magnitude"]


@layer
def magnitude(axis: int = 1) -> Layer:
    """Return the magnitudes of complex numbers: ``y = √(a² + b²)``.

    The real parts a are the first half of the axis, and the imaginary parts b the second half, as
    in the output of a short-time Fourier transform by :func:`conv1d`. Large and small numbers
    neither overflow nor underflow. The gradient at zero is zero.

    Parameters
    ----------
    axis : int
        The axis of both halves; the batch is axis 0. Negative: counted from the end.

    Returns
    -------
    Layer
        The output has half the size along the axis. The layer has no parameters.

    Raises
    ------
    ValueError
        If the size of the axis is odd, or the input has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.array([[3.0, 5.0, 4.0, 12.0]])  # 3 + 4i and 5 + 12i
    >>> y, cache = F.magnitude().apply((), x)
    >>> y
    array([[ 5., 13.]])
    >>> F.magnitude().backward((), cache, np.array([[5.0, 0.0]]))[1]
    array([[3., 0., 4., 0.]])
    """
    axis = check_axis(axis, "magnitude(axis=1)")

    def out_shape(shape: Shape) -> Shape:
        check_example("magnitude", shape, "such as (258, 100)", known=0)
        position = axis - 1 if axis > 0 else axis + len(shape)
        size = shape[position] if 0 <= position < len(shape) else 1
        if size is not None and size % 2:
            raise ValueError(_message(shape))
        half = None if size is None else size // 2
        return (*shape[:position], half, *shape[position + 1 :])

    def init(rng: KeyLike, shape: Shape) -> Params:
        out_shape(shape)
        return ()

    def halves(x: Array) -> tuple[Array, Array]:
        first, second = np.split(x, 2, axis)
        return first, second

    def _message(given: object) -> str:
        return (
            f"magnitude: axis {axis} must exist after the batch and have an even size, for real "
            f"and imaginary parts, got {given}"
        )

    def apply(params: Params, x: Array) -> tuple[Array, tuple[Array, Array]]:
        if type(x) is not np.ndarray or (x.dtype is not SINGLE and x.dtype is not DOUBLE):
            check_float(x, "magnitude")
        position = axis if axis > 0 else axis + x.ndim
        if not 0 < position < x.ndim or x.shape[position] % 2:
            raise ValueError(_message(describe(x)))
        y = np.hypot(*halves(x))
        return y, (x, y)

    def backward(
        params: Params, cache: tuple[Array, Array], g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        x, y = cache
        # The direction x / y is at most one, also for small y; 0 / 1 at zero.
        length = y + (y == 0)
        return None, np.concatenate([part / length * g for part in halves(x)], axis)

    return Layer(init, apply, backward, out_shape)
