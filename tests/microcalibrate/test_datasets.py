"""The example data: what they promise, and that both halves fit together."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate.datasets import load_cps, load_us_targets
from microcalibrate.targets import build_targets

N_STATES = 51


@pytest.fixture(scope="module")
def cps() -> Any:
    return load_cps()


@pytest.fixture(scope="module")
def table() -> Any:
    return load_us_targets()


def test_the_sample_stands_for_the_whole_file(cps: Any) -> None:
    """Totals of the 280,005 tax units of the file, computed from it before the draw."""
    whole = {"n_persons": 389_735_172, "agi": 14_279_377_642_424}

    assert_allclose(cps["weight"].sum(), 212_283_534, rtol=0.01)
    assert_allclose((cps["weight"] * cps["n_persons"]).sum(), whole["n_persons"], rtol=0.01)
    assert_allclose((cps["weight"] * cps["agi"]).sum(), whole["agi"], rtol=0.01)


def test_the_sample_is_a_clean_table(cps: Any) -> None:
    assert len(cps) == 25_000
    assert cps["record_id"].is_unique
    assert not cps.isna().any().any()
    assert (cps["weight"] > 0).all()
    assert cps["state"].nunique() == N_STATES
    assert cps["state"].value_counts().min() > 100
    assert set(cps["filing_status"]) == {"single", "joint", "separate", "head_of_household"}
    assert (cps["n_children"] <= cps["n_persons"]).all()
    assert cps["age_head"].between(0, 85).all()
    assert (cps["qualified_dividends"] <= cps["dividends"] + 1).all()


def test_products_of_columns_do_not_overflow(cps: Any) -> None:
    assert (cps.select_dtypes("number").dtypes.isin([np.dtype("int64"), np.dtype("f8")])).all()


def test_filing_is_what_the_documentation_says(cps: Any) -> None:
    """Rounding to whole dollars may move a record over the edge, but hardly any."""
    files_return = (
        (cps["agi"] > cps["standard_deduction"]) | (cps["income_tax"] != 0) | (cps["eitc"] != 0)
    )

    assert (files_return == cps["is_filer"]).mean() > 0.999


def test_the_targets_are_facts_with_a_source(table: Any) -> None:
    assert table["name"].is_unique
    assert table["source"].str.match("IRS, |USDA |US Census").all()
    assert set(table["year"]) == {2022, 2023, 2024}
    assert (table["value"] > 0).all()
    by_state = table[table["family"].str.endswith("_by_state")]
    assert (by_state["family"].value_counts() == N_STATES).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("population_by_state/CA", 38_965_193),
        ("returns_by_status/joint", 54_568_939),
        ("totals/wages", 10_204_100_000_000),
    ],
)
def test_published_numbers_are_those_of_the_publication(table: Any, name: str, value: int) -> None:
    """Census Bureau, Vintage 2023; IRS, Publication 1304, Tables 1.2 and 1.4, wages rounded."""
    assert_allclose(table.set_index("name")["value"][name], value, rtol=1e-5)


def test_the_parts_of_the_nation_sum_to_the_nation(table: Any) -> None:
    totals = table.groupby("family")["value"].sum()

    # The Census Bureau counted 334,914,895 residents, the IRS 160,602,107 returns.
    assert totals["population_by_state"] == 334_914_895
    assert abs(totals["returns_by_status"] - 160_602_107) <= 2
    assert abs(totals["agi_by_status"] - 15_286_017_359_000) <= 2_000


def test_every_target_is_within_reach_of_the_sample(cps: Any, table: Any) -> None:
    """Same variables: at design weights each estimate is between a third and thrice its target."""
    targets = build_targets(cps, table, initial_weights=cps["weight"])

    ratio = (targets.matrix.T @ cps["weight"].to_numpy()) / targets.values

    assert targets.matrix.shape == (25_000, len(table))
    assert np.abs(np.log(ratio)).max() < np.log(3)
    assert np.median(np.abs(ratio - 1)) < 0.2


def test_the_data_are_small_and_carry_their_source() -> None:
    folder = files("microcalibrate.datasets")

    assert len((folder / "cps_2023.parquet").read_bytes()) < 3e6
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    assert "CC0" in source
    assert "Publication 1304" in source


@pytest.mark.parametrize("module", ["datasets", "targets", "expressions", "io"])
def test_importing_does_not_import_pandas(module: str) -> None:
    code = f"import sys, microcalibrate.{module}; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
