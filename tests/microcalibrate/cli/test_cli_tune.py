"""`microcalibrate tune`: the library's search, from a line of text, and what to run with it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration, CalibrationResult
from microcalibrate.cli import BAD_USAGE, CANCELLED, FAILURE, UNCERTIFIED
from microcalibrate.hyperparameter_tuning import TuningResult, tune_hyperparameters
from microcalibrate.io import read_json, read_table

from ..commands import assert_refused, interrupt, run, unwrapped
from ..files import content
from .people import problem, write_people

FILES = {
    ".microcalibrate-run",
    "folds.csv",
    "front.csv",
    "report.html",
    "trials.csv",
    "tuning.json",
}
TABLE = "tune people.csv --weight w --targets targets.csv --folds 2 --trials 2 --out run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with records of four states and nine targets, and the same as a problem."""
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path)
    return tmp_path


def printed_command(text: str) -> list[str]:
    """The arguments of the command that calibrates with the best trial."""
    (line,) = (line for line in text.splitlines() if "microcalibrate calibrate " in line)
    return shlex.split(line)[1:]


# --- Done -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_trials_are_those_of_the_library() -> None:
    done = run(f"{TABLE} --id name --lambda-min 1e-3 --lambda-max 0.5 --seed 3")

    best, expected = tune_hyperparameters(
        **problem(), lambda_min=1e-3, lambda_max=0.5, n_trials=2, n_folds=2, seed=3
    )
    assert done.exit_code == 0, done.output
    assert set(content(Path("run"))) >= FILES
    trials = read_table("run/trials.csv")
    assert_allclose(trials.l0_lambda, expected.trials.l0_lambda, rtol=1e-12)
    assert_allclose(trials.held_out_error, expected.trials.held_out_error, rtol=1e-9)
    assert TuningResult.load("run").best_lambda == best
    assert f"Best is trial {expected.best['number']}" in unwrapped(done.stdout)
    assert "l0_lambda" not in done.stdout
    assert not done.stderr


@pytest.mark.usefixtures("here")
def test_the_printed_command_calibrates_with_the_best_trial() -> None:
    done = run(
        f"{TABLE} --id name --kappa-range 0.5 2 --closeness 1e-4 --closeness 1e-3 --max-ratio 40 "
        "--selection closed_form --selection top_k --distance raking --min-ratio 0.01 "
        "--tolerance 0.9 --seed 5 --no-report"
    )
    assert done.exit_code == 0, done.output
    words = printed_command(done.stdout)

    again = run(shlex.join(words))

    best = TuningResult.load("run").best_params
    saved = CalibrationResult.load("run-best")
    assert again.exit_code == 0, again.output
    assert set(best) == {"l0_lambda", "kappa", "closeness", "selection"}
    fixed = {"max_weight_ratio": 40.0, "min_weight_ratio": 0.01, "distance": "raking", "seed": 5}
    assert (best | fixed).items() <= saved.settings.items()
    assert saved.targets.tolerance.eq(0.9).all()
    assert saved.record_ids[0] == "r0"


@pytest.mark.usefixtures("here")
def test_every_option_reaches_the_search() -> None:
    done = run(
        f"{TABLE} --groups family --kappa 2 --closeness 1e-3 --max-ratio 30 "
        "--max-ratio 60 --selection random --min-ratio 0.1 --tolerance 0.9 --distance raking "
        "--score-weights held_out_error=1,records=0.5 --aggregate worst --one-standard-error "
        "--sampler random --storage study.log --study-name mine --timeout 500 --draws 2 --seed 7 "
        "--max-iter 90 --no-report --quiet"
    )

    assert done.exit_code == 0, done.output
    assert not done.output
    assert set(content(Path("run"))) >= FILES - {"report.html"}
    assert not Path("run/report.html").exists()
    settings = read_json("run/tuning.json")["settings"]
    asked = {
        "objective": "balanced",
        "aggregate": "worst",
        "one_standard_error": True,
        "n_folds": 2,
        "groups": "family",
        "kappa": 2.0,
        "closeness": 1e-3,
        "max_weight_ratio": [30.0, 60.0],
        "selection": "random",
        "min_weight_ratio": 0.1,
        "distance": "raking",
        "sampler": "random",
        "n_draws": 2,
        "seed": 7,
        "max_iter": 90,
    }
    assert {name: settings[name] for name in asked} == asked
    assert settings["score_weights"]["records"] == 0.5
    assert TuningResult.load("study.log", "mine").trials.shape[0] == 2


@pytest.mark.usefixtures("here")
def test_the_front_of_error_against_records() -> None:
    done = run(f"{TABLE} --objective pareto --sampler nsga2 --no-report")

    assert done.exit_code == 0, done.output
    front = read_table("run/front.csv")
    assert front.records.is_monotonic_increasing
    assert front.held_out_error.is_monotonic_decreasing


@pytest.mark.usefixtures("here")
def test_a_folder_gives_the_same_as_its_table() -> None:
    table = run(f"{TABLE} --groups none --quiet --no-report")
    folder = run("tune problem --folds 2 --trials 2 --out again --groups none --no-report")

    assert table.exit_code == folder.exit_code == 0, table.output + folder.output
    found = read_table("again/trials.csv").held_out_error
    assert_allclose(found, read_table("run/trials.csv").held_out_error, rtol=1e-9)
    assert printed_command(folder.stdout)[:4] == ["calibrate", "problem", "--out", "again-best"]


