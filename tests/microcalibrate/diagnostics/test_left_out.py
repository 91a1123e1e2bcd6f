"""Units left out one by one, with the weights of the others fitted again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate.diagnostics import Diagnosis, diagnose
from microcalibrate.errors import InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.regularise import Survey
from microcalibrate.regularise.recalibration import recalibrate
from microcalibrate.regularise.target_rows import DeclaredRows

from ..offenders import declared_targets, survey_with_offenders

SURFACE = {
    "metrics": [
        {"name": "homes", "value": "1"},
        {"name": "mean income", "value": "income", "kind": "mean"},
    ],
    "slices": ["region", "tenure"],
}
N = 4


@pytest.fixture(scope="module")
def survey() -> Survey:
    return survey_with_offenders(80, 3, 40.0, 2)


@pytest.fixture(scope="module", params=[np.nan, 0.1], ids=["soft", "banded"])
def targets(survey: Survey, request: pytest.FixtureRequest) -> pd.DataFrame:
    return declared_targets(survey, noise=0.02).assign(tolerance=request.param)


@pytest.fixture(scope="module")
def found(survey: Survey, targets: pd.DataFrame) -> Diagnosis:
    return diagnose(
        survey, surface=SURFACE, flag_dominating=True, targets=targets, n_left_out=N,
        progress=False,
    )  # fmt: skip


def test_each_change_is_that_of_a_survey_without_the_unit(
    survey: Survey, targets: pd.DataFrame, found: Diagnosis
) -> None:
    """By brute force: drop the unit, fit the weights from nothing, compute the statistic."""
    weights = survey.weights.to_numpy()
    matrix, goals = DeclaredRows(targets).build(survey, weights)

    def fitted(prior: np.ndarray) -> np.ndarray:
        return recalibrate(
            prior, goals.values, matrix, tolerances=goals.tolerances, scales=goals.scales
        ).weights

    whole = fitted(weights)
    homes = survey.tables["household"]
    rows = found.influence[found.influence["leave_one_out_recalibrated"].notna()]
    assert set(rows["id"]) == set(found.records.nlargest(N, "share")["id"])
    for unit, of_unit in rows.groupby("id"):
        without = fitted(np.where(homes["household_id"] == unit, 0.0, weights))
        for row in of_unit.to_dict("records"):
            part, cell = str(row["slice"]), str(row["cell"])
            here = np.ones(len(homes), dtype=bool) if part == "all" else homes[part] == cell

            def statistic(w: np.ndarray, row=row, here=here) -> float:
                if row["metric"] == "homes":
                    return float(w[here].sum())
                return float((w * homes["income"])[here].sum() / w[here].sum())

            change = statistic(without) - statistic(whole)
            size = abs(statistic(whole))
            assert_allclose(row["leave_one_out_recalibrated"] / size, change / size, atol=2e-4)


def test_others_take_over_what_is_a_target(found: Diagnosis) -> None:
    """Homes by region are targets: far less changes than with the weights of the others fixed."""
    rows = found.influence
    rows = rows[rows["leave_one_out_recalibrated"].notna() & (rows["metric"] == "homes")]
    rows = rows[(rows["slice"] == "region").to_numpy()]
    fixed, again = (
        rows[name].abs().sum() for name in ("leave_one_out", "leave_one_out_recalibrated")
    )

    assert len(rows)
    assert again < 0.5 * fixed


def test_it_is_saved_and_told(found: Diagnosis, tmp_path: Path) -> None:
    loaded = Diagnosis.load(found.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(loaded.left_out, found.left_out)
    assert found.left_out["id"].is_unique
    assert len(found.left_out) == N
    assert f"weights fitted again: {N} records" in found.summary()
    page = found.report(tmp_path / "page.html").read_text()
    assert "Left out, and fitted again" in page


def test_without_targets_nothing_is_solved_and_nothing_is_told(survey: Survey) -> None:
    found = diagnose(survey, surface=SURFACE, progress=False)
    assert found.influence["leave_one_out_recalibrated"].isna().all()
    assert found.left_out.empty
    assert "fitted again" not in found.summary()


def test_units_without_which_the_targets_cannot_hold_are_counted(survey: Survey) -> None:
    """An exact total of what one unit alone has."""
    weights = survey.weights.to_numpy()
    alone = np.zeros((len(weights), 1))
    heaviest = int(np.argmax(weights))
    alone[heaviest] = 1.0
    problem = Problem.build(weights, [weights[heaviest]], alone, tolerances=0.0)
    found = diagnose(
        survey, surface=SURFACE, flag_dominating=True, targets=problem, n_left_out=2,
        progress=False,
    )  # fmt: skip
    figures = found.summary_figures

    assert (figures["n_recalibrated"], figures["n_not_recalibrated"]) == (1, 1)
    assert "Without 1 more the targets cannot hold." in found.summary()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_left_out": 0}, "n_left_out"),
        ({"targets": 3}, "targets is a int"),
        ({"targets": Problem.build([1.0], [1.0], [[1.0]])}, "problem of 1 records"),
    ],
)
def test_what_cannot_be_used_is_refused(survey: Survey, options: dict, named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        diagnose(survey, surface=SURFACE, progress=False, **options)
