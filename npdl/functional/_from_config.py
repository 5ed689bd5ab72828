"""Layers, initializers and schedules from their JSON configurations."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from npdl._config import Functions, decode, not_too_deep
from npdl.functional import _initializers, combinators, derivatives, layers, optimizers

__all__ = ["from_config", "known_constructors"]


def from_config(config: dict[str, Any], constructors: Iterable[Callable[..., Any]] = ()) -> Any:
    """Return the layer, initializer or schedule of a configuration.

    It imports nothing, and calls only the constructors of npdl and those in `constructors`.

    Parameters
    ----------
    config : dict
        The result of ``layer.config()``, also after conversion to JSON and back.
    constructors : iterable of functions
        Constructors outside npdl, such as your own ``@layer`` functions.

    Raises
    ------
    ValueError
        If the configuration names an unknown constructor, has unknown keys or values in another
        form than ``layer.config()`` writes, or is nested too deeply.
    TypeError
        If a constructor refuses its arguments.

    Examples
    --------
    >>> import json
    >>> import npdl.functional as F
    >>> text = json.dumps(F.dense(3, bias=False).config())
    >>> F.from_config(json.loads(text))
    dense(units=3, bias=False)
    """
    if not isinstance(config, dict) or "call" not in config:
        raise ValueError(
            f"not a configuration of npdl: expected the result of layer.config(), which has a "
            f"'call', got {config!r:.80}"
        )
    with not_too_deep("from_config"):
        return decode(config, known_constructors(constructors))


def known_constructors(own: Iterable[Callable[..., Any]] = ()) -> Functions:
    """Return the public constructors by name, and the user's own ones."""
    return {**_constructors(), **{item.__name__: item for item in own}}


@functools.cache
def _constructors() -> dict[str, Callable[..., Any]]:
    """Return the public constructors by name: a file can call only these."""
    faces = (_initializers, combinators, derivatives, layers, optimizers)
    items = {name: getattr(face, name) for face in faces for name in face.__all__}
    return {name: item for name, item in items.items() if hasattr(item, "is_constructor")}
