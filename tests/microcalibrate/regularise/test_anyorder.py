"""The any-order generator draws from the right conditional distributions, whatever is given."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp

from microcalibrate.errors import (
    ConditionNotMet,
    InvalidOption,
    ModelMismatch,
    UnreadableFile,
    UnwritableFile,
)
from microcalibrate.regularise import Codec
from microcalibrate.regularise.generators import (
    BACKENDS,
    AnyOrder,
    Likelihood,
    load_generator,
    make_generator,
    sample_valid,
    training,
)
from microcalibrate.regularise.generators import network as nets
from microcalibrate.regularise.generators.encoding import Encoding
from microcalibrate.regularise.slots import SlotColumn, slot_mask

from ..households import SCHEMA, make_survey

FRACTIONS = (0.2, 0.4, 0.5, 0.6, 0.8)
LETTERS = tuple("abcdef")
GROUP = {"a": "u", "b": "u", "c": "u", "d": "v", "e": "v", "f": "w"}
SHARES = np.array([0.3, 0.1, 0.1, 0.25, 0.05, 0.2])


def column(name, type_, levels=None, **declared):
    return SlotColumn(name, "unit", 0, name, type_, levels, **declared)


COLUMNS = (
    column("letter", "category", LETTERS),
    column("group", "category", ("u", "v", "w")),
    column("high", "boolean", missing=True),
    column("income", "number"),
)


def planted(n, seed):
    """`group` is a function of `letter`, `high` says whether income is above 20,000 or so."""
    rng = np.random.default_rng(seed)
    letter = rng.choice(LETTERS, n, p=SHARES)
    income = np.where(rng.random(n) < 0.3, 0, rng.lognormal(10, 1, n))
    high = pd.array(income > 20_000, dtype="boolean")
    high[rng.random(n) < 0.1] = pd.NA
    return pd.DataFrame(
        {
            "letter": pd.Categorical(letter, LETTERS),
            "group": pd.Categorical([GROUP[x] for x in letter], ["u", "v", "w"]),
            "high": high,
            "income": income,
        }
    )


@pytest.fixture(scope="module")
def model():
    rows = planted(1500, seed=0)
    return AnyOrder(max_epochs=25, patience=6).fit(rows, COLUMNS, np.ones(len(rows)), seed=1)


@pytest.fixture(scope="module")
def households():
    """Random households, their codec and slot rows, and a model of them."""
    sizes = np.random.default_rng(0).integers(1, 4, 150).tolist()
    survey = make_survey(sizes, seed=0, schema=SCHEMA)
    codec = Codec.fit(survey, coverage=1.0)
    rows = codec.encode(survey)
    weights = survey.base_weights.loc[rows.index].to_numpy()
    return codec, rows, AnyOrder(max_epochs=15).fit(rows, codec.columns, weights, seed=1)


def free_columns(*names):
    return np.array([c.name in names for c in COLUMNS])


# --- The right distributions ----------------------------------------------------------------------


def test_a_planted_function_holds_in_both_directions(model):
    """Given the letter, the group is certain; given the group, the letters have their shares."""
    given = planted(1500, seed=5)

    drawn, _ = model.sample_conditional(given, free_columns("group"), seed=2)
    assert (drawn["group"] == given["letter"].map(GROUP)).mean() > 0.99

    drawn, _ = model.sample_conditional(given, free_columns("letter"), seed=3)
    assert (drawn["letter"].map(GROUP) == given["group"]).mean() > 0.99
    held = drawn["letter"].value_counts(normalize=True, sort=False).loc[list(LETTERS)]
    expected = given["letter"].value_counts(normalize=True, sort=False).loc[list(LETTERS)]
    assert_allclose(held, expected, atol=0.04)


def test_free_draws_have_the_marginals_and_pairs_of_the_data(model):
    drawn, truth = model.sample(3000, seed=4), planted(1500, seed=0)
    assert_allclose(drawn["letter"].value_counts(normalize=True, sort=False), SHARES, atol=0.035)
    assert (drawn["letter"].map(GROUP) == drawn["group"]).mean() > 0.98
    assert abs(drawn["high"].isna().mean() - 0.1) < 0.02
    assert abs((drawn["income"] == 0).mean() - 0.3) < 0.04
    assert ks_2samp(drawn["income"], truth["income"]).statistic < 0.05
    known = drawn["high"].notna()
    agree = (drawn["income"] > 20_000)[known] == drawn["high"][known].astype(bool)
    assert agree.mean() > 0.95


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_held_out_cells_are_likelier_than_under_independence(model, fraction):
    rows = planted(1500, seed=7)
    free = np.random.default_rng(0).random((len(rows), 4)) >= fraction
    conditional, marginal = model.column_log_prob(rows, free), model.marginal_log_prob(rows)
    gain = np.where(free, conditional - marginal, np.nan)

    assert np.nanmean(gain) > 0.05
    assert (np.nanmean(gain, axis=0) > 0).all()


def test_chances_sum_to_one_whatever_is_given():
    """Over every value of every set of free columns, with a missing value as one of them."""
    columns = (
        column("a", "category", (1, 2, 3)),
        column("b", "boolean", missing=True),
        column("c", "category", ("x", "y")),
    )
    space = pd.DataFrame(
        list(itertools.product((1, 2, 3), (True, False, None), "xy")), columns=list("abc")
    )
    rng = np.random.default_rng(0)
    rows = space.iloc[rng.choice(18, 300, p=rng.dirichlet(np.ones(18)))].reset_index(drop=True)
    model = AnyOrder(max_epochs=8).fit(rows, columns, np.ones(300), seed=0)

    for free in itertools.product((False, True), repeat=3):
        chance = np.exp(model.log_prob(space, np.array(free), seed=3))
        held = [
            space[name].astype(str)
            for name, is_free in zip("abc", free, strict=True)
            if not is_free
        ]
        sums = pd.Series(chance).groupby(held).sum() if held else chance.sum()
        assert_allclose(sums, 1, rtol=1e-6)


def test_chances_of_households_sum_to_one_over_those_that_can_be():
    """Slots without gaps, nothing in empty slots, and links to slots that are filled."""
    columns = []
    for entity, n_slots in (("unit", 2), ("person", 2)):
        for slot in range(n_slots):
            present = f"{entity}.{slot}.present"
            columns.append(SlotColumn(present, entity, slot, "present", "boolean", kind="present",
                                      block="structure"))  # fmt: skip
            if entity == "person":
                columns.append(SlotColumn(f"person.{slot}.unit_id", "person", slot, "unit_id",
                                          "category", (0, 1), kind="link", block="structure",
                                          presence=present, to="unit"))  # fmt: skip
    space = []
    for units, persons in itertools.product(range(3), range(3)):
        for links in itertools.product(range(units), repeat=persons):
            row = {f"unit.{slot}.present": slot < units for slot in range(2)}
            for slot in range(2):
                row[f"person.{slot}.present"] = slot < persons
                row[f"person.{slot}.unit_id"] = links[slot] if slot < persons else None
            space.append(row)
    table = pd.DataFrame(space)
    rng = np.random.default_rng(0)
    filled = table[table["unit.0.present"]]
    rows = filled.iloc[rng.choice(len(filled), 300)].reset_index(drop=True)
    model = AnyOrder(max_epochs=6).fit(rows, columns, np.ones(300), seed=0)

    everything = np.ones(len(columns), dtype=bool)
    chance = np.exp(model.log_prob(filled, everything))
    assert_allclose(chance.sum(), 1, rtol=1e-6)
    # The first unit was there in every household, so there is none without.
    none = table[~table["unit.0.present"] & ~table["person.0.present"]]
    assert (model.log_prob(none, everything) == -np.inf).all()

    for name in ("person.0.unit_id", "person.1.unit_id"):
        free = np.array([c.name == name for c in columns])
        slot = name.split(".")[1]
        there = filled[filled[f"person.{slot}.present"]]
        chance = pd.Series(np.exp(model.log_prob(there, free)), index=there.index)
        groups = [there[c.name].astype(str) for c in columns if c.name != name]
        assert_allclose(chance.groupby(groups).sum(), 1, rtol=1e-6)


# --- Weights --------------------------------------------------------------------------------------


def test_weights_act_in_the_likelihood():
    """A tenth of the records with nine times the weight is half of what is drawn."""
    rows = pd.DataFrame({"a": pd.array([True] * 100 + [False] * 900, dtype="boolean")})
    weights = np.where(rows["a"], 9.0, 1.0)
    columns = (column("a", "boolean"),)
    by_weight = AnyOrder(max_epochs=20).fit(rows, columns, weights, seed=0).sample(4000, seed=0)
    by_number = AnyOrder(max_epochs=20).fit(rows, columns, np.ones(1000), seed=0).sample(4000, 0)

    assert abs(by_weight["a"].mean() - 0.5) < 0.07
    assert abs(by_number["a"].mean() - 0.1) < 0.03


def test_a_heavy_record_is_bounded_by_the_clip():
    """One record with 99.7% of all weight is learnt as one of a thousand."""
    rows = pd.DataFrame({"a": pd.array([True] + [False] * 999, dtype="boolean")})
    weights = np.r_[372_747.0, np.ones(999)]
    model = AnyOrder(max_epochs=10).fit(rows, (column("a", "boolean"),), weights, seed=0)

    assert model.sample(4000, seed=0)["a"].mean() < 0.01


def test_rows_of_one_unit_are_judged_by_or_learnt_from_together(monkeypatch):
    seen = {}
    whole = training.train

    def watched(*arguments):
        seen["held_out"] = arguments[5]
        return whole(*arguments)

    monkeypatch.setattr(training, "train", watched)
    rows = planted(300, seed=0)
    rows.index = np.repeat(np.arange(60), 5)[np.random.default_rng(0).permutation(300)]
    AnyOrder(max_epochs=1, holdout=0.2).fit(rows, COLUMNS, np.ones(300), seed=0)

    by_unit = pd.Series(seen["held_out"]).groupby(rows.index.to_numpy()).mean()
    assert set(by_unit) == {0.0, 1.0}
    assert by_unit.sum() == 12


def test_training_ends_with_the_parameters_that_were_best_on_held_out_records():
    """The passes after the best one leave no trace, however many there are."""
    options = {"learning_rate": 0.1, "batch_size": 16, "max_epochs": 40}
    rows, free = planted(200, seed=0), np.ones(4, dtype=bool)
    found = {}
    for patience in (6, 12):
        model = AnyOrder(patience=patience, **options).fit(rows, COLUMNS, np.ones(200), seed=0)
        best = int(model.history["holdout_loss"].idxmin())
        assert len(model.history) == best + 1 + patience
        found[patience] = (best, model.log_prob(rows, free))

    assert found[6][0] == found[12][0]
    assert np.array_equal(found[6][1], found[12][1])


def test_what_is_independent_stays_so():
    """On noise nothing can be learnt, and held-out cells are as likely as by the marginals."""
    rng = np.random.default_rng(0)
    columns = tuple(column(f"x{i}", "category", (0, 1, 2)) for i in range(4))
    rows = pd.DataFrame(rng.integers(0, 3, (2300, 4)), columns=[c.name for c in columns])
    model = AnyOrder(max_epochs=10).fit(rows.head(300), columns, np.ones(300), seed=0)

    fresh = rows.tail(2000)
    free = rng.random(fresh.shape) < 0.5
    gain = np.where(free, model.column_log_prob(fresh, free) - model.marginal_log_prob(fresh), 0)
    assert gain.sum() / free.sum() > -0.01


# --- Conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_held_cells_are_kept_exactly_at_every_fraction(households, fraction):
    """Also missing values, empty slots, and amounts to the last bit; counts are exact."""
    codec, rows, model = households
    n_columns = len(codec.columns)
    order = np.random.default_rng(1).random((len(rows), n_columns)).argsort(axis=1)
    free = order >= round(fraction * n_columns)
    drawn, achieved = model.sample_conditional(rows, free, seed=2, n=3)

    assert len(drawn) == 3 * len(rows)
    assert list(drawn.index) == list(np.repeat(rows.index, 3))
    assert np.array_equal(achieved, ~np.repeat(free, 3, axis=0))
    again = rows.loc[drawn.index]
    for number, col in enumerate(codec.columns):
        assert drawn[col.name].dtype == rows[col.name].dtype
        held = achieved[:, number]
        pd.testing.assert_series_equal(
            drawn[col.name][held], again[col.name][held], check_exact=True
        )


def test_draws_are_households_with_slots_in_order(households):
    codec, rows, model = households
    free = np.random.default_rng(1).random((len(rows), len(codec.columns))) < 0.6
    for drawn in (model.sample(400, seed=0), model.sample_conditional(rows, free, seed=1)[0]):
        problems = set(codec.problems(drawn)["problem"])
        assert problems <= {"a benefit_unit without a person"}
        for entity, n_slots in codec.n_slots.items():
            filled = np.column_stack([drawn[f"{entity}.{k}.present"] for k in range(n_slots)])
            assert (filled[:, 1:] <= filled[:, :-1]).all()


def test_whoever_holds_a_cell_of_a_slot_holds_the_slot(households):
    """Only the age of the second person is given: so it is known whether there are two."""
    codec, rows, model = households
    free = np.array([c.name != "person.1.age" for c in codec.columns])
    drawn, _ = model.sample_conditional(rows, free, seed=0)

    assert drawn["person.1.present"].equals(rows["person.1.present"])
    assert drawn["person.0.present"][rows["person.1.present"]].all()
    assert drawn["person.1.age"].equals(rows["person.1.age"])


def test_what_is_free_has_no_influence(households):
    """Other values in the free cells of the given rows change no draw."""
    codec, rows, model = households
    rng = np.random.default_rng(3)
    structure = np.array([c.block == "structure" for c in codec.columns])
    free = ~structure & (rng.random(len(codec.columns)) < 0.7)
    order = rng.permutation(len(rows))
    changed = rows.copy()
    exists = slot_mask(rows, codec.columns)
    for number in np.flatnonzero(free):
        name = codec.columns[number].name
        there = np.flatnonzero(exists[:, number])
        values = rows[name].iloc[there[np.argsort(order[there])]]
        changed.iloc[there, changed.columns.get_loc(name)] = values.to_numpy()
    assert not changed.equals(rows)

    one, _ = model.sample_conditional(rows, free, seed=4)
    other, _ = model.sample_conditional(changed, free, seed=4)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_missing_value_that_cannot_be_is_held_and_tells_nothing(model):
    given = planted(50, seed=8)
    given.loc[:, "income"] = np.nan
    drawn, _ = model.sample_conditional(given, free_columns("letter", "group"), seed=0)

    assert drawn["income"].isna().all()
    assert drawn["letter"].notna().all()
    assert (model.log_prob(given, free_columns("income")) == -np.inf).all()


def test_valid_draws_hold_their_cells_in_canonical_order(households):
    """Wages are held and ages are drawn: where the order of two persons turns, it is no draw."""
    codec, rows, model = households
    free = np.array([c.block != "structure" and c.source != "wages" for c in codec.columns])
    drawn = sample_valid(model, codec, rows.head(20), free, seed=0, n=4)

    assert len(drawn.rows) == 80
    assert codec.acceptable(drawn.rows).all()
    assert codec.canonical(drawn.rows).equals(drawn.rows)
    again = rows.loc[drawn.rows.index]
    for number, col in enumerate(codec.columns):
        held = drawn.achieved_mask[:, number]
        assert drawn.rows[col.name][held].equals(again[col.name][held])
    assert drawn.n_drawn >= drawn.n_accepted >= 80


def test_draws_that_are_refused_are_counted_and_never_replaced(households):
    codec, rows, model = households
    free = np.array([c.block != "structure" for c in codec.columns])
    first = rows.index[0]

    def accept(drawn):
        """All draws of the first round are refused."""
        accept.calls += 1
        return np.full(len(drawn), accept.calls > 1)

    accept.calls = 0
    with pytest.raises(ConditionNotMet, match=r"of 12 records could be drawn") as error:
        sample_valid(
            model, codec, rows.head(3), free, 0, n=4, max_rounds=2,
            accept=lambda drawn: np.zeros(len(drawn), dtype=bool),
        )  # fmt: skip
    assert (error.value.requested, error.value.obtained) == (12, 0)
    assert f"row {first} has 0 of 4" in str(error.value)

    drawn = sample_valid(model, codec, rows.head(3), free, 0, n=4, accept=accept)
    assert len(drawn.rows) == 12
    assert drawn.n_drawn >= 24
    assert accept.calls > 1


# --- The same seed, the same bits -----------------------------------------------------------------

RUN = """
import sys
import numpy as np, pandas as pd
from microcalibrate.regularise.generators import AnyOrder
from microcalibrate.regularise.slots import SlotColumn
def run(folder, seed):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.integers(0, 4, 400), "b": rng.lognormal(0, 1, 400)})
    rows["b"] *= rows["a"] > 0
    columns = (SlotColumn("a", "u", 0, "a", "category", (0, 1, 2, 3)),
               SlotColumn("b", "u", 0, "b", "number"))
    model = AnyOrder(max_epochs=3).fit(rows, columns, rng.lognormal(0, 1, 400), seed=seed)
    model.save(folder)
    model.sample(200, seed=seed).to_csv(folder + ".csv")
    drawn, _ = model.sample_conditional(rows.head(50), np.array([True, False]), seed=seed, n=2)
    drawn.to_csv(folder + ".given.csv")
