"""A table of a model: its layers, the shapes of their outputs, and their parameter counts.

The rows are the declared children of a model, recursively. The parameters are initialized once,
and `out_shape` computes the shapes.

A parameter is trained unless its gradient is `None`. To find the gradient, `backward` of each layer
without children runs on an empty batch. If this raises an error, `backward` runs on two examples in
training mode. For example, a batch norm needs examples for its statistics.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.functional._arrays import is_several
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional._text_table import html_table, text_table
from npdl.functional.combinators._parts import at, bound, found

__all__ = ["Row", "Summary", "label_of", "summary"]


@attrs.frozen
class Row:
    """A layer in a :class:`Summary`.

    Parameters
    ----------
    depth : int
        The nesting depth: the number of layers that contain it.
    name : str
        The path of its parameters in the parameters of its parent; empty if both are the same, as
        in ``freeze``.
    label : str
        The call that built it, without its children, which follow in the next rows.
    shape : tuple
        The shape of its output for one example, without the batch.
    trained, untrained : int
        The numbers of its trained and untrained parameters, without those in its children.
    """

    depth: int
    name: str
    label: str
    shape: Shape
    trained: int
    untrained: int


@attrs.frozen(repr=False)
class Summary:
    """The result of :func:`summary`; it prints as a table, in a notebook too.

    Parameters
    ----------
    shape : tuple
        The shape of one example of the input.
    rows : tuple of Row
        The layers, each before its children; the first is the whole model.
    bytes : int
        The memory that the parameters take.
    """

    shape: Shape
    rows: tuple[Row, ...]
    bytes: int

    @property
    def trained(self) -> int:
        """The number of trained parameters."""
        return sum(row.trained for row in self.rows)

    @property
    def untrained(self) -> int:
        """The number of parameters that are not trained: running statistics and frozen ones."""
        return sum(row.untrained for row in self.rows)

    @property
    def count(self) -> int:
        """The number of all parameters."""
        return self.trained + self.untrained

    def __repr__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[tuple[int, list[str]]], str]:
        """Return the column heads, the rows with their depths, and the last line."""
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

    The parameters are initialized once. A layer without `out_shape` is applied to one
    example to find its output shape.

    Parameters
    ----------
    model : Layer
        The model. A combinator of your own has rows for its layers if it declares its
        :func:`parts`.
    shape : tuple
        The shape of one example, without the batch; a tuple of shapes for several inputs.

    Returns
    -------
    Summary
        A value with ``rows``, ``trained``, ``untrained``, ``count`` and ``bytes``. A parameter is
        not trained if `backward` returns `None` for its gradient. A layer of your own that fails
        on inputs of zeros, as floats and as ids, counts as trained.

    Raises
    ------
    Exception
        The error of `init` if the shape does not fit, with notes on the position in the model.

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
    params = model.init(0, shape)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        rows = _rows(Row(0, "", "", shape, 0, 0), model, params, "", True, set())
    return Summary(shape, tuple(rows), sum(np.asarray(leaf).nbytes for leaf in tree.leaves(params)))


def _rows(
    row: Row, layer: Layer, params: Params, path: str, trained: bool, counted: set[str]
) -> list[Row]:
    """Return the rows of a layer and its children, from a row with the shape of its input.

    Each parameter, identified by its path, is counted once, in the row of its innermost layer.
    """
    below: list[list[Row]] = []
    if layer.parts is not None:
        parts, shapes = layer.parts.of_shape(row.shape)
        reached = parts.reached()
        children = []
        for node in parts.nodes:
            given = found(shapes, node.sources)
            shapes |= bound(parts.name, node.names, node.layer.out_shape(given))
            if node.path is not None:
                children.append((node, Row(row.depth + 1, node.label, "", given, 0, 0)))
        below = [[] for _ in children]
        # Shared parameters count in the first row that trains them.
        for i in sorted(range(len(children)), key=lambda i: _is_frozen(children[i][0].layer)):
            node, child = children[i]
            used = trained and parts.trained and not reached.isdisjoint(node.written)
            inside = f"{path}/{node.label}".strip("/")
            below[i] = _rows(child, node.layer, at(params, node.path), inside, used, counted)
    sizes = {f"{path}/{name}".strip("/"): tree.count(leaf) for name, leaf in tree.items(params)}
    own = sizes.keys() - counted
    counted |= own
    gradient = _gradient(layer, params, row.shape) if trained and own else None
    pairs = zip(sizes, tree.aligned(gradient, params), strict=True)
    numbers = sum(sizes[name] for name, g in pairs if name in own and g is not None)
    return [
        attrs.evolve(
            row,
            label=label_of(layer),
            shape=layer.out_shape(row.shape),
            trained=numbers,
            untrained=sum(sizes[name] for name in own) - numbers,
        ),
        *(each for rows in below for each in rows),
    ]


def _is_frozen(layer: Layer) -> bool:
    return layer.parts is not None and not layer.parts.trained


def _gradient(layer: Layer, params: Params, shape: Shape) -> Params:
    """Return a gradient of the parameters; only the positions of `None` matter."""
    for batch, train in ((0, False), (2, True)):
        for x in _examples(shape, batch):
            with contextlib.suppress(Exception):
                y, cache = layer.apply(params, x, train=train, rng=0 if train else None)
                g = tree.map(np.zeros_like, y)
                return layer.backward(params, cache, g, input_grad=False)[0]
    return params


def _examples(shape: Shape, batch: int) -> Iterator[Any]:
    """Yield inputs of floats, then of ids: first all inputs, then with fewer of the last ones."""
    for dtype in (np.float32, np.int64):
        x = _zeros(shape, batch, dtype)
        yield x
        if isinstance(x, tuple):
            for count in range(len(x) - 1, 0, -1):
                yield (*x[:count], *[None] * (len(x) - count))


def _zeros(shape: Any, batch: int, dtype: Any) -> Any:
    """Return zeros for a shape, for several shapes, or for `None`; an unknown size is 1."""
    if shape is None:
        return None
    if is_several(shape):
        return tuple(_zeros(part, batch, dtype) for part in shape)
    return np.zeros((batch, *(1 if size is None else size for size in shape)), dtype)


def label_of(layer: Layer) -> str:
    """Return the call that built a layer, without the layers among its arguments."""
    call = layer.call
    if call is None:
        return "Layer"
    if layer.parts is None or not layer.parts.nodes:
        return repr(call)
    positional = tuple(value for value in call.positional if not _has_layers(value))
    keywords = {name: value for name, value in call.keywords.items() if not _has_layers(value)}
    return repr(attrs.evolve(call, positional=positional, keywords=keywords)).removesuffix("()")


def _has_layers(value: Any) -> bool:
    return any(isinstance(leaf, Layer) for leaf in tree.leaves(value))


def _batched(shape: Any) -> str:
    """Format a shape with its batch, such as ``(batch, 32)``, or a tuple of several shapes."""
    if shape is None:
        return "None"
    if is_several(shape):
        return f"({', '.join(map(_batched, shape))}{',' * (len(shape) == 1)})"
    return f"({', '.join(['batch', *map(str, shape)])}{',' * (not shape)})"


def _size(count: float) -> str:
    """Format a number of bytes with three digits."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.3g} {units[0]}"
