"""A model that several tests of generators draw from."""

from __future__ import annotations

import numpy as np
import pytest

from microcalibrate.regularise.generators import AnyOrder

from .planted import COLUMNS, planted


@pytest.fixture(scope="session")
def planted_model():
    """What the any-order generator learns from planted rows; drawing leaves it as it is."""
    rows = planted(1500, seed=0)
    return AnyOrder(max_epochs=25, patience=6).fit(rows, COLUMNS, np.ones(len(rows)), seed=1)
