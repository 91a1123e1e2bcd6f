"""Households and persons, from two files to one weight per household."""

from __future__ import annotations

import numpy as np
import pandas as pd

TARGETS = """name,target,entity,aggregate,filter
homes,1000,,count,
people,2500,person,count,
children,600,person,count,age < 18
"""


def test_persons_are_linked_to_households_and_both_are_met(page, tmp_path):
    generator = np.random.default_rng(0)
    homes = pd.DataFrame({"household_id": np.arange(50), "weight": 18.0})
    persons = pd.DataFrame(
        {
            "person_id": np.arange(150),
            "household_id": np.r_[np.arange(50), generator.integers(0, 50, 100)],
            "age": generator.integers(0, 80, 150),
        }
    )
    for name, table in (("members", persons), ("homes", homes)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        before = page.open("data").query.get("dataset")
        page.upload("upload_", tmp_path / f"{name}.csv")
        page.until(lambda old=before: page.query.get("dataset") != old, "the data set")
        page.shows("Tables that belong to it")

    page.find("linked_", "summary").click()
    unfolded(page, "link_")
    page.choose("link_", "members.csv")
    page.click("add_link_")
    page.shows("household_id names the household")
    page.follow("Go on to the targets")
    page.fill("paste_", TARGETS)
    page.click("add_pasted")
    page.shows("3 targets of 3 in use")
    page.shows("in order")
    page.follow("Go on to the settings")
    page.click("start_calibration")
    page.shows("See what it found")
    page.follow("See what it found")
    page.follow("Download its files")
    weights = pd.read_csv(page.download("download_weights-csv", "weights.csv"))

    assert list(weights.id) == list(range(50))
    of_person = weights.weight.to_numpy()[persons.household_id]
    found = weights.weight.sum(), of_person.sum(), of_person[persons.age < 18].sum()
    np.testing.assert_allclose(found, [1000, 2500, 600], rtol=1e-3)


def unfolded(page, key):
    """Wait until what is being unfolded stands still, so that a click meets it."""
    places = []

    def rests():
        places.append(page.find(key, "input").rect)
        return len(places) > 2 and places[-1] == places[-2] == places[-3]

    page.until(rests, f"{key} to stand still")
