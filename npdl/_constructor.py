"""Values that store the call of their constructor.

A layer is a record of closures. Python cannot print, compare or pickle closures, nor write them as
JSON. So a layer also stores the name and the arguments of its constructor:

>>> import npdl.functional as F
>>> model = F.serial(F.dense(32), F.relu())
>>> model
serial(dense(units=32), relu())
>>> model == F.serial(F.dense(32), F.relu())
True
>>> F.from_config(model.config()) == model
True
"""

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import attrs
import numpy as np

from npdl._calls import explained, signature_of
from npdl._config import encode_call

__all__ = ["Call", "Recorded", "RecordedFunction", "constructor"]

P = ParamSpec("P")
R = TypeVar("R", bound="Recorded")


@attrs.frozen
class Call:
    """A constructor and the arguments of its call, without default values."""

    constructor: Callable[..., "Recorded"]
    positional: tuple[Any, ...]
    keywords: dict[str, Any]
    # The call of the returned value, if the constructor returned an already recorded value.
    inner: "Call | None" = None

    @property
    def name(self) -> str:
        """The name of the constructor."""
        return self.constructor.__name__

    def __repr__(self) -> str:
        written = [_written(value) for value in self.positional]
        written += [f"{name}={_written(value)}" for name, value in self.keywords.items()]
        return f"{self.name}({', '.join(written)})"

    def repeat(self) -> "Recorded":
        """Construct the value again."""
        return self.constructor(*self.positional, **self.keywords)


@attrs.frozen(eq=False, repr=False)
class Recorded:
    """Base class for results of a :func:`constructor`: `repr`, equality, pickling and JSON."""

    call: Call | None = attrs.field(default=None, kw_only=True)
    # Nesting depth of recorded values; 1 if no argument is a recorded value.
    depth: int = attrs.field(default=0, kw_only=True)

    def __repr__(self) -> str:
        return object.__repr__(self) if self.call is None else repr(self.call)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other) or self.call is None:
            return False
        return _same(self.call, other.call)

    def __hash__(self) -> int:
        return object.__hash__(self) if self.call is None else _hash(self.call)

    def __reduce__(self) -> Any:
        if self.call is None:
            raise TypeError(
                f"cannot pickle a {type(self).__name__} without a constructor: return it from "
                "a function decorated with @layer, defined at the top level of a module"
            )
        call = self.call
        # deepcopy copies the arguments of a partial, but not its function.
        repeat = functools.partial(call.constructor, *call.positional, **call.keywords)
        return operator.call, (repeat,)

    def config(self) -> dict[str, Any]:
        """Return the call as JSON values, for :func:`npdl.functional.from_config`."""
        config = self._configuration("")
        if config is None:
            raise TypeError(
                f"{self!r} has no configuration, because it has no constructor; return it from a "
                f"function decorated with @layer"
            )
        return config

    def _configuration(self, where: str) -> dict[str, Any] | None:
        if self.call is None:
            return None
        return encode_call(self.call.name, self.call.positional, self.call.keywords, where)


