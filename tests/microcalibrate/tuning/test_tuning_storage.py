"""A study outlives the process that works on it, and several may work on it at once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from microcalibrate.errors import InvalidOption, MissingExtra, UnreadableFile, WorkerFailed
from microcalibrate.hyperparameter_tuning import TuningResult, tune_hyperparameters
from microcalibrate.hyperparameter_tuning.storage import opened_storage
from microcalibrate.hyperparameter_tuning.trials import FoldSolves
from microcalibrate.progress import Update, listening

# What a process of its own does; the same problem everywhere.
SCRIPT = """
import sys
import numpy as np
from microcalibrate.hyperparameter_tuning import tune_hyperparameters

rng = np.random.default_rng(0)
matrix = rng.lognormal(size=(200, 8))
targets = matrix.sum(axis=0) * rng.uniform(0.8, 1.2, 8)
PROBLEM = dict(weights=np.ones(200), targets=targets, estimate_matrix=matrix)
OPTIONS = dict(n_folds=2, lambda_min=1e-3)
"""
here: dict[str, Any] = {}
exec(SCRIPT, here)

RUN = "tune_hyperparameters(**PROBLEM, **OPTIONS, n_trials=int(sys.argv[2]), storage=sys.argv[1])"
KILLED = """
import os, signal
from microcalibrate.hyperparameter_tuning.trials import FoldSolves
from microcalibrate.progress import Update, listening

done, figures = [], FoldSolves.figures


def killed(self, choice):
    if len(done) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(choice)
    return figures(self, choice)


FoldSolves.figures = killed
"""

# Each process waits in its first trial for the other's, so that neither does all of the work.
MEETING = """
import os, time
from pathlib import Path
from microcalibrate.hyperparameter_tuning.trials import FoldSolves

place, figures = Path(sys.argv[3]), FoldSolves.figures


