"""Dual numbers: each function of NumPy has the tangent of its derivative, or raises an error."""

import numpy as np
import pytest

from npdl.functional._dual import Dual, as_dual, dual, is_dual, tangent_of, value_of

X = np.array([[0.3, -0.7, 1.9], [-1.2, 0.4, 0.8]])
T = np.array([[1.0, 2.0, -0.5], [0.7, -1.1, 0.2]])
POSITIVE, UNIT = np.abs(X) + 0.1, X / 2

UNARY = {
    "abs": (np.abs, X),
    "sign": (np.sign, X),
    "floor": (np.floor, X),
    "rint": (np.rint, X),
    "fabs": (np.fabs, X),
    "negative": (np.negative, X),
    "square": (np.square, X),
    "conjugate": (np.conj, X),
    "reciprocal": (np.reciprocal, X),
    "sqrt": (np.sqrt, POSITIVE),
    "cbrt": (np.cbrt, X),
    "exp": (np.exp, X),
    "exp2": (np.exp2, X),
    "expm1": (np.expm1, X),
    "log": (np.log, POSITIVE),
    "log2": (np.log2, POSITIVE),
    "log10": (np.log10, POSITIVE),
    "log1p": (np.log1p, POSITIVE),
    "sin": (np.sin, X),
    "cos": (np.cos, X),
    "tan": (np.tan, X),
    "arcsin": (np.arcsin, UNIT),
    "arccos": (np.arccos, UNIT),
    "arctan": (np.arctan, X),
    "sinh": (np.sinh, X),
    "cosh": (np.cosh, X),
    "tanh": (np.tanh, X),
    "arcsinh": (np.arcsinh, X),
    "arccosh": (np.arccosh, POSITIVE + 1),
    "arctanh": (np.arctanh, UNIT),
    "sum": (np.sum, X),
    "mean of rows": (lambda x: x.mean(axis=1), X),
    "cumsum": (np.cumsum, X),
    "prod": (lambda x: np.prod(x, axis=0), X),
    "max": (np.max, X),
    "max of rows": (lambda x: x.max(axis=1, keepdims=True), X),
    "min of columns": (lambda x: x.min(axis=0, initial=0.0), X),
    "var": (lambda x: x.var(axis=1, ddof=1), X),
    "std": (np.std, X),
    "clip": (lambda x: np.clip(x, -0.5, 0.5), X),
    "clip from below": (lambda x: x.clip(0.0, np.inf), X),
    "clip from above": (lambda x: x.clip(None, 0.5), X),
    "power": (lambda x: x**3, X),
    "root": (lambda x: x**0.5, POSITIVE),
    "exponent": (lambda x: 2.0**x, X),
    "where": (lambda x: np.abs(np.where(x > 0.35, x, 0.1 * x)), X),
    "sort": (lambda x: np.sort(x, axis=1), X),
    "concatenate": (lambda x: np.abs(np.concatenate([x, x[:1]])), X),
    "stack": (lambda x: np.abs(np.stack([x, -x])), X),
    "single number": (lambda x: np.abs(x[0, 1]), X),
    "argmax": (lambda x: x[0, x[0].argmax()], X),
    "matmul": (lambda x: x @ x.T, X),
    "vecdot": (lambda x: np.vecdot(x, x), X),
    "einsum": (lambda x: np.einsum("ij,ij->i", x, x), X),
    "solve": (lambda x: np.linalg.solve(x[:, :2], x[:, 2:]), X),
    "det": (lambda x: np.linalg.det(x[:, :2]), X),
    "ldexp": (lambda x: np.ldexp(x, 3), X),
    "frexp": (lambda x: np.frexp(x)[0], X),
    "to float": (lambda x: x.astype(np.float64) * 2, X),
    "in place": (lambda x: np.multiply(x, 2.0, out=x.copy()), X),
    "diff": (lambda x: np.diff(x, axis=1), X),
    "divide a constant": (lambda x: 1.5 / x, X),
    "divide by a constant": (lambda x: x / 3, X),
    "logaddexp": (lambda x: np.logaddexp(x, 1.0), X),
    "hypot": (lambda x: np.hypot(x, 2.0), X),
    "arctan2": (lambda x: np.arctan2(x, x * x), X),
    "copysign": (lambda x: np.copysign(x, -1.0), X),
    "maximum": (lambda x: np.maximum(x, -x), X),
    "minimum": (lambda x: np.minimum(x, 0.5), X),
    "fmax": (lambda x: np.fmax(0.1, x), X),
}


