"""Pages of diagnoses, models and regularisations: their numbers, whole, and no network."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microcalibrate.diagnostics import diagnose
from microcalibrate.figures.plotting import amount, percent, readable
from microcalibrate.regularise import Survey
from microcalibrate.regularise.loop import regularise
from microcalibrate.regularise.result import RegulariseResult
from microcalibrate.regularise.trained import TrainedModel, train_model
from microcalibrate.reports import diagnosis as diagnosis_page
from microcalibrate.reports import quality as quality_page
from microcalibrate.reports import regularise as regularise_page
from microcalibrate.reports.saved import kind_of, write_saved_report

from ..households import FLAT, make_survey
from ..pages import HOSTILE, Reader, assert_no_tags, assert_self_contained

HEAVY = 25
SURFACE = {
    "metrics": [
        {"name": HOSTILE, "value": "1"},
        "wages",
        {"name": "mean age", "value": "age", "kind": "mean"},
    ],
    "slices": ["role"],
}


@pytest.fixture(scope="module")
def survey() -> Survey:
    made = make_survey([1, 2, 3, 2] * 60, 4, schema=FLAT)
    persons = made.tables["person"]
    weights = np.full(len(persons), 100.0)
    weights[HEAVY] = 6_000.0
    return Survey({"person": persons.assign(weight=weights)}, FLAT)


@pytest.fixture(scope="module")
def model(survey: Survey) -> TrainedModel:
    return train_model(survey, "hotdeck", seed=2)


@pytest.fixture(scope="module")
def result(survey: Survey, model: TrainedModel) -> RegulariseResult:
    weights, persons = survey.weights.to_numpy(), survey.tables["person"]
    rows = [
        ("everybody", weights.sum() * 0.98, None, "age >= 0", None),
        (f"wages {HOSTILE}", (weights * persons.wages).sum() * 0.95, "wages", None, None),
        ("elderly", weights[persons.age >= 65].sum() * 1.05, None, "age >= 65", None),
        ("mean age", np.average(persons.age, weights=weights) * 0.99, "age", None, "mean"),
    ]
    columns = ["name", "value", "variable", "filter", "aggregate"]
    targets = pd.DataFrame(rows, columns=columns)
    return regularise(
        survey,
        model,
        targets,
        surface=SURFACE,
        max_rounds=3,
        batch=3,
        allow_poor_model=True,
        progress=False,
    )


# --- Regularisation -------------------------------------------------------------------------------


def test_nothing_is_loaded_and_no_text_is_a_tag(result: RegulariseResult) -> None:
    page = regularise_page.render(result)

    assert_self_contained(page)
    assert "\u202e" not in page
    reader = Reader(page)
    assert any(HOSTILE[:-1] in cell for row in reader.rows for cell in row)
    for figure in reader.figures().values():
        assert_no_tags(figure)


def test_before_and_after_stand_by_record_and_by_origin(result: RegulariseResult) -> None:
    rows = {row[0]: row[1:] for row in Reader(regularise_page.render(result)).table("")}

    then, now = result.before.summary_figures, result.after.summary_figures
    assert rows["Largest share of a statistic"] == [
        percent(figures[key])
        for key in ("largest_share", "largest_lineage_share")
        for figures in (then, now)
    ]
    assert rows["Number"][0] == f"{len(result.before.records):,}"
    assert rows["Number"][1] == f"{len(result.survey.unit_ids):,}"


def test_generated_records_are_said_to_be_no_respondents(result: RegulariseResult) -> None:
    head = regularise_page.render(result).split('<ul class="tiles">')[0]

    assert result.changed
    words = f"{len(result.lineage):,} of the {len(result.units):,} person records are generated"
    assert words in head
    assert "nobody was interviewed for them" in head


def test_a_mean_is_told_in_its_own_unit(result: RegulariseResult, survey: Survey) -> None:
    row = result.targets.set_index("name").loc["mean age"]
    then, now = survey.tables["person"], result.survey.tables["person"]

    assert result.changed
    assert row["target"] == 0
    np.testing.assert_allclose(
        row[["declared_before", "declared_after"]].to_numpy(dtype=float),
        [np.average(table.age, weights=table.weight) for table in (then, now)],
        rtol=1e-9,
    )
    told = next(
        row
        for row in Reader(regularise_page.render(result)).table("Target")
        if row[0] == "mean age"
    )
    assert told[1:4] == [amount(row[f"declared{when}"]) for when in ("", "_before", "_after")]
    assert result.targets.set_index("name").declared.drop("mean age").isna().all()


def test_every_round_and_offender_is_told(result: RegulariseResult) -> None:
    reader = Reader(regularise_page.render(result))

    # The next table has as many columns, and the reader does not tell them apart.
    rounds = reader.table("Round")[: len(result.history)]
    assert rounds[0][0] == "Round 0"
    assert rounds[0][1].startswith("recalibration alone")
    for row, told in zip(result.rounds.to_dict("records"), rounds[1:], strict=True):
        outcome = "✓ kept" if row["accepted"] else f"✗ undone: {row['reason']}"
        assert told[1] == outcome
    before, after = result.n_flagged
    assert regularise_page.headline(result).startswith(f"{before} flagged record")
    assert regularise_page.headline(result).endswith(f" before, {after} after")
    spread = {row[0] for row in reader.table("Record")} - {"Record"}
    assert spread <= set(result.offenders.id.astype(str)) | set(result.after.flagged.id.astype(str))
    assert [row[0] for row in reader.table("Target")] == [
        readable(name)
        for name in result.targets.loc[
            result.targets.after_error.abs().sort_values(ascending=False, kind="stable").index
        ].name
    ]


def test_rounds_are_drawn_from_recalibration_alone_on(result: RegulariseResult) -> None:
    """The survey as it came, round 0, and every round, in each of the lines."""
    figure = result.plot_rounds()
    flagged = next(line for line in figure.data if line.name == "flagged records")
    history = result.history

    assert history["round"].tolist() == list(range(len(result.rounds) + 1))
    assert list(flagged.y) == [result.n_flagged[0], *history["n_flagged_after"]]
    assert all(len(line.y) == len(history) + 1 for line in figure.data)
    assert list(figure.layout.xaxis.ticktext[:2]) == ["as it came", "0"]
    assert "recalibration alone" in flagged.text[1]


def test_a_run_that_changed_nothing_says_so(result: RegulariseResult) -> None:
    undone = dataclasses.replace(
        result,
        status="rolled_back",
        after=result.before,
        lineage=result.lineage.head(0),
        rounds=result.rounds.assign(accepted=False, reason="the targets fit worse"),
    )
    page = html.unescape(regularise_page.render(undone))

    assert "no round that helped: nothing was changed" in page
    assert "the tables hold respondents alone" in page
    assert '<p class="status caution">' in page


def test_what_generating_costs_is_shown_where_it_was_measured(result: RegulariseResult) -> None:
    stability = pd.DataFrame(
        {
            "statistic": ["wages, all", "wages, role = child"],
            "mean": [1e6, 100.0],
            "sd": [1e4, 5.0],
            "relative_sd": [0.01, 0.05],
            "is_thin": [False, False],
            "fails": [False, True],
        }
    )
    settings = {**result.settings, "n_stability_seeds": 5}
    measured = dataclasses.replace(result, stability=stability, settings=settings)
    rows = Reader(regularise_page.render(measured)).table("Statistic")

    assert [row[-1] for row in rows] == ["✗ too much", "✓"]
    assert "What generating costs" not in regularise_page.render(result)


def test_saved_results_give_the_same_pages(
    result: RegulariseResult, model: TrainedModel, tmp_path: Path
) -> None:
    folders = {"regularisation": result, "trained model": model, "diagnosis": result.after}
    for kind, saved in folders.items():
        folder = tmp_path / kind.replace(" ", "-")
        saved.save(folder)  # type: ignore[attr-defined]
        first, again = tmp_path / "first.html", tmp_path / "again.html"
        saved.report(first)  # type: ignore[attr-defined]

        assert kind_of(folder).name == kind
        assert write_saved_report(folder, again) == again
        assert again.read_text(encoding="utf-8") == first.read_text(encoding="utf-8")


# --- Quality --------------------------------------------------------------------------------------


def test_each_gate_stands_with_its_limit_and_outcome(model: TrainedModel) -> None:
    page = quality_page.render(model.quality)
    assert_self_contained(page)
    rows = Reader(page).table("Figure")

    gates = model.quality.gates
    assert len(rows) == len(gates)
    assert [row[2] for row in rows] == [
        quality_page.MARKS[None if pd.isna(passed) else bool(passed)] for passed in gates.passed
    ]
    n_passed = int(gates.passed.fillna(False).sum())
    assert f"The model passes {n_passed} of {int(gates.passed.notna().sum())} gates" in page
    assert '<p class="status caution">' in page
    copies = next(row for row in rows if "copies" in row[0])
    assert copies[2] == "✗ failed"
    assert "by design" in copies[-1]


# --- Diagnosis ------------------------------------------------------------------------------------


def test_a_survey_without_offenders_is_told_to_have_none(survey: Survey) -> None:
    even = diagnose(survey, np.full(len(survey.unit_ids), 100.0), surface=SURFACE, threshold=0.5)
    page = diagnosis_page.render(even)

    assert "No record carries more than 50% of a statistic that is not thin." in page
    assert '<p class="status good">' in page
    assert_self_contained(page)
