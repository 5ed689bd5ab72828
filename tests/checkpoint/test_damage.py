"""Damaged checkpoints: each is refused without running code or taking memory, or loads equal."""

import io
import json
import pickle
import re
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from arrays import same_bits
from checkpoint_files import DAMAGED, Exploit, declaring, forge, members, npy

from npdl import checkpoint
from npdl.checkpoint import CheckpointError
from npdl.checkpoint._files import containers
from npdl.training._checkpoint import Checkpoint
from npdl.training._position import Position

SETTINGS = {"model": "dense(units=3)", "key": "(0,)"}
TRAINED = {
    "step": 8,
    "params": ({"weight": np.arange(60, dtype=np.float32).reshape(20, 3), "bias": None}, ()),
    "opt_state": (np.linspace(0, 1, 60, dtype=np.float32).reshape(20, 3), 8),
}
POSITION = Position(
    step=8, first=0, epoch=2, batch=0, seen=0, totals={}, stopped=False, best=(0.25, 4),
    callbacks={"History": {"loss": [0.5, 0.25]}, "Stop": (np.ones(7), 3, "waited", None)},
)  # fmt: skip
# Bytes that the reader may take; the arrays take a thousand bytes.
MEMORY = 1 << 20
# Bytes that a header and a list of members may take before they are refused.
HEADERS = 1 << 26


def written(directory, trained=TRAINED, position=POSITION):
    """Write a checkpoint and return its file."""
    Checkpoint(directory, keep=9).write(trained, position, SETTINGS)
    return directory / f"step-{trained['step']:09d}.npz"


def read(path):
    """Read a checkpoint as `fit` does."""
    keeper = Checkpoint(path.parent, limit=1 << 16)
    position, trained = keeper.read(path, SETTINGS, TRAINED, POSITION.callbacks)
    return {"position": vars_of(position), "trained": trained}


def vars_of(position):
    return {name: getattr(position, name) for name in Position.__slots__ if name != "__weakref__"}


# Fields of a zip's headers that no checksum covers, since nobody reads them: of a member, which the
# list of members repeats; versions, flags, dates and attributes in that list; numbers of disks.
UNREAD = [(b"PK\x03\x04", 4, 26), (b"PK\x05\x06", 4, 12)]
UNREAD += [(b"PK\x01\x02", *fields) for fields in ((4, 10), (12, 16), (34, 42))]


def flipped(whole, other, random):
    """Flip one to three bits."""
    read = np.ones(len(whole), bool)
    for signature, first, last in UNREAD:
        for found in re.finditer(re.escape(signature), whole):
            read[found.start() + first : found.start() + last] = False
    positions = np.flatnonzero(read)
    for count in [1] * 200 + [2] * 50 + [3] * 50:
        data = bytearray(whole)
        for position in random.choice(positions, size=count):
            data[position] ^= 1 << int(random.integers(8))
        yield data


def cut(whole, other, random):
    """Remove the end, the beginning or a part in the middle."""
    for _ in range(60):
        first, last = sorted(random.integers(1, len(whole), size=2))
        yield whole[:first]
        yield whole[last:]
        yield whole[:first] + whole[last:]


