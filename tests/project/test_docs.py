"""The pages: their code runs, their tables are correct, the reference has every public name."""

import ast
import doctest
import functools
import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from blocks import blocks, missing, run, same
from equations import mathml, rows
from in_browser import imports
from links import broken, read
from playground import runs_in_a_browser

import npdl.functional as F

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [page for page in PAGES if blocks(page.read_text(encoding="utf-8"))]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def code_of(path):
    if path.suffix == ".md":
        return "\n".join(block.code for block in blocks(path.read_text(encoding="utf-8")))
    return path.read_text(encoding="utf-8")


def is_slow(page):
    return [pytest.mark.slow] if page.parent.name == "tutorials" else []


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=is_slow(page), id=name_of(page)) for page in WITH_CODE]
)
def test_a_page_shows_the_output_of_its_code(page, tmp_path, monkeypatch):
    if absent := missing(page.read_text(encoding="utf-8")):
        pytest.skip(f"not installed: {', '.join(absent)}")
    if "matplotlib" in code_of(page):
        from matplotlib import pyplot as plt

        plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    run(page, lambda *_: plt.close("all") if "matplotlib" in code_of(page) else None)


def test_the_tables_of_equivalents_run():
    page = ROOT / "docs" / "coming-from.md"
    names, count = run(page), 0
    for number, row in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not row.startswith("|"):
            continue
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 3, f"line {number} has {len(cells)} cells"
        for code in re.findall(r"`([^`]+)`", cells[1]):
            exec(compile("\n" * (number - 1) + code, str(page), "exec"), names)
            count += 1
    assert count > 100


# Modules that need another library.
NEEDS = {"npdl.sklearn": "sklearn"}


def reference():
    """Return the names on the pages of the reference, by module, if its library is installed."""
    listed = {}
    for page in (ROOT / "docs").rglob("*.md"):
        for module, text in re.findall(
            r"```\{names\} (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), re.S
        ):
            if find_spec(NEEDS.get(module, "npdl")) is None:
                continue
            names = [line for line in text.split("\n") if line and not line.startswith(":")]
            listed.setdefault(module, []).extend(names)
    return listed


