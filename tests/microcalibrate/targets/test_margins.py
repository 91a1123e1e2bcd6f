"""Margins: every way of writing them gives the same targets, and contradictions are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from microcalibrate import Calibration, margins
from microcalibrate.errors import CalibrationError
from microcalibrate.targets.formula import terms_of

RNG = np.random.default_rng(5)
N = 500
PEOPLE = pd.DataFrame(
    {
        "weight": RNG.uniform(1, 3, N),
        "sex": RNG.choice(["f", "m"], N),
        "age": RNG.choice(["old", "young"], N),
        "region": RNG.choice(["north", "south", "west"], N),
        "children": RNG.integers(0, 3, N),
        "rooms": RNG.integers(1, 6, N),
    }
)
SEX = {"f": 520.0, "m": 480.0}
CROSS = {
    ("old", "north"): 150.0, ("old", "south"): 120.0, ("old", "west"): 80.0,
    ("young", "north"): 250.0, ("young", "south"): 230.0, ("young", "west"): 170.0,
}  # fmt: skip
KNOWN: dict[Any, Any] = {"sex": SEX, ("age", "region"): CROSS}


def long_table(known: dict[Any, Any]) -> pd.DataFrame:
    rows = [
        (name if isinstance(name, str) else ":".join(name),
         level if isinstance(level, str) else ":".join(level), total)
        for name, levels in known.items() for level, total in levels.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["variable", "level", "total"])


def test_all_ways_of_writing_margins_give_the_same_table() -> None:
    first = margins(PEOPLE, KNOWN)
    turned = {(region, age): total for (age, region), total in CROSS.items()}
    size = sum(SEX.values())
    fractions = {
        name: {level: total / size for level, total in levels.items()}
        for name, levels in KNOWN.items()
    }
    others = [
        margins(PEOPLE, long_table(KNOWN)),
        margins(PEOPLE, pl.from_pandas(long_table(KNOWN).sample(frac=1, random_state=1))
                .sort("variable", descending=True)),
        margins(PEOPLE, "~ sex + age:region", totals=KNOWN),
        margins(PEOPLE, "~ sex + age:region", totals=long_table(KNOWN)),
        margins(PEOPLE, "sex + age:region", totals={"sex": SEX, ("region", "age"): turned}),
        margins(PEOPLE, fractions, total=size),
        margins(pl.from_pandas(PEOPLE), KNOWN),
    ]  # fmt: skip

    for other in others:
        assert_frame_equal(first, other)


def test_raking_to_them_gives_the_sums_and_the_form_of_iterative_fitting() -> None:
    """The answer of iterative proportional fitting, computed here by its own two lines."""
    weights = Calibration.from_table(
        PEOPLE, margins(PEOPLE, KNOWN), tolerances=0, distance="raking"
    ).calibrate()
    fitted = PEOPLE["weight"].to_numpy().copy()
    cells = list(zip(PEOPLE["age"], PEOPLE["region"], strict=True))
    for _ in range(200):
        for labels, totals in ((PEOPLE["sex"].tolist(), SEX), (cells, CROSS)):
            sums = pd.Series(fitted).groupby(pd.Index(labels, tupleize_cols=False)).sum()
            fitted *= [totals[label] / sums[label] for label in labels]

    assert_allclose(weights, fitted, rtol=1e-7)


def test_a_larger_survey_lends_its_totals_and_a_variable_is_added_up() -> None:
    rows = margins(PEOPLE, "~ sex * children", variable="rooms", weight="weight")
    by_sex = (PEOPLE["rooms"] * PEOPLE["weight"]).groupby(PEOPLE["sex"]).sum()

    assert rows["family"].unique().tolist() == [
        "rooms/sex", "rooms/children", "rooms/sex:children",
    ]  # fmt: skip
    assert_allclose(rows.set_index("name")["value"][["rooms/sex/f", "rooms/sex/m"]], by_sex)
    assert margins(PEOPLE, "sex")["value"].isna().all()


def test_whole_numbers_are_levels_however_they_are_written() -> None:
    levels = {0: 300.0, 1: 400.0, 2: 300.0}
    data = PEOPLE.assign(children=PEOPLE["children"].astype(float))
    as_text = long_table({"children": {str(level): total for level, total in levels.items()}})

    assert_frame_equal(
        margins(data, {"children": levels})[["name", "value"]],
        margins(PEOPLE, as_text)[["name", "value"]],
    )


def test_margins_that_differ_are_scaled_to_the_first_where_that_is_asked() -> None:
    known = {"sex": SEX, "age": {"old": 700.0, "young": 1300.0}}

    rows = margins(PEOPLE, known, rescale=True)

    assert_allclose(rows["value"], [520, 480, 350, 650])


@pytest.mark.parametrize(
    ("given", "options", "part"),
    [
        ({"sex": SEX, "age": {"old": 400, "young": 610}}, {},
         "'sex' and 'age' contradict each other: they sum to 1,000 and 1,010, a difference of -10"),
        ({"age": {"old": 360, "young": 640}, ("age", "region"): CROSS}, {},
         "for age 'old': they sum to 360 and 350, a difference of 10"),
        ({("region", "sex"): {(r, s): 1 for r in ("north", "south", "west") for s in "fm"},
          ("age", "region"): {**dict.fromkeys(CROSS, 1.0), ("old", "west"): 2.0}}, {},
         "for region 'west': they sum to 2 and 3"),
        ({"sex": {"f": 1.0}}, {}, "have the level 'm', which has no total"),
        ({"sex": {**SEX, "x": 5}}, {}, "no record contributes to the level 'x', whose total is 5"),
        ({"sex": {"f": 52, "m": 48}}, {"total": 1000}, "sum to 100, not to 1"),
        ({"sex": {"f": 52, "m": -1}}, {}, "must be finite and not negative"),
        ({("age", "region"): {"old": 1}}, {}, "has 1 parts for 2 columns"),
        ({"gender": SEX}, {}, "no column 'gender'"),
        ({"sex": SEX}, {"totals": {"sex": SEX}}, "holds totals already"),
        ("~ sex", {"totals": KNOWN}, "the margin 'age:region', which the formula does not ask"),
        ("~ sex + age", {"totals": {"sex": SEX}}, "no totals for the margin 'age'"),
        ("~ sex", {"total": 5.0}, "total is about totals that are given"),
        ("~ sex", {"rescale": True}, "rescale is about totals that are given"),
        ("~ sex +", {}, "ends where a column is expected"),
        ("~ sex age", {}, "cannot be read at 'age'"),
        ("~ 1 + sex", {}, "cannot be read at '1 + sex'"),
        ([("sex", "f", 1)], {}, "give a formula, a dictionary"),
        (long_table({"sex": SEX}).iloc[[0, 0, 1]], {}, "'f' stands twice"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(given: Any, options: dict[str, Any], part: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        margins(PEOPLE, given, **options)

    assert part in str(caught.value)


def test_records_without_a_level_are_an_error() -> None:
    with pytest.raises(CalibrationError, match=r"'sex': 3 records have no value"):
        margins(PEOPLE.assign(sex=PEOPLE["sex"].mask(PEOPLE.index < 3)), {"sex": SEX})


@pytest.mark.parametrize(
    ("formula", "terms"),
    [
        ("a*b*c", ["a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"]),
        ("a:b + b:a + a", ["a:b", "a"]),
        ("a:b*c", ["a:b", "c", "a:b:c"]),
        ("`two words` : b", ["two words:b"]),
    ],
)
def test_formulas_are_read_as_in_r(formula: str, terms: list[str]) -> None:
    assert [":".join(term) for term in terms_of(formula)] == terms