def overwritten(whole, other, random):
    """Overwrite a part with zeros or noise, as a disk with a lost sector does."""
    for _ in range(60):
        size = int(random.choice([1, 16, 64, 512, len(whole) // 2]))
        start = int(random.integers(len(whole) - size))
        yield whole[:start] + bytes(size) + whole[start + size :]
        yield whole[:start] + random.bytes(size) + whole[start + size :]


def swapped(whole, other, random):
    """Exchange parts of the file with each other, or with an older checkpoint."""
    for _ in range(60):
        a, b, c, d = sorted(random.integers(len(whole), size=4))
        yield whole[:a] + whole[c:d] + whole[b:c] + whole[a:b] + whole[d:]
        yield whole[:a] + other[a:b] + whole[b:]
        yield whole[:a] + other[a:]


def exchanged(whole, other, random):
    """Exchange whole members of a valid zip file; only the checksum of the list reveals it."""
    pairs, older = contents(whole), contents(other)
    for name in pairs:
        yield zipped(pairs | {name: older[name]}, comment(whole))
        yield zipped(pairs | {name: older[name]}, comment(other))
        yield zipped(pairs | {name: older[name]}, b"")
        for another in pairs:
            if another != name:
                exchanged = {name: pairs[another], another: pairs[name]}
                yield zipped(pairs | exchanged, comment(whole))
        rest = {key: value for key, value in pairs.items() if key != name}
        yield zipped(rest, comment(whole))
        yield zipped(rest | {f"x{name}": pairs[name]}, comment(whole))


JUNK = [None, True, -1, 10**30, 1.5, "x", "0x", "../../x", [], [[]], {}, {"dict": 3}, {"array": 99}]


def forged(whole, other, random):
    """Write invalid headers with valid checksums."""
    pairs = contents(whole)
    outer = json.loads(pairs["npdl.json"])
    for field in outer:
        # The reader only compares the environment, so it accepts any dict.
        for junk in JUNK if field != "environment" else JUNK[:-4]:
            yield zipped(pairs | {"npdl.json": json.dumps(outer | {field: junk})})
    for path in outer["scalars"]:
        for junk in JUNK:
            if type(junk) is int:
                continue  # another checkpoint could have it
            changed = outer["scalars"] | {path: junk}
            yield zipped(pairs | {"npdl.json": json.dumps(outer | {"scalars": changed})})
    fields = text_of(pairs)["dict"]
    for field in fields:
        for junk in JUNK:
            if not is_valid(field, junk):
                yield zipped(pairs | text_member({"dict": fields | {field: junk}}))


def text_of(pairs):
    """Return the JSON of the position in the members of a checkpoint."""
    return json.loads(np.load(io.BytesIO(pairs["run/text.npy"])).tobytes())


def text_member(value):
    return {"run/text.npy": npy(np.frombuffer(json.dumps(value).encode(), np.uint8))}


def is_valid(field, junk):
    """Whether another checkpoint could have this value, so that no reader can refuse it."""
    return (
        (field == "best" and junk is None)
        or (field == "stopped" and junk is True)
        or (field in ("first", "epoch", "batch", "seen") and junk == 10**30)
    )


def huge(whole, other, random):
    """Declare huge arrays, in the members and in the position."""
    pairs = contents(whole)
    shapes = [(10**8,), (10**12,), (10**5,) * 3, (2**62, 2**62), (2**31, 3), (20, 3 * 10**9)]
    for name in pairs:
        if name != "npdl.json":
            for shape in shapes:
                yield zipped(pairs | {name: declaring(shape)})
                yield zipped(pairs | {name: declaring(shape, "<f8")})
            yield zipped(pairs | {name: declaring((20, 3), "|V1000000000")})
            yield zipped(pairs | {name: declaring((20, 3), "<U100000000")})
    fields = text_of(pairs)["dict"]
    for dtype in ("<f8", "<c16", "|i1", "<U99999999", "|O"):
        for shape in shapes:
            totals = {"dict": {"a": {"array": ["0", list(shape)]}}}
            members = pairs | text_member({"dict": fields | {"totals": totals}})
            yield zipped(members | {"run/0.npy": declaring(shape, dtype)})


def bombs(whole, other, random):
    """Compress large members, and declare sizes beyond the file."""
    pairs = contents(whole)
    for name in pairs:
        for size in (1 << 22, 1 << 25):
            for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
                if size < 1 << 25 or method == zipfile.ZIP_DEFLATED:
                    yield zipped(pairs | {name: bytes(size)}, method=method)
        for size in (1 << 20, 1 << 31, (1 << 32) - 2):
            data = bytearray(whole)
            entry = data.index(b"PK\x01\x02")
            while data[entry + 46 : entry + 46 + len(name)] != name.encode():
                entry = data.index(b"PK\x01\x02", entry + 4)
            data[entry + 20 : entry + 28] = struct.pack("<LL", size, size)
            yield data
            # A stored member that overlaps the next ones, with consistent headers.
            data[entry + 42 : entry + 46] = struct.pack("<L", 0)
            yield data


def pickles(whole, other, random):
    """Put pickles with code in place of each member."""
    pairs = contents(whole)
    exploit = np.array([[Exploit()] * 3] * 20, dtype=object)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        text = pickle.dumps(exploit, protocol)
        yield text
        for name in pairs:
            yield zipped(pairs | {name: text})
    for name in pairs:
        yield zipped(pairs | {name: npy(exploit)})
        yield zipped(pairs | {name.replace(".npy", ".pkl"): npy(exploit)})
        yield zipped(pairs | {f"x{name}": npy(exploit)})


def crowds(whole, other, random):
    """Write many small values, whose objects take more memory than their bytes."""
    pairs = contents(whole)
    outer = json.loads(pairs["npdl.json"])
    many = {"lists": [[]] * 400_000, "dicts": [{}] * 400_000, "deep": "[" * 400_000}
    for value in many.values():
        yield zipped(pairs | {"npdl.json": json.dumps(value) if type(value) is list else value})
        text = json.dumps(value) if type(value) is list else value
        outer["scalars"]["step"] = text
        yield zipped(pairs | {"npdl.json": json.dumps(outer)})
        yield zipped(pairs | {"run/text.npy": npy(np.frombuffer(text.encode(), np.uint8))})
    yield zipped(pairs | {f"{i:0400}.npy": b"" for i in range(11_000)})
    # With this many members, another record (zip64) holds the size of the list.
    yield zipped({f"{i}.npy": b"" for i in range(66_000)})


KINDS = [flipped, cut, overwritten, swapped, exchanged, forged, huge, bombs, pickles, crowds]


def contents(data):
    return members(io.BytesIO(data))


def zipped(pairs, comment=None, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    forge(file, pairs.items(), method, comment)
    return file.getvalue()


def comment(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.comment


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the files of a checkpoint and of an earlier checkpoint of the same run."""
    directory = tmp_path_factory.mktemp("whole")
    before = {
        "step": 4,
        "params": ({"weight": TRAINED["params"][0]["weight"] + 1, "bias": None}, ()),
        "opt_state": (TRAINED["opt_state"][0] + 1, 4),
    }
    callbacks = {"History": {"loss": [0.5]}, "Stop": (np.zeros(7), 2, "waited", None)}
    earlier = Position(
        step=4, first=0, epoch=1, batch=0, seen=0, totals={}, stopped=False, best=(0.5, 4),
        callbacks=callbacks,
    )  # fmt: skip
    return written(directory), written(directory, before, earlier)


COUNTS = {}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damaged_checkpoints_are_refused_or_equal(kind, files, tmp_path):
    path = tmp_path / "step-000000008.npz"
    whole, other = (file.read_bytes() for file in files)
    expected = read(files[0])
    assert same_bits(expected["trained"], TRAINED)
    random = np.random.default_rng(0)
    refused = equals = total = 0
    for data in kind(whole, other, random):
        path.write_bytes(data)
        size, total = len(data), total + 1
        del data
        tracemalloc.start()
        try:
            found = read(path)
        except CheckpointError as error:
            refused += str(path) in str(error)
        else:
            equals += 1
            assert repr(found) == repr(expected)
            assert same_bits(found["trained"], expected["trained"])
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < (HEADERS if kind is crowds else MEMORY), (total, size, peak)
    assert not Exploit.ran
    assert refused + equals == total
    assert refused > 0.9 * total
    COUNTS[kind.__name__] = total


def test_at_least_a_thousand_damaged_checkpoints_were_read():
    if len(COUNTS) < len(KINDS):
        pytest.skip("needs the tests before")
    assert sum(COUNTS.values()) >= 1000


@pytest.mark.parametrize("kind", [flipped, cut, overwritten, swapped])
def test_damaged_safetensors_are_refused_or_equal(kind, tmp_path):
    path = tmp_path / "run.safetensors"
    earlier = DAMAGED | {"a": DAMAGED["a"] + 1}
    checkpoint.save(path, earlier)
    other = path.read_bytes()
    checkpoint.save(path, DAMAGED)
    whole = path.read_bytes()
    refused = total = 0
    for data in kind(whole, other, np.random.default_rng(0)):
        path.write_bytes(data)
        total += data not in (whole, other)
        try:
            found = checkpoint.load(path, like=DAMAGED)
        except CheckpointError:
            refused += 1
        else:
            # A mixture of two files may be equal to one of them.
            assert same_bits(found, DAMAGED) or same_bits(found, earlier)
    # Only the spaces at the end of the header have no checksum.
    assert refused > 0.9 * total > 10


def test_the_archive_comment_is_a_checksum_of_its_members(files):
    with zipfile.ZipFile(files[0]) as archive:
        listed = [[name, zlib.crc32(archive.read(name))] for name in archive.namelist()]
        assert archive.comment == b"npdl %08x" % zlib.crc32(json.dumps(listed).encode())
        assert archive.comment == containers._list_sum(archive)
