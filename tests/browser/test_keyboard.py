"""The whole way from the survey to its weights without a mouse."""

from __future__ import annotations

import pandas as pd
from chromium import settled
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

MOST_STEPS = 90
_FOCUSED = """
const it = document.activeElement;
return [it.getAttribute('aria-label') || it.innerText || '', it.closest('[class*=st-key-]')
    ? it.closest('[class*=st-key-]').className : '', it.matches(':focus-visible')];
"""


def press(page, *keys: str) -> None:
    ActionChains(page.driver).send_keys(*keys).perform()


def reach(page, label: str = "", key: str = "") -> None:
    """Go on with the Tab key until something has the focus, which must be seen."""
    passed = []
    for _ in range(MOST_STEPS):
        press(page, Keys.TAB)
        words, classes, is_seen = page.driver.execute_script(_FOCUSED)
        words = words.split("\n")[-1]
        passed.append(words)
        if (label and words == label) or (key and f"st-key-{key}" in classes):
            assert is_seen
            return
    raise AssertionError(f"“{label or key}” cannot be reached with the Tab key, only {passed}")


def test_from_survey_to_weights_with_the_keyboard_alone(page):
    page.open("data")
    reach(page, key="take_embedded")
    press(page, Keys.ENTER)
    page.until(lambda: "dataset" in page.query, "the survey")
    page.shows("25,000\nrecords")
    reach(page, label="Go on to the targets")
    press(page, Keys.ENTER)
    page.shows("284 targets of 284 in use")
    reach(page, label="Go on to the settings")
    press(page, Keys.ENTER)
    page.shows("What do you want?")
    reach(page, key="preset_count")
    with page.answered():
        press(page, Keys.SPACE)
    assert page.value("calibrate_records") == "2000"
    reach(page, key="start_calibration")
    press(page, Keys.ENTER)
    page.shows("See what it found")
    reach(page, label="See what it found")
    press(page, Keys.ENTER)
    page.until(lambda: page.title == "Results", "Results")
    settled(page.driver)
    reach(page, label="Summary")
    with page.answered():
        press(page, Keys.ARROW_RIGHT)
        press(page, Keys.ENTER)
    page.shows("284 targets of 284.")
    reach(page, label="Download its files")
    press(page, Keys.ENTER)
    page.shows("Everything in one ZIP archive")
    reach(page, key="download_weights-csv")
    press(page, Keys.ENTER)

    file = page.downloads / "weights.csv"
    page.until(file.exists, "the weights")
    weights = pd.read_csv(file)
    assert len(weights) == 25_000
    assert (weights.weight > 0).sum() == 2000
