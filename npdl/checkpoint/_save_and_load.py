"""Trees in files: save and load.

:func:`save` turns a tree into a header and arrays. `_files/containers.py` writes them as ``.npz``,
`_files/safetensors.py` as ``.safetensors``, and `_files/disk.py` replaces the file in one step.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from npdl.checkpoint._codec import SCALARS, is_array, scalar_from_json, scalar_to_json
from npdl.checkpoint._environment import here
from npdl.checkpoint._files.containers import container_format, opened
from npdl.checkpoint._files.disk import replace_file
from npdl.checkpoint._files.limits import (
    CheckpointError,
    Container,
    Kind,
    VersionError,
    check_json,
    check_scalars,
    damage,
    read_json,
)
from npdl.tree import Tree, items, unflatten

__all__ = [
    "array_shapes",
    "check_tree",
    "environment",
    "kind_of",
    "load",
    "open_tree",
    "save",
    "scalars",
    "shown",
]

_FORMAT, _VERSION = "npdl.checkpoint", 2


def save(path: str | os.PathLike[str], tree: Tree) -> None:
    """Write a tree to a file; an existing file is replaced atomically.

    A temporary file in the same folder is written, synced to disk, read back and compared. Then it
    is renamed to `path`. So a process killed at any moment leaves either the old file or the new
    file complete. A failure removes the temporary file. (A kill may leave a file ``.….tmp``, which
    is never read.) The new file has the mode of the old one.

    Parameters
    ----------
    path : str or PathLike
        The file; its suffix, ``.npz`` or ``.safetensors``, determines the format.
    tree : tree
        Its leaves are arrays of numbers or booleans, or Python's int, float, bool and str.

    Raises
    ------
    TypeError
        If a leaf has another type.
    ValueError
        If the suffix is unknown, or two leaves have one path, as in
        ``{"a/b": 1, "a": {"b": 2}}``. If there are more than 2¹⁶ Python scalars, or they take
        more than 16 MiB. If the names of the arrays take more than 4 MiB.
    OSError
        If the file system fails. A note says whether the old file is unchanged. If only the sync of
        the new name fails, the new file is complete and has replaced the old one.
    CheckpointError
        If the data read back differ from the data written; the old file is unchanged.

    Examples
    --------
    >>> from npdl.checkpoint import save
    >>> save("model.pkl", {})
    Traceback (most recent call last):
    ...
    ValueError: unknown suffix '.pkl' of model.pkl; a checkpoint ends in .npz or .safetensors
    """
    form = container_format(path)
    leaves = _by_path(tree)
    header = _encoded({p: leaf for p, leaf in leaves.items() if type(leaf) in SCALARS})
    arrays = {
        p: np.asarray(leaf, order="C") for p, leaf in leaves.items() if type(leaf) not in SCALARS
    }
    # If the path is a link, its target is replaced, not the link.
    replace_file(
        Path(path).resolve(),
        lambda file: form.write(file, header, arrays),
        lambda written: _check_written(form.open, written, header, arrays),
    )


def _check_written(opener: Any, path: Path, header: str, arrays: dict[str, np.ndarray]) -> None:
    """Raise unless a file holds this header and these arrays, bit by bit."""
    try:
        with path.open("rb") as file, opener(path, file) as container:
            different = [p for p, array in arrays.items() if not _same(container.read(p), array)]
            if container.header != header:
                different.append("the header")
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"the written file cannot be read back ({type(error).__name__}: {error}); is the disk "
            f"or the memory broken?"
        ) from error
    if different:
        raise CheckpointError(
            f"the values read back differ from the values written: {', '.join(different)}; is the "
            f"disk or the memory broken?"
        )


def _same(found: np.ndarray, written: np.ndarray) -> bool:
    """Whether two arrays have the same bits, in any byte order."""
    array = np.asarray(written, found.dtype, order="C")
    # Larger units need fewer booleans.
    unit = np.uint64 if array.nbytes % 8 == 0 else np.uint8
    return found.shape == array.shape and bool(
        np.array_equal(found.reshape(-1).view(unit), array.reshape(-1).view(unit))
    )


def load(path: str | os.PathLike[str], like: Tree, *, partial: bool = False) -> Tree:
    """Read a tree from a file that :func:`save` wrote.

    Parameters
    ----------
    path : str or PathLike
        The file.
    like : tree
        A tree of the structure, shapes and types of the saved one, such as a fresh
        ``model.init(rng, shape)``. Its values are not read.
    partial : bool
        Whether the file may hold additional leaves, which are ignored.

    Returns
    -------
    tree
        A tree with the structure of `like`. Its arrays are new, writable and C-contiguous, with
        the saved bits and the byte order of `like`.

    Raises
    ------
    CheckpointError
        If the file is damaged or not a checkpoint. If a leaf is missing, unexpected, or has another
        shape or type; the message lists all such leaves.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from npdl.checkpoint import load, save
    >>> import tempfile
    >>> import npdl.functional as F
    >>> model = F.dense(2)
    >>> params = model.init(0, (3,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "model.npz"), params)
    ...     loaded = load(Path(folder, "model.npz"), like=model.init(1, (3,)))
    >>> np.array_equal(loaded["weight"], params["weight"])
    True
    """
    wanted = _by_path(like)
    with open_tree(path) as contents:
        kinds = {p: kind_of(leaf) for p, leaf in wanted.items()}
        found_kinds = {p: k for p, k in contents.kinds.items() if not partial or p in kinds}
        _compare(path, found_kinds, kinds)
        found = [
            contents.scalars[p] if type(leaf) in SCALARS else _as(leaf, contents.read(p))
            for p, leaf in wanted.items()
        ]
    return unflatten(like, found)


def scalars(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the Python scalars of a checkpoint by their paths, without reading an array.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Raises
    ------
    CheckpointError
        If the file is damaged or not a checkpoint.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from npdl.checkpoint import save, scalars
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "run.npz"), {"step": 3, "rate": 0.5, "weight": np.ones(2)})
    ...     scalars(Path(folder, "run.npz"))
    {'rate': 0.5, 'step': 3}
    """
    with open_tree(path) as contents:
        return contents.scalars


