"""The notebooks of the site have the code, the output and the prose of their pages."""

import re
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="needs jupytext")

import nbformat
from blocks import blocks
from notebooks import LINK, PAGES, SITE, notebook

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [path.relative_to(DOCS).with_suffix("").as_posix() for path in sorted(DOCS.rglob("*.md"))]
NAMES = [name for name in NAMES if PAGES.fullmatch(name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_code_and_output_of_its_page(name):
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    made = notebook(name, page)
    nbformat.validate(made)
    cells = [cell for cell in made.cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells] == [block.code.rstrip() for block in blocks(page)]
    for cell, block in zip(cells, blocks(page), strict=True):
        shown = block.printed is not None and "..." not in block.printed
        assert [each.text for each in cell.outputs] == ([block.printed] if shown else [])
    prose = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    assert re.findall("^#+ .*", prose, re.M) == re.findall("^#+ .*", outside_code(page), re.M)
    assert "```{" not in prose
    assert not LINK.findall(prose)
    for path in re.findall(re.escape(SITE) + r"([^)#]+)", prose):
        assert (DOCS / path).exists()


def outside_code(page):
    return re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)


def test_all_tutorials_are_notebooks():
    tutorials = [f"tutorials/{path.stem}" for path in sorted((DOCS / "tutorials").glob("*.md"))]
    assert {"start", "how-it-works", *tutorials} <= set(NAMES)
