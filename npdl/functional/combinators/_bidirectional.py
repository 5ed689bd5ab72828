"""Recurrent layers in both time directions, or applied to single time steps."""

import inspect
from typing import Any

import numpy as np

from npdl._calls import shown
from npdl.functional._arrays import check_arrays, describe
from npdl.functional._checks import refusal
from npdl.functional._layer import Layer, Params, layer, no_params
from npdl.functional.combinators._children import connected
from npdl.functional.combinators._declared import declared
from npdl.functional.combinators._joins import joined
from npdl.tree import Array

__all__ = ["bidirectional", "one_step"]


@layer
def bidirectional(inner: Layer, *, join: str | None = "concatenate") -> Layer:
    """Run a recurrent layer forward and backward in time, with separate parameters.

    ``y = [f(x), r(x)]``, with the inner layer f and the reverse layer r; or ``y = f(x) + r(x)``.

    Parameters
    ----------
    inner : Layer
        The forward layer, such as ``lstm(64, return_sequence=True)``. The reverse layer is the
        same call with ``reverse=True``. A layer of your own is accepted if its constructor has
        the argument `reverse`.
    join : {"concatenate", "add"} or None
        How the two outputs are joined along the features; `None` returns them as a tuple.

    Returns
    -------
    Layer
        It takes the inputs of `inner`, and joins the outputs of both directions. Without
        `return_sequence`, the reverse direction returns the output at the first time step. A
        state is the tuple of both directions' states, and the parameters are the tuple of both
        directions' parameters.

    References
    ----------
    Schuster, Paliwal: Bidirectional recurrent neural networks, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.bidirectional(F.gru(4, return_sequence=True))
    >>> params = model.init(0, (5, 3))
    >>> x, mask = np.ones((2, 5, 3), np.float32), np.ones((2, 5), bool)
    >>> model(params, (x, mask)).shape
    (2, 5, 8)
    """
    if not (join is None or isinstance(join, str)) or join not in ("concatenate", "add", None):
        expected = "'concatenate', 'add' or None"
        raise ValueError(refusal(join, 'bidirectional(lstm(64), join="add")', expected))
    reverse = _with_arguments("bidirectional", inner, reverse=True)
    return_state = _call_of("bidirectional", inner).arguments.get("return_state", False)
    nodes: dict[Any, Any] = {}
    for i, (name, child) in enumerate((("forward", inner), ("reverse", reverse))):
        names = (name, f"{name}_last") if return_state else name
        nodes[names] = (child, ("x", "mask", f"{name}_state"), (i,))
    y: Any = ("forward", "reverse")
    if join is not None:
        nodes["joined"] = (joined(join, name="bidirectional"), y, None)
        y = "joined"
    outputs = (y, ("forward_last", "reverse_last")) if return_state else y
    inputs = ("x", "mask", ("forward_state", "reverse_state"))
    return connected(declared("bidirectional", inputs, nodes, outputs, optional=2))


@layer
def one_step(inner: Layer) -> Layer:
    """Apply a recurrent layer to one time step, as in decoding, where an output is the next input.

    ``hₜ = f(xₜ, hₜ₋₁)``, where h is the whole state.

    Parameters
    ----------
    inner : Layer
        A recurrent layer that runs forward, such as ``lstm(64)``.

    Returns
    -------
    Layer
        From ``(x, state)`` to ``(y, state)``, with `x` of shape (batch, features) and the
        parameters of `inner`. `x` alone, or a state of `None`, starts from a zero state. Calls
        for all time steps in order compute the outputs of the whole sequence.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.lstm(4, return_sequence=True)
    >>> params = model.init(0, (None, 3))
    >>> x = np.ones((2, 5, 3), np.float32)
    >>> step, state = F.one_step(model), None
    >>> for t in range(5):
    ...     y, state = step(params, (x[:, t], state))
    >>> np.allclose(y, model(params, x)[:, -1], atol=1e-6)
    True
    """
    sequence = _with_arguments("one_step", inner, return_sequence=False, return_state=True)
    nodes = {
        "sequence": (_sequence_of_one(), "x", None),
        ("y", "last"): (sequence, ("sequence", None, "state"), ()),
    }
    return connected(declared("one_step", ("x", "state"), nodes, ("y", "last"), optional=1))


@layer
def _sequence_of_one() -> Layer:
    """Return (batch, features) as a sequence (batch, 1, features)."""

    def apply(params: Params, x: Array) -> tuple[Array, None]:
        check_arrays(x, "one_step")
        if not isinstance(x, np.ndarray) or x.ndim != 2:
            raise ValueError(
                f"one_step: the input is x or (x, state), where x is (batch, features), got "
                f"{describe(x)}"
            )
        return x[:, None], None

    def backward(params: Params, cache: None, g: Array) -> tuple[None, Array]:
        return None, g[:, 0]

    return Layer(no_params, apply, backward, lambda shape: (1, *shape))


def _with_arguments(name: str, inner: Layer, **changes: Any) -> Layer:
    """Return a recurrent layer from the same call with changed arguments."""
    bound = _call_of(name, inner, *changes)
    if bound.arguments["reverse"]:
        raise ValueError(f"{name}: expected a layer that runs forward, got {inner!r}")
    bound.arguments.update(changes)
    assert inner.call is not None
    return inner.call.constructor(*bound.args, **bound.kwargs)  # type: ignore[return-value]


def _call_of(name: str, inner: Any, *needed: str) -> inspect.BoundArguments:
    """Return all arguments of the call that built a recurrent layer, including defaults."""
    call = inner.call if isinstance(inner, Layer) else None
    signature = None if call is None else inspect.signature(call.constructor)
    if call is None or signature is None or not {"reverse", *needed} <= signature.parameters.keys():
        raise TypeError(
            f"{name}: expected a recurrent layer, as in {name}(lstm(64)), got {shown(inner)}"
        )
    bound = signature.bind(*call.positional, **call.keywords)
    bound.apply_defaults()
    return bound