@pytest.mark.parametrize("name", UNARY)
def test_a_function_has_the_tangent_of_its_derivative(name):
    function, x = UNARY[name]
    found = function(dual(x, T))
    step = 1e-6
    numeric = (function(x + step * T) - function(x - step * T)) / (2 * step)
    np.testing.assert_allclose(value_of(found), function(x), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(tangent_of(found), numeric, rtol=1e-8, atol=1e-8)
    assert is_dual(found) or name in ("divide by a constant",)


DECISIONS = {
    "less": lambda x: x < 0.2,
    "equal": lambda x: x == 0.4,
    "finite": np.isfinite,
    "any": lambda x: (x > 1).any(),
    "all": np.all,
    "argmax": lambda x: x.argmax(axis=1),
    "argmin": np.argmin,
    "nonzero": lambda x: np.count_nonzero(x - 0.4),
    "ints": lambda x: (x * 10).astype(int),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_follows_the_values(name):
    found, expected = DECISIONS[name](dual(X, T)), DECISIONS[name](X)
    assert np.array_equal(found, expected)
    assert not is_dual(found)


def test_equal_values_with_other_tangents_are_equal():
    a, b = dual(np.zeros(3), np.array([1.0, 2.0, -1.0])), dual(np.zeros(3), None)
    assert np.all(a == b)
    assert not np.any(a > b)
    assert a.argmax() == 0
    assert np.array_equal(tangent_of(np.maximum(a, b)), [1.0, 2.0, -1.0])
    assert np.array_equal(tangent_of(np.maximum(a, 0.0)), [0.0, 0.0, 0.0])
    assert np.array_equal(tangent_of(np.minimum(0.0, a)), [1.0, 2.0, -1.0])


def test_infinite_values_have_finite_tangents():
    x = dual(np.array([-np.inf, 1.0]), np.array([0.0, 1.0]))
    assert np.array_equal(tangent_of(np.exp(x * 2.0)), [0.0, 2 * np.exp(2.0)])
    with np.errstate(divide="ignore"):
        assert tangent_of(np.sqrt(dual(np.zeros(1), np.zeros(1))))[0] == 0


REFUSED = {
    "norm": np.linalg.norm,
    "vdot": lambda x: np.vdot(x, x),
    "svd": np.linalg.svd,
    "real": np.real,
    "float": lambda x: float(x[0, 0]),
    "accumulate": lambda x: np.maximum.accumulate(x, axis=0),
    "remainder": lambda x: np.remainder(x, 1.0),
    "into floats": lambda x: np.add(x, x, out=np.empty(x.shape)),
    "exp into floats": lambda x: np.exp(x, out=np.empty(x.shape)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_without_a_rule_raises(name):
    with pytest.raises(TypeError):
        REFUSED[name](dual(X, T))


def test_workspaces_of_the_same_type_hold_dual_numbers():
    x = dual(X, T)
    workspace = np.empty(x.shape, x.dtype)
    np.exp(x, out=workspace)
    assert type(workspace) is np.ndarray
    assert is_dual(as_dual(workspace))
    np.testing.assert_allclose(tangent_of(workspace), np.exp(X) * T)
    assert isinstance(np.empty_like(x), Dual)
    assert as_dual(X) is X
