"""One ratio per household, as R `survey` has it: the same standard errors, the same replicates."""

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
    count,
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
people <- read.csv(file.path(folder, "people.csv"))
targets <- read.csv(file.path(folder, "targets.csv"))
pop <- setNames(targets$value, c("(Intercept)", "sexm", "age"))
lines <- character(0)
digits <- function(x) formatC(as.numeric(x), digits = 17, format = "g")
say <- function(...) lines <<- c(lines, paste(..., sep = ","))
tell <- function(design, how, domain, d) {
  t <- svytotal(~income, d); say(design, how, domain, "total", digits(coef(t)), digits(SE(t)))
  m <- svymean(~income, d); say(design, how, domain, "mean", digits(coef(m)), digits(SE(m)))
  r <- svyratio(~tax, ~income, d); say(design, how, domain, "ratio", digits(coef(r)), digits(SE(r)))
  n <- svytotal(~one, d); say(design, how, domain, "count", digits(coef(n)), digits(SE(n)))
}
ask <- function(design, how, d) {
  tell(design, how, "all", d)
  for (level in c("f", "m")) tell(design, how, level, subset(d, sex == level))
}
homes <- svydesign(id = ~home, weights = ~weight, data = people)
psus <- svydesign(id = ~psu + home, strata = ~stratum, weights = ~weight, data = people)
finite <- svydesign(id = ~psu + home, strata = ~stratum, weights = ~weight, data = people,
                    fpc = ~n_psus + n_homes)
persons <- svydesign(id = ~psu + home + person, strata = ~stratum, weights = ~weight,
                     data = people, fpc = ~n_psus + n_homes + n_persons)
designs <- list(homes = list(homes, 1), psus = list(psus, 2), finite = list(finite, 2),
                persons = list(persons, 2))
f <- ~sex + age
for (name in names(designs)) {
  d <- designs[[name]][[1]]; s <- designs[[name]][[2]]
  with <- function(...) calibrate(d, f, pop, aggregate.stage = s, ..., epsilon = 1e-12, maxit = 200)
  ask(name, "linear", calibrate(d, f, pop, aggregate.stage = s))
  ask(name, "raking", with(calfun = "raking"))
  ask(name, "logit", with(calfun = "logit", bounds = c(0.3, 3)))
}
replicated <- list(JK1 = as.svrepdesign(homes, type = "JK1"),
                   JKn = as.svrepdesign(psus, type = "JKn"))
for (name in names(replicated)) {
  d <- replicated[[name]]
  with <- function(...) calibrate(d, f, pop, aggregate.index = ~home, ..., epsilon = 1e-12,
                                  maxit = 200)
  made <- list(linear = calibrate(d, f, pop, aggregate.index = ~home),
               raking = with(calfun = "raking"))
  for (how in names(made)) {
    ask(name, how, made[[how]])
    write.table(format(as.matrix(weights(made[[how]], "analysis")), digits = 17),
                file.path(folder, paste0(name, "_", how, ".csv")), sep = ",", row.names = FALSE,
                col.names = FALSE, quote = FALSE)
  }
}
writeLines(c("design,how,domain,statistic,estimate,se", lines), file.path(folder, "answers.csv"))
"""

DESIGNS = {
    "homes": SurveyDesign(psu="home"),
    "psus": SurveyDesign(psu=("psu", "home"), strata="stratum"),
    "finite": SurveyDesign(psu=("psu", "home"), strata="stratum", fpc=("n_psus", "n_homes")),
    "persons": SurveyDesign(
        psu=("psu", "home", "person"), strata="stratum", fpc=("n_psus", "n_homes", "n_persons")
    ),
}
HOW: dict[str, dict[str, Any]] = {
    "linear": {"min_weight_ratio": -np.inf},
    "raking": {"distance": "raking"},
    "logit": {"distance": "logit", "min_weight_ratio": 0.3, "max_weight_ratio": 3.0},
}
REPLICATED = {"JK1": "homes", "JKn": "psus"}
ASKED = [
    total("income", name="total"),
    mean("income", name="mean"),
    ratio("tax", "income", name="ratio"),
    count(name="count"),
]


def people() -> pd.DataFrame:
    """Persons of 120 households in 24 units of three strata; a household has one weight."""
    rng = np.random.default_rng(12)
    home = np.repeat(np.arange(120), rng.integers(2, 6, 120))
    psu = home // 5
    income = np.exp(3 + rng.normal(0, 0.4, 120)[home] + rng.normal(0, 0.6, len(home)))
    return pd.DataFrame(
        {
            "home": home,
            "psu": psu,
            "stratum": psu % 3,
            "n_psus": 40 + 10 * (psu % 3),
            "n_homes": 30 + psu,
            "person": np.arange(len(home)),
            "n_persons": 6 + home % 3,
            "weight": rng.uniform(20, 60, 120)[home],
            "one": 1,
            "income": income,
            "tax": np.maximum(0.3 * income - 4, 0) + 1,
            "age": rng.integers(0, 90, len(home)),
            "sex": np.where(rng.random(len(home)) < 0.5, "f", "m"),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All answers of one R process, with the data that they are of."""
    place = tmp_path_factory.mktemp("clusters")
    people().to_csv(place / "people.csv", index=False, float_format="%.17g")
    pd.DataFrame({"value": totals(people())}).to_csv(
        place / "targets.csv", index=False, float_format="%.17g"
    )
    run_r(SCRIPT, place)
    return place


