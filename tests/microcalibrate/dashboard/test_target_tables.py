"""Targets come in as people have them, and go out as the command line reads them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("streamlit")

from hypothesis import given
from hypothesis import strategies as st

from microcalibrate.dashboard.target_tables import (
    COLUMNS,
    as_bytes,
    as_grid,
    empty_table,
    entities,
    included,
    merged,
    read_text,
)
from microcalibrate.datasets import load_cps, load_us_targets
from microcalibrate.errors import InvalidTargetTable
from microcalibrate.targets import build_targets


def pairs(text):
    return read_text(text)[["name", "value"]].values.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "name,target\npeople,1200\nsnap,-5",
        "people,1200\nsnap,-5",
        "target_name\ttarget\npeople\t1,200\nsnap\t−5",
        "\ufeffname;value\r\npeople;1200\r\n\r\nsnap;-5\r\n",
        'Name,Total\npeople,"1,200"\nsnap,-5',
    ],
    ids=["with heads", "without", "of a spreadsheet", "of a spreadsheet's file", "quoted"],
)
def test_names_and_targets_are_read_in_each_usual_form(text):
    assert pairs(text) == [["people", 1200.0], ["snap", -5.0]]


def test_declared_targets_are_read_with_either_name_of_a_column():
    text = (
        "name,variable,agg,entity,filter,value,tolerance,weight,group,include\n"
        'old,age,count,,"age >= 65",10,1%,2,ages,yes\n'
        "young,,,,age < 20,5,,,,no\n"
    )

    grid = read_text(text)

    assert list(grid.columns) == list(COLUMNS)
    old, young = grid.to_dict("records")
    assert (old["variable"], old["aggregate"], old["filter"]) == ("age", "count", "age >= 65")
    assert (old["tolerance"], old["importance"], old["family"]) == (0.01, 2.0, "ages")
    assert (old["include"], young["include"]) == (True, False)
    assert list(included(grid)["name"]) == ["old"]


def test_what_targets_are_about_is_kept_and_told_once():
    grid = read_text("name,target,entity\na,1,person\nb,2,\nc,3,person\nd,4,home")

    assert list(grid["entity"]) == ["person", "", "person", "home"]
    assert entities(grid) == ["home", "person"]
    assert entities(included(read_text("a,1"))) == []


def test_nothing_that_the_library_reads_is_left_out():
    """Every column of a target table has its place in the grid, under one of its names."""
    from microcalibrate.targets.rows import COLUMNS as READ

    cells = {name: "1" for name in READ if name not in ("agg", "weight", "group", "column")}

    [row] = as_grid(pd.DataFrame([cells])).to_dict("records")

    assert {name: float(row[name]) for name in cells} == dict.fromkeys(cells, 1.0)


def test_a_ratio_and_a_median_come_through():
    grid = read_text(
        "name,value,variable,aggregate,denominator,quantile\n"
        "tax rate,19%,tax,ratio,income,\nmedian,40000,income,quantile,,0.5\n"
    )

    rate, median = included(grid).to_dict("records")

    assert (rate["value"], rate["denominator"]) == (0.19, "income")
    assert (median["aggregate"], median["quantile"]) == ("quantile", 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing to read"),
        ("name,target\na,many", "Row 1: its value is “many”"),
        ("name,amount\na,1", "needs the columns name and target"),
        ("name,target\na,1,2", "Row 1 has 3 cells"),
        ('name,target\n"a,1', "quotation mark"),
        ("name,target,value\na,1,2", "mean the same"),
        ("name,target,include\na,1,perhaps", "yes or no"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text, said):
    with pytest.raises(InvalidTargetTable, match=said):
        read_text(text)


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "=cmd()|' /C calc'!A0", "../../x", "a, b", 'say "x"']
)
def test_hostile_names_come_out_as_they_came_in(name):
    grid = as_grid(pd.DataFrame({"name": [name], "value": [1.5]}))

    again = pd.read_csv(io.BytesIO(as_bytes(included(grid))), keep_default_na=False)

    assert list(again["name"]) == [name]


def test_the_embedded_targets_make_the_same_problem_after_the_grid():
    """Matrix and values to the last bit: what the page hands on is what the library reads."""
    cps, targets = load_cps(), load_us_targets()
    handed_on = pd.read_csv(io.BytesIO(as_bytes(included(as_grid(targets)))))

    direct = build_targets(cps, targets, initial_weights=cps["weight"])
    through = build_targets(cps, handed_on, initial_weights=cps["weight"])

    assert through.names == direct.names
    np.testing.assert_array_equal(through.values, direct.values)
    assert (through.matrix != direct.matrix).nnz == 0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_keep_every_bit(values):
    grid = as_grid(pd.DataFrame({"name": [str(i) for i in range(len(values))], "value": values}))

    again = as_grid(pd.read_csv(io.BytesIO(as_bytes(grid)), dtype=str, keep_default_na=False))

    np.testing.assert_array_equal(again["value"], values)


def test_a_further_target_of_the_same_name_takes_the_place_of_the_first():
    first, second = read_text("a,1\nb,2"), read_text("b,3\nc,4")

    together = merged(first, second)

    assert together[["name", "value"]].values.tolist() == [["a", 1.0], ["b", 3.0], ["c", 4.0]]
    assert len(merged(empty_table(), empty_table())) == 0
