"""A user's own tax-benefit model as plain functions of tables: Tax-Calculator, run live.

The model is that of the documentation, `docs/examples/tax_calculator.py`.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

if importlib.util.find_spec("taxcalc") is None:
    pytest.skip("taxcalc is not installed: pip install taxcalc==6.8.0", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))
with warnings.catch_warnings():
    # What other libraries warn of while they are imported is theirs.
    warnings.simplefilter("ignore")
    import tax_calculator as model

from microcalibrate.datasets import load_cps, load_us_targets  # noqa: E402
from microcalibrate.diagnostics import ReformSpace, diagnose  # noqa: E402
from microcalibrate.regularise import (  # noqa: E402
    Codec,
    Survey,
    regularise,
    violations,
)
from microcalibrate.regularise.generators import make_generator  # noqa: E402
from microcalibrate.targets import build_targets  # noqa: E402

N_RECORDS = 1500


@pytest.fixture(scope="module")
def survey():
    return model.calibrated_survey(N_RECORDS, n_heavy=6)


@pytest.fixture(scope="module")
def reforms():
    return model.TaxReforms()


@pytest.fixture(scope="module")
def published():
    targets = load_us_targets()
    return dict(zip(targets["name"], targets["value"].astype(float), strict=True))


def in_cps(survey: Survey):
    """The same tax units in the embedded extract, whose taxes were computed from the whole file."""
    records = survey.tables[model.UNIT]["RECID"]
    return load_cps().set_index("record_id").loc[records].reset_index()


def test_the_survey_fits_its_schema(survey):
    assert len(survey.derived_differences) == 0
    assert len(violations(survey)) == 0


def test_results_are_those_of_the_embedded_extract(survey):
    """Every variable, to the whole dollars that the extract has; credits that are drawn too."""
    cps, results = in_cps(survey), model.calculate(survey.tables[model.UNIT])
    for name in model.NAMES:
        assert_allclose(results[name], cps[name], atol=0.5, err_msg=name)
    assert (results["is_filer"].to_numpy() == cps["is_filer"].to_numpy()).all()


def test_a_record_alone_has_the_result_that_it_has_among_others(survey):
    table = survey.tables[model.UNIT]
    rows = np.random.default_rng(0).permutation(len(table))[:100]
    whole = model.calculate(table).iloc[rows].reset_index(drop=True)
    alone = model.calculate(table.iloc[rows])
    for name in model.NAMES:
        assert_allclose(alone[name], whole[name], err_msg=name)


def test_the_estimate_matrix_is_that_of_the_declared_targets(survey):
    """Two roads: the model's own results, and the columns of the embedded extract."""
    declared = build_targets(in_cps(survey), load_us_targets())
    weights = survey.weights.to_numpy()
    matrix = model.build_matrix(survey.tables)
    assert matrix.shape == declared.matrix.shape
    assert_allclose(matrix.T @ weights, declared.matrix.T @ weights, rtol=1e-2)


def test_reforms_are_drawn_within_their_ranges(reforms):
    assert isinstance(reforms, ReformSpace)
    law = model.current_law()
    law.set_year(model.YEAR)
    for seed in range(30):
        reform = reforms.draw(np.random.default_rng(seed))
        assert reform == reforms.draw(np.random.default_rng(seed))
        assert 1 <= len(reform.values) <= 4
        for name, value in reform.values:
            low, high = model.FACTORS.get(name, (None, None))
            if low is not None:
                now = np.asarray(getattr(law, name), dtype=np.float64)[0]
                slack = 1e-4 if np.all(now < 1) else 0.5
                assert (np.asarray(value) >= low * now - slack).all(), name
                assert (np.asarray(value) <= high * now + slack).all(), name


def test_current_law_stays_what_it_is(survey, reforms):
    """A law is shared by calculators; running a reform must not change it."""
    before = model.federal_taxes(survey.tables)
    changed = reforms.draw(np.random.default_rng(3))(survey.tables)["federal taxes"]
    assert np.abs(changed - before).max() > 1
    assert_allclose(model.federal_taxes(survey.tables), before, rtol=0)


def test_influence_on_a_change_by_a_reform_is_the_share_of_it(survey, reforms):
    found = diagnose(
        survey, surface=model.SURFACE, reforms=reforms, n_reforms=3, flag_dominating=True
    )
    assert (found.reforms["status"] == "ok").all()
    stream = np.random.SeedSequence(0, spawn_key=(1,))
    reform = reforms.draw(np.random.default_rng(stream))
    change = reform(survey.tables)["federal taxes"] - model.federal_taxes(survey.tables)
    amounts = np.abs(change * survey.weights.to_numpy())
    shares = amounts / amounts.sum()

    cells = found.cells[(found.cells["reform"] == "reform 2") & (found.cells["slice"] == "all")]
    assert_allclose(cells["largest_share"].iloc[0], shares.max(), rtol=1e-9)
    assert cells["largest_id"].iloc[0] == survey.unit_ids[shares.argmax()]


def test_records_are_spread_with_the_model_in_the_loop(survey, reforms, published):
    """Fewer flagged over reforms, no origin with more, and every generated tax unit a valid one."""
    codec = Codec.fit(survey)
    rows = codec.encode(survey)
    weights = survey.base_weights.loc[rows.index].to_numpy()
    generator = make_generator("hotdeck").fit(rows, codec.columns, weights, seed=0)
    found = regularise(
        survey, generator, published, codec=codec, build_matrix=model.build_matrix,
        surface=model.SURFACE, reforms=reforms, n_reforms=3, batch=2, max_rounds=8,
        progress=False,
    )  # fmt: skip

    assert len(found.rounds) > 0
    assert len(found.survey.derived_differences) == 0
    assert len(violations(found.survey)) == 0
    kept = found.rounds[found.rounds["accepted"]]
    # Origins are judged beside where all rounds began, so that small steps do not add up.
    most = 1.01 * found.rounds["lineage_share_before"].iloc[0]
    assert (kept["lineage_share_after"] <= most).all()
    assert (kept["batch_share_after"] < kept["batch_share_before"]).all()
    records = found.after.records.set_index("id")
    assert_allclose(records.loc[found.weights.index, "weight"], found.weights)
