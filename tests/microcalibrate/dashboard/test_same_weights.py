"""Page, command line and programme give the same weights, and the files say what the page shows."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import zipfile
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")

from microcalibrate.dashboard import packing
from microcalibrate.dashboard.calibration_job import SUPPLIED, python_program
from microcalibrate.dashboard.drafts import read_roles
from microcalibrate.dashboard.option_schema import options_of
from microcalibrate.dashboard.outcomes import Outcome
from microcalibrate.dashboard.screens.downloads import files_to_download
from microcalibrate.result import CalibrationResult
from microcalibrate.targets import build_targets


def result_of(run):
    return CalibrationResult.load(run.result_folder)


def copied_command(opened, workspace, dataset, **fields):
    """What the Settings screen offers to copy as a command line, with some fields filled in."""
    page = opened(workspace, "settings", dataset=dataset.id)
    for name, value in fields.items():
        page.widget("text_input", f"calibrate_{name}").set_value(value)
    page.run()
    return shlex.split(page.tested.code[0].value.replace("\\\n", ""))


def test_the_copied_command_gives_the_same_bits(opened, workspace, dataset, reduced, tmp_path):
    (tmp_path / "targets.csv").write_bytes((reduced.folder / "targets.csv").read_bytes())
    program, *words = copied_command(opened, workspace, dataset, records="50")
    assert program == "microcalibrate"

    subprocess.run([sys.executable, "-m", "microcalibrate", *words], cwd=tmp_path, check=True)

    by_hand = CalibrationResult.load(tmp_path / "result")
    np.testing.assert_array_equal(by_hand.weights, result_of(reduced).weights)
    assert by_hand.record_ids.tolist() == list(range(1000, 1200))


@pytest.mark.parametrize(
    "values",
    [
        {"records": 50},
        {"tolerance": 0.02, "distance": "raking", "max_iter": 200},
        {"cluster": "state", "loss": "huber:0.1"},
    ],
)
def test_the_copied_programme_gives_the_same_bits(
    workspace, dataset, tmp_path, values, over, submit
):
    run = over(submit(workspace, dataset, values, "for the programme"))
    options = {key: each for key, each in options_of("calibrate").items() if key not in SUPPLIED}
    text = python_program(dataset, read_roles(dataset), options, values)
    (tmp_path / "targets.csv").write_bytes((run.folder / "targets.csv").read_bytes())

    subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)

    again = CalibrationResult.load(tmp_path / "result")
    np.testing.assert_array_equal(again.weights, result_of(run).weights)


@pytest.fixture
def files(reduced):
    outcome = Outcome(reduced.id, reduced.name, "calibration", reduced.result_folder, reduced)
    return {file.name: file for file in files_to_download(outcome)}


@pytest.mark.parametrize("name", ["weights.csv", "weights.parquet"])
def test_downloaded_weights_reproduce_the_estimates(files, reduced, dataset, name):
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    weights = read(io.BytesIO(files[name].content()))
    assert list(weights.columns) == ["id", "initial_weight", "weight"]
    data = pd.read_parquet(dataset.table).set_index("person_id").loc[weights.id].reset_index()
    targets = pd.read_csv(reduced.folder / "targets.csv")
    built = build_targets(data, targets, initial_weights=weights.initial_weight)

    estimates = built.matrix.T @ weights.weight.to_numpy()

    shown = result_of(reduced).targets
    np.testing.assert_allclose(estimates, shown.final, rtol=1e-9)
    assert (weights.weight > 0).sum() == 50
    assert len(weights) == 200


def test_the_archive_has_every_file_with_its_checksum(files):
    packed = zipfile.ZipFile(io.BytesIO(packing.archive(list(files.values()))))

    sums = packed.read(packing.MANIFEST).decode().splitlines()
    named = dict(reversed(line.split("  ", 1)) for line in sums)
    assert set(named) == set(files) == set(packed.namelist()) - {packing.MANIFEST}
    for name, checksum in named.items():
        assert sha256(packed.read(name)).hexdigest() == checksum
    expected = {
        "weights.csv",
        "weights.parquet",
        "log.csv",
        "targets.csv",
        "config.json",
        "report.html",
        "figures.html",
        "declared-targets.csv",
    }
    assert expected <= set(files)


def test_the_archive_of_the_same_files_is_the_same(files):
    some = [files["config.json"], files["targets.csv"]]

    assert packing.archive(some) == packing.archive(some)


def test_no_text_of_a_downloaded_table_is_a_formula():
    hostile = ["=cmd()|' /C calc'!A0", "+1", "-1+2", "@x", "\tx", "<img onerror=x>", "plain"]
    table = pd.DataFrame({"name": hostile, "value": -1.5})

    text = packing.table_bytes(table, "targets.csv").decode()

    cells = pd.read_csv(io.StringIO(text))
    assert not cells.name.str.startswith(("=", "+", "-", "@", "\t")).any()
    assert cells.value.eq(-1.5).all()


def test_the_figures_page_asks_no_network_for_anything(files):
    page = files["figures.html"].content().decode()

    assert "default-src 'none'" in page
    assert 'src="http' not in page
