"""Run the Python blocks of a Markdown file, and compare their output with the page.

The blocks of a page are one program. A ``text`` block after a ``python`` block is its expected
output. Numbers may differ by two in the last written digit, because processors round differently.
``...`` matches any output. The script needs only the standard library:

    python docs/_ext/blocks.py README.md
"""

import ast
import contextlib
import importlib.util
import io
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Block", "blocks", "evaluate", "imported", "missing", "run", "same"]

FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?(?!\d|\.\.\.)")


class Block(NamedTuple):
    """A block of code, with its expected output if the page has one."""

    code: str
    printed: str | None
    line: int
    start: int  # positions in the page: the end of the code, and the end of its output
    end: int


def blocks(page: str) -> list[Block]:
    """Return the Python blocks of a page."""
    found: list[Block] = []
    for match in FENCED.finditer(page):
        language, text = match.groups()
        if language == "python":
            line = page.count("\n", 0, match.start()) + 1
            found.append(Block(text, None, line, match.end(), match.end()))
        elif language == "text" and found and not page[found[-1].end : match.start()].strip():
            found[-1] = found[-1]._replace(printed=text, end=match.end())
    return found


# Modules and functions of npdl, and the libraries that they need.
NEEDS = {"from_function": "autograd", "minimize": "scipy", "onnx": "onnx", "plot": "matplotlib"}
NEEDS |= {"sklearn": "sklearn"}


def imported(code: str) -> set[str]:
    """Return the imported libraries of a program, and the libraries of npdl's extras in it."""
    libraries, used = set(), set()
    for node in ast.walk(ast.parse(code)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        for library, *parts in (module.split(".") for module in modules):
            libraries.add(library)
            used |= set(parts) if library == "npdl" else set()
    return libraries | {NEEDS[name] for name in used & NEEDS.keys()}


def missing(page: str) -> set[str]:
    """Return the imported libraries of a page that are not installed."""
    names = set().union(*(imported(block.code) for block in blocks(page)))
    return {name for name in names if importlib.util.find_spec(name) is None}


def run(path: Path, after: Callable[[Block, str, Any], Any] = lambda *_: None) -> dict[str, Any]:
    """Run all blocks of a page in order, and return their global variables.

    After each block, `after` is called with the block, its output (if the page has an expected
    output) and the value of its last line (if this is an expression). Warnings are errors.
    """
    page = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks(page):
            _run_block(path, block, names, Path(folder), after)
    return names


def _run_block(
    path: Path,
    block: Block,
    names: dict[str, Any],
    folder: Path,
    after: Callable[[Block, str, Any], Any],
) -> None:
    """Run one block in a folder for its files, with the variables of the blocks before it."""
    output = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="error"))
        if block.printed is not None:
            stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.chdir(folder))
        # The empty lines let a traceback show the line of the page.
        value = evaluate("\n" * block.line + block.code, str(path), names)
    if block.printed is not None and not same(block.printed, output.getvalue()):
        raise AssertionError(
            f"{path}:{block.line}: the page says\n{block.printed}but the code prints\n"
            f"{output.getvalue()}"
        )
    after(block, output.getvalue(), value)


def evaluate(code: str, file: str, names: dict[str, Any]) -> Any:
    """Run a program, and return the value of its last line, or `None` for another statement."""
    program = ast.parse(code, file)
    ends_in_value = bool(program.body) and isinstance(program.body[-1], ast.Expr)
    last = ast.Expression(program.body.pop().value) if ends_in_value else None
    exec(compile(program, file, "exec"), names)
    return None if last is None else eval(compile(last, file, "eval"), names)


def same(written: str, printed: str) -> bool:
    """Whether two outputs agree, except for spaces, the last digits of numbers, and ``...``."""
    numbers = NUMBER.findall(written)
    pattern = re.escape(" ".join(NUMBER.sub("#", written).split())).replace(r"\.\.\.", ".*?")
    pattern = pattern.replace(r"\#", r"(-?\d+\.\d+(?:e[-+]?\d+)?)")
    pattern = pattern.replace(r"\ ", r"\s+")
    # NumPy pads the numbers of an array.
    pattern = re.sub(r"(\\\[)(\\s\+)?", r"\1\\s*", pattern)
    pattern = re.sub(r"(\\s\+)?(\\\])", r"\\s*\2", pattern)
    match = re.fullmatch(pattern, printed.strip(), re.DOTALL)
    return match is not None and all(map(_near, numbers, match.groups()))


def _near(written: str, printed: str) -> bool:
    mantissa, _, exponent = written.partition("e")
    digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(float(written) - float(printed)) <= 2.001 * 10.0**-digits


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if not blocks(Path(name).read_text(encoding="utf-8")):
            sys.exit(f"{name} has no Python block")
        run(Path(name))
