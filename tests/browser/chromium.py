"""A real browser, and the page served for it: Debian's Chromium and its driver, no download."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.request import urlopen

BROWSERS, DRIVER = ("chromium", "chromium-browser", "google-chrome"), "chromedriver"
SECONDS = 60.0
"""How long a step of a journey may take on a machine that does much else."""
QUIET = 0.2
"""Seconds without a message after which what came has been taken in."""

# Note [Answers]: that the page says "running" is no sign of its answer. Where all messages of a run
# come before the browser draws next, it goes from rest to rest. So the messages are counted.
_COUNT_MESSAGES = """
    window.messages = 0;
    window.lastMessage = 0;
    window.WebSocket = class extends WebSocket {
        constructor(...what) {
            super(...what);
            this.addEventListener("message", () => {
                window.messages += 1;
                window.lastMessage = performance.now();
            });
        }
    };
"""


def browser() -> str | None:
    """Path of the browser."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing() -> str:
    """What a journey lacks on this machine; empty where nothing."""
    lacking = [] if browser() else [f"no browser ({', '.join(BROWSERS)})"]
    if shutil.which(DRIVER) is None:
        lacking.append(f"no {DRIVER}")
    return f"{' and '.join(lacking)} on the PATH" if lacking else ""


@contextmanager
def chromium(
    width: int = 1280, height: int = 900, *, dark: bool = False, downloads: Path | None = None
) -> Iterator[Any]:
    """A headless browser.

    Args:
        width: Of its window.
        height: Of its window.
        dark: Whether its reader prefers dark pages.
        downloads: Folder for what is downloaded.

    Yields:
        Selenium's driver.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = browser() or ""
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if downloads is not None:
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(downloads), "download.prompt": False}
        )
    driver = webdriver.Chrome(options=options, service=Service(shutil.which(DRIVER)))
    try:
        preference = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preference})
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _COUNT_MESSAGES})
        yield driver
    finally:
        driver.quit()


@dataclass(frozen=True)
class Served:
    """A page that is being served."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def dashboard(workspace: Path, *arguments: str) -> Iterator[Served]:
    """`microcalibrate dashboard` on a free port.

    Args:
        workspace: Where data sets and runs are.
        *arguments: Further ones.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["dashboard", "--no-browser", "--port", str(port), "--workspace", str(workspace)]
    with TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "microcalibrate", *words, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, process, output)
            yield Served(url, process)
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    for _ in range(int(SECONDS / 0.2)):
        if process.poll() is not None:
            output.seek(0)
            raise RuntimeError(output.read().decode())
        try:
            with urlopen(f"{url}/_stcore/health") as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)


def settled(driver: Any, seconds: float = SECONDS) -> None:
    """Wait until the page has been drawn and its script rests."""
    from selenium.webdriver.support.ui import WebDriverWait

    rests = (
        "const app = document.querySelector('[data-testid=stApp]');"
        "return !!app && app.dataset.testScriptState === 'notRunning'"
        " && !!document.querySelector('[data-testid=stHeading]')"
        " && !document.querySelector('[data-stale=true]')"
        " && !document.querySelector('[data-testid=stSkeleton]')"
    )
    WebDriverWait(driver, seconds).until(lambda each: each.execute_script(rests))


def messages(driver: Any) -> tuple[int, float]:
    """How many messages have come from the server, and for how many seconds none has.

    See Note [Answers].
    """
    count, quiet = driver.execute_script(
        "return [window.messages, (performance.now() - window.lastMessage) / 1000]"
    )
    return count, quiet


def visit(driver: Any, url: str) -> None:
    """Open an address, and wait until it is drawn."""
    driver.get(url)
    settled(driver)


def picture(driver: Any, path: Path, *, whole: bool = True) -> None:
    """Save what is to be seen; with `whole` as high as the page is."""
    if whole:
        width = driver.get_window_size()["width"]
        height = driver.execute_script(
            "const main = document.querySelector('[data-testid=stMain]');"
            "return Math.ceil((main || document.body).scrollHeight)"
        )
        driver.set_window_size(width, max(height + 140, 700))
        time.sleep(0.7)
    driver.save_screenshot(str(path))


def requests_elsewhere(driver: Any, url: str) -> list[str]:
    """Addresses that the browser has asked for outside of the page's own."""
    asked = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            asked.append(message["params"]["url"])
    own = re.sub("^http", "(http|ws)", re.escape(url))
    local = re.compile(rf"{own}(/|$)|data:|blob:|chrome:|about:")
    return [address for address in asked if not local.match(address)]


# Where a deep link is opened, Streamlit looks for itself below the path of the screen, too.
_PROBE = re.compile(r"/[a-z_]+/_stcore/(health|host-config) - Failed to load resource.* 404 ")


def complaints(driver: Any) -> list[str]:
    """Errors in the browser's console, but for those that Streamlit makes by design."""
    return [
        entry["message"]
        for entry in driver.get_log("browser")
        if entry["level"] == "SEVERE" and not _PROBE.search(entry["message"])
    ]
