"""Run the blocks of a page in Pyodide: the Python part of the playground.

`playground.js` calls these functions in a web worker. They need only the standard library.
"""

import linecache
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blocks
import figures

__all__ = ["imports", "run"]

# The variables of the page.
NAMES: dict[str, Any] = {"__name__": "__main__"}


def imports(code: str) -> str:
    """Return import statements of the libraries of a block, from which Pyodide loads packages."""
    try:
        return "\n".join(f"import {name}" for name in sorted(blocks.imported(code)))
    except SyntaxError:  # `run` prints it
        return ""


def run(code: str, number: int, show: Callable[[str, str], Any]) -> bool:
    """Run a block, and return whether it ended without an error.

    `show` is called with the SVG document and the description of each figure. A traceback is
    printed, as in a terminal.
    """
    name = f"block {number}"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        libraries = blocks.imported(code)
        if "sysconfig" in libraries:
            _unpack_library()
        if "matplotlib" in libraries:
            figures.prepare()
        value = blocks.evaluate(code, name, NAMES)
        for document, description in figures.drawn(value, code):
            show(document, description)
    except BaseException as error:
        entries = traceback.extract_tb(error.__traceback__)
        own = next((n for n, entry in enumerate(entries) if entry.filename == name), len(entries))
        for _ in range(own):
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(error)
        return False
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return True


def _unpack_library() -> None:
    """Unpack the source files of the standard library, which some pages read."""
    folder = Path(sysconfig.get_path("stdlib"))
    archive = next((path for path in sys.path if path.endswith(".zip")), None)
    if archive and not (folder / "ast.py").exists():
        shutil.unpack_archive(archive, folder)