@attrs.frozen(eq=False, repr=False)
class RecordedFunction(Recorded):
    """A function that stores the call of its constructor: an initializer or a schedule."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)


def constructor(function: Callable[P, R]) -> Callable[P, R]:
    """Record the name and the arguments of `function` in its results.

    This is the decorator of all constructors. For layers it is also named `F.layer`. The results
    have a repr that evaluates to them, equality, and a configuration for :func:`from_config`. They
    can be pickled if the constructor is defined at the top level of a module.

    Parameters
    ----------
    function : callable
        Returns a :class:`npdl.functional.Layer`, or another record of functions.

    Raises
    ------
    TypeError
        When the constructor is called, if it returns another type, or if the arguments are wrong.
        The message then has the right call.
    ValueError
        When the constructor is called, if its arguments are nested too deeply.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> @F.layer
    ... def shifted(by=1.0):
    ...     def apply(params, x): return x + by, None
    ...     def backward(params, cache, g): return None, g
    ...     return F.Layer(lambda rng, shape: (), apply, backward)
    >>> shifted(2.0), shifted(2.0) == shifted(by=2.0), shifted(2.0)((), np.zeros(2))
    (shifted(by=2.0), True, array([2., 2.]))
    """

    call_or_explain = explained(function)

    @functools.wraps(function)
    def construct(*args: P.args, **kwargs: P.kwargs) -> R:
        depth = _check_depth(function.__name__, 1 + _depth((args, kwargs)))
        value = call_or_explain(*args, **kwargs)
        if not isinstance(value, Recorded):
            raise TypeError(
                f"{function.__name__} is decorated as a constructor, such as with @layer, so it "
                f"must return a Layer or a similar record, got {value!r}"
            )
        signature = signature_of(function)
        bound = signature.bind(*args, **kwargs)
        positional: tuple[Any, ...] = ()
        keywords: dict[str, Any] = {}
        before: list[Any] = []
        for name, argument in bound.arguments.items():
            parameter = signature.parameters[name]
            recorded = _frozen(argument)
            if parameter.kind is parameter.VAR_POSITIONAL:
                # Parameters before *args can only be passed by position, so defaults are included.
                positional, keywords = (*before, *recorded), {}
            elif parameter.kind is parameter.POSITIONAL_ONLY:
                positional = (*positional, recorded)
            elif parameter.kind is parameter.VAR_KEYWORD:
                keywords |= recorded
            elif not _same(recorded, parameter.default):
                keywords[name] = recorded
            before.append(recorded)
        depth = _check_depth(function.__name__, max(depth, value.depth))
        call = Call(construct, positional, keywords, value.call)
        return attrs.evolve(value, call=call, depth=depth)

    construct.is_constructor = True  # type: ignore[attr-defined]
    # A pickle names the public path, which a move of the private module leaves as it is.
    if function.__module__.startswith("npdl.functional."):
        construct.__module__ = "npdl.functional"
    return construct


# Copying a model of depth 100 reaches Python's recursion limit; half is left for callers.
DEEPEST = 50


def _depth(value: Any) -> int:
    """Return the depth of the deepest recorded value in the arguments."""
    if isinstance(value, Recorded):
        return value.depth
    if isinstance(value, dict):
        return _depth(tuple(value.values()))
    return max(map(_depth, value), default=0) if isinstance(value, list | tuple) else 0


def _check_depth(name: str, depth: int) -> int:
    if depth > DEEPEST:
        raise ValueError(
            f"{name}: this model would be nested {depth} layers deep, and the limit is {DEEPEST}, "
            f"because copy, repr and summary are recursive; apply layers one after another with "
            f"serial(*layers), which takes any number of them"
        )
    return depth


def _written(value: Any) -> str:
    """Return the name of a function, or the repr of another value."""
    return value.__name__ if inspect.isroutine(value) else repr(value)


def _frozen(value: Any) -> Any:
    """Convert lists to tuples and NumPy scalars to Python numbers, as a JSON round trip would."""
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(_frozen(item) for item in value)
    return {key: _frozen(item) for key, item in value.items()} if type(value) is dict else value


def _same(a: Any, b: Any) -> bool:
    """Compare two values; arrays give one boolean, too."""
    if a is b:
        return True
    if type(a) is not type(b):
        return bool(isinstance(a, int | float) and isinstance(b, int | float) and a == b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Call):
        return (
            a.constructor is b.constructor
            and _same(a.positional, b.positional)
            and _same(a.keywords, b.keywords)
        )
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)


def _hash(value: Any) -> int:
    """Return a hash that is equal for values that are :func:`_same`."""
    if isinstance(value, Call):
        return hash((value.name, _hash(value.positional), _hash(value.keywords)))
    if isinstance(value, dict):
        return hash(tuple((key, _hash(item)) for key, item in value.items()))
    if isinstance(value, tuple):
        return hash(tuple(map(_hash, value)))
    if isinstance(value, np.ndarray):
        return hash((value.dtype, value.shape))
    try:
        return hash(value)
    except TypeError:
        return hash(type(value))
