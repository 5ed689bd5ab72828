"""Checks of arrays and of their shapes: one module, and one form of message.

Each check takes the name of a layer or function; the message begins with this name. Hot paths test
``type(x) is np.ndarray`` and the data type inline, and call these checks for all other values.
"""

from collections.abc import Set
from typing import Any

import numpy as np

from npdl import tree
from npdl.functional._checks import is_int
from npdl.functional._dual import Dual, is_dual
from npdl.tree import Array

__all__ = [
    "DOUBLE",
    "SINGLE",
    "check_array",
    "check_arrays",
    "check_class",
    "check_example",
    "check_float",
    "check_mask",
    "check_names",
    "check_params",
    "check_types",
    "conversion",
    "describe",
    "is_data",
    "is_example",
    "is_float",
    "is_float_array",
    "is_several",
    "other_layer",
    "plain_array",
]

# The data types of layers, as NumPy's own objects: "is" takes a third of the time of "==".
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def check_class(x: Any, name: str) -> None:
    """Raise unless `x` is an array of NumPy's own class, in memory or mapped from a file.

    Masked arrays, `np.matrix` and other subclasses change the meaning of arithmetic.
    """
    kind = type(x)
    if not (kind is np.ndarray or kind is np.memmap or isinstance(x, np.generic | Dual)):
        given = describe(x) if isinstance(x, np.ndarray) else kind.__name__
        raise TypeError(f"{name}: expected a NumPy array, got {given}; {conversion(x)}")


def plain_array(values: Any, name: str) -> Array:
    """Return values as an array; raise for subclasses, because `np.asarray` drops their meaning."""
    if isinstance(values, np.ndarray):
        check_class(values, name)
    return np.asarray(values)


def check_array(x: Any, name: str) -> None:
    """Raise unless `x` is of NumPy's own class and not float16 or bfloat16.

    These two types are for files only. The hot path of a layer tests ``type(x) is np.ndarray``
    before it calls this check.
    """
    check_class(x, name)
    if x.dtype.kind in "fV" and not is_float(x.dtype):
        raise TypeError(
            f"{name}: expected float32 or float64, got {describe(x)}; "
            f"convert it with x.astype(np.float32)"
        )


def check_arrays(x: Any, name: str) -> None:
    """Apply :func:`check_array` to all arrays of a tree; other leaves are ignored."""
    if type(x) is np.ndarray and x.dtype is SINGLE:
        return
    for leaf in tree.leaves(x):
        if isinstance(leaf, np.ndarray):
            check_array(leaf, name)


def is_data(x: Any) -> bool:
    """Whether `x` is an array of NumPy's own class, of ints, booleans, float32 or float64."""
    if type(x) is not np.ndarray and type(x) is not np.memmap:
        return False
    return x.dtype.kind in "iub" or is_float(x.dtype)


def conversion(x: Any) -> str:
    """Return the advice at the end of an error's message: the call that converts `x`."""
    if type(x) is np.ndarray:
        return "convert it with x.astype(np.float32)"
    if isinstance(x, np.ma.MaskedArray):
        return "fill it with x.filled(0), or drop its mask with np.asarray(x)"
    if hasattr(x, "toarray"):
        return "convert it with x.toarray()"
    if type(x).__module__.partition(".")[0] == "torch":
        return "convert it with np.asarray(x.detach().cpu())"
    return "convert it with np.asarray(x)"


def is_float(dtype: Any) -> bool:
    """Whether layers compute in this data type: float32 or float64."""
    return dtype is SINGLE or dtype is DOUBLE or (dtype.kind == "f" and dtype.itemsize in (4, 8))


def is_float_array(leaf: Any) -> bool:
    """Whether a leaf of a tree is a NumPy array or scalar of floats of any size."""
    return isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind == "f"


def check_float(x: Any, name: str, dtype: Any = None) -> None:
    """Raise unless `x` is an array of float32 or float64 (of the type `dtype`)."""
    if type(x) is not np.ndarray:
        check_array(x, name)
    given = x.dtype
    if (is_float(given) or is_dual(x)) and (dtype is None or given == dtype):
        return
    if not is_float(given):
        advice = "convert it with x.astype(np.float32)"
        if given.kind == "c":
            advice = "pass x.real and x.imag; for F.jvp, declare the F.parts of your own combinator"
        raise TypeError(
            f"{name}: expected an array of floats, got {describe(x)}; layers take float32 and "
            f"float64: {advice}"
        )
    if not is_float(dtype):
        raise _params_type(name, dtype)
    raise TypeError(
        f"{name}: the input is {describe(x)}, but the parameters are {dtype}, and nothing is "
        f"promoted silently; convert one of them: x.astype(np.{dtype}) or "
        f"npdl.tree.astype(params, np.{given})"
    )