def array_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of a checkpoint by their paths, without reading an array.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Raises
    ------
    CheckpointError
        If the file is damaged or not a checkpoint.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from npdl.checkpoint import array_shapes, save
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "run.npz"), {"step": 3, "weight": np.ones((2, 5))})
    ...     array_shapes(Path(folder, "run.npz"))
    {'weight': (2, 5)}
    """
    with opened(path) as container:
        with damage(path):
            _contents(path, container)
        if container.short:
            raise CheckpointError(
                f"{path} is damaged: the arrays {', '.join(sorted(container.short)):.200} have "
                f"fewer bytes than their headers declare; restore the file from a copy"
            )
        return {p: shape for p, (_, shape) in container.kinds.items() if shape is not None}


def environment(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Return the environment of this process, or of the process that wrote a checkpoint.

    Training gives equal bits in equal environments.

    Parameters
    ----------
    path : str or PathLike, optional
        A checkpoint; the default is this process.

    Returns
    -------
    dict
        The versions of npdl and NumPy; the name and version of BLAS, the processor type of its
        kernels, and its number of threads; the system, the SIMD instructions of NumPy, and the byte
        order.

    Examples
    --------
    >>> from npdl.checkpoint import environment
    >>> list(environment())
    ['npdl', 'numpy', 'blas', 'kernel', 'threads', 'machine', 'simd', 'byteorder']
    """
    if path is not None:
        with open_tree(path) as contents:
            return contents.environment
    return here()


def check_tree(tree: Tree) -> None:
    """Raise unless :func:`save` accepts a tree; the message names the leaf."""
    _by_path(tree)


def _by_path(tree: Tree) -> dict[str, Any]:
    """Return the leaves by their paths, or raise unless a file can hold all of them."""
    leaves: dict[str, Any] = {}
    for path, leaf in items(tree):
        if path in leaves:
            raise ValueError(f"two leaves of the tree have the path {path!r}; rename one key")
        if "\0" in path or not _is_unicode(path) or len(path.encode()) > 60_000:
            raise ValueError(
                f"a file cannot hold a leaf with the path {path!r:.80}; rename the key"
            )
        if type(leaf) is str and not _is_unicode(leaf):
            raise ValueError(f"the string at {_at(path)} is not valid Unicode: {leaf!r:.60}")
        # Subclasses are refused: a masked array, for example, would lose its mask.
        if type(leaf) not in SCALARS and not is_array(leaf):
            dtype = f" of {leaf.dtype}" if isinstance(leaf, np.ndarray | np.generic) else ""
            raise TypeError(
                f"the leaf at {_at(path)} is a {type(leaf).__name__}{dtype}; a checkpoint holds "
                f"only arrays of numbers and the scalars bool, int, float, str"
            )
        leaves[path] = leaf
    return leaves


