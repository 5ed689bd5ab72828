"""The distribution: one name and one version, in the metadata and in every install hint."""

import re
import tomllib
from pathlib import Path

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
