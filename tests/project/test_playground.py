"""The Run buttons of the site, in a real browser with a local Pyodide."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flask", reason="needs Flask")
pytest.importorskip("furo", reason="needs the libraries of the site")
pytest.importorskip("hatchling", reason="needs hatchling")
pytest.importorskip("matplotlib", reason="needs Matplotlib")
pytest.importorskip("selenium", reason="needs selenium")

from blocks import blocks, run
from local_pyodide import copy_pyodide, version
from screenshot import PROGRAMS, browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from serving import serving

from npdl.training import evaluate

ROOT = Path(__file__).parents[2]
OUTPUT = Path("output")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
needs_chromium = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")


def in_chromium(test):
    return pytest.mark.slow(needs_chromium(test))


README = [block.code for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))]
(RESUMED,) = (code for code in README if "resume=True" in code)
LOSSES = 'import json\n\nprint(json.dumps(history["loss"]))\n'
FIGURE = """
from matplotlib import pyplot as plt

plt.plot(history["loss"])
plt.title("Loss")
"""
PLOT = "from npdl import plot\n\nplot.learning_curves(history)[0].figure\n"
VERSIONS = "import npdl\n\nnpdl.show_versions()\n"
PAGES = {
    "index": [README[0], LOSSES, RESUMED, FIGURE, PLOT, VERSIONS],
    "short": ["a = 6\n", "print(a * 7)\n", "print('last')\n"],
}


def page_of(programs):
    return "# Page\n\n" + "\n".join(f"```python\n{code}```\n" for code in programs)


@pytest.fixture(scope="module")
def pyodide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pyodide")
    copy_pyodide(folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory, pyodide):
    """Return the folder of a site with PAGES, built with the configuration of the documentation."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT / "docs" / "_static", source / "_static")
    for name, programs in PAGES.items():
        (source / f"{name}.md").write_text(page_of(programs), encoding="utf-8")
    with serving(pyodide) as address:
        command = [sys.executable, "-m", "sphinx", "-Q", "-b", "html", "-c", ROOT / "docs"]
        command += ["-D", f"playground_pyodide={address}/", source, built]
        subprocess.run(command, check=True, timeout=300)
        yield built


@pytest.fixture
def page(site):
    """Return a function that opens a page of the site from the disk, as a reader may do."""
    with browser(1100, 900) as opened:

        def open_page(name):
            opened.get((site / f"{name}.html").as_uri())
            return opened

        yield open_page
        assert opened.get_log("browser") == []


def elements(page, selector):
    return page.find_elements(By.CSS_SELECTOR, selector)


def statuses(page):
    return [each.text for each in elements(page, ".playground-bar span")]


def printed(page):
    return [each.text for each in elements(page, ".playground-output")]


def show(page, element):
    """Scroll to an element at once; the theme scrolls slowly."""
    page.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", element)


def click(page, number):
    button = elements(page, ".playground-bar button")[number]
    show(page, button)
    button.click()


def wait(page, number, words):
    """Wait until a block has ended; its status has some words."""
    button = elements(page, ".playground-bar button")[number]
    WebDriverWait(page, 300).until(lambda _: button.text == "Run")
    assert words in statuses(page)[number], printed(page)


@in_chromium
def test_the_example_of_the_readme_trains_in_a_browser(page, tmp_path):
    opened, last = page("index"), len(PAGES["index"]) - 1
    start = time.perf_counter()
    click(opened, last)
    WebDriverWait(opened, 300, 0.1).until(lambda _: printed(opened)[0])
    first = time.perf_counter() - start
    wait(opened, last, "Ran in")
    assert "Failed" not in str(statuses(opened))
    outputs = [each.get_attribute("textContent") for each in elements(opened, ".playground-output")]

    path = tmp_path / "page.md"
    path.write_text(page_of(PAGES["index"][:1]), encoding="utf-8")
    here = run(path)
    metrics = {"accuracy": here["F"].accuracy}
    accuracy = evaluate(here["model"], here["state"].params, here["test"], metrics=metrics)
    assert outputs[0].endswith(f"\n{accuracy}\n")
    losses = json.loads(outputs[1])
    np.testing.assert_allclose(losses, here["history"]["loss"], rtol=0, atol=1e-5)
    pictures = elements(opened, ".playground-output img")
    assert pictures[0].get_attribute("alt") == "Loss"
    assert len(pictures) == 2
    assert min(each.size["height"] for each in pictures) > 100
    assert "Emscripten wasm32" in outputs[-1]

    OUTPUT.mkdir(exist_ok=True)
    difference = np.abs(np.subtract(losses, here["history"]["loss"])).max()
    report = f"the first line of the training after {first:.1f} s; "
    report += f"losses within {difference:.0e} of CPython's\n{outputs[-1]}"
    (OUTPUT / "playground.txt").write_text(report, encoding="utf-8")
    show(opened, pictures[0])
    opened.save_screenshot(str(OUTPUT / "playground.png"))


@in_chromium
def test_an_edited_block_runs_with_the_variables_of_its_page(page):
    opened = page("short")
    click(opened, 1)
    wait(opened, 1, "Ran in")
    assert printed(opened) == ["", "42", ""]  # the last block was not asked for
    code = elements(opened, "pre[contenteditable]")[1]
    code.send_keys(Keys.CONTROL + "a")
    code.send_keys("print(a)" + Keys.ENTER + "b = 1 / 0")
    code.send_keys(Keys.SHIFT + Keys.ENTER)
    wait(opened, 1, "Failed after")
    lines = printed(opened)[1].splitlines()
    assert lines[:2] == ["6", "Traceback (most recent call last):"]
    assert 'File "block 2", line 2' in lines[2]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    # The blocks after an error do not run.
    click(opened, 2)
    WebDriverWait(opened, 60).until(lambda _: statuses(opened)[2] == "")
    assert printed(opened)[2] == ""


@in_chromium
def test_a_run_that_does_not_end_is_stopped(page):
    opened = page("short")
    code = elements(opened, "pre[contenteditable]")[0]
    code.send_keys(Keys.CONTROL + "a")
    code.send_keys("print(1)" + Keys.ENTER + "while True: pass")
    click(opened, 1)
    WebDriverWait(opened, 300).until(lambda _: printed(opened)[0] == "1")
    click(opened, 1)
    wait(opened, 1, "Ended.")
    code.send_keys(Keys.CONTROL + "a")
    code.send_keys("a = 5")
    click(opened, 1)
    wait(opened, 1, "Ran in")
    assert printed(opened) == ["", "35", ""]


@in_chromium
def test_without_a_network_the_message_names_the_address(site, page):
    text = (site / "short.html").read_text(encoding="utf-8")
    text = re.sub('data-pyodide="[^"]*"', 'data-pyodide="http://127.0.0.1:9/"', text)
    (site / "offline.html").write_text(text, encoding="utf-8")
    opened = page("offline")
    click(opened, 0)
    wait(opened, 0, "Ended.")
    assert printed(opened)[0].startswith("Python did not load from http://127.0.0.1:9/")


@in_chromium
def test_the_site_names_the_tested_release_of_pyodide(pyodide):
    settings = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert f"/v{version(pyodide)}/" in re.search('^playground_pyodide = "(.*)"', settings, re.M)[1]
