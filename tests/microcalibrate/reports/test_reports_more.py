"""Pages of evaluations, tunings and target analyses: their numbers, whole, and no network."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
import pytest
from optuna.trial import TrialState

from microcalibrate import Calibration, TargetAnalysis, analyse_targets, evaluate_robustness
from microcalibrate.errors import UnreadableFile, UnwritableFile
from microcalibrate.evaluation.robustness_result import RobustnessResult
from microcalibrate.figures.plotting import amount, percent, readable
from microcalibrate.hyperparameter_tuning.result import TuningResult
from microcalibrate.reports import page as pages
from microcalibrate.reports import robustness, targets, tuning
from microcalibrate.reports.saved import KINDS, kind_of, write_saved_report

from ..pages import HOSTILE, Reader, assert_no_tags, assert_self_contained
from ..problems import survey
from ..studies import add_unfinished, random_study

DATA = survey(1, 200, 12)
NAMES = [f"family {number % 3}/target {number}" for number in range(11)] + [HOSTILE]


@pytest.fixture(scope="module")
def evaluation() -> RobustnessResult:
    rng = np.random.default_rng(0)
    untargeted = pd.DataFrame(rng.lognormal(size=(200, 2)), columns=[HOSTILE, "rent"])
    return evaluate_robustness(
        DATA.weights,
        DATA.targets,
        DATA.matrix,
        target_names=NAMES,
        target_records=60,
        n_folds=3,
        n_draws=2,
        n_bootstrap=2,
        untargeted=untargeted,
    )


def study(objective: str) -> optuna.Study:
    """Thirty trials with figures, and some without."""
    found = random_study(30, objective)
    for _ in range(3):
        add_unfinished(found, TrialState.FAIL, infeasible=f"{HOSTILE} cannot hold.")
    add_unfinished(found, TrialState.FAIL, error="The worker was stopped.")
    return found


@pytest.fixture(scope="module")
def tuned() -> TuningResult:
    return TuningResult.from_study(study("balanced"))


@pytest.fixture(scope="module")
def analysis() -> TargetAnalysis:
    goals, matrix = DATA.targets.copy(), DATA.matrix.copy()
    goals[11] *= 1000
    matrix[:, 4] = matrix[:, 0] + matrix[:, 1]
    goals[4] = 1.4 * (goals[0] + goals[1])
    matrix[:, 5], goals[5] = 2 * matrix[:, 2], 2 * goals[2]
    return analyse_targets(DATA.weights, goals, matrix, target_names=NAMES, max_weight_ratio=5.0)


RENDER: dict[str, Callable[[Any], str]] = {
    "evaluation": robustness.render,
    "tuned": tuning.render,
    "analysis": targets.render,
}


@pytest.fixture(params=list(RENDER))
def shown(request: pytest.FixtureRequest) -> tuple[Any, str]:
    result = request.getfixturevalue(request.param)
    return result, RENDER[request.param](result)


# --- All pages ------------------------------------------------------------------------------------


def test_nothing_is_loaded_and_no_text_is_a_tag(shown: tuple[Any, str]) -> None:
    _, page = shown
    reader = Reader(page)

    assert_self_contained(page)
    cells = [cell for row in reader.rows for cell in row]
    assert any(HOSTILE[:-1] in cell for cell in cells)
    assert "\u202e" not in page
    for figure in reader.figures().values():
        assert_no_tags(figure)


def test_the_first_words_are_those_of_the_summary(shown: tuple[Any, str]) -> None:
    result, page = shown
    lead = html.unescape(page[page.index("<main>") : page.index('<ul class="tiles">')])

    summary = result.summary(5) if isinstance(result, TargetAnalysis) else result.summary()
    for line in summary.splitlines():
        assert readable(targets.NUMBERED.sub("", line).strip()) in lead


def test_equal_results_give_equal_pages(shown: tuple[Any, str], tmp_path: Path) -> None:
    result, page = shown
    path = tmp_path / "é.html"

    assert result.report(path) == path
    assert path.read_text(encoding="utf-8") == page


def test_a_page_that_cannot_be_written_is_an_error(shown: tuple[Any, str], tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="no folder"):
        shown[0].report(tmp_path / "none" / "report.html")
    assert os.listdir(tmp_path) == []


# --- Evaluation -----------------------------------------------------------------------------------


def test_folds_and_worst_targets_are_those_of_the_result(evaluation: RobustnessResult) -> None:
    reader = Reader(robustness.render(evaluation))

    rows = reader.table("Fold")
    assert [row[0] for row in rows] == ["Fold 0", "Fold 1", "Fold 2"]
    for column, place in (("held_out_error", 2), ("train_error", 3), ("random_error", 5)):
        assert [row[place] for row in rows] == [percent(x) for x in evaluation.folds[column]]
    worst = evaluation.targets.sort_values("held_out_error", ascending=False, kind="stable")
    rows = reader.table("Target")
    assert [row[3] for row in rows] == [percent(x) for x in worst.held_out_error]
    assert [row[1] for row in rows] == [amount(x) for x in worst.target]
    assert list(reader.figures()) == ["folds", "targets", "stability", "drift"]


def test_drift_and_stability_are_those_of_the_result(evaluation: RobustnessResult) -> None:
    reader = Reader(robustness.render(evaluation))
    drift = evaluation.drift.sort_values("draw_drift", ascending=False)

    assert [row[3] for row in reader.table("Variable")] == [percent(x) for x in drift.draw_drift]
    rows = {row[0]: row for row in reader.table("Figure")}
    by_draw = rows["Held-out error by draw"]
    assert by_draw[1] == "2"
    assert by_draw[3] == percent(evaluation["draw_std"])
    boot = rows["Error on all targets, records reweighted"]
    assert boot[2] == percent(evaluation.bootstrap.error.mean())
    for name in ("target_records", "n_bootstrap"):
        assert f"<dt>{name}</dt><dd>{evaluation.settings[name]}</dd>" in robustness.render(
            evaluation
        )


def test_what_was_not_done_is_not_reported() -> None:
    dense = evaluate_robustness(DATA.weights, DATA.targets, DATA.matrix, n_folds=2)
    page = robustness.render(dense)
    reader = Reader(page)

    assert "drift" not in reader.figures()
    assert not any("Random sample" in row for row in reader.rows)
    assert not any("–" in row for row in reader.rows)
    assert "error of the design weights" in page
    assert robustness.headline(dense).endswith("no draw of records")


@pytest.mark.parametrize(
    ("design_error", "advantage", "is_good"),
    [(0.5, 0.1, True), (0.5, -0.1, False), (0.5, -0.01, True), (0.0, 0.1, False)],
)
def test_a_page_warns_where_calibrating_or_drawing_does_not_help(
    evaluation: RobustnessResult, design_error: float, advantage: float, is_good: bool
) -> None:
    assert evaluation.random is not None
    changed = dataclasses.replace(
        evaluation,
        figures={**evaluation.figures, "mean_error": 0.3, "design_error": design_error},
        random=dataclasses.replace(
            evaluation.random, advantage=advantage, advantage_standard_error=0.02
        ),
    )

    assert ("status good" in robustness.render(changed)) == is_good


# --- Tuning ---------------------------------------------------------------------------------------


def test_the_trial_chosen_leads_and_is_marked(tuned: TuningResult) -> None:
    page = tuning.render(tuned)
    reader = Reader(page)
    done = tuned.trials[tuned.trials.state == "COMPLETE"].sort_values("score")

    front, tried = (
        [row for row in reader.rows if len(row) == 8 and row[0].startswith("Trial ")][part]
        for part in (slice(0, len(tuned.front)), slice(len(tuned.front), None))
    )
    assert [int(row[0].split()[1]) for row in front] == list(tuned.front.number)
    assert [int(row[0].split()[1]) for row in tried] == list(done.number[: tuning.BEST_TRIALS])
    assert tried[0][0] == f"Trial {tuned.best['number']} (chosen)"
    assert tried[0][1] == f"{tuned.best_lambda:.3g}"
    assert tried[0][3] == f"{tuned.best['score']:.4f}"
    assert list(reader.figures()) == ["front", "folds", "importance", "history"]
    assert "5 more trials are not shown" in page
    assert "<dt>score_weights</dt><dd>held_out_error 1, beyond_10_percent 0.1" in page


def test_reasons_of_trials_without_figures_are_counted(tuned: TuningResult) -> None:
    rows = Reader(tuning.render(tuned)).table("Why trials have no figures")

    assert [row[1] for row in rows] == ["3", "1"]
    assert "cannot hold" in rows[0][0]
    assert rows[1][0] == "The worker was stopped."


def test_trials_of_a_front_are_in_order_of_their_held_out_error() -> None:
    pareto = TuningResult.from_study(study("pareto"), "timed out")
    page = tuning.render(pareto)

    assert "Trials by held-out error" in page
    assert tuning.headline(pareto) == "34 trials of tuning over 3 folds, timed out"
    assert "status caution" in page


# --- Targets --------------------------------------------------------------------------------------


def test_troubles_are_ranked_with_their_reasons(analysis: TargetAnalysis) -> None:
    reader = Reader(targets.render(analysis))
    troubled = analysis.table[analysis.table.kind != "fine"]

    rows = reader.table("Target")
    assert [row[1] for row in rows] == list(troubled.reason)
    assert [row[3] for row in rows] == [percent(x, signed=True) for x in troubled.error]
    counts = {row[0].lower(): int(row[2]) for row in reader.table("Kind")}
    assert counts == {kind: int((analysis.table.kind == kind).sum()) for kind in targets.MEANINGS}
    groups = [row[1].split(", ") for row in reader.table("Group")]
    assert [set(group) for group in groups] == [set(group) for group in analysis.groups]
    identities = [row[0] for row in reader.table("Identity")]
    assert identities == list(analysis.identities.identity)
    assert set(reader.figures()) == {"ranking", "conflicts"}


def test_targets_without_trouble_are_said_to_have_none() -> None:
    matrix = np.vstack([np.eye(3)] * 20)
    fine = analyse_targets(np.ones(60), [20.0, 20.0, 20.0], matrix)
    page = targets.render(fine)

    assert "status good" in page
    assert "No target makes trouble." in page
    assert "No two targets pull against each other." in page
    assert targets.headline(fine) == "0 of 3 targets make trouble"


def test_targets_that_cannot_be_met_call_for_caution(analysis: TargetAnalysis) -> None:
    assert "status caution" in targets.render(analysis)


# --- Parts of pages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        pages.Paragraph(HOSTILE),
        pages.Paragraph(HOSTILE, is_note=True),
        pages.Verdict(HOSTILE, HOSTILE, is_good=False),
        pages.Sentences([HOSTILE]),
        pages.Sentences([HOSTILE], is_ranked=True),
        pages.Tiles([(HOSTILE, HOSTILE, HOSTILE)]),
        pages.Table([HOSTILE, HOSTILE], [[HOSTILE, HOSTILE]], words=frozenset({1})),
        pages.Table([HOSTILE, HOSTILE], [[HOSTILE, HOSTILE]], has_short_names=True),
        pages.Columns([pages.Pairs(HOSTILE, {HOSTILE: HOSTILE})]),
        pages.Listing({HOSTILE: HOSTILE, "none": None}),
        pages.Figure(f'x" {HOSTILE}', go.Figure(layout={"height": 100})),
    ],
)
def test_every_part_escapes_what_users_wrote(part: pages.Part) -> None:
    page = pages.render_page(HOSTILE, [part], [pages.Section(HOSTILE, [part])])
    reader = Reader(page)

    assert {"img", "a"}.isdisjoint(tag for tag, _ in reader.tags)
    assert len(reader.scripts) == 2
    assert "\u202e" not in page
    assert not any(name == "onerror" for _, attributes in reader.tags for name in attributes)


def test_figures_of_all_parts_are_drawn() -> None:
    one, two = (pages.Figure(name, go.Figure(layout={"height": 100})) for name in ("one", "two"))
    page = pages.render_page("title", [one], [pages.Section("more", [two])])

    assert list(Reader(page).figures()) == ["one", "two"]


def test_no_figure_can_end_the_script() -> None:
    """Plotly writes tags as escapes; a page does not rest on that."""
    drawn: Any = types.SimpleNamespace(
        to_json=lambda: json.dumps({"title": HOSTILE}), layout=types.SimpleNamespace(height=1)
    )
    page = pages.render_page("title", [pages.Figure("one", drawn)], [])

    assert len(Reader(page).scripts) == 2
    assert "<" not in next(line for line in page.split("\n") if line.startswith("const figures"))
    assert Reader(page).figures()["one"] == {"title": HOSTILE}


# --- Saved runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated() -> Any:
    calibration = Calibration(DATA.weights, DATA.targets, DATA.matrix)
    calibration.calibrate(progress=False)
    return calibration.result


# Kinds that come after these are in test_reports_regularise.
@pytest.mark.parametrize(
    ("name", "kind"),
    list(zip(["calibrated", *RENDER], [kind.name for kind in KINDS], strict=False)),
)
def test_a_saved_run_gets_the_report_of_its_kind(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, kind: str
) -> None:
    result = request.getfixturevalue(name)
    folder = result.save(tmp_path / "run")

    assert kind_of(folder).name == kind
    written = write_saved_report(folder, tmp_path / "again.html")
    assert written.read_text() == result.report(tmp_path / "first.html").read_text()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_runs_are_typed_errors(kind: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / kind.file).write_text(json.dumps({"format": "microcalibrate.other/9"}))

    with pytest.raises(UnreadableFile, match="other/9"):
        write_saved_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_folders_that_are_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"robustness\.json \(evaluation"):
        kind_of(tmp_path)
    with pytest.raises(UnreadableFile, match="not a folder"):
        kind_of(tmp_path / "none")
    for kind in KINDS[:2]:
        (tmp_path / kind.file).write_text("{}")
    with pytest.raises(UnreadableFile, match="more than one run"):
        kind_of(tmp_path)
