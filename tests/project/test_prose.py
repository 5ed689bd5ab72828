"""The prose is plain English: few turns that a fast reader must parse twice."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]
FOLDERS += ["docs", "examples", "benchmarks", "*.py", "npdl", "tests"]
LIMIT = 1.5  # turns per 1,000 words

# Relative clauses without a noun, and general words in place of a term.
TURNS = re.compile(
    r"\b(what(?:ever)?|(?:that|those) of|beside|behind|stands?|stood|(?:is|are) no|of its own"
    r"|by itself|altogether|lest|kin|truth values?|whole numbers?|at rest|likeness|go(?:es)? on"
    r"|going on|told|anew)\b",
    re.IGNORECASE,
)
WORD = re.compile(r"[A-Za-z']+")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Comments as ruff formats them; the tokenizer would take most of the time.
COMMENT = re.compile(r"(?:\s*|.*\S  )# (.*)")
CODE = re.compile(r">>>.*|\]\([^)]*\)|``[^`]*``|`[^`]*`")


def files(folder):
    """Yield the Python files and pages of an entry of FOLDERS."""
    path = ROOT / folder
    found = path.rglob("*") if path.is_dir() else ROOT.glob(folder)
    generated = {"_build", "__pycache__", "output"}
    for file in sorted(found):
        if file.suffix in {".py", ".md"} and not generated & set(file.relative_to(ROOT).parts):
            yield file


def prose(path):
    """Yield the prose of a file as pairs of line number and string."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, FENCED.sub(lambda match: "\n" * match.group().count("\n"), source)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if text := ast.get_docstring(node, clean=False):
                yield node.body[0].lineno, text
            if getattr(node, "name", "").startswith("test_"):
                yield node.lineno, node.name.replace("_", " ")
        elif isinstance(node, ast.Raise):
            yield from strings(node)
    for line, row in enumerate(source.splitlines(), 1):
        if "# " in row and (match := COMMENT.match(row)):
            yield line, match[1]


def strings(node):
    """Yield the strings inside a node; expressions in an f-string do not count."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def turns(texts):
    """Return the number of words, and pairs of line number and line with a turn, repeated."""
    words, found = 0, []
    for start, text in texts:
        for line, row in enumerate(text.splitlines(), start):
            plain = CODE.sub(" ", row)
            words += len(WORD.findall(plain))
            found += [(line, " ".join(row.split()))] * len(TURNS.findall(plain))
    return words, found


def report(counted):
    """Return the message of a failure: the worst files and their lines."""
    worst = sorted(counted, key=lambda path: -len(counted[path][1]))[:5]
    rows = []
    for path in worst:
        words, found = counted[path]
        rows.append(f"{path.relative_to(ROOT)}: {len(found)} turns in {words} words")
        rows += [f"    line {line}: {row[:140]}" for line, row in dict.fromkeys(found[:8])]
    return "\n".join(rows)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_prose_is_plain(folder):
    counted = {path: turns(prose(path)) for path in files(folder)}
    assert counted, f"{folder} has no file"
    words = sum(count for count, _ in counted.values())
    rate = 1000 * sum(len(found) for _, found in counted.values()) / words
    assert rate <= LIMIT, (
        f"{rate:.1f} turns per 1,000 words, expected at most {LIMIT}; name the thing: a noun as "
        f"the subject, the field's word, at most 20 words\n{report(counted)}"
    )


SENTENCES = {
    "Return what is left.": ["what"],
    "Take whatever x holds, and that of the state.": ["whatever", "that of"],
    "It stands beside or behind a layer by itself.": ["stands", "beside", "behind", "by itself"],
    "It is no layer, and has a truth value of its own.": ["is no", "truth value", "of its own"],
    "Return the rest of the array, after the layer, as a boolean.": [],
    "Somewhat standard: `what` is code, and so is ``stands``.": [],
    "[a page](what-is.md) of those who stand in line": ["stand"],
}


@pytest.mark.parametrize(("sentence", "expected"), SENTENCES.items())
def test_turns_are_found_outside_of_code(sentence, expected):
    words, found = turns([(1, sentence)])
    assert [turn.lower() for turn in TURNS.findall(CODE.sub(" ", sentence))] == expected
    assert Counter(found) == Counter([(1, sentence)] * len(expected))
    assert words > 2


def test_docstrings_comments_messages_and_names_count(tmp_path):
    path = tmp_path / "module.py"
    lines = [
        '"""What a module."""',
        "def test_what_is_read():",
        "    '''Return",
        "",
        "    what is behind.'''",
        "    what = 'what is beside'  # a comment on kin",
        "    raise ValueError(f'there is no {what}, and that of the other')",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    _, found = turns(prose(path))
    assert Counter(line for line, _ in found) == {1: 1, 2: 1, 5: 2, 6: 1, 7: 2}


def test_code_blocks_of_pages_do_not_count(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("A page.\n\n```python\nwhat = 1\n```\n\nThat of a page.\n", encoding="utf-8")
    words, found = turns(prose(path))
    assert (words, found) == (6, [(7, "That of a page.")])
