"""Dual numbers: arrays that compute derivatives with NumPy's functions.

A number ``a + i h b`` holds the value a and the tangent b. For an analytic function f,
``f(a + i h b) = f(a) + i h f'(a) b + O(h²)``. With ``h = 2^(-332)`` the last term is smaller than
any rounding error, and no difference of nearby numbers loses digits. So the derivative is exact to
rounding. The data type is complex128, so a workspace of the same type can hold dual numbers, too.

The class :class:`Dual` marks these arrays. Layers accept them, and still refuse other complex
arrays. The class replaces the functions that are not analytic. Comparisons, maxima and indices of
maxima follow the values; ``|x|`` and the sign have the tangents of real numbers; no product
conjugates. A function without a rule raises an error. A workspace has lost the mark, so the layers
write ``np.vecdot(a.conj(), b)``, which conjugates nothing, and costs nothing for floats.

Squire, Trapp: Using complex variables to estimate derivatives of real functions, 1998, equation 6.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional._dual_rules import rule_of

__all__ = [
    "Dual",
    "as_dual",
    "dual",
    "is_dual",
    "lifted",
    "register_with_autograd",
    "tangent_of",
    "value_of",
]

# The h. Products of two tangents underflow to zero, and a power of two keeps all digits.
STEP = 2.0**-332

Array = np.ndarray[Any, Any]


def dual(value: Array, tangent: Array | None) -> Array:
    """Return value + i h tangent; without a tangent it is zero."""
    array = np.zeros(value.shape, np.complex128)
    array.real = value
    if tangent is not None:
        array.imag = tangent
        array.imag *= STEP
    return array.view(Dual)


def as_dual(array: Any) -> Any:
    """Return complex arrays of dual numbers as :class:`Dual`, and all other values unchanged."""
    if isinstance(array, np.ndarray | np.generic) and array.dtype.kind == "c":
        return np.asarray(array).view(Dual)
    return array


def lifted(
    function: Callable[[Array], Array], derivative: Callable[[Array], Array], x: Array
) -> Array:
    """Return f(a) + i h f'(a) b, for a function and its derivative at floats."""
    values = value_of(x)
    return dual(function(values), derivative(values) * tangent_of(x))


@functools.cache
def register_with_autograd() -> None:
    """Let the library autograd trace dual numbers."""
    from autograd.numpy.numpy_boxes import ArrayBox
    from autograd.numpy.numpy_vspaces import ComplexArrayVSpace

    ArrayBox.register(Dual)
    ComplexArrayVSpace.register(Dual)


def is_dual(array: Any) -> bool:
    """Whether a value is an array of dual numbers."""
    return isinstance(array, Dual) and array.dtype.kind == "c"


def value_of(array: Array) -> Array:
    """Return the values in a new array."""
    values: Array = np.array(_plain(array).real)
    return values


def tangent_of(array: Array) -> Array:
    """Return the tangents in a new array; zeros for an array without tangents."""
    plain = _plain(array)
    tangents: Array = plain.imag / STEP if plain.dtype.kind == "c" else np.zeros_like(plain)
    return tangents


