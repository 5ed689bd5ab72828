"""The gradient of each example of a batch, and its norm.

The forward pass and the gradients of inputs are computed for the whole batch. The gradients of
parameters are computed for each example: by a rule for layers of npdl, by a loop for other layers.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import random, tree
from npdl._calls import explained
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._children import check_layers
from npdl.functional.combinators._parts import Parts
from npdl.functional.combinators._rebuilt import changed, rebuilt
from npdl.functional.derivatives._directional import check_loss
from npdl.functional.derivatives._per_example_rules import gradients_of, squares_of
from npdl.tree import Array

__all__ = ["per_example_grads", "per_example_norms"]

Loss = Callable[..., tuple[Any, Any]]


@explained
def per_example_grads(model: Layer, loss: Loss) -> Callable[..., Params]:
    """Return a function that computes the gradient of each example of a batch.

    ``gᵢ = d lᵢ / d p``, where lᵢ is the loss of example i alone, and p are the parameters. If the
    loss is a mean over the examples, the mean of these gradients is the gradient of the batch.

    Parameters
    ----------
    model : Layer
        The model. The gradients of layers of your own, of recurrent layers and of attention are
        computed in a loop over the examples.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient in outputs)``. A loss of your own is called
        for each example, unless it has the argument `per_example` of npdl's losses.

    Returns
    -------
    callable
        ``f(params, x, *targets, train=False, rng=None) -> grads``, a tree like the parameters. The
        batch is the first axis of each array. The gradient of parameters that are not trained is
        `None`.

    Raises
    ------
    ValueError
        In training, if the model has a batch norm: its outputs depend on all examples.

    References
    ----------
    Goodfellow: Efficient per-example gradient computations, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(8), F.relu(), F.dense(3))
    >>> params = model.init(0, (2,))
    >>> x, labels = np.ones((5, 2), np.float32), np.array([0, 1, 2, 0, 1])
    >>> grads = F.per_example_grads(model, F.softmax_cross_entropy)(params, x, labels)
    >>> grads[0]["weight"].shape
    (5, 2, 8)
    """
    check_layers("per_example_grads", (model,))
    check_loss("per_example_grads", loss)
    return _with_batch_axis(_each_example(model, gradients_of), loss)


@explained
def per_example_norms(model: Layer, loss: Loss) -> Callable[..., Array]:
    """Return a function that computes the norm of the gradient of each example of a batch.

    ``nᵢ = ‖gᵢ‖`` over all parameters, with the gradients of :func:`per_example_grads`. The norm for
    a dense layer follows from the norms of its input and of its output gradient. The gradients of
    other layers are computed for one layer at a time.

    Parameters
    ----------
    model, loss
        As in :func:`per_example_grads`.

    Returns
    -------
    callable
        ``f(params, x, *targets, train=False, rng=None) -> norms``, an array of shape (batch,).

    Raises
    ------
    ValueError
        As in :func:`per_example_grads`.

    References
    ----------
    Goodfellow: Efficient per-example gradient computations, 2015, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(1, bias=False)
    >>> params = {"weight": np.array([[1.0], [2.0]])}
    >>> x, y = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[10.0], [4.0]])
    >>> F.per_example_norms(model, F.mean_squared_error)(params, x, y)
    array([10.,  0.])
    """
    check_layers("per_example_norms", (model,))
    check_loss("per_example_norms", loss)
    if _shares_parameters(model):
        # The gradient of a shared parameter is a sum, whose norm does not follow from the terms.
        gradients = _with_batch_axis(_each_example(model, gradients_of), loss)
    else:
        gradients = None
    squares = _with_batch_axis(_each_example(model, squares_of), loss)

    def norms(
        params: Params,
        x: Any,
        *targets: Any,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> Array:
        mode: dict[str, Any] = {"train": train, "rng": rng}
        if gradients is not None:
            grads = gradients(params, x, *targets, **mode)
            parts = [np.vecdot(a, a) for a in map(_as_rows, tree.leaves(grads))]
        else:
            parts = tree.leaves(squares(params, x, *targets, **mode))
        result: Array = np.sqrt(np.sum(parts, axis=0))
        return result

    return norms


def _as_rows(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _with_batch_axis(inner: Layer, loss: Loss) -> Callable[..., Params]:
    """Return a function that passes the output gradients of all examples through a layer."""

    def gradients(
        params: Params,
        x: Any,
        *targets: Any,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> Params:
        outputs, cache = inner.apply(params, x, train=train, rng=rng)
        g = _output_gradients(loss, outputs, targets)
        return inner.backward(params, cache, g, input_grad=False)[0]

    return gradients


def _output_gradients(loss: Loss, outputs: Any, targets: tuple[Any, ...]) -> Any:
    """Return the output gradient of the loss of each example, stacked."""
    if _takes_per_example(loss):
        return loss(outputs, *targets, per_example=True)[1]
    count = len(tree.leaves(outputs)[0])
    each = [loss(_row(outputs, i), *_row(targets, i))[1] for i in range(count)]
    return tree.map(lambda *parts: np.concatenate(parts), *each)


def _takes_per_example(loss: Loss) -> bool:
    """Whether a loss can return the values of all examples, as the losses of npdl can."""
    try:
        return "per_example" in inspect.signature(loss).parameters
    except ValueError:  # raised for functions that are not written in Python
        return False


def _row(values: Any, i: int) -> Any:
    """Return a batch of one example."""
    return tree.map(lambda array: np.asarray(array)[i : i + 1], values)


def _each_example(layer: Layer, compute: Callable[..., tuple[Params, Any]]) -> Layer:
    """Return the layer with another gradient of the parameters, also inside."""
    if layer.parts is not None and not layer.parts.trained:
        return layer
    if layer.parts is not None:
        return rebuilt(layer, functools.partial(_each_example, compute=compute))

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: Any = None, keep_cache: bool = True
    ) -> tuple[Any, Any]:
        y, cache = layer.apply(params, x, train=train, rng=rng)
        return y, (x, train, rng, cache)

    def backward(params: Params, cache: Any, g: Any, *, input_grad: bool) -> tuple[Params, Any]:
        return compute(layer, params, cache, g, input_grad)

    return changed(layer, apply=apply, backward=backward)


def _shares_parameters(layer: Layer) -> bool:
    """Whether two children of a layer, also inside, read the same parameters."""
    parts: Parts | None = layer.parts
    if parts is None:
        return False
    paths = [node.path for node in parts.nodes if node.path is not None]
    overlap = any(
        a[: len(b)] == b for i, a in enumerate(paths) for j, b in enumerate(paths) if i != j
    )
    return overlap or any(_shares_parameters(node.layer) for node in parts.nodes)