@pytest.mark.usefixtures("here")
def test_the_same_command_resumes_from_the_storage() -> None:
    few = TABLE.replace("--trials 2", "--trials 1") + " --storage study.log --no-report"
    assert run(few).exit_code == 0

    done = run(few.replace("--trials 1", "--trials 3"))

    whole = run(f"{TABLE.replace('--trials 2', '--trials 3')}-again --no-report")
    assert done.exit_code == whole.exit_code == 0, done.output + whole.output
    resumed, undisturbed = (read_table(f"{name}/trials.csv") for name in ("run", "run-again"))
    assert resumed.l0_lambda.tolist() == undisturbed.l0_lambda.tolist()
    assert resumed.score.tolist() == undisturbed.score.tolist()


@pytest.mark.usefixtures("here")
def test_solves_without_certificate_have_an_exit_code() -> None:
    done = run(f"{TABLE} --max-ratio 1.1 --max-iter 1 --no-report --quiet")

    assert done.exit_code == UNCERTIFIED
    assert "Without certificate" in done.stderr
    assert read_table("run/trials.csv").shape[0] == 2


# --- Ended early ----------------------------------------------------------------------------------


def interrupt_after(n_calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the refit of a later trial."""
    from microcalibrate.evaluation.held_out import FoldSolve

    refit, calls = FoldSolve.refit, []

    def refit_or_interrupt(self: FoldSolve, *given: Any, **options: Any) -> Any:
        calls.append(None)
        return refit(self, *given, **options) if len(calls) <= n_calls else interrupt()

    monkeypatch.setattr(FoldSolve, "refit", refit_or_interrupt)


@pytest.mark.usefixtures("here")
def test_ctrl_c_keeps_the_finished_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(3, monkeypatch)

    done = run(f"{TABLE} --no-report --storage study.log")

    assert done.exit_code == CANCELLED
    said = unwrapped(done.stderr)
    assert "the trials that were finished were written to run" in said
    assert "The same command resumes them." in said
    assert "Traceback" not in done.output
    assert read_table("run/trials.csv").state.tolist().count("COMPLETE") == 1


def test_ctrl_c_before_any_trial_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(here)
    interrupt_after(0, monkeypatch)

    done = run(f"{TABLE} --no-report")

    assert done.exit_code == CANCELLED
    assert "nothing was written" in done.stderr
    assert content(here) == before


# --- Not done -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (f"{TABLE} --kappa 1 --kappa-range 1 2", BAD_USAGE, "--kappa-range (a search), not both"),
        (f"{TABLE} --study-name mine", BAD_USAGE, "--study-name acts only with --storage"),
        (
            f"{TABLE} --objective pareto --score-weights records=1",
            BAD_USAGE,
            "--score-weights act only with --objective balanced",
        ),
        (f"{TABLE} --score-weights records", BAD_USAGE, "Write for example held_out_error=1"),
        (f"{TABLE} --score-weights records=1,records=2", BAD_USAGE, "stands there once"),
        (f"{TABLE} --score-weights hair=1", BAD_USAGE, "hair"),
        (f"{TABLE} --lambda-min 1 --lambda-max 0.1", BAD_USAGE, "--lambda-min"),
        (f"{TABLE} --objective best", BAD_USAGE, "--objective 'best'"),
        (f"{TABLE} --sampler best", BAD_USAGE, "--sampler 'best'"),
        (f"{TABLE} --aggregate best", BAD_USAGE, "best"),
        (f"{TABLE} --selection best", BAD_USAGE, "best"),
        (f"{TABLE} --groups hair", BAD_USAGE, "correlation, family, names or none"),
        (f"{TABLE} --storage study.txt", BAD_USAGE, "--storage 'study.txt' is neither"),
        (f"{TABLE} --storage run/study.log", BAD_USAGE, "which is replaced as a whole"),
        (f"{TABLE} --storage sqlite:///run/study.db", BAD_USAGE, "which is replaced as a whole"),
        (f"{TABLE} --trials 0", BAD_USAGE, "--trials"),
        (f"{TABLE} --timeout 0", BAD_USAGE, "--timeout"),
        (f"{TABLE} --records 5", BAD_USAGE, "--records"),
        (TABLE.replace("people.csv", "nobody.csv"), FAILURE, "nobody.csv does not exist"),
        (TABLE.replace("run", "problem"), FAILURE, "not of an earlier run"),
    ],
)
def test_what_cannot_be_honoured_is_told_and_writes_nothing(
    here: Path, line: str, code: int, part: str
) -> None:
    assert_refused(here, line, code, part)


@pytest.mark.usefixtures("here")
def test_other_data_are_not_mixed_into_a_storage() -> None:
    line = f"{TABLE} --storage study.log --no-report --quiet"
    assert run(line).exit_code == 0
    before = content(Path("run"))

    done = run(f"{line} --max-ratio 20")

    assert done.exit_code == BAD_USAGE
    assert "Give another --study-name or another storage" in unwrapped(done.stderr)
    assert content(Path("run")) == before


def test_a_missing_plotly_is_told_before_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(Calibration, "__init__", None)

    done = run(TABLE)

    assert done.exit_code == FAILURE
    assert "pip install 'microcalibrate[viz]'" in unwrapped(done.stderr)
    assert not (here / "run").exists()
