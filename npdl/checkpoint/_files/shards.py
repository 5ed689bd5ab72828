"""Arrays of other libraries: in one file, or in several files with an index.

An index is a file in JSON, as ``model.safetensors.index.json``. Its ``weight_map`` has the name of
each array and the name of the file with this array, in the same folder.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from npdl.checkpoint._files.containers import opened
from npdl.checkpoint._files.limits import (
    CheckpointError,
    Container,
    check_length,
    check_names,
    damage,
    read_json,
)

__all__ = ["opened_arrays"]

_INDEX = ".index.json"
_MOST_SHARDS = 512  # all of them are open at once


@contextlib.contextmanager
def opened_arrays(source: str | os.PathLike[str]) -> Iterator[tuple[Path, Container]]:
    """Open a file of arrays, an index, or a folder with one of these; yield its path, too.

    Raises
    ------
    CheckpointError
        If the file is damaged, or an index names a missing file, a file in another folder or a
        missing array.
    ValueError
        If the suffix is unknown, or a folder has no such file or several.
    """
    path = _file_of(Path(source))
    if not path.name.endswith(_INDEX):
        with opened(path) as container:
            yield path, container
        return
    with contextlib.ExitStack() as stack:
        files = _weight_map(path)
        shards = {
            name: stack.enter_context(opened(path.with_name(name)))
            for name in dict.fromkeys(files.values())
        }
        yield path, _merged(path, files, shards)


def _file_of(path: Path) -> Path:
    """Return the file of a folder; an index comes before the files that it lists."""
    if not path.is_dir():
        return path
    for pattern in (f"*.safetensors{_INDEX}", "*.safetensors"):
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"the folder {path} has several files, "
                f"{', '.join(file.name for file in found):.200}; pass the path of one of them"
            )
    raise ValueError(f"the folder {path} has no file that ends in .safetensors or {_INDEX}")


def _weight_map(path: Path) -> dict[str, str]:
    """Return the file of each array, after a check of all names and files."""
    with path.open("rb") as file, damage(path, "weight index"):
        check_length(os.fstat(file.fileno()).st_size)
        files = dict(read_json(file.read().decode())["weight_map"])
        check_names(files)
        names = list(dict.fromkeys(files.values()))
        if len(names) > _MOST_SHARDS:
            raise ValueError(f"it names {len(names)} files, but at most {_MOST_SHARDS} are allowed")
        for name in names:
            if not _is_safetensors(name):
                raise CheckpointError(
                    f"{path} names the file {name!r:.200}; expected the name of a .safetensors "
                    f"file in the folder of the index"
                )
    if missing := [name for name in names if not path.with_name(name).is_file()]:
        raise CheckpointError(
            f"{path} names files that are not in its folder: {', '.join(missing):.400}; copy them "
            f"into {path.parent}"
        )
    return files


def _is_safetensors(name: Any) -> bool:
    """Whether a value is the name of a .safetensors file, without a folder on any system."""
    return (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and name == Path(name).name == PureWindowsPath(name).name
        and "\0" not in name
    )


def _merged(path: Path, files: dict[str, str], shards: dict[str, Container]) -> Container:
    """Return the arrays of all shards; an array that the index lacks keeps its name."""
    if lacking := [name for name, file in files.items() if name not in shards[file].kinds]:
        raise CheckpointError(
            f"{path} lists arrays that are not in their files: {', '.join(lacking):.400}; copy the "
            f"index and all of its files again"
        )
    for file, shard in shards.items():
        files = files | {name: file for name in shard.kinds if name not in files}
    check_names(files)
    headers = [shard.header for shard in shards.values() if shard.header is not None]
    return Container(
        header=headers[0] if headers else None,
        kinds={name: shards[file].kinds[name] for name, file in files.items()},
        read=lambda name: shards[files[name]].read(name),
    )
