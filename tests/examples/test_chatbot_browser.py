"""The chatbot's page in a real browser: type, send, read the answer, see the heat map."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flask", reason="needs Flask")
pytest.importorskip("selenium", reason="needs selenium")

from bot import load
from screenshot import PROGRAMS, ask, browser, serving
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait
from server import create_app

MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
]
OUTPUT = Path("output")


@pytest.fixture(scope="module")
def bot():
    return load()


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture
def page(bot, chromium):
    with serving(create_app(bot)) as address:
        chromium.get_log("browser")
        chromium.get(address)
        yield chromium
        assert chromium.get_log("browser") == []


def texts(page, selector):
    return [
        found.get_attribute("textContent")
        for found in page.find_elements(By.CSS_SELECTOR, selector)
    ]


def test_a_question_is_answered_and_its_attention_is_shown(page, bot):
    expected = bot.reply("How can I save my model?")
    assert ask(page, "How can I save my model?") == expected.answer
    assert texts(page, "#heatmap thead th") == expected.question_words
    assert texts(page, "#heatmap tbody th") == expected.answer_words
    shades = page.find_elements(By.CSS_SELECTOR, "#heatmap .shade")
    opacities = [float(shade.value_of_css_property("opacity")) for shade in shades]
    assert np.allclose(opacities, expected.weights.ravel(), atol=1e-3)
    darkest = shades[int(np.argmax(opacities))]
    assert darkest.is_displayed()
    assert min(darkest.rect["width"], darkest.rect["height"]) >= 15
    OUTPUT.mkdir(exist_ok=True)
    page.save_screenshot(str(OUTPUT / "chatbot-page.png"))
    note = page.find_element(By.ID, "unsure")
    assert not note.is_displayed()
    # The next answer shows the next heat map.
    ask(page, "Thanks!")
    assert texts(page, "#heatmap thead th") == ["thanks"]
    # A guess is not shown as an answer, even if all its words are known.
    assert not bot.reply("soup thread lawyer epoch").sure
    ask(page, "soup thread lawyer epoch")
    assert note.is_displayed()
    assert texts(page, "#heatmap thead th") == ["soup", "thread", "lawyer", "epoch"]
    assert texts(page, "#heatmap .unknown") == []


def test_the_button_sends_and_a_sampled_answer_appears(page):
    Select(page.find_element(By.ID, "temperature")).select_by_value("1")
    assert {ask(page, "Tell me a joke") for _ in range(6)} != {"Tell me a joke"}
    before = len(texts(page, ".you"))
    page.find_element(By.ID, "question").send_keys("Hello")
    page.find_element(By.CSS_SELECTOR, "form button").click()
    assert texts(page, ".you")[before:] == ["You: Hello"]


@pytest.mark.parametrize(
    "question",
    [
        "<img src=x onerror=document.title='hacked'>",
        "<script>document.title='hacked'</script>",
        "</p><iframe src='javascript:alert(1)'></iframe>",
        "你好 привет",
        "x" * 1990,
    ],
    ids=range(5),
)
def test_hostile_text_is_shown_as_text(page, question):
    tags = len(page.find_elements(By.CSS_SELECTOR, "img, iframe, script"))
    assert ask(page, question)
    assert texts(page, ".you") == [f"You: {question}"]
    assert len(page.find_elements(By.CSS_SELECTOR, "img, iframe, script")) == tags
    assert page.title == "Pico, a chatbot in npdl"
    width = page.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert width <= 0


def test_a_suggestion_is_asked_and_replaced(page):
    first = texts(page, "#suggestions button")
    page.find_element(By.CSS_SELECTOR, "#suggestions button").click()
    answered = "#messages .bot:not(.waiting):nth-child(3)"
    WebDriverWait(page, 20).until(lambda page: texts(page, answered))
    assert texts(page, ".you") == [f"You: {first[0]}"]
    WebDriverWait(page, 20).until(
        lambda page: not set(texts(page, "#suggestions button")) & set(first)
    )


def test_a_message_without_words_is_answered(page):
    assert ask(page, "").startswith("You sent no words.")


def test_a_stopped_server_is_reported_and_the_page_continues(bot, chromium):
    with serving(create_app(bot)) as address:
        chromium.get(address)
    assert ask(chromium, "Hello").startswith("No answer came")
    chromium.get_log("browser")


def test_the_page_fits_a_small_screen(page):
    size = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        ask(page, "What is attention?")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        for selector in ("#question", "form button", "#temperature"):
            box = page.find_element(By.CSS_SELECTOR, selector).rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            assert box["y"] + box["height"] <= 640
        page.save_screenshot(str(OUTPUT / "chatbot-small.png"))
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
