"""Replicates: factors, recalibration, what is kept and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration, progress
from microcalibrate.engine.resolving import Resolver
from microcalibrate.errors import InfeasibleReplicate, InvalidOption, InvalidReplicates
from microcalibrate.inference import (
    DesignVarianceWarning,
    ReplicateWeights,
    Replication,
    SurveyDesign,
    estimate,
    mean,
    replicate_weights,
    total,
)
from microcalibrate.inference.variance import variance_of_totals

from .surveys import calibrated, people

DESIGN = SurveyDesign(psu="cluster", strata="stratum")


def halves(data: pd.DataFrame) -> pd.DataFrame:
    """The same persons with two clusters in each stratum."""
    return data.assign(stratum=data["cluster"] // 2)


def variance_of_total(design: SurveyDesign, data: pd.DataFrame) -> float:
    contributions = (data["weight"] * data["income"]).to_numpy()[:, None]
    return float(variance_of_totals(contributions, design.bind(data, len(data)))[0, 0])


@pytest.mark.parametrize("fpc", [None, "size"])
@pytest.mark.parametrize("strata", [None, "stratum"])
def test_the_jackknife_of_a_total_is_its_linearised_variance(strata: Any, fpc: Any) -> None:
    data = people()
    data["size"] = 60 if strata is None else 25
    design = SurveyDesign(psu="cluster", strata=strata, fpc=fpc)
    made = Replication.jackknife(design, data).weights(data["weight"])

    assert made.type == ("JK1" if strata is None else "JKn")
    assert_allclose(
        made.standard_error(total("income"), data) ** 2, variance_of_total(design, data)
    )


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_balanced_half_samples_of_a_total_have_its_linearised_variance(rho: float) -> None:
    data = halves(people())
    made = Replication.balanced(DESIGN, data, rho=rho)
    weights = made.weights(data["weight"])

    assert made.n_replicates == 32
    assert_allclose(made.factors.mean(axis=1), 1)
    assert_allclose(
        weights.standard_error(total("income"), data) ** 2, variance_of_total(DESIGN, data)
    )


@pytest.mark.parametrize("fpc", [None, "size"])
def test_the_bootstrap_of_a_total_tends_to_its_linearised_variance(fpc: Any) -> None:
    data = people()
    data["size"] = 20
    design = SurveyDesign(psu="cluster", strata="stratum", fpc=fpc)
    drawn = Replication.bootstrap(design, data, n_replicates=4_000, seed=1)
    error = drawn.weights(data["weight"]).standard_error(total("income"), data)

    assert_allclose(drawn.factors.mean(axis=1), 1, atol=0.1)
    assert_allclose(error**2, variance_of_total(design, data), rtol=0.1)
    if fpc is None:
        # Each replicate draws n - 1 of the n units of a stratum.
        assert_allclose(drawn.factors.reshape(4, 10, -1).sum(axis=1), 10)


def test_the_same_seed_draws_the_same_replicates() -> None:
    data = people()
    first, again, other = (
        Replication.bootstrap(DESIGN, data, n_replicates=5, seed=seed).factors for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_groups_are_left_out_where_units_are_too_many() -> None:
    made = Replication.jackknife(SurveyDesign(), n_records=1_000, n_groups=50)
    assert made.factors.shape == (50, 50)
    counts = np.bincount(made.unit)
    assert counts.min() == counts.max() == 20
    with pytest.raises(InvalidReplicates, match="n_groups=100"):
        Replication.jackknife(SurveyDesign(), n_records=60_000)


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda d: Replication.balanced(DESIGN, d), InvalidReplicates, "10 sampled units"),
        (lambda d: Replication.balanced(DESIGN, d, rho=1.0), InvalidOption, "rho=1.0"),
        (lambda d: Replication.bootstrap(DESIGN, d, n_replicates=1), InvalidOption, "at least 2"),
        (lambda d: Replication.jackknife(DESIGN, d, n_groups=5), InvalidOption, "n_groups="),
        (lambda _: Replication.bootstrap(DESIGN), InvalidOption, "n_records="),
        (
            lambda d: Replication.bootstrap(SurveyDesign(strata="cluster", psu="cluster"), d),
            InvalidReplicates,
            "has one sampled unit",
        ),
        (
            lambda d: Replication.balanced(
                SurveyDesign(psu="cluster", strata="stratum", fpc="size"), halves(d)
            ),
            InvalidReplicates,
            "no finite population correction",
        ),
    ],
)
def test_designs_that_cannot_be_replicated_so_are_refused(
    make: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        make(people())


# --- Calibrated anew ------------------------------------------------------------------------------


def test_every_replicate_meets_the_targets() -> None:
    data = people()
    made = calibrated(data, distance="raking")
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=30)
    found = replicate_weights(made, drawn, progress=False)

    for weights in found.weights.T:
        assert_allclose(made.problem.estimates(weights), made.problem.targets, rtol=1e-8)
    assert_allclose(found.full, made.weights)


def test_linearised_and_jackknife_errors_agree() -> None:
    data = people(n_clusters=160)
    asked = [mean("income"), total("tax")]
    for options in ({}, {"tolerances": np.nan, "closeness": 1e-2}, {"distance": "raking"}):
        made = calibrated(data, **options)
        jackknife = replicate_weights(made, Replication.jackknife(DESIGN, data), progress=False)
        by_replicates = estimate(made, asked, data, replicates=jackknife).table
        linearised = estimate(made, asked, data, design=DESIGN).table
        assert_allclose(by_replicates["standard_error"], linearised["standard_error"], rtol=0.03)
        assert by_replicates["degrees_of_freedom"].tolist() == [156, 156]


def test_threads_give_the_same_weights() -> None:
    data = people()
    made = calibrated(data, tolerances=[0.0, np.nan, 0.01])
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=70)
    alone = replicate_weights(made, drawn, progress=False)
    together = replicate_weights(made, drawn, progress=False, n_jobs=3)
    assert np.array_equal(alone.weights, together.weights)


def test_chosen_records_stay_the_same_in_all_replicates() -> None:
    data = people(n_clusters=100)
    made = calibrated(data, tolerances=np.nan, target_records=120)
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=10)
    found = replicate_weights(made, drawn, progress=False)

    assert not found.weights[made.weights == 0].any()
    kept = (made.weights > 0) & (found.weights > 0).any(axis=1)
    assert kept.sum() == 120


def test_a_replicate_in_which_targets_cannot_hold_is_named_or_dropped() -> None:
    data = people(n_clusters=12).assign(stratum=0)
    made = calibrated(data, min_weight_ratio=0.97, max_weight_ratio=1.3)
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=25)
    with pytest.raises(InfeasibleReplicate, match=r"replicate [0-9]+: .*on_failure"):
        replicate_weights(made, drawn, progress=False)
    with pytest.warns(DesignVarianceWarning, match="of 25 replicates were left out"):
        found = replicate_weights(made, drawn, progress=False, on_failure="drop")

    n_left = 25 - len(found.failed)
    assert 2 <= n_left < 25
    assert found.n_replicates == n_left == len(found.rscales)
    assert_allclose(found.scale, 1 / (n_left - 1))
    with pytest.raises(InvalidOption, match="bootstrap"):
        replicate_weights(
            made, Replication.jackknife(DESIGN, data), progress=False, on_failure="drop"
        )


def test_where_targets_hold_in_no_replicate_that_is_said() -> None:
    """The half that is drawn would have to weigh as much as all, at no more than the design."""
    data = people(n_clusters=12).assign(stratum=0)
    people_only = np.ones((len(data), 1))
    made = Calibration(
        data["weight"], [data["weight"].sum()], people_only, tolerances=0, max_weight_ratio=1.0001
    )
    made.calibrate(progress=False)
    halves = ReplicateWeights(
        full=data["weight"].to_numpy(),
        weights=np.column_stack([data["weight"] / 2, data["weight"] / 2]),
        scale=1.0,
        rscales=np.ones(2),
        type="bootstrap",
        freedom=1,
    )
    with pytest.raises(InvalidReplicates, match=r"cannot hold in 2 of 2 replicates.*soft"):
        replicate_weights(made, Replication.of_weights(halves), progress=False, on_failure="drop")


# --- Cancelled and gone on with -------------------------------------------------------------------


def test_a_cancelled_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microcalibrate.engine.batch_newton.BLOCK", 800)
    data = people()
    made = calibrated(data)
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=40)
    told: list[progress.Update] = []

    def cancel(update: progress.Update) -> None:
        told.append(update)
        if update.done >= 15:
            raise KeyboardInterrupt

    with progress.listening(cancel), pytest.raises(KeyboardInterrupt):
        replicate_weights(made, drawn, progress=False, folder=tmp_path / "parts")
    assert (told[-1].activity, told[-1].done, told[-1].total) == ("replicates", 15, 40)
    kept = sorted((tmp_path / "parts").glob("*.npy"))
    assert len(kept) == 3
    times = [one.stat().st_mtime_ns for one in kept]
    solved = []
    outcomes = Resolver.outcomes

    def counted(self: Resolver, factors: np.ndarray) -> Any:
        solved.append(factors.shape[1])
        return outcomes(self, factors)

    monkeypatch.setattr(Resolver, "outcomes", counted)
    found = replicate_weights(made, drawn, progress=False, folder=tmp_path / "parts")
    assert sum(solved) == 40 - 15
    assert np.array_equal(found.weights, replicate_weights(made, drawn, progress=False).weights)
    assert [one.stat().st_mtime_ns for one in kept] == times


def test_replicates_of_another_calibration_are_not_gone_on_with(tmp_path: Path) -> None:
    data = people()
    drawn = Replication.bootstrap(DESIGN, data, n_replicates=4)
    replicate_weights(calibrated(data), drawn, progress=False, folder=tmp_path / "parts")
    with pytest.raises(InvalidReplicates, match="another calibration"):
        replicate_weights(
            calibrated(data, distance="raking"),
            drawn,
            progress=False,
            folder=tmp_path / "parts",
        )


# --- Wide tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wide.parquet", "wide.csv", "wide.csv.gz"])
def test_a_wide_table_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    data = people()
    made = Replication.jackknife(DESIGN, data).weights(data["weight"])
    path = made.save(tmp_path / name, record_ids=np.arange(len(data)), prefix="repwgt")
    again = ReplicateWeights.load(path)

    assert np.array_equal(again.weights, made.weights)
    assert np.array_equal(again.full, made.full)
    assert np.array_equal(again.rscales, made.rscales)
    assert (again.type, again.scale, again.freedom) == (made.type, made.scale, made.freedom)


def test_columns_of_other_software_are_found_by_their_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.uniform(1, 2, (9, 12)), columns=[f"PWGTP{k}" for k in range(12, 0, -1)])
    wide["PWGTP"] = 1.5
    wide["PWGTPX"] = 0.0
    wide.to_csv(tmp_path / "pums.csv", index=False)
    found = ReplicateWeights.load(
        tmp_path / "pums.csv", weight="PWGTP", replicates="PWGTP*", type="SDR"
    )

    assert_allclose(found.weights[:, 1], wide["PWGTP2"])
    assert_allclose(found.weights[:, 11], wide["PWGTP12"])
    assert found.scale == 4 / 12
    totals = found.weights.sum(axis=0)
    assert_allclose(found.standard_error(np.sum), np.sqrt(4 / 12 * ((totals - 13.5) ** 2).sum()))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "is not known: give type="),
        ({"type": "other"}, "does not say the scale"),
        ({"type": "JKn"}, "needs rscales="),
        ({"type": "JK1", "weight": "w"}, 'no column "w"'),
        ({"type": "JK1", "replicates": "x*"}, '0 columns are called "x'),
        ({"type": "JK1", "replicates": "r"}, r"one name with a \*"),
        ({"type": "JK1", "replicates": ["r1", "q"]}, 'no column "q"'),
        ({"type": "JK1", "replicates": ["r1", "gap"]}, '"gap" is missing or infinite in 1'),
        ({"type": "JK1", "replicates": ["r1", "text"]}, '"text" does not hold numbers'),
    ],
)
def test_tables_that_do_not_say_enough_are_refused(options: dict[str, Any], what: str) -> None:
    table = pd.DataFrame(
        {"weight": [1.0, 1], "r1": [0.0, 2], "r2": [2.0, 0], "gap": [1, None], "text": ["a", "b"]}
    )
    with pytest.raises(InvalidReplicates, match=what):
        ReplicateWeights.load(table, **{"replicates": "r*", **options})


def test_replicates_of_other_weights_are_refused() -> None:
    data = people()
    made = calibrated(data)
    base = Replication.jackknife(DESIGN, data).weights(data["weight"])
    with pytest.raises(InvalidReplicates, match="not of these weights"):
        estimate(made, mean("income"), data, replicates=base)
    with pytest.raises(InvalidReplicates, match="negative"):
        Replication.of_weights(
            ReplicateWeights(base.full, -base.weights, 1.0, base.rscales, "other", 3)
        )