def columns(data: pd.DataFrame) -> np.ndarray:
    return np.column_stack([np.ones(len(data)), data["sex"] == "m", data["age"]])


def totals(data: pd.DataFrame) -> np.ndarray:
    found: np.ndarray = columns(data).T @ data["weight"].to_numpy() * [1.05, 1.09, 1.02]
    return found


def calibrated(data: pd.DataFrame, how: str) -> Calibration:
    made = Calibration(
        data["weight"], totals(data), columns(data), tolerances=0, cluster=data["home"], **HOW[how]
    )
    made.calibrate(progress=False)
    assert made.result.converged
    return made


def compare(folder: Path, design: str, how: str, found: dict[str, pd.DataFrame]) -> None:
    answers = pd.read_csv(folder / "answers.csv").set_index(["design", "how"]).loc[(design, how)]
    assert len(answers) == 12
    for answer in answers.itertuples():
        ours = found[answer.domain].set_index("statistic").loc[answer.statistic]
        assert_allclose(ours["estimate"], answer.estimate, rtol=1e-6, err_msg=str(answer))
        assert_allclose(
            ours["standard_error"], answer.se, rtol=1e-6, atol=1e-8 * answer.estimate,
            err_msg=str(answer),
        )  # fmt: skip


def by_domain(made: Calibration, data: pd.DataFrame, **how: Any) -> dict[str, pd.DataFrame]:
    split = estimate(made, ASKED, data, by="sex", **how).table
    return {"all": estimate(made, ASKED, data, **how).table} | {
        sex: split[split["sex"] == sex] for sex in ("f", "m")
    }


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("design", DESIGNS)
def test_standard_errors_are_those_of_r(design: str, how: str, folder: Path) -> None:
    data = people()
    made = calibrated(data, how)

    compare(folder, design, how, by_domain(made, data, design=DESIGNS[design]))


@pytest.mark.parametrize("how", ["linear", "raking"])
@pytest.mark.parametrize("design", REPLICATED)
def test_replicates_are_those_of_r(design: str, how: str, folder: Path) -> None:
    data = people()
    made = calibrated(data, how)
    drawn = Replication.jackknife(DESIGNS[REPLICATED[design]], data)
    replicates = replicate_weights(made, drawn, progress=False)
    theirs = np.loadtxt(folder / f"{design}_{how}.csv", delimiter=",")

    assert_allclose(replicates.weights, theirs, rtol=1e-6, atol=1e-8)
    compare(folder, design, how, by_domain(made, data, replicates=replicates))
