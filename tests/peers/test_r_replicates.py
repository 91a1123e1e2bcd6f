"""Replicates calibrated by R `survey` and by us: the same weights, the same standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from microcalibrate import Calibration
from microcalibrate.inference import (
    ReplicateWeights,
    Replication,
    SurveyDesign,
    estimate,
    mean,
    quantile,
    ratio,
    replicate_weights,
    total,
)

from .r import run_r

SCRIPT = r"""
suppressPackageStartupMessages(library(survey))
folder <- commandArgs(TRUE)[1]
data(api)
lines <- character(0)
say <- function(...) lines <<- c(lines, paste(..., sep = ","))
digits <- function(x) formatC(as.numeric(x), digits = 17, format = "g")
put <- function(x, name) write.table(format(x, digits = 17), file.path(folder, name), sep = ",",
                                     row.names = FALSE, quote = FALSE)

kept <- c("dnum", "stype", "enroll", "api00", "api99", "api.stu", "sch.wide", "pw", "fpc")
clus <- apiclus1[, kept]
strat <- apistrat[, kept]
set.seed(3)
# Pairs of units in nine strata, for half-samples.
two <- strat[sample(nrow(strat), 180), ]
two$cell <- rep(1:9, each = 20)
two$half <- paste(two$cell, rep(1:2, 90))
wr <- svydesign(id = ~dnum, weights = ~pw, data = clus)
with_fpc <- svydesign(id = ~dnum, weights = ~pw, data = clus, fpc = ~fpc)
stratified <- svydesign(id = ~1, strata = ~stype, weights = ~pw, data = strat, fpc = ~fpc)
paired <- svydesign(id = ~half, strata = ~cell, weights = ~pw, data = two)
designs <- list(
  JK1 = list(clus, as.svrepdesign(wr, type = "JK1")),
  JK1fpc = list(clus, as.svrepdesign(with_fpc, type = "JK1")),
  JKn = list(strat, as.svrepdesign(stratified, type = "JKn")),
  subbootstrap = list(clus, as.svrepdesign(wr, type = "subbootstrap", replicates = 40)),
  BRR = list(two, as.svrepdesign(paired, type = "BRR")),
  Fay = list(two, as.svrepdesign(paired, type = "Fay", fay.rho = 0.3)))
pop <- c("(Intercept)" = 6194, stypeH = 755, stypeM = 1018, api99 = 3914069)
for (name in names(designs)) {
  put(designs[[name]][[1]], paste0(name, ".csv"))
  d <- designs[[name]][[2]]
  base <- weights(d, "analysis")
  colnames(base) <- paste0("rw", seq_len(ncol(base)))
  put(data.frame(pw = weights(d, "sampling"), base), paste0(name, "_weights.csv"))
  scales <- c(d$scale, rep(d$rscales, length.out = ncol(base)))
  writeLines(digits(scales), file.path(folder, paste0(name, "_scales")))
  for (how in c("none", "linear", "raking", "logit")) {
    with <- function(...) calibrate(d, ~stype + api99, pop, ..., epsilon = 1e-12, maxit = 200)
    e <- switch(how, none = d, linear = calibrate(d, ~stype + api99, pop),
      raking = with(calfun = "raking"), logit = with(calfun = "logit", bounds = c(0.1, 8)))
    final <- weights(e, "analysis")
    colnames(final) <- paste0("rw", seq_len(ncol(final)))
    put(data.frame(pw = weights(e, "sampling"), final), paste0(name, "_", how, ".csv"))
    t <- svytotal(~enroll, e, na.rm = TRUE); say(name, how, "total", digits(coef(t)), digits(SE(t)))
    m <- svymean(~api00, e); say(name, how, "mean", digits(coef(m)), digits(SE(m)))
    r <- svyratio(~api.stu, ~enroll, e, na.rm = TRUE)
    say(name, how, "ratio", digits(coef(r)), digits(SE(r)))
    w <- withReplicates(e, quote(log(sum(.weights * api00^2))))
    say(name, how, "own", digits(coef(w)), digits(SE(w)))
    q <- svyquantile(~api00, e, 0.5, df = Inf)
    say(name, how, "quantile", digits(coef(q)), digits(SE(q)))
  }
}
writeLines(c("design,how,statistic,estimate,se", lines), file.path(folder, "answers.csv"))
"""

DESIGNS: dict[str, tuple[SurveyDesign, Any]] = {
    "JK1": (SurveyDesign(psu="dnum"), Replication.jackknife),
    "JK1fpc": (SurveyDesign(psu="dnum", fpc="fpc"), Replication.jackknife),
    "JKn": (SurveyDesign(strata="stype", fpc="fpc"), Replication.jackknife),
}
HOW: dict[str, dict[str, Any]] = {
    "linear": {"min_weight_ratio": -np.inf},
    "raking": {"distance": "raking"},
    "logit": {"distance": "logit", "min_weight_ratio": 0.1, "max_weight_ratio": 8.0},
}
ALL = ["JK1", "JK1fpc", "JKn", "subbootstrap", "BRR", "Fay"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All answers of one R process, with the data that they are of."""
    place = tmp_path_factory.mktemp("replicates")
    run_r(SCRIPT, place)
    return place


