"""Checkpoint files of both formats: their members, forged ones, hostile arrays."""

import io
import zipfile

import numpy as np

from npdl.checkpoint._files import containers

SUFFIXES = [".npz", ".safetensors"]
DAMAGED = {
    "a": np.arange(5, dtype=np.float32),
    "b": (np.arange(4).reshape(2, 2), 12345, 0.1, "text", True),
    "empty": np.zeros((0, 3)),
}


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def members(path):
    """Return the members of an archive by name; `forge` writes them after changes."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(path, pairs, compression=zipfile.ZIP_STORED, comment=None):
    """Write an archive, with the right checksum of its members unless `comment` is passed."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
        archive.comment = containers._list_sum(archive) if comment is None else comment


def declaring(shape, dtype="<f4"):
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


class Exploit:
    ran = False

    @classmethod
    def run(cls):
        cls.ran = True

    def __reduce__(self):
        return Exploit.run, ()
