"""Entries of a ``config.json``; an entry that npdl cannot compute is an error."""

from collections.abc import Mapping
from typing import Any

import npdl.functional as F
from npdl._calls import shown
from npdl.functional._checks import is_int
from npdl.functional._layer import Layer

__all__ = ["Config", "Names"]

# The paths of npdl's parameters, and the names of modules and arrays of the file.
Names = dict[str, str | tuple[str, ...]]

_ACTIVATIONS = {
    "gelu": F.gelu(),
    "gelu_new": F.gelu(approximate=True),
    "gelu_pytorch_tanh": F.gelu(approximate=True),
    "relu": F.relu(),
    "silu": F.silu(),
    "swish": F.silu(),
    "tanh": F.tanh(),
}


class Config:
    """The entries of a configuration, with the name of the model for errors."""

    def __init__(self, model: str, entries: Any) -> None:
        if not isinstance(entries, Mapping):
            raise TypeError(
                f"models.{model}: expected the configuration as a dict, as in "
                f'models.{model}(json.load(open("config.json"))), got {shown(entries)}'
            )
        self.model, self.entries = model, entries

    def size(self, name: str, default: int | None = None) -> int:
        """Return a positive int."""
        value = self.entries.get(name)
        value = default if value is None else value
        if not is_int(value) or value < 1:  # type: ignore[operator]
            raise self.refusal(name, value, "a positive int")
        return int(value)  # type: ignore[arg-type]

    def number(self, name: str, default: float) -> float:
        """Return a positive number."""
        value = self.entries.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.refusal(name, value, "a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.entries.get(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, value, "true or false")
        return value

    def activation(self, name: str, default: str) -> Layer:
        """Return the layer of an activation."""
        value = self.entries.get(name, default)
        if value not in _ACTIVATIONS:
            raise self.refusal(name, value, f"one of {', '.join(_ACTIVATIONS)}")
        return _ACTIVATIONS[value]

    def require(self, **values: Any) -> None:
        """Raise if an entry has another value than the only one that npdl computes."""
        for name, value in values.items():
            given = self.entries.get(name)
            if given is not None and given != value:
                raise self.refusal(name, given, f"{value!r}, the only value that npdl computes")

    def refusal(self, name: str, value: Any, expected: str) -> ValueError:
        """Return the error about an entry."""
        return ValueError(
            f"models.{self.model}: the entry {name!r} of the configuration must be {expected}, "
            f"got {value!r:.80}"
        )
