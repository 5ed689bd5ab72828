"""The page of digits in a real browser: draw with the mouse, read the probabilities."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("flask", reason="needs Flask")
pytest.importorskip("selenium", reason="needs selenium")
pytest.importorskip("sklearn", reason="needs scikit-learn")

from screenshot import PROGRAMS, browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from serving import serving

MISSING = [program for program in (*PROGRAMS, "npm") if shutil.which(program) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
]
OUTPUT = Path("output")
SCRIPT = Path(__file__).parents[2] / "examples" / "digits_page.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of the page, with a trained network and onnxruntime-web."""
    output = tmp_path_factory.mktemp("page")
    subprocess.run([sys.executable, SCRIPT, "--output", output], check=True, timeout=170)
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, check=True, timeout=300, cwd=output)
    return output


@pytest.fixture(scope="module")
def page(folder):
    with serving(folder) as address, browser(1000, 560) as opened:
        opened.get(address)
        WebDriverWait(opened, 60).until(lambda _: status(opened) == "Draw a digit.")
        yield opened
        assert opened.get_log("browser") == []


def status(page):
    return page.find_element(By.ID, "status").text


def draw(page, points):
    """Draw a line through points, as fractions of the canvas."""
    canvas = page.find_element(By.ID, "drawing")
    x, y = canvas.size["width"], canvas.size["height"]
    places = [(round((a - 0.5) * x), round((b - 0.5) * y)) for a, b in points]
    actions = ActionChains(page, duration=10)
    actions.move_to_element_with_offset(canvas, *places[0]).click_and_hold()
    for place in places[1:]:
        actions.move_to_element_with_offset(canvas, *place)
    actions.release().perform()


def circle(x, y, across, down, start=0.0, end=1.0):
    turns = np.linspace(start, end, 24) * 2 * np.pi
    return [(x + across * np.sin(t), y - down * np.cos(t)) for t in turns]


STROKES = {
    0: circle(0.5, 0.5, 0.2, 0.32),
    1: [(0.38, 0.3), (0.52, 0.15), (0.52, 0.85)],
    2: [*circle(0.5, 0.35, 0.2, 0.2, -0.2, 0.35), (0.3, 0.85), (0.72, 0.85)],
    3: [*circle(0.48, 0.32, 0.18, 0.17, -0.2, 0.5), *circle(0.48, 0.67, 0.2, 0.18, 0, 0.7)],
    4: [(0.42, 0.15), (0.3, 0.55), (0.75, 0.55), (0.6, 0.55), (0.62, 0.3), (0.58, 0.85)],
    5: [(0.7, 0.15), (0.35, 0.15), (0.33, 0.45), *circle(0.48, 0.63, 0.2, 0.2, -0.1, 0.7)],
    # The writers of the data cross their sevens.
    7: [*((0.25, 0.15), (0.75, 0.15), (0.45, 0.85), (0.58, 0.55)), (0.38, 0.5), (0.72, 0.5)],
    8: [*circle(0.5, 0.32, 0.16, 0.16, 0.5, 1.5), *circle(0.5, 0.66, 0.19, 0.18, 0, 1)],
    9: [*circle(0.5, 0.35, 0.18, 0.18, 0.25, 1.25), (0.62, 0.6), (0.55, 0.85)],
}


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_is_recognized(page, digit):
    page.find_element(By.ID, "clear").click()
    assert status(page) == "Draw a digit."
    draw(page, STROKES[digit])
    article = "an" if digit == 8 else "a"
    WebDriverWait(page, 20).until(lambda _: status(page) == f"This is {article} {digit}.")
    rows = page.find_elements(By.CSS_SELECTOR, "#bars li")
    assert [row.get_attribute("class") for row in rows].index("best") == digit
    percents = [float(row.find_element(By.TAG_NAME, "output").text[:-2]) for row in rows]
    assert abs(sum(percents) - 100) < 1
    OUTPUT.mkdir(exist_ok=True)
    page.save_screenshot(str(OUTPUT / "digits-page.png"))


def test_a_missing_network_is_reported(folder):
    network = folder / "digits.onnx"
    kept = network.rename(folder / "kept.onnx")
    try:
        with serving(folder) as address, browser() as opened:
            opened.get(address)
            WebDriverWait(opened, 60).until(lambda _: "did not load" in status(opened))
    finally:
        kept.rename(network)
