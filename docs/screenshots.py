"""Pictures of the page for its tour, taken of the embedded data: `nox -s screenshots`."""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The browser and the server of the journeys through the page.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

from chromium import chromium, dashboard
from page import Page

from microcalibrate.dashboard import drafts, embedded, target_tables
from microcalibrate.dashboard.screens import SCREENS
from microcalibrate.jobs import Dataset, Run, Workspace

PICTURES = Path(__file__).parent / "_static" / "page"
WIDTH, HEIGHT, QUALITY = 1280, 860, 80
SECONDS = 1800


@dataclass(frozen=True)
class View:
    """What of a screen is shown.

    Attributes:
        run: Name of the run that is looked at.
        asked: What else stands in the address.
        awaited: Words that are there when everything is.
        height: Of the picture.
    """

    run: str = ""
    asked: Mapping[str, str] = field(default_factory=dict)
    awaited: str = ""
    height: int = HEIGHT


VIEWS = {
    "start": View(awaited="Latest runs"),
    "data": View(awaited="records", height=1080),
    "targets": View(awaited="in order", height=1480),
    "settings": View(awaited="What do you want?", height=1080),
    "run": View(run="2,000 records", awaited="What it printed", height=700),
    "results": View(run="2,000 records", awaited="Weights", height=1200),
    "compare": View(asked={"tab": "Errors"}, awaited="targets in both", height=1260),
    "downloads": View(run="2,000 records", awaited="Everything in one"),
    "tune": View(run="tuning", asked={"tab": "Trials"}, awaited="Use this trial", height=1260),
    "robustness": View(run="robustness", awaited="held out", height=1080),
    "target_analysis": View(run="target analysis", awaited="targets", height=1080),
    "diagnostics": View(asked={"tab": "Records"}, awaited="flagged", height=1080),
    "regularise": View(awaited="rounds", height=1080),
}
OPTIONS = {
    "all records": ("calibrate",),
    "2,000 records": ("calibrate", "--records", "2000"),
    "target analysis": ("targets",),
    "robustness": ("evaluate", "--records", "2000", "--folds", "3"),
    "tuning": ("tune", "--trials", "8", "--folds", "2"),
}
"""Runs that are looked at, in their order: name to command and options."""
WITHOUT_RUNS = {"data", "targets", "settings"}
"""Paths of screens that show no run."""


def main() -> None:
    """Prepare a workspace, and take a picture of every screen, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path, help="Where data sets and runs are made, or are.")
    parser.add_argument("--only", nargs="*", default=[], help="Paths of screens.")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--to", type=Path, default=PICTURES)
    given = parser.parse_args()
    workspace = Workspace(given.workspace / "workspace")
    dataset = prepared(workspace)
    wanted = given.only or [screen.url for screen in SCREENS]
    runs = {} if WITHOUT_RUNS.issuperset(wanted) else prepared_runs(workspace, dataset)
    households = given.workspace / "households"
    saved = prepared_households(households) if {"diagnostics", "regularise"} & {*wanted} else []
    given.to.mkdir(parents=True, exist_ok=True)
    with (
        dashboard(workspace.folder, *map(str, saved)) as served,
        chromium(given.width, HEIGHT, dark=given.dark) as driver,
    ):
        page = Page(driver, served, given.to)
        for url in wanted:
            take(page, url, dataset, runs, given)
            print(url, flush=True)


def prepared(workspace: Workspace) -> Dataset:
    """The embedded survey with its targets."""
    dataset = next(iter(workspace.datasets()), None) or embedded.take_up(workspace)
    ended(dataset.run)
    return dataset


def prepared_runs(workspace: Workspace, dataset: Dataset) -> dict[str, Run]:
    """Runs by name, those that are there already as they are."""
    there = {run.name: run for run in workspace.runs()}
    targets = target_tables.as_bytes(target_tables.included(drafts.read_targets(dataset)))
    roles = drafts.read_roles(dataset)
    common = ("--targets", "{run}/targets.csv", "--weight", roles.weight, "--id", roles.id)
    for name, (command, *options) in OPTIONS.items():
        if name not in there:
            there[name] = workspace.submit(
                command,
                [str(dataset.table), *common, "--out", "{run}/result", *options],
                name,
                files={"targets.csv": targets},
                details={"dataset": dataset.id, "dataset_name": dataset.name, "values": {}},
            )
        ended(there[name])
    return there


def prepared_households(folder: Path) -> list[Path]:
    """The diagnosis and the regularisation of the demo on households."""
    saved = [folder / name for name in ("diagnosis", "regularised")]
    if not all(each.is_dir() for each in saved):
        words = ["demo", "--regularise", "--no-report", "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "microcalibrate", *words], check=True)
    return saved


def ended(run: Run) -> None:
    """Wait for a run, which must have left a result."""
    for _ in range(SECONDS * 2):
        if run.state.is_over:
            if run.state.value != "done":
                raise RuntimeError(f"{run.name}: {run.log_tail()}")
            return
        time.sleep(0.5)
    raise TimeoutError(run.name)


def take(
    page: Page, url: str, dataset: Dataset, runs: Mapping[str, Run], given: argparse.Namespace
) -> None:
    """Take the picture of a screen."""
    view = VIEWS[url]
    asked = {"dataset": dataset.id, **view.asked}
    if view.run:
        asked["run"] = runs[view.run].id
    if url == "compare":
        asked |= {"a": runs["all records"].id, "b": runs["2,000 records"].id}
    size = {"width": given.width, "height": view.height, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.open(url, **asked)
    page.shows(view.awaited)
    drawn(page)
    answer: Any = page.driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
    )
    (given.to / f"{url}.webp").write_bytes(base64.b64decode(answer["data"]))


def drawn(page: Page) -> None:
    """Wait until figures and tables are painted and nothing moves any more."""
    looks = []
    for _ in range(40):
        looks.append(page.driver.get_screenshot_as_base64())
        if len(looks) > 2 and looks[-1] == looks[-2] == looks[-3]:
            return
        time.sleep(0.3)


if __name__ == "__main__":
    main()
