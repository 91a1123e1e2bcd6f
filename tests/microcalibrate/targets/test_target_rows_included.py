"""Targets of a survey with households and persons: rows that are left out leave no trace."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from microcalibrate.errors import InvalidTargetTable
from microcalibrate.regularise.target_rows import DeclaredRows

from ..households import make_survey


def test_rows_left_out_give_the_targets_of_the_others_in_their_order() -> None:
    survey = make_survey([2, 3, 1, 4], 3)
    weights = np.ones(4)
    table = pd.DataFrame(
        {
            "name": ["adults", "gone", "households", "gone too", "everyone"],
            "value": [5.0, np.nan, 4.0, 1.0, 10.0],
            "filter": ["age >= 18", "no such thing", None, "age >= 0", None],
            "agg": "count",
            "entity": ["person", "person", None, "benunit", "person"],
            "include": [True, False, None, False, True],
        }
    )

    matrix, targets = DeclaredRows(table).build(survey, weights)
    kept = DeclaredRows(table.iloc[[0, 2, 4]].drop(columns="include"))
    expected, _ = kept.build(survey, weights)

    assert targets.names == ("adults", "households", "everyone")
    assert_array_equal(targets.values, [5.0, 4.0, 10.0])
    assert_array_equal(matrix.toarray(), expected.toarray())
    with pytest.raises(InvalidTargetTable, match="No row of the target table is included"):
        DeclaredRows(table.assign(include=False)).build(survey, weights)
