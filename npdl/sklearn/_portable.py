"""The state of an estimator in files: calls of constructors instead of closures.

A layer is a record of closures, which skops cannot write. It can write functions by their names.
So `__getstate__` replaces each recorded value by its constructor and the arguments.
"""

import functools
from collections.abc import Callable
from typing import Any

import npdl.functional as F
from npdl._calls import shown
from npdl._constructor import Recorded
from npdl.training import TrainState

__all__ = ["Rebuilt", "portable"]


class Rebuilt:
    """A call that is written to a file. Reading the file repeats the call and returns its result.

    Parameters
    ----------
    function : callable
        A constructor of a recorded value at the top level of a module, or one of this module's.
        A file cannot call other functions, even trusted ones.
    positional, keywords : tuple, dict
        Its arguments.
    """

    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

    def __new__(
        cls, function: Callable[..., Any], positional: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """Return the result of the call."""
        if function not in (TrainState, metric) and not hasattr(function, "is_constructor"):
            raise TypeError(f"expected a constructor, such as F.dense, got {shown(function)}")
        return function(*positional, **keywords)

    @classmethod
    def of(cls, function: Callable[..., Any], *positional: Any, **keywords: Any) -> "Rebuilt":
        """Return the call itself, its arguments in their portable form."""
        call = object.__new__(cls)
        call.call = function, portable(positional), portable(keywords)
        return call

    def __reduce__(self) -> Any:
        return Rebuilt, self.call


def portable(value: Any) -> Any:
    """Return a tree in which calls replace recorded values, metrics and states of training."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = map(portable, value)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, Recorded) and value.call is not None:
        call = value.call
        return Rebuilt.of(call.constructor, *call.positional, **call.keywords)
    if isinstance(value, TrainState):
        return Rebuilt.of(TrainState, value.step, value.params, value.opt_state, value.rng)
    is_partial = isinstance(value, functools.partial)
    function = value.func if is_partial else value
    if isinstance(function, F.Metric) and getattr(F, repr(function), None) is function:
        return Rebuilt.of(metric, repr(function), **(value.keywords if is_partial else {}))
    if is_partial:
        return functools.partial(function, *portable(value.args), **portable(value.keywords))
    return value


def metric(name: str, **options: Any) -> Callable[..., Any]:
    """Return a metric of npdl by its name, with options."""
    found = getattr(F, name)
    if not isinstance(found, F.Metric):
        raise TypeError(f"expected the name of a metric, such as 'accuracy', got {name!r}")
    return functools.partial(found, **options) if options else found