class Dual(np.ndarray):
    """An array of dual numbers ``a + i h b``, in complex128."""

    __array_priority__ = 1.0

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any
    ) -> Any:
        """Compute values and tangents."""
        targets = tuple(map(_plain, out))
        result = _computed(ufunc, method, list(map(_plain, inputs)), targets, options)
        if out:
            return out[0] if len(out) == 1 else out
        return tuple(map(as_dual, result)) if isinstance(result, tuple) else as_dual(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Call a function of NumPy; its results are dual numbers, too."""
        if function in _REFUSED:
            raise TypeError(
                f"np.{function.__name__} has no derivative in dual numbers, because it conjugates "
                f"complex numbers; write it with sums and products, as in np.sqrt(np.sum(x * x))"
            )
        if function is np.count_nonzero:
            return np.count_nonzero(_plain(args[0]).real, *args[1:], **kwargs)
        result = super().__array_function__(function, types, args, kwargs)
        return (
            type(result)(map(as_dual, result))
            if type(result) in (tuple, list)
            else (as_dual(result))
        )

    def __getitem__(self, index: Any) -> Any:
        """Return a part; a single number is a dual number, too."""
        return as_dual(super().__getitem__(index))

    def __float__(self) -> float:
        """Raise, because a Python number would lose the tangent."""
        if self.dtype.kind == "c":
            raise TypeError("a Python number has no derivative; compute with NumPy's functions")
        return float(_plain(self))

    def __int__(self) -> int:
        """Raise, because a Python number would lose the tangent."""
        return int(float(self))

    def __bool__(self) -> bool:
        """Whether the value is not zero."""
        return bool(_plain(self).real)

    def item(self, *index: Any) -> Any:
        """Return a NumPy scalar, which keeps the tangent and can be compared."""
        plain = _plain(self)
        return plain[index] if len(index) > 1 else plain.reshape(-1)[index or 0]

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        """Return dual numbers for a type of floats, and converted values for ints and booleans."""
        plain, kind = _plain(self), np.dtype(dtype).kind
        if plain.dtype.kind != "c" or kind == "c":
            return as_dual(plain.astype(dtype, *args, **options))
        if kind == "f":
            return self if options.get("copy") is False else self.copy()
        return plain.real.astype(dtype, *args, **options)

    def clip(self, min: Any = None, max: Any = None, out: Any = None, **options: Any) -> Any:  # noqa: A002
        """Return the values within bounds.

        At a single bound the derivative of the lower side counts; at two bounds, the flat side.
        """
        if self.dtype.kind != "c":
            return super().clip(min, max, out, **options)
        if isinstance(min, Dual) or isinstance(max, Dual):
            raised = self if min is None else np.maximum(self, min)
            return np.minimum(raised, np.inf if max is None else max, out=out)
        x = _plain(self)
        low, high = -np.inf if min is None else min, np.inf if max is None else max
        inside = (x.real > low) & (x.real < high if np.all(np.isfinite(low)) else x.real <= high)
        result = np.empty(x.shape, np.complex128) if out is None else _plain(out)
        result.imag = np.where(inside, x.imag, 0)
        result.real = np.clip(x.real, low, high)
        return as_dual(result) if out is None else out

    def argmax(self, axis: Any = None, out: Any = None, **options: Any) -> Any:
        """Return the index of the first largest value."""
        return _plain(self).real.argmax(axis, out, **options)

    def argmin(self, axis: Any = None, out: Any = None, **options: Any) -> Any:
        """Return the index of the first smallest value."""
        return _plain(self).real.argmin(axis, out, **options)

    def nonzero(self) -> Any:
        """Return the indices of the values that are not zero."""
        return _plain(self).real.nonzero()

    def dot(self, other: Any, out: Any = None) -> Any:
        """Return the product of vectors or matrices."""
        return as_dual(np.dot(_plain(self), _plain(other), _plain(out)))

    def var(  # type: ignore[override]
        self, axis: Any = None, dtype: Any = None, out: Any = None, **options: Any
    ) -> Any:
        """Return the variance, without complex conjugates."""
        keepdims, ddof = options.pop("keepdims", False), options.pop("ddof", 0)
        centered = self - self.mean(axis, keepdims=True, **options)
        squares = np.add.reduce(centered * centered, axis, keepdims=keepdims, **options)
        count = centered.size // np.size(squares) if np.size(squares) else 0
        return np.divide(squares, count - ddof, out=out)

    def std(  # type: ignore[override]
        self, axis: Any = None, dtype: Any = None, out: Any = None, **options: Any
    ) -> Any:
        """Return the standard deviation, without complex conjugates."""
        return np.sqrt(self.var(axis, dtype, **options), out=out)


_REFUSED = {np.vdot, np.cov, np.corrcoef, np.linalg.norm, np.linalg.svd, np.linalg.qr}
_REFUSED |= {np.linalg.cholesky, np.linalg.eigh, np.linalg.eigvalsh, np.linalg.pinv}
_REFUSED |= {np.linalg.lstsq, np.linalg.eig, np.linalg.eigvals, np.real, np.imag, np.angle}
_REFUSED |= {np.linalg.svdvals, np.linalg.matrix_norm, np.linalg.vector_norm, np.linalg.cond}


def _plain(array: Any) -> Any:
    return array.view(np.ndarray) if isinstance(array, Dual) else array


def _computed(ufunc: np.ufunc, method: str, given: list[Any], out: Any, options: Any) -> Any:
    """Return the results of a ufunc; write them into `out` if it is not empty."""
    has_tangents = any(getattr(each, "dtype", None) == np.complex128 for each in given)
    rule = rule_of(ufunc, method) if has_tangents else None
    if has_tangents and np.dtype(options.get("dtype") or np.complex128).kind == "f":
        options = {**options, "dtype": None}
    if rule is None:
        return getattr(ufunc, method)(*given, **({"out": out} if out else {}), **options)
    where = options.pop("where", True)
    result = rule(*given, **{name: options[name] for name in options if name not in _IGNORED})
    parts = result if isinstance(result, tuple) else (result,)
    if where is not True and not out:
        raise TypeError(f"np.{ufunc.__name__}: dual numbers with where= need out=")
    for target, part in zip(out, parts, strict=False):
        np.copyto(target, part, where=where)
    return result


# Options that do not change the result of a rule.
_IGNORED = ("dtype", "casting", "order", "subok")
