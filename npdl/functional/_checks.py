"""Checks of the arguments of constructors: one module, and one form of message.

Each check takes a value and a right call; the first keyword of the call names the argument. It
returns the value in Python's own type, or raises an error with the expected kind and the call.

>>> check_int(True, "dense(units=128)")
Traceback (most recent call last):
ValueError: dense: units must be a positive int, as in dense(units=128), got True
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl._calls import shown

__all__ = [
    "check_axis",
    "check_flag",
    "check_function",
    "check_int",
    "check_key",
    "check_mode",
    "check_number",
    "check_pair",
    "is_function",
    "is_int",
    "refusal",
]


def refusal(value: Any, call: str, expected: str) -> str:
    """Return the message about a wrong argument."""
    name = re.search(r"(\w+)=", call)
    what = name[1] if name else "the argument"
    return f"{call.partition('(')[0]}: {what} must be {expected}, as in {call}, got {shown(value)}"


def is_int(value: Any) -> bool:
    """Whether a value is an int, and not a boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_int(value: Any, call: str, least: int | None = None) -> int:
    """Return an int of at least `least`, or a positive one."""
    if not is_int(value) or value < (1 if least is None else least):
        expected = "a positive int" if least is None else f"an int of at least {least}"
        raise ValueError(refusal(value, call, expected))
    return int(value)


def check_axis(value: Any, call: str) -> int:
    """Return an axis of a batch's array other than axis 0, the batch."""
    if not is_int(value) or value == 0:
        raise ValueError(refusal(value, call, "an int other than 0, which is the batch"))
    return int(value)


def check_flag(value: Any, call: str) -> bool:
    """Return a boolean; ints and strings are refused, often values of another argument."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(refusal(value, call, "True or False"))
    return bool(value)


_RANGES: dict[str, Callable[[float], bool]] = {
    "that is finite": lambda value: True,
    "of at least 0": lambda value: value >= 0,
    "above 0": lambda value: value > 0,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in (0, 1)": lambda value: 0 < value < 1,
    "in (0, 1]": lambda value: 0 < value <= 1,
    "in (0, 0.5)": lambda value: 0 < value < 0.5,
}


def check_number(value: Any, call: str, expected: str = "that is finite", other: str = "") -> float:
    """Return a Python float in a range; a Python float never promotes arrays.

    The message describes the range by `expected` and `other`.
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # raised for large ints
            number = math.inf
        if math.isfinite(number) and _RANGES[expected](number):
            return number
    raise ValueError(refusal(value, call, f"a number {expected}{other}"))


def check_pair(value: Any, call: str, axes: int = 2, least: int = 1) -> tuple[int, int]:
    """Return two ints, from one int or a pair; with ``axes=1``, 1 and the int."""
    numbers = (value,) * axes if is_int(value) else value
    if (
        isinstance(numbers, tuple | list)
        and len(numbers) == axes
        and all(is_int(number) and number >= least for number in numbers)
    ):
        return (1, int(numbers[0])) if axes == 1 else (int(numbers[0]), int(numbers[1]))
    expected = "a positive int" if least == 1 else f"an int of at least {least}"
    more = "" if axes == 1 else ", or a pair of them (height, width)"
    raise ValueError(refusal(value, call, expected + more))


def is_function(value: Any) -> bool:
    """Whether a value is a function, and not a layer or a constructor of functions."""
    return callable(value) and not hasattr(value, "is_constructor") and not hasattr(value, "apply")


def check_function(value: Any, call: str, what: str = "an initializer") -> None:
    """Raise unless a value is a function, and not a layer or a constructor of functions."""
    if not is_function(value):
        raise TypeError(refusal(value, call, what))


def check_mode(train: bool, rng: Any) -> None:
    """Raise if a key is passed in inference, or if `train` is not a boolean."""
    if train is not True and train is not False:
        raise TypeError(f"train must be True or False, got {train!r}; pass a key as rng=")
    if rng is not None and not train:
        raise ValueError(
            "a key was passed, but train=False, and inference uses no randomness: "
            "pass train=True as well, or leave rng out"
        )


def check_key(name: str, rng: Any) -> Any:
    """Return the key of a layer that needs one in training."""
    if rng is None:
        raise ValueError(f"{name} needs a key in training: pass rng=...")
    return rng
