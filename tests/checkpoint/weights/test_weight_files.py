"""Files of other libraries: half precision, several files with an index, compressed archives."""

import json
import re
import struct
import zipfile

import numpy as np
import pytest
from arrays import normal
from checkpoint_files import declaring, npy

import npdl.functional as F
from npdl import checkpoint, tree
from npdl.checkpoint import CheckpointError, from_keras, from_torch

MODEL = F.serial(F.dense(4), F.relu(), F.dense(3, bias=False))
LIKE = MODEL.init(0, (5,))
FULL = {
    "a.bias": normal(4, seed=1),
    "a.weight": normal(4, 5, seed=2),
    "b.weight": normal(3, 4, seed=3),
}
BITS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "I8": "i1"}


def tensors(path, arrays, kind="F32", metadata=None):
    """Write a file of safetensors, independently of npdl and of the library."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, array in arrays.items():
        if kind == "BF16":
            array = array.view(np.uint32) >> 16
        start, data = len(data), data + array.astype(BITS[kind]).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [start, len(data)],
        }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def index(folder, files, name="model.safetensors.index.json"):
    """Write the index of arrays by file."""
    listed = {array: file for file, arrays in files.items() for array in arrays}
    path = folder / name
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}), "utf-8")
    return path


FILES = {
    "model-00001-of-00002.safetensors": ["a.bias", "b.weight"],
    "model-00002-of-00002.safetensors": ["a.weight"],
}


def shards(folder, files=FILES, kind="F32"):
    """Write several files and their index."""
    for file, names in files.items():
        tensors(folder / file, {name: FULL[name] for name in names}, kind)
    return index(folder, files)


def assert_loaded(params, rounded=lambda array: array):
    assert tree.paths(params) == tree.paths(LIKE)
    for found, name in [(params[0]["weight"], "a.weight"), (params[2]["weight"], "b.weight")]:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rounded(FULL[name]).T)
    np.testing.assert_array_equal(params[0]["bias"], rounded(FULL["a.bias"]))


def bfloat16(array):
    """Return the numbers that the upper halves of float32 numbers are."""
    return (array.view(np.uint32) >> 16 << 16).view(np.float32)


HALVES = {"BF16": bfloat16, "F16": lambda array: array.astype(np.float16).astype(np.float32)}


@pytest.mark.parametrize("kind", HALVES)
def test_half_precision_is_widened_without_loss(kind, tmp_path):
    path = tensors(tmp_path / "w.safetensors", FULL, kind)
    assert_loaded(from_torch(path, MODEL, LIKE), HALVES[kind])
    wide = from_torch(path, MODEL, tree.astype(LIKE, np.float64))
    assert {leaf.dtype.name for leaf in tree.leaves(wide)} == {"float64"}
    np.testing.assert_array_equal(wide[2]["weight"], HALVES[kind](FULL["b.weight"]).T)


def test_bfloat16_keeps_signs_subnormals_and_infinities(tmp_path):
    bits = np.array([0x0000, 0x8000, 0x0001, 0x7F80, 0xFF80, 0x3F80, 0xC2F7], np.uint16)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    path = tensors(tmp_path / "w.safetensors", {"table": values[:, None]}, "BF16")
    model = F.embedding(7, 1)
    table = from_keras(path, model, model.init(0, (2,)), {"table": "table"})["table"]
    np.testing.assert_array_equal(table[:, 0].view(np.uint32), values.view(np.uint32))


def test_mappings_of_other_libraries_in_bfloat16_are_widened():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    half = {name: array.astype(ml_dtypes.bfloat16) for name, array in FULL.items()}
    assert_loaded(from_torch(half, MODEL, LIKE), lambda a: a.astype(ml_dtypes.bfloat16).astype("f"))
    torch = pytest.importorskip("torch")
    half = {name: torch.from_numpy(array).bfloat16() for name, array in FULL.items()}
    rounded = {name: tensor.float().numpy() for name, tensor in half.items()}
    params = from_torch(half, MODEL, LIKE)
    np.testing.assert_array_equal(params[2]["weight"], rounded["b.weight"].T)


@pytest.mark.parametrize("kind", ["F8_E4M3", "I8"])
def test_types_that_are_no_floats_of_numpy_are_named(kind, tmp_path):
    path = tensors(tmp_path / "w.safetensors", FULL, kind)
    name = "int8" if kind == "I8" else kind
    with pytest.raises(CheckpointError, match=rf"another type: b\.weight is {name}, but 2/weight"):
        from_torch(path, MODEL, LIKE)


def test_files_of_the_library_are_read_and_written_files_by_it(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(FULL, tmp_path / "w.safetensors", {"format": "pt"})
    assert_loaded(from_torch(tmp_path / "w.safetensors", MODEL, LIKE))
    every = {
        "0d": np.array(3.0),
        "none": np.zeros((0, 3), np.float32),
        "bool": np.array([True, False, True]),
        "ids": np.arange(5, dtype=np.uint16),
        "swapped": np.arange(3, dtype=">f4"),
    }
    checkpoint.save(tmp_path / "run.safetensors", every)
    found = numpy.load_file(tmp_path / "run.safetensors")
    for name, array in every.items():
        np.testing.assert_array_equal(found[name], array)


# Several files with an index


@pytest.mark.parametrize("kind", ["F32", "BF16"])
@pytest.mark.parametrize("source", ["index", "folder", "string"])
def test_several_files_with_an_index_are_read(source, kind, tmp_path):
    path = shards(tmp_path, kind=kind)
    given = {"index": path, "folder": tmp_path, "string": str(tmp_path)}[source]
    assert_loaded(from_torch(given, MODEL, LIKE), HALVES.get(kind, lambda array: array))


def test_a_folder_with_one_file_is_that_file(tmp_path):
    tensors(tmp_path / "model.safetensors", FULL)
    (tmp_path / "config.json").write_text("{}", "utf-8")
    assert_loaded(from_torch(tmp_path, MODEL, LIKE))


def test_links_to_files_elsewhere_are_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    shards(tmp_path / "blobs")
    for file in FILES:
        (tmp_path / "snapshot" / file).symlink_to(tmp_path / "blobs" / file)
    index(tmp_path / "snapshot", FILES)
    assert_loaded(from_torch(tmp_path / "snapshot", MODEL, LIKE))


def first(files, name):
    """Return the same files, but another name for the first one in the index."""
    return {name if i == 0 else file: arrays for i, (file, arrays) in enumerate(files.items())}


OUTSIDE = ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "model.bin"]
OUTSIDE += [
    r"..\model.safetensors",
    "C:model.safetensors",
    "./model.safetensors",
    "a\0.safetensors",
]
FIRST, SECOND = FILES
INDICES = {
    "missing file": (
        lambda folder: (folder / SECOND).unlink(),
        rf"names files that are not in its folder: {SECOND}; copy them into",
    ),
    "missing files": (
        lambda folder: index(folder, {"x.safetensors": ["a"], "y.safetensors": ["b"]}),
        r"not in its folder: x\.safetensors, y\.safetensors; copy",
    ),
    "missing array": (
        lambda folder: index(folder, FILES | {FIRST: ["a.bias", "b.weight", "c.weight"]}),
        r"lists arrays that are not in their files: c\.weight; copy the index",
    ),
    "arrays of another file": (
        lambda folder: index(folder, {FIRST: ["a.weight"], SECOND: ["a.bias", "b.weight"]}),
        r"not in their files: a\.weight, a\.bias, b\.weight;",
    ),
    "array that the index lacks": (
        lambda folder: tensors(
            folder / SECOND, {"a.weight": FULL["a.weight"], "d": np.ones(2, "f")}
        ),
        r"unexpected: d, float32\[2\]",
    ),
    "file of npdl": (
        lambda folder: checkpoint.save(folder / SECOND, {"a.weight": FULL["a.weight"]}),
        "was written by npdl.checkpoint.save; read it with",
    ),
    "damaged file": (
        lambda folder: (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-1]),
        rf"{SECOND} is damaged, or not a checkpoint .*but the file has",
    ),
    "no weight map": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{}", "utf-8"),
        r"is damaged, or not a weight index \(KeyError",
    ),
    "a list": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("[[]]", "utf-8"),
        "is damaged",
    ),
    "no json": (
        lambda folder: (folder / "model.safetensors.index.json").write_bytes(b"\xff\xfe{"),
        "is damaged",
    ),
    "files that are no names": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": 3}}', "utf-8"
        ),
        "names the file 3; expected the name of a .safetensors file",
    ),
    "many files": (
        lambda folder: index(folder, {f"{i}.safetensors": [str(i)] for i in range(600)}),
        "names 600 files, but at most 512",
    ),
    **{
        f"outside, {name!a}": (
            lambda folder, name=name: index(folder, first(FILES, name)),
            rf"names the file {re.escape(repr(name))}; expected the name of a .safetensors file",
        )
        for name in OUTSIDE
    },
}


@pytest.mark.parametrize(("change", "message"), INDICES.values(), ids=INDICES)
def test_a_wrong_index_is_refused_with_the_reason(change, message, tmp_path):
    path = shards(tmp_path)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        from_torch(path, MODEL, LIKE)


FOLDERS = {
    "empty": ([], "has no file that ends in .safetensors or .index.json"),
    "several": (["a", "b"], r"has several files, a\.safetensors, b\.safetensors; pass the path"),
}


@pytest.mark.parametrize(("names", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_without_a_single_file_is_refused(names, message, tmp_path):
    for name in names:
        tensors(tmp_path / f"{name}.safetensors", FULL)
    with pytest.raises(ValueError, match=message):
        from_torch(tmp_path, MODEL, LIKE)


# Headers of safetensors


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HEADERS = {
    "gap": {"a": entry([2], 0, 8), "b": entry([1], 12, 16)},
    "overlap": {"a": entry([2], 0, 8), "b": entry([3], 4, 16)},
    "equal": {"a": entry([4], 0, 16), "b": entry([4], 0, 16)},
    "too few bytes": {"a": entry([4], 0, 15)},
    "too many bytes": {"a": entry([3], 0, 16)},
    "before the start": {"a": entry([4], -4, 12)},
    "after the end": {"a": entry([5], 0, 20)},
    "rest": {"a": entry([3], 0, 12)},
    "backwards": {"a": entry([4], 16, 0)},
    "negative sizes": {"a": entry([-2, -2], 0, 16)},
    "fractions": {"a": entry([4.0], 0, 16)},
    "booleans": {"a": entry([True, 4], 0, 16)},
    "many axes": {"a": entry([1] * 100 + [4], 0, 16)},
    "huge sizes": {"a": entry([2**62, 2**62], 0, 16)},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 16]}},
    "a string as a shape": {"a": entry("4", 0, 16)},
    "a list as a type": {"a": entry([4], 0, 16, ["F32"])},
    "no positions": {"a": {"dtype": "F32", "shape": [4]}},
    "a list": [entry([4], 0, 16)],
    "metadata that is a list": {"__metadata__": [], "a": entry([4], 0, 16)},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_wrong_header_of_safetensors_is_refused(header, tmp_path):
    text = json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(CheckpointError, match="is damaged, or not a checkpoint"):
        from_torch(path, F.embedding(4, 1), F.embedding(4, 1).init(0, (2,)))


def test_metadata_may_be_missing_or_null(tmp_path):
    for metadata in ({}, {"__metadata__": None}, {"__metadata__": {"format": "pt"}}):
        text = json.dumps(metadata | {"a": entry([4], 0, 16)}).encode()
        path = tmp_path / "w.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
        assert checkpoint.arrays(path)["a"].shape == (4,)


# Compressed archives


def test_compressed_archives_of_numpy_are_read(tmp_path):
    arrays = FULL | {"a.weight": np.asfortranarray(FULL["a.weight"])}
    np.savez_compressed(tmp_path / "w.npz", **arrays)
    assert_loaded(from_torch(tmp_path / "w.npz", MODEL, LIKE))
    long = {"embeddings": np.zeros((30_000, 8), np.float32)}
    np.savez_compressed(tmp_path / "long.npz", **long)
    model = F.embedding(30_000, 8)
    assert not from_keras(tmp_path / "long.npz", model, model.init(0, (2,)))["table"].any()


def archive(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def declared(path, size):
    """Let the list of members declare another size for the first one."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = struct.pack("<L", size)
    path.write_bytes(data)