def imported(code):
    """Yield the full names of all imports of a program."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def public_modules():
    """Return the modules of the reference, of imports in pages and examples, and of compat."""
    programs = [*map(code_of, WITH_CODE), *map(code_of, (ROOT / "examples").rglob("*.py"))]
    names = {name for code in programs for name in imported(code) if name.startswith("npdl.")}
    names |= reference().keys() | {
        f"npdl.compat.{name}" for name in importlib.import_module("npdl.compat").__all__
    }
    names |= {"npdl.compat.utils.data", "npdl.compat.utils.random"}
    names -= {"npdl.compat.Model", "npdl.compat.utils"}  # they only reexport names
    # A module of the stateful API has two paths.
    return {importlib.import_module(name).__name__ for name in names if is_module(name)}


def test_the_page_of_examples_lists_all_examples():
    page = ROOT / "docs" / "examples.md"
    named = re.findall(r"\{download\}`.*? <(.*?)>`", page.read_text(encoding="utf-8"))
    files = {(page.parent / name).resolve() for name in named}
    wanted = {file for file in (ROOT / "examples").rglob("*") if file.suffix in {".py", ".md"}}
    assert len(named) == len(files)
    assert files == wanted


def test_the_page_of_plots_has_a_picture_of_each_function(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    pytest.importorskip("sklearn")
    drawn = []

    def note(block, printed, value):
        if isinstance(value, figure.Figure):
            drawn.extend(re.findall(r"plot\.(\w+)\(", block.code))

    monkeypatch.chdir(tmp_path)
    run(ROOT / "docs" / "api" / "plot.md", note)
    assert sorted(drawn) == sorted(importlib.import_module("npdl.plot").__all__)


def is_module(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("module", sorted(public_modules()))
def test_the_reference_has_every_public_name_once(module):
    assert sorted(reference().get(module, [])) == sorted(importlib.import_module(module).__all__)


# Names without an equation: records, functions of records, and layers that only move or combine
# arrays.
WITHOUT_EQUATION = {"Layer", "Optimizer", "averaged", "from_config", "from_function", "graph"}
WITHOUT_EQUATION |= {"Metric", "Trace", "collected", "layer", "loss_from_function", "parts"}
WITHOUT_EQUATION |= {"reshape", "summary", "value_and_grad"}


def equations_of(docstring):
    """Return the equations of a docstring that the site typesets."""
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", docstring + "\n")
    lines = [" ".join(text.split()) for text in re.findall(r"``(.+?)``", docstring, re.DOTALL)]
    found = [line for line in lines if mathml(line)]
    found += [line for block in blocks if rows(block) for line in block.splitlines()]
    return [text for text in found if re.search(" (=|~|[+]=) ", text)]


@pytest.mark.parametrize("name", F.__all__)
def test_a_docstring_has_an_equation(name):
    docstring = inspect.getdoc(getattr(F, name))
    assert bool(equations_of(docstring)) != (name in WITHOUT_EQUATION)


# Names without an example: errors, warnings, types, and a callback that needs an extra.
WITHOUT_EXAMPLE = {"CheckpointError", "Key", "KeyLike", "Tree", "TensorBoard"}
WITHOUT_EXAMPLE |= {"ChangedCallbackWarning", "DamagedCheckpointWarning", "FinishedRunWarning"}
WITHOUT_EXAMPLE |= {"FreshStartWarning", "OtherEnvironmentWarning"}
WITHOUT_EXAMPLE |= {"ResumeWarning", "UnwrittenCheckpointWarning"}


def test_every_public_docstring_has_an_example():
    without = set()
    for module, names in reference().items():
        for name in names:
            docstring = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
            if not re.search(r"^Examples\n-{8}\n(.*\n)*?>>> ", docstring, re.MULTILINE):
                without.add(name)
    assert without == WITHOUT_EXAMPLE


def test_the_site_typesets_the_equations_of_docstrings():
    docstring = "Take ``x`` to ``y = x²``, `z = 1`, ``√x`` and::\n\n    a = b    c = √d\n\nor::\n"
    docstring += "\n    y = f(params, x)\n\nand ``lr=1.0``, ``state = model.init(0, (3,))``."
    assert equations_of(docstring) == ["y = x²", "    a = b    c = √d"]


TYPESET = [
    ("y = x W + b", "<mi>y</mi><mo>=</mo><mi>x</mi><mi>W</mi><mo>+</mo><mi>b</mi>"),
    ("x / (1 + y)", None),
    ("½ x", "<mn>½</mn><mi>x</mi>"),
    ("β₂ᵗ", "<msubsup><mi>β</mi><mrow><mn>2</mn></mrow><mrow><mi>t</mi></mrow></msubsup>"),
    (
        "√(a / b)",
        "<msqrt><mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac></msqrt>",
    ),
    (
        "y = a / b / c",
        "<mi>y</mi><mo>=</mo><mfrac><mrow><mi>a</mi><mo>/</mo><mi>b</mi></mrow>"
        "<mrow><mi>c</mi></mrow></mfrac>",
    ),
    ("y = f(params, x)", None),
    ("state = model.init(0, (3,))", None),
    ("lr=1.0", None),
    ("|x", None),
    ("ε", None),
]


@pytest.mark.parametrize(("text", "inside"), TYPESET, ids=[text for text, _ in TYPESET])
def test_equations_become_mathml_and_code_stays_code(text, inside):
    html = mathml(text)
    if inside is None:
        assert html is None
    else:
        assert html.endswith(f"<mrow>{inside}</mrow></math>")


SAME = [
    ("a 0.12", "a  0.13\n", True),
    ("a 0.12", "a 0.15", False),
    ("0.12", "0.1249", True),
    ("1.2e-3", "1.3e-3", True),
    ("1.2e-3", "1.9e-3", False),
    ("[[1. 0.5]]", "[[1.  0.5 ]]", True),
    ("3 of 4", "3 of 5", False),
    ("begins ... ends", "begins with\nmuch and ends", True),
    ("begins ... ends", "begins and goes on", False),
    ("0.9...", "0.9764", True),
    ("0.9...", "0.8764", False),
]


@pytest.mark.parametrize(("written", "printed", "agree"), SAME)
def test_outputs_are_compared_without_spaces_and_last_digits(written, printed, agree):
    assert same(written, printed) == agree


RUNNING = [
    ("import numpy", True),
    ("import npdl.plot\nfrom npdl.sklearn import NpdlClassifier", True),
    ("from npdl import onnx", False),
    ("import torch", False),
    ("", False),
]


@pytest.mark.parametrize(("code", "runs"), RUNNING, ids=range(len(RUNNING)))
def test_pages_whose_libraries_a_browser_has_get_run_buttons(code, runs):
    page = f"# Page\n\n```python\n{code}\n```\n" if code else "# Page\n"
    assert runs_in_a_browser(page) == runs


def test_all_tutorials_run_in_a_browser():
    pages = [ROOT / "docs" / name for name in ("start.md", "how-it-works.md", "playground.md")]
    for path in [*pages, *(ROOT / "docs" / "tutorials").glob("*.md")]:
        assert runs_in_a_browser(path.read_text(encoding="utf-8")), path


def test_imports_of_a_block_name_the_libraries_of_extras():
    assert (
        imports("from npdl import plot\nimport ast") == "import ast\nimport matplotlib\nimport npdl"
    )
    assert imports("from npdl.sklearn import NpdlRegressor") == "import npdl\nimport sklearn"
    assert imports("import npdl.functional as F\nF.minimize(m)") == "import npdl\nimport scipy"
    assert imports("from npdl.functional import minimize") == "import npdl\nimport scipy"
    assert imports("import") == ""


def test_a_page_with_a_wrong_output_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", encoding="utf-8")
    with pytest.raises(
        AssertionError, match=r"page\.md:1: the page says\n3\nbut the code prints\n2"
    ):
        run(page)


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href="b.html#there">2</a><a href="c.html">3</a>'
        '<a href="https://example.org">4</a><a href="#self">5</a><p id="self">',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    found = [(path.name, link) for path, link in broken(read(tmp_path))]
    assert found == [("a.html", "b.html#there"), ("a.html", "c.html")]


def examples():
    """Yield the examples of all public names, each to run on its own."""
    finder, seen = doctest.DocTestFinder(recurse=False), set()
    for module, names in reference().items():
        for name in names:
            thing = functools.reduce(getattr, name.split("."), importlib.import_module(module))
            for test in finder.find(thing, f"{module}.{name}", module=False, globs={}):
                if test.examples and test.docstring not in seen:
                    seen.add(test.docstring)
                    yield pytest.param(test, id=f"{module}.{name}")


@pytest.mark.parametrize("test", list(examples()))
def test_an_example_has_all_its_imports(test):
    code = "".join(example.source for example in test.examples)
    if absent := missing(f"```python\n{code}```\n"):
        pytest.skip(f"not installed: {', '.join(absent)}")
    report = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=report.append)
    assert not report, "".join(report)
