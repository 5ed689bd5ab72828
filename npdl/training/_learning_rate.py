"""The learning rate of an optimizer, found and changed in the calls that built the optimizer.

>>> import npdl.functional as F
>>> scale_rate(F.adamw(0.5, weight_decay=0.1), 0.5)
chain(scale_by_adam(), add_decayed_weights(rate=0.1), scale_by_learning_rate(learning_rate=0.25))
>>> rate_of(F.momentum(F.polynomial_decay(0.5, steps=4)), 2)
0.25
"""

from collections.abc import Iterator
from typing import Any

import attrs

from npdl._constructor import Recorded
from npdl.functional._checks import check_number
from npdl.functional.optimizers._optimizer import Optimizer
from npdl.functional.optimizers._transforms import scale_by_learning_rate

__all__ = ["check_factor", "rate_of", "scale_rate"]


def rate_of(optimizer: Optimizer, step: int) -> float:
    """Return the learning rate at a step; the largest if there are several.

    Raises
    ------
    ValueError
        If no transform of the optimizer is a `scale_by_learning_rate`.
    """
    rates = [rate(step) if callable(rate) else rate for rate in _rates(optimizer)]
    if not rates:
        raise ValueError(
            f"no learning rate was found in {optimizer!r}; build the optimizer from npdl's "
            f"transforms, with scale_by_learning_rate(learning_rate) among them"
        )
    return float(max(rates))


def scale_rate(optimizer: Optimizer, factor: float) -> Optimizer:
    """Return the optimizer with each learning rate multiplied; its state has the same form.

    Raises
    ------
    ValueError
        If no transform of the optimizer is a `scale_by_learning_rate`.
    """
    rate_of(optimizer, 0)
    scaled: Optimizer = _scaled(optimizer, factor)
    return scaled


def check_factor(factor: Any) -> float:
    """Return the factor of a learning rate, or raise if it is not a number of at least 0."""
    return check_number(factor, "scale_learning_rate(factor=0.5)", "of at least 0")


def _rates(value: Any) -> Iterator[Any]:
    if isinstance(value, Recorded) and value.call is not None:
        if value.call.constructor is scale_by_learning_rate:
            yield value.call.keywords["learning_rate"]
        else:
            yield from _rates((value.call.positional, value.call.keywords))
    elif isinstance(value, tuple | dict):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _rates(child)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, Optimizer) and value.call is not None:
        call = value.call
        if call.constructor is scale_by_learning_rate:
            return scale_by_learning_rate(_times(call.keywords["learning_rate"], factor))
        arguments = _scaled(call.positional, factor), _scaled(call.keywords, factor)
        return attrs.evolve(call, positional=arguments[0], keywords=arguments[1]).repeat()
    if isinstance(value, tuple):
        return tuple(_scaled(child, factor) for child in value)
    if isinstance(value, dict):
        return {key: _scaled(child, factor) for key, child in value.items()}
    return value


def _times(rate: Any, factor: float) -> Any:
    return (lambda step: rate(step) * factor) if callable(rate) else rate * factor
