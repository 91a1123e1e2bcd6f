"""R's `survey` given the same margins and the same ratio: the weights agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose

from microcalibrate import Calibration, margins

from .r import run_r

SCRIPT = r"""
suppressPackageStartupMessages(library(survey))
folder <- commandArgs(TRUE)[1]
data <- read.csv(file.path(folder, "data.csv"), stringsAsFactors = TRUE)
design <- svydesign(ids = ~1, weights = ~w, data = data)
put <- function(design, name)
  writeLines(formatC(weights(design), digits = 17, format = "g"), file.path(folder, name))
sex <- data.frame(sex = c("f", "m"), Freq = c(520, 480))
cross <- read.csv(file.path(folder, "cross.csv"))
put(rake(design, list(~sex, ~age + region), list(sex, cross),
         control = list(maxit = 500, epsilon = 1e-9)), "rake")
put(calibrate(design, ~ I(tax - 0.21 * income) + I(age == "old") - 1, calfun = "linear",
              population = c(0, 400, 600)), "ratio")
"""


def test_raking_to_margins_and_a_ratio_are_what_r_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n = 400
    data = pd.DataFrame(
        {
            "w": rng.uniform(1, 4, n),
            "sex": rng.choice(["f", "m"], n),
            "age": rng.choice(["old", "young"], n),
            "region": rng.choice(["north", "south"], n),
            "income": rng.lognormal(3, 0.5, n),
            "tax": rng.uniform(1, 9, n),
        }
    )
    cross = {
        ("old", "north"): 210.0, ("old", "south"): 190.0,
        ("young", "north"): 330.0, ("young", "south"): 270.0,
    }  # fmt: skip
    data.to_csv(tmp_path / "data.csv", index=False)
    rows = [(*level, total) for level, total in cross.items()]
    table = pd.DataFrame(rows, columns=["age", "region", "Freq"])
    table.to_csv(tmp_path / "cross.csv", index=False)
    run_r(SCRIPT, tmp_path)

    rows_of = margins(data, {"sex": {"f": 520.0, "m": 480.0}, ("age", "region"): cross})
    raked = Calibration.from_table(data, rows_of, weight="w", tolerances=0, distance="raking")
    wanted = [
        {"name": "rate", "value": 0.21, "aggregate": "ratio", "variable": "tax",
         "denominator": "income"},
        {"name": "young", "value": 400, "filter": "age != 'old'"},
        {"name": "old", "value": 600, "filter": "age == 'old'"},
    ]  # fmt: skip
    ratio = Calibration.from_table(data, wanted, weight="w", tolerances=0, min_weight_ratio=-np.inf)

    assert_allclose(raked.calibrate(), np.loadtxt(tmp_path / "rake"), rtol=1e-6)
    assert_allclose(ratio.calibrate(), np.loadtxt(tmp_path / "ratio"), rtol=1e-6)
