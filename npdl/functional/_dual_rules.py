"""Rules of dual numbers: NumPy's functions whose complex form differs from the derivative.

The arrays here are plain, with the value as real part and the tangent, times h, as imaginary part.
An array of floats is a constant.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["rule_of"]

Array = np.ndarray[Any, Any]
Rule = Callable[..., Any]

# Functions of the values alone.
_DECISIONS: set[np.ufunc] = {
    np.equal,
    np.not_equal,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
}
_DECISIONS |= {np.isfinite, np.isinf, np.isnan, np.signbit}
_DECISIONS |= {np.logical_and, np.logical_not, np.logical_or, np.logical_xor}
# Functions with the derivative zero.
_STEPS: set[np.ufunc] = {np.sign, np.floor, np.ceil, np.trunc, np.rint, np.heaviside}

# The derivative of y = f(x), computed from x and y.
_DERIVATIVES: dict[np.ufunc, Callable[[Array, Array], Any]] = {
    np.absolute: lambda x, y: np.where(x > 0, 1.0, -1.0),
    np.fabs: lambda x, y: np.where(x > 0, 1.0, -1.0),
    np.sqrt: lambda x, y: 0.5 / y,
    np.cbrt: lambda x, y: 1 / (3 * y * y),
    np.reciprocal: lambda x, y: -y * y,
    np.exp: lambda x, y: y,
    np.exp2: lambda x, y: np.log(2.0) * y,
    np.expm1: lambda x, y: y + 1,
    np.log: lambda x, y: 1 / x,
    np.log2: lambda x, y: 1 / (np.log(2.0) * x),
    np.log10: lambda x, y: 1 / (np.log(10.0) * x),
    np.log1p: lambda x, y: 1 / (1 + x),
    np.sin: lambda x, y: np.cos(x),
    np.cos: lambda x, y: -np.sin(x),
    np.tan: lambda x, y: 1 + y * y,
    np.arcsin: lambda x, y: 1 / np.sqrt(1 - x * x),
    np.arccos: lambda x, y: -1 / np.sqrt(1 - x * x),
    np.arctan: lambda x, y: 1 / (1 + x * x),
    np.sinh: lambda x, y: np.cosh(x),
    np.cosh: lambda x, y: np.sinh(x),
    np.tanh: lambda x, y: 1 - y * y,
    np.arcsinh: lambda x, y: 1 / np.sqrt(1 + x * x),
    np.arccosh: lambda x, y: 1 / np.sqrt(x * x - 1),
    np.arctanh: lambda x, y: 1 / (1 - x * x),
}
# The same for y = f(a, b), in a and in b.
_PARTIALS: dict[np.ufunc, tuple[Callable[..., Any], Callable[..., Any]]] = {
    np.power: (lambda a, b, y: b * np.power(a, b - 1), lambda a, b, y: np.log(a) * y),
    np.float_power: (lambda a, b, y: b * np.power(a, b - 1), lambda a, b, y: np.log(a) * y),
    np.hypot: (lambda a, b, y: a / y, lambda a, b, y: b / y),
    np.arctan2: (
        lambda a, b, y: b / (a * a + b * b),
        lambda a, b, y: -a / (a * a + b * b),
    ),
    np.logaddexp: (lambda a, b, y: np.exp(a - y), lambda a, b, y: np.exp(b - y)),
    np.copysign: (lambda a, b, y: np.where(a * y > 0, 1.0, -1.0), lambda a, b, y: 0.0),
}
_LARGEST: set[np.ufunc] = {np.maximum, np.fmax}
_SMALLEST: set[np.ufunc] = {np.minimum, np.fmin}
# Products that conjugate their first factor; `vecmat` is missing in NumPy 2.0.
_CONJUGATING = {np.vecdot, getattr(np, "vecmat", np.vecdot)}


def rule_of(ufunc: np.ufunc, method: str) -> Rule | None:
    """Return the rule of a function, or `None` if the complex function is the rule.

    Raises
    ------
    TypeError
        If the function has a rule, but not in this form, such as `np.maximum.accumulate`.
    """
    if ufunc in _DECISIONS:
        return lambda *given, **options: getattr(ufunc, method)(*map(_re, given), **options)
    if method == "reduce" and ufunc in _LARGEST | _SMALLEST:
        return functools.partial(_reduced, ufunc)
    rule = _rules().get(ufunc)
    if rule is not None and method != "__call__":
        if ufunc in _EXACT:
            return None
        raise TypeError(f"np.{ufunc.__name__}.{method} has no rule for dual numbers")
    return rule


# Functions whose rule only avoids 0 · inf or saves time.
_EXACT = {np.multiply, np.divide}


@functools.cache
def _rules() -> dict[np.ufunc, Rule]:
    rules: dict[np.ufunc, Rule] = {
        np.conjugate: lambda x: x.copy(),
        np.ldexp: lambda x, n: _joined(np.ldexp(_re(x), n), np.ldexp(_im(x), n)),
        np.frexp: _frexp,
        np.multiply: functools.partial(_scaled, np.multiply),
        np.divide: functools.partial(_scaled, np.divide),
    }
    for ufunc in _STEPS:
        rules[ufunc] = functools.partial(_step, ufunc)
    for ufunc in _DERIVATIVES:
        rules[ufunc] = functools.partial(_lifted, ufunc)
    for ufunc in _PARTIALS:
        rules[ufunc] = functools.partial(_lifted_of_two, ufunc)
    for ufunc in _LARGEST | _SMALLEST:
        rules[ufunc] = functools.partial(_selected, ufunc)
    for ufunc in _CONJUGATING:
        rules[ufunc] = functools.partial(_unconjugated, ufunc)
    return rules


def _re(x: Any) -> Any:
    return np.asarray(x).real


def _im(x: Any) -> Any:
    return x.imag if _is_dual(x) else 0.0


def _is_dual(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "c"


def _joined(value: Any, tangent: Any) -> Array:
    """Return value + i tangent, also for infinite values."""
    value = np.asarray(value)
    result = np.empty(value.shape, np.complex128)
    result.real, result.imag = value, tangent
    return result


def _times(derivative: Any, tangent: Any) -> Array:
    """Return the product; a tangent of zero gives zero, also at a pole."""
    derivative, tangent = np.broadcast_arrays(derivative, tangent)
    product: Array = np.zeros(tangent.shape)
    np.multiply(derivative, tangent, out=product, where=tangent != 0)
    return product


def _step(ufunc: np.ufunc, *given: Any) -> Any:
    return ufunc(*map(_re, given)).astype(np.complex128)


def _lifted(ufunc: np.ufunc, x: Array) -> Array:
    y = ufunc(x.real)
    with np.errstate(all="ignore"):
        return _joined(y, _times(_DERIVATIVES[ufunc](x.real, y), x.imag))


def _lifted_of_two(ufunc: np.ufunc, a: Any, b: Any) -> Array:
    y = ufunc(_re(a), _re(b))
    tangent: Any = 0.0
    with np.errstate(all="ignore"):
        for partial, each in zip(_PARTIALS[ufunc], (a, b), strict=True):
            if _is_dual(each):
                tangent = tangent + _times(partial(_re(a), _re(b), y), each.imag)
    return _joined(y, tangent)


def _scaled(ufunc: np.ufunc, a: Any, b: Any, **options: Any) -> Any:
    """Return the product with a constant, or the quotient: complex numbers give 0 · inf = NaN."""
    if _is_dual(b):
        if _is_dual(a) or ufunc is np.divide:
            return ufunc(a, b)
        a, b = b, a
    return _joined(ufunc(a.real, b), ufunc(a.imag, b))


def _selected(ufunc: np.ufunc, a: Any, b: Any) -> Array:
    """Return the elements of the larger (smaller) value.

    For equal values, a constant is larger than a variable, as in ``max(x, 0)`` with the derivative
    0 at 0. Otherwise the first one counts.
    """
    of_a, of_b = _re(a), _re(b)
    strict = _is_dual(a) != _is_dual(b) and _is_dual(a) == (ufunc in _LARGEST)
    if ufunc in _LARGEST:
        first = of_a > of_b if strict else of_a >= of_b
    else:
        first = of_a < of_b if strict else of_a <= of_b
    first |= np.isnan(of_b if ufunc in (np.fmax, np.fmin) else of_a)
    chosen: Array = np.where(first, a, b).astype(np.complex128, copy=False)
    return chosen


def _reduced(
    ufunc: np.ufunc,
    x: Array,
    axis: Any = 0,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the first largest (smallest) element along axes."""
    if where is not True:
        raise TypeError(f"np.{ufunc.__name__}.reduce with where= has no rule for dual numbers")
    axes = range(x.ndim) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    last = sorted(each % x.ndim for each in axes)
    rest = [each for each in range(x.ndim) if each not in last]
    rows = x.transpose(*rest, *last).reshape(*(x.shape[each] for each in rest), -1)
    if rows.shape[-1]:
        choose = np.argmax if ufunc in _LARGEST else np.argmin
        index = choose(rows.real, axis=-1)[..., None]
        result = np.take_along_axis(rows, index, -1)[..., 0]
    else:
        result = ufunc.reduce(rows, axis=-1, **({} if initial is None else {"initial": initial}))
    if initial is not None:
        result = _selected(ufunc, result, initial)
    return np.expand_dims(result, tuple(last)) if keepdims else result


def _unconjugated(ufunc: np.ufunc, a: Any, b: Any, **options: Any) -> Any:
    return ufunc(np.conjugate(a), b, **options)


def _frexp(x: Array) -> tuple[Array, Array]:
    mantissa, exponent = np.frexp(x.real)
    return _joined(mantissa, x.imag * 2.0**-exponent), exponent
