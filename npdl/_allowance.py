"""How many numbers new parameters may have, while a model is made of a file.

The sizes of a model's layers come from its configuration, and a few bytes can ask for any memory.
So all numbers are counted before their arrays are made, in the context of :func:`at_most`;
elsewhere nothing is counted.
"""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["at_most", "claim"]

_left: ContextVar[list[float] | None] = ContextVar("left", default=None)


@contextlib.contextmanager
def at_most(numbers: float) -> Iterator[None]:
    """Let the parameters that are made in the context have so many numbers in all."""
    token = _left.set([numbers])
    try:
        yield
    finally:
        _left.reset(token)


def claim(shape: tuple[int, ...]) -> None:
    """Count an array of parameters before it is made.

    Raises
    ------
    ValueError
        If there are more numbers than the context allows.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= math.prod(shape)
    if left[0] < 0:
        raise ValueError(
            f"the configuration asks for parameters of the shape {tuple(shape)}, which are more "
            f"numbers than the file has"
        )
