"""Options of the solver mean the same to every command that solves."""

from __future__ import annotations

import inspect
import shlex
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

import microcalibrate.selection.sampled_gates
from microcalibrate import Calibration, CalibrationResult, evaluate_robustness, tune_hyperparameters
from microcalibrate.cli import BAD_USAGE
from microcalibrate.cli.calibrate import calibrate
from microcalibrate.cli.evaluate import evaluate
from microcalibrate.cli.tune import tune
from microcalibrate.dashboard.option_schema import arguments, options_of
from microcalibrate.dashboard.trial_options import calibration_values
from microcalibrate.errors import InvalidOption
from microcalibrate.hyperparameter_tuning import TuningResult
from microcalibrate.hyperparameter_tuning.checks import ABOUT_TARGETS, GATE_OPTIONS, SOLVE_OPTIONS
from microcalibrate.io import read_json, read_table

from ..commands import run
from .people import problem

TUNE = "tune people.csv --weight w --targets targets.csv --folds 2 --trials 2 --out run --no-report"
EVALUATE = "evaluate people.csv --weight w --targets targets.csv --folds 2 --out run --no-report"
# Each with a value that changes the answer.
SOLVER = (
    "--loss huber:0.05 --min-weight 20 --max-weight 400 --heteroscedasticity size --cluster home"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with records, and five targets that cannot all hold."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(8)
    n = 160
    people = pd.DataFrame(
        {
            "w": rng.uniform(50, 150, n),
            "size": rng.integers(1, 5, n),
            "held": np.arange(n) < 10,
            "home": np.arange(n) // 4,
            "age": rng.integers(0, 90, n),
            "income": rng.gamma(2.0, 20_000, n).round(),
        }
    )
    people.to_csv("people.csv", index=False)
    counted = {
        "young": ("age < 20", 0.9),
        "old": ("age >= 65", 1.3),
        "rich": ("income > 60000", 0.8),
        "all": ("age >= 0", 1.2),
    }
    rows = [
        {"name": name, "value": factor * people.query(where)["w"].sum(), "filter": where}
        for name, (where, factor) in counted.items()
    ]
    total = 1.4 * (people["w"] * people["income"]).sum()
    rows.append({"name": "income", "value": total, "variable": "income"})
    pd.DataFrame(rows).to_csv("targets.csv", index=False)
    return tmp_path


def solver() -> dict[str, Any]:
    people = read_table("people.csv")
    bounds = {"min_weight": 20, "max_weight": 400}
    per_record = {"heteroscedasticity": people["size"].to_numpy(), "cluster": people["home"]}
    return {"loss": "huber:0.05", **bounds, **per_record}


# --- Reached --------------------------------------------------------------------------------------


def test_an_evaluation_takes_the_options_of_a_calibration() -> None:
    done = run(f"{EVALUATE} {SOLVER} --frozen held --quiet")

    held = read_table("people.csv")["held"].to_numpy()
    expected = evaluate_robustness(**problem(), **solver(), frozen=held, n_folds=2)
    plain = evaluate_robustness(**problem(), n_folds=2)
    assert done.exit_code == 0, done.output
    found = read_json("run/robustness.json")["figures"]
    assert_allclose(found["mean_error"], expected["mean_error"], rtol=1e-12)
    assert abs(found["mean_error"] - plain["mean_error"]) > 1e-4


def test_a_tuning_takes_the_options_of_a_calibration() -> None:
    done = run(f"{TUNE} {SOLVER} --refit-closeness 0.01 --quiet")

    _, expected = tune_hyperparameters(
        **problem(), **solver(), refit_closeness=0.01, n_folds=2, n_trials=2
    )
    assert done.exit_code == 0, done.output
    found = read_table("run/trials.csv")["held_out_error"]
    assert_allclose(found, expected.trials["held_out_error"], rtol=1e-9)
    for rest in (SOLVER, "--refit-closeness 0.01"):
        fewer = f"{SOLVER} --refit-closeness 0.01".replace(rest, "")
        assert run(f"{TUNE} {fewer} --quiet").exit_code == 0
        assert (read_table("run/trials.csv")["held_out_error"] != found).all(), rest


def test_the_command_of_the_best_trial_has_them_all() -> None:
    done = run(f"{TUNE} {SOLVER} --refit-closeness 0.01 --closeness 1e-3")
    assert done.exit_code == 0, done.output
    (line,) = (text for text in done.stdout.splitlines() if "microcalibrate calibrate" in text)

    again = run(line.strip().removeprefix("microcalibrate "))

    assert again.exit_code == 0, again.output
    best = TuningResult.load("run").best_lambda
    options = {"refit_closeness": 0.01, "closeness": 1e-3, "l0_lambda": best}
    expected = Calibration(**problem(), **solver(), **options).calibrate()
    assert_allclose(CalibrationResult.load("run-best").weights, expected, rtol=1e-12)


def test_the_page_takes_a_trial_over_as_the_command_line_does() -> None:
    done = run(f"{TUNE} {SOLVER} --seed 3 --refit-closeness 0.01 --distance raking")
    words = shlex.split(next(text for text in done.stdout.splitlines() if "calibrate p" in text))
    entered = {"max_weight": 400.0, "min_weight": 20.0}
    tuned = TuningResult.load("run")

    values = calibration_values(
        tuned,
        int(tuned.best["number"]),
        entered | {"heteroscedasticity": "size", "cluster": "home"},
    )

    ours = arguments(options_of("calibrate"), values)
    shown = words[words.index("--out") + 2 :]
    # The page also says what it would say by default.
    extra = {"--kappa", "--closeness", "--selection"}
    pairs = dict(zip(ours[::2], ours[1::2], strict=True))
    assert {flag: value for flag, value in pairs.items() if flag not in extra} == dict(
        zip(shown[::2], shown[1::2], strict=True)
    )


@pytest.fixture
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates that are trained for a moment only."""
    trained = microcalibrate.selection.sampled_gates.sampled_gates
    monkeypatch.setattr(
        "microcalibrate.selection.sampled_gates.sampled_gates", partial(trained, passes=5)
    )


@pytest.mark.usefixtures("few_passes")
def test_gates_are_trained_as_asked() -> None:
    gates = "--records 60 --selection sampled_gates --temperature 0.5 --device cpu"
    line = f"{EVALUATE} {gates} --refit-closeness 0.01 --draws 1 --no-random --quiet"
    assert run(line).exit_code == 0

    settings = read_json("run/robustness.json")["settings"]
    asked = {"temperature": 0.5, "device": "cpu", "refit_closeness": 0.01}
    assert asked.items() <= settings.items()
    table = "calibrate people.csv --weight w --targets targets.csv --out kept --no-report"
    done = run(f"{table} {gates} --refit-closeness 0.01")
    assert done.exit_code == 0, done.output
    assert asked.items() <= CalibrationResult.load("kept").settings.items()


@pytest.mark.usefixtures("few_passes")
def test_the_command_has_temperatures_only_where_the_best_trial_trains_gates() -> None:
    both = "--selection random --selection sampled_gates --temperature 0.5 --device cpu"
    trained = set()
    for seed in range(4):
        done = run(f"{TUNE} {both} --trials 1 --sampler random --seed {seed}")
        assert done.exit_code == 0, done.output
        is_trained = TuningResult.load("run").best_params["selection"] == "sampled_gates"
        assert ("--temperature 0.5 --device cpu" in done.stdout) == is_trained
        trained.add(is_trained)
    assert trained == {True, False}


def test_importances_and_scales_of_a_folder_count(here: Path) -> None:
    """In the same words as in a table of targets, for every command that solves."""
    given = problem()
    (here / "folder").mkdir()
    sp.save_npz("folder/matrix.npz", given["estimate_matrix"])
    np.savez("folder/weights.npz", weights=given["weights"])
    stored = pd.DataFrame({"name": given["target_names"], "target": given["targets"]})
    stored["importance"] = [1.0, 5.0, None, 1.0, 0.2]
    stored["scale"] = [None, None, 300.0, None, None]
    stored.to_csv("folder/targets.csv", index=False)
    done = run("calibrate folder --out run --no-report --quiet")

    assert done.exit_code == 0, done.output
    options = {"importances": stored["importance"].fillna(1.0), "scales": stored["scale"]}
    expected = Calibration(**given | options)
    assert_allclose(CalibrationResult.load("run").weights, expected.calibrate(), rtol=1e-12)
    plain = Calibration(**given).calibrate()
    assert np.abs(expected.weights - plain).max() > 1


def test_a_storage_knows_its_loss() -> None:
    stored = f"{TUNE} --storage study.log --quiet"
    assert run(f"{stored} --loss huber").exit_code == 0
    assert run(f"{stored} --loss huber:0.1").exit_code == 0

    done = run(f"{stored} --loss absolute")

    assert done.exit_code == BAD_USAGE
    assert "another storage" in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", [tune, evaluate])
def test_an_option_has_one_meaning(command: Any) -> None:
    """What several commands share, they share as one definition; only a search takes many."""
    hints = get_type_hints(command, include_extras=True)
    reference = get_type_hints(calibrate, include_extras=True)
    shared = (set(hints) & set(reference)) - {"return", "id_column", "seed"}

    assert len(shared) >= 20
    for name in shared:
        own, other = (get_args(each[name])[-1] for each in (hints, reference))
        words = " ".join(other.help.partition("[")[0].split())
        assert own is other or own.help.startswith(words), name


def test_all_that_a_search_leaves_as_it_is_can_be_said() -> None:
    from microcalibrate.cli.flags import FLAGS

    said = {
        flag.removeprefix("--").replace("-", "_")
        for name in (*ABOUT_TARGETS, *SOLVE_OPTIONS, *GATE_OPTIONS)
        if (flag := FLAGS.get(name)) is not None
    }
    # Where records are chosen, none can be frozen.
    assert said - {"frozen"} <= set(inspect.signature(tune).parameters)


# --- Refused --------------------------------------------------------------------------------------


def test_an_evaluation_does_not_pass_over_parts() -> None:
    with pytest.raises(InvalidOption, match="partition is no option of an evaluation"):
        evaluate_robustness(**problem(), partition=np.arange(160) // 4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            f"{EVALUATE} --refit-closeness 0.1",
            "--refit-closeness acts only when records are chosen",
        ),
        (f"{EVALUATE} --temperature 0.1", "--temperature acts only when records are chosen"),
        (f"{EVALUATE} --records 50 --temperature 0.1", "acts on trained gates only"),
        (f"{EVALUATE} --records 50 --frozen held", "while some are frozen"),
        (f"{EVALUATE} --tolerance 0 --loss absolute", '--loss "absolute" is about soft targets'),
        (f"{EVALUATE} --min-weight 9 --max-weight 3", "--min-weight"),
        (f"{EVALUATE} --loss cubed", "cubed"),
        (f"{TUNE} --device cpu", "acts on trained gates only"),
        (f"{TUNE} --min-weight 9 --max-weight 3", "--min-weight"),
        (f"{TUNE} --selection sampled_gates --loss absolute", "squared errors"),
        (f"{TUNE} --distance logit", "logit"),
        (f"{TUNE} --refit-closeness 0", "--refit-closeness"),
    ],
)
def test_what_cannot_be_combined_is_told(line: str, said: str) -> None:
    done = run(line)

    assert done.exit_code == BAD_USAGE, done.output
    assert said in " ".join(done.stderr.split())
    assert not Path("run").exists()
