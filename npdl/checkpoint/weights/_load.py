"""Weights of other libraries as parameters of a model."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from npdl import tree
from npdl.checkpoint._files.limits import CheckpointError, Kind
from npdl.checkpoint._files.shards import opened_arrays
from npdl.checkpoint.weights._match import Modules
from npdl.checkpoint.weights._rules import Rules
from npdl.checkpoint.weights._units import Names, units_of
from npdl.functional._arrays import check_class
from npdl.functional._layer import Layer, Params

__all__ = ["load_foreign", "opened_source"]


def load_foreign(
    source: str | os.PathLike[str] | Mapping[str, Any],
    model: Layer,
    like: Params,
    rules: Rules,
    names: Names | None,
    flattened: Mapping[str, int] | None,
    partial: bool,
) -> Params:
    """Return parameters with the structure of `like` and the numbers of a file or a mapping."""
    units, singles = units_of(model, like, rules, names, flattened)
    result, unravel = tree.ravel(like)  # a new array
    result.fill(0)
    reached = np.zeros(result.shape, bool)
    for unit in units:
        if unit.count is not None:  # loaded running statistics have a count of one batch
            result[unit.count] = 1
    with opened_source(source) as (title, kinds, read):
        modules = Modules(title, kinds, rules.canonical, rules.separator, singles)
        for name, positions in modules.assigned(units, like, partial):
            array = read(name)
            if reached[positions].any():  # the second of two biases
                array = result[positions] + array
            result[positions] = array
            reached[positions] = True
    return tree.map(np.copy, unravel(result))


@contextlib.contextmanager
def opened_source(
    source: Any,
) -> Iterator[tuple[str, dict[str, Kind], Callable[[str], np.ndarray]]]:
    """Yield a title, the types and shapes of all arrays, and a function that reads one."""
    if isinstance(source, Mapping):
        arrays = {name: _array(name, value) for name, value in source.items()}
        kinds: dict[str, Kind] = {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
        yield "the mapping", kinds, arrays.__getitem__
        return
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"expected the path of a .safetensors or .npz file, or a mapping of names to arrays, "
            f"got {type(source).__name__}"
        )
    with opened_arrays(source) as (path, container):
        if container.header is not None:
            raise CheckpointError(
                f"{path} was written by npdl.checkpoint.save; read it with npdl.checkpoint.load"
            )
        yield str(path), container.kinds, container.read


def _array(name: Any, value: Any) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"expected a mapping of names to arrays, but {name!r:.80} is not a string")
    if isinstance(value, np.ndarray):
        check_class(value, f"the entry {name!r}")
    try:
        array = np.asarray(_widened(value))
    except Exception as error:
        error.add_note(f"the entry {name!r} cannot be converted to a NumPy array")
        raise
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"expected a mapping of names to arrays of numbers, but {name!r} is a "
            f"{type(value).__name__}"
        )
    return array


def _widened(value: Any) -> Any:
    """Return a bfloat16 array of another library in float32, which has all of its values."""
    if str(getattr(value, "dtype", "")).rpartition(".")[2] != "bfloat16":
        return value
    return value.float() if hasattr(value, "float") else value.astype(np.float32)
