"""An imported table: the same values as the file, and counts that pandas confirms."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from microcalibrate.io import read_table, write_table
from microcalibrate.profiling import DataProfile, Limits, import_data
from microcalibrate.profiling import csv_batches as csv_batches_module
from microcalibrate.progress import listening

from ..published import published, validate

HOSTILE = ["<img onerror>", "=cmd()", "../x", "a\nb", "'quoted'", "ñ, with comma"]


@pytest.fixture
def people() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 3_000
    table = pd.DataFrame(
        {
            "person_id": np.arange(n) + 17,
            "household_id": np.arange(n) // 3,
            "weight": rng.gamma(2, 500, n),
            "age": rng.integers(0, 90, n),
            "region": rng.choice(["north", "south", None], n),
            "income": np.where(rng.random(n) < 0.2, np.nan, rng.normal(1_000, 2_000, n).round(2)),
            "employed": rng.random(n) < 0.5,
            "<img onerror>": rng.integers(0, 3, n),
        }
    )
    table.loc[5, "income"] = np.inf
    return table


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.feather"])
def test_the_copy_has_the_values_that_the_file_has(
    name: str, people: pd.DataFrame, tmp_path: Path
) -> None:
    """So that a command gives the same on the copy as on the file."""
    write_table(people, tmp_path / name)

    profile = import_data(tmp_path / name, tmp_path / "out")
    copy = read_table(tmp_path / "out" / "data.parquet")

    assert_frame_equal(copy, read_table(tmp_path / name), check_dtype=False)
    assert_frame_equal(read_table(tmp_path / "out" / "preview.parquet"), copy.head(100))
    assert profile.n_rows == len(people)
    assert profile.name == name


@pytest.mark.parametrize("block", [300, 16_000_000])
def test_counts_are_those_of_pandas_however_the_file_is_cut(
    block: int, people: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_batches_module, "BLOCK", block)
    write_table(people, tmp_path / "t.csv")

    table = import_data(tmp_path / "t.csv", tmp_path / "out").table.set_index("name")
    finite = people["income"].replace(np.inf, np.nan)

    assert list(table.index) == list(people.columns)
    assert table.loc["income", "n_missing"] == people["income"].isna().sum()
    assert table.loc["income", "n_negative"] == (people["income"] < 0).sum()
    assert table.loc["income", "n_infinite"] == 1
    assert table.loc["employed", "n_zero"] == (~people["employed"]).sum()
    assert table.loc["age", "n_zero"] == (people["age"] == 0).sum()
    assert_allclose(table.loc["income", ["min", "max", "mean"]].astype(float),
                    [finite.min(), finite.max(), finite.mean()])  # fmt: skip
    assert table.loc["age", "n_levels"] == people["age"].nunique()
    assert table.loc["region", "n_missing"] == people["region"].isna().sum()


@pytest.mark.parametrize("block", [60, 16_000_000])
def test_levels_are_exact_up_to_the_cap_and_said_to_be_more_above(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_batches_module, "BLOCK", block)
    codes = np.repeat(np.arange(10), np.arange(10) + 1)
    write_table(pd.DataFrame({"code": codes, "x": np.arange(len(codes))}), tmp_path / "t.csv")

    for cap, n_levels, capped in ((10, 10, False), (9, 9, True)):
        profile = import_data(tmp_path / "t.csv", tmp_path / "out", limits=Limits(levels=cap))
        column = profile.columns[0]
        assert (column.n_levels, column.levels_capped) == (n_levels, capped)
        assert column.levels == (() if capped else tuple((k, k + 1) for k in range(9, -1, -1)))


def test_roles_follow_from_names_and_values_and_come_with_a_reason(
    people: pd.DataFrame, tmp_path: Path
) -> None:
    write_table(people, tmp_path / "t.parquet")

    columns = import_data(tmp_path / "t.parquet", tmp_path / "out").columns

    assert {column.name: column.role for column in columns} == {
        "person_id": "id",
        "household_id": "link",
        "weight": "weight",
        "age": "number",
        "region": "category",
        "income": "number",
        "employed": "category",
        "<img onerror>": "category",
    }
    assert all(column.reason for column in columns)


def test_the_type_of_a_column_is_that_of_all_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late text, a late fraction or a late long number is not too late."""
    monkeypatch.setattr(csv_batches_module, "BLOCK", 500)
    lines = ["0,0,0,1,true,,0.5"]
    lines += [f"{i},{i},{i},0{i % 7},true,,{i}" for i in range(1, 1_000)]
    lines += ["x7,0.5,98765432109876543210,1,TRUE,,7"]
    (tmp_path / "t.csv").write_text("late,half,long,fips,yes,none,early\n" + "\n".join(lines))

    profile = import_data(tmp_path / "t.csv", tmp_path / "out")
    copy = read_table(tmp_path / "out" / "data.parquet")

    types = {column.name: column.type for column in profile.columns}
    assert types == {
        "late": "text",
        "half": "number",
        "long": "text",
        "fips": "integer",
        "yes": "truth value",
        "none": "number",
        "early": "number",
    }
    assert copy["long"].iloc[-1] == "98765432109876543210"
    said = "\n".join(profile.problems)
    assert "1 of its 1,001 values are no numbers, the first of them 'x7' in record 1,001" in said
    assert "more than 18 digits" in said
    assert "'fips' has numbers written with zeros before them" in said
    assert "'none' has no value in any record" in said


