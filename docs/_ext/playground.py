"""Sphinx extension: a Run button under the Python blocks of a page, for a Python in the browser.

`_static/playground.js` adds the buttons. On the first run, it loads Pyodide (CPython as
WebAssembly) from `playground_pyodide` and the file that this extension writes: npdl's wheel, and
the modules that run a block. The address may be relative to `_static`.
"""

import base64
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import blocks

FILES = "playground-files.js"
MODULES = ("blocks", "figures", "in_browser")
# The libraries that Pyodide has, and npdl.
AVAILABLE = {"attrs", "matplotlib", "npdl", "numpy", "scipy", "sklearn"} | sys.stdlib_module_names


def runs_in_a_browser(page):
    """Whether a page has Python blocks, which need only libraries that Pyodide has."""
    found = blocks.blocks(page)
    return bool(found) and set().union(*(blocks.imported(each.code) for each in found)) <= AVAILABLE


def add_script(app, name, template, context, doctree):
    """Add the script to the pages that run in a browser."""
    if doctree is None:  # a generated page, such as the index
        return
    if runs_in_a_browser(Path(app.env.doc2path(name)).read_text(encoding="utf-8")):
        address = {"data-pyodide": app.config.playground_pyodide}
        app.add_js_file("playground.js", loading_method="defer", **address)


def write_files(app, error):
    """Write npdl's wheel and the modules as a script: a page without a server can load scripts."""
    if error or app.builder.format != "html":
        return
    from hatchling.build import build_wheel

    folder = Path(__file__).parent
    modules = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    with tempfile.TemporaryDirectory() as made, contextlib.chdir(folder.parents[1]):
        wheel = Path(made, build_wheel(made)).read_bytes()
    files = {"modules": modules, "wheel": base64.b64encode(wheel).decode("ascii")}
    script = f"playgroundFiles = {json.dumps(files)};\n"
    Path(app.outdir, "_static", FILES).write_text(script, encoding="utf-8")


def setup(app):
    """Register the extension."""
    app.add_config_value("playground_pyodide", "", "html", str)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
