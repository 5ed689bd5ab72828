"""The data of the examples: what comes with Python and scikit-learn, or files of the usual sets."""

import ast
import collections
import gzip
import re
import struct
import sysconfig
from pathlib import Path

import numpy as np

from npdl import random


def digits(key, mnist=None):
    """Return training, validation and test data of handwritten digits, as pairs (x, labels).

    Without a directory, these are three, one and one fifth of the 1,797 images of 8 by 8 pixels
    that scikit-learn ships. With one, they are those of MNIST's four IDX files in it, of 28 by 28
    pixels, as they are or compressed by gzip; of its 60,000 training images, the last 5,000 are for
    validation. `x` is (count, 1, height, width), from 0 to 1.
    """
    if mnist is not None:
        train, test = (
            (images(mnist, f"{part}-images"), labels(mnist, f"{part}-labels"))
            for part in ("train", "t10k")
        )
        held_out = min(5000, len(train[1]) // 6)
        return tuple(a[:-held_out] for a in train), tuple(a[-held_out:] for a in train), test
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    order = random.generator(random.fold(key, "split")).permutation(len(classes))
    x, y = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)[order], classes[order]
    fifth = len(y) // 5
    parts = slice(2 * fifth, None), slice(fifth, 2 * fifth), slice(fifth)
    return [(x[part], y[part]) for part in parts]


def images(directory, name):
    """Return MNIST's images as floats from 0 to 1, (count, 1, height, width)."""
    return (idx(directory, name)[:, None] / np.float32(255)).astype(np.float32)


def labels(directory, name):
    """Return MNIST's labels."""
    return idx(directory, name).astype(int)


def idx(directory, name):
    """Return the array of the IDX file whose name begins so: of bytes, as all of MNIST's."""
    found = sorted(Path(directory).glob(f"{name}*ubyte*"))
    if not found:
        raise SystemExit(f"there is no {name}-idx?-ubyte or .gz in {directory}")
    content = found[0].read_bytes()
    content = gzip.decompress(content) if found[0].suffix == ".gz" else content
    zeros, kind, axes = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind != 8:
        raise SystemExit(f"{found[0]} is no IDX file of bytes")
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


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
    for line in contents(path, "latin-1").splitlines():
        label, _, question = line.partition(" ")
        if question:
            pairs.append((question.lower().split(), label.partition(":")[0]))
    if len(pairs) < 10 or len({name for _, name in pairs}) < 2:
        raise SystemExit(
            f"{path} has {len(pairs)} lines such as 'LOC:city What town …'; 10 of two "
            f"classes are the least"
        )
    return [words for words, _ in pairs], [name for _, name in pairs]


def contents(path, encoding="utf-8"):
    """Return the text of a file, or end with a sentence."""
    try:
        return Path(path).read_text(encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from None


def shuffled(key, xs, ys):
    """Return two arrays of one length in an order that follows from the key."""
    order = random.generator(random.fold(key, "split")).permutation(len(ys))
    return xs[order], ys[order]