def met(self, choice):
    (place / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(place.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return figures(self, choice)


FoldSolves.figures = met
"""


def tuned(n_trials: int, **options: Any) -> TuningResult:
    return tune_hyperparameters(
        **here["PROBLEM"], **{**here["OPTIONS"], **options}, n_trials=n_trials
    )[1]


def begun(*parts: str, arguments: tuple[Any, ...]) -> subprocess.Popen[str]:
    script = "\n".join([SCRIPT, *(textwrap.dedent(part) for part in parts)])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def params(study: Any) -> list[dict[str, Any]]:
    return [trial.params for trial in finished(study)]


# --- A server -------------------------------------------------------------------------------------


def _postgres_tools() -> Path | None:
    found = shutil.which("pg_ctl")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in reversed(places) if (place / "initdb").exists()), None)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server that lives as long as these tests."""
    pytest.importorskip("pg8000", reason="the driver of PostgreSQL is not installed: pg8000")
    tools = _postgres_tools()
    if tools is None:
        pytest.skip("PostgreSQL is not installed: there are no pg_ctl and initdb")
    # The server refuses to run as root, and another user cannot reach the folders of pytest.
    as_user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="microcalibrate-postgres-"))
    if os.getuid() == 0:
        if not (runuser := shutil.which("runuser")):
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        as_user = [runuser, "-u", "nobody", "--"]
        shutil.chown(folder, "nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' "
    options += "-c fsync=off"

    def call(tool: str, *rest: str) -> None:
        command = [*as_user, str(tools / tool), "-D", str(folder / "data"), *rest]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    try:
        call("initdb", "-A", "trust", "-U", "tuner", "--no-sync")
        call("pg_ctl", "-l", str(folder / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql+pg8000://tuner@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["journal", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage that several processes can use."""
    if request.param == "journal":
        return str(tmp_path / "study.journal")
    url: str = request.getfixturevalue("postgres")
    engine = optuna.storages.RDBStorage(url)
    for study in engine.get_all_studies():
        engine.delete_study(study._study_id)
    engine.engine.dispose()
    return url


# --- Resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shared", "sampler"),
    [("journal", "tpe"), ("journal", "nsga2"), ("postgres", "tpe")],
    indirect=["shared"],
)
def test_a_killed_run_ends_as_if_it_had_not_been(shared: str, sampler: str) -> None:
    whole = tuned(13, sampler=sampler)
    process = begun(KILLED, f"OPTIONS['sampler'] = {sampler!r}", RUN, arguments=(shared, 13, 11))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = optuna.load_study(study_name="microcalibrate", storage=opened_storage(shared))
    assert [trial.state.name for trial in left.trials] == ["COMPLETE"] * 11 + ["RUNNING"]

    resumed = tuned(13, sampler=sampler, storage=shared)
    states = [trial.state.name for trial in resumed.study.trials]

    assert states == ["COMPLETE"] * 11 + ["FAIL"] + ["COMPLETE"] * 2
    assert params(resumed.study) == params(whole.study)
    assert resumed.best_lambda == whole.best_lambda
    assert resumed.best_params == whole.best_params


def test_a_run_goes_on_where_it_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(14)
    calls: list[int] = []
    figures = FoldSolves.figures

    def cancelled(self: FoldSolves, choice: Any) -> Any:
        calls.append(1)
        if len(calls) in (3, 13):
            raise KeyboardInterrupt
        return figures(self, choice)

    monkeypatch.setattr(FoldSolves, "figures", cancelled)
    runs = [tuned(14, storage=tmp_path / "study.log") for _ in range(3)]

    assert [run.status for run in runs] == ["cancelled", "cancelled", "finished"]
    assert [len(finished(run.study)) for run in runs[-1:]] == [14]
    assert params(runs[-1].study) == params(whole.study)


def test_n_trials_is_what_the_study_has_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    counts = [len(tuned(n_trials, storage=path).trials) for n_trials in (3, 5, 5, 2)]

    assert counts == [3, 5, 5, 5]
    assert params(tuned(5, storage=path).study) == params(tuned(5).study)


# --- Several at once ------------------------------------------------------------------------------


def test_two_processes_share_a_study(shared: str, tmp_path: Path) -> None:
    n_trials, place = 12, tmp_path / "meeting"
    place.mkdir()
    processes = [begun(MEETING, RUN, arguments=(shared, n_trials, place)) for _ in range(2)]
    for process in processes:
        _, text = process.communicate()
        assert process.returncode == 0, text
    study = optuna.load_study(study_name="microcalibrate", storage=opened_storage(shared))
    done = finished(study)
    numbers = [trial.number for trial in study.trials]
    ranks = sorted(trial.user_attrs["rank"] for trial in done)
    workers = {trial.user_attrs["worker"]["pid"] for trial in done}

    assert len(done) == n_trials
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "FAIL"}
    assert numbers == list(range(len(study.trials)))
    assert ranks == list(range(n_trials))
    assert len({trial.params["l0_lambda"] for trial in done}) == n_trials
    assert len(workers) == 2
    # The first of a run of random trials does not depend on who does it.
    alone = params(tuned(10, sampler="random").study)
    assert [trial.params for trial in sorted(done, key=lambda t: t.user_attrs["rank"])][:5] == (
        alone[:5]
    )


def test_workers_of_one_call_do_the_same_trials() -> None:
    """By random search, what a rank tries depends on nothing else."""
    alone = tuned(10, sampler="random", closeness=[1e-4, 1e-3])
    together = tuned(10, sampler="random", closeness=[1e-4, 1e-3], n_jobs=2)
    by_rank = sorted(finished(together.study), key=lambda trial: trial.user_attrs["rank"])

    assert together.status == "finished"
    # A worker that comes too late for the last rank says so: its trial counts as failed.
    assert {trial.state.name for trial in together.study.trials} <= {"COMPLETE", "FAIL"}
    assert [trial.params for trial in by_rank] == params(alone.study)
    for ours, theirs in zip(by_rank, alone.study.trials, strict=True):
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-10)
    assert together.best_params == alone.best_params
    # The file that the workers shared is gone; the study is not.
    assert together.study.best_value == together.best["score"]


