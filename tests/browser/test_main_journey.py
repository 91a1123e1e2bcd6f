"""From a file to its weights, by mouse and by keyboard alone."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd

from microcalibrate.targets import build_targets


def test_from_upload_to_download(page, people, targets_text, tmp_path):
    """What is downloaded adds up to what is shown, and the copied command gives the same bits."""
    survey = tmp_path / "persons.csv"
    people.to_csv(survey, index=False)

    page.open("data")
    page.upload("upload_", survey)
    page.until(lambda: "dataset" in page.query, "the data set")
    page.shows("Column with the design weights")
    assert page.value("choose_dataset") == "persons.csv"
    assert page.value("weight_") == "weight"
    assert page.value("id_") == "person_id"
    page.follow("Go on to the targets")
    page.fill("paste_", targets_text)
    page.click("add_pasted")
    page.shows("3 targets of 3 in use")
    page.follow("Go on to the settings")
    page.fill("calibrate_records", "100")
    page.tab("Copy as command line")
    copied = page.find("copy_as", "code").get_attribute("textContent")
    page.click("start_calibration")
    page.shows("See what it found")
    page.follow("See what it found")
    page.tab("Targets")
    shown = pd.DataFrame(page.table("Targets")).set_index("target")
    page.follow("Download its files")
    written = pd.read_csv(page.download("download_targets-csv", "targets.csv"))
    weights = pd.read_csv(page.download("download_weights-csv", "weights.csv"))
    (tmp_path / "targets.csv").write_bytes(
        page.download("download_declared-targets-csv", "declared-targets.csv").read_bytes()
    )

    targets = pd.read_csv(tmp_path / "targets.csv")
    built = build_targets(people, targets, initial_weights=weights.initial_weight)
    estimates = built.matrix.T @ weights.weight.to_numpy()
    assert list(weights.id) == list(people.person_id)
    assert (weights.weight > 0).sum() == 100
    np.testing.assert_allclose(written.final, estimates, rtol=1e-9)
    # The table rounds totals to the digits that count, and has the errors in full.
    shown = shown.loc[targets.name, ["wanted", "after", "error after"]].map(number)
    np.testing.assert_allclose(shown.wanted * (1 + shown["error after"]), estimates, rtol=1e-9)
    np.testing.assert_allclose(shown.after, estimates, rtol=1e-5)

    program, *words = shlex.split(re.sub(r"\\\s+", " ", copied))
    assert program == "microcalibrate"
    subprocess.run([sys.executable, "-m", "microcalibrate", *words], cwd=tmp_path, check=True)
    by_hand = pd.read_csv(tmp_path / "result" / "weights.csv")
    kept = weights[weights.weight > 0].reset_index(drop=True)
    assert kept.weight.equals(by_hand.weight[by_hand.weight > 0].reset_index(drop=True))


def number(cell: str) -> float:
    return float(cell.replace(",", ""))