WEIGHT = npy(FULL["b.weight"])
ARCHIVES = {
    "another method": (
        lambda path: archive(path, {"weight": WEIGHT}, zipfile.ZIP_LZMA),
        "the member 'weight.npy' is compressed; .* only those of np.savez_compressed are read",
    ),
    "a large array": (
        lambda path: archive(path, {"weight": declaring((1 << 16, 1 << 8)) + bytes(1 << 26)}),
        r"weight is \[65536, 256\], but weight of dense\(units=3, bias=False\) needs \[3, 4\]",
    ),
    "a shape without data": (
        lambda path: archive(path, {"weight": declaring((1 << 20, 1 << 20))}),
        r"weight is \[1048576, 1048576\], but weight",
    ),
    "a short array": (
        lambda path: archive(path, {"weight": WEIGHT[:-8]}),
        "is damaged.*EOF: reading array data, expected 48 bytes got 40",
    ),
    "a long array": (
        lambda path: archive(path, {"weight": WEIGHT + bytes(1 << 26)}),
        "is damaged.*longer than its array",
    ),
    "a declared size beyond the file": (
        lambda path: declared(archive(path, {"weight": WEIGHT}), (1 << 32) - 2),
        "is damaged.*declares more bytes than the file has",
    ),
    "a declared size below the data": (
        lambda path: declared(archive(path, {"weight": WEIGHT}), len(WEIGHT) - 8),
        "is damaged",
    ),
    "a header without an end": (
        lambda path: archive(path, {"weight": b"\x93NUMPY\x01\x00\xff\xff" + bytes(1 << 27)}),
        "is damaged.*npy header of 65535 bytes",
    ),
}


