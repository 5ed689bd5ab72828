"""The states of a chain's rules as a flat list, and the slots in them.

The state of an element-wise optimizer is ``()``, a NamedTuple, or a tuple of such states. The
NamedTuple has an optional count, and slots: trees with the structure of the parameters, or arrays.
"""

from collections.abc import Callable, Iterator
from typing import Any

from npdl.functional.optimizers._optimizer import Rule, state_name

__all__ = ["first_slot", "flat", "map_slots", "nested", "slots", "with_counts"]


def flat(rule: Any, state: Any) -> list[Any]:
    """Return the states of the rules of an optimizer in a flat list."""
    if isinstance(rule, Rule):
        return [state]
    if type(state) is not tuple or len(state) != len(rule.parts):
        raise ValueError(
            f"expected the states of {len(rule.parts)} optimizers, got {state_name(state)}, of "
            f"another optimizer; initialize a new state: state = optimizer.init(params)"
        )
    return [each for part in zip(rule.parts, state, strict=True) for each in flat(*part)]


def nested(rule: Any, states: Iterator[Any]) -> Any:
    """Return the state of an optimizer from the flat list of its rules' states."""
    if isinstance(rule, Rule):
        return next(states)
    return tuple([nested(each, states) for each in rule.parts])


def slots(state: Any) -> Iterator[Any]:
    """Yield the slots of a state, without its counts."""
    if hasattr(state, "_fields"):
        yield from state[first_slot(state) :]
    else:
        for part in state:
            yield from slots(part)


def first_slot(state: Any) -> int:
    """Return the index of a rule's first slot in its state."""
    return 1 if state._fields[0] == "count" else 0


def map_slots(function: Callable[[Any], Any], state: Any) -> Any:
    """Return a state with the results of a function of each slot."""
    if hasattr(state, "_fields"):
        first = first_slot(state)
        return state._make((*state[:first], *map(function, state[first:])))
    return tuple([map_slots(function, part) for part in state]) if state else state


def with_counts(state: Any, counted: Any) -> Any:
    """Return the state of a rule with the count of another state."""
    if hasattr(state, "_fields"):
        first = first_slot(state)
        return state._make((*counted[:first], *state[first:]))
    return state
