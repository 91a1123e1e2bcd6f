"""The command line: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate import Calibration, CalibrationResult
from microcalibrate.cli import BAD_USAGE, CANCELLED, FAILURE, UNCERTIFIED
from microcalibrate.io import read_table
from microcalibrate.progress import ProgressBar

from ..commands import assert_refused, interrupt, run, unwrapped
from ..files import RUN_FILES, content


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with records, targets and a problem; the commands run in it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    n = 400
    data = pd.DataFrame(
        {
            "name": [f"r{i}" for i in range(n)],
            "w": rng.uniform(50, 150, n),
            "age": rng.integers(0, 90, n),
            "income": rng.gamma(2.0, 20_000, n).round(),
        }
    )
    data.to_csv("people.csv", index=False)
    data.to_parquet("people.parquet", index=False)
    data.to_feather("people.feather")
    total = (data.w * data.income).sum()
    pd.DataFrame(
        {
            "name": ["adults", "elderly", "income"],
            "value": [0.8 * data.w.sum(), 0.3 * data.w.sum(), 1.1 * total],
            "variable": [None, None, "income"],
            "filter": ["age >= 18", "age >= 65", None],
            "tolerance": [0.0, None, None],
        }
    ).to_csv("targets.csv", index=False)
    problem = tmp_path / "problem"
    problem.mkdir()
    matrix = sp.csr_array(np.column_stack([np.ones(n), data.income / 1000]))
    sp.save_npz(problem / "matrix.npz", matrix)
    np.savez(problem / "weights.npz", weights=data.w.to_numpy())
    (problem / "targets.csv").write_text("name,target,tolerance\npeople,50000,\nincome,2e6,0.01\n")
    return tmp_path


TABLE = "calibrate people.csv --weight w --targets targets.csv --out run"


# --- Done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet", "feather"])
def test_a_table_is_calibrated_as_by_the_library(here: Path, suffix: str) -> None:
    done = run(TABLE.replace("people.csv", f"people.{suffix}") + " --id name")

    data, targets = read_table("people.csv"), read_table("targets.csv")
    expected = Calibration.from_table(data, targets, "w").calibrate(progress=False)
    assert done.exit_code == 0, done.output
    assert set(content(here / "run")) == RUN_FILES | {"report.html"}
    saved = CalibrationResult.load("run")
    assert_array_equal(saved.weights, expected)
    assert_array_equal(saved.record_ids, data["name"])
    assert "share of targets within 10%" in done.stdout
    assert "written to run" in done.stdout
    assert not done.stderr


def test_every_option_reaches_the_calibration(here: Path) -> None:
    done = run(
        f"{TABLE} --records 200 --max-ratio 40 --min-ratio 0.1 --tolerance 0.02 --distance raking "
        "--closeness 1e-3 --kappa 2 --selection random --seed 7 --max-iter 90 --no-report --quiet"
    )

    assert done.exit_code == 0, done.output
    assert not done.output
    assert set(content(here / "run")) == RUN_FILES
    saved = CalibrationResult.load("run")
    asked = {
        "target_records": 200,
        "max_weight_ratio": 40.0,
        "min_weight_ratio": 0.1,
        "distance": "raking",
        "closeness": 1e-3,
        "kappa": 2.0,
        "selection": "random",
        "seed": 7,
        "max_iter": 90,
    }
    assert asked.items() <= saved.settings.items()
    # Targets with a tolerance of their own keep it.
    assert saved.targets.tolerance.tolist() == [0.0, 0.02, 0.02]


@pytest.mark.usefixtures("here")
def test_a_folder_brings_its_weights_and_targets() -> None:
    done = run("calibrate problem --out run --tolerance 0 --l0-lambda 0.1")

    assert done.exit_code == 0, done.output
    saved = CalibrationResult.load("run")
    assert saved.targets.tolerance.tolist() == [0.0, 0.01]
    assert saved.settings["l0_lambda"] == 0.1
    assert 0 < saved.statistics["after"]["records"] < 400
    assert_allclose(saved.targets.error[0], 0, atol=1e-9)


def test_equal_seeds_give_identical_weights(here: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert run(f"{TABLE[:-3]}{name} --records 50 --seed {seed} --quiet").exit_code == 0

    a, b, c = (content(here / name) for name in "abc")
    for name in ("weights.csv", "weights.parquet", "targets.csv", "config.json"):
        assert a[name] == b[name]
    assert a["weights.csv"] != c["weights.csv"]


def test_an_earlier_run_is_replaced_as_a_whole(here: Path) -> None:
    assert run(TABLE).exit_code == 0
    (here / "run" / "note.txt").write_text("mine")

    assert run(f"{TABLE} --no-report").exit_code == 0

    assert set(content(here / "run")) == RUN_FILES


def test_a_report_is_written_anew(here: Path) -> None:
    run(f"{TABLE} --no-report")

    assert run("report run").exit_code == 0
    assert run("report run --out other.html").exit_code == 0

    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert page == (here / "other.html").read_text(encoding="utf-8")
    assert "400 records calibrated to 3 targets" in page


@pytest.mark.parametrize("quiet", ["", " --quiet"])
def test_an_end_without_certificate_is_told_and_has_an_exit_code(here: Path, quiet: str) -> None:
    done = run(f"{TABLE} --max-iter 1 --max-ratio 1.5{quiet}")

    assert done.exit_code == UNCERTIFIED
    assert "STEP_LIMIT" in done.stderr
    assert "Raise `--max-iter`" in unwrapped(done.stderr)
    assert set(content(here / "run")) == RUN_FILES | {"report.html"}
    assert CalibrationResult.load("run").status.name == "STEP_LIMIT"


@pytest.mark.usefixtures("here")
def test_the_demo_writes_both_runs() -> None:
    done = run("demo --records 300 --seed 1 --no-report")

    assert done.exit_code == 0, done.output
    dense = CalibrationResult.load("calibration-demo/dense")
    small = CalibrationResult.load("calibration-demo/records-300")
    assert small.statistics["after"]["records"] == 300
    assert small.seed == 1
    kish = next(line for line in done.stdout.splitlines() if line.startswith("Kish"))
    assert [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", kish)] == [
        round(dense.statistics["before"]["kish"]),
        round(dense.statistics["after"]["kish"]),
        round(small.statistics["after"]["kish"]),
    ]
    assert "calibration-demo/records-300" in done.stdout.replace("\\", "/")


# --- Not done -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("calibrate people.csv --out run", "--weight"),
        (f"{TABLE} --records 5 --l0-lambda 1", "not both"),
        (f"{TABLE} --kappa 2", "--records or --l0-lambda"),
        (f"{TABLE} --selection top_k", "--records or --l0-lambda"),
        (f"{TABLE} --selection best --records 5", "best"),
        (f"{TABLE} --distance far", "far"),
        (f"{TABLE} --records 5000", "5000"),
        (f"{TABLE} --max-ratio -1", "--max-ratio is -1"),
        (f"{TABLE} --seed x", "--seed"),
        (f"{TABLE} --unknown", "--unknown"),
        ("calibrate problem --weight w --out run", "--weight is for tables"),
        ("calibrate problem/weights.csv --weight w --targets targets.csv --out .", "not of an"),
        ("unknown", "unknown"),
    ],
)
def test_bad_usage_is_told_and_writes_nothing(here: Path, line: str, part: str) -> None:
    assert_refused(here, line, FAILURE if line.endswith("--out .") else BAD_USAGE, part)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (TABLE.replace("people.csv", "nobody.csv"), "nobody.csv does not exist"),
        (TABLE.replace("targets.csv", "none.csv"), "none.csv does not exist"),
        (TABLE.replace("--weight w", "--weight v"), 'no column "v"'),
        (f"{TABLE} --id none", "no column 'none'"),
        (f"{TABLE} --id age", "does not name every record differently"),
        (TABLE.replace("run", "no/run"), "Create it first"),
        (TABLE.replace("run", "problem"), "not of an earlier run"),
        (TABLE.replace("people.csv", "problem/matrix.npz"), ".npz"),
        ("calibrate nowhere --out run", "--weight"),
        (f"{TABLE} --tolerance 0 --max-ratio 1.0001", "The least change"),
        ("report problem", "problem holds no saved run"),
    ],
)
def test_a_failure_is_told_in_one_paragraph(here: Path, line: str, part: str) -> None:
    assert_refused(here, line, BAD_USAGE if part == "--weight" else FAILURE, part)


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("people.csv", "w,age,income\n", "there are no records"),
        ("targets.csv", "name,value\nwages,3e6\n", "Give it a variable, or a filter"),
    ],
)
def test_what_a_file_lacks_is_told_in_the_words_of_files(
    here: Path, file: str, text: str, part: str
) -> None:
    (here / file).write_text(text)
    assert_refused(here, TABLE, FAILURE, part)


def test_bad_targets_leave_the_earlier_run(here: Path) -> None:
    run(TABLE)
    (here / "targets.csv").write_text("name,value,filter\nold,5,age >= 900\n")
    before = content(here)

    done = run(TABLE)

    assert done.exit_code == FAILURE
    assert 'target "old" (row 1)' in unwrapped(done.stderr)
    assert content(here) == before


def test_names_cannot_steer_the_terminal(here: Path) -> None:
    (here / "targets.csv").write_text(
        "name,value,filter\n\x07\u202ered,5,age >= 900\n", encoding="utf-8"
    )

    done = run(TABLE)

    assert done.exit_code == FAILURE
    assert "red" in done.stderr
    assert "\x07" not in done.stderr
    assert "\u202e" not in done.stderr


def test_data_inside_the_run_are_not_deleted(here: Path) -> None:
    run(TABLE)
    os.rename("people.csv", "run/people.csv")

    done = run(TABLE.replace("people.csv", "run/people.csv"))

    assert done.exit_code == BAD_USAGE
    assert (here / "run" / "people.csv").exists()


@pytest.mark.parametrize("line", [TABLE, "demo", "report run"])
def test_a_missing_plotly_is_told_before_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(Calibration, "calibrate", None)

    done = run(line)

    assert done.exit_code == FAILURE
    assert "pip install 'microcalibrate[viz]'" in unwrapped(done.stderr)
    assert not (here / "run").exists()


@pytest.mark.usefixtures("here")
def test_ctrl_c_keeps_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressBar, "show", interrupt)

    done = run(f"{TABLE} --max-ratio 1.2 --tolerance 0.3 --quiet")

    assert done.exit_code == CANCELLED
    assert "the best weights so far were written to run" in unwrapped(done.stderr)
    assert CalibrationResult.load("run").status.name == "CANCELLED"


def test_ctrl_c_while_writing_leaves_the_earlier_run(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(TABLE)
    before = content(here)
    monkeypatch.setattr(CalibrationResult, "report", interrupt)

    done = run(TABLE)

    assert done.exit_code == CANCELLED
    assert "nothing was written" in done.stderr
    assert content(here) == before


# --- The program itself ---------------------------------------------------------------------------


def test_exit_codes_are_those_that_are_documented() -> None:
    assert (FAILURE, BAD_USAGE, UNCERTIFIED, CANCELLED) == (1, 2, 3, 130)


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    done = run("--version")

    assert done.exit_code == 0
    assert done.stdout == f"microcalibrate {version('microcalibrate')}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, microcalibrate.cli\n"
        "heavy = {'torch', 'plotly', 'pandas', 'numpy', 'scipy', 'numba', 'optuna'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_a_real_ctrl_c_ends_without_a_traceback(here: Path) -> None:
    """Whenever it comes, the exit code is 130 and the folder is a whole run or none."""
    code = "from microcalibrate.cli import main; print('ready', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *TABLE.split(), "--no-report"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)

    assert process.returncode in (0, CANCELLED)
    assert "Traceback" not in complaint
    if (here / "run").exists():
        assert json.loads((here / "run" / "result.json").read_text())["status"]
    assert not [name for name in os.listdir(here) if name.startswith(".")]
