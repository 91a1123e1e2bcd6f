"""A saved analysis comes back as it was, and what is damaged is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

from microcalibrate.errors import InvalidOption, UnreadableFile
from microcalibrate.target_analysis import TargetAnalysis, analyse_targets

from ..problems import conflicting, feasible

HOSTILE = "<img src=x onerror=alert(1)>"


def analysis(seed: int = 1) -> TargetAnalysis:
    data = conflicting(seed)
    names = ["=cmd()", HOSTILE, *[f"t{j}" for j in range(2, len(data.targets))]]
    return analyse_targets(
        data.weights,
        data.targets,
        data.matrix,
        target_names=names,
        max_weight_ratio=2.0,
        n_resolve=2,
    )


def test_load_gives_back_what_was_saved(tmp_path: Path) -> None:
    for found in (analysis(), analyse_targets([1.0, 1.0], [2.0], [[1.0], [1.0]])):
        back = TargetAnalysis.load(found.save(tmp_path / "saved"))

        for name in ("table", "identities", "identity_members", "conflicts"):
            assert_frame_equal(getattr(back, name), getattr(found, name), check_dtype=False)
        for name in ("conflict_matrix", "sensitivity"):
            assert_array_equal(getattr(back, name), getattr(found, name))
        for name in ("groups", "target_names", "objective", "mean_error", "forced_share", "gap"):
            assert getattr(back, name) == getattr(found, name)
        for name in ("loosening", "least_miss", "infeasible", "seconds"):
            assert getattr(back, name) == getattr(found, name)
        assert back.summary() == found.summary()


@pytest.mark.parametrize(
    "file",
    [
        "target_analysis.json",
        "target_analysis.parquet",
        "target_identities.parquet",
        "target_identity_members.parquet",
        "target_conflicts.parquet",
        "target_conflict_matrix.npz",
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_damaged_folder_is_refused(tmp_path: Path, file: str, damage: str) -> None:
    folder = analysis().save(tmp_path / "saved")
    if damage == "gone":
        (folder / file).unlink()
    elif damage == "cut":
        (folder / file).write_bytes((folder / file).read_bytes()[:60])
    else:
        (folder / file).write_bytes(b"[]")

    with pytest.raises(UnreadableFile):
        TargetAnalysis.load(folder)


def test_another_version_or_other_targets_are_refused(tmp_path: Path) -> None:
    folder = analysis().save(tmp_path / "saved")
    values = json.loads((folder / "target_analysis.json").read_text(encoding="utf-8"))

    other = json.dumps(values | {"format": "microcalibrate.targets/99"})
    (folder / "target_analysis.json").write_text(other, encoding="utf-8")
    with pytest.raises(UnreadableFile, match=r"targets/99.*run the analysis again"):
        TargetAnalysis.load(folder)

    values.pop("objective")
    (folder / "target_analysis.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(UnreadableFile, match="objective"):
        TargetAnalysis.load(folder)

    folder = analysis().save(folder)
    with np.load(folder / "target_conflict_matrix.npz") as stored:
        arrays = dict(stored)
    arrays["names"] = arrays["names"][:-1]
    np.savez_compressed(folder / "target_conflict_matrix.npz", **arrays)
    with pytest.raises(UnreadableFile, match="shape"):
        TargetAnalysis.load(folder)


def test_report_is_one_page(tmp_path: Path) -> None:
    page = analysis().report(tmp_path / "targets.html")

    text = page.read_text(encoding="utf-8")
    assert "&lt;img" in text
    assert HOSTILE not in text


def test_ranking_figure_has_what_dropping_gives() -> None:
    found = analysis()

    figure = found.plot_ranking(4)

    shown = {
        height: (kind.name, share)
        for kind in figure.data
        for height, share in zip(kind.y, kind.x, strict=True)
    }
    assert len(shown) == len(figure.layout.yaxis.ticktext) == 4
    table = found.table[found.table.kind != "fine"]
    exact = table.exact_drop_objective.fillna(table.drop_objective) / found.objective
    expected = sorted(zip(exact, table.kind, strict=True), key=lambda pair: -pair[0])[:4]
    assert [shown[height] for height in (4, 3, 2, 1)] == [(kind, gain) for gain, kind in expected]
    everything = found.plot_ranking(60).to_json().replace("\\u003c", "<").replace("\\u003e", ">")
    assert "<img" not in everything
    wrong: Any
    for wrong in (0, 61, 2.5, True):
        with pytest.raises(InvalidOption, match="n_targets"):
            found.plot_ranking(wrong)


def test_ranking_figure_of_targets_without_trouble_shows_them() -> None:
    data = feasible(3, n_records=300)
    targets = data.matrix.T @ data.weights
    found = analyse_targets(data.weights, targets, data.matrix)

    assert set(found.table.kind) == {"fine"}
    assert sum(len(trace.y) for trace in found.plot_ranking().data) == len(data.targets)
