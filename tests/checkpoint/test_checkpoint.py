import json
import os
import pickle
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from arrays import Pair, Record, same_bits
from checkpoint_files import (
    DAMAGED,
    SUFFIXES,
    Exploit,
    declaring,
    forge,
    members,
    npy,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import peak
from strategies import NUMBERS, arrays, scalars, trees

import npdl
from npdl import checkpoint, tree
from npdl.checkpoint import CheckpointError, environment, load, save

both = pytest.mark.parametrize("suffix", SUFFIXES)
drawn = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TREE = {
    "step": 7,
    "params": ({"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": None}, ()),
    "rate": 0.1,
    "rng": (0, 3),
}
OTHER = tree.map(lambda leaf: leaf + 1, TREE)


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"run{request.param}"


@pytest.fixture
def npz(tmp_path):
    return tmp_path / "run.npz"


def entries(directory):
    return sorted(entry.name for entry in directory.iterdir())


# Round trips


@both
@drawn
@given(tree=trees(arrays() | scalars))
def test_every_tree_is_loaded_with_the_same_bits(tree, suffix, tmp_path):
    path = tmp_path / f"tree{suffix}"
    save(path, tree)
    assert same_bits(load(path, like=tree), tree)


@both
@drawn
@given(array=arrays(), order=st.sampled_from(["strided", "reversed", "transposed", "broadcast"]))
def test_the_memory_layout_does_not_change_the_values(array, order, suffix, tmp_path):
    strange = {
        "strided": lambda: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
        "reversed": lambda: np.asarray(np.flip(array), array.dtype),
        "transposed": lambda: array.T,
        "broadcast": lambda: np.broadcast_to(array, (2, *array.shape)),
    }[order]()
    path = tmp_path / f"array{suffix}"
    save(path, strange)
    found = load(path, like=strange)
    assert same_bits(found, strange)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.flags.owndata or found.base.flags.owndata
    assert not np.shares_memory(found, strange)


def test_special_values_keep_their_bits(path):
    bits = np.array([0x7F800001, 0xFFC12345, 0x80000000, 0x7F800000, 1], np.uint32)
    numbers = {"float32": bits.view(np.float32), "zero": -0.0, "infinite": -float("inf")}
    numbers["nan"] = struct.unpack(">d", bytes.fromhex("fff8000000abcdef"))[0]
    save(path, numbers)
    found = load(path, like=numbers)
    assert found["float32"].view(np.uint32).tolist() == bits.tolist()
    assert str(found["zero"]) == "-0.0"
    assert struct.pack(">d", found["nan"]).hex() == "fff8000000abcdef"
    assert same_bits(found, numbers)


SCALARS = [0, -1, 10**5000, -(2**63), True, False, 0.1, 1e308, 5e-324, "", 'é\0\n"', "名" * 500]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: f"{type(scalar).__name__}")
def test_python_scalars_keep_their_type_and_value(path, scalar):
    save(path, scalar)
    found = load(path, like=type(scalar)())
    assert type(found) is type(scalar)
    assert found == scalar


def test_an_npz_keeps_types_of_other_platforms(npz):
    numbers = [np.ones(2, kind) / 3 for kind in (np.longdouble, np.complex64, ">c16")]
    save(npz, numbers)
    for before, after in zip(numbers, load(npz, like=numbers), strict=True):
        assert after.dtype == before.dtype
        assert np.array_equal(after, before)


def test_a_file_treats_numpy_scalars_as_0d_arrays(path):
    save(path, {"a": np.float32(3), "b": np.array(4, np.int64)})
    found = load(path, like={"a": np.zeros((), np.float32), "b": np.int64(0)})
    assert same_bits(found, {"a": np.array(3, np.float32), "b": np.int64(4)})


@pytest.mark.parametrize("file_order", "<>")
@pytest.mark.parametrize("wanted_order", "<>")
def test_loading_gives_the_byte_order_of_like(path, file_order, wanted_order):
    bits = np.array([0x7F800001, 0xFFC12345, 0x3F800000], np.uint32)
    numbers = bits.view(np.float32)
    swapped = numbers.astype(f"{file_order}f4")
    save(path, {"a": swapped})
    found = load(path, like={"a": np.zeros(3, f"{wanted_order}f4")})["a"]
    assert found.dtype == np.dtype(f"{wanted_order}f4")
    native = found if found.dtype.isnative else found.byteswap().view(np.float32)
    assert native.view(np.uint32).tolist() == bits.tolist()


