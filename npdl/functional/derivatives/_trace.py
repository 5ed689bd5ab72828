"""The activations and gradients of all layers inside a model."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npdl import random, tree
from npdl._calls import shown
from npdl.functional._arrays import is_float_array
from npdl.functional._layer import Layer, Params
from npdl.functional._summary import label_of
from npdl.functional._text_table import html_table, text_table
from npdl.functional.combinators._children import check_layers
from npdl.functional.combinators._parts import Node, Parts
from npdl.functional.combinators._rebuilt import changed, rebuilt_by_node

__all__ = ["Trace", "Traced", "trace_layers"]


class Traced(NamedTuple):
    """The activation of a layer, and the gradient of the loss in it."""

    output: Any
    gradient: Any


class Trace(dict[str, Traced]):
    """The result of :func:`trace_layers`: a tree by path, which prints as a table.

    Attributes
    ----------
    layers : dict of str
        The call of each layer, by path.
    loss : number or None
        The loss.
    grads : tree
        The gradients of the parameters.
    input_grad : array or tree
        The gradient of the input.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(2), F.relu())
    >>> traced = F.trace_layers(model, model.init(0, (3,)), np.ones((4, 3), np.float32))
    >>> list(traced), traced.loss
    (['0', '1'], None)
    """

    layers: dict[str, str]
    loss: Any
    grads: Params
    input_grad: Any

    def __repr__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[tuple[int, list[str]]], str]:
        """Return the column heads, the rows with their depths, and the last line."""
        rows = []
        for path, (output, gradient) in self.items():
            *above, name = path.split("/")
            label = f"{name}: {self.layers[path]}" if path else self.layers[path]
            cells = [label, _shapes(output), _size(output)]
            rows.append((len(above), [*cells, _size(gradient)]))
        last = "no loss" if self.loss is None else f"loss {float(self.loss):.4g}"
        return ["layer", "output", "output rms", "gradient rms"], rows, last


def trace_layers(
    model: Layer,
    params: Params,
    x: Any,
    loss: Callable[..., tuple[Any, Any]] | None = None,
    *targets: Any,
    train: bool = False,
    rng: random.KeyLike | None = None,
) -> Trace:
    """Return the activations of all layers inside a model, and the gradients of the loss in them.

    ``gᵢ = d l / d yᵢ`` for each activation yᵢ, where l is the loss.

    Parameters
    ----------
    model : Layer
        The model. A combinator of your own has entries for its layers if it declares its
        :func:`parts`.
    params : tree
        Its parameters.
    x : array or tuple of arrays
        The input.
    loss : callable, optional
        ``loss(outputs, *targets) -> (value, gradient in outputs)``, such as
        :func:`softmax_cross_entropy`. Without it, all gradients are `None`.
    *targets : array
        Further arguments of the loss.
    train, rng
        As in ``model.apply``.

    Returns
    -------
    Trace
        A dict from paths, such as ``"2/0"``, to ``(output, gradient)``, in the order of the
        computation. The layers inside a layer follow it. The names of the path are the keys of the
        parameters, or the names of the nodes. Several outputs are a tuple. The gradient is `None`
        if the loss does not depend on an output. Further, ``loss``, ``grads`` and ``input_grad``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(16), F.residual(F.dense(16), F.tanh()), F.dense(3))
    >>> params = model.init(0, (4,))
    >>> x, labels = np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1])
    >>> traced = F.trace_layers(model, params, x, F.softmax_cross_entropy, labels)
    >>> traced
    layer                 output       output rms  gradient rms
    -----------------------------------------------------------
    0: dense(units=16)    (batch, 16)  ...
    1: residual           (batch, 16)  ...
      0: dense(units=16)  (batch, 16)  ...
      1: tanh()           (batch, 16)  ...
      sum: joined         (batch, 16)  ...
    2: dense(units=3)     (batch, 3)   ...
    -----------------------------------------------------------
    loss ...
    >>> traced["1/0"].gradient.shape
    (5, 16)
    """
    check_layers("trace_layers", (model,))
    if not (loss is None or callable(loss)):
        raise TypeError(f"trace_layers: expected a loss or None, got {shown(loss)}")
    outputs: dict[str, Any] = {}
    gradients: dict[str, Any] = {}
    recording = _recording(model, "", outputs, gradients)
    y, cache = recording.apply(params, x, train=train, rng=rng)
    value = grads = dx = None
    if loss is not None:
        value, g = loss(y, *targets)
        grads, dx = recording.backward(params, cache, g)
    return _trace_of(model, outputs, gradients, loss=value, grads=grads, input_grad=dx)


def _recording(
    layer: Layer, path: str, outputs: dict[str, Any], gradients: dict[str, Any]
) -> Layer:
    """Return the layer with functions that record its output and the gradient, also inside."""
    inner = layer
    if layer.parts is not None:
        names = _names(layer.parts)

        def inside(node: Node, child: Layer) -> Layer:
            return _recording(
                child, f"{path}/{names[node.written[0]]}".lstrip("/"), outputs, gradients
            )

        inner = rebuilt_by_node(layer, inside)

    def apply(params: Params, x: Any, **mode: Any) -> tuple[Any, Any]:
        outputs[path] = None  # the layer precedes the layers inside
        y, cache = inner.apply(params, x, **mode)
        outputs[path] = y
        return y, cache

    def backward(params: Params, cache: Any, g: Any, *, input_grad: bool = True) -> tuple[Any, Any]:
        gradients[path] = g
        return inner.backward(params, cache, g, input_grad=input_grad)

    return changed(layer, apply=apply, backward=backward, parts=inner.parts)


def _names(parts: Parts) -> dict[str, str]:
    """Return a name in the path for each node: the path of its parameters, if it is unique."""
    labels = [node.label for node in parts.nodes]
    taken = {node.written[0] for node in parts.nodes}
    return {
        node.written[0]: node.label
        if node.label and labels.count(node.label) == 1 and node.label not in taken
        else node.written[0]
        for node in parts.nodes
    }


def _trace_of(
    model: Layer, outputs: dict[str, Any], gradients: dict[str, Any], **rest: Any
) -> Trace:
    if model.parts is not None and len(outputs) > 1:
        del outputs[""]  # the outputs of the last layers
    traced = Trace({path: Traced(y, gradients.get(path)) for path, y in outputs.items()})
    traced.layers = dict(_labels(model, "", label_of(model)))
    for name, value in rest.items():
        setattr(traced, name, value)
    return traced


def _labels(layer: Layer, path: str, label: str) -> Iterator[tuple[str, str]]:
    """Yield the paths of a layer and of the layers inside, with their calls."""
    yield path, label
    if layer.parts is not None:
        names = _names(layer.parts)
        for node in layer.parts.nodes:
            call = node.layer.call
            # The arguments of joins and other layers without parameters repeat the combinator.
            joins = node.path is None and call is not None
            inside = call.name.lstrip("_") if joins and call else label_of(node.layer)
            yield from _labels(node.layer, f"{path}/{names[node.written[0]]}".lstrip("/"), inside)


def _shapes(output: Any) -> str:
    """Return the shape of an output, without the size of the batch."""
    if isinstance(output, tuple):
        return f"({', '.join(map(_shapes, output))})"
    if not isinstance(output, np.ndarray):
        return "None" if output is None else type(output).__name__
    return f"({', '.join(['batch', *map(str, output.shape[1:])])}{',' * (output.ndim < 2)})"


def _size(values: Any) -> str:
    """Return the root mean square of all floats in a tree."""
    floats = [
        leaf.astype(np.float64).ravel() for leaf in tree.leaves(values) if is_float_array(leaf)
    ]
    numbers = np.concatenate(floats) if floats else np.zeros(0)
    return f"{np.sqrt(np.mean(numbers**2)):.3g}" if numbers.size else ""
