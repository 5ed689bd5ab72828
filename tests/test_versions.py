"""`npdl.show_versions`: the lines that a report of an error needs."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

import npdl
from npdl import _versions
from npdl.checkpoint import _environment

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
# Extras that only a development of npdl itself needs.
DEVELOPMENT = {"bench", "bridges", "dev", "docs", "interop", "test", "torch"}


def shown(capsys):
    npdl.show_versions()
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def test_the_versions_agree_with_the_environment_of_a_checkpoint(capsys):
    here, lines = _environment.here(), shown(capsys)
    assert lines["npdl"] == npdl.__version__
    assert lines["BLAS"] == here["blas"]
    assert lines["kernels"] == here["kernel"]
    assert lines["threads"] == str(here["threads"])
    assert lines["system"].startswith(here["machine"])


def test_each_library_of_an_extra_for_users_has_a_line(capsys):
    extras = PROJECT["optional-dependencies"]
    named = [line for extra in extras.keys() - DEVELOPMENT for line in extras[extra]]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in named}
    assert names - {PROJECT["name"]} == set(_versions._EXTRAS.split())
    assert names - {PROJECT["name"]} <= shown(capsys).keys()


def test_a_library_that_is_not_installed_is_named(capsys, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert shown(capsys)["matplotlib"] == "not installed"


@pytest.mark.parametrize("text", ["", "processor\t: 0\nmodel name\t: A : B\n"])
def test_a_machine_without_a_processor_file_has_a_line(capsys, monkeypatch, tmp_path, text):
    path = tmp_path / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(_versions, "_CPUINFO", path if text else tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert shown(capsys)["processor"].startswith("A : B," if text else "unknown,")
