"""A layer from a forward function alone; the library autograd computes its gradients.

In training, `apply` traces the function with autograd, and the cache keeps the pullback. This saves
`backward` a second run of the function, a quarter of the work. In inference the function is called
without tracing, at no extra cost; a later `backward` traces it. A `backward` without `input_grad`
does not use the kept pullback, because it includes the input gradient: the function is traced
again, with respect to the parameters alone.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from npdl import tree
from npdl._calls import shown
from npdl.functional._arrays import check_arrays, describe, is_float_array
from npdl.functional._checks import check_mode
from npdl.functional._dual import is_dual, register_with_autograd
from npdl.functional._layer import Layer, Params, Shape, layer, no_params
from npdl.random import KeyLike

__all__ = ["from_function"]

Pullback = Callable[[Any], tuple[Params, Any]]


@layer
def from_function(
    f: Callable[..., Any],
    init: Callable[[KeyLike, Shape], Params] | None = None,
    *,
    out_shape: Callable[[Shape], Shape] | None = None,
) -> Layer:
    """Build a layer from a function: ``y = f(params, x)``; autograd computes its derivative.

    The function uses ``autograd.numpy``, which has the names of NumPy. It returns new arrays,
    because autograd does not support assignments to parts of an array.

    Parameters
    ----------
    f : callable
        ``f(params, x) -> y``, or ``f(x) -> y`` without `init`. Several inputs are passed as the
        tuple `x`; several outputs are returned as a tuple. If the function has arguments named
        ``train`` and ``rng``, it gets the mode and the key, which is `None` in inference.
    init : callable, optional
        ``init(rng, shape) -> params``, a tree of arrays; `shape` is the shape of one example.
    out_shape : callable, optional
        ``out_shape(shape) -> shape``. By default, one example of zeros is passed through `f`,
        which must then accept floats.

    Returns
    -------
    Layer
        Every array of floats in the parameters and in `x` has a gradient; it is zero if `f` does
        not use the array. The gradient of ints, of masks and of an input `None` is `None`. For
        JSON, or for arguments, return the layer from a constructor, as in the example.

    Raises
    ------
    ImportError
        If autograd is not installed.
    TypeError
        If `f` takes other arguments, does not return arrays of numbers, or converts float32 to
        float64.
    ValueError
        If `f` writes into an input array, or needs a key and gets `None` in training.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import npdl.functional as F
    >>> from npdl.gradcheck import check_gradients
    >>> @F.layer
    ... def gate(bound=1.0):
    ...     def init(rng, shape): return {"weight": F.glorot_uniform()(rng, shape[-1:] * 2)}
    ...     def f(params, x): return bound * np.tanh(x @ params["weight"]) * x
    ...     return F.from_function(f, init)
    >>> model = F.serial(F.dense(4), gate(bound=0.5), F.dense(2))
    >>> check_gradients(model, (3,))
    >>> swish = F.from_function(lambda x: x / (1 + np.exp(-x)))
    >>> swish.apply((), np.zeros((1, 2), np.float32))[0]
    array([[0., 0.]], dtype=float32)
    """
    _require_autograd()
    names = _argument_names(f, ("x",) if init is None else ("params", "x"))
    for name, value in (("init", init), ("out_shape", out_shape)):
        if not (value is None or callable(value)):
            raise TypeError(f"from_function: {name} must be a function, got {shown(value)}")

    def call(params: Params, x: Any, mode: dict[str, Any]) -> Any:
        return f(x, **mode) if init is None else f(params, x, **mode)

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Any, Any]:
        check_mode(train, rng)
        if train and rng is None and "rng" in names:
            raise ValueError(f"{_name(f)} needs a key in training: pass rng=...")
        check_arrays((params, x), "from_function")
        mode = {name: v for name, v in (("train", train), ("rng", rng)) if name in names}
        pullback = None
        with _noted(f, x, traced=train):
            given: tuple[Params, Any] = tree.read_only((params, x))
            if train:
                y, pullback = _trace(call, given, mode)
            else:
                y = call(*given, mode)
                _check_outputs(y, tree.leaves(given))
        return y, (x, mode, pullback)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        x, mode, pullback = cache
        with _noted(f, x, traced=True):
            if pullback is None or not input_grad:
                given = tree.read_only((params, x))
                _, pullback = _trace(call, given, mode, input_grad)
            grads, dx = pullback(g)
        return grads, dx if input_grad else None

    return Layer(init or no_params, apply, backward, out_shape)


def _trace(
    call: Callable[..., Any],
    given: tuple[Params, Any],
    mode: dict[str, Any],
    input_grad: bool = True,
) -> tuple[Any, Pullback]:
    """Return the outputs and a pullback.

    The pullback maps output gradients to gradients of the float leaves of (params, x).
    """
    from autograd import make_vjp
    from autograd.builtins import tuple as traced_tuple
    from autograd.tracer import getval, isbox

    leaves, structure = tree.flatten(given)
    count = len(leaves) if input_grad else len(tree.leaves(given[0]))
    positions = [
        i for i, leaf in enumerate(leaves[:count]) if is_float_array(leaf) or is_dual(leaf)
    ]
    if any(map(is_dual, leaves)):
        register_with_autograd()
    outputs: Any = None

    def traced(boxes: Any) -> Any:
        nonlocal outputs
        inside = list(leaves)
        for k, i in enumerate(positions):
            inside[i] = boxes[k]
        outputs = call(*tree.unflatten(structure, inside), mode)
        parts = tree.leaves(outputs)
        # Autograd warns of outputs that depend on no input, which is fine here.
        return traced_tuple(parts) if any(map(isbox, parts)) else boxes

    vjp, end = make_vjp(traced)([leaves[i] for i in positions])
    y = tree.map(getval, outputs)
    # Functions of `numpy` in place of `autograd.numpy` return object arrays, which are untraced.
    _check_outputs(y, leaves)

    def pullback(g: Any) -> tuple[Params, Any]:
        if isinstance(end, tuple):
            pairs = zip(tree.aligned(g, y), tree.leaves(y), strict=True)
            found = vjp(tuple(np.zeros_like(b) if a is None else a for a, b in pairs))
        else:
            found = [np.zeros_like(leaves[i]) for i in positions]
        gradients: list[Any] = [None] * len(leaves)
        for i, gradient in zip(positions, found, strict=True):
            # Some derivatives of autograd are float64, and autograd does not promise to return
            # the type of the leaf.
            gradients[i] = np.asarray(gradient, leaves[i].dtype)
        return tree.unflatten(structure, gradients)  # type: ignore[no-any-return]

    return y, pullback


def _check_outputs(y: Any, given: list[Any]) -> None:
    """Raise unless the outputs are arrays of numbers, with floats of the type of the inputs."""
    kinds = "fiubc" if any(map(is_dual, given)) else "fiub"
    if isinstance(y, tuple) and y:
        for part in y:
            _check_outputs(part, given)
        return
    if not (isinstance(y, np.ndarray) and y.ndim and y.dtype.kind in kinds):
        raise TypeError(
            f"the function must return an array of numbers whose first axis is the batch, or a "
            f"tuple of such arrays, got {describe(y)}"
        )
    floats = {leaf.dtype for leaf in given if is_float_array(leaf)}
    if y.dtype.kind == "f" and len(floats) == 1 and y.dtype not in floats:
        raise TypeError(
            f"the function turned {floats.pop()} into {y.dtype}, and nothing is promoted silently; "
            f"NumPy scalars such as np.sqrt(2) promote arrays: write float(np.sqrt(2))"
        )


def _argument_names(f: Any, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the argument names of `f`; raise unless it accepts the layer's call."""
    expected = f"f({', '.join(given)})"
    if not callable(f):
        raise TypeError(f"from_function: expected a function {expected}, got {shown(f)}")
    try:
        signature = inspect.signature(f)
    except ValueError:  # raised for functions that are not written in Python
        return ()
    names = tuple(signature.parameters)
    try:
        signature.bind(*given, **{name: None for name in ("train", "rng") if name in names})
    except TypeError as error:
        raise TypeError(
            f"from_function: f is called as {expected}, but {_name(f)} takes {signature}; for a "
            f"function of parameters, pass their init as well: from_function(f, init)"
        ) from error
    return names


@contextmanager
def _noted(f: Callable[..., Any], x: Any, traced: bool) -> Iterator[None]:
    """Add the name of the function and its input to errors."""
    try:
        yield
    except Exception as error:
        note = f"in from_function of {_name(f)}, called with {describe(x)}"
        if traced:
            note += (
                ", traced by autograd, which supports functions of autograd.numpy but not "
                "assignments to parts of an array"
            )
        error.add_note(note)
        raise


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", None) or repr(f)


def _require_autograd() -> None:
    try:
        import autograd  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "from_function computes derivatives with the library autograd: "
            "pip install 'npdl-functional[autograd]'"
        ) from error
