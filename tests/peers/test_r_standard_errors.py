"""The standard errors of R `survey` after calibration: linearised, run live on R's own data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.inference import (
    Estimates,
    SurveyDesign,
    count,
    estimate,
    mean,
    quantile,
    ratio,
    total,
)

from .r import run_r

# Each answer is a line: design, distance, statistic, domain, estimate, standard error, more.
SCRIPT = r"""
suppressPackageStartupMessages(library(survey))
folder <- commandArgs(TRUE)[1]
data(api)
lines <- character(0)
say <- function(design, how, statistic, domain, estimate, se, more = NA)
  lines <<- c(lines, paste(design, how, statistic, domain,
    formatC(as.numeric(estimate), digits = 17, format = "g"),
    formatC(as.numeric(se), digits = 17, format = "g"),
    formatC(as.numeric(more), digits = 17, format = "g"), sep = ","))

ask <- function(name, how, d) {
  for (variable in c("enroll", "api00")) {
    f <- as.formula(paste("~", variable))
    tell <- function(kind, domain, x, more)
      say(name, how, paste0(kind, "-", variable), domain, coef(x), SE(x), more)
    t <- svytotal(f, d, deff = "replace"); tell("total", "all", t, deff(t))
    m <- svymean(f, d, deff = "replace"); tell("mean", "all", m, deff(m))
    for (p in c(0.25, 0.5, 0.9)) {
      q <- svyquantile(f, d, p)
      say(name, how, paste0("quantile-", variable, "-", p), "all", coef(q), SE(q), confint(q)[1, 1])
    }
    for (level in c("No", "Yes")) {
      s <- subset(d, comp.imp == level)
      m <- svymean(f, s, deff = "replace"); tell("mean", level, m, deff(m))
      t <- svytotal(f, s); tell("total", level, t, NA)
      q <- svyquantile(f, s, 0.5)
      say(name, how, paste0("quantile-", variable, "-0.5"), level, coef(q), SE(q), confint(q)[1, 1])
    }
  }
  r <- svyratio(~api.stu, ~enroll, d)
  say(name, how, "ratio-api.stu-enroll", "all", coef(r), SE(r), degf(d))
}

designs <- list(
  clus1 = list(apiclus1, svydesign(id = ~dnum, weights = ~pw, data = apiclus1, fpc = ~fpc)),
  clus2 = list(apiclus2, svydesign(id = ~dnum + snum, fpc = ~fpc1 + fpc2, data = apiclus2)),
  strat = list(apistrat,
    svydesign(id = ~1, strata = ~stype, weights = ~pw, data = apistrat, fpc = ~fpc)),
  wr = list(apiclus1, svydesign(id = ~dnum, weights = ~pw, data = apiclus1)))
set.seed(7)
odd <- apiclus1
odd$half <- ifelse(odd$dnum > median(odd$dnum), "b", "a")
odd$unit <- ave(odd$dnum, odd$half, FUN = function(v) match(v, unique(v)))
odd$pw <- odd$pw * runif(nrow(odd), 0.5, 2)
designs$odd <- list(odd,
  svydesign(id = ~unit, strata = ~half, weights = ~pw, data = odd, nest = TRUE))
lone <- odd
lone$half[lone$dnum == lone$dnum[1]] <- "c"
for (rule in c("certainty", "adjust", "average"))
  designs[[rule]] <- list(lone, svydesign(id = ~dnum, strata = ~half, weights = ~pw, data = lone))

columns <- c("dnum", "snum", "stype", "enroll", "api00", "api99", "api.stu", "comp.imp", "pw")
for (name in names(designs)) {
  extra <- intersect(c("fpc", "fpc1", "fpc2", "half", "unit"), names(designs[[name]][[1]]))
  table <- designs[[name]][[1]][, c(columns, extra)]
  table$enroll[is.na(table$enroll)] <- 0
  table$api.stu[is.na(table$api.stu)] <- 0
  options(survey.lonely.psu = if (name %in% c("certainty", "adjust", "average")) name else "fail")
  d <- designs[[name]][[2]]
  d$variables$enroll <- table$enroll
  d$variables$api.stu <- table$api.stu
  d$variables$pw <- weights(d)
  table$pw <- weights(d)
  write.csv(format(table, digits = 17), file.path(folder, paste0(name, ".csv")),
            row.names = FALSE, quote = FALSE)
  ask(name, "none", d)
  pop <- c("(Intercept)" = 6194, stypeH = 755, stypeM = 1018, api99 = 3914069)
  with <- function(...) calibrate(d, ~stype + api99, pop, ..., epsilon = 1e-12, maxit = 200)
  ask(name, "linear", calibrate(d, ~stype + api99, pop))
  ask(name, "raking", with(calfun = "raking"))
  ask(name, "logit", with(calfun = "logit", bounds = c(0.2, 4)))
  ask(name, "bounded", with(calfun = "linear", bounds = c(0.3, 2.5)))
  ask(name, "variance", calibrate(d, ~stype + api99, pop, variance = c(0, 0, 0, 1)))
  ask(name, "one total", calibrate(d, ~enroll - 1, c(enroll = 3811472)))
}
header <- "design,how,statistic,domain,estimate,se,more"
writeLines(c(header, lines), file.path(folder, "answers.csv"))
"""

DESIGNS: dict[str, dict[str, Any]] = {
    "clus1": {"psu": "dnum", "fpc": "fpc"},
    "clus2": {"psu": ("dnum", "snum"), "fpc": ("fpc1", "fpc2")},
    "strat": {"strata": "stype", "fpc": "fpc"},
    "wr": {"psu": "dnum"},
    "odd": {"psu": "unit", "strata": "half", "nest": True},
    "certainty": {"psu": "dnum", "strata": "half", "lonely_psu": "certainty"},
    "adjust": {"psu": "dnum", "strata": "half", "lonely_psu": "adjust"},
    "average": {"psu": "dnum", "strata": "half", "lonely_psu": "average"},
}
HOW: dict[str, dict[str, Any]] = {
    "linear": {"min_weight_ratio": -np.inf},
    "raking": {"distance": "raking"},
    "logit": {"distance": "logit", "min_weight_ratio": 0.2, "max_weight_ratio": 4.0},
    "bounded": {"min_weight_ratio": 0.3, "max_weight_ratio": 2.5},
    "variance": {"min_weight_ratio": -np.inf},
    "one total": {"min_weight_ratio": -np.inf},
}
ASKED = [
    *(total(one, name=f"total-{one}") for one in ("enroll", "api00")),
    *(mean(one, name=f"mean-{one}") for one in ("enroll", "api00")),
    *(
        quantile(one, p, name=f"quantile-{one}-{p}")
        for one in ("enroll", "api00")
        for p in (0.25, 0.5, 0.9)
    ),
    ratio("api.stu", "enroll", name="ratio-api.stu-enroll"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All answers of one R process, with the data that they are of."""
    place = tmp_path_factory.mktemp("standard_errors")
    run_r(SCRIPT, place)
    return place


