"""A limit for the number of parameters when a model is built from a file.

The configuration in a file has the sizes of the layers, so a few bytes can request any amount of
memory. Inside the context of :func:`at_most`, parameters are counted before their arrays are
allocated. Elsewhere nothing is counted.
"""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["at_most", "claim"]

_left: ContextVar[list[float] | None] = ContextVar("left", default=None)


@contextlib.contextmanager
def at_most(numbers: float) -> Iterator[None]:
    """Limit the total size of the parameters that are initialized in the context."""
    token = _left.set([numbers])
    try:
        yield
    finally:
        _left.reset(token)


def claim(shape: tuple[int, ...]) -> None:
    """Count an array of parameters before it is allocated.

    Raises
    ------
    ValueError
        If the total exceeds the limit of the context.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= math.prod(shape)
    if left[0] < 0:
        raise ValueError(
            f"the configuration requests parameters of the shape {tuple(shape)}, but the file has "
            f"fewer numbers"
        )
