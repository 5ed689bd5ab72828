"""A layer of which you write the forward function alone; the library autograd goes back.

In training, `apply` lets autograd follow the function, and `backward` returns by the way that it
kept: this spares the function a second run, a quarter of the work. In inference the function is
called as it is, at no cost, and is followed only if `backward` is called after all. Nor does a kept
way serve a `backward` without `input_grad`: it leads to the input as well, so the function is
followed once more, from the parameters alone.
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
    """Make a layer of a function: ``y = f(params, x)``, whose derivative autograd finds.

    The function is written with ``autograd.numpy``, which has the names of NumPy, and makes new
    arrays in place of assignments to parts of an array.

    Parameters
    ----------
    f : callable
        ``f(params, x) -> y``, or ``f(x) -> y`` where there is no `init`. Several inputs come as
        the tuple `x`, several outputs are returned as a tuple. A function that has arguments of
        these names is also given ``train`` and ``rng``, the key, which is `None` in inference.
    init : callable, optional
        ``init(rng, shape) -> params``, a tree of arrays, where `shape` is that of one example.
    out_shape : callable, optional
        ``out_shape(shape) -> shape``. Left out, it is found by a try with one example of zeros,
        which needs a function that takes floats.

    Returns
    -------
    Layer
        Every array of floats has a gradient, in the parameters and in `x`; it is zero where `f`
        does not use the array. Ints and masks have none, nor has an input that is `None`. To have
        it in JSON, or with arguments of its own, return it from a constructor, as below.

    Raises
    ------
    ImportError
        If autograd is not installed.
    TypeError
        If `f` takes other arguments, or returns anything but arrays of numbers, or turns float32
        into float64.
    ValueError
        If `f` writes into an array that it was given, or has no key in training and wants one.

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
        with _place(f, x, followed=train):
            given: tuple[Params, Any] = tree.read_only((params, x))
            if train:
                y, pullback = _follow(call, given, mode)
            else:
                y = call(*given, mode)
                _check_outputs(y, tree.leaves(given))
        return y, (x, mode, pullback)

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        x, mode, pullback = cache
        with _place(f, x, followed=True):
            if pullback is None or not input_grad:
                given = tree.read_only((params, x))
                _, pullback = _follow(call, given, mode, input_grad)
            grads, dx = pullback(g)
        return grads, dx if input_grad else None

    return Layer(init or no_params, apply, backward, out_shape)


def _follow(
    call: Callable[..., Any],
    given: tuple[Params, Any],
    mode: dict[str, Any],
    input_grad: bool = True,
) -> tuple[Any, Pullback]:
    """Return the outputs, and what takes their gradient to that of the floats in (params, x)."""
    from autograd import make_vjp
    from autograd.builtins import tuple as traced_tuple
    from autograd.tracer import getval, isbox

    leaves, structure = tree.flatten(given)
    count = len(leaves) if input_grad else len(tree.leaves(given[0]))
    places = [i for i, leaf in enumerate(leaves[:count]) if is_float_array(leaf)]
    outputs: Any = None

    def traced(boxes: Any) -> Any:
        nonlocal outputs
        inside = list(leaves)
        for k, i in enumerate(places):
            inside[i] = boxes[k]
        outputs = call(*tree.unflatten(structure, inside), mode)
        parts = tree.leaves(outputs)
        # Autograd warns of outputs that depend on no input, which is fine here.
        return traced_tuple(parts) if any(map(isbox, parts)) else boxes

    way_back, end = make_vjp(traced)([leaves[i] for i in places])
    y = tree.map(getval, outputs)
    # NumPy's own functions lose the way in arrays of objects.
    _check_outputs(y, leaves)

    def pullback(g: Any) -> tuple[Params, Any]:
        if isinstance(end, tuple):
            pairs = zip(tree.aligned(g, y), tree.leaves(y), strict=True)
            found = way_back(tuple(np.zeros_like(b) if a is None else a for a, b in pairs))
        else:
            found = [np.zeros_like(leaves[i]) for i in places]
        gradients: list[Any] = [None] * len(leaves)
        for i, gradient in zip(places, found, strict=True):
            # Some derivatives of autograd are float64; that it adds them up in the type of the leaf
            # is promised nowhere.
            gradients[i] = np.asarray(gradient, leaves[i].dtype)
        return tree.unflatten(structure, gradients)  # type: ignore[no-any-return]

    return y, pullback


def _check_outputs(y: Any, given: list[Any]) -> None:
    """Raise unless the outputs are arrays of numbers, floats being of the type that came in."""
    if isinstance(y, tuple) and y:
        for part in y:
            _check_outputs(part, given)
        return
    if not (isinstance(y, np.ndarray) and y.ndim and y.dtype.kind in "fiub"):
        raise TypeError(
            f"the function must return an array of numbers whose first axis is the batch, or a "
            f"tuple of such arrays, got {describe(y)}"
        )
    floats = {leaf.dtype for leaf in given if is_float_array(leaf)}
    if y.dtype.kind == "f" and len(floats) == 1 and y.dtype not in floats:
        raise TypeError(
            f"the function turned {floats.pop()} into {y.dtype}, and nothing is promoted silently; "
            f"NumPy does so with its own numbers, such as np.sqrt(2): write float(np.sqrt(2))"
        )


def _argument_names(f: Any, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of what `f` takes; raise unless it takes what it will be given."""
    expected = f"f({', '.join(given)})"
    if not callable(f):
        raise TypeError(f"from_function: expected a function {expected}, got {shown(f)}")
    try:
        signature = inspect.signature(f)
    except ValueError:  # of a function that is not written in Python
        return ()
    names = tuple(signature.parameters)
    try:
        signature.bind(*given, **{name: None for name in ("train", "rng") if name in names})
    except TypeError as error:
        raise TypeError(
            f"from_function: f is called as {expected}, but {_name(f)} takes {signature}; a "
            f"function of parameters comes with their init: from_function(f, init)"
        ) from error
    return names


@contextmanager
def _place(f: Callable[..., Any], x: Any, followed: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        note = f"in from_function of {_name(f)}, given {describe(x)}"
        if followed:
            note += (
                ", as followed by autograd, which takes functions of autograd.numpy and no "
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
            "from_function finds derivatives with the library autograd: "
            "pip install 'npdl-functional[autograd]'"
        ) from error
