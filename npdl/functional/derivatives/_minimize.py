"""Training by the optimizers of SciPy, which see all examples in each step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npdl import random, tree
from npdl._calls import shown
from npdl.functional._arrays import check_arrays
from npdl.functional._checks import check_int
from npdl.functional._layer import Layer, Params, value_and_grad
from npdl.functional.combinators._children import check_layers
from npdl.functional.derivatives._directional import check_loss, hvp
from npdl.tree import Array

__all__ = ["minimize"]

# Methods with a gradient, and methods with products of the Hessian matrix, too.
_FIRST = ("L-BFGS-B", "BFGS", "CG")
_SECOND = ("Newton-CG", "trust-ncg", "trust-krylov")


class Minimum(NamedTuple):
    """The result of :func:`minimize`."""

    params: Params
    loss: float
    steps: int
    converged: bool
    message: str


def minimize(
    model: Layer,
    loss: Callable[..., tuple[Any, Any]],
    data: tuple[Any, ...],
    method: str = "L-BFGS-B",
    *,
    params: Params = None,
    rng: random.KeyLike = 0,
    steps: int = 500,
    options: dict[str, Any] | None = None,
) -> Minimum:
    """Minimize the loss over all data by an optimizer of SciPy (an extra).

    At a minimum ``d l / d p = 0``, where l is the loss of the whole data in inference mode, and p
    are the parameters. The methods suit small models and data that fit into one batch. They need no
    learning rate, and fewer gradients than stochastic methods. The computation is in float64.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient in outputs)``.
    data : tuple
        ``(x, *targets)``.
    method : str
        A method of ``scipy.optimize.minimize``. First order: ``"L-BFGS-B"``, ``"BFGS"`` and
        ``"CG"``. Second order, with products of :func:`hvp`: ``"Newton-CG"``, ``"trust-ncg"`` and
        ``"trust-krylov"``.
    params : tree, optional
        The initial parameters, by default ``model.init(rng, shape)``.
    rng : key
        The key of the initial parameters.
    steps : int
        The largest number of steps.
    options : dict, optional
        Further options of the method, such as ``{"gtol": 1e-10}``.

    Returns
    -------
    Minimum
        A named tuple: ``params``, in the data type of the initial parameters; the final ``loss``;
        the number of ``steps``; whether the method has ``converged``; and its ``message``.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    ValueError
        If the method is unknown, or the loss of the initial parameters is not finite.

    References
    ----------
    Liu, Nocedal: On the limited memory BFGS method for large scale optimization, 1989. Nocedal,
    Wright: Numerical optimization, 2006, algorithm 7.2, for ``"trust-ncg"``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.dense(8), F.tanh(), F.dense(1))
    >>> x = np.linspace(-2, 2, 40, dtype=np.float32)[:, None]
    >>> found = F.minimize(model, F.mean_squared_error, (x, np.sin(2 * x)))
    >>> found.loss < 1e-3, found.params[0]["weight"].dtype
    (True, dtype('float32'))
    """
    check_layers("minimize", (model,))
    check_loss("minimize", loss)
    if not isinstance(data, tuple) or len(data) < 1:
        raise TypeError(f"minimize: data must be a tuple (x, *targets), got {shown(data)}")
    if method not in (*_FIRST, *_SECOND):
        raise ValueError(
            f"minimize: method must be one of {', '.join((*_FIRST, *_SECOND))}, got {method!r}"
        )
    steps = check_int(steps, "minimize(model, loss, data, steps=500)")
    check_arrays(data, "minimize")
    optimize = _optimize()
    if params is None:
        params = model.init(rng, tree.map(lambda array: array.shape[1:], data[0]))
    problem = _Problem(model, loss, tree.astype(data, np.float64), tree.astype(params, np.float64))
    value, _ = problem.value_and_grad(problem.start)
    if not np.isfinite(value):
        raise ValueError(f"minimize: the loss of the initial parameters is {value}")
    result = optimize(
        problem.value_and_grad,
        problem.start,
        method=method,
        jac=True,
        hessp=problem.hessian_product if method in _SECOND else None,
        options={"maxiter": steps, **(options or {})},
    )
    found = problem.params(result.x)
    return Minimum(
        tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), found, params),
        float(result.fun),
        int(result.nit),
        bool(result.success),
        str(result.message),
    )


class _Problem:
    """A loss as a function of the vector of all trained parameters."""

    def __init__(self, model: Layer, loss: Any, data: tuple[Any, ...], params: Params) -> None:
        self.data, self.initial = data, params
        self.gradient, self.product = value_and_grad(model, loss), hvp(model, loss)
        _, grads, _ = self.gradient(params, *data)
        self.trained = [g is not None for g in tree.aligned(grads, params)]
        self.start, self.unravel = tree.ravel(self._trained(params))

    def _trained(self, like: Params) -> list[Any]:
        """Return the leaves of the trained parameters."""
        leaves = tree.aligned(like, self.initial)
        return [leaf for leaf, kept in zip(leaves, self.trained, strict=True) if kept]

    def params(self, vector: Array) -> Params:
        """Return the tree of all parameters."""
        moved = iter(self.unravel(np.array(vector)))
        pairs = zip(tree.leaves(self.initial), self.trained, strict=True)
        return tree.unflatten(self.initial, [next(moved) if kept else leaf for leaf, kept in pairs])

    def value_and_grad(self, vector: Array) -> tuple[float, Array]:
        """Return the loss and its gradient."""
        value, grads, _ = self.gradient(self.params(vector), *self.data)
        return float(value), tree.ravel(self._trained(grads))[0]

    def hessian_product(self, vector: Array, along: Array) -> Array:
        """Return the product of the Hessian matrix with a vector."""
        moved = iter(self.unravel(np.array(along)))
        direction = tree.unflatten(
            self.initial,
            [
                next(moved) if kept else np.zeros_like(leaf)
                for leaf, kept in zip(tree.leaves(self.initial), self.trained, strict=True)
            ],
        )
        return tree.ravel(self._trained(self.product(self.params(vector), direction, *self.data)))[
            0
        ]


def _optimize() -> Callable[..., Any]:
    try:
        from scipy.optimize import minimize as optimize
    except ImportError as error:
        raise ImportError("minimize needs SciPy: pip install 'npdl-functional[scipy]'") from error
    return optimize  # type: ignore[no-any-return]
