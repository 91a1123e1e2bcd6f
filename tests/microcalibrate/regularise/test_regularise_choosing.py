"""Which candidates become offspring, how many, and what they weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.regularise import Codec
from microcalibrate.regularise import rounds as rounds_module
from microcalibrate.regularise.choosing import Coordinates, chosen, shared_weights
from microcalibrate.regularise.conditions import n_offspring
from microcalibrate.regularise.loop import regularise

from ..households import FLAT, make_survey
from ..offenders import SURFACE, declared_targets, hot_deck, survey_with_offenders

# Without shrinking: a failure names its numbers already.
EXAMPLES = settings(
    max_examples=40, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)


@EXAMPLES
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), n_targets=st.integers(1, 6))
def test_offspring_weigh_together_what_their_source_weighed(
    seed: int, n: int, n_targets: int
) -> None:
    """To 1e-12, each positive; and what is said of contributions is so."""
    rng = np.random.default_rng(seed)
    weight = float(rng.lognormal(5, 3))
    rows = rng.normal(1, 1, (n, n_targets)) * (rng.random((n, n_targets)) < 0.7)
    source = rows.mean(axis=0) * rng.choice([0.0, 1.0, 1.02, 5.0], n_targets)
    met = rng.random(n_targets) < 0.8
    scales = weight * np.maximum(np.abs(source), 0.1) * 100
    found, is_near = shared_weights(weight, rows, source, met, scales)

    assert_allclose(found.sum(), weight, rtol=1e-12)
    assert (found > 0).all()
    reached = met & (np.abs(rows).sum(axis=0) > 0) & (np.abs(source * weight) > 1e-6 * scales)
    apart = np.abs(found @ rows - weight * source)[reached]
    assert is_near == bool((apart <= 0.05001 * np.abs(weight * source[reached])).all())


@pytest.mark.parametrize(("source", "is_near"), [(0.98, True), (0.94, False)])
def test_within_five_percent_is_near_and_eight_is_not(source: float, is_near: bool) -> None:
    """The least share is a fiftieth of an equal one, so a unit adds 1.02 at least."""
    rows = np.array([[1.0], [3.0]])
    found, near = shared_weights(8.0, rows, np.array([source]), np.array([True]), np.array([8.0]))
    assert near == is_near
    assert_allclose(found.sum(), 8.0, rtol=1e-12)
    assert found[1] >= 4.0 / 50 * (1 - 1e-6)


@pytest.mark.parametrize("mode", ["replace", "retain"])
def test_a_lineage_keeps_its_mass_before_weights_are_fitted(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each of several rounds, offspring of offspring among them; of all kinds of weights."""
    survey = survey_with_offenders(120, seed=5)
    model, codec = hot_deck(survey)
    pairs = []
    original = rounds_module.spread

    def recording(state: Any, *args: Any, **kwargs: Any) -> Any:
        trial = original(state, *args, **kwargs)
        pairs.append((state, trial))
        return trial

    monkeypatch.setattr(rounds_module, "spread", recording)
    regularise(
        survey, model, declared_targets(survey), codec=codec, surface=SURFACE, mode=mode, seed=3,
        max_rounds=3, max_offspring=4, n_folds=0, progress=False,
    )  # fmt: skip
    assert len(pairs) >= 2
    for state, trial in pairs:
        assert len(trial.offspring)
        for column in ("weight", "base_weight", "prior"):
            sums = []
            for of in (state, trial):
                units = of.survey.tables["household"].assign(prior=of.prior)
                sums.append(units.groupby("_mc_lineage")[column].sum())
            assert_allclose(sums[1], sums[0], rtol=1e-12)
            assert list(sums[1].index) == list(sums[0].index)
        kept = trial.survey.unit_ids.isin(trial.offspring["source"])
        assert kept.any() == (mode == "retain")


def test_those_chosen_are_far_apart_and_every_group_is_among_them() -> None:
    """Two clusters: one of each before a second of either; groups come first."""
    survey = make_survey([1] * 5, 0, schema=FLAT)
    codec = Codec.fit(survey)
    space, width = Coordinates(codec.encode(survey), codec.columns), len(codec.columns)
    places = np.repeat([[0.0], [0.01], [0.02], [1.0], [1.01]], width, axis=1)
    same = np.zeros(5)

    two = chosen(space, places, same, 2)
    assert len(set(two) & {0, 1, 2}) == len(set(two) & {3, 4}) == 1
    groups = np.array([0.2, 0.4, 0.6, 0.6, 0.6])
    assert set(groups[chosen(space, places, groups, 3)]) == {0.2, 0.4, 0.6}
    assert_array_equal(chosen(space, places, same, 9), np.arange(5))


@pytest.mark.parametrize(
    ("share", "weight", "k"),
    [(0.05, 1.0, 2), (0.05001, 1.0, 3), (0.001, 1.0, 2), (0.9, 1.0, 36), (0.9, 1e9, 50),
     (0.03, 400.0, 4)],
)  # fmt: skip
def test_the_number_of_offspring_follows_share_and_weight(share: float, weight: float, k: int):
    assert n_offspring(share, weight, 0.025, 100.0, 50) == k
