"""The distribution: one name and one version, in the metadata and in every install hint."""

import re
import tomllib
from pathlib import Path

import pytest

import npdl

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDERS = ("npdl", "docs", "examples", "tests", "benchmarks")


def hints():
    """Yield file, distribution name and extra of each install hint in the project."""
    files = [
        ROOT / "README.md",
        *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*")),
    ]
    for file in files:
        if file.suffix in {".py", ".md", ".tsv", ".txt", ".html", ".js"}:
            text = file.read_text(encoding="utf-8").replace("\\", "")
            for name, extra in re.findall(r"pip install '([\w-]+)\[(\w+)\]'", text):
                yield file.relative_to(ROOT).as_posix(), name, extra


def test_install_hints_name_this_distribution_and_its_extras():
    found = list(hints())
    assert len(found) > 8
    extras = PROJECT["optional-dependencies"]
    wrong = [hint for hint in found if hint[1] != PROJECT["name"] or hint[2] not in extras]
    assert not wrong


def test_only_the_package_defines_the_version():
    assert "version" in PROJECT["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", npdl.__version__)


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))


@pytest.mark.parametrize("path", FORMS, ids=[path.stem for path in FORMS])
def test_an_issue_form_has_the_keys_of_its_schema(path):
    form = pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "labels", "body"}
    names = [part["id"] for part in form["body"]]
    assert len(set(names)) == len(names)
    for part in form["body"]:
        assert part.keys() <= {"type", "id", "attributes", "validations"}
        assert part["attributes"]["label"]
        assert ("options" in part["attributes"]) == (part["type"] == "checkboxes")


def test_the_citation_agrees_with_the_metadata():
    path = ROOT / "CITATION.cff"
    citation = pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
