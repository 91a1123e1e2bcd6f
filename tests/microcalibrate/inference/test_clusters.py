"""Standard errors where all records of a cluster have one ratio: persons of a household."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.errors import InvalidDesign, InvalidEstimand, InvalidReplicates
from microcalibrate.inference import (
    DesignVarianceWarning,
    Replication,
    SurveyDesign,
    count,
    estimate,
    mean,
    ratio,
    replicate_weights,
    total,
    weighted_residuals,
)
from microcalibrate.inference.variance import variance_of_totals

from .surveys import calibrated, columns_of, people

PSU = SurveyDesign(psu="cluster", strata="stratum")
ASKED = [total("income"), ratio("tax", "income"), count()]


def persons(n_clusters: int = 60) -> pd.DataFrame:
    """Persons in households of one to three, of which some lie in each cluster."""
    data = people(3, n_clusters)
    place = np.arange(len(data)) % 4
    data["home"] = data["cluster"] * 2 + (place > 0)
    weight = data.groupby("home")["weight"].transform("first")
    return data.assign(weight=weight, one=1.0, woman=(data["sex"] == "f") * 1.0)


def homes_of(data: pd.DataFrame) -> pd.DataFrame:
    """A row per household with the means of its members, and the sum of their weights."""
    means = data.groupby("home")[["income", "tax", "age", "one", "woman"]].mean()
    rest = data.groupby("home")[["cluster", "stratum"]].first()
    size = data.groupby("home")["one"].sum()
    weight = data.groupby("home")["weight"].sum()
    return means.join(rest).assign(size=size, weight=weight).reset_index()


def both(data: pd.DataFrame, **options: Any) -> tuple[Calibration, Calibration]:
    """Persons with one ratio per household, and the households themselves."""
    homes = homes_of(data)
    columns = ["one", "woman", "age"]
    totals = data[columns].to_numpy().T @ data["weight"].to_numpy() * [1.05, 1.02, 1.08]
    given = {"target_names": ["persons", "women", "age"], **options}
    made = Calibration(
        data["weight"], totals, data[columns], cluster=data["home"],
        heteroscedasticity=data.groupby("home")["one"].transform("sum"), **given
    )  # fmt: skip
    other = Calibration(
        homes["weight"],
        totals,
        homes[columns].to_numpy(),
        heteroscedasticity=homes["size"],
        **given,
    )
    for one in (made, other):
        one.calibrate(progress=False)
    return made, other


@pytest.mark.parametrize("residuals", ["design", "optimum"])
@pytest.mark.parametrize(
    "options",
    [
        {"tolerances": 0.0, "distance": "raking"},
        {"tolerances": 0.0, "min_weight_ratio": 0.9, "max_weight_ratio": 1.2},
        {"tolerances": [0.0, np.nan, 0.01], "closeness": 0.1},
        {"tolerances": 0.0, "target_records": 70, "seed": 3},
        {"tolerances": [0.0, np.nan, np.nan], "target_records": 50, "seed": 3},
    ],
)
def test_persons_with_one_ratio_have_the_errors_of_their_households(
    options: dict[str, Any], residuals: str
) -> None:
    """The means of households make the same estimates, in a table with a row for each."""
    data = persons()
    made, other = both(data, **options)
    errors = {"women": 300.0, "age": 9000.0}
    asked = [total("income"), ratio("tax", "income"), total("one")]
    ours, theirs = (
        estimate(one, asked, table, design=PSU, residuals=residuals, target_errors=errors).table
        for one, table in ((made, data), (other, homes_of(data)))
    )

    for column in ("estimate", "standard_error", "sampling_error", "target_error", "lower"):
        assert_allclose(ours[column], theirs[column], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("options", [{"distance": "raking"}, {"target_records": 25}])
def test_replicates_have_one_ratio_per_household_and_meet_the_targets(
    options: dict[str, Any],
) -> None:
    data = persons(16)
    made, other = both(data, tolerances=0.0, **options)
    replicates, of_homes = (
        replicate_weights(one, Replication.jackknife(PSU, table), progress=False)
        for one, table in ((made, data), (other, homes_of(data)))
    )
    homes = homes_of(data)
    first = homes["home"].searchsorted(data["home"])
    shared = of_homes.weights[first] / homes["size"].to_numpy()[first, None]

    assert_allclose(replicates.weights, shared, rtol=1e-7)
    assert_allclose(replicates.full, made.weights, rtol=1e-12)
    sums = made.problem.estimate_matrix.T @ replicates.weights
    assert_allclose(sums / made.problem.targets[:, None], 1, rtol=1e-8)


def test_a_replicate_is_a_calibration_of_its_own() -> None:
    data = persons(12).assign(weight=lambda d: d["weight"] * (1 + 0.3 * (d["age"] > 50)))
    made = calibrated(data, cluster=data["home"])
    drawn = Replication.bootstrap(PSU, data, n_replicates=3, seed=1)
    found = replicate_weights(made, drawn, progress=False)
    for number in range(3):
        weights = data["weight"].to_numpy() * drawn.of(number)
        alone = Calibration(
            weights, made.problem.targets, columns_of(data), tolerances=0, cluster=data["home"]
        )
        assert_allclose(alone.calibrate(progress=False), found.weights[:, number], rtol=1e-6)


def test_a_folder_goes_on_where_it_was(tmp_path: Any) -> None:
    data = persons(12)
    made = calibrated(data, cluster=data["home"])
    drawn = Replication.jackknife(PSU, data)
    first = replicate_weights(made, drawn, folder=tmp_path, progress=False)
    again = replicate_weights(made, drawn, folder=tmp_path, progress=False)
    other = calibrated(data, cluster=data["cluster"])

    np.testing.assert_array_equal(first.weights, again.weights)
    with pytest.raises(InvalidReplicates, match="another calibration"):
        replicate_weights(other, drawn, folder=tmp_path, progress=False)


def test_what_was_calibrated_to_has_no_error() -> None:
    data = persons()
    found = estimate(
        calibrated(data, cluster=data["home"]), [count(), total("age"), mean("age")], data,
        design=PSU,
    ).table  # fmt: skip

    assert_allclose(found["standard_error"] / found["estimate"], 0, atol=1e-9)


def test_without_a_design_clusters_count_as_drawn_each_on_its_own() -> None:
    data = persons()
    made = calibrated(data, cluster=data["home"])
    with pytest.warns(DesignVarianceWarning, match="clusters drawn each on its own"):
        found = estimate(made, ASKED, data).table
    expected = estimate(made, ASKED, data, design=SurveyDesign(psu="home")).table

    pd.testing.assert_frame_equal(found, expected)


def test_clusters_of_one_record_are_records() -> None:
    data = persons()
    alone, plain = calibrated(data, cluster=np.arange(len(data))), calibrated(data)
    one, other = (estimate(made, ASKED, data, design=PSU).table for made in (alone, plain))

    pd.testing.assert_frame_equal(one, other, rtol=1e-9)


def test_units_that_tear_clusters_apart_are_refused() -> None:
    data = persons().assign(person=lambda d: np.arange(len(d)))
    made = calibrated(data, cluster=data["home"])
    with pytest.raises(InvalidDesign, match=r"records 1 and 2 are of one cluster.*psu="):
        estimate(made, ASKED, data, design=SurveyDesign(strata="stratum"))
    with pytest.raises(InvalidReplicates, match=r"record 2 has other factors.*psu="):
        replicate_weights(
            made, Replication.jackknife(SurveyDesign(psu="person"), data), progress=False
        )


def test_weighted_residuals_of_clusters_make_their_standard_errors() -> None:
    data = persons()
    made = calibrated(data, cluster=data["home"], tolerances=np.nan, closeness=0.05)
    found = weighted_residuals(made, ASKED, data)
    variance = variance_of_totals(found.to_numpy(), PSU.bind(data, len(data)))
    expected = estimate(made, ASKED, data, design=PSU)

    assert list(found) == list(expected.table["statistic"])
    assert_allclose(variance, expected.covariance, rtol=1e-9)
    with pytest.raises(InvalidEstimand, match="asked for twice"):
        weighted_residuals(made, [count(), count()], data)