@pytest.mark.parametrize(("write", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_compressed_archives_expand_within_the_limits(write, message, tmp_path):
    import tracemalloc

    path, model = tmp_path / "w.npz", F.dense(3, bias=False)
    like = model.init(0, (4,))
    write(path)
    with pytest.raises(CheckpointError):
        from_torch(path, model, like)  # imports modules before the measurement
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message):
            from_torch(path, model, like)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 21


# All arrays of a file


def test_all_arrays_of_a_file_are_returned(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", **FULL)
    tensors(tmp_path / "w.safetensors", FULL)
    checkpoint.save(tmp_path / "run.npz", FULL | {"step": 3})
    for name in ("w.npz", "w.safetensors", "run.npz"):
        found = checkpoint.arrays(tmp_path / name)
        assert found.keys() == FULL.keys()
        for key, array in found.items():
            np.testing.assert_array_equal(array, FULL[key])
            assert array.flags.writeable
    half = checkpoint.arrays(tensors(tmp_path / "half.safetensors", FULL, "BF16"))
    np.testing.assert_array_equal(half["a.bias"], bfloat16(FULL["a.bias"]))
    (tmp_path / "shards").mkdir()
    shards(tmp_path / "shards")
    assert list(checkpoint.arrays(tmp_path / "shards")) == ["a.bias", "b.weight", "a.weight"]


REFUSED = {
    "a type of no numbers": (
        lambda path: np.savez(path, a=np.array(["x"])),
        "has the array 'a' of the type str32; expected a type of numbers",
    ),
    "objects": (lambda path: np.savez(path, a=np.array([None])), "'a' of the type object"),
    "an expanding archive": (
        lambda path: archive(path, {"a": declaring((1 << 14, 1 << 11)) + bytes(1 << 27)}),
        "expands to 134217728 bytes, more than 67108864; read a part of it with from_torch",
    ),
}


@pytest.mark.parametrize(("write", "message"), REFUSED.values(), ids=REFUSED)
def test_all_arrays_are_refused_with_the_reason(write, message, tmp_path):
    write(tmp_path / "w.npz")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.arrays(tmp_path / "w.npz")


def test_all_arrays_of_an_unknown_type_are_refused(tmp_path):
    path = tensors(tmp_path / "w.safetensors", FULL, "F8_E4M3")
    with pytest.raises(CheckpointError, match=r"'a\.bias' of the type F8_E4M3; expected"):
        checkpoint.arrays(path)
