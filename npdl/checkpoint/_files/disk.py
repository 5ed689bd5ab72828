"""Atomic replacement of files: write a temporary file, force it to the disk, rename it."""

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
    can tell it from the leftover of a kill.

    Raises
    ------
    OSError
        If the file system refuses; a note says whether `path` is as it was. No temporary file is
        left. The same holds for the errors of `check`, which gets the path of the temporary file.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.tmp")
    renaming = False
    try:
        with contextlib.ExitStack() as held:
            with _created(temporary, _mode(path)) as file:
                _lock(file.fileno())
                if os.name == "posix":
                    # The lock lasts as long as one of the descriptors.
                    held.callback(os.close, os.dup(file.fileno()))
                write(file)
                file.flush()
                os.fsync(file.fileno())
                if hasattr(os, "posix_fadvise"):
                    # The check then reads the disk, not the memory that was written from.
                    with contextlib.suppress(OSError):
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            check(temporary)
            renaming = True
            temporary.replace(path)
    except BaseException as error:
        if renaming and not os.path.lexists(temporary):
            error.add_note(f"{path} was written, and has replaced what was there")
        else:
            error.add_note(f"{path} was not written; what was there is untouched")
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    try:
        sync_directory(path.parent)
    except OSError as error:
        error.add_note(f"{path} was written, but a loss of power may bring back what was there")
        raise


# How systems say that a directory cannot be opened or synced; a disk that fails says EIO.
_UNSUPPORTED = {
    *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    *(errno.EBADF, errno.EISDIR, errno.ENOTTY, errno.EROFS),
}


def sync_directory(directory: Path) -> None:
    """Force the names in a directory to the disk, where the system and the file system can.

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
    """Return a path that nothing has: the one given, or one with a number after it."""
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
    """Return the mode of a file that is there; a private file stays private, or is an error."""
    try:
        return stat.S_IMODE(path.stat().st_mode) & 0o777
    except FileNotFoundError:
        return None


def _created(path: Path, mode: int | None) -> Any:
    """Create a file with a mode; no other process can open it before the mode is set."""
    if mode is None:
        return path.open("xb")
    file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode | 0o200))  # noqa: SIM115
    # The umask has taken away from the mode; some file systems have none.
    with contextlib.suppress(OSError):
        path.chmod(mode)
    return file


def _lock(descriptor: int) -> bool:
    """Lock a file, and say whether another process has not locked it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass  # neither Windows nor all file systems have such locks
    return True


def _is_locked(path: Path) -> bool:
    """Whether another process may be writing a file: also one that cannot be opened now."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)
