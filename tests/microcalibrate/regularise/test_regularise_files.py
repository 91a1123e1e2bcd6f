"""The loop to the last byte: the same in two processes, rolled back, restored, taken up again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.loop import regularise
from microcalibrate.regularise.provenance import marked
from microcalibrate.regularise.result import TIMING_FILE, RegulariseResult

from ..offenders import (
    SURFACE,
    Stubborn,
    declared_targets,
    hot_deck,
    same_tables,
    survey_with_offenders,
)

ROOT = Path(__file__).parents[3]
OPTIONS = {"surface": SURFACE, "progress": False, "seed": 1, "max_offspring": 5, "n_folds": 2}
# How rounds are run is looked at here, not whether they help: every round is kept.
LENIENT = {
    **OPTIONS,
    "limits": Limits(target_loss=1e9, held_out_loss=1e9, lineage_share=1e9),
}


def content(folder: Path, *without: str) -> dict[str, bytes]:
    """Every file below a folder by its name, but for those that tell the time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (TIMING_FILE, *without)
    }


@pytest.fixture(scope="module")
def survey():
    return survey_with_offenders(100)


@pytest.fixture(scope="module")
def targets(survey):
    return declared_targets(survey)


@pytest.fixture(scope="module")
def deck(survey):
    return hot_deck(survey)


# --- The same seed --------------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from tests.microcalibrate.offenders import declared_targets, survey_with_offenders, SURFACE
from microcalibrate.regularise import Codec
from microcalibrate.regularise.acceptance import Limits
from microcalibrate.regularise.generators import make_generator
from microcalibrate.regularise.loop import regularise
LENIENT = Limits(target_loss=1e9, held_out_loss=1e9, lineage_share=1e9)
def run(folder, backend, seed, max_rounds=2, **options):
    survey = survey_with_offenders(60, 2)
    codec = Codec.fit(survey, coverage=1.0)
    rows = codec.encode(survey)
    weights = survey.base_weights.reindex(rows.index).to_numpy()
    model = make_generator(backend, **options).fit(rows, codec.columns, weights, seed=seed)
    Path(folder).mkdir(parents=True)
    model.save(Path(folder) / "model")
    regularise(
        survey, model, declared_targets(survey), codec=codec, surface=SURFACE, seed=seed,
        max_offspring=3, max_rounds=max_rounds, n_folds=2, limits=LENIENT, progress=False,
    ).save(Path(folder) / "run")
def both(folder, seed):
    run(folder + "/hotdeck", "hotdeck", seed)
    run(folder + "/anyorder", "anyorder", seed, max_rounds=1, max_epochs=2)
