"""The adapter for sdv's TVAE; skipped where sdv, which has a licence of its own, is absent."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from microcalibrate.errors import (
    ConditionNotMet,
    InvalidOption,
    MissingExtra,
    ModelMismatch,
    UnreadableFile,
)
from microcalibrate.regularise import SlotColumn
from microcalibrate.regularise.generators import load_generator, make_generator
from microcalibrate.regularise.generators.sdv_library import load_sdv

try:
    load_sdv()
    HAS_SDV = True
except MissingExtra:
    HAS_SDV = False

needs_sdv = pytest.mark.skipif(
    not HAS_SDV, reason="sdv is not installed: it has a licence of its own"
)
# What sdv and the libraries under it warn about is not ours to mend.
quiet = pytest.mark.filterwarnings("default")

COLUMNS = (
    SlotColumn("region", "household", 0, "region", "category", ("north", "south", "west")),
    SlotColumn("owns", "household", 0, "owns", "boolean"),
    SlotColumn("rent", "household", 0, "rent", "number", bounds=(0, None), missing=True),
    *(
        column
        for slot in range(2)
        for column in (
            SlotColumn(
                f"person.{slot}.present", "person", slot, "present", "boolean",
                kind="present", block="structure",
            ),
            SlotColumn(
                f"person.{slot}.age", "person", slot, "age", "integer", bounds=(0, 99),
                presence=f"person.{slot}.present",
            ),
        )
    ),
)  # fmt: skip


def make_rows(n_rows: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    region = rng.choice(3, n_rows, p=[0.6, 0.3, 0.1])
    owns = rng.random(n_rows) < np.array([0.8, 0.3, 0.5])[region]
    rent = np.where(owns, 0.0, np.round(rng.lognormal(6, 0.5, n_rows), 2))
    rent[rng.random(n_rows) < 0.05] = np.nan
    second = rng.random(n_rows) < 0.6
    ages = rng.integers(20, 90, (n_rows, 2))
    levels = pd.CategoricalDtype(list(COLUMNS[0].levels or ()))
    return pd.DataFrame(
        {
            "region": pd.Categorical.from_codes(region, dtype=levels),
            "owns": pd.array(owns, dtype="boolean"),
            "rent": rent,
            "person.0.present": np.ones(n_rows, dtype=bool),
            "person.0.age": pd.array(ages[:, 0], dtype="Int64"),
            "person.1.present": second,
            "person.1.age": pd.array(ages[:, 1], dtype="Int64").copy(),
        }
    ).assign(**{"person.1.age": lambda rows: rows["person.1.age"].where(rows["person.1.present"])})


@pytest.fixture(scope="module")
def fitted():
    if not HAS_SDV:
        pytest.skip("sdv is not installed: it has a licence of its own")
    generator = make_generator("sdv-tvae", epochs=60, batch_size=50, bands={"rent": [1.0, 400.0]})
    rows = make_rows(450)
    return generator.fit(rows, COLUMNS, np.ones(len(rows)), seed=3)


@pytest.mark.skipif(HAS_SDV, reason="sdv is installed")
def test_without_sdv_the_message_names_its_licence_and_the_command():
    with pytest.raises(MissingExtra, match=r"Business Source License.*microcalibrate\[sdv\]"):
        make_generator("sdv-tvae")


def test_the_module_itself_does_not_import_sdv():
    import microcalibrate.regularise.generators.sdv_tvae

    if not HAS_SDV:
        assert "sdv" not in sys.modules
    assert microcalibrate.regularise.generators.sdv_tvae.SdvTvae.name == "sdv-tvae"


@needs_sdv
@quiet
def test_rows_have_the_columns_types_and_levels_of_the_data(fitted):
    real, drawn = make_rows(450), fitted.sample(400, seed=1)

    assert len(drawn) == 400
    assert list(drawn.index) == list(range(400))
    assert drawn.dtypes.equals(real.dtypes)
    assert drawn["person.1.age"].isna().equals(~drawn["person.1.present"])
    assert drawn["person.0.present"].all()
    assert 0 < fitted.acceptance_rate <= 1
    assert abs((drawn.region == "north").mean() - 0.6) < 0.3


@needs_sdv
@quiet
def test_the_same_seed_gives_the_same_rows_and_another_gives_others(fitted):
    pd.testing.assert_frame_equal(fitted.sample(50, seed=5), fitted.sample(50, seed=5))
    assert not fitted.sample(50, seed=5).equals(fitted.sample(50, seed=6))


@needs_sdv
@quiet
def test_training_is_seeded_and_leaves_the_seeds_of_others_alone():
    rows = make_rows(80)
    np.random.seed(4)  # noqa: NPY002 -- the state that sdv uses
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (
        make_generator("sdv-tvae", epochs=2).fit(rows, COLUMNS, np.ones(80), seed=9)
        for _ in range(2)
    )

    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    weights = [g._synthesizer._model.decoder.seq[0].weight.detach().numpy() for g in (first, again)]
    np.testing.assert_array_equal(*weights)


@needs_sdv
@quiet
def test_held_categories_are_exact_and_held_numbers_in_their_band(fitted):
    given = make_rows(40, seed=8)
    free = np.ones((40, len(COLUMNS)), dtype=bool)
    free[:20, 0] = free[:20, 3] = False  # region and who is there
    free[20:, 2] = False  # rent, by band
    given = given[(given.region != "west") & (given.rent.fillna(1) >= 0)]
    free = free[given.index]
    drawn, achieved = fitted.sample_conditional(given, free, seed=2, n=3)
    expected = given.loc[given.index.repeat(3)]

    assert list(drawn.index) == list(expected.index)
    on_region = ~np.repeat(free[:, 0], 3)
    assert (drawn.region == expected.region)[on_region].all()
    assert achieved[on_region][:, 0].all()
    by_rent = ~np.repeat(free[:, 2], 3)
    edges = [0.0, 1.0, 400.0]
    mine, theirs = (np.digitize(part.rent[by_rent].fillna(-1), edges) for part in (drawn, expected))
    np.testing.assert_array_equal(mine, theirs)
    assert not achieved[by_rent].any()


@needs_sdv
@quiet
@pytest.mark.parametrize("held", [[0, 1, 3, 5, 4], [4]])
def test_conditions_that_rejection_cannot_serve_are_refused(fitted, held):
    free = np.ones(len(COLUMNS), dtype=bool)
    free[held] = False
    with pytest.raises(ConditionNotMet, match="by rejection") as refused:
        fitted.sample_conditional(make_rows(3), free, seed=0, n=2)

    assert (refused.value.requested, refused.value.obtained) == (6, 0)


@needs_sdv
@quiet
def test_a_spent_budget_is_an_error_with_the_count(fitted, monkeypatch):
    monkeypatch.setattr(fitted, "max_draws", 3)
    with pytest.raises(ConditionNotMet, match="max_draws") as short:
        fitted.sample(100, seed=0)

    assert short.value.requested == 100
    assert 0 <= short.value.obtained <= 3


@needs_sdv
@quiet
def test_a_saved_generator_draws_the_same_rows_and_is_no_pickle(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    again = load_generator(tmp_path / "model", COLUMNS)

    pd.testing.assert_frame_equal(again.sample(80, seed=4), fitted.sample(80, seed=4))
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names <= {"model.json", "arrays.safetensors", ".microcalibrate-run"}
    with pytest.raises(ModelMismatch, match="other slot columns"):
        load_generator(tmp_path / "model", COLUMNS[:2])


@needs_sdv
@quiet
def test_a_model_of_another_release_of_sdv_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    content = json.loads(file.read_text())
    content["settings"]["sdv"] = "1.0.0"
    file.write_text(json.dumps(content))

    with pytest.raises(ModelMismatch, match=r"sdv 1\.0\.0"):
        load_generator(tmp_path / "model")
    assert len(load_generator(tmp_path / "model", other_versions=True).sample(3, seed=0)) == 3
    del content["settings"]["levels"]
    file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match="damaged"):
        load_generator(tmp_path / "model", other_versions=True)


@needs_sdv
@quiet
@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"max_draws": 0}, {"bands": {"rent": [2.0, 1.0]}}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidOption):
        make_generator("sdv-tvae", **options)


@needs_sdv
@quiet
def test_weights_decide_how_often_a_row_is_learnt():
    rows = make_rows(300)
    is_west = (rows.region == "west").to_numpy()
    weights = np.where(is_west, 30.0, 1.0)
    generator = make_generator("sdv-tvae", epochs=40, batch_size=50).fit(
        rows, COLUMNS, weights, seed=0
    )

    assert (generator.sample(300, seed=0).region == "west").mean() > 0.4
