"""Means, ratios, shares and quantiles come out in the unit that they were declared in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import Calibration
from microcalibrate.errors import InvalidOption
from microcalibrate.io import read_table, write_table
from microcalibrate.result import CalibrationResult
from microcalibrate.result_tables import as_declared

DECLARED = ["declared", "declared_initial", "declared_final"]
WANTED = [
    {"name": "people", "aggregate": "count", "filter": "age > 0", "value": 34_000},
    {"name": "mean", "aggregate": "mean", "variable": "income", "value": 38_000},
    {
        "name": "mean of women",
        "aggregate": "mean",
        "variable": "income",
        "filter": "sex == 'f'",
        "value": 36_000,
    },
    {
        "name": "ratio",
        "aggregate": "ratio",
        "variable": "tax",
        "denominator": "income",
        "value": 0.15,
    },
    {"name": "share", "aggregate": "share", "filter": "age > 64", "value": 0.3},
    {
        "name": "share of income",
        "aggregate": "share",
        "variable": "income",
        "filter": "age > 64",
        "within": "sex == 'f'",
        "value": 0.2,
    },
    {
        "name": "gap",
        "aggregate": "mean",
        "variable": "income",
        "filter": "sex == 'm'",
        "minus": "sex == 'f'",
        "value": 2_000,
    },
]


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Three hundred persons."""
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "weight": rng.uniform(50, 150, 300),
            "age": rng.integers(10, 90, 300),
            "sex": rng.choice(["m", "f"], 300),
            "income": rng.lognormal(10, 1, 300),
            "tax": rng.lognormal(8, 1, 300),
        }
    )


def by_hand(people: pd.DataFrame, weights: np.ndarray) -> dict[str, float]:
    """The same from their definitions."""
    of = {sex: (people.sex == sex).to_numpy() for sex in "mf"}
    mean = {sex: np.average(people.income[of[sex]], weights=weights[of[sex]]) for sex in "mf"}
    old = (people.age > 64).to_numpy()
    income = people.income.to_numpy()
    return {
        "mean": np.average(income, weights=weights),
        "mean of women": mean["f"],
        "ratio": weights @ people.tax / (weights @ income),
        "share": weights[old].sum() / weights.sum(),
        "share of income": weights[old & of["f"]]
        @ income[old & of["f"]]
        / (weights[of["f"]] @ income[of["f"]]),
        "gap": mean["m"] - mean["f"],
    }


def test_quotients_are_what_the_weights_say(people):
    calibration = Calibration.from_table(people, WANTED)
    weights = calibration.calibrate()
    targets = calibration.result.targets.set_index("name")

    assert np.abs(targets.error).max() > 1e-4, "some must be missed, or this shows nothing"
    for column, used in (("declared_initial", people.weight.to_numpy()), (DECLARED[2], weights)):
        expected = by_hand(people, used)
        assert_allclose(targets.loc[list(expected), column], list(expected.values()), rtol=1e-12)
    values = {row["name"]: row["value"] for row in WANTED}
    assert_array_equal(targets.declared.drop("people"), [values[n] for n in targets.index[1:]])
    assert targets.loc["people", DECLARED].isna().all()


def test_the_history_begins_and_ends_with_what_the_weights_say(people):
    calibration = Calibration.from_table(people, WANTED, target_records=120)
    weights = calibration.calibrate()
    history = calibration.result.target_history

    first, last = by_hand(people, people.weight.to_numpy()), by_hand(people, weights)
    assert_allclose(history[list(first)].iloc[0], list(first.values()), rtol=1e-9)
    assert_allclose(history[list(last)].iloc[-1], list(last.values()), rtol=1e-12)
    log = calibration.result.log().final.set_index("name")
    assert log.target["mean"] == 38_000
    assert_allclose(log.rel_abs_error["mean"], abs(last["mean"] / 38_000 - 1), rtol=1e-9)


