"""Atomic replacement of files: write a temporary file, sync it to disk, rename it."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["free_name", "remove_abandoned", "replace_file", "sync_directory"]


def replace_file(
    path: Path, write: Callable[[BinaryIO], None], check: Callable[[Path], None]
) -> None:
    """Write a temporary file, check it on the disk, and rename it to `path`.

    The new file has the mode of the old one. The temporary file is locked, so that another process
    can distinguish it from the leftover of a killed process. `check` gets the path of the temporary
    file.

    Raises
    ------
    OSError
        If the file system fails. A note on this error, and on errors of `check`, says whether
        `path` is unchanged. The temporary file is removed.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.tmp")
    renaming = False
    try:
        with contextlib.ExitStack() as held:
            with _created(temporary, _mode(path)) as file:
                _lock(file.fileno())
                if os.name == "posix":
                    # The lock lasts until all descriptors are closed.
                    held.callback(os.close, os.dup(file.fileno()))
                write(file)
                file.flush()
                os.fsync(file.fileno())
                if hasattr(os, "posix_fadvise"):
                    # Drop the page cache, so that the check reads the disk.
                    with contextlib.suppress(OSError):
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            check(temporary)
            renaming = True
            temporary.replace(path)
    except BaseException as error:
        if renaming and not os.path.lexists(temporary):
            error.add_note(f"{path} was written, and has replaced the old file")
        else:
            error.add_note(f"{path} was not written; an old file is unchanged")
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    try:
        sync_directory(path.parent)
    except OSError as error:
        error.add_note(f"{path} was written, but a power failure may bring back the old file")
        raise


# Errors of systems that cannot open or sync a directory; a failing disk gives EIO.
_UNSUPPORTED = {
    *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    *(errno.EBADF, errno.EISDIR, errno.ENOTTY, errno.EROFS),
}


def sync_directory(directory: Path) -> None:
    """Sync the names in a directory to disk, if the system and the file system support it.

    Raises
    ------
    OSError
        If the disk fails.
    """
    if os.name != "posix":
        return
    with _where_supported():
        opened = os.open(directory, os.O_RDONLY)
        try:
            with _where_supported():
                os.fsync(opened)
        finally:
            os.close(opened)


def remove_abandoned(directory: Path, pattern: str) -> None:
    """Remove the temporary files of killed processes; no program reads them."""
    for path in directory.glob(pattern):
        if not _is_locked(path):
            path.unlink(missing_ok=True)


def free_name(path: Path) -> Path:
    """Return an unused path: the given one, or the given one with a number appended."""
    found, number = path, 1
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _mode(path: Path) -> int | None:
    """Return the mode of an existing file, so that a private file stays private."""
    try:
        return stat.S_IMODE(path.stat().st_mode) & 0o777
    except FileNotFoundError:
        return None


def _created(path: Path, mode: int | None) -> Any:
    """Create a file with a mode; no other process can open it before the mode is set."""
    if mode is None:
        return path.open("xb")
    file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode | 0o200))  # noqa: SIM115
    # The umask has removed bits of the mode. Some file systems have no modes.
    with contextlib.suppress(OSError):
        path.chmod(mode)
    return file


def _lock(descriptor: int) -> bool:
    """Lock a file; return `False` if another process holds the lock."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass  # Windows and some file systems lack such locks
    return True


def _is_locked(path: Path) -> bool:
    """Whether another process may be writing a file; true for a file that cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)
