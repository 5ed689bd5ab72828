"""A small MNIST in files of the original format, for the tests of the examples."""

import gzip
import struct

import numpy as np
import pytest


def write_idx(path, array):
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder):
    """Write scikit-learn's digits, enlarged: two files compressed, two not."""
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    pixels, labels = load_digits(return_X_y=True)
    images = np.kron(pixels.reshape(-1, 8, 8), np.ones((3, 3)))
    images = np.pad(images * 255 / 16, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    write_idx(folder / "train-images-idx3-ubyte", images[:1500])
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels[:1500].astype(np.uint8))
    write_idx(folder / "t10k-images-idx3-ubyte.gz", images[1500:])
    write_idx(folder / "t10k-labels-idx1-ubyte", labels[1500:].astype(np.uint8))