def test_ctrl_c_ends_all_workers(tmp_path: Path) -> None:
    interrupts = iter([True])

    def interrupt(update: Update) -> None:
        if update.done >= 2 and next(interrupts, False):
            raise KeyboardInterrupt

    path = tmp_path / "study.journal"
    with listening(interrupt):
        result = tuned(500, n_jobs=2, storage=path)
    states = [trial.state.name for trial in result.study.trials]

    assert result.status == "cancelled"
    assert 2 <= states.count("COMPLETE") < 500
    assert "RUNNING" not in states
    for pid in {trial.user_attrs["worker"]["pid"] for trial in finished(result.study)}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    with pytest.raises(WorkerFailed, match="cannot all hold"):
        tuned(4, n_jobs=2, tolerances=0.0, max_weight_ratio=1.01)


def test_memory_cannot_be_shared() -> None:
    with pytest.raises(InvalidOption, match="in the memory of this process"):
        tuned(2, n_jobs=2, storage=optuna.storages.InMemoryStorage())


def test_a_trial_that_others_gave_up_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tuned(4)
    figures, calls = FoldSolves.figures, [0]
    studies: list[Any] = []
    ask = optuna.Study.ask

    def noted(self: Any, *args: Any) -> Any:
        studies.append(self)
        return ask(self, *args)

    def given_up(self: FoldSolves, choice: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            studies[-1].tell(2, state=optuna.trial.TrialState.FAIL)
        return figures(self, choice)

    monkeypatch.setattr(optuna.Study, "ask", noted)
    monkeypatch.setattr(FoldSolves, "figures", given_up)
    result = tuned(4)

    assert [trial.state.name for trial in result.study.trials][2] == "FAIL"
    assert params(result.study) == params(whole.study)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"seed": 1}, "seed"),
        ({"n_folds": 3}, "folds"),
        ({"lambda_min": 1e-4}, "settings"),
        ({"closeness": 1e-3}, "settings"),
        ({"sampler": "random"}, "settings"),
        ({"aggregate": "worst"}, "objective"),
        ({"objective": "pareto"}, "objective"),
        ({"targets": here["PROBLEM"]["targets"] * 1.001}, "problem"),
        ({"estimate_matrix": here["PROBLEM"]["estimate_matrix"] + 1e-9}, "problem"),
    ],
)
def test_a_study_about_something_else_is_refused(
    tmp_path: Path, options: dict[str, Any], what: str
) -> None:
    path = tmp_path / "study.journal"
    tuned(1, storage=path)
    arguments = {**here["PROBLEM"], **here["OPTIONS"], "n_trials": 2, "storage": path, **options}
    with pytest.raises(InvalidOption, match=f"with other {what}"):
        tune_hyperparameters(**arguments)
    assert len(tune_hyperparameters(**{**arguments, "study_name": "other"})[1].trials) == 2


def test_a_study_of_ones_own_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    mine = optuna.create_study(storage=url, study_name="microcalibrate")
    mine.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(InvalidOption, match="not of this kind"):
        tuned(2, storage=url)


def test_any_optuna_storage_will_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    own = optuna.storages.RDBStorage(url)
    results = [tuned(3, storage=storage) for storage in (url, own)]

    assert params(results[0].study) == params(results[1].study) == params(tuned(3).study)
    assert len(results[1].study.trials) == 3
    own.engine.dispose()


@pytest.mark.parametrize(
    ("storage", "error", "says"),
    [
        ("study.db", InvalidOption, "sqlite:///study.db"),
        ("nowhere/else/study.log", UnreadableFile, "a folder that does"),
        ("sqlite:////nowhere/else/study.db", UnreadableFile, "cannot be opened"),
        ("mysql+nosuchdriver://me:secret@host/name", UnreadableFile, "mysql"),
    ],
)
def test_a_storage_that_cannot_be_opened(storage: str, error: Any, says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        tuned(1, storage=storage)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(MissingExtra, match=r"postgresql\+pg8000"):
        tuned(1, storage="postgresql://me:secret@host/name")


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "notes.log"
    path.write_text("not a journal\nnot at all\n")
    with pytest.raises(UnreadableFile, match=r"notes\.log"):
        tuned(1, storage=path)
