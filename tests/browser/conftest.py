"""A page that is served, and a browser on it; without a browser, journeys are skipped."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

# What journeys share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

pytest.importorskip("streamlit")
pytest.importorskip("selenium")

import chromium
from page import Page

from microcalibrate.dashboard import drafts, target_tables
from microcalibrate.jobs import Workspace


def pytest_collection_modifyitems(items):
    """Skip what needs a browser where there is none."""
    if reason := chromium.missing():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """Folder of the workspace of all journeys; each goes by the addresses of its own things."""
    return tmp_path_factory.mktemp("page") / "workspace"


@pytest.fixture(scope="session")
def jobs(workspace) -> Workspace:
    """The workspace as another process than the page sees it."""
    return Workspace(workspace)


@pytest.fixture(scope="session")
def served(workspace) -> Iterator[chromium.Served]:
    """The page on that workspace."""
    with chromium.dashboard(workspace) as page:
        yield page


@pytest.fixture
def opened(tmp_path):
    """Opens browsers that know nothing of each other, each on a page: `opened(served)`."""
    with ExitStack() as stack:
        pages = []

        def open_browser(served, **options) -> Page:
            downloads = tmp_path / f"downloads-{len(pages)}"
            downloads.mkdir()
            driver = stack.enter_context(chromium.chromium(downloads=downloads, **options))
            pages.append(Page(driver, served, downloads))
            return pages[-1]

        yield open_browser
        for page in pages:
            page.assert_quiet()


@pytest.fixture
def page(opened, served) -> Page:
    """A browser on the page."""
    return opened(served)


@pytest.fixture(scope="session")
def people() -> pd.DataFrame:
    """Four hundred persons, each with a weight."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "person_id": np.arange(400) + 1000,
            "weight": generator.uniform(5, 15, 400).round(3),
            "age": generator.integers(0, 90, 400),
            "income": generator.gamma(2, 1000, 400).round(),
            "state": generator.choice(["CA", "TX"], 400),
        }
    )


TARGETS = """name,target,variable,filter
people/old,1400,,age >= 65
people/young,1000,,age < 20
income,8400000,income,
"""


@pytest.fixture
def targets_text() -> str:
    """Three targets of theirs, as they are pasted."""
    return TARGETS


@pytest.fixture(scope="session")
def dataset(jobs, people):
    """The persons with three targets, taken in."""
    return take_in(jobs, people, TARGETS, "people.csv")


@pytest.fixture(scope="session")
def runs(jobs, dataset):
    """Two calibrations of them: with all records, and with fifty."""
    return [
        calibrate(jobs, dataset, "all records"),
        calibrate(jobs, dataset, "fifty records", "--records", "50"),
    ]


def take_in(jobs, table, targets, name):
    """A data set with its targets, once it is read."""
    content = io.BytesIO(table.to_csv(index=False).encode())
    dataset = jobs.add_upload(name, content)
    drafts.write_targets(dataset, target_tables.read_text(targets))
    assert finished(dataset.run) == "done", dataset.run.log_tail()
    return dataset


def calibrate(jobs, dataset, name, *options):
    """A calibration as the page submits it, once it is done."""
    roles = drafts.read_roles(dataset)
    given = ["--weight", roles.weight, *(["--id", roles.id] if roles.id else [])]
    grid = target_tables.included(drafts.read_targets(dataset))
    run = jobs.submit(
        "calibrate",
        [
            *(str(dataset.table), "--targets", "{run}/targets.csv", *given),
            *("--out", "{run}/result", *options),
        ],
        name,
        files={"targets.csv": target_tables.as_bytes(grid)},
        details={"dataset": dataset.id, "dataset_name": dataset.name, "values": {}},
    )
    assert finished(run) == "done", run.log_tail()
    return run


def finished(run) -> str:
    """How a run has ended, once it is over."""
    for _ in range(1200):
        if run.state.is_over:
            return str(run.state.value)
        time.sleep(0.1)
    raise TimeoutError(run.log_tail())


@pytest.fixture(scope="session")
def make():
    """Makes data sets and runs as the page does: `make.take_in`, `make.calibrate`."""
    return SimpleNamespace(take_in=take_in, calibrate=calibrate, finished=finished)
