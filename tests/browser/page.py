"""The page as a reader uses it: what is clicked, typed and read, each step waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from chromium import QUIET, SECONDS, Served, complaints, messages, requests_elsewhere, settled
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

START = "start"
"""The screen at the root."""


class Page:
    """A tab of a browser with the page in it.

    Attributes:
        driver: Selenium's.
        served: What is shown, if it is served at present.
        downloads: Folder for what is downloaded.
    """

    def __init__(self, driver: Any, served: Served, downloads: Path) -> None:
        self.driver, self.served, self.downloads = driver, served, downloads

    # --- Going somewhere --------------------------------------------------------------------------

    def open(self, screen: str, *, rests: bool = True, **parameters: str) -> Page:
        """Open a screen by its address.

        Args:
            screen: Its path.
            rests: Whether the screen comes to rest: one that shows a run draws itself anew.
            **parameters: What else the address asks for.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        path = "" if screen == START else screen
        self.driver.get(f"{self.served.url}/{path}{query}")
        if rests:
            settled(self.driver)
        else:
            self.until(lambda: self.title, "a heading")
        return self

    def leave(self) -> None:
        """Close every tab but one, which shows nothing."""
        first, *others = self.driver.window_handles
        for tab in others:
            self.driver.switch_to.window(tab)
            self.driver.close()
        self.driver.switch_to.window(first)
        self.driver.get("about:blank")

    def follow(self, label: str) -> None:
        """Click a link to another screen, and wait for it."""
        title = self.title
        with self.answered():
            self.driver.find_element(
                By.XPATH, f"//a[@data-testid='stPageLink-NavLink'][.//p[.='{label}']]"
            ).click()
        self.until(lambda: self.title != title)
        settled(self.driver)

    @property
    def title(self) -> str:
        """The heading of the screen."""
        return self.driver.execute_script(
            "return (document.querySelector('h1') || {}).textContent || ''"
        )

    @property
    def query(self) -> dict[str, str]:
        """What the address asks for."""
        asked = parse_qs(urlsplit(self.driver.current_url).query)
        return {name: values[0] for name, values in asked.items()}

    @property
    def text(self) -> str:
        """What can be read of the screen, tables and pictures aside."""
        return self.driver.execute_script(
            "return (document.querySelector('[data-testid=stMain]') || {}).innerText || ''"
        )

    # --- Waiting ----------------------------------------------------------------------------------

    def until(
        self, holds: Callable[[], Any], wanted: str = "a change", seconds: float = SECONDS
    ) -> Any:
        """Wait until something holds; returns what it found.

        Args:
            holds: Asked again and again.
            wanted: What is waited for, in words.
            seconds: How long at most.
        """

        def tried(_: Any) -> Any:
            # What is being drawn anew is looked at again.
            try:
                return holds()
            except (NoSuchElementException, StaleElementReferenceException):
                return False

        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(tried)
        except TimeoutException as error:
            seen = f"{self.driver.current_url}\n{self.text}\n{complaints(self.driver)[:3]}"
            raise AssertionError(f"waited in vain for {wanted}; there is\n{seen}") from error

    def shows(self, words: str, seconds: float = SECONDS, *, rests: bool = True) -> None:
        """Wait until some words stand on the screen, and it rests where it does."""
        self.until(lambda: words in self.text, f"“{words}”", seconds)
        if rests:
            settled(self.driver)

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Wait until the page has answered to what is done meanwhile."""
        before, _ = messages(self.driver)
        yield

        def came() -> bool:
            count, quiet = messages(self.driver)
            return count > before and quiet > QUIET

        self.until(came, "an answer")
        settled(self.driver)

    # --- Widgets ----------------------------------------------------------------------------------

    def find(self, key: str, what: str = "") -> Any:
        """What is in the widget of a key, or of the one that begins so where it ends in `_`."""
        css = f"[class*='st-key-{key}']" if key.endswith("_") else f".st-key-{key}"
        return self.until(
            lambda: self.driver.find_element(By.CSS_SELECTOR, f"{css} {what}"), f"{what} in {key}"
        )

    def click(self, key: str) -> None:
        """Click the button of a key."""
        self.until(lambda: self.find(key, "button").is_enabled(), f"{key} to be enabled")
        with self.answered():
            self.find(key, "button").click()

    def check(self, key: str) -> None:
        """Tick or untick a box."""
        with self.answered():
            self.find(key, "label").click()

    def fill(self, key: str, text: str) -> None:
        """Put a text into a field."""
        field = self.find(key, ":is(input, textarea)")
        field.send_keys(Keys.CONTROL, "a")
        with self.answered():
            # A field of several lines is left to be read, one of a single line also with Enter.
            field.send_keys(text, Keys.TAB)

    def choose(self, key: str, text: str) -> None:
        """Choose from a list by typing."""
        field = self.find(key, "input")
        field.click()
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)
        with self.answered():
            field.send_keys(Keys.ENTER)

    def upload(self, key: str, path: Path) -> None:
        """Hand a file over; what comes of it is for the caller to wait for."""
        self.find(key, "input[type=file]").send_keys(str(path))

    def tab(self, label: str) -> None:
        """Open a tab of the screen, unless it is open."""
        tab = self.until(
            lambda: self.driver.find_element(
                By.XPATH, f"//*[@data-testid='stTab'][.//p[.='{label}']]"
            )
        )
        if tab.get_attribute("aria-selected") != "true":
            with self.answered():
                tab.click()

    def value(self, key: str) -> str:
        """What stands in a field or list."""
        return str(self.find(key, ":is(input, textarea)").get_attribute("value"))

    # --- Tables and files -------------------------------------------------------------------------

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows and columns of a table that are in view, as texts.

        Args:
            name: What it is, as readers who do not see it are told.
        """
        cells = self.until(
            lambda: self.driver.execute_script(
                "const grid = document.querySelector(`[role=region][aria-label='${arguments[0]}']"
                " table`);"
                "return grid && grid.rows.length > 1 && [...grid.rows].map("
                "  row => [...row.cells].map(cell => cell.textContent))",
                name,
            ),
            f"the table “{name}”",
        )
        head, *rows = cells
        return [dict(zip(head, row, strict=True)) for row in rows]

    def download(self, key: str, name: str) -> Path:
        """Download a file with the button of a key, and wait until it is whole."""
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.find(key, "button").click()
        self.until(path.exists)
        self.until(lambda: not list(self.downloads.glob("*.crdownload")))
        return path

    # --- What must never be -----------------------------------------------------------------------

    def assert_quiet(self) -> None:
        """No error in the console, and no request to another place."""
        assert complaints(self.driver) == []
        assert requests_elsewhere(self.driver, self.served.url) == []
        assert "could not be drawn" not in self.text
