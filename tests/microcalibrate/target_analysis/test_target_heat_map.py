"""Heat map of conflicts: the numbers of the analysis, full names, and nobody's tags."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from microcalibrate.errors import InvalidOption
from microcalibrate.target_analysis.analysis import analyse_targets

from ..problems import survey

HOSTILE = "<img src=x onerror=alert(1)>"


def test_heat_map_has_the_worst_targets_with_their_full_names() -> None:
    data = survey(18, n_records=300, n_targets=50)
    long = "population of the state of California aged 65 or over in receipt of benefits"
    names = [HOSTILE, long, *[f"t{j}" for j in range(2, 50)]]
    found = analyse_targets(
        data.weights, data.targets, data.matrix, target_names=names, max_weight_ratio=1.2
    )

    figure = found.plot(40)

    (marks,) = figure.data
    within = found.table[~found.table.unreachable].head(40)
    order = [names.index(name) for name in within.name]
    expected = found.conflict_matrix[np.ix_(order, order)].copy()
    np.fill_diagonal(expected, np.nan)
    assert_allclose(np.array(marks.z, dtype=float), expected)
    everything = found.plot(50).to_json().replace("\\u003c", "<").replace("\\u003e", ">")
    assert "&lt;img" in everything
    assert "<img" not in everything
    shown = [text.replace("<br>", " ") for text in figure.layout.yaxis.ticktext]
    assert [text.rsplit("  ", 1)[1] for text in shown] == [str(rank) for rank in within["rank"]]
    assert [text.startswith(long) for text in shown] == list(within.name == long)
    assert len(within) == 40
    with pytest.raises(InvalidOption, match="n_targets"):
        found.plot(0)
    with pytest.raises(InvalidOption, match="n_targets"):
        found.summary(0)