def schools(folder: Path, design: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{design}.csv", skipinitialspace=True)


def calibrated(data: pd.DataFrame, how: str) -> Any:
    """The calibration that R was asked for, or the weights alone."""
    if how == "none":
        return data["pw"].to_numpy()
    kinds = (data["stype"].to_numpy()[:, None] == ["H", "M"]).astype(float)
    columns = np.column_stack([np.ones(len(data)), kinds, data["api99"]])
    targets = [6194.0, 755, 1018, 3_914_069]
    if how == "one total":
        columns, targets = data[["enroll"]].to_numpy(dtype=float), [3_811_472.0]
    options = dict(HOW[how])
    if how == "variance":
        # R's variances are the inverse of the factors.
        options["heteroscedasticity"] = 1 / data["api99"]
    calibration = Calibration(data["pw"], targets, columns, tolerances=0, **options)
    calibration.calibrate(progress=False)
    assert calibration.result.converged
    return calibration


def found(data: pd.DataFrame, design: str, how: str, by: str | None) -> Estimates:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if how == "none" else "error")
        return estimate(
            calibrated(data, how), ASKED, data, design=SurveyDesign(**DESIGNS[design]), by=by
        )


@pytest.mark.parametrize("how", ["none", *HOW])
@pytest.mark.parametrize("design", DESIGNS)
def test_standard_errors_are_those_of_r(design: str, how: str, folder: Path) -> None:
    answers = pd.read_csv(folder / "answers.csv", skipinitialspace=True).query(
        "design == @design and how == @how"
    )
    data = schools(folder, design)
    ours = {
        ("all", row["statistic"]): row
        for row in found(data, design, how, None).table.to_dict("records")
    }
    for row in found(data, design, how, "comp.imp").table.to_dict("records"):
        ours[row["comp.imp"], row["statistic"]] = row

    assert len(answers) == 23
    for answer in answers.itertuples():
        ask = ours[answer.domain, answer.statistic]
        assert_allclose(ask["estimate"], answer.estimate, rtol=1e-6, err_msg=str(answer))
        assert_allclose(
            ask["standard_error"], answer.se, rtol=1e-6, atol=1e-9 * abs(answer.estimate)
        )
        kind = answer.statistic.split("-")[0]
        if kind == "quantile":
            assert_allclose(ask["lower"], answer.more, rtol=1e-6)
        elif kind == "ratio":
            assert ask["degrees_of_freedom"] == answer.more
        elif not np.isnan(answer.more):
            assert_allclose(ask["design_effect"], answer.more, rtol=1e-6, atol=1e-9)


def test_a_calibrated_total_has_no_error(folder: Path) -> None:
    data = schools(folder, "clus1")
    found = estimate(
        calibrated(data, "raking"), [count(), total("api99")], data, design=SurveyDesign(psu="dnum")
    )

    assert_allclose(found.table["standard_error"], 0, atol=1e-9 * 3_914_069)


# --- Published numbers ----------------------------------------------------------------------------


def test_schools_calibrated_to_their_types(folder: Path) -> None:
    """`tests/testoutput/caleg.Rout.save` of `survey`: 642.31 (23.921) and 3680893 (406293)."""
    data = schools(folder, "clus1")
    kinds = (data["stype"].to_numpy()[:, None] == ["E", "H", "M"]).astype(float)
    calibration = Calibration(data["pw"], [4421.0, 755, 1018], kinds, tolerances=0)
    calibration.calibrate(progress=False)
    design = SurveyDesign(psu="dnum", fpc="fpc")
    found = estimate(calibration, [mean("api00"), total("enroll")], data, design=design).table

    assert_allclose(found["estimate"], [642.31, 3_680_893], atol=0.51)
    assert_allclose(found["standard_error"], [23.921, 406_293], rtol=2.5e-5)


def test_domain_of_schools_calibrated_to_type_and_score(folder: Path) -> None:
    """The vignette "domain" of `survey`: 672.049 (6.518153)."""
    data = schools(folder, "clus1")
    design = SurveyDesign(psu="dnum", fpc="fpc")
    found = estimate(
        calibrated(data, "linear"), mean("api00"), data, design=design, by="comp.imp"
    ).table.set_index("comp.imp")

    assert_allclose(
        found.loc["Yes", ["estimate", "standard_error"]], [672.049, 6.518153], atol=6e-4
    )
    assert_allclose(found.loc["No", "estimate"], 649.706, atol=6e-4)
