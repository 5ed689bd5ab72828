"""The shapes of one example at the inputs and outputs of layers, `None` for a dynamic size."""

import contextlib
from typing import Any

import attrs

from npdl._calls import shown
from npdl.functional._arrays import is_several
from npdl.functional._layer import Layer
from npdl.functional.combinators._children import short
from npdl.onnx._values import Value

__all__ = ["out_shape", "shapes_of", "with_shapes", "with_sizes"]


def shapes_of(x: Any) -> Any:
    """Return the shapes of values; `None` for a missing one."""
    return tuple(map(shapes_of, x)) if isinstance(x, tuple) else getattr(x, "shape", None)


def with_shapes(y: Any, shapes: Any, layer: Layer) -> Any:
    """Return the outputs of a rule with their shapes; `None` in a tuple is a missing output."""
    if isinstance(y, tuple):
        known = is_several(shapes) and len(shapes) == len(y)
        pairs = zip(y, shapes if known else (None,) * len(y), strict=True)
        return tuple(None if each is None else with_shapes(each, s, layer) for each, s in pairs)
    if not isinstance(y, Value):
        raise TypeError(
            f"npdl.onnx: the rule of {short(layer)} must return a value, such as "
            f"graph.node(…), or a tuple of values, got {shown(y)}"
        )
    return y if shapes is None else attrs.evolve(y, shape=tuple(shapes))


# Pairs of sizes in place of a dynamic one, the first pair that a layer accepts.
_SIZES = ((64, 4096), (8, 512), (2, 8), (1, 3))


def out_shape(layer: Layer, shape: Any) -> Any:
    """Return the shape of the output, with `None` for sizes that depend on dynamic ones.

    It is `None` as a whole if the layer cannot tell it.
    """
    try:
        return layer.out_shape(shape)
    except Exception:
        for sizes in _SIZES:
            with contextlib.suppress(Exception):
                return _common(*(layer.out_shape(with_sizes(shape, size)) for size in sizes))
        return None


def with_sizes(shape: Any, size: int) -> Any:
    """Return a shape, or several, with a number in place of dynamic sizes."""
    if shape is None:
        return None
    if is_several(shape):
        return tuple(with_sizes(each, size) for each in shape)
    return tuple(size if each is None else each for each in shape)


def _common(a: Any, b: Any) -> Any:
    if isinstance(a, tuple | list):
        return tuple(map(_common, a, b))
    return a if a == b else None
