"""The protocol. A layer is one record of pure functions over parameters that you hold.

Its functions and their calls::

    params   = layer.init(rng, shape)                   # the shape of one example, without batch
    y, cache = layer.apply(params, x)                   # inference
    y, cache = layer.apply(params, x, train=True, rng=key)
    grads, dx = layer.backward(params, cache, g)        # the vector-Jacobian product
    grads, _  = layer.backward(params, cache, g, input_grad=False)
    y, _     = layer.apply(params, x, keep_cache=False)           # no backward pass follows
    shape    = layer.out_shape(shape)
    params   = layer.update_stats(params, cache)        # running statistics, if the layer has any
    y        = layer(params, x)

The same arguments give the same result, to the bit. *A function never writes to an array after it
has returned it.* The gradient of an array is `None` if the array is not trained, or if the output
does not depend on it. Several inputs or outputs are tuples: of arrays in `apply`, of shapes in
`init` and `out_shape`, of gradients in `backward`.

To define a layer, decorate a function that returns a :class:`Layer` with :func:`layer`:

>>> import numpy as np
>>> import npdl.functional as F
>>> @F.layer
... def scaled(by=2.0):
...     def init(rng, shape): return {"a": np.full((), by, np.float32)}
...     def apply(params, x): return params["a"] * x, x
...     def backward(params, x, g): return {"a": np.sum(g * x)}, params["a"] * g
...     return F.Layer(init, apply, backward)
>>> F.serial(F.dense(2), scaled(by=3.0))
serial(dense(units=2), scaled(by=3.0))
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import attrs
import numpy as np

from npdl import random
from npdl._calls import explained, shown
from npdl._constructor import Recorded, constructor
from npdl._parameter_limit import at_most
from npdl.functional._adapters import with_input_grad, with_mode
from npdl.functional._arrays import check_arrays, describe, is_several
from npdl.functional._checks import check_flag
from npdl.tree import Array, Tree

__all__ = [
    "Aux",
    "Layer",
    "Params",
    "Shape",
    "keep_params",
    "layer",
    "no_params",
    "same_shape",
    "statistics",
    "value_and_grad",
]

Params: TypeAlias = Tree
Shape: TypeAlias = tuple[Any, ...]  # of ints, or of the shapes of several inputs


def no_params(rng: random.KeyLike, shape: Shape) -> Params:
    """Return the empty parameters of a layer without parameters."""
    return ()


def same_shape(shape: Shape) -> Shape:
    """Return the shape unchanged: `out_shape` of an element-wise layer."""
    return shape


def keep_params(params: Params, cache: Any) -> Params:
    """Return the parameters unchanged: `update_stats` of a layer without running statistics."""
    return params


def statistics(layer: "Layer", cache: Any) -> Any:
    """Return the part of a cache that `update_stats` reads; of a layer of your own, all of it."""
    if cache is None or layer.update_stats is keep_params:
        return None
    needed = getattr(layer.update_stats, "needed", None)
    return cache if needed is None else needed(cache)


_MISSING: Any = object()


@attrs.frozen(eq=False, repr=False)
class Layer(Recorded):
    """A record of pure functions: initialization, forward pass and backward pass.

    Parameters
    ----------
    init : callable
        ``init(rng, shape) -> params``, a tree of arrays.
    apply : callable
        ``apply(params, x) -> (y, cache)``. A layer with another behaviour in training, or with
        randomness, also takes the keywords ``train`` and ``rng``. A layer that can skip the cache
        also takes ``keep_cache``; without the cache, `y` has the same bits.
    backward : callable
        ``backward(params, cache, g) -> (grads, dx)``, where `g` is the gradient of a scalar, such
        as the loss, in `y`. A layer that can skip the input gradient also takes ``input_grad``.
    out_shape : callable, optional
        ``out_shape(shape) -> shape``. By default, a batch of one example is passed through `apply`.
    update_stats : callable, optional
        ``update_stats(params, cache) -> params``: running statistics updated by the batch.
    parts : Parts, optional
        The children of a combinator and their inputs; see :func:`parts`.
    keeps_axes : bool
        Whether each output axis has the meaning of the same input axis, as in activations, norms
        and pooling.
    step : callable or bool
        ``step(params, x, state) -> (y, state)``, for :func:`decode_step`: the outputs at the next
        time steps of a sequence in evaluation mode. The state is a tree of arrays whose first axis
        is the batch; it is `None` before the first step. True means that `apply` treats each time
        step separately, so that no state is needed.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(3)
    >>> params = model.init(0, (2,))
    >>> x = np.ones((4, 2), np.float32)
    >>> y, cache = model.apply(params, x)
    >>> grads, dx = model.backward(params, cache, np.ones_like(y))
    >>> y.shape, grads["weight"].shape, dx.shape, model.out_shape((2,))
    ((4, 3), (2, 3), (4, 2), (3,))
    """

    init: Callable[[random.KeyLike, Shape], Params]
    apply: Callable[..., tuple[Any, Any]]
    backward: Callable[..., tuple[Any, Any]]
    out_shape: Callable[[Shape], Shape] | Any = None
    update_stats: Callable[[Params, Any], Params] = keep_params
    parts: Any = None  # of the class Parts; its module imports this one
    keeps_axes: bool = False
    step: Callable[[Params, Any, Any], tuple[Any, Any]] | bool = False

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "apply", with_mode(self.apply))
        object.__setattr__(self, "backward", with_input_grad(self.backward))
        if self.out_shape is None:
            object.__setattr__(self, "out_shape", _Probe(self.init, self.apply))

    def __call__(
        self,
        params: Params,
        x: Any = _MISSING,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> Any:
        """Return the output: `apply` without the cache."""
        if x is _MISSING:
            missing = "params are" if isinstance(params, np.ndarray) else "params or x are"
            raise TypeError(
                f"{missing} missing, a layer takes both: layer(params, x), with "
                f"params = layer.init(rng, shape)"
            )
        return self.apply(params, x, train=train, rng=rng, keep_cache=False)[0]


# The decorator of constructors. The returned layers get a repr, equality, pickling and a JSON
# configuration, all from the name and the arguments of the constructor.
layer = constructor


class Aux(NamedTuple):
    """Further results of :func:`value_and_grad`: outputs, cache and input gradient."""

    outputs: Any
    cache: Any
    input_grad: Any


@explained
def value_and_grad(
    model: Layer, loss: Callable[..., tuple[Any, Any]], *, input_grad: bool = False
) -> Callable[..., tuple[Any, Params, Aux]]:
    """Return a function that computes the loss of a model and its gradient in the parameters.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient in outputs)``, such as
        :func:`softmax_cross_entropy`.
    input_grad : bool
        Whether to compute ``aux.input_grad``, too, the gradient in `x`; otherwise it is `None`.

    Returns
    -------
    callable
        ``f(params, x, *targets, train=False, rng=None) -> (loss, grads, aux)``; `aux` has
        ``outputs``, ``cache`` and ``input_grad``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(3)
    >>> params = model.init(0, (2,))
    >>> x, labels = np.ones((4, 2), np.float32), np.array([0, 1, 2, 2])
    >>> loss, grads, aux = F.value_and_grad(model, F.softmax_cross_entropy)(params, x, labels)
    >>> grads["weight"].shape, aux.outputs.shape
    ((2, 3), (4, 3))
    """

    if not callable(loss):
        raise TypeError(f"expected a loss, such as F.softmax_cross_entropy, got {shown(loss)}")
    input_grad = check_flag(input_grad, "value_and_grad(model, loss, input_grad=True)")

    def value_and_grad_of(
        params: Params,
        x: Any,
        *targets: Any,
        train: bool = False,
        rng: random.KeyLike | None = None,
    ) -> tuple[Any, Params, Aux]:
        if type(x) is not np.ndarray:
            check_arrays(x, "value_and_grad")
        for target in targets:
            if type(target) is not np.ndarray:
                check_arrays(target, "value_and_grad")
        outputs, cache = model.apply(params, x, train=train, rng=rng)
        result = loss(outputs, *targets)
        if type(result) is not tuple or len(result) != 2:
            raise TypeError(
                f"the loss must return (value, gradient in the outputs), got {describe(result)}"
            )
        value, g = result
        if type(g) is np.ndarray and type(outputs) is np.ndarray and g.shape != outputs.shape:
            raise ValueError(
                f"the loss returned the gradient {describe(g)} for the outputs "
                f"{describe(outputs)}; both need one shape"
            )
        grads, dx = model.backward(params, cache, g, input_grad=input_grad)
        # A NamedTuple's own constructor takes twice as long.
        return value, grads, tuple.__new__(Aux, (outputs, cache, dx))

    return value_and_grad_of


class _Probe:
    """Computes `out_shape` by applying the layer to one example of zeros."""

    def __init__(self, init: Callable[..., Params], apply: Callable[..., tuple[Any, Any]]) -> None:
        self.init, self.apply = init, apply

    def __call__(self, shape: Shape) -> Shape:
        example = tuple(map(_example, shape)) if is_several(shape) else _example(shape)
        with at_most(math.inf):  # these parameters are not kept
            result = self.apply(self.init(0, shape), example)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"apply must return the tuple (y, cache), got {describe(result)}")
        y = result[0]
        return tuple(part.shape[1:] for part in y) if isinstance(y, tuple) else y.shape[1:]


def _example(shape: Shape) -> Array:
    return np.zeros((1, *shape), np.float32)
