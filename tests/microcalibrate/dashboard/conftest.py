"""A workspace with a small survey, and the page on it without a browser."""

from __future__ import annotations

import io
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")

from microcalibrate import dashboard

from .linked_homes import TARGETS as TARGETS_OF_HOMES
from .linked_homes import homes, units
from .linked_homes import people as members

APP = Path(dashboard.__file__).with_name("app.py")
SECONDS = 120


def finished(run):
    """The run, once it is over; it must have been done."""
    for _ in range(SECONDS * 10):
        if run.state.is_over:
            assert run.state.value == "done", run.log_tail()
            return run
        time.sleep(0.1)
    raise TimeoutError(run.log_tail())


@pytest.fixture
def over():
    """Waits until a run is over, however it ends."""

    def wait(run):
        for _ in range(SECONDS * 10):
            if run.state.is_over:
                return run
            time.sleep(0.1)
        raise TimeoutError(run.log_tail())

    return wait


@pytest.fixture
def submit():
    """Submits a calibration as the page does: `submit(workspace, dataset, values, name)`."""
    return submitted


def people() -> pd.DataFrame:
    """Two hundred persons, each with a weight."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "person_id": np.arange(200) + 1000,
            "weight": generator.uniform(5, 15, 200).round(3),
            "age": generator.integers(0, 90, 200),
            "income": generator.gamma(2, 1000, 200).round(),
            "state": generator.choice(["CA", "TX"], 200),
        }
    )


TARGETS = """name,target,variable,filter
people/old,700,,age >= 65
people/young,500,,age < 20
income,4200000,income,
"""


def csv(frame: pd.DataFrame) -> io.BytesIO:
    return io.BytesIO(frame.to_csv(index=False).encode())


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A workspace with an imported data set and its targets; for reading only."""
    from microcalibrate.dashboard import drafts, target_tables
    from microcalibrate.jobs import Workspace

    made = Workspace(tmp_path_factory.mktemp("page") / "workspace")
    dataset = made.add_upload("people.csv", csv(people()))
    drafts.write_targets(dataset, target_tables.read_text(TARGETS))
    finished(dataset.run)
    return made


@pytest.fixture
def empty(tmp_path):
    """A workspace with nothing in it, for each test one of its own."""
    from microcalibrate.jobs import Workspace

    return Workspace(tmp_path / "empty")


@pytest.fixture(scope="session")
def dataset(workspace):
    return workspace.datasets()[0]


@pytest.fixture(scope="session")
def calibrated(workspace, dataset):
    """A calibration that the page would submit, done."""
    return finished(submitted(workspace, dataset, {}, "all records"))


@pytest.fixture(scope="session")
def reduced(workspace, dataset, calibrated):
    """The same with fewer records."""
    assert calibrated
    return finished(submitted(workspace, dataset, {"records": 50}, "fifty records"))


def submitted(workspace, dataset, values, name):
    from microcalibrate.dashboard import drafts, target_tables
    from microcalibrate.dashboard.calibration_job import (
        SUPPLIED,
        calibration_arguments,
        calibration_details,
    )
    from microcalibrate.dashboard.option_schema import options_of

    options = {key: each for key, each in options_of("calibrate").items() if key not in SUPPLIED}
    grid = target_tables.included(drafts.read_targets(dataset))
    return workspace.submit(
        "calibrate",
        calibration_arguments(dataset, drafts.read_roles(dataset), options, values),
        name,
        files={"targets.csv": target_tables.as_bytes(grid)},
        details=calibration_details(dataset, values),
    )


class Page:
    """A screen as a test sees it."""

    def __init__(self, tested):
        self.tested = tested

    @property
    def words(self) -> str:
        """All that stands in parts of reports, as HTML."""
        return "\n".join(str(each.proto.body) for each in self.tested.get("html"))

    @property
    def tables(self):
        """What the tables show, from top to bottom."""
        return [each.value for each in self.tested.dataframe]

    def widget(self, kind, key):
        """The widget of a kind with a key."""
        return next(each for each in self.tested.get(kind) if each.key == key)

    def run(self):
        self.tested.run()
        assert not self.tested.exception
        assert "could not be drawn" not in self.words
        return self


@pytest.fixture
def opened(monkeypatch):
    """Opens a screen of the page: `opened(workspace, "results", run=…)`."""
    from streamlit.testing.v1 import AppTest

    from microcalibrate.dashboard import shell

    def open_screen(workspace, url, *arguments, **parameters):
        words = ["app.py", "--workspace", str(workspace.folder), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        tested = AppTest.from_file(str(APP), default_timeout=SECONDS)
        tested.query_params.update(parameters)
        # A test has no address bar: the screen it wants is the one at the root.
        monkeypatch.setattr(shell, "START", url)
        return Page(tested).run()

    return open_screen


# --- Linked tables --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def three_tables(tmp_path_factory):
    """A workspace with the three tables, read and not linked yet."""
    from microcalibrate.jobs import Workspace

    made = Workspace(tmp_path_factory.mktemp("linked") / "workspace")
    for name, table in (("persons", members()), ("units", units()), ("homes", homes())):
        made.add_upload(f"{name}.csv", [table.to_csv(index=False).encode()])
    for dataset in made.datasets():
        finished(dataset.run)
    return made


@pytest.fixture
def tables(three_tables, tmp_path):
    """Name of each table to its data set, in a workspace of the test's own."""
    from microcalibrate.jobs import Workspace

    shutil.copytree(three_tables.folder, tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    return {each.name.partition(".")[0]: each for each in workspace.datasets()}


@pytest.fixture
def home_workspace(tables):
    """Where they are."""
    from microcalibrate.jobs import Workspace

    return Workspace(tables["homes"].folder.parent.parent)


@pytest.fixture
def linked(tables):
    """The households, with their benefit units and the persons in these."""
    from microcalibrate.dashboard import drafts, target_tables
    from microcalibrate.dashboard.drafts import LinkedTable, Roles

    home, unit, person = (tables[name] for name in ("homes", "units", "persons"))
    linked = (
        LinkedTable(unit.id, unit.name, "benefit_unit", "number"),
        LinkedTable(person.id, person.name, "person", "unit_of", "benefit_unit", "benefit_unit_id"),
    )
    drafts.write_roles(home, Roles("weight", "number", "household", linked))
    drafts.write_targets(home, target_tables.read_text(TARGETS_OF_HOMES))
    return home
