"""Embedding of ids as vectors."""

from typing import Any

import numpy as np

import npdl.functional as F
from npdl._warn import warn
from npdl.compat import initializations
from npdl.compat.layers._sizes import optional_int, positive_int
from npdl.compat.layers.base import Parameter, Stateful
from npdl.compat.utils.random import get_dtype
from npdl.functional._arrays import describe, plain_array
from npdl.functional._checks import check_flag, is_int
from npdl.functional._layer import Shape

__all__ = ["Embedding"]


class Embedding(Stateful):
    """Look up a table row for each id, ``y = table[ids]``: (batch, time) to (batch, time, n_out).

    The constructor initializes the table, so a single layer works without :meth:`connect_to`.

    Parameters
    ----------
    embed_words : array, optional
        The table (input_size, n_out), which is copied. The configuration has only its sizes.
    static : bool, optional
        Whether the table is constant. It is trained only if this is `False`.
    input_size, n_out : int, optional
        The number of ids (0 to input_size - 1) and the length of a row; required without a table.
    nb_batch, nb_seq : int, optional
        Sizes of the batch and the time axis; used only for `out_shape`.
    init : str or Initializer
        Initial values of the table, if `embed_words` is not passed.

    Attributes
    ----------
    W : array
        The table; also under its old name ``embed_words``. It is one of the parameters only if it
        is trained.
    dW : array or None
        Its gradient, summed over the batch; also under its old name ``d_embed_words``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.Embedding(np.eye(5), nb_seq=3)
    >>> layer.connect_to()
    >>> layer.out_shape
    (None, 3, 5)
    >>> layer.forward(np.array([[4, 0, 0]]))[0, 0]
    array([0., 0., 0., 0., 1.], dtype=float32)
    """

    weight_arguments = ("embed_words",)
    W = Parameter("table")
    embed_words = Parameter("table", trained=False)
    d_embed_words = property(lambda self: self.dW)

    def __init__(
        self,
        embed_words: Any = None,
        static: bool | None = None,
        input_size: int | None = None,
        n_out: int | None = None,
        nb_batch: int | None = None,
        nb_seq: int | None = None,
        init: Any = "uniform",
    ) -> None:
        if static is not None:
            static = check_flag(static, "Embedding(input_size=5000, n_out=64, static=False)")
        self.trainable_by_default = static is False
        self.given_table = embed_words
        self.input_size, self.n_out = _sizes(embed_words, input_size, n_out)
        self.nb_batch = optional_int(self, "nb_batch", nb_batch)
        self.nb_seq = optional_int(self, "nb_seq", nb_seq)
        self.init = initializations.get(init)
        self._initialize(())
        # The sum of the initial random table: a table with another sum was set by the user.
        random = embed_words is None and static is None
        self._drawn_sum = float(np.sum(self.W)) if random else None

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # The first argument is the table; an int can only be the number of ids.
        if not args or not is_int(args[0]):
            return args, keywords
        if len(args) > 2:
            raise TypeError(
                f"Embedding: pass the arguments after the sizes by keyword, as in "
                f"Embedding({args[0]}, 8, static=False), got {args[2:]!r:.60}"
            )
        return (), dict(zip(("input_size", "n_out"), args, strict=False)) | keywords

    @property
    def static(self) -> bool:
        """Whether the table is constant: the opposite of `trainable`."""
        return not self.trainable

    @static.setter
    def static(self, value: bool) -> None:
        self.trainable = not check_flag(value, "Embedding(static=False)")

    def warn_if_random(self) -> None:
        """Warn once if the table is random and untrained, and `static` was not passed."""
        drawn, self._drawn_sum = self._drawn_sum, None
        if drawn is not None and self.static and drawn == float(np.sum(self.W)):
            warn(
                f"{self}: the table is random and not trained; Embedding(..., static=False) trains "
                f"it, and static=True keeps it without this warning"
            )

    def _build(self, shape: Shape) -> F.Layer:
        return F.embedding(self.input_size, self.n_out, table_init=self.init.pure)

    def _initial_params(self, layer: F.Layer, shape: Shape) -> Any:
        if self.given_table is None:
            return super()._initial_params(layer, shape)
        return {"table": np.asarray(self.given_table, get_dtype())}

    def _saved_arguments(self) -> dict[str, Any]:
        sizes = {"input_size": self.input_size, "n_out": self.n_out}
        return super()._saved_arguments() | (sizes if self.given_table is not None else {})

    def connect_to(self, prev_layer: Any = None) -> None:
        """Set the sizes of the batch and the time axis; the table is unchanged.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``, (batch, time).
        """
        first = (None, *(self.input_sizes or (None,)))
        before = first if prev_layer is None else prev_layer.out_shape
        if before is None or len(before) != 2:
            raise ValueError(
                f"Embedding: expected (batch, time), but {prev_layer} has the output {before}"
            )
        self.out_shape = (self.nb_batch or before[0], self.nb_seq or before[1], self.n_out)

    def _as_input(self, input: Any) -> Any:
        ids = plain_array(input, type(self).__name__)
        if ids.ndim != 2:
            raise ValueError(
                f"Embedding: expected ids (batch, time), got an array of the shape {ids.shape}"
            )
        if ids.dtype.kind != "f":
            return ids
        # Old scripts store ids in arrays of floats.
        if not (np.isfinite(ids) & (np.rint(ids) == ids)).all():
            raise ValueError("Embedding: expected ids, but the input has values that are not ints")
        return ids.astype(np.int64)

    @property
    def params(self) -> list[Any]:
        """The table if it is trained; otherwise empty."""
        return super().params if self.trainable_by_default or self.trainable else []

    @property
    def grads(self) -> list[Any]:
        """The gradient of the last :meth:`backward`; `None` before the first backward pass."""
        return super().grads if self.trainable_by_default or self.trainable else []


def _sizes(table: Any, input_size: int | None, n_out: int | None) -> tuple[int, int]:
    """Return the number of ids and the length of a row, from the table or the arguments."""
    if table is None:
        if input_size is None or n_out is None:
            raise ValueError(
                "Embedding: without a table, pass both sizes, as in Embedding(input_size=5000, "
                f"n_out=64), got input_size={input_size!r} and n_out={n_out!r}"
            )
        return (
            positive_int("Embedding", "input_size", input_size),
            positive_int("Embedding", "n_out", n_out),
        )
    shape = np.shape(table)
    if len(shape) != 2:
        raise ValueError(
            f"Embedding: embed_words must be a table (input_size, n_out), got "
            f"{describe(table)}; without a table, call Embedding(input_size=5000, n_out=64, "
            f"static=False)"
        )
    for name, size, value in zip(("input_size", "n_out"), shape, (input_size, n_out), strict=True):
        if value is not None and value != size:
            raise ValueError(f"Embedding: {name}={value}, but embed_words is {shape}")
    return shape[0], shape[1]
