"""Sphinx extension: the tutorials and the pages for beginners can be downloaded as notebooks.

jupytext converts a page: a Python block becomes a code cell, with its output if the page has one.
The build of the site runs the same blocks.
"""

import re
from pathlib import Path, PurePosixPath

import blocks

PAGES = re.compile(r"start|playground|how-it-works|tutorials/.+")
DIRECTIVE = re.compile(r"^```\{.*?^```\n", re.MULTILINE | re.DOTALL)
OTHER = re.compile(r"^```(?!python$)\w+$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+\.\w+)")
SITE = "https://github.com/npdl-functional/npdl/blob/main/docs/"


def notebook(name, page):
    """Return the notebook of a page, in the format of nbformat."""
    import jupytext
    import nbformat

    code = blocks.blocks(page)
    for block in reversed(code):  # jupytext would keep the outputs as prose
        page = page[: block.start] + page[block.end :]
    page = OTHER.sub("```", DIRECTIVE.sub("", page))  # other languages stay in the prose
    made, folder = jupytext.reads(page, fmt="md"), PurePosixPath(name).parent
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda link: f"]({SITE}{folder / link[1]}", cell.source)
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    cells = [cell for cell in made.cells if cell.cell_type == "code"]
    for cell, block in zip(cells, code, strict=True):
        if block.printed is not None and "..." not in block.printed:
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=block.printed)]
    return made


def add_notebook(app, name, template, context, doctree):
    """Write the notebook of a page next to the page, and link it at the end of the page."""
    if app.builder.format != "html" or doctree is None or not PAGES.fullmatch(name):
        return
    import nbformat

    made = notebook(name, Path(app.env.doc2path(name)).read_text(encoding="utf-8"))
    target = Path(app.outdir, f"{name}.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, target)
    link = f'<a href="{target.name}" download>Download this page as a notebook</a>'
    context["body"] += f"<p>{link}</p>\n"


def setup(app):
    """Register the extension."""
    app.connect("html-page-context", add_notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
