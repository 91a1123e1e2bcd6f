"""Analysis of targets: what cannot be honoured is refused with an error of the package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from microcalibrate import Calibration
from microcalibrate.errors import InvalidOption, InvalidProblem, InvalidWeights
from microcalibrate.target_analysis.analysis import TargetAnalysis, analyse_targets

from ..problems import Data, feasible


def analysed(data: Data, **options: Any) -> TargetAnalysis:
    return analyse_targets(data.weights, data.targets, data.matrix, **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": [1.0, -1.0]}, InvalidWeights, "negative"),
        ({"targets": [1.0, 2.0, 3.0]}, InvalidProblem, "shape"),
        ({"estimate_matrix": [[1.0, 0.0], [1.0, np.nan]]}, InvalidProblem, "nan"),
        ({"min_weight_ratio": 2.0, "max_weight_ratio": 1.0}, InvalidOption, "cross"),
        ({"min_weight_ratio": 1.0, "max_weight_ratio": 1.0}, InvalidOption, "no ratio free"),
        ({"closeness": 0.0}, InvalidOption, "closeness"),
        ({"distance": "far"}, InvalidOption, "distance"),
        ({"loosening": -0.1}, InvalidOption, "loosening"),
        ({"min_explained": 1.0}, InvalidOption, "min_explained"),
        ({"n_resolve": 1.5}, InvalidOption, "n_resolve"),
        ({"max_iter": 0}, InvalidOption, "max_iter"),
    ],
)
def test_bad_input_gives_an_error_of_the_package(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    usual: dict[str, Any] = {
        "weights": [1.0, 1.0],
        "targets": [2.0, 1.0],
        "estimate_matrix": [[1.0, 0.0], [1.0, 1.0]],
    }

    with pytest.raises(error, match=words):
        analyse_targets(**usual | options)


def test_a_result_of_another_problem_is_refused() -> None:
    data = feasible(16)

    def result(**options: Any) -> Any:
        calibration = Calibration(data.weights, data.targets, data.matrix, **options)
        calibration.calibrate(progress=False)
        return calibration.result

    with pytest.raises(InvalidOption, match="dropped records"):
        analysed(data, result=result(target_records=30))
    with pytest.raises(InvalidOption, match="other targets"):
        analysed(data, result=result(), target_names=list("abcde"))
    with pytest.raises(InvalidOption, match="design weights"):
        analysed(replace(data, weights=data.weights * 2), result=result())
    with pytest.raises(InvalidOption, match="do not belong"):
        analysed(replace(data, targets=data.targets * 1.5), result=result())
    with pytest.raises(InvalidOption, match="do not belong"):
        analysed(data, result=result(), closeness=1.0)
