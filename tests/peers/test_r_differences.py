"""Differences of two means or ratios and their standard errors, as R's `svycontrast` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.inference import (
    Replication,
    SurveyDesign,
    difference,
    estimate,
    mean,
    ratio,
    replicate_weights,
    total,
)

from .r import run_r

SCRIPT = r"""
suppressPackageStartupMessages(library(survey))
folder <- commandArgs(TRUE)[1]
data(api)
schools <- apiclus1[, c("dnum", "stype", "enroll", "api00", "api99", "comp.imp", "pw", "fpc")]
write.csv(format(schools, digits = 17), file.path(folder, "schools.csv"), row.names = FALSE,
          quote = FALSE)
lines <- character(0)
digits <- function(x) formatC(as.numeric(x), digits = 17, format = "g")
say <- function(kind, how, statistic, x)
  lines <<- c(lines, paste(kind, how, statistic, digits(coef(x)), digits(SE(x)), sep = ","))
# `svyby(covmat = TRUE)` takes no calibrated design; totals of all columns together do.
ask <- function(kind, how, d) {
  f <- ~score1 + score0 + one1 + one0 + pupils1 + pupils0
  t <- if (kind == "JK1") svytotal(f, d, return.replicates = TRUE) else svytotal(f, d)
  say(kind, how, "mean", svycontrast(t, quote(score1 / one1 - score0 / one0)))
  say(kind, how, "total", svycontrast(t, quote(pupils1 - pupils0)))
  say(kind, how, "ratio", svycontrast(t, quote(score1 / pupils1 - score0 / pupils0)))
}
for (yes in 0:1) {
  inside <- (schools$comp.imp == "Yes") == (yes == 1)
  schools[[paste0("score", yes)]] <- schools$api00 * inside
  schools[[paste0("one", yes)]] <- as.numeric(inside)
  schools[[paste0("pupils", yes)]] <- schools$enroll * inside
}
pop <- c("(Intercept)" = 6194, stypeH = 755, stypeM = 1018, api99 = 3914069)
linearised <- svydesign(id = ~dnum, weights = ~pw, data = schools, fpc = ~fpc)
for (kind in c("linearised", "JK1")) {
  d <- if (kind == "JK1") as.svrepdesign(linearised, type = "JK1") else linearised
  ask(kind, "linear", calibrate(d, ~stype + api99, pop))
  ask(kind, "raking", calibrate(d, ~stype + api99, pop, calfun = "raking", epsilon = 1e-12,
                                maxit = 200))
}
header <- "kind,how,statistic,estimate,se"
writeLines(c(header, lines), file.path(folder, "answers.csv"))
"""
HOW: dict[str, dict[str, Any]] = {
    "linear": {"min_weight_ratio": -np.inf},
    "raking": {"distance": "raking"},
}
DESIGN = SurveyDesign(psu="dnum", fpc="fpc")
YES, NO = "improved == 1", "improved == 0"
ASKED = [
    difference(mean("api00", where=YES), mean("api00", where=NO), name="mean"),
    difference(total("enroll", where=YES), total("enroll", where=NO), name="total"),
    difference(ratio("api00", "enroll", where=YES), ratio("api00", "enroll", where=NO),
               name="ratio"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All answers of one R process, with the data that they are of."""
    place = tmp_path_factory.mktemp("differences")
    run_r(SCRIPT, place)
    return place


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["linearised", "JK1"])
def test_differences_have_the_errors_of_r(kind: str, how: str, folder: Path) -> None:
    data = pd.read_csv(folder / "schools.csv", skipinitialspace=True)
    data["improved"] = (data["comp.imp"].str.strip() == "Yes") * 1
    kinds = (data["stype"].to_numpy()[:, None] == ["H", "M"]).astype(float)
    columns = np.column_stack([np.ones(len(data)), kinds, data["api99"]])
    targets = [6194.0, 755, 1018, 3_914_069]
    made = Calibration(data["pw"], targets, columns, tolerances=0, **HOW[how])
    made.calibrate(progress=False)
    options: dict[str, Any] = {"design": DESIGN}
    if kind == "JK1":
        drawn = Replication.jackknife(DESIGN, data)
        options = {"replicates": replicate_weights(made, drawn, progress=False)}
    found = estimate(made, ASKED, data, **options).table.set_index("statistic")
    answers = pd.read_csv(folder / "answers.csv").set_index(["kind", "how"]).loc[(kind, how)]

    assert list(answers["statistic"]) == list(found.index)
    assert_allclose(found["estimate"], answers["estimate"], rtol=1e-6)
    assert_allclose(found["standard_error"], answers["se"], rtol=1e-6)
