"""The position of a run of training, stored in a checkpoint next to the trained arrays.

A header in JSON holds the position, and the types and shapes of all trained arrays. It also holds
the settings that must be the same in a resumed run. The states of callbacks, such as the history,
grow with the run. They are stored next to the header: as JSON in an array of bytes, and as arrays.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from npdl import checkpoint, tree
from npdl.checkpoint._files.limits import CheckpointError, damage, read_json
from npdl.checkpoint._json import LISTS, decoded, encoded
from npdl.functional._arrays import describe

__all__ = [
    "OtherRunError",
    "Position",
    "check_same",
    "read_header",
    "read_run",
    "run_tree",
    "setting",
]

_VERSION = 2
_WHAT = "checkpoint of fit"
_COUNTS = ("step", "first", "epoch", "batch", "seen")
_IN_HEADER = (*_COUNTS, "stopped", "best")


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


def run_tree(
    position: Position,
    trained: Mapping[str, Any],
    settings: Mapping[str, str],
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the tree of a position: a header, and the states of callbacks.

    Raises
    ------
    TypeError, ValueError
        If the states of callbacks cannot be written, or their arrays take more than `limit` bytes.
    """
    states, arrays = encoded({"callbacks": position.callbacks, "totals": position.totals})
    text = json.dumps(states).encode()
    _check_size(arrays, limit)
    header = {name: getattr(position, name) for name in _IN_HEADER} | {
        "version": _VERSION,
        "settings": dict(settings),
        "leaves": _kinds(trained),
        "callbacks": list(position.callbacks),
        "states": len(text),
        "arrays": {name: [a.dtype.name, list(a.shape)] for name, a in arrays.items()},
    }
    return {
        "header": json.dumps(header),
        "states": np.frombuffer(text, np.uint8),
        "arrays": arrays,
    }


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a checkpoint; no array is read.

    Raises
    ------
    CheckpointError
        If the file is damaged, or has no header.
    """
    found = checkpoint.scalars(path).get("run/header")
    with damage(path, _WHAT):
        header = read_json(found)  # type: ignore[arg-type]
        version = header["version"]
    if version != _VERSION:
        raise OtherRunError(
            f"{path} has version {version!r} of the checkpoints of fit, and this npdl reads "
            f"version {_VERSION}; continue with the npdl that wrote it"
        )
    return dict(header)


def read_run(
    path: Path, header: dict[str, Any], like: Mapping[str, Any], limit: int | None = None
) -> tuple[Position, dict[str, Any]]:
    """Return the position and the trained tree, which has the structure of `like`.

    Raises
    ------
    CheckpointError
        If the file is damaged, or the arrays of callbacks take more than `limit` bytes.
    """
    with damage(path, _WHAT):
        # Templates have the declared types and shapes, but take no memory.
        text = _template("uint8", [header["states"]])
        arrays = {name: _template(*kind) for name, kind in header["arrays"].items()}
        _check_size(arrays, limit)
        run = {"header": "", "states": text, "arrays": arrays}
        contents = checkpoint.load(path, like={**like, "run": run})
        run = contents.pop("run")
        states = read_json(run["states"].tobytes().decode("ascii"), grown=True)
        kept = decoded(states, run["arrays"])
        if list(kept["callbacks"]) != header["callbacks"]:
            raise ValueError(f"the stored states belong to {list(kept['callbacks'])}")
        return _position(header, **kept), contents


def check_same(
    path: Path,
    header: dict[str, Any],
    settings: Mapping[str, str],
    like: Mapping[str, Any],
    callbacks: Iterable[str],
) -> None:
    """Raise unless a checkpoint belongs to the run that is resumed.

    Raises
    ------
    OtherRunError
        If it belongs to another run. The error lists the differences.
    CheckpointError
        If the header is damaged.
    """
    with damage(path, _WHAT):
        different = _differences(header, settings, _kinds(like), callbacks)
    if different:
        raise OtherRunError(
            "\n  ".join([f"{path} is a checkpoint of another run:", *different])
            + "\nTo train its state in another way, load it with npdl.checkpoint.load(path, "
            "like=state, partial=True), and start a new run from it."
        )


def _differences(
    header: Mapping[str, Any],
    settings: Mapping[str, str],
    leaves: Mapping[str, str],
    callbacks: Iterable[str],
) -> list[str]:
    saved = header["callbacks"]
    here = {**settings, **leaves, **{f"callback {name}": "given" for name in callbacks}}
    there = {**header["settings"], **header["leaves"]}
    there |= {f"callback {name}": "given" for name in saved}
    pairs = {name: (there.get(name, "none"), here.get(name, "none")) for name in {**here, **there}}
    return [
        "{}: {} in the checkpoint, {} here".format(name, *_shortened(str(before), str(after)))
        for name, (before, after) in pairs.items()
        if before != after
    ]


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


def _position(header: Mapping[str, Any], callbacks: Any, totals: Any) -> Position:
    """Return the position in a header, or raise if its fields are invalid."""
    counts = {name: header[name] for name in _COUNTS}
    best, stopped = header["best"], header["stopped"]
    if (
        any(type(count) is not int or count < 0 for count in counts.values())
        or type(totals) is not dict
        or type(stopped) is not bool
        or (best is not None and [type(part) for part in best] != [float, int])
    ):
        raise ValueError(f"the position is not valid: {counts}, {totals}, {best}, {stopped}")
    return Position(
        **counts,
        totals=totals,
        stopped=stopped,
        best=best and (best[0], best[1]),
        callbacks=callbacks,
    )


def _check_size(arrays: Mapping[str, np.ndarray], limit: int | None) -> None:
    size = sum(array.nbytes for name, array in arrays.items() if name not in LISTS)
    if limit is not None and size > limit:
        raise ValueError(
            f"the arrays of callbacks take {size} bytes, more than Checkpoint(limit={limit}) "
            f"allows; pass a larger limit"
        )


def _kinds(leaves: Mapping[str, Any]) -> dict[str, str]:
    return {
        path: describe(leaf) if isinstance(leaf, np.ndarray | np.generic) else type(leaf).__name__
        for path, leaf in tree.items(dict(leaves))
    }


def _template(name: Any, shape: Any) -> np.ndarray:
    dtype = np.dtype(name) if isinstance(name, str) else np.dtype(object)
    if dtype.kind not in "biufc" or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"an array cannot have the type and shape {name!r}{shape!r}")
    return np.broadcast_to(np.zeros((), dtype), shape)


def _common(a: str, b: str) -> int:
    """Return the length of the common prefix of two strings."""
    same = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(same, min(len(a), len(b)))