"""


def test_the_same_seed_gives_the_same_files_in_two_processes(tmp_path: Path) -> None:
    """Fit, draws and loop, whatever the order of hashes and the number of threads."""
    command = [sys.executable, "-c", RUN + "both(sys.argv[1], 7)", str(tmp_path / "one")]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    other_world = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2", "PYTHONPATH": path}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        process = subprocess.Popen(command, env={**os.environ, **other_world})
        try:
            here: dict[str, Any] = {}
            exec(RUN, here)
            here["both"](str(tmp_path / "two"), 7)
            here["run"](str(tmp_path / "other"), "hotdeck", 8)
        finally:
            assert process.wait(120) == 0

    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []
    assert RegulariseResult.load(tmp_path / "one" / "anyorder" / "run").changed
    other, hotdeck = content(tmp_path / "other" / "run"), content(tmp_path / "one" / "hotdeck/run")
    differs = {name for name, found in hotdeck.items() if found != other.get(name)}
    assert differs >= {"tables/person.parquet", "lineage.csv", "units.parquet"}


# --- The way back ---------------------------------------------------------------------------------


def test_a_harmful_generator_leaves_the_bytes_of_the_input(
    survey: Any, targets: Any, deck: Any, tmp_path: Path
) -> None:
    """What is saved after a run that was rolled back is the input and its marks, byte for byte."""

    def harmful(rows: Any, achieved: Any) -> Any:
        held = dict(zip(rows.columns, achieved.T, strict=True))
        changed = {}
        for name in [n for n in rows.columns if n.endswith(".wages")]:
            age = rows[name.replace("wages", "age")]
            is_adult = (age >= 16).fillna(False).astype(bool)
            changed[name] = rows[name].where(held[name] | ~is_adult, 1e9)
        return rows.assign(**changed), achieved

    found = regularise(
        survey, Stubborn(deck[0], harmful), targets, codec=deck[1], max_rounds=2, **OPTIONS
    )
    assert found.rolled_back
    found.save(tmp_path / "run")
    marked(survey).write(tmp_path / "input")
    assert content(tmp_path / "run" / "tables") == content(
        tmp_path / "input", ".microcalibrate-run"
    )
    survey.write(tmp_path / "plain")
    RegulariseResult.load(tmp_path / "run").restored().write(tmp_path / "restored")
    assert content(tmp_path / "restored") == content(tmp_path / "plain")
    before = content(tmp_path / "run" / "before")
    assert before == content(tmp_path / "run" / "after")


def test_the_input_is_restored_from_files_byte_for_byte(
    survey: Any, targets: Any, deck: Any, tmp_path: Path
) -> None:
    """Sources retained: all of it, through rounds in which offspring have offspring."""
    found = regularise(
        survey, deck[0], targets, codec=deck[1], mode="retain", batch=2, max_rounds=3, **LENIENT
    )
    assert found.lineage["round"].nunique() > 1
    assert (found.weights.reindex(survey.unit_ids) != survey.weights).all()
    found.save(tmp_path / "run")
    RegulariseResult.load(tmp_path / "run").restored().write(tmp_path / "restored")
    survey.write(tmp_path / "plain")
    assert content(tmp_path / "restored") == content(tmp_path / "plain")


def test_a_second_run_restores_what_the_first_one_gave(
    survey: Any, targets: Any, deck: Any
) -> None:
    """Generated records of an earlier run are records of its input; those it adds are not."""
    options = {**LENIENT, "mode": "retain", "max_rounds": 1}
    first = regularise(survey, deck[0], targets, codec=deck[1], batch=1, **options)
    second = regularise(
        first.survey, deck[0], targets, codec=deck[1], batch=2, **{**options, "seed": 5}
    )
    assert first.changed
    assert second.changed
    assert len(second.units) > len(first.units) > len(survey.unit_ids)
    assert same_tables(first.survey, second.restored())
    # Origins are respondents still.
    assert set(second.units["lineage"]) == set(survey.unit_ids)


def test_every_record_that_was_not_replaced_is_restored_from_files(
    survey: Any, targets: Any, deck: Any, tmp_path: Path
) -> None:
    found = regularise(survey, deck[0], targets, codec=deck[1], max_rounds=2, **LENIENT)
    found.save(tmp_path / "run")
    left = RegulariseResult.load(tmp_path / "run").restored()
    gone = sorted(set(survey.unit_ids) - set(left.unit_ids))
    assert gone == sorted(found.lineage["lineage"].unique())
    for name, table in survey.tables.items():
        rows = ~np.isin(survey.unit_of(name), gone)
        expected = table[rows].reset_index(drop=True)
        assert expected.equals(left.tables[name])
        assert (expected.dtypes == left.tables[name].dtypes).all()


# --- Stopped and taken up again -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["replace", "retain"])
def test_a_run_that_was_cancelled_ends_as_if_it_had_not_been(
    survey: Any, targets: Any, deck: Any, mode: Any, tmp_path: Path
) -> None:
    """Ctrl-C in the third round: two are kept, and with them the rest gives the same files."""
    options = {**LENIENT, "codec": deck[1], "mode": mode, "batch": 1, "max_rounds": 3}
    rounds: list[Any] = []

    def interrupted(rows: Any, achieved: Any) -> Any:
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return rows, achieved

    model = Stubborn(deck[0], interrupted)
    model.name = deck[0].name
    whole = regularise(survey, deck[0], targets, folder=tmp_path / "whole", **options)
    part = regularise(
        survey, model, targets, folder=tmp_path / "part", on_round=rounds.append, **options
    )
    assert part.stopped == "cancelled"
    assert part.changed
    assert len(part.rounds) == 2 < len(whole.rounds)
    saved = RegulariseResult.load(tmp_path / "part")
    assert same_tables(saved.survey, part.survey)
    again = regularise(survey, deck[0], targets, folder=tmp_path / "part", resume=True, **options)
    assert same_tables(whole.survey, again.survey)
    assert content(tmp_path / "part") == content(tmp_path / "whole")
    # A run that has ended is not run again.
    calls = len(rounds)
    done = regularise(
        survey, model, targets, folder=tmp_path / "part", resume=True, on_round=rounds.append,
        **options,
    )  # fmt: skip
    assert len(rounds) == calls
    assert same_tables(done.survey, whole.survey)


def test_ctrl_c_in_the_first_round_leaves_the_input(
    survey: Any, targets: Any, deck: Any, tmp_path: Path
) -> None:
    def interrupted(_rows: Any, _achieved: Any) -> Any:
        raise KeyboardInterrupt

    model = Stubborn(deck[0], interrupted)
    model.name = deck[0].name
    found = regularise(
        survey, model, targets, codec=deck[1], folder=tmp_path / "run", max_rounds=1, **LENIENT
    )
    assert (found.status, found.stopped) == ("no_rounds", "cancelled")
    assert same_tables(survey, found.restored())
    assert found.after.summary_figures["n_flagged"] == found.before.summary_figures["n_flagged"]
    options = {**LENIENT, "codec": deck[1], "max_rounds": 1}
    again = regularise(survey, deck[0], targets, folder=tmp_path / "run", resume=True, **options)
    assert same_tables(again.survey, regularise(survey, deck[0], targets, **options).survey)


def test_time_that_is_up_after_a_round_keeps_it(
    survey: Any, targets: Any, deck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that jumps; the state is that of the rounds that were run."""
    from microcalibrate.regularise import loop as loop_module

    rounds: list[Any] = []

    class Clock:
        """Seconds that only rounds take."""

        @staticmethod
        def perf_counter() -> float:
            return 100.0 * len(rounds)

    monkeypatch.setattr(loop_module, "time", Clock)
    options = {**LENIENT, "codec": deck[1], "batch": 1}
    found = regularise(
        survey, deck[0], targets, time_budget=150.0, on_round=rounds.append, **options
    )
    assert found.stopped == "time_budget"
    assert len(found.rounds) == 2
    two = regularise(survey, deck[0], targets, max_rounds=2, **options)
    assert same_tables(two.survey, found.survey)
