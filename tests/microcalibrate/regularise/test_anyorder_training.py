"""What the any-order generator learns from: weights, held-out records, options in their range."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from microcalibrate.errors import InvalidOption
from microcalibrate.regularise.generators import (
    BACKENDS,
    AnyOrder,
    Likelihood,
    make_generator,
    training,
)
from microcalibrate.regularise.generators import network as nets
from microcalibrate.regularise.generators.encoding import Encoding

from .planted import COLUMNS, column, planted


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


def test_300_columns_get_a_network_of_a_million_parameters_at_most():
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 1, 2000)
    columns = tuple(column(f"x{i}", "number") for i in range(300))
    encoding = Encoding.fit(pd.DataFrame({c.name: values for c in columns}), columns, np.ones(2000))
    network = nets.make_network(encoding, 1_000_000, 0.0)
    n_parameters = sum(p.numel() for p in network.parameters())

    assert encoding.n_tokens.sum() == 300 * 64
    assert n_parameters <= 1_000_000


def test_fitting_and_drawing_leave_torch_as_it_was(planted_model):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        planted_model.sample(10, seed=0)
        AnyOrder(max_epochs=1).fit(planted(50, 0), COLUMNS, np.ones(50), seed=0)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


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


def test_generators_are_imported_without_torch():
    code = (
        "import sys, microcalibrate.regularise.generators as g; "
        "assert g.BACKENDS; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(BACKENDS) >= {"anyorder", "hotdeck"}
    assert isinstance(make_generator("anyorder"), Likelihood)
    assert not isinstance(make_generator("hotdeck"), Likelihood)