def base_of(folder: Path, name: str) -> ReplicateWeights:
    """R's replicate weights before any calibration."""
    scale, *rscales = np.loadtxt(folder / f"{name}_scales")
    return ReplicateWeights.load(
        folder / f"{name}_weights.csv",
        weight="pw",
        replicates="rw*",
        type="bootstrap",
        scale=scale,
        rscales=rscales,
    )


def schools(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", skipinitialspace=True).fillna({"api.stu": 0})


def calibrated(data: pd.DataFrame, how: str) -> Calibration:
    kinds = (data["stype"].to_numpy()[:, None] == ["H", "M"]).astype(float)
    columns = np.column_stack([np.ones(len(data)), kinds, data["api99"]])
    targets = [6194.0, 755, 1018, 3_914_069]
    made = Calibration(data["pw"], targets, columns, tolerances=0, **HOW[how])
    made.calibrate(progress=False)
    return made


@pytest.mark.parametrize("how", ["none", *HOW])
@pytest.mark.parametrize("name", ALL)
def test_replicates_are_those_of_r(name: str, how: str, folder: Path) -> None:
    data = schools(folder, name)
    base = base_of(folder, name)
    if how == "none":
        ours, weights = base, base.full
    else:
        made = calibrated(data, how)
        ours = replicate_weights(made, Replication.of_weights(base), progress=False)
        weights = made
    theirs = pd.read_csv(folder / f"{name}_{how}.csv", skipinitialspace=True).to_numpy()
    # A gap of 1e-8 in the objective leaves some 1e-6 in the weights, and less in what they add to.
    assert_allclose(ours.full, theirs[:, 0], rtol=1e-5)
    assert_allclose(ours.weights, theirs[:, 1:], rtol=1e-5, atol=1e-6 * theirs.max())

    asked = [
        total("enroll", name="total"),
        mean("api00", name="mean"),
        ratio("api.stu", "enroll", name="ratio"),
    ]
    found = estimate(weights, asked, data, replicates=ours).table.set_index("statistic")
    answers = pd.read_csv(folder / "answers.csv").query("design == @name and how == @how")
    for answer in answers.itertuples():
        if answer.statistic == "own":
            own = ours.standard_error(lambda w: float(np.log(w @ data["api00"] ** 2)))
            assert_allclose(own, answer.se, rtol=1e-6)
        elif answer.statistic != "quantile":
            row = found.loc[answer.statistic]
            assert_allclose(
                row[["estimate", "standard_error"]].astype(float),
                [answer.estimate, answer.se],
                rtol=1e-6,
            )


@pytest.mark.parametrize("name", DESIGNS)
def test_jackknife_weights_are_those_of_r(name: str, folder: Path) -> None:
    data = schools(folder, name)
    design, make = DESIGNS[name]
    ours = make(design, data)
    theirs = base_of(folder, name)

    assert_allclose(ours.weights(data["pw"]).weights, theirs.weights, rtol=1e-9, atol=1e-9)
    assert_allclose(ours.scale * ours.rscales, theirs.scale * theirs.rscales)


def test_quantiles_have_woodruffs_interval_of_the_replicates(folder: Path) -> None:
    """With degrees of freedom far beyond any that R would take from the replicates."""
    data = schools(folder, "JK1")
    base = base_of(folder, "JK1")
    many = ReplicateWeights(
        base.full, base.weights, base.scale, base.rscales, base.type, freedom=10**9
    )
    found = estimate(base.full, quantile("api00", 0.5), data, replicates=many).table
    answer = (
        pd.read_csv(folder / "answers.csv")
        .query("design == 'JK1' and how == 'none' and statistic == 'quantile'")
        .iloc[0]
    )

    assert_allclose(found["estimate"], answer["estimate"])
    assert_allclose(found["standard_error"], answer["se"], rtol=1e-6)


def test_published_replicates_of_schools_raked(folder: Path) -> None:
    """`tests/rakecheck.Rout.save` of `survey`: mean 641.23 (26.874), total 3647280 (463582)."""
    data = schools(folder, "JK1")
    columns = np.column_stack(
        [
            data["stype"].to_numpy()[:, None] == ["E", "H", "M"],
            data["sch.wide"].to_numpy()[:, None] == ["No", "Yes"],
        ]
    ).astype(float)
    targets = [4421.0, 755, 1018, 1072, 5122]
    made = Calibration(data["pw"], targets, columns, tolerances=0, distance="raking")
    made.calibrate(progress=False)
    # The published ones have the finite population correction of 15 of 757 districts.
    design = SurveyDesign(psu="dnum", fpc="fpc")
    replicates = replicate_weights(made, Replication.jackknife(design, data), progress=False)
    asked = [mean("api00"), total("enroll")]
    found = estimate(made, asked, data, replicates=replicates).table

    assert_allclose(found["estimate"], [641.23, 3_647_280], atol=0.51)
    assert_allclose(found["standard_error"], [26.874, 463_582], rtol=2.5e-5)
