"""Derivatives along a direction: of the outputs, and of the gradient.

The layers compute in dual numbers: see :mod:`npdl.functional._dual`. The same `apply` and
`backward` compute values and derivatives, so no layer has a second implementation. A rule for each
constructor would need the derivative of every `backward`, too. Central differences lose half of
the digits, and are wrong at the corners of rectifiers and of maxima.

A layer of your own needs no change if it computes with NumPy's functions of its arguments. It
must not convert the arrays, for example with ``float(x)`` or ``np.asarray(x)``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from npdl import random, tree
from npdl._calls import explained, shown
from npdl.functional._arrays import describe, is_float_array
from npdl.functional._dual import as_dual, dual, tangent_of, value_of
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._children import check_layers
from npdl.functional.combinators._rebuilt import in_dual_numbers
from npdl.tree import Tree

__all__ = ["check_loss", "gauss_newton_vp", "hvp", "jvp"]

Loss = Callable[..., tuple[Any, Any]]


@explained
def jvp(model: Layer) -> Callable[..., tuple[Any, Any]]:
    """Return a function that computes the outputs and their derivative along a direction.

    ``dy = J_p dp + J_x dx``, where J_p and J_x are the Jacobian matrices of ``y = f(params, x)`` in
    the parameters and in `x`. This product costs about as much as one forward pass in complex
    numbers. It is computed in float64.

    Parameters
    ----------
    model : Layer
        The model.

    Returns
    -------
    callable
        ``f(params, x, dparams, dx, train=False, rng=None) -> (y, dy)``. The directions are trees
        like `params` and `x`; `None` is a direction of zeros, for a whole tree or a part. Outputs
        that are not floats have the derivative `None`.

    Raises
    ------
    ValueError
        If a direction has another structure or shape.

    References
    ----------
    Wengert: A simple automatic derivative evaluation program, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.tanh()
    >>> x, dx = np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]])
    >>> y, dy = F.jvp(model)((), x, None, dx)
    >>> dy.round(4)
    array([[1.    , 0.8399]])
    """
    check_layers("jvp", (model,))
    inner = in_dual_numbers(model)

    def pushed(
        params: Params,
        x: Any,
        dparams: Params,
        dx: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> tuple[Any, Any]:
        moved = _moved("dparams", params, dparams), _moved("dx", x, dx)
        y, _ = inner.apply(*moved, train=train, rng=rng, keep_cache=False)
        dtype = _float_type(params, x)
        return tree.map(lambda part: _cast(value_of(part), dtype), y), _tangents(y, dtype)

    return pushed


@explained
def hvp(model: Layer, loss: Loss) -> Callable[..., Params]:
    """Return a function that computes the product of a loss's Hessian matrix with a vector.

    ``u = H v``, where H is the matrix of second derivatives of the loss in the parameters. This is
    the derivative of the gradient along v. It costs about as much as one forward and one backward
    pass in complex numbers, and is computed in float64. With a direction of the input, too,
    ``u = H v + M dx``, where M are the mixed derivatives in parameters and input. They are the
    gradients of losses that contain a derivative in the input, such as a gradient penalty.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient in outputs)``. A loss of your own must
        compute the gradient with NumPy's functions of the outputs.

    Returns
    -------
    callable
        ``f(params, v, x, *targets, dx=None, train=False, rng=None) -> u``. The vector `v` is a tree
        like `params`, and `dx` like `x`, with `None` for zeros. The result is a tree like the
        gradients, with `None` for parameters that are not trained.

    Raises
    ------
    ValueError
        If `v` or `dx` has another structure or shape than the parameters or the input.

    References
    ----------
    Pearlmutter: Fast exact multiplication by the Hessian, 1994, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(1, bias=False)
    >>> params, v = {"weight": np.array([[3.0]])}, {"weight": np.array([[1.0]])}
    >>> x, y = np.array([[2.0]]), np.array([[1.0]])
    >>> F.hvp(model, F.mean_squared_error)(params, v, x, y)
    {'weight': array([[8.]])}
    """
    check_layers("hvp", (model,))
    check_loss("hvp", loss)
    inner = in_dual_numbers(model)

    def product(
        params: Params,
        v: Params,
        x: Any,
        *targets: Any,
        dx: Any = None,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> Params:
        moved = _moved("v", params, v)
        y, cache = inner.apply(moved, _moved("dx", x, dx), train=train, rng=rng)
        g = tree.map(as_dual, loss(y, *targets)[1])
        grads, _ = inner.backward(moved, cache, g, input_grad=False)
        return _tangents(grads, _float_type(params, ()))

    return product


@explained
def gauss_newton_vp(model: Layer, loss: Loss) -> Callable[..., Params]:
    """Return a function that computes the product of the Gauss-Newton matrix with a vector.

    ``u = Jᵀ H_y J v``, where J is the Jacobian matrix of the outputs in the parameters, and H_y the
    matrix of second derivatives of the loss in the outputs. For a convex loss, such as the
    cross-entropy of logits, no eigenvalue of this matrix is negative.

    Parameters
    ----------
    model, loss
        As in :func:`hvp`.

    Returns
    -------
    callable
        ``f(params, v, x, *targets, train=False, rng=None) -> u``, as in :func:`hvp`.

    Raises
    ------
    ValueError
        If `v` has another structure or shape than the parameters.

    References
    ----------
    Schraudolph: Fast curvature matrix-vector products for second-order gradient descent, 2002,
    section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(1, bias=False), F.tanh())
    >>> params, v = ({"weight": np.zeros((1, 1))}, ()), ({"weight": np.ones((1, 1))}, ())
    >>> x, y = np.array([[2.0]]), np.array([[1.0]])
    >>> F.gauss_newton_vp(model, F.mean_squared_error)(params, v, x, y)[0]
    {'weight': array([[8.]])}
    """
    check_layers("gauss_newton_vp", (model,))
    check_loss("gauss_newton_vp", loss)
    inner = in_dual_numbers(model)

    def product(
        params: Params,
        v: Params,
        x: Any,
        *targets: Any,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> Params:
        moved = _moved("v", params, v), _moved("x", x, None)
        y, _ = inner.apply(*moved, train=train, rng=rng, keep_cache=False)
        g = tree.map(as_dual, loss(y, *targets)[1])
        dtype = _float_type(params, x)
        _, cache = model.apply(params, x, train=train, rng=rng)
        grads, _ = model.backward(params, cache, _tangents(g, dtype), input_grad=False)
        return grads

    return product


def _moved(name: str, point: Tree, direction: Tree) -> Tree:
    """Return dual numbers for the floats of a tree, with the direction as tangents."""
    moved = []
    pairs = zip(tree.items(point), tree.aligned(direction, point), strict=True)
    for (path, leaf), along in pairs:
        if along is not None and np.shape(along) != np.shape(leaf):
            raise ValueError(
                f"{name} at {path or 'the root'} must have the shape {np.shape(leaf)}, got "
                f"{describe(along)}"
            )
        moved.append(dual(np.asarray(leaf), along) if is_float_array(leaf) else leaf)
    return tree.unflatten(point, moved)


def _tangents(values: Tree, dtype: Any) -> Tree:
    """Return the tangents of a tree of dual numbers, and `None` for ints and booleans."""

    def tangent(leaf: Any) -> Any:
        return _cast(tangent_of(leaf), dtype) if np.asarray(leaf).dtype.kind in "fc" else None

    return tree.map(tangent, values)


def _float_type(*trees: Tree) -> Any:
    """Return the largest data type of the floats, float64 without any."""
    types = [leaf.dtype for leaf in tree.leaves(trees) if is_float_array(leaf)]
    return np.result_type(*types) if types else np.dtype(np.float64)


def _cast(array: Any, dtype: Any) -> Any:
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def check_loss(name: str, loss: Any) -> None:
    """Raise TypeError unless a loss can be called."""
    if not callable(loss):
        raise TypeError(
            f"{name}: expected a loss, such as F.softmax_cross_entropy, got {shown(loss)}"
        )
