"""Every call that reads or writes text passes an encoding, so that any locale works."""

import ast
import doctest
from pathlib import Path

import pytest
from blocks import blocks

ROOT = Path(__file__).parents[2]
FOLDERS = ("npdl", "tests", "examples", "benchmarks", "docs")
FILES = [ROOT / "conftest.py", ROOT / "noxfile.py", ROOT / "README.md"]
FILES += [p for f in FOLDERS for p in sorted((ROOT / f).rglob("*")) if p.suffix in {".py", ".md"}]


def reads_or_writes_text(name, call, words):
    """Whether a call of this name opens, reads or writes text."""
    if name in ("read_text", "write_text"):
        return len(call.args) <= (name == "write_text")  # the encoding can be positional
    if name not in ("open", "fdopen"):
        texts = [words.get(word) for word in ("text", "universal_newlines")]
        return any(isinstance(value, ast.Constant) and value.value is True for value in texts)
    values = [*call.args, *(words[key] for key in ("mode",) if key in words)]
    texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    found = [text for text in texts if set(text) <= set("rwaxbt+")]
    if isinstance(call.func, ast.Name) or len(call.args) + ("mode" in words) < 2:
        plain = isinstance(call.func, ast.Name) or not call.args
        return not any("b" in mode for mode in found) and bool(found or plain)
    return any("t" in mode for mode in found)  # archives and gzip open for bytes


def without_encoding(source):
    """Return the calls that read or write text without an encoding."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            words = {word.arg: word.value for word in call.keywords}
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if reads_or_writes_text(name, call, words) and "encoding" not in words:
                found.append(ast.unparse(call))
    return found


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def programs(path):
    """Return the programs of a file: its source and its examples, or the code blocks of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [block.code for block in blocks(text)]
    examples = doctest.DocTestParser().get_examples(text) if "npdl" in path.parts[:-1] else []
    return [text, *(example.source for example in examples)]


def test_every_text_call_has_an_encoding():
    found = {
        name_of(path): [call for code in programs(path) for call in without_encoding(code)]
        for path in FILES
        if path.exists()
    }
    assert {name: calls for name, calls in found.items() if calls} == {}


CALLS = [
    ("open(path)", True),
    ("open(path, 'w')", True),
    ("path.open()", True),
    ("path.open('a', newline='')", True),
    ("path.open(mode='r')", True),
    ("path.read_text()", True),
    ("path.write_text(text)", True),
    ("subprocess.run(command, text=True)", True),
    ("subprocess.run(command, input=text)", False),
    ("answer(question, text=b'')", False),
    ("open(path, 'rb')", False),
    ("path.open(mode='xb')", False),
    ("gzip.open(path, 'rt')", True),
    ("os.open(path, os.O_RDONLY)", False),
    ("archive.open(name)", False),
    ("archive.open(name, 'w', force_zip64=True)", False),
    ("path.open('a', newline='', encoding='utf-8')", False),
    ("path.write_text(text, encoding='utf-8')", False),
    ("subprocess.run(command, text=True, encoding='utf-8')", False),
]


@pytest.mark.parametrize(("call", "found"), CALLS)
def test_calls_without_an_encoding_are_found(call, found):
    assert bool(without_encoding(call)) == found
