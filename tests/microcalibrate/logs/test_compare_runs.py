"""Two calibrations are compared whatever their records are called."""

import numpy as np

from microcalibrate import Calibration
from microcalibrate.reports.comparison import compare_runs


def saved(folder, record_ids):
    calibration = Calibration(
        np.ones(3), [6.0], np.array([[1.0], [2.0], [1.0]]), record_ids=record_ids
    )
    calibration.calibrate()
    return calibration.result.save(folder)


def test_records_that_are_numbers_here_and_texts_there_are_the_same(tmp_path):
    numbers = saved(tmp_path / "numbers", np.array([7, 8, 9]))
    texts = saved(tmp_path / "texts", np.array(["7", "8", "x"]))

    weights = compare_runs(numbers, texts).weights.set_index("id")

    assert set(weights.index) == {"7", "8", "9", "x"}
    assert weights.loc["7", "first"] == weights.loc["7", "second"] > 0
    assert weights.loc["x", "first"] == 0
    assert weights.loc["9", "second"] == 0