def test_problems_are_named(tmp_path: Path) -> None:
    text = (
        "id,wt,x,x\n1,-1,1,2\n2,0,,2\n" + "".join(f"{i},1,1,2\n" for i in range(3, 42)) + "3,,1,2"
    )
    (tmp_path / "t.csv").write_text(text)

    profile = import_data(tmp_path / "t.csv", tmp_path / "out")

    said = "\n".join(profile.problems)
    assert "'wt' looks like a weight and is negative in 1 record" in said
    assert "'wt' looks like a weight and is missing in 1 record" in said
    assert "'wt' looks like a weight and is zero in 1 record" in said
    assert "42 records have 41 different values" in said
    assert "The name 'x' stands more than once" in said
    assert "'x' is missing in 1 of 42 records" in said
    assert [column.name for column in profile.columns] == ["id", "wt", "x", "x (2)"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=True)),
            st.integers(-(2**62), 2**62),
            st.sampled_from([*HOSTILE, "7", "x"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_any_table_comes_through_a_csv_file_unchanged(
    tmp_path: Path, rows: list[tuple[float | None, int, str]]
) -> None:
    table = pd.DataFrame(rows, columns=["<b>", "=1+1", "../text"])
    table["<b>"] = table["<b>"].astype(float)
    table["../text"] = table["../text"] + "!"
    table.to_csv(tmp_path / "t.csv", index=False)

    profile = import_data(tmp_path / "t.csv", tmp_path / "out")

    copy = read_table(tmp_path / "out" / "data.parquet")
    assert_frame_equal(copy, table, check_dtype=False, check_exact=True)
    jsonschema.validate(profile.to_json(), published("profile"))


def test_a_saved_profile_is_loaded_and_of_the_published_form(
    people: pd.DataFrame, tmp_path: Path
) -> None:
    write_table(people, tmp_path / "t.csv")

    profile = import_data(tmp_path / "t.csv", tmp_path / "out", name="My <people>")

    assert DataProfile.load(tmp_path / "out") == profile
    assert profile.name == "My <people>"
    validate("profile", tmp_path / "out" / "profile.json")


def test_an_import_can_be_cancelled_and_leaves_nothing(
    people: pd.DataFrame, tmp_path: Path
) -> None:
    write_table(people, tmp_path / "t.csv")
    told = []

    def cancel(update: object) -> None:
        told.append(update)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(cancel):
        import_data(tmp_path / "t.csv", tmp_path / "out")

    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_names_that_look_like_paths_or_code_stay_names(tmp_path: Path) -> None:
    pd.DataFrame([[1] * len(HOSTILE)], columns=HOSTILE).to_csv(tmp_path / "t.csv", index=False)

    profile = import_data(tmp_path / "t.csv", tmp_path / "out")

    assert [column.name for column in profile.columns] == HOSTILE
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "t.csv"]
