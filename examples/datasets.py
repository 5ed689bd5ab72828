"""The data of the examples: what comes with Python and scikit-learn, or files of the usual sets."""

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

# The most bytes of an IDX file; the images that MNIST's models are trained on take 47 million.
LARGEST = 1 << 26


def digits(key, mnist=None):
    """Return training, validation and test data of handwritten digits, as pairs (x, labels).

    Without a directory, these are three, one and one fifth of the 1,797 images of 8 by 8 pixels
    that scikit-learn ships. With one, they are those of MNIST's four IDX files in it, of 28 by 28
    pixels, as they are or compressed by gzip; of its 60,000 training images, the last 5,000 are for
    validation. `x` is (count, 1, height, width), from 0 to 1.
    """
    if mnist is not None:
        train, test = pair(mnist, "train"), pair(mnist, "t10k")
        held_out = min(5000, len(train[1]) // 6)
        return tuple(a[:-held_out] for a in train), tuple(a[-held_out:] for a in train), test
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        refuse("the digits come with scikit-learn: pip install 'npdl-functional[examples]'")

    pixels, classes = load_digits(return_X_y=True)
    order = random.generator(random.fold(key, "split")).permutation(len(classes))
    x, y = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)[order], classes[order]
    fifth = len(y) // 5
    parts = slice(2 * fifth, None), slice(fifth, 2 * fifth), slice(fifth)
    return [(x[part], y[part]) for part in parts]


def pair(directory, part):
    """Return MNIST's images, floats from 0 to 1 as (count, 1, height, width), and labels."""
    images, labels = idx(directory, f"{part}-images"), idx(directory, f"{part}-labels")
    if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or len(labels) < 100:
        refuse(
            f"{directory}: the images of {part} are {images.shape} and the labels {labels.shape}; "
            f"expected (count, 28, 28) and (count,), of 100 at least"
        )
    if labels.max() > 9:
        refuse(f"{directory}: a label of {part} is {labels.max()}, and no digit")
    return (images[:, None] / np.float32(255)).astype(np.float32), labels.astype(int)


def idx(directory, name):
    """Return the array of the IDX file whose name begins so: of bytes, as all of MNIST's."""
    found = sorted(Path(directory).glob(f"{name}*ubyte*"))
    if not found:
        refuse(f"there is no {name}-idx?-ubyte or .gz in {directory}")
    try:
        with (gzip.open if found[0].suffix == ".gz" else open)(found[0], "rb") as file:
            zeros, kind, axes = struct.unpack(">HBB", file.read(4))
            if (zeros, kind) != (0, 8):
                raise ValueError("it does not begin as one")
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            # A few compressed bytes can swell to any size.
            if math.prod(shape) > LARGEST:
                raise ValueError(
                    f"it declares {math.prod(shape)} bytes, and {LARGEST} are the most"
                )
            content = file.read(math.prod(shape) + 1)
        return np.frombuffer(content, np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        refuse(f"{found[0]} is no IDX file of bytes: {error}")


def library():
    """Return the source files of Python's standard library, in order, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3"}
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    return [root / path for path in sorted(files) if not skipped & set(path.parts)]


def sources(limit):
    """Return the first `limit` characters of the standard library's modules.

    These are its single-file modules, in alphabetical order, without those of large tables.
    """
    root = Path(sysconfig.get_path("stdlib"))
    parts, length = [], 0
    for path in sorted(root.glob("[a-z]*.py")):
        text = path.read_text("utf-8", errors="ignore")
        if text.isascii() and length < limit:
            parts.append(text)
            length += len(text)
    return "".join(parts)[:limit]


def docstrings(count_classes=6, most=700):
    """Return sentences of docstrings, as lists of words, with the module that each is from.

    The modules are those of which there are the most sentences; of each, so many at most.
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
    # A sentence that several modules have says nothing.
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
            refuse(f"{path}: line {number} is {line[:40]!r}, and not as 'LOC:city What town …'")
        pairs.append((found[2].lower().split(), found[1]))
    count = len({name for _, name in pairs})
    if len(pairs) < 50 or count < 2:
        refuse(
            f"{path} has {len(pairs)} questions of {count} classes; 50 of two classes are the least"
        )
    return [words for words, _ in pairs], [name for _, name in pairs]


def contents(path, encoding="utf-8"):
    """Return the text of a file."""
    try:
        return Path(path).read_text(encoding)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{path} cannot be read: {error}")


def shuffled(key, xs, ys):
    """Return two arrays of one length in an order that follows from the key."""
    order = random.generator(random.fold(key, "split")).permutation(len(ys))
    return xs[order], ys[order]
