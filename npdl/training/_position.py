"""The position of a run of training, stored in a checkpoint next to the trained arrays.

The position has the states of callbacks, such as the history, which grow with the run. It is stored
as arrays under ``run``, together with the settings that must be the same in a resumed run.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.checkpoint._codec import GROWING, decode, encode
from npdl.checkpoint._files.limits import CheckpointError, damage
from npdl.checkpoint._save_and_load import kind_of, open_tree, shown

__all__ = [
    "OtherRunError",
    "Position",
    "check_same",
    "encode_run",
    "read_run",
    "setting",
]

_COUNTS = ("step", "first", "epoch", "batch", "seen")
_PREFIX = "run/"


class OtherRunError(CheckpointError):
    """The checkpoint belongs to another model, optimizer or call of `fit`."""


@attrs.frozen(eq=False, repr=False)
class Position:
    """The position of a run, without the trained arrays.

    Parameters
    ----------
    step : int
        The number of completed steps.
    first, epoch, batch : int
        The first epoch of the run, the current epoch, and the number of its completed steps.
    seen, totals
        The number of seen examples of the epoch, and the sums of their loss and metrics.
    stopped : bool
        Whether a callback has asked to end training after the epoch.
    best : pair or None
        The best value of the metric ``Checkpoint.best``, and its step.
    callbacks : dict
        The states of callbacks, by name.
    """

    step: int
    first: int
    epoch: int
    batch: int
    seen: int
    totals: dict[str, Any]
    stopped: bool
    best: tuple[float, int] | None
    callbacks: dict[str, Any]


def setting(value: Any) -> str:
    """Return a description of a model or a function that is equal in all processes."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def encode_run(
    position: Position, settings: Mapping[str, str], limit: int | None = None
) -> dict[str, np.ndarray]:
    """Return the arrays of a position and its settings.

    Raises
    ------
    TypeError, ValueError
        If the states of callbacks cannot be written, or their arrays take more than `limit` bytes.
    """
    values = attrs.asdict(position, recurse=False)
    arrays = encode({**values, "settings": dict(settings)})
    _check_size({name: array.nbytes for name, array in arrays.items()}, limit)
    return arrays


def read_run(path: Path, limit: int | None = None) -> tuple[Position, dict[str, str]]:
    """Return the position in a checkpoint, its settings, and descriptions of the trained leaves.

    The arrays take at most the size of the file. No trained array is read.

    Raises
    ------
    CheckpointError
        If the file is damaged, or the arrays of callbacks take more than `limit` bytes.
    """
    with open_tree(path) as file, damage(path, "checkpoint of fit"):
        kinds = {p: kind for p, kind in file.kinds.items() if p.startswith(_PREFIX)}
        sizes = {
            p.removeprefix(_PREFIX): math.prod(shape) * np.dtype(name).itemsize  # type: ignore[arg-type]
            for p, (name, shape) in kinds.items()
        }
        _check_size(sizes, limit)
        values = decode({name: file.read(f"{_PREFIX}{name}") for name in sizes})
        leaves = {p: shown(kind) for p, kind in file.kinds.items() if p not in kinds}
        described = {**values.pop("settings"), **leaves}
        position = Position(**values)
        _check(position)
        return position, described


def check_same(
    path: Path,
    position: Position,
    described: Mapping[str, str],
    settings: Mapping[str, str],
    like: Mapping[str, Any],
    callbacks: Iterable[str],
) -> None:
    """Raise unless a result of :func:`read_run` belongs to the run that is resumed.

    Raises
    ------
    OtherRunError
        If it belongs to another run. The error lists the differences.
    """
    here = {**settings, **{p: shown(kind_of(leaf)) for p, leaf in tree.items(dict(like))}}
    here |= {f"callback {name}": "given" for name in callbacks}
    there = {**described, **{f"callback {name}": "given" for name in position.callbacks}}
    pairs = {name: (there.get(name, "none"), here.get(name, "none")) for name in {**here, **there}}
    different = [
        "{}: {} in the checkpoint, {} here".format(name, *_shortened(str(before), str(after)))
        for name, (before, after) in pairs.items()
        if before != after
    ]
    if different:
        raise OtherRunError(
            "\n  ".join([f"{path} is a checkpoint of another run:", *different])
            + "\nTo train its state in another way, load it with npdl.checkpoint.load(path, "
            "like=state, partial=True), and start a new run from it."
        )


def _shortened(a: str, b: str, margin: int = 40) -> tuple[str, str]:
    """Return long strings without their common ends, except for a few characters."""
    if a == b or max(len(a), len(b)) < 4 * margin:
        return a, b
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])

    def cut(text: str) -> str:
        first, last = max(start - margin, 0), len(text) - max(end - margin, 0)
        return f"{'…' * (first > 0)}{text[first:last]}{'…' * (last < len(text))}"

    return cut(a), cut(b)


def _check(position: Position) -> None:
    """Raise if a field of a position from a file is invalid."""
    counts = [getattr(position, name) for name in _COUNTS]
    best = position.best
    if (
        any(type(count) is not int or count < 0 for count in counts)
        or type(position.totals) is not dict
        or type(position.callbacks) is not dict
        or type(position.stopped) is not bool
        or (best is not None and (type(best), *map(type, best)) != (tuple, float, int))
    ):
        raise ValueError(
            f"the position is not valid: {counts}, {position.totals!r:.60}, {best}, "
            f"{position.stopped}"
        )


def _check_size(sizes: Mapping[str, int], limit: int | None) -> None:
    size = sum(size for name, size in sizes.items() if name not in GROWING)
    if limit is not None and size > limit:
        raise ValueError(
            f"the arrays of callbacks take {size} bytes, more than Checkpoint(limit={limit}) "
            f"allows; pass a larger limit"
        )


def _common(a: str, b: str) -> int:
    """Return the length of the common prefix of two strings."""
    same = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(same, min(len(a), len(b)))
