"""Prices of one round are handed on to the next, and to the folds of held-out targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate.regularise import state
from microcalibrate.regularise.loop import regularise
from microcalibrate.regularise.result import RegulariseResult

from ..offenders import SURFACE, declared_targets, hot_deck, survey_with_offenders


def run(tolerance: float, is_warm: bool, patch: pytest.MonkeyPatch) -> RegulariseResult:
    """Two rounds; without the prices where they are to start from nothing."""
    survey = survey_with_offenders(100)
    model, codec = hot_deck(survey)
    targets = declared_targets(survey, noise=0.02).assign(tolerance=tolerance)
    if not is_warm:
        for name in ("recalibrate", "solved_weights"):
            plain = getattr(state, name)

            def cold(*args: Any, plain: Any = plain, **options: Any) -> Any:
                return plain(*args, **{**options, "start_prices": None})

            patch.setattr(state, name, cold)
    return regularise(
        survey, model, targets, codec=codec, surface=SURFACE, progress=False, seed=1,
        max_offspring=5, max_rounds=2, n_folds=2, batch=1,
    )  # fmt: skip


@pytest.mark.parametrize(("tolerance", "most"), [(0.05, 1.0), (np.nan, 1.0)])
def test_rounds_from_former_prices_take_fewer_steps_to_the_same_weights(
    tolerance: float, most: float
) -> None:
    """They gain little, as a solve from nothing takes a handful too, and never lose."""
    with pytest.MonkeyPatch.context() as patch:
        cold = run(tolerance, False, patch)
    with pytest.MonkeyPatch.context() as patch:
        warm = run(tolerance, True, patch)
    steps = [int(of.history["n_steps"].sum()) for of in (warm, cold)]

    assert len(warm.rounds) == len(cold.rounds) > 0
    assert steps[0] <= most * steps[1]
    assert_allclose(warm.weights, cold.weights, rtol=2e-3)
    assert_allclose(warm.history["target_loss_after"], cold.history["target_loss_after"], atol=1e-9)
    gaps = warm.history["gap"].dropna()
    assert (gaps <= 1e-8).all()
