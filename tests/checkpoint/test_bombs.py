"""Malicious files that expand in memory: each is refused, and takes little memory.

The tests measure the memory of the process, since tracemalloc misses some memory of NumPy and of
zipfile. A child process reads each file and reports its peak.

    python tests/checkpoint/test_bombs.py DIRECTORY KIND
"""

import functools
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import forge, members, npy

import npdl
import npdl.functional as F
from npdl import checkpoint
from npdl.checkpoint import from_torch
from npdl.training import Checkpoint

MIB = 1 << 20
LIKE = {"a": np.ones(3, np.float32)}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def with_header(path, header):
    """Write an npz with another header and a valid checksum."""
    checkpoint.save(path, LIKE)
    forge(path, (members(path) | {"npdl.json": header}).items())


def with_scalars(path, text):
    """Write an npz whose header has the string `text` in place of the scalars."""
    checkpoint.save(path, LIKE)
    header = members(path)["npdl.json"].decode().replace('"scalars": {}', f'"scalars": {text}')
    with_header(path, header)


def many_members(path, name="{}.npy", data=None, count=20_000):
    """Write a zip file with many members."""
    data = npy(np.ones(1, np.float32)) if data is None else data
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            archive.writestr(zipfile.ZipInfo(name.format(i)), data)


def overlapping(path, count=20_000):
    """Write a zip file whose members all share the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("0.npy"), npy(np.ones(9000)))
    data = file.getvalue()
    start = data.index(b"PK\x01\x02")
    entry = data[start : start + 46]
    listed = b"".join(
        entry[:28] + struct.pack("<H", 9) + entry[30:] + b"%05d.npy" % i for i in range(count)
    )
    end = struct.pack("<LHHHHLLH", 0x06054B50, 0, 0, count, count, len(listed), start, 0)
    path.write_bytes(data[:start] + listed + end)


def npy_header(text, size=1):
    text = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(4 * size)


def tensors(path, header, size=0):
    """Write a .safetensors file with the string `text` as its header."""
    data = header if isinstance(header, bytes) else header.encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(size))


def tensor_list(count):
    entry = '"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    return "{" + ",".join(entry.format(i) for i in range(count)) + "}"


def with_sums(path, sums):
    metadata = {"npdl": "{}", "sums": sums, "sum": "00000000"}
    tensors(path, json.dumps({"__metadata__": metadata}))


def model_with(path, **changes):
    """Write a file of npdl.Model whose first layer has other arguments."""
    model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3)])
    model.compile(loss="mse")
    contents = model._contents()
    config = json.loads(contents["config"])
    layers = changes.pop("layers", None)
    config["layers"] = layers or [config["layers"][0] | changes]
    checkpoint.save(path, contents | {"config": json.dumps(config)})


def functional(layer, shape):
    return [{"class": "layers.Functional", "layer": layer.config(), "input_shape": shape}]


LONG = 15 * MIB
HEADERS = {
    "lists": lambda p: with_scalars(p, "[" + "[]," * (LONG // 3) + "1]"),
    "dicts": lambda p: with_scalars(p, "[" + "{}," * (LONG // 3) + "1]"),
    "short strings": lambda p: with_scalars(p, "[" + '"ab",' * (LONG // 5) + "1]"),
    "floats": lambda p: with_scalars(p, "[" + "0.5," * (LONG // 4) + "1]"),
    "ints": lambda p: with_scalars(p, "[" + "1234567," * (LONG // 8) + "1]"),
    "keys": lambda p: with_scalars(
        p, "{" + ",".join(f'"{i}":1' for i in range(LONG // 12)) + "}"
    ),
    "scalars": lambda p: with_scalars(
        p, "{" + ",".join(f'"{i}":0.5' for i in range(500_000)) + "}"
    ),
    "the largest number of scalars": lambda p: with_scalars(
        p, "{" + ",".join(f'"{i:0200}":{{"float":"{i:016x}"}}' for i in range(65_536)) + "}"
    ),
    "a long string": lambda p: with_scalars(p, json.dumps({"a": "x" * LONG})),
    "a long string with one wide letter": lambda p: with_scalars(
        p, '{"a": "\\ud83d\\ude00' + "x" * LONG + '"}'
    ),
    "a wide letter": lambda p: with_scalars(p, '{"a": "😀' + "x" * (LONG - 100) + '"}'),
    "quotes": lambda p: with_scalars(p, "," * (1 << 21) + '"' + "\\\"" * (LONG // 4)),
    "deep": lambda p: with_scalars(p, "[" * LONG),
    "many members": many_members,
    "too many members": lambda p: many_members(p, count=42_000),
    "overlapping members": overlapping,
    "a header of Python 2": lambda p: many_members(
        p, count=2000,
        data=npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1L,)}" + " " * 900),
    ),
    "a long npy header": lambda p: many_members(
        p, count=500,
        data=npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 9000 + ")}"),
    ),
    "nested npy headers": lambda p: many_members(p, count=2000, data=npy_header("(" * 1000)),
}  # fmt: skip
TENSORS = {
    "checksums of lists": lambda p: with_sums(p, "[" + "[]," * (LONG // 3) + "1]"),
    "a long shape": lambda p: tensors(
        p,
        '{"a":{"dtype":"U8","shape":[' + "1," * (LONG // 2) + '1],"data_offsets":[0,1]}}',
        1,
    ),
    "many tensors": lambda p: tensors(p, tensor_list(230_000)),
    "the largest number of tensors": lambda p: tensors(p, tensor_list(39_000)),
    "lists": lambda p: tensors(p, "[" + "[]," * (LONG // 3) + "1]"),
    "a wide letter": lambda p: tensors(
        p, json.dumps({"__metadata__": {"😀": "x" * LONG}}, ensure_ascii=False)
    ),
    "metadata": lambda p: tensors(p, json.dumps({"__metadata__": {"a": "x" * LONG}})),
}
MODELS = {
    "a wide layer": lambda p: model_with(p, n_in=12_000, n_out=12_000),
    "a wider layer": lambda p: model_with(p, n_in=20_000, n_out=40_000),
    "a layer of zeros": lambda p: model_with(p, n_in=12_000, n_out=12_000, init="zero"),
    "an orthogonal layer": lambda p: model_with(p, n_in=9000, n_out=9000, init="orthogonal"),
    "an embedding": lambda p: model_with(
        p, layers=[{"class": "layers.Embedding", "input_size": 10**9, "n_out": 100, "nb_seq": 3}]
    ),
    "a recurrent layer": lambda p: model_with(
        p, layers=[{"class": "layers.LSTM", "n_out": 9000, "n_in": 9000, "nb_seq": 3}]
    ),
    "a functional layer": lambda p: model_with(p, layers=functional(F.dense(12_000), [12_000])),
    "a functional block": lambda p: model_with(
        p, layers=functional(F.serial(F.residual(F.dense(12_000))), [12_000])
    ),
    "statistics": lambda p: model_with(p, layers=functional(F.batch_norm(), [300_000_000])),
    "a scale": lambda p: model_with(p, layers=functional(F.layer_norm(), [300_000_000])),
    "many layers": lambda p: model_with(
        p, layers=[{"class": "layers.Dense", "n_out": 1, "n_in": 1}] * 20_000
    ),
    "many layers without weights": lambda p: model_with(
        p, layers=[{"class": "layers.Dropout", "p": 0.1}] * 20_000
    ),
    "a dtype": lambda p: model_with(
        p,
        layers=functional(F.dense(2, weight_init=F.constant(1.0)), [3]),
    ),
}


def read_all(path):
    """Read a file with every function that can; return the names of the errors."""
    model = F.dense(1)
    ways = [
        lambda: checkpoint.load(path, like=LIKE),
        lambda: from_torch(path, model, model.init(0, (3,))),
    ]
    if path.suffix == ".npz":
        keeper = Checkpoint(path.parent)
        ways.append(lambda: keeper.read(path, {}, LIKE, []))
        ways.append(lambda: npdl.Model.load(path))
    names = set()
    for way in ways:
        try:
            way()
        except Exception as error:
            names.add(type(error).__name__)
    return names


def in_child(call):
    """Call a function in a child process; return its result and its memory in bytes."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            Path("/proc/self/clear_refs").write_text("5", "ascii")
            before = memory("VmRSS")
            found = sorted(call())
            report = json.dumps([found, memory("VmHWM") - before])
        except BaseException as error:
            report = json.dumps([[repr(error)], -1])
        os.write(writing, report.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        report = pipe.read()
    _, status = os.wait()
    return json.loads(report) if report else [[f"died of {status}"], -1]


def memory(name):
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def main(directory, kind):
    """Print the errors, the memory and the size of each file of a kind."""
    # Import all modules and read small files before the first measurement.
    for suffix in (".npz", ".safetensors"):
        first = Path(directory, f"first{suffix}")
        checkpoint.save(first, LIKE)
        read_all(first)
    model_with(Path(directory, "first.npz"))
    npdl.Model.load(Path(directory, "first.npz"))
    suffix, makers = KINDS[kind]
    path, found = Path(directory, f"bomb{suffix}"), {}
    for name, make in makers.items():
        maker = os.fork()  # memory of this process would hide memory of its children
        if not maker:
            make(path)
            os._exit(0)
        os.waitpid(maker, 0)
        found[name] = [*in_child(lambda: read_all(path)), path.stat().st_size]
        path.unlink()
    sys.stdout.write(json.dumps(found))


KINDS = {
    "headers": (".npz", HEADERS),
    "models": (".npz", MODELS),
    "tensors": (".safetensors", TENSORS),
}
NAMES = [
    pytest.param(kind, name, marks=[] if kind == "models" else pytest.mark.slow)
    for kind, (_, makers) in KINDS.items()
    for name in makers
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a function from a kind of files to its measurements."""

    @functools.cache
    def of(kind):
        path = os.pathsep.join(sys.path)
        ran = subprocess.run(
            [sys.executable, __file__, str(tmp_path_factory.mktemp(kind)), kind],
            capture_output=True, text=True, check=True, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        return json.loads(ran.stdout)

    return of


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_reading_a_file_takes_at_most_the_promised_memory(kind, name, measured):
    errors, taken, size = measured(kind)[name]
    assert set(errors) <= {"CheckpointError"}
    assert 0 <= taken < (32 * MIB + 8 * size if kind == "models" else 128 * MIB)
    assert errors


if __name__ == "__main__":
    main(*sys.argv[1:])
