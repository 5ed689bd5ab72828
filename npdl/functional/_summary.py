"""A table of a model: its layers, the shapes of their outputs, the parameters that are trained.

Nothing is asked of a layer but what the protocol says, so combinators of your own show up like
those of npdl. The model is made anew with the layers among the arguments of its constructors
watched, all the way down. When the parameters are made, a combinator tells each part the shape of
its input, and puts the part's parameters where they belong; both are written down.

Whether a parameter is trained is what `backward` says of it: `None` is not. To hear that without
computing anything, `backward` of the combinators runs over parts that give zeros of the right
shape, and a layer without parts runs by itself on a batch of no examples. Where that is an error,
as for a batch norm, which needs statistics, it runs on two examples in training mode.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional._text_table import html_table, text_table
from npdl.functional.combinators._serial import with_functions, with_parts
from npdl.random import KeyLike

__all__ = ["Row", "Summary", "summary"]


@attrs.frozen
class Row:
    """A layer in a :class:`Summary`.

    Parameters
    ----------
    depth : int
        How many layers it stands in.
    name : str
        The key or the path of its parameters in those of the layer it stands in; empty where they
        are the same, as in ``freeze``.
    label : str
        The call that made it, without its parts, which are the rows that follow.
    shape : tuple
        The shape of its output for one example, without the batch.
    trained, untrained : int
        How many numbers among its parameters are trained, and how many are not; those of its parts
        are counted in their rows.
    """

    depth: int
    name: str
    label: str
    shape: Shape
    trained: int
    untrained: int


@attrs.frozen(repr=False)
class Summary:
    """What :func:`summary` returns; it prints as a table, in a notebook too.

    Parameters
    ----------
    shape : tuple
        The shape of one example of the input.
    rows : tuple of Row
        The layers, each before its parts; the first is the whole model.
    bytes : int
        The memory that the parameters take.
    """

    shape: Shape
    rows: tuple[Row, ...]
    bytes: int

    @property
    def trained(self) -> int:
        """How many numbers are trained."""
        return sum(row.trained for row in self.rows)

    @property
    def untrained(self) -> int:
        """How many numbers are not trained: running statistics, and what is frozen."""
        return sum(row.untrained for row in self.rows)

    @property
    def count(self) -> int:
        """How many numbers there are among the parameters."""
        return self.trained + self.untrained

    def __repr__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[tuple[int, list[str]]], str]:
        """Return the heads of the columns, the rows with their depths, and the last line."""
        heads = ["layer", "output", "trained", "not trained"]
        rows = [(0, ["input", _batched(self.shape), "", ""])]
        for row in self.rows:
            label = f"{row.name}: {row.label}" if row.name else row.label
            numbers = [f"{n:,}" if n else "" for n in (row.trained, row.untrained)]
            rows.append((row.depth, [label, _batched(row.shape), *numbers]))
        if not self.untrained:
            heads = ["layer", "output", "parameters"]
            rows = [(depth, cells[:3]) for depth, cells in rows]
        return heads, rows, self._total()

    def _total(self) -> str:
        if not self.count:
            return "no parameters"
        text = f"{self.count:,} parameters, {_size(self.bytes)}"
        if not self.untrained:
            return text
        return f"{text}; {self.trained:,} are trained, {self.untrained:,} are not"


def summary(model: Layer, shape: Shape) -> Summary:
    """Return a table of the layers of a model, their output shapes and parameter counts.

    The parameters are made once, and nothing is computed with them, but that layers which leave
    `out_shape` out find it with one example.

    Parameters
    ----------
    model : Layer
        The model. Layers that a constructor makes by itself, rather than take them as arguments,
        are part of its row.
    shape : tuple
        The shape of one example, without the batch; a tuple of shapes for several inputs.

    Returns
    -------
    Summary
        A value with ``rows``, ``trained``, ``untrained``, ``count`` and ``bytes``. What
        `backward` gives the gradient `None` is not trained. Where a layer of your own can be tried
        neither on zeros nor on ids of zero, that remains unknown, and it counts as trained.

    Raises
    ------
    Exception
        What `init` raises where a shape does not fit, with notes that say the place.

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(128), F.batch_norm(), F.relu(), F.freeze(F.dense(10)))
    >>> F.summary(model, (64,))
    layer                  output        trained  not trained
    ---------------------------------------------------------
    input                  (batch, 64)
    serial                 (batch, 10)
      0: dense(units=128)  (batch, 128)    8,320
      1: batch_norm()      (batch, 128)      256          257
      2: relu()            (batch, 128)
      3: freeze            (batch, 10)
        dense(units=10)    (batch, 10)                  1,290
    ---------------------------------------------------------
    10,123 parameters, 40.5 kB; 8,576 are trained, 1,547 are not
    """
    if not isinstance(model, Layer):
        raise TypeError(f"summary: expected a layer, got {model!r}")
    if not isinstance(shape, tuple | list):
        raise TypeError(f"summary: expected the shape of one example, such as (64,), got {shape!r}")
    found: list[_Made] = []
    watched = _watched(model, found.append)
    params = watched.init(0, shape)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        grads = _gradient(watched, params, shape)
    leaves = tree.leaves(params)
    # A parameter counts in the row of the innermost layer that made it.
    unclaimed: dict[int, list[tuple[int, bool]]] = {}
    for leaf, gradient in zip(leaves, tree.aligned(grads, params), strict=True):
        unclaimed.setdefault(id(leaf), []).append((tree.count(leaf), gradient is not None))
    rows = _rows(found[-1], "", 0, unclaimed)
    return Summary(shape, tuple(rows), sum(np.asarray(leaf).nbytes for leaf in leaves))


@attrs.frozen(eq=False, repr=False)
class _Made:
    """What a layer was asked to make parameters for, and those of its parts."""

    layer: Layer
    shape: Shape
    params: Params
    parts: tuple["_Made", ...]


class _Nothing(tuple[()]):
    """Empty parameters that are not the same object as those of all other layers without any."""


def _watched(layer: Layer, report: Callable[[_Made], None]) -> Layer:
    """Return the layer with an `init` that reports; it and its parts compute nothing but zeros."""
    parts: list[_Made] = []
    inner = with_parts(layer, lambda part: _watched(part, parts.append))

    def init(rng: KeyLike, shape: Shape) -> Params:
        # A constructor may have tried its parts before.
        parts.clear()
        params = inner.init(rng, shape)
        if type(params) is tuple and not params:
            params = _Nothing()
        report(_Made(layer, shape, params, tuple(parts)))
        return params

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Any, Any]:
        if parts:
            return inner.apply(params, x, train=train, rng=rng)
        shape = tree.map(lambda array: array.shape[1:], x)
        batch = len(next(iter(tree.leaves(x)), ()))
        return _zeros(layer.out_shape(shape), batch, np.float32), (shape, batch)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        if parts:
            return inner.backward(params, cache, g, input_grad=input_grad)
        shape, batch = cache
        dx = _zeros(shape, batch, np.float32) if input_grad else None
        return _gradient(layer, params, shape), dx

    return with_functions(
        layer, lambda other: _watched(other, report), init=init, apply=apply, backward=backward
    )


def _gradient(layer: Layer, params: Params, shape: Shape) -> Params:
    """Return some gradient of the parameters, to see where it is `None`."""
    for batch, train in ((0, False), (2, True)):
        for x in _examples(shape, batch):
            with contextlib.suppress(Exception):
                y, cache = layer.apply(params, x, train=train, rng=0 if train else None)
                g = tree.map(np.zeros_like, y)
                return layer.backward(params, cache, g, input_grad=False)[0]
    return params


def _examples(shape: Shape, batch: int) -> Iterator[Any]:
    """Yield inputs of floats, and then of ids, each without more and more of the last inputs."""
    for dtype in (np.float32, np.int64):
        x = _zeros(shape, batch, dtype)
        yield x
        if isinstance(x, tuple):
            for count in range(len(x) - 1, 0, -1):
                yield (*x[:count], *[None] * (len(x) - count))


def _zeros(shape: Any, batch: int, dtype: Any) -> Any:
    """Return zeros for a shape, for several, or for none; a size left open is 1."""
    if shape is None:
        return None
    if _is_several(shape):
        return tuple(_zeros(part, batch, dtype) for part in shape)
    return np.zeros((batch, *(1 if size is None else size for size in shape)), dtype)


def _is_several(shape: Any) -> bool:
    return any(isinstance(part, tuple | list) for part in shape)


def _rows(
    made: _Made, name: str, depth: int, unclaimed: dict[int, list[tuple[int, bool]]]
) -> list[Row]:
    """Return the rows of a layer and its parts, and take their parameters out of `unclaimed`."""
    below = [
        row
        for part, key in zip(made.parts, _names(made), strict=True)
        for row in _rows(part, key, depth + 1, unclaimed)
    ]
    own = [entry for leaf in tree.leaves(made.params) for entry in unclaimed.pop(id(leaf), ())]
    trained = sum(count for count, is_trained in own if is_trained)
    untrained = sum(count for count, is_trained in own if not is_trained)
    label, out = _label(made), made.layer.out_shape(made.shape)
    return [Row(depth, name, label, out, trained, untrained), *below]


def _names(made: _Made) -> list[str]:
    """Return for each part the path of its parameters in those of the whole."""
    places = {id(node): "/".join(map(str, path)) for path, node in _nodes(made.params, ())}
    return [places.get(id(part.params), "") for part in made.parts]


def _nodes(params: Params, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield all nodes of a tree of parameters with their paths."""
    yield path, params
    children: Any = ()
    if isinstance(params, dict):
        children = params.items()
    elif isinstance(params, tuple | list):
        children = enumerate(params)
    for key, child in children:
        yield from _nodes(child, (*path, key))


def _label(made: _Made) -> str:
    """Return the call that made a layer, without the layers among its arguments."""
    call = made.layer.call
    if call is None:
        return "Layer"
    if not made.parts:
        return repr(call)
    positional = tuple(value for value in call.positional if not _has_layers(value))
    keywords = {name: value for name, value in call.keywords.items() if not _has_layers(value)}
    return repr(attrs.evolve(call, positional=positional, keywords=keywords)).removesuffix("()")


def _has_layers(value: Any) -> bool:
    return any(isinstance(leaf, Layer) for leaf in tree.leaves(value))


def _batched(shape: Any) -> str:
    """Write a shape with its batch, such as ``(batch, 32)``; several in a tuple."""
    if shape is None:
        return "None"
    if _is_several(shape):
        return f"({', '.join(map(_batched, shape))}{',' * (len(shape) == 1)})"
    return f"({', '.join(['batch', *map(str, shape)])}{',' * (not shape)})"


def _size(count: float) -> str:
    """Write a number of bytes with three digits."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.3g} {units[0]}"
