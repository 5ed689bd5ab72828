"""The data sets of the examples: from Python and scikit-learn, or from files (MNIST, TREC)."""

import ast
import collections
import gzip
import math
import re
import struct
import sysconfig
import zlib
from pathlib import Path

import numpy as np
from options import refuse

from npdl import random

# Largest accepted size of an IDX file, in bytes. MNIST's training images take 47 million.
LARGEST = 1 << 26


def digits(key, mnist=None):
    """Return training, validation and test data of handwritten digits, as pairs (x, labels).

    Without a directory, the data are the 1,797 images of 8 × 8 pixels of scikit-learn: three
    fifths, one fifth and one fifth. With a directory, the data are its four IDX files of MNIST, of
    28 × 28 pixels, plain or compressed by gzip. The last 5,000 of the 60,000 training images are
    for validation. `x` is (count, 1, height, width), from 0 to 1.
    """
    if mnist is not None:
        train, test = pair(mnist, "train"), pair(mnist, "t10k")
        held_out = min(5000, len(train[1]) // 6)
        return tuple(a[:-held_out] for a in train), tuple(a[-held_out:] for a in train), test
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        refuse("the digits need scikit-learn: pip install 'npdl-functional[examples]'")

    pixels, classes = load_digits(return_X_y=True)
    order = random.generator(random.fold(key, "split")).permutation(len(classes))
    x, y = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)[order], classes[order]
    fifth = len(y) // 5
    splits = slice(2 * fifth, None), slice(fifth, 2 * fifth), slice(fifth)
    return [(x[split], y[split]) for split in splits]


def pair(directory, split):
    """Return MNIST's images, floats from 0 to 1 as (count, 1, height, width), and labels."""
    images, labels = idx(directory, f"{split}-images"), idx(directory, f"{split}-labels")
    if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or len(labels) < 100:
        refuse(
            f"{directory}: the images of {split} are {images.shape} and the labels {labels.shape}; "
            f"expected (count, 28, 28) and (count,), with count at least 100"
        )
    if labels.max() > 9:
        refuse(f"{directory}: a label of {split} is {labels.max()}, not a digit")
    return (images[:, None] / np.float32(255)).astype(np.float32), labels.astype(int)


def idx(directory, name):
    """Return the array of bytes of the IDX file with this prefix."""
    found = sorted(Path(directory).glob(f"{name}*ubyte*"))
    if not found:
        refuse(f"{directory} has no {name}-idx?-ubyte or .gz")
    try:
        with (gzip.open if found[0].suffix == ".gz" else open)(found[0], "rb") as file:
            zeros, kind, axes = struct.unpack(">HBB", file.read(4))
            if (zeros, kind) != (0, 8):
                raise ValueError("wrong first bytes")
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            # A few compressed bytes can expand to any size.
            if math.prod(shape) > LARGEST:
                raise ValueError(f"it declares {math.prod(shape)} bytes; the limit is {LARGEST}")
            content = file.read(math.prod(shape) + 1)
        return np.frombuffer(content, np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        refuse(f"{found[0]} is not an IDX file of bytes: {error}")


def library():
    """Return the source files of Python's standard library, in order, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3"}
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    return [root / path for path in sorted(files) if not skipped & set(path.parts)]


def sources(limit):
    """Return the first `limit` characters of the standard library's modules.

    These are its single-file modules in ASCII, in alphabetical order.
    """
    root = Path(sysconfig.get_path("stdlib"))
    texts, length = [], 0
    for path in sorted(root.glob("[a-z]*.py")):
        text = path.read_text("utf-8", errors="ignore")
        if text.isascii() and length < limit:
            texts.append(text)
            length += len(text)
    return "".join(texts)[:limit]


def docstrings(count_classes=6, most=700):
    """Return sentences of docstrings, as lists of words, and the module of each sentence.

    These are the modules with the most sentences. Each contributes at most `most` sentences.
    """
    found = collections.defaultdict(dict)
    root = Path(sysconfig.get_path("stdlib"))
    for path in library():
        try:
            module = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        name = path.relative_to(root).with_suffix("").parts[0]
        for node in ast.walk(module):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for sentence in sentences(ast.get_docstring(node) or ""):
                    found[name].setdefault(sentence)
    # A sentence of several modules carries no information.
    modules = collections.Counter(sentence for each in found.values() for sentence in each)
    unique = {name: [s for s in each if modules[s] == 1] for name, each in found.items()}
    largest = sorted(unique, key=lambda name: (-len(unique[name]), name))[:count_classes]
    pairs = [(list(s), name) for name in sorted(largest) for s in unique[name][:most]]
    return [words for words, _ in pairs], [name for _, name in pairs]


def sentences(text):
    """Yield the sentences of a docstring's paragraphs of prose, each a tuple of words."""
    for paragraph in text.split("\n\n"):
        if re.search(r">>>|::|^\s*[-*+|]|\n {4}", paragraph):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+", paragraph):
            words = tuple(re.findall(r"[a-z]+|\d+|[?!]", sentence.lower()))
            if 4 <= len(words) <= 40:
                yield words


def trec(path):
    """Return the questions of a TREC file, as lists of words, with their coarse classes."""
    pairs = []
    for number, line in enumerate(contents(path, "latin-1").splitlines(), 1):
        if not line.strip():
            continue
        found = re.fullmatch(r"(\w+):\w+ (.*\S.*)", line)
        if not found:
            refuse(f"{path}: line {number} is {line[:40]!r}, expected e.g. 'LOC:city What town …'")
        pairs.append((found[2].lower().split(), found[1]))
    count = len({name for _, name in pairs})
    if len(pairs) < 50 or count < 2:
        refuse(
            f"{path} has {len(pairs)} questions of {count} classes; "
            f"expected at least 50 of 2 classes"
        )
    return [words for words, _ in pairs], [name for _, name in pairs]


def contents(path, encoding="utf-8"):
    """Return the text of a file."""
    try:
        return Path(path).read_text(encoding)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{path} cannot be read: {error}")


def shuffled(key, xs, ys):
    """Return two arrays of equal length, shuffled together by the key."""
    order = random.generator(random.fold(key, "split")).permutation(len(ys))
    return xs[order], ys[order]
