"""Limited file systems and failing disks: saving works, or raises with a true message."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from arrays import same_bits
from checkpoint_files import SUFFIXES

import npdl.functional as F
from npdl import checkpoint
from npdl.checkpoint._files import disk
from npdl.training import Checkpoint, fit

TREE, OTHER = {"a": np.arange(5.0)}, {"a": np.zeros(5)}
# Errors of systems that do not support an operation; a failing disk gives EIO.
UNSUPPORTED = ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EACCES", "EPERM", "EROFS"]


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"run{request.param}"


def names(directory):
    return sorted(entry.name for entry in directory.iterdir())


def run(directory, **options):
    x = np.ones((4, 2), np.float32)
    return fit(
        F.dense(1), F.mean_squared_error, F.adam(0.1), (x, x[:, :1]), batch_size=2, progress=False,
        checkpoint=Checkpoint(directory, every_steps=1, keep=2), **{"epochs": 2} | options,
    )  # fmt: skip


def failing_sync(number, of_directories=True):
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_directories:
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
        sync(descriptor)

    return fsync


@pytest.mark.parametrize("number", UNSUPPORTED)
def test_saving_works_if_a_directory_cannot_be_synced(number, path, monkeypatch):
    checkpoint.save(path, OTHER)
    monkeypatch.setattr(os, "fsync", failing_sync(number))
    checkpoint.save(path, TREE)
    assert same_bits(checkpoint.load(path, like=TREE), TREE)
    run(path.parent / "run")
    assert len(names(path.parent / "run")) == 2


@pytest.mark.parametrize("number", ["EACCES", "EPERM"])
def test_saving_works_if_a_directory_cannot_be_opened(number, path, monkeypatch):
    opened = os.open

    def open(name, flags, *rest, **options):
        if Path(name).is_dir():
            raise OSError(getattr(errno, number), "no")
        return opened(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", open)
    checkpoint.save(path, TREE)
    assert same_bits(checkpoint.load(path, like=TREE), TREE)
    run(path.parent / "run")
    assert len(names(path.parent / "run")) == 2


def test_saving_works_if_a_directory_cannot_be_listed(tmp_path, monkeypatch):
    def iterdir(path):
        raise PermissionError(errno.EACCES, "no", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", iterdir)
        run(tmp_path / "run")
        with pytest.raises(PermissionError):  # the directory exists, but its files are unknown
            run(tmp_path / "run", resume=True)
    assert len(names(tmp_path / "run")) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user id")
def test_saving_works_in_directories_without_read_permission():
    program = """if True:
        import os, pathlib, sys
        import numpy as np
        from npdl import checkpoint
        from npdl.training._checkpoint import Checkpoint
        tree = {"a": np.ones(2)}
        checkpoint.save("first.npz", tree)  # imports all modules
        checkpoint.load("first.npz", tree)
        os.setuid(12345)
        for directory in ("home/mine", "box"):
            checkpoint.save(f"{directory}/a.npz", tree)
            checkpoint.load(f"{directory}/a.npz", tree)
            Checkpoint(directory).prepare(False, ["loss"], tree)
        try:
            os.listdir("box")
        except PermissionError:
            print("saved")
        """
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "home" / "mine").mkdir(parents=True)
        (root / "box").mkdir()
        os.chown(root / "home" / "mine", 12345, -1)
        os.chown(root / "box", 12345, -1)
        for each, mode in ((root, 0o711), (root / "home", 0o711), (root / "box", 0o300)):
            each.chmod(mode)
        path = os.pathsep.join(sys.path)
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8",
            cwd=root, env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    assert ran.stdout == "saved\n", ran.stderr


def test_saving_works_if_posix_fadvise_fails(path, monkeypatch):
    def posix_fadvise(*args):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", posix_fadvise, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    checkpoint.save(path, TREE)
    run(path.parent / "run")
    assert same_bits(checkpoint.load(path, like=TREE), TREE)


@pytest.mark.parametrize("number", ["EIO", "ENOSPC", "ESTALE"])
def test_a_failure_after_renaming_says_the_file_was_written(number, path, monkeypatch):
    checkpoint.save(path, OTHER)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing_sync(number))
        with pytest.raises(OSError, match=os.strerror(getattr(errno, number))) as caught:
            checkpoint.save(path, TREE)
    notes = " ".join(caught.value.__notes__)
    assert "was written, but a power failure may bring back" in notes
    assert "was not written" not in notes
    assert same_bits(checkpoint.load(path, like=TREE), TREE)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "late"), KeyboardInterrupt()])
def test_an_error_in_renaming_says_whether_it_was_renamed(error, path, monkeypatch):
    replace = os.replace

    def renamed(*args):
        replace(*args)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", renamed)
        with pytest.raises(type(error)) as caught:
            checkpoint.save(path, TREE)
    assert "was written" in " ".join(caught.value.__notes__)
    assert same_bits(checkpoint.load(path, like=TREE), TREE)
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
def test_a_replaced_file_keeps_its_mode(mode, path):
    checkpoint.save(path, OTHER)
    path.chmod(mode)
    checkpoint.save(path, TREE)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert same_bits(checkpoint.load(path, like=TREE), TREE)


@pytest.mark.parametrize("number", ["ESTALE", "EIO", "EACCES"])
def test_a_file_of_unknown_mode_is_not_replaced(number, path, monkeypatch):
    checkpoint.save(path, OTHER)
    path.chmod(0o600)
    looked = Path.stat

    def stat_(self, **options):
        if self == path:
            raise OSError(getattr(errno, number), "no")
        return looked(self, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", stat_)
        with pytest.raises(OSError, match="no") as caught:
            checkpoint.save(path, TREE)
    assert "was not written" in " ".join(caught.value.__notes__)
    assert same_bits(checkpoint.load(path, like=OTHER), OTHER)
    assert names(path.parent) == [path.name]


def test_a_private_file_is_private_while_it_is_written(path, monkeypatch):
    checkpoint.save(path, OTHER)
    path.chmod(0o600)
    modes, sync = [], os.fsync

    def fsync(descriptor):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    created = os.open

    def open(name, flags, *mode, **options):
        descriptor = created(name, flags, *mode, **options)
        if flags & os.O_CREAT:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "open", open)
    checkpoint.save(path, TREE)
    assert modes[:2] == [0o600, 0o600]


def test_the_write_test_of_the_directory_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_sync("ENOSPC", of_directories=False))
    with pytest.raises(OSError, match="no checkpoints can be written in"):
        run(tmp_path / "run")
    assert names(tmp_path / "run") == []


fcntl = pytest.importorskip("fcntl")


def test_the_temporary_file_of_a_live_process_is_kept(tmp_path):
    live, dead = tmp_path / ".step-1.npz.01.tmp", tmp_path / ".step-2.npz.02.tmp"
    dead.write_bytes(b"half")
    with live.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run(tmp_path, resume=False)
        assert live.exists()
        assert not dead.exists()
    disk.remove_abandoned(tmp_path, ".step-*.tmp")
    assert not live.exists()


@pytest.mark.parametrize("number", ["EMFILE", "EACCES", "ESTALE", "EIO"])
def test_a_temporary_file_that_cannot_be_opened_is_kept(number, tmp_path, monkeypatch):
    live, opened = tmp_path / ".step-1.npz.01.tmp", os.open
    live.write_bytes(b"half")

    def open(name, *rest, **options):
        if Path(name) == live:
            raise OSError(getattr(errno, number), "no")
        return opened(name, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open)
        disk.remove_abandoned(tmp_path, ".step-*.tmp")
    assert live.read_bytes() == b"half"
    disk.remove_abandoned(tmp_path, ".step-*.tmp")
    assert not live.exists()


def test_the_temporary_file_is_locked_until_it_is_renamed(path, monkeypatch):
    seen, replace = [], os.replace

    def renamed(source, target):
        disk.remove_abandoned(path.parent, ".*.tmp")
        seen.append(Path(source).exists())
        replace(source, target)

    monkeypatch.setattr(os, "replace", renamed)
    checkpoint.save(path, TREE)
    assert seen == [True]


@pytest.mark.parametrize("moment", ["between opening and writing", "while a member is closed"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(28, "full")])
def test_an_interrupt_while_writing_a_zip_propagates(error, moment, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    checkpoint.save(path, OTHER)
    member = zipfile._ZipWriteFile

    def interrupted(*args):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(member, "__enter__" if "between" in moment else "__exit__", interrupted)
        with pytest.raises(type(error)) as caught:
            checkpoint.save(path, TREE)
    assert caught.value is error
    assert names(tmp_path) == ["run.npz"]
    assert same_bits(checkpoint.load(path, like=OTHER), OTHER)
