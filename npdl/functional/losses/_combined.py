"""Losses built from other functions: of several outputs, or of a forward function alone."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import tree
from npdl._calls import shown
from npdl.functional._arrays import describe, is_float_array
from npdl.functional._checks import check_number
from npdl.functional._dual import is_dual, register_with_autograd

__all__ = ["loss_from_function", "weighted_losses"]

Loss = Callable[..., tuple[Any, Any]]


def weighted_losses(*terms: tuple[Loss, float]) -> Loss:
    """Return a loss for several outputs: ``l = Σᵢ wᵢ lᵢ(yᵢ, tᵢ)``.

    Parameters
    ----------
    *terms : tuple
        A loss and its weight for each output of the model: ``(loss, weight)``. A weight is a
        number of at least 0.

    Returns
    -------
    callable
        ``loss(outputs, *targets) -> (value, gradients)``, with one target for each output and a
        tuple of gradients. A target with weights for its examples is a tuple ``(target, weights)``.

    Raises
    ------
    TypeError
        If a term is not a pair of a loss and a number.
    ValueError
        When the loss is called, if the number of outputs or of targets differs from the number of
        terms.

    References
    ----------
    Caruana: Multitask learning, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> loss = F.weighted_losses((F.softmax_cross_entropy, 1.0), (F.mean_squared_error, 0.1))
    >>> outputs = np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> value, (g_class, g_number) = loss(outputs, np.array([0, 1]), np.zeros((2, 1)))
    >>> round(float(value), 4), g_number
    (1.1931, array([[0.1],
           [0.3]]))
    """
    call = "weighted_losses((F.softmax_cross_entropy, 1.0), (F.mean_squared_error, weight=0.1))"
    if not terms:
        raise TypeError("weighted_losses: expected a loss and a weight for each output, got none")
    losses, weights = [], []
    for i, term in enumerate(terms):
        if not (isinstance(term, tuple) and len(term) == 2 and callable(term[0])):
            raise TypeError(
                f"weighted_losses: term {i} must be (loss, weight), as in "
                f"(F.mean_squared_error, 0.1), got {shown(term)}"
            )
        losses.append(term[0])
        weights.append(check_number(term[1], call, "of at least 0"))
    return functools.partial(_weighted_sum, tuple(losses), tuple(weights))


def _weighted_sum(
    losses: tuple[Loss, ...], weights: tuple[float, ...], outputs: Any, *targets: Any
) -> tuple[Any, tuple[Any, ...]]:
    count = len(losses)
    if not isinstance(outputs, tuple) or len(outputs) != count or len(targets) != count:
        raise ValueError(
            f"weighted_losses: there are {count} losses, so expected a tuple of {count} outputs "
            f"and {count} targets, got {describe(outputs)} and {describe(targets)}"
        )
    total: Any = 0.0
    gradients = []
    for loss, weight, output, target in zip(losses, weights, outputs, targets, strict=True):
        value, g = loss(output, *(target if isinstance(target, tuple) else (target,)))
        total = total + weight * value
        gradients.append(tree.map(lambda part: part * weight, g))  # noqa: B023 - called at once
    return total, tuple(gradients)


def loss_from_function(function: Callable[..., Any]) -> Loss:
    """Build a loss from a function: ``l = f(outputs, *targets)``; autograd computes its derivative.

    Parameters
    ----------
    function : callable
        ``f(outputs, *targets) -> number``, a mean over the batch. It uses ``autograd.numpy``, which
        has the names of NumPy, and does not assign to parts of an array. Several outputs are a
        tuple.

    Returns
    -------
    callable
        ``loss(outputs, *targets) -> (value, gradient in outputs)``.

    Raises
    ------
    ImportError
        If autograd is not installed.
    TypeError
        If `function` is not a function, or does not return one number of the outputs' data type.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import npdl.functional as F
    >>> from npdl.gradcheck import check_loss
    >>> log_cosh = F.loss_from_function(lambda y, t: np.mean(np.log(np.cosh(y - t))))
    >>> value, g = log_cosh(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    >>> g.round(3)
    array([0.   , 0.482])
    >>> check_loss(log_cosh, np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    """
    if not callable(function):
        raise TypeError(
            f"loss_from_function: expected a function f(outputs, *targets), got {shown(function)}"
        )
    try:
        import autograd  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "loss_from_function computes derivatives with the library autograd: "
            "pip install 'npdl-functional[autograd]'"
        ) from error
    return functools.partial(_differentiated, function)


def _differentiated(function: Callable[..., Any], outputs: Any, *targets: Any) -> tuple[Any, Any]:
    from autograd import make_vjp

    leaves, structure = tree.flatten(outputs)
    if any(map(is_dual, leaves)):
        register_with_autograd()

    def of_leaves(boxes: Any) -> Any:
        return function(tree.unflatten(structure, list(boxes)), *targets)

    vjp, value = make_vjp(of_leaves)(leaves)
    name = getattr(function, "__name__", None) or repr(function)
    types = {leaf.dtype for leaf in leaves if is_float_array(leaf) or is_dual(leaf)}
    if np.shape(value) != () or (types and np.asarray(value).dtype not in types):
        raise TypeError(
            f"loss_from_function: {name} must return one number of the type of the outputs, "
            f"{describe(outputs)}, such as np.mean(...), got {describe(np.asarray(value))}"
        )
    gradients = [
        np.asarray(g, leaf.dtype) for g, leaf in zip(vjp(np.ones_like(value)), leaves, strict=True)
    ]
    return value, tree.unflatten(structure, gradients)