def check_params(name: str, params: Any, shapes: dict[str, tuple[Any, ...]]) -> None:
    """Raise unless the parameters of a layer are arrays of these shapes, of one data type."""
    if isinstance(params, dict) and params.keys() == shapes.keys():
        check_types(name, params)
        if all(params[key].shape == shape for key, shape in shapes.items()):
            return
    wanted = ", ".join(f"{key}: {list(shape)}" for key, shape in shapes.items())
    raise other_layer(name, f"shapes {{{wanted}}}", params)


def check_names(name: str, params: Any, names: Set[str]) -> None:
    """Raise unless the parameters of a layer are a dict with these names."""
    if not isinstance(params, dict) or params.keys() != names:
        raise other_layer(name, f"names {', '.join(sorted(names)) or '(none)'}", params)


def other_layer(name: str, wanted: str, params: Any) -> ValueError:
    """Return the error for parameters that do not have the names or shapes of a layer."""
    return ValueError(
        f"{name}: this layer takes params with the {wanted}, got {describe(params)}; are they of "
        f"another layer?"
    )


def check_types(name: str, params: dict[str, Any]) -> Any:
    """Return the data type of a layer's parameters, or raise unless it is float32 or float64."""
    dtype = None
    for key, array in params.items():
        if type(array) is not np.ndarray:
            check_array(array, f"{name}, params[{key!r}]")
        if array.dtype is not dtype:
            if not (is_float(array.dtype) or is_dual(array)):
                raise _params_type(name, array.dtype)
            if dtype is not None and array.dtype != dtype:
                raise ValueError(
                    f"{name}: this layer takes params of one data type, got {describe(params)}; "
                    f"are they of another layer? npdl.tree.astype(params, np.{dtype}) converts them"
                )
            dtype = array.dtype
    return dtype


def _params_type(name: str, given: Any) -> TypeError:
    return TypeError(
        f"{name}: expected params of float32 or float64, got {given}; convert them with "
        f"npdl.tree.astype(params, np.float32)"
    )


def check_mask(name: str, mask: Any, x: Array, role: str = "input") -> None:
    """Raise unless the mask is `None`, or a boolean for each step of (batch, time, ...)."""
    if mask is None:
        return
    if isinstance(mask, np.ndarray) and type(mask) is not np.ndarray:
        check_array(mask, f"{name}, mask")
    batch, time = x.shape[:2]
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (batch, time):
        raise ValueError(
            f"{name}: for the {role} {describe(x)} the mask must be bool[{batch}, {time}], true "
            f"at steps with data, got {describe(mask)}"
        )


def describe(value: Any) -> str:
    """Describe arrays by type and shape, such as ``float32[32, 7]``, and tuples of arrays."""
    if isinstance(value, np.ndarray | np.generic):
        kind = type(value)
        plain = kind is np.ndarray or kind is np.memmap or isinstance(value, np.generic)
        return f"{'' if plain else f'{kind.__name__} '}{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(describe(item) for item in value)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}"
    return "None" if value is None else type(value).__name__


def is_example(
    shape: Any, axes: int | None = None, known: int | None = None, least: int = 0
) -> bool:
    """Whether a value is the shape of one example: its sizes, without the batch.

    Parameters
    ----------
    shape : object
        The value.
    axes : int, optional
        The number of sizes; by default, any.
    known : int, optional
        Number of last sizes that must be ints; earlier sizes may be `None`, for any size. By
        default all sizes must be ints, with at least one size.
    least : int
        The smallest size.
    """
    if not isinstance(shape, tuple | list) or (axes is not None and len(shape) != axes):
        return False
    first = 0 if known is None else len(shape) - known
    sizes = [size for i, size in enumerate(shape) if size is not None or i >= first]
    enough = first >= 0 and (known is not None or len(shape) > 0)
    return enough and all(is_int(size) and size >= least for size in sizes)


def check_example(
    name: str,
    shape: Any,
    form: str = "such as (64,)",
    axes: int | None = None,
    known: int | None = None,
) -> None:
    """Raise unless `shape` is the shape of one example, as :func:`is_example` describes it."""
    if not is_example(shape, axes, known):
        raise ValueError(
            f"{name}: expected the shape of one example, {form}, got {shape!r}; init takes "
            f"(rng, shape)"
        )


def is_several(shape: Any) -> bool:
    """Whether an example has several inputs: a tuple of shapes in place of a shape."""
    return isinstance(shape, tuple | list) and any(isinstance(each, tuple | list) for each in shape)