"""


def test_the_same_seed_gives_the_same_files_in_two_processes(tmp_path):
    """Whatever number of threads the processes were given; another seed gives another model."""
    command = [sys.executable, "-c", RUN + "run(sys.argv[1], 7)", str(tmp_path / "one")]
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    process = subprocess.Popen(command, env={**os.environ, **threads})
    here: dict[str, Any] = {}
    exec(RUN, here)
    here["run"](str(tmp_path / "two"), 7)
    here["run"](str(tmp_path / "other"), 8)
    assert process.wait(120) == 0

    for file in ("{}/model.json", "{}/arrays.safetensors", "{}.csv", "{}.given.csv"):
        one, two, other = (
            (tmp_path / file.format(name)).read_bytes() for name in ("one", "two", "other")
        )
        assert one == two
        assert one != other


def test_a_saved_model_draws_the_same_rows(model, tmp_path):
    model.save(tmp_path / "model")
    again = load_generator(tmp_path / "model", COLUMNS)

    pd.testing.assert_frame_equal(model.sample(100, 1), again.sample(100, 1), check_exact=True)
    assert again.history.equals(model.history)
    again.save(tmp_path / "again")
    for name in ("model.json", "arrays.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_fitting_and_drawing_leave_torch_as_it_was(model):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model.sample(10, seed=0)
        AnyOrder(max_epochs=1).fit(planted(50, 0), COLUMNS, np.ones(50), seed=0)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


# --- Files ----------------------------------------------------------------------------------------


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_are_refused_and_never_run(model, tmp_path):
    folder, trace = tmp_path / "model", tmp_path / "executed"
    model.save(folder)
    (folder / "extra.pkl").write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(UnreadableFile, match=r"extra\.pkl.*run code"):
        load_generator(folder)
    (folder / "extra.pkl").unlink()

    (folder / "arrays.safetensors").write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(UnreadableFile, match="a pickle"):
        load_generator(folder)
    content = json.loads((folder / "model.json").read_text())
    data = (folder / "arrays.safetensors").read_bytes()
    content["arrays_hash"] = hashlib.sha256(data).hexdigest()
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match="no safetensors"):
        load_generator(folder)
    assert not trace.exists()


def test_a_model_of_other_columns_is_refused(model, tmp_path):
    model.save(tmp_path / "model")
    other = (*COLUMNS[:-1], column("income", "number", bounds=(0, None)))
    with pytest.raises(ModelMismatch, match="1 columns differ, first 'income'"):
        load_generator(tmp_path / "model", other)
    with pytest.raises(ModelMismatch, match="order"):
        load_generator(tmp_path / "model", COLUMNS[::-1])
    with pytest.raises(ModelMismatch, match="'anyorder'"):
        make_generator("hotdeck").load(tmp_path / "model")


def test_a_model_of_other_releases_is_refused_unless_wanted(model, tmp_path):
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    content = json.loads(file.read_text())
    content["versions"]["torch"] = "1.0.0"
    file.write_text(json.dumps(content))
    with pytest.raises(ModelMismatch, match=r"torch 1\.0\.0"):
        load_generator(tmp_path / "model")
    load_generator(tmp_path / "model", other_versions=True)

    content["columns"][0]["levels"] = ["a"]
    file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match="by hand"):
        load_generator(tmp_path / "model", other_versions=True)
    content["format"] = "microcalibrate.generator/99"
    file.write_text(json.dumps(content))
    with pytest.raises(ModelMismatch, match="understood"):
        load_generator(tmp_path / "model")


def test_a_model_is_never_written_over_other_files(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UnwritableFile):
        model.save(tmp_path)


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"max_epochs": 0}, {"holdout": 0.0}, {"holdout": 1.0}, {"dropout": -0.1}, {"epochs": 3},
     {"learning_rate": 0.0}, {"batch_size": 1.5}],
)  # fmt: skip
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        make_generator("anyorder", **options)


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(InvalidOption, match="19 rows"):
        AnyOrder().fit(planted(19, 0), COLUMNS, np.ones(19), seed=0)
    with pytest.raises(InvalidOption, match="max_parameters=10"):
        AnyOrder(max_parameters=10).fit(planted(50, 0), COLUMNS, np.ones(50), seed=0)
    with pytest.raises(InvalidOption, match="fit"):
        AnyOrder().sample(3, seed=0)
    with pytest.raises(InvalidOption, match="gan"):
        make_generator("gan")


def test_300_columns_get_a_network_of_a_million_parameters_at_most():
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 1, 2000)
    columns = tuple(column(f"x{i}", "number") for i in range(300))
    encoding = Encoding.fit(pd.DataFrame({c.name: values for c in columns}), columns, np.ones(2000))
    network = nets.make_network(encoding, 1_000_000, 0.0)
    n_parameters = sum(p.numel() for p in network.parameters())

    assert encoding.n_tokens.sum() == 300 * 64
    assert n_parameters <= 1_000_000


def test_generators_are_imported_without_torch():
    code = (
        "import sys, microcalibrate.regularise.generators as g; "
        "assert g.BACKENDS; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(BACKENDS) >= {"anyorder", "hotdeck"}
    assert isinstance(make_generator("anyorder"), Likelihood)
    assert not isinstance(make_generator("hotdeck"), Likelihood)
