"""Two logs side by side: every number is the one that pandas computes from the two files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from microcalibrate import Calibration
from microcalibrate.cli import app
from microcalibrate.errors import NotALog
from microcalibrate.logs import changes_within, compare_logs, read_log, write_log

from ..published import validate


def written(path: Path, seed: int, first: int, last: int, noise: float) -> pd.DataFrame:
    """A log of targets `first` to `last`, some negative or 0; its last epoch is returned."""
    rng = np.random.default_rng(0)
    targets = rng.lognormal(5, 2, 200) * rng.choice([-1, 1], 200)
    targets[::25] = 0.0
    rng = np.random.default_rng(seed)
    estimates = targets * rng.normal(1, noise, (3, 200)) + (targets == 0) * rng.normal(
        size=(3, 200)
    )
    chosen = slice(first, last)
    names = [f"us/{j % 7}/target {j}, all" for j in range(200)][chosen]
    write_log(
        path,
        epochs=[0, 1, 5],
        losses=[3.0, 2.0, 1.0],
        target_names=names,
        targets=targets[chosen],
        estimates=estimates[:, chosen],
        facts={"config": {"seed": seed, "kappa": 1.0}, "excluded": names[:2]},
    )
    table = pd.read_csv(path)
    return table[table.epoch == 5].set_index("target_name")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    one = written(tmp_path / "one.csv", 1, 0, 160, 0.3)
    other = written(tmp_path / "other.csv", 2, 1, 200, 0.2)
    return compare_logs(tmp_path / "one.csv", tmp_path / "other.csv"), one, other


def test_which_targets_they_share(two: Any) -> None:
    found, one, other = two

    targets = found.targets.set_index("name")
    assert targets.index.tolist() == [*one.index, *other.index.difference(one.index, sort=False)]
    common = one.index.intersection(other.index)
    assert set(found.common.name) == set(common)
    assert found.counts["first only"] == len(one.index.difference(other.index)) == 1
    assert found.counts["second only"] == len(other.index.difference(one.index)) == 40
    assert_array_equal(targets.loc[one.index, "first_estimate"], one.estimate)
    assert_array_equal(targets.loc[other.index, "second_estimate"], other.estimate)
    assert targets.loc[other.index.difference(one.index), "first_estimate"].isna().all()
    # Both leave out their first two targets, which overlap in one.
    assert found.excluded == {"both": 1, "first only": 1, "second only": 1}


def test_which_targets_improved_and_worsened(two: Any) -> None:
    found, one, other = two

    both = one.merge(other, left_index=True, right_index=True, suffixes=("", "_other"))
    size, size_other = both.rel_abs_error, both.rel_abs_error_other
    zero = both.target == 0
    assert zero.sum() == 6
    size = size.where(~zero, both.abs_error)
    size_other = size_other.where(~zero, both.abs_error_other)
    change = found.targets.set_index("name").change.loc[both.index]
    assert ((change == "improved") == (size_other < size)).all()
    assert ((change == "worsened") == (size_other > size)).all()
    assert found.counts["improved"] == (size_other < size).sum() > 0
    assert found.counts["worsened"] == (size_other > size).sum() > 0


def test_the_scatter_of_errors(two: Any) -> None:
    found, one, other = two

    both = one.merge(other, left_index=True, right_index=True, suffixes=("", "_other"))
    both = both[both.target != 0]
    x, y = (both[f"error{side}"] / both.target.abs() for side in ("", "_other"))
    targets = found.targets.set_index("name").loc[both.index]
    assert_allclose(targets.first_error, x, rtol=1e-12)
    assert_allclose(targets.second_error, y, rtol=1e-12)
    assert_allclose(found.correlation, x.corr(y), rtol=1e-12)
    assert_allclose(found.slope, x.cov(y) / x.var(), rtol=1e-12)


def test_the_largest_changes_come_first(two: Any) -> None:
    found, _, _ = two

    worst = found.ranked("worsened")

    moved = (worst.second_error.abs() - worst.first_error.abs()).to_numpy()
    known = moved[~np.isnan(moved)]
    assert (np.diff(known) <= 0).all()
    assert not np.isnan(moved[: len(known)]).any()
    assert (worst.first_target[len(known) :] == 0).all()


def test_settings_that_differ(two: Any) -> None:
    assert two[0].settings.values.tolist() == [["seed", "1", "2"]]
    assert two[0].weights is None
    assert two[0].names == ("one.csv", "other.csv")


def test_a_log_compared_with_itself_is_alike(tmp_path: Path) -> None:
    written(tmp_path / "one.csv", 1, 0, 160, 0.3)
    log = read_log(tmp_path / "one.csv")

    found = compare_logs(log, tmp_path / "one.csv")

    assert found.counts == dict.fromkeys(found.counts, 0) | {"alike": 160}
    assert_allclose([found.correlation, found.slope], 1.0)
    assert found.settings.empty
    assert found.names[0] != found.names[1]


def test_changes_within_a_log_are_those_of_its_ends(tmp_path: Path) -> None:
    written(tmp_path / "one.csv", 1, 0, 160, 0.3)
    table = pd.read_csv(tmp_path / "one.csv")

    found = changes_within(read_log(tmp_path / "one.csv")).set_index("name")

    first, last = (table[table.epoch == epoch].set_index("target_name") for epoch in (0, 5))
    size, size_last = (
        part.rel_abs_error.where(part.target != 0, part.abs_error) for part in (first, last)
    )
    assert ((found.change == "improved") == (size_last < size)).all()
    assert ((found.change == "worsened") == (size_last > size)).all()
    assert {"improved", "worsened"} == set(found.change)
    assert_allclose(found.first_error.abs(), first.rel_abs_error)
    assert_allclose(found.last_error.abs(), last.rel_abs_error)


def test_infinite_and_unknown_errors_have_a_word(tmp_path: Path) -> None:
    head = "epoch,loss,target_name,target,estimate\n"
    rows = [
        ("a", "inf", "inf"),
        ("b", "inf", "3"),
        ("c", "2", "-inf"),
        ("d", "", "2"),
        ("e", 2, ""),
    ]
    zero = [("f", "1", "-inf"), ("g", "inf", "0"), ("h", "-2", "2"), ("i", "0", "1e-9")]
    for place, name in ((1, "one.csv"), (2, "other.csv")):
        text = head + "".join(f"0,1,{row[0]},2,{row[place]}\n" for row in rows)
        text += "".join(f"0,1,{row[0]},0,{row[place]}\n" for row in zero)
        (tmp_path / name).write_text(text)

    found = compare_logs(tmp_path / "one.csv", tmp_path / "other.csv")

    change = ["alike", "improved", "worsened", "unknown", "unknown"]
    change += ["worsened", "improved", "alike", "worsened"]
    assert found.targets.change.tolist() == change
    assert np.isnan([found.correlation, found.slope]).all()
    assert "The settings of one.csv and other.csv are not known" in found.notes[-1]
    assert found.notes[0].startswith("one.csv: 1 rows have no target")


def test_a_target_with_another_value_is_said(tmp_path: Path) -> None:
    same: dict[str, Any] = {"epochs": [0], "losses": [1.0], "target_names": ["a"], "facts": {}}
    for name, target in (("one", 10.0), ("other", 20.0)):
        write_log(
            tmp_path / f"{name}.csv",
            targets=np.array([target]),
            estimates=np.array([[15.0]]),
            **same,
        )

    found = compare_logs(tmp_path / "one.csv", tmp_path / "other.csv", names=("old", "new"))

    assert found.targets[["first_error", "second_error"]].values.tolist() == [[0.5, -0.25]]
    assert found.counts["improved"] == 1
    assert found.notes[0].startswith("1 targets have another value in new")


def run(folder: Path, **options: Any) -> Path:
    rng = np.random.default_rng(1)
    matrix, weights = rng.gamma(2.0, size=(200, 3)), rng.uniform(50, 150, size=200)
    targets = matrix.T @ weights * np.array([1.1, 0.9, 1.2])
    keep = options.pop("keep", slice(None))
    ids = options.pop("record_ids", np.array([f"r{i}" for i in range(200)]))
    calibration = Calibration(
        weights[keep], targets, matrix[keep], target_names=["a", "b", "c"], record_ids=ids[keep],
        **options,
    )  # fmt: skip
    calibration.calibrate(progress=False)
    return calibration.result.save(folder)


def test_weights_of_the_same_records_stand_side_by_side(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one"), run(tmp_path / "other", target_records=50)
    order = np.random.default_rng(0).permutation(200)
    mixed = run(tmp_path / "mixed", target_records=50, keep=order)

    for second in (other, mixed):
        found = compare_logs(one, second)

        expected = pd.read_parquet(one / "weights.parquet").set_index("id")
        there = pd.read_parquet(second / "weights.parquet").set_index("id")
        table = found.weights.set_index("id")
        assert_array_equal(table["first"], expected.weight)
        assert_array_equal(table["second"], there.weight.loc[expected.index])
        assert_array_equal(table.design_weight, expected.design_weight)
        assert found.settings.setting.tolist() == ["target_records", "kappa", "selection"]
        assert found.notes == ()


def test_weights_of_other_records_are_not_compared(tmp_path: Path) -> None:
    one, fewer = run(tmp_path / "one"), run(tmp_path / "fewer", keep=slice(1, None))
    alike = run(tmp_path / "alike", record_ids=np.array(["x"] * 200), keep=slice(1, None))

    for second in (fewer, alike):
        found = compare_logs(one, second)
        assert found.weights is None
        assert "different records" in found.notes[-1]


def test_a_run_is_compared_with_a_log(tmp_path: Path) -> None:
    one = run(tmp_path / "one")
    final = read_log(one).final
    table = pd.DataFrame(
        {"target": final.name, "true_value": final.target, "estimate": final.estimate * 1.5}
    )
    table.to_csv(tmp_path / "other.csv", index=False)

    found = compare_logs(one, tmp_path / "other.csv")

    assert found.names == ("one", "other.csv")
    assert found.counts["worsened"] == 3
    assert found.weights is None
    with pytest.raises(NotALog, match="Give the folder of a saved"):
        compare_logs(one, tmp_path)


# --- The command line -----------------------------------------------------------------------------


def told(*words: str) -> Any:
    return CliRunner().invoke(app, ["compare", *words])


def test_logs_are_compared_on_the_command_line(tmp_path: Path, two: Any) -> None:
    found, _, _ = two
    paths = [str(tmp_path / name) for name in ("one.csv", "other.csv", "both")]

    done = told(*paths[:2], "--out", paths[2])

    assert done.exit_code == 0, done.output
    counts = found.counts
    assert f"{counts['improved']} targets are closer in other.csv" in done.stdout
    assert f"correlation of {found.correlation:.2f}" in done.stdout
    assert "seed: 1 → 2" in done.stdout
    assert "n/a (target 0)" in told(*paths[:2], "--most", "200").stdout
    values = validate("comparison", tmp_path / "both" / "comparison.json")
    assert values["kind"] == "log"
    assert values["errors"] == {"correlation": found.correlation, "slope": found.slope}
    assert values["excluded"] == found.excluded
    assert values["targets"] == {change: n for change, n in counts.items() if n}
    table = pd.read_csv(tmp_path / "both" / "targets.csv").set_index("name")
    expected = found.targets.set_index("name").change
    assert table.change.to_dict() == expected.to_dict()
    assert not (tmp_path / "both" / "weights.csv").exists()
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "Both runs by epoch" in page
    assert "Of the signed errors: correlation" in page


def test_a_run_and_a_log_or_two_runs_are_compared_on_the_command_line(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two", max_weight_ratio=1.05)
    log = str(tmp_path / "two" / "log.csv")
    one, two_ = str(tmp_path / "one"), str(tmp_path / "two")

    mixed, runs = told(one, log), told(one, two_, "--out", str(tmp_path / "both"))

    assert mixed.exit_code == runs.exit_code == 0, mixed.output
    assert "3 are farther" in mixed.stdout
    assert "max_weight_ratio: None → 1.05" in mixed.stdout
    assert "records have weight in both" not in mixed.stdout
    assert "3 are farther" in runs.stdout
    assert "records have weight in both" in runs.stdout
    assert "Both runs by epoch" in (tmp_path / "both" / "report.html").read_text(encoding="utf-8")


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,weight\n1,2\n")
    written(tmp_path / "one.csv", 1, 0, 160, 0.3)

    done = told(str(tmp_path / "one.csv"), str(tmp_path / "people.csv"))

    assert done.exit_code == 1
    assert "is no log" in done.stderr


ODD = {
    "zeros.csv": "target,true_value,estimate\na,0,3\nb,0,0\n",
    "infinite.csv": "epoch,loss,target_name,target,estimate\n"
    "0,inf,a,2,inf\n0,inf,b,,2\n1,inf,a,2,-inf\n1,inf,b,3,\n",
    "slash.csv": "epoch,loss,target_name,target,estimate\n5,0,/,2,2\n",
    "negative.csv": "epoch,loss,target_name,target,estimate\n-1,-2,x,-5,5\n0,-3,x,-5,-4\n",
}


@pytest.mark.parametrize(
    ("one", "other"), [*itertools.pairwise(ODD), ("infinite.csv", "infinite.csv")]
)
def test_odd_logs_are_compared_and_drawn_too(tmp_path: Path, one: str, other: str) -> None:
    for name, text in ODD.items():
        (tmp_path / name).write_text(text)

    done = told(*(str(tmp_path / name) for name in (one, other)),
                "--out", str(tmp_path / "both"))  # fmt: skip

    assert done.exit_code == 0, done.output
    assert "nan" not in done.stdout.lower()
