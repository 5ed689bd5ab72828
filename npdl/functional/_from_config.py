"""Layers, initializers and schedules from their JSON configurations."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from npdl._config import decode
from npdl.functional import _initializers, combinators, layers, optimizers

__all__ = ["from_config"]


def from_config(config: dict[str, Any], constructors: Iterable[Callable[..., Any]] = ()) -> Any:
    """Return the layer, initializer or schedule that `config` describes.

    Parameters
    ----------
    config : dict
        What ``layer.config()`` returned, also after a round through JSON.
    constructors : iterable of functions
        Constructors that do not belong to npdl, such as your own ``@layer`` functions.

    Raises
    ------
    ValueError
        If the configuration names an unknown constructor, has unknown keys or values of another
        form than ``layer.config()`` writes, or is nested too deep. Nothing is imported and nothing
        but npdl's own constructors and the given ones is called.
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
    known = _constructors() | {item.__name__: item for item in constructors}
    if not isinstance(config, dict) or "call" not in config:
        raise ValueError(
            f"not a configuration of npdl: expected the result of layer.config(), which has a "
            f"'call', got {config!r:.80}"
        )
    try:
        return decode(config, known)
    except RecursionError:
        raise ValueError(
            "the configuration is nested too deep for Python; put layers one after another into "
            "one serial, or call sys.setrecursionlimit"
        ) from None


@functools.cache
def _constructors() -> dict[str, Callable[..., Any]]:
    """Return the public constructors by their names: the only ones that a file can call."""
    faces = (_initializers, combinators, layers, optimizers)
    items = {name: getattr(face, name) for face in faces for name in face.__all__}
    return {name: item for name, item in items.items() if hasattr(item, "is_constructor")}
