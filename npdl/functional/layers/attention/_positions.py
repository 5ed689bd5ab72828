"""Position encodings for layers that ignore the order of the steps, such as attention.

Both layers map (batch, time, features) to the same shape, and keep the type of floats.
"""

import functools
from typing import Any

import numpy as np

from npdl.functional._arrays import check_example, check_float, check_names, check_types, describe
from npdl.functional._checks import check_function, check_int
from npdl.functional._initializers import Initializer, normal
from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._layer import Layer, Params, Shape, layer, no_params
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["learned_positions", "sinusoidal_positions"]


@layer
def sinusoidal_positions() -> Layer:
    """Add to step t sines and cosines of t: ``y = x + p``.

    ``p[t, 2i] = sin(t / 10000^(2i / features))``, and ``p[t, 2i + 1]`` is the cosine of the same
    angle. With an odd number of features the last one is a sine.

    Returns
    -------
    Layer
        It has no parameters, and accepts sequences of any length.

    References
    ----------
    Vaswani et al.: Attention is all you need, 2017, section 3.5.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.sinusoidal_positions()((), np.zeros((1, 3, 4), np.float32)).round(2)
    array([[[ 0.  ,  1.  ,  0.  ,  1.  ],
            [ 0.84,  0.54,  0.01,  1.  ],
            [ 0.91, -0.42,  0.02,  1.  ]]], dtype=float32)
    """

    def check(x: Array) -> None:
        check_float(x, "sinusoidal_positions")
        if x.ndim != 3:
            raise ValueError(
                f"sinusoidal_positions: expected (batch, time, features), got {describe(x)}"
            )

    def apply(params: Params, x: Array) -> tuple[Array, None]:
        check(x)
        return x + _sinusoids(x.shape[1], x.shape[2], x.dtype), None

    def backward(params: Params, cache: None, g: Array) -> tuple[None, Array]:
        return None, g

    def out_shape(shape: Shape) -> Shape:
        _sizes("sinusoidal_positions", shape)
        return shape

    def step(params: Params, x: Array, state: Array | None) -> tuple[Array, Array]:
        check(x)
        positions, state = _next_positions(x, state)
        # The tables of powers of two are few, and stay cached.
        length = 1 << int(state.max(initial=1) - 1).bit_length()
        return x + _sinusoids(length, x.shape[2], x.dtype)[positions], state

    return Layer(no_params, apply, backward, out_shape, step=step)


@functools.lru_cache(maxsize=16)
def _sinusoids(time: int, features: int, dtype: np.dtype[Any]) -> Array:
    """Return the array p; it is cached for later batches."""
    pairs = np.arange(0, features, 2)
    angles = np.arange(time)[:, None] * 10000.0 ** (-pairs / features)
    table = np.empty((time, features), dtype)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : features // 2])
    table.flags.writeable = False
    return table


@layer
def learned_positions(
    length: int,
    *,
    table_init: Initializer = normal(0.02),  # noqa: B008 - an immutable value
) -> Layer:
    """Add to step t the trained row t of a table: ``y = x + table[:time]``.

    Parameters
    ----------
    length : int
        The number of rows: no sequence may be longer.
    table_init : Initializer
        Initial rows; from N(0, 0.02²) by default, as in BERT.

    Returns
    -------
    Layer
        Parameters: ``table`` (length, features).

    Raises
    ------
    ValueError
        If a sequence is longer than the table.

    References
    ----------
    Gehring, Auli, Grangier, Yarats, Dauphin: Convolutional sequence to sequence learning, 2017,
    section 3.1; Devlin, Chang, Lee, Toutanova: BERT, 2018, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.embedding(100, 8), F.learned_positions(16))
    >>> params = model.init(0, (5,))
    >>> model(params, np.zeros((2, 5), int)).shape
    (2, 5, 8)
    """
    length = check_int(length, "learned_positions(length=512)")
    check_function(table_init, "learned_positions(512, table_init=normal(0.02))")

    def init(rng: KeyLike, shape: Shape) -> Params:
        features = out_shape(shape)[-1]
        return {"table": table_init(fold(rng, "table"), (length, features))}

    def checked_table(params: Params, x: Array) -> Array:
        check_names("learned_positions", params, {"table"})
        table = params["table"]
        check_float(x, "learned_positions", check_types("learned_positions", params))
        if x.ndim != 3 or x.shape[2] != table.shape[1]:
            raise ValueError(
                f"learned_positions: these params take (batch, time, {table.shape[1]}), got "
                f"{describe(x)}"
            )
        _check_length(x.shape[1], len(table))
        return table  # type: ignore[no-any-return]

    def apply(params: Params, x: Array) -> tuple[Array, tuple[int, ...]]:
        table = checked_table(params, x)
        return x + table[: x.shape[1]], x.shape

    def backward(
        params: Params, shape: tuple[int, ...], g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        batch, time, features = shape
        gradient = np.zeros(params["table"].shape, g.dtype)
        gradient[:time] = sum_of_rows(g.reshape(batch, time * features)).reshape(time, features)
        return {"table": gradient}, g if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        time, _ = _sizes("learned_positions", shape)
        if time is not None:
            _check_length(time, length)
        return shape

    def step(params: Params, x: Array, state: Array | None) -> tuple[Array, Array]:
        table = checked_table(params, x)
        positions, state = _next_positions(x, state)
        _check_length(int(state.max(initial=0)), len(table))
        return x + table[positions], state

    return Layer(init, apply, backward, out_shape, step=step)


def _next_positions(x: Array, state: Array | None) -> tuple[Array, Array]:
    """Return the positions of steps, (batch, time), and the first position after them, (batch,)."""
    first = np.zeros(len(x), np.int64) if state is None else state
    return first[:, None] + np.arange(x.shape[1]), first + x.shape[1]


def _check_length(time: int, length: int) -> None:
    if time > length:
        raise ValueError(
            f"learned_positions: a sequence of {time} steps is longer than the table of {length}; "
            f"cut it, or build the model with learned_positions({time})"
        )


def _sizes(name: str, shape: Any) -> tuple[Any, int]:
    """Return the steps of an example, `None` for any number, and its features."""
    check_example(name, shape, "(time, features)", axes=2, known=1)
    return shape[0], shape[1]
