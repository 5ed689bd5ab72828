"""The registry of rules: for each constructor of layers, a function that builds ONNX nodes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from npdl._calls import shown, signature_of
from npdl.functional._layer import Layer
from npdl.functional.layers._from_function import from_function

__all__ = ["Rule", "missing_rule", "rule", "rule_of"]

# rule(graph, params, *inputs, **arguments) -> value, or a tuple of values for several outputs
Rule = Callable[..., Any]
R = TypeVar("R", bound=Rule)

# The key is the undecorated constructor, or a name.
_RULES: dict[Any, Rule] = {}


def rule(constructor: str | Callable[..., Layer]) -> Callable[[R], R]:
    """Register the ONNX rule of a constructor of layers; a decorator.

    A rule is a function ``rule(graph, params, *inputs, **arguments)``. It adds nodes to the graph
    and returns the output, or a tuple of several outputs. The inputs are :class:`Value`, and `None`
    for a missing input. The arguments are all arguments of the constructor, including defaults.
    The rule describes the layer in evaluation mode. A new rule replaces the old one.

    Parameters
    ----------
    constructor : callable or str
        The constructor, a function decorated with ``F.layer``. A name is the name of your own
        constructor: it never replaces a rule of npdl.

    Raises
    ------
    TypeError
        If it is neither, or it is :func:`npdl.functional.from_function`, which builds different
        layers with the same name.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import onnx
    >>> @F.layer
    ... def scaled(by=2.0):
    ...     def init(rng, shape): return {"a": np.full((), by, np.float32)}
    ...     def apply(params, x): return params["a"] * x, x
    ...     def backward(params, x, g): return {"a": np.sum(g * x)}, params["a"] * g
    ...     return F.Layer(init, apply, backward)
    >>> @onnx.rule(scaled)
    ... def scaled_rule(graph, params, x, *, by):
    ...     return graph.node("Mul", x, params["a"])
    """
    is_constructor = hasattr(constructor, "is_constructor")
    key: Any = constructor if isinstance(constructor, str) else inspect.unwrap(constructor)
    if not (isinstance(constructor, str) or is_constructor) or key in _OPAQUE:
        raise TypeError(
            f"npdl.onnx.rule: expected a constructor decorated with F.layer, or its name, as in "
            f'@npdl.onnx.rule("scaled"), got {shown(constructor)}'
        )

    def register(function: R) -> R:
        _RULES[key] = function
        return function

    return register


def rule_of(layer: Layer) -> tuple[Rule, dict[str, Any]] | None:
    """Return the rule of a layer and the arguments of its constructor, or `None`."""
    call = None if is_changed(layer) else layer.call
    while call is not None and (key := inspect.unwrap(call.constructor)) not in _OPAQUE:
        # Constructors in extras of npdl are found by their path, without an import of the extra.
        name = f"{key.__module__}.{call.name}" if _is_ours(key) else call.name
        if function := _RULES.get(key) or _RULES.get(name):
            bound = signature_of(key).bind(*call.positional, **call.keywords)
            bound.apply_defaults()
            return function, bound.arguments
        call = call.inner
        # A constructor may change the layer that another constructor has built.
        if call is not None and _code(call.repeat()) is not _code(layer):
            return None
    return None


def _is_ours(function: Any) -> bool:
    return function.__module__.startswith("npdl.")  # type: ignore[no-any-return]


def is_changed(layer: Layer) -> bool:
    """Whether a layer has another forward function than its constructor builds."""
    return layer.call is not None and _code(layer.call.repeat()) is not _code(layer)


def _code(layer: Any) -> Any:
    function = getattr(layer.apply, "plain", layer.apply)
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__code__", type(function))


_OPAQUE = (inspect.unwrap(from_function), "from_function")


def missing_rule(layer: Layer, places: list[tuple[str, str]]) -> NotImplementedError:
    """Return the error of a layer without a rule; it shows how to add one."""
    call, place = layer.call, " → ".join(f"{name}[{label}]" for name, label in places)
    where = f" in {place}" if place else ""
    if is_changed(layer):
        return NotImplementedError(
            f"npdl.onnx: {shown(layer)}{where} has changed functions, so rules do not apply to it; "
            f"return it from your own constructor, decorated with @F.layer, and add a rule for that"
        )
    if call is None:
        return NotImplementedError(
            f"npdl.onnx: this layer{where} has no constructor, and rules belong to constructors; "
            f'return it from a function decorated with @F.layer, and add @npdl.onnx.rule("name")'
        )
    if inspect.unwrap(call.constructor) in _OPAQUE:
        return NotImplementedError(
            f"npdl.onnx: from_function{where} can have no rule, because its function is only known "
            f"in Python; return the layer from your own constructor, decorated with @F.layer, and "
            f'add a rule for it: @npdl.onnx.rule("name")'
        )
    module, name = call.constructor.__module__, call.name
    key = f"{module}.{name}" if _is_ours(call.constructor) else f'"{name}"'
    arguments = "".join(f", {word}" for word in signature_of(call.constructor).parameters)
    return NotImplementedError(
        f"npdl.onnx: {shown(layer)}{where} has no rule; add one, such as\n"
        f"@npdl.onnx.rule({key})\n"
        f"def {name}_rule(graph, params, x{', *' if arguments else ''}{arguments}):\n"
        f'    return graph.node("Relu", x)'
    )
