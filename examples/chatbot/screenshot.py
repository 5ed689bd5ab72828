"""Talk to the chatbot in a real browser, and take the picture of the README.

    python examples/chatbot/screenshot.py --output docs/images/chatbot.png

It needs Flask, selenium, and Chromium with its driver: apt-get install chromium chromium-driver.
"""

import argparse
import contextlib
import shutil
import threading

from arguments import picture
from bot import load
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from server import create_app
from werkzeug.serving import make_server

PROGRAMS = ("chromium", "chromedriver")
QUESTIONS = ("Who are you?", "I'm so tired today", "How can I check my gradients?")


@contextlib.contextmanager
def serving(app):
    """Run an application with one thread per request; yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def browser(width=1200, height=800):
    """Open a headless Chromium with a viewport of this size."""
    chromium, driver = map(shutil.which, PROGRAMS)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # The sandbox fails for root and in many containers. The browser opens only our own page.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield opened
    finally:
        opened.quit()


def ask(opened, question):
    """Type a question, press Enter, wait for the answer and return it."""
    selector = "#messages .bot:not(.waiting), #messages .error"
    before = len(opened.find_elements(By.CSS_SELECTOR, selector))
    opened.find_element(By.ID, "question").send_keys(question + "\n")

    def answered(opened):
        found = opened.find_elements(By.CSS_SELECTOR, selector)
        waiting = opened.find_elements(By.CSS_SELECTOR, "#messages .waiting")
        return found[before:] if len(found) > before and not waiting else None

    (answer,) = WebDriverWait(opened, 20).until(answered)
    # The first child is the speaker's name, for users who do not see the colours.
    return opened.execute_script("return arguments[0].lastChild.textContent", answer)


def main():
    """Hold a conversation and save the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=picture, default="output/chatbot.png")
    arguments = parser.parse_args()
    with serving(create_app(load())) as address, browser(1100, 700) as opened:
        opened.get(address)
        for question in QUESTIONS:
            print(f"{question}\t{ask(opened, question)}")
        opened.save_screenshot(str(arguments.output))


if __name__ == "__main__":
    main()