def test_quotients_of_members_are_in_their_own_unit(people):
    """A household's persons have its weight; order and entities of the targets do not matter."""
    rng = np.random.default_rng(1)
    homes = pd.DataFrame({"household_id": np.arange(90), "weight": rng.uniform(50, 150, 90)})
    homes["rooms"] = rng.integers(1, 7, 90)
    members = people.drop(columns="weight").assign(household_id=rng.integers(0, 90, 300))
    wanted = [row | {"entity": "person"} for row in WANTED]
    rooms = {"name": "rooms", "aggregate": "mean", "variable": "rooms", "value": 4.5}
    calibration = Calibration.from_tables(
        {"household": homes, "person": members}, [wanted[1], rooms, *wanted[2:], wanted[0]]
    )
    weights = calibration.calibrate()
    targets = calibration.result.targets.set_index("name")

    expected = by_hand(members, weights[members.household_id])
    assert_allclose(targets.declared_final[list(expected)], list(expected.values()), rtol=1e-12)
    assert_allclose(targets.declared_final["rooms"], np.average(homes.rooms, weights=weights))


def test_a_quantile_shows_the_share_up_to_its_value(people):
    """Between two values of the data the distribution function rises in a straight line."""
    median = {"name": "median", "aggregate": "quantile", "quantile": 0.5, "variable": "income"}
    calibration = Calibration.from_table(people, [median | {"value": 21_000, "tolerance": 0}])
    weights = calibration.calibrate()
    (row,) = calibration.result.targets.to_dict("records")

    assert row["declared"] == 0.5
    assert_allclose(row["declared_final"], 0.5, rtol=1e-9)
    income = people.income.sort_values()
    share = np.cumsum(weights[income.index]) / weights.sum()
    assert_allclose(np.interp(21_000, income, share), 0.5, rtol=1e-9)


def test_a_mean_of_records_without_weight_is_not_a_number(people, tmp_path):
    mean = {"name": "mean", "aggregate": "mean", "variable": "income", "filter": "age > 80"}
    calibration = Calibration.from_table(
        people.assign(weight=people.weight.where(people.age <= 80, 0.0)),
        [WANTED[0], mean | {"value": 30_000}],
    )
    calibration.calibrate()

    result = calibration.result
    assert np.isnan(result.targets.declared_final[1])
    loaded = CalibrationResult.load(result.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(loaded.target_history, result.target_history)
    assert result.report(tmp_path / "report.html").exists()


def test_a_saved_run_keeps_them(people, tmp_path):
    calibration = Calibration.from_table(people, WANTED)
    calibration.calibrate()
    folder = calibration.result.save(tmp_path / "run")

    loaded = CalibrationResult.load(folder)
    pd.testing.assert_frame_equal(loaded.targets, calibration.result.targets)
    pd.testing.assert_frame_equal(loaded.target_history, calibration.result.target_history)

    table = read_table(folder / "targets.parquet")
    write_table(table.drop(columns=DECLARED), folder / "targets.parquet")
    former = CalibrationResult.load(folder).targets
    assert former[DECLARED].isna().all(axis=None)
    assert_array_equal(as_declared(former).final, former.final)


def test_tables_for_people_have_them_in_place_of_totals(people):
    calibration = Calibration.from_table(people, WANTED)
    calibration.calibrate()
    table = calibration.result.targets
    shown = as_declared(table)

    assert_array_equal(shown.target, [row["value"] for row in WANTED])
    assert_array_equal(shown.final[1:], table.declared_final[1:])
    assert shown.final[0] == table.final[0]
    assert_array_equal(shown.error, table.error)


@pytest.mark.parametrize(("what", "kept"), [("records", 299), ("targets", 2)])
def test_quotients_of_another_problem_are_refused(people, what, kept):
    from microcalibrate.targets import build_targets

    built = build_targets(people, WANTED[:6], initial_weights=people.weight)
    records, targets = (kept, 6) if what == "records" else (300, kept)
    with pytest.raises(InvalidOption, match=f"there are {records} records and {targets} targets"):
        Calibration(
            people.weight[:records],
            built.values[:targets],
            built.matrix[:records, :targets],
            scales=built.scales[:targets],
            quotients=built.quotients,
        )


def test_an_evaluation_names_targets_as_they_were_declared(people):
    from microcalibrate import evaluate_robustness
    from microcalibrate.targets import build_targets

    built = build_targets(people, WANTED[:6], initial_weights=people.weight)
    found = evaluate_robustness(
        weights=people.weight,
        targets=built.values,
        estimate_matrix=built.matrix,
        target_names=built.names,
        scales=built.scales,
        quotients=built.quotients,
        n_folds=2,
    )

    assert_array_equal(found.targets.target, [row["value"] for row in WANTED[:6]])