def _is_unicode(value: str) -> bool:
    """Whether a string has no lone surrogates, since JSON might join two of them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(leaf: Any) -> Kind:
    """Return the kind of a leaf."""
    if type(leaf) in SCALARS:
        return type(leaf).__name__, None
    return leaf.dtype.name, leaf.shape


def _as(leaf: Any, array: np.ndarray) -> Any:
    array = np.asarray(array, leaf.dtype, order="C")
    return array[()] if isinstance(leaf, np.generic) else array


def _at(path: str) -> str:
    return path or "the root"


def _compare(path: Any, found: dict[str, Kind], wanted: dict[str, Kind]) -> None:
    """Raise unless a file has exactly the wanted leaves."""
    lines = [f"missing: {_at(p)}, {_worded(wanted[p])}" for p in wanted if p not in found]
    lines += [f"unexpected: {_at(p)}, {_worded(found[p])}" for p in found if p not in wanted]
    for p in wanted:
        saved, expected = found.get(p), wanted[p]
        if saved is not None and saved != expected:
            same_type = saved[0] == expected[0] and saved[1] is not None and expected[1] is not None
            lines.append(
                f"different {'shape' if same_type else 'type'}: {_at(p)} is {_worded(saved)} in "
                f"the file, but {_worded(expected)} in `like`"
            )
    if lines:
        raise CheckpointError(
            "\n  ".join([f"{path} does not match `like`, and nothing was loaded:", *lines])
            + "\nPass a tree like the saved one, such as the init of the same model; convert the "
            "data type after loading, with npdl.tree.astype."
        )


def shown(kind: Kind) -> str:
    """Return a kind for messages, such as ``float32[2, 3]`` or ``int``."""
    return kind[0] if kind[1] is None else f"{kind[0]}{list(kind[1])}"


def _worded(kind: Kind) -> str:
    return f"a Python {kind[0]}" if kind[1] is None else shown(kind)


def _encoded(scalars: dict[str, Any]) -> str:
    check_scalars(len(scalars))
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "environment": environment(),
        "scalars": {path: scalar_to_json(leaf) for path, leaf in scalars.items()},
    }
    text = json.dumps(header)
    check_json(text)
    return text


@attrs.frozen(eq=False, repr=False)
class _Contents:
    """An open checkpoint; arrays are read on demand."""

    environment: dict[str, Any]
    scalars: dict[str, Any]
    kinds: dict[str, Kind]
    read: Callable[[str], np.ndarray]


@contextlib.contextmanager
def open_tree(path: str | os.PathLike[str]) -> Iterator[_Contents]:
    """Open a checkpoint."""
    with opened(path) as container:
        with damage(path):
            contents = _contents(path, container)
        yield contents


def _contents(path: Any, container: Container) -> _Contents:
    if container.header is None:
        raise CheckpointError(
            f"{path} was not written by npdl.checkpoint.save; read it with the library that wrote "
            f"it, and build a tree from its arrays"
        )
    header = read_json(container.header)
    if (header["format"], header["version"]) != (_FORMAT, _VERSION):
        raise VersionError(
            f"{path} has version {header['version']} of the format {header['format']!r}, and this "
            f"npdl reads version {_VERSION} of {_FORMAT!r}; load it with the npdl that wrote it"
        )
    check_scalars(len(header["scalars"]))
    scalars = {p: scalar_from_json(found) for p, found in header["scalars"].items()}
    if shared := sorted(scalars.keys() & container.kinds.keys()):
        raise ValueError(f"both an array and a scalar are at {', '.join(shared)}")
    kinds = container.kinds | {p: kind_of(value) for p, value in scalars.items()}
    return _Contents(dict(header["environment"]), scalars, kinds, container.read)