def test_loading_gives_the_container_types_of_like(path):
    save(path, Record(Pair(1, np.ones(2)), None))
    found = load(path, like=Record(Pair(0, np.zeros(2)), None))
    assert type(found) is Record
    assert same_bits(found.weight, Pair(1, np.ones(2)))


@pytest.mark.parametrize("key", ["a.npy", "npdl.json", "../up", "/root", "C:\\x", "a b", "é", "."])
def test_any_key_can_be_part_of_a_path(path, key):
    odd = {key: np.ones(2), "a": np.zeros(3), "npdl": 1}
    save(path, odd)
    assert same_bits(load(path, like=odd), odd)


def test_equal_trees_give_equal_files(npz):
    save(npz, TREE)
    first = npz.read_bytes()
    save(npz, TREE)
    assert npz.read_bytes() == first


@both
def test_equal_trees_give_equal_files_in_all_processes(suffix, tmp_path):
    program = f"""if True:
        import sys
        import numpy as np
        from npdl import checkpoint
        tree = {{"b": np.ones(3), "a": np.arange(4, dtype=np.int8), "\\xe9": np.ones(1)}}
        checkpoint.save(sys.argv[1] + "{suffix}", tree | {{"step": 3}})
        """
    found = set()
    for seed in range(3):
        path = tmp_path / str(seed)
        subprocess.run(
            [sys.executable, "-c", program, str(path)], check=True,
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        found.add(path.with_name(path.name + suffix).read_bytes())
    assert len(found) == 1


def test_a_long_list_of_tensors_is_refused_before_writing(tmp_path):
    with pytest.raises(ValueError, match=r"the list of arrays takes \d+ bytes, more than 4194304"):
        save(tmp_path / "run.safetensors", {f"{i}": np.ones(1, np.int8) for i in range(42_000)})
    assert entries(tmp_path) == []


def test_array_shapes_are_checked_against_the_file_size(path):
    save(path, TREE)
    assert checkpoint.array_shapes(path) == {"params/0/weight": (2, 3)}
    if path.suffix == ".npz":
        forge(path, (members(path) | {"params/0/weight.npy": declaring((10**8,))}).items())
        with pytest.raises(CheckpointError, match="params/0/weight have fewer bytes than their"):
            checkpoint.array_shapes(path)


def test_numpy_load_reads_the_arrays_and_the_header(npz):
    save(npz, TREE)
    with np.load(npz, allow_pickle=False) as archive:
        assert set(archive.files) == {"npdl.json", "params/0/weight"}
        assert same_bits(archive["params/0/weight"], TREE["params"][0]["weight"])
        header = json.loads(archive["npdl.json"])
    assert header["version"] == 2
    assert header["environment"] == environment()
    assert header["scalars"]["step"] == 7


def test_the_library_safetensors_reads_the_arrays(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    save(tmp_path / "run.safetensors", TREE)
    found = numpy.load_file(tmp_path / "run.safetensors")
    assert list(found) == ["params/0/weight"]
    assert same_bits(found["params/0/weight"], TREE["params"][0]["weight"])


# Paths


def test_a_path_may_be_a_string_or_path_like_and_is_kept(tmp_path, monkeypatch):
    class Like:
        def __fspath__(self):
            return "third.npz"

    monkeypatch.chdir(tmp_path)
    for path in ("first.npz", Path("second.npz"), Like()):
        save(path, TREE)
        assert same_bits(load(path, like=OTHER), TREE)
    assert entries(tmp_path) == ["first.npz", "second.npz", "third.npz"]


@pytest.mark.parametrize("name", ["run", "run.NPZ", "run.npy", "run.npz.bak", ".npz"])
def test_an_unknown_suffix_raises_and_lists_the_known_ones(tmp_path, name):
    message = r"unknown suffix .* ends in \.npz or \.safetensors"
    for call in (lambda: save(tmp_path / name, TREE), lambda: load(tmp_path / name, like=TREE)):
        with pytest.raises(ValueError, match=message):
            call()
    assert entries(tmp_path) == []


def test_saving_to_a_link_keeps_the_link(path):
    link = path.with_stem("latest")
    save(path, TREE)
    link.symlink_to(path.name)
    save(link, OTHER)
    assert link.is_symlink()
    assert same_bits(load(path, like=TREE), OTHER)


def test_the_mode_of_the_file_follows_the_umask(path):
    before = os.umask(0o027)
    try:
        save(path, TREE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_name_of_maximal_length_can_be_saved(tmp_path):
    path = tmp_path / ("n" * 251 + ".npz")
    save(path, TREE)
    assert entries(tmp_path) == [path.name]


# Trees that cannot be saved

UNSAVABLE = {
    "object array": (np.array([None]), TypeError, "a/0 is a ndarray of object"),
    "string array": (np.array(["x"]), TypeError, "a/0 is a ndarray of <U1"),
    "records": (np.zeros(2, [("x", "f4")]), TypeError, "a/0 is a ndarray of"),
    "masked array": (np.ma.masked_array([1.0], [True]), TypeError, "a/0 is a MaskedArray"),
    "bytes": (b"x", TypeError, "a/0 is a bytes"),
    "complex": (1j, TypeError, "a/0 is a complex"),
    "set": ({1}, TypeError, "a/0 is a set"),
    "layer": (npdl.functional.dense(2), TypeError, "a/0 is a Layer"),
    "function": (print, TypeError, "a/0 is a builtin_function_or_method"),
    "surrogate in a string": ("\ud83d", ValueError, "the string at a/0 is not valid Unicode"),
    "surrogate in a key": ({"\ud83d": 1}, ValueError, "a file cannot hold"),
    "NUL in a key": ({"b\0c": 1}, ValueError, "a file cannot hold"),
    "long key": ({"b" * 70_000: 1}, ValueError, "a file cannot hold"),
    "equal paths": ({"b/c": 1, "b": {"c": 2}}, ValueError, "two leaves .* path 'a/0/b/c'"),
    "1 and '1'": ({1: 1, "1": 2}, ValueError, "two leaves .* path 'a/0/1'"),
    "long string": ("x" * (1 << 24), ValueError, "the header takes"),
    "too many brackets": ("[{" * (1 << 18), ValueError, "the header has .* brackets"),
}


@pytest.mark.parametrize(("leaf", "kind", "message"), UNSAVABLE.values(), ids=UNSAVABLE)
def test_an_unsavable_leaf_raises_and_the_old_file_stays(path, leaf, kind, message):
    save(path, TREE)
    with pytest.raises(kind, match=message):
        save(path, {"a": [leaf]})
    assert same_bits(load(path, like=TREE), TREE)
    assert entries(path.parent) == [path.name]


def test_too_many_arrays_in_an_npz_are_refused(npz):
    long = "n" * 50_000
    with pytest.raises(ValueError, match=r"the list of arrays takes \d+ bytes, more than 4194304"):
        save(npz, {f"{long}{i}": np.ones(1) for i in range(90)})
    few = {f"{long}{i}": np.ones(1) for i in range(80)}
    save(npz, few)
    assert same_bits(load(npz, like=few), few)


@pytest.mark.parametrize("leaf", [np.ones(1, np.complex128), np.ones(1, np.longdouble)])
def test_a_type_that_safetensors_lacks_is_refused(tmp_path, leaf):
    with pytest.raises(TypeError, match=r"cannot hold \w+ \(a\); use \.npz"):
        save(tmp_path / "run.safetensors", {"a": leaf})
    assert entries(tmp_path) == []


def test_the_reserved_path_of_safetensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="__metadata__"):
        save(tmp_path / "run.safetensors", {"__metadata__": np.ones(2)})
    save(tmp_path / "run.npz", {"__metadata__": np.ones(2)})


# Failures while writing


def fail(error):
    def failing(*args, **kwargs):
        raise error

    return failing


FAILURES = {
    "the disk is full at fsync": ("os.fsync", OSError(28, "No space left on device")),
    "renaming is refused": ("os.replace", PermissionError(13, "Permission denied")),
    "interrupted at fsync": ("os.fsync", KeyboardInterrupt()),
    "interrupted at renaming": ("os.replace", KeyboardInterrupt()),
    "out of memory at fsync": ("os.fsync", MemoryError()),
}


@pytest.mark.parametrize(("target", "error"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("exists", [True, False], ids=["replacing", "new"])
def test_a_failure_leaves_only_the_old_file(path, monkeypatch, target, error, exists):
    if exists:
        save(path, TREE)
    with monkeypatch.context() as patch:
        patch.setattr(target, fail(error))
        with pytest.raises(type(error)) as raised:
            save(path, OTHER)
    assert raised.value is error
    assert "was not written" in error.__notes__[-1]
    assert entries(path.parent) == ([path.name] if exists else [])
    if exists:
        assert same_bits(load(path, like=TREE), TREE)


@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("calls", [0, 1])
def test_a_failure_between_arrays_leaves_only_the_old_file(npz, monkeypatch, error, calls):
    two = {"a": np.zeros(3), "b": np.zeros(4)}
    save(npz, two)
    write, left = np.lib.format.write_array, [None] * calls

    def failing(file, array, **options):
        if not left:
            file.write(b"half of")
            raise error
        left.pop()
        write(file, array, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", failing)
        with pytest.raises(type(error)):
            save(npz, tree.map(np.ones_like, two))
    assert same_bits(load(npz, like=two), two)
    assert entries(npz.parent) == [npz.name]


@pytest.mark.parametrize("limit", [0, 1, 100, 700, 4096, 20_000, 79_999])
def test_a_full_disk_leaves_only_the_old_file(path, limit):
    big = {"a": np.zeros(10_000), "b": np.zeros(10)}
    save(path, big)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Beyond the limit, every write fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            save(path, tree.map(np.ones_like, big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same_bits(load(path, like=big), big)
    assert entries(path.parent) == [path.name]


def test_save_syncs_the_file_renames_and_syncs_the_directory(path, monkeypatch):
    events = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        status = os.fstat(descriptor)
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        # Bytes in a buffer of Python would not be synced, so the size must be complete.
        events.append((kind, status.st_size if kind == "file" else None))
        sync(descriptor)

    def rename(source, target):
        assert Path(source).parent == Path(target).parent
        events.append(("rename", None))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    save(path, TREE)
    size = path.stat().st_size
    assert events == [("file", size), ("rename", None), ("directory", None)]


def test_a_failed_sync_of_the_directory_raises_after_writing(path, monkeypatch):
    save(path, TREE)
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    before = entries(Path("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    with pytest.raises(OSError, match="Input/output"):
        save(path, OTHER)
    if before is not None:
        assert len(entries(Path("/proc/self/fd"))) == len(before)
    assert same_bits(load(path, like=TREE), OTHER)
    assert entries(path.parent) == [path.name]


def test_a_missing_or_unwritable_directory_raises(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        save(tmp_path / "nowhere" / "run.npz", TREE)
    assert "nowhere/run.npz was not written" in raised.value.__notes__[-1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:
        closed = Path("/proc")  # root cannot write here either
    before = entries(tmp_path)
    with pytest.raises(OSError, match=r"\.tmp'"):
        save(closed / "run.npz", TREE)
    assert entries(tmp_path) == before


def test_an_existing_directory_of_that_name_is_kept(path):
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        save(path, TREE)
    assert entries(path.parent) == [path.name]
    with pytest.raises(IsADirectoryError):
        load(path, like=TREE)


KILLED = """
import sys
import numpy as np
from npdl import checkpoint
like = {"step": 0, "a": np.zeros((300, 300)), "b": np.zeros((200, 200))}
for step in range(1, 100_000):
    full = {"step": step, "a": np.full((300, 300), step / 1), "b": np.full((200, 200), step / 1)}
    checkpoint.save(sys.argv[1], full)
    if step == 1:
        print("started", flush=True)
"""


@both
def test_a_process_killed_at_any_moment_leaves_a_complete_file(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    like = {"step": 0, "a": np.zeros((300, 300)), "b": np.zeros((200, 200))}
    for delay in (0.0, 0.011, 0.037):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, path],
            stdout=subprocess.PIPE,
            cwd=Path(npdl.__file__).parents[1],
        ) as process:
            assert process.stdout.readline() == b"started\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        found = load(path, like=like)
        assert found["step"] >= 1
        assert (found["a"] == found["step"]).all()
        assert (found["b"] == found["step"]).all()


# Files that do not match

MISMATCHES = {
    "missing": (
        {"a": np.ones(2)},
        {"a": np.ones(2), "b": np.ones((3, 4))},
        "missing: b, float64[3, 4]",
    ),
    "missing scalar": ({}, {"b": 3}, "missing: b, a Python int"),
    "unexpected": ({"b": np.ones(2, np.float32)}, {}, "unexpected: b, float32[2]"),
    "unexpected scalar": ({"b": "x"}, {"b": None}, "unexpected: b, a Python str"),
    "shape": (
        {"b": np.ones((2, 3))},
        {"b": np.ones((3, 2))},
        "different shape: b is float64[2, 3] in the file, but float64[3, 2] in `like`",
    ),
    "no axes": (
        {"b": np.ones(1)},
        {"b": np.ones(())},
        "different shape: b is float64[1] in the file, but float64[] in `like`",
    ),
    "width": (
        {"b": np.ones(2, np.float32)},
        {"b": np.ones(2)},
        "different type: b is float32[2] in the file, but float64[2] in `like`",
    ),
    "sign": (
        {"b": np.ones(2, np.int32)},
        {"b": np.ones(2, np.uint32)},
        "different type: b is int32[2] in the file, but uint32[2] in `like`",
    ),
    "type and shape": (
        {"b": np.ones(2, np.int32)},
        {"b": np.ones(3)},
        "different type: b is int32[2] in the file, but float64[3] in `like`",
    ),
    "int for a float": (
        {"b": 1},
        {"b": 1.0},
        "different type: b is a Python int in the file, but a Python float in `like`",
    ),
    "bool for an int": (
        {"b": True},
        {"b": 1},
        "different type: b is a Python bool in the file, but a Python int in `like`",
    ),
    "bool for a bool array": (
        {"b": True},
        {"b": np.array(True)},
        "different type: b is a Python bool in the file, but bool[] in `like`",
    ),
    "array for an int": (
        {"b": np.array(1)},
        {"b": 1},
        "different type: b is int64[] in the file, but a Python int in `like`",
    ),
    "the root": (
        np.ones(2),
        np.ones(3),
        "different shape: the root is float64[2] in the file, but float64[3] in `like`",
    ),
    "deeper": ({"b": np.ones(2)}, {"b": (np.ones(2),)}, "missing: b/0, float64[2]"),
}


@pytest.mark.parametrize(("saved", "like", "message"), MISMATCHES.values(), ids=MISMATCHES)
def test_a_mismatch_is_named_with_both_sides(path, saved, like, message):
    save(path, saved)
    with pytest.raises(CheckpointError) as raised:
        load(path, like=like)
    assert f"  {message}\n" in str(raised.value)
    assert str(path) in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_all_mismatches_are_listed_before_reading_arrays(path, monkeypatch):
    save(path, {"a": np.ones(2), "b": np.ones(2), "c": 1, "d": np.ones(2), "e": np.ones(2)})
    monkeypatch.setattr(np.lib.format, "read_array", fail(AssertionError("an array was read")))
    with pytest.raises(CheckpointError) as raised:
        load(path, like={"a": np.ones(3), "b": np.ones(2, int), "c": 1.0, "d": np.ones(2), "f": 2})
    lines = str(raised.value).splitlines()
    assert [line.split(",")[0] for line in lines[1:-1]] == [
        "  missing: f",
        "  unexpected: e",
        "  different shape: a is float64[2] in the file",
        "  different type: b is float64[2] in the file",
        "  different type: c is a Python int in the file",
    ]
    assert "npdl.tree.astype" in lines[-1]


def test_two_leaves_of_like_at_one_path_are_refused(path):
    save(path, {"a": {"b": 1}})
    with pytest.raises(ValueError, match="two leaves"):
        load(path, like={"a": {"b": 1}, "a/b": 2})


def test_a_missing_file_raises_file_not_found(path):
    with pytest.raises(FileNotFoundError):
        load(path, like=TREE)
    with pytest.raises(FileNotFoundError):
        environment(path)


# Damaged and hostile files


@both
def test_a_flipped_bit_raises_or_changes_no_value(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    save(path, DAMAGED)
    whole = path.read_bytes()
    errors = 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << (position * 5 + position // 8) % 8
        path.write_bytes(changed)
        try:
            found = load(path, like=DAMAGED)
        except CheckpointError:
            errors += 1
        else:
            assert same_bits(found, DAMAGED), position
    assert errors > len(whole) / 2


@both
def test_every_flipped_bit_of_an_array_raises(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    array = np.arange(3, 13, dtype=np.float32)
    save(path, {"a": array})
    whole = path.read_bytes()
    start = whole.index(array.tobytes())
    for bit in range(8 * array.nbytes):
        changed = bytearray(whole)
        changed[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match="damaged"):
            load(path, like={"a": array})


@both
def test_a_truncated_file_raises_and_advises_a_copy(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    save(path, DAMAGED)
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="restore it from a copy"):
            load(path, like=DAMAGED)
        with pytest.raises(CheckpointError, match="restore it from a copy"):
            environment(path)


@both
@drawn
@given(data=st.binary(max_size=200))
def test_a_file_of_arbitrary_bytes_raises(tmp_path, suffix, data):
    path = tmp_path / f"run{suffix}"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged, or not a checkpoint"):
        load(path, like=DAMAGED)


def test_a_file_of_another_library_is_named_as_such(path):
    if path.suffix == ".npz":
        np.savez(path, a=np.ones(2))
    else:
        pytest.importorskip("safetensors.numpy").save_file({"a": np.ones(2)}, path)
    with pytest.raises(CheckpointError, match="was not written by npdl"):
        load(path, like={"a": np.ones(2)})


def test_another_version_of_the_format_is_refused(npz):
    save(npz, TREE)
    pairs = members(npz)
    header = json.loads(pairs["npdl.json"])
    for change in ({"version": 1}, {"version": 3}, {"format": "other"}):
        forge(npz, (pairs | {"npdl.json": json.dumps(header | change)}).items())
        with pytest.raises(CheckpointError, match=r"reads version 2 of 'npdl\.checkpoint'"):
            load(npz, like=TREE)


HEADERS = {
    "not JSON": "{",
    "not an object": "[]",
    "empty": "{}",
    "not UTF-8": b"\xff",
    "deep": "[" * 100_000,
    "an int without digits": {"scalars": {"step": {"int": 7}}},
    "a float that is too short": {"scalars": {"step": {"float": "00"}}},
    "an unknown type": {"scalars": {"step": {"eval": "print()"}}},
    "two types": {"scalars": {"step": {"int": "0x7", "float": "00"}}},
    "a list": {"scalars": {"step": ["int", "0x7"]}},
    "nothing": {"scalars": {"step": None}},
    "no scalars": {"scalars": None},
    "no environment": {"environment": None},
    "an array and a scalar": {"scalars": {"params/0/weight": 7}},
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_an_invalid_header_is_refused(npz, change):
    save(npz, TREE)
    pairs = members(npz)
    if isinstance(change, dict):
        change = json.dumps(json.loads(pairs["npdl.json"]) | change)
    forge(npz, (pairs | {"npdl.json": change}).items())
    with pytest.raises(CheckpointError, match="damaged"):
        load(npz, like=TREE)


# An additional member: its name, its bytes, and the error message.
MEMBERS = {
    "other suffix": ("notes.txt", b"", "'notes.txt' is not an array"),
    "directory": ("a/", b"", "'a/' is not an array"),
    "not an array": ("b.npy", b"text", "damaged"),
    "empty": ("b.npy", b"", "damaged"),
    "other version": ("b.npy", b"\x93NUMPY\x03\x00" + npy(np.ones(1))[8:], "version"),
    "too long": ("b.npy", npy(np.ones(1)) + b"x", "longer than its array"),
    "too short": ("b.npy", npy(np.ones(1))[:-1], "damaged"),
    "code in the header": (
        "b.npy",
        npy(np.ones(1)).replace(b"'descr': '<f8'", b"'descr': exit()"),
        "damaged",
    ),
    "deep header": (
        "b.npy",
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 8999 + b"1",
        "damaged",
    ),
}


@pytest.mark.parametrize(("name", "data", "message"), MEMBERS.values(), ids=MEMBERS)
def test_an_invalid_member_is_refused(npz, name, data, message):
    save(npz, {"a": np.ones(1)})
    forge(npz, [*members(npz).items(), (name, data)])
    with pytest.raises(CheckpointError, match=message):
        load(npz, like={"a": np.ones(1), "b": np.ones(1)})


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a.npy", "npdl.json", "a.npy\0.npy"])
def test_two_members_of_one_name_are_refused(npz, name):
    save(npz, {"a": np.ones(1)})
    pairs = members(npz)
    # zipfile would cut the name at its NUL, so the name is patched in the bytes.
    forge(npz, [*pairs.items(), (name.replace("\0", "_"), pairs[name.split("\0")[0]])])
    npz.write_bytes(npz.read_bytes().replace(b"a.npy_.npy", b"a.npy\0.npy"))
    with pytest.raises(CheckpointError, match="two members have the name"):
        load(npz, like={"a": np.ones(1)})


def test_a_pickle_in_the_file_is_not_loaded(npz):
    array = np.array([Exploit()], dtype=object)
    save(npz, {"a": np.ones(1)})
    forge(npz, (members(npz) | {"a.npy": npy(array)}).items())
    with pytest.raises(CheckpointError, match=r"a is object\[1\] in the file"):
        load(npz, like={"a": np.ones(1)})
    forge(npz, (members(npz) | {"a.npy": pickle.dumps(array)}).items())
    with pytest.raises(CheckpointError, match="damaged"):
        load(npz, like={"a": np.ones(1)})
    npz.write_bytes(pickle.dumps(array))
    with pytest.raises(CheckpointError, match="damaged"):
        load(npz, like={"a": np.ones(1)})
    assert not Exploit.ran


@pytest.mark.parametrize("shape", [(10**8,), (10**12,), (10**5, 10**5, 10**5), (2**62, 2**62)])
def test_a_declared_shape_allocates_nothing(npz, shape):
    save(npz, {"a": np.ones(1, np.float32)})
    forge(npz, (members(npz) | {"a.npy": declaring(shape)}).items())

    def refused():
        with pytest.raises(CheckpointError, match="different shape: a is float32"):
            load(npz, like={"a": np.ones(1, np.float32)})

    assert peak(refused)[0] < 1 << 21


def test_an_array_of_huge_elements_allocates_nothing(npz):
    save(npz, {"a": np.ones(1)})
    forge(npz, (members(npz) | {"a.npy": declaring((1,), "|V1000000000")}).items())

    def refused():
        with pytest.raises(CheckpointError, match="different type: a is void"):
            load(npz, like={"a": np.ones(1)})

    assert peak(refused)[0] < 1 << 21


@pytest.mark.parametrize("name", ["npdl.json", "a.npy"])
def test_compressed_members_are_refused_before_expansion(npz, name):
    save(npz, {"a": np.ones(1)})
    pairs = members(npz) | {name: bytes(1 << 26)}
    forge(npz, pairs.items(), zipfile.ZIP_DEFLATED)

    def refused():
        with pytest.raises(CheckpointError, match="is compressed"):
            load(npz, like={"a": np.ones(1)})

    del pairs
    assert peak(refused)[0] < 1 << 21


@pytest.mark.parametrize("size", [1 << 20, 1 << 30, (1 << 32) - 2])
@pytest.mark.parametrize("name", ["npdl.json", "a.npy"])
def test_a_member_larger_than_the_file_allocates_nothing(npz, name, size):
    save(npz, {"a": np.ones(1)})
    data = bytearray(npz.read_bytes())
    entry = data.index(b"PK\x01\x02")  # of the central directory
    while data[entry + 46 : entry + 46 + len(name)] != name.encode():
        entry = data.index(b"PK\x01\x02", entry + 4)
    data[entry + 20 : entry + 28] = struct.pack("<LL", size, size)
    npz.write_bytes(data)

    def refused():
        with pytest.raises(CheckpointError, match="more bytes than the file has"):
            load(npz, like={"a": np.ones(1)})

    assert peak(refused)[0] < 1 << 21


def test_a_header_beyond_the_limit_is_not_read(path):
    if path.suffix == ".npz":
        save(path, {"a": np.ones(1)})
        forge(path, (members(path) | {"npdl.json": b" " * ((1 << 24) + 1)}).items())
    else:
        path.write_bytes(struct.pack("<Q", 1 << 25) + b" " * (1 << 25))

    def refused():
        with pytest.raises(CheckpointError, match="the header takes"):
            load(path, like={"a": np.ones(1)})

    assert peak(refused)[0] < 1 << 21


# The environment


def test_the_environment_is_read_from_the_file(path):
    save(path, TREE)
    assert environment(path) == environment()
    assert json.loads(json.dumps(environment())) == environment()
    assert environment()["npdl"] == npdl.__version__
    assert environment()["numpy"] == np.__version__
    assert environment()["byteorder"] == sys.byteorder


THREADS = {
    "one": ({"OPENBLAS_NUM_THREADS": "1"}, 1),
    "OpenMP": ({"OMP_NUM_THREADS": "2"}, 2),
    "OpenBLAS first": ({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}, 1),
    "at most the processors": ({"OPENBLAS_NUM_THREADS": "64"}, 3),
    "the older name": ({"GOTO_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}, 1),
    "the default": ({"OPENBLAS_DEFAULT_NUM_THREADS": "2"}, 2),
    "no default": ({"OPENBLAS_DEFAULT_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 1),
    "other library": ({"MKL_NUM_THREADS": "1"}, 3),
    "unset": ({}, 3),
    "empty": ({"OPENBLAS_NUM_THREADS": ""}, 3),
    "zero": ({"OPENBLAS_NUM_THREADS": "0"}, 3),
    "not a number": ({"OPENBLAS_NUM_THREADS": "²"}, 3),
}


@pytest.mark.parametrize(("variables", "expected"), THREADS.values(), ids=THREADS)
def test_the_number_of_threads_follows_the_variables(monkeypatch, variables, expected):
    # A dict, since an ASCII locale cannot hold environment variables with other letters.
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    monkeypatch.setattr(os, "environ", kept | variables)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    assert npdl.checkpoint._environment._threads("scipy-openblas") == expected


def elsewhere(**variables):
    """Return the environment of a process with other environment variables."""
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    program = "import json, npdl.checkpoint as c; print(json.dumps(c.environment()))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True,
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
    )  # fmt: skip
    return json.loads(ran.stdout)


PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
OPENBLAS = "openblas" in environment()["blas"]
CHANGING = {
    "kernels of another processor": ({"OPENBLAS_CORETYPE": "Nehalem"}, "kernel", OPENBLAS),
    "disabled instructions": (
        {"NPY_DISABLE_CPU_FEATURES": " ".join(environment()["simd"])},
        "simd",
        bool(environment()["simd"]),
    ),
} | {
    f"threads by {name}": ({name: "1"}, "threads", OPENBLAS and PROCESSORS > 1)
    for name in (
        *("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
        "OPENBLAS_DEFAULT_NUM_THREADS",
    )
}


@pytest.mark.parametrize(("variables", "field", "known"), CHANGING.values(), ids=CHANGING)
def test_variables_that_change_bits_change_the_environment(variables, field, known):
    if not known or environment()["kernel"] in ("unknown", "Nehalem"):
        pytest.skip("the variable changes nothing here")
    before, after = elsewhere(), elsewhere(**variables)
    assert before[field] != after[field]
    assert {k: v for k, v in before.items() if k != field} == {
        k: v for k, v in after.items() if k != field
    }


def test_the_strategies_draw_every_type_of_array():
    # A type that is added to the formats must be added to the strategies.
    from npdl.checkpoint._files.safetensors import TYPES

    assert {np.dtype(dtype).name for dtype in NUMBERS} == set(TYPES.values())
