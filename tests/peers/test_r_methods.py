"""Every method of R's `survey` and `sampling`, run live on a hundred random problems.

Linear, raking, logit, sinh, truncated, with variances, with equal weights in clusters, with
collinear and badly scaled columns and weights; and `trimWeights`. Where R finds no answer, ours is
certified, or names the targets that cannot hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.testing import assert_allclose

from microcalibrate import InfeasibleTargets, trim

from .problems import ratio_of, write_problem
from .r import run_r

N_PROBLEMS = 100
KINDS = ("plain", "collinear", "badly scaled columns", "badly scaled weights", "clusters")

# Each problem is a folder; see `test_r_survey.py`. A method without an answer leaves no file.
SCRIPT = r"""
suppressPackageStartupMessages(library(survey))
has_sampling <- requireNamespace("sampling", quietly = TRUE)
put <- function(g, folder, name)
  writeLines(formatC(as.numeric(g), digits = 17, format = "g"), file.path(folder, name))
quietly <- function(code) tryCatch(suppressWarnings(code), error = function(e) NULL)

for (folder in list.dirs(commandArgs(TRUE)[1], recursive = FALSE)) {
  read <- function(name) scan(file.path(folder, name), quiet = TRUE)
  d <- read("d"); total <- read("t"); limits <- read("bounds"); q <- read("q"); h <- read("h")
  x <- as.matrix(read.csv(file.path(folder, "x"), header = FALSE))
  fit <- function(calfun, lower = -Inf, upper = Inf, variance = NULL)
    quietly(grake(x, d, calfun = calfun, bounds = list(lower = lower, upper = upper),
                  population = total, epsilon = 1e-12, verbose = FALSE, maxit = 500,
                  variance = variance))
  keep <- function(g, name)
    if (!is.null(g) && is.null(attr(g, "failed")) && all(is.finite(g))) put(g, folder, name)
  keep(fit(cal.linear), "linear")
  keep(fit(cal.raking), "raking")
  keep(fit(cal.linear, variance = 1 / q), "linear_variance")
  keep(fit(cal.raking, variance = 1 / q), "raking_variance")
  if (file.exists(file.path(folder, "bounded"))) {
    keep(fit(cal.linear, limits[1], limits[2]), "linear_bounded")
    keep(fit(cal.raking, limits[1], limits[2]), "raking_bounded")
    keep(fit(cal.logit, limits[1], limits[2]), "logit_bounded")
    keep(fit(cal.sinh, 0.01, 100), "sinh")
    if (has_sampling) for (method in c("truncated", "logit")) {
      utils::capture.output(g <- quietly(
        sampling::calib(x, d, total, q = q, method = method, bounds = limits)))
      if (!is.null(g) && max(abs(crossprod(x, g * d) - total) / (1 + abs(total))) < 1e-6 &&
          all(g >= limits[1] & g <= limits[2])) keep(g, paste0("sampling_", method))
    }
  }
  if (file.exists(file.path(folder, "clustered"))) {
    data <- data.frame(x, h = h, d = d)
    names(total) <- names(data)[seq_along(total)]
    form <- as.formula(paste("~ 0 +", paste(names(total), collapse = " + ")))
    design <- svydesign(ids = ~h, weights = ~d, data = data)
    for (name in c("linear", "raking")) {
      fitted <- quietly(calibrate(design, form, total, aggregate.stage = 1, calfun = name,
                                  epsilon = 1e-12, maxit = 500))
      if (!is.null(fitted)) put(weights(fitted) / d, folder, paste0(name, "_clusters"))
    }
  }
  cap <- as.numeric(quantile(d, 0.9, type = 7))
  trimmed <- quietly(trimWeights(svydesign(ids = ~1, weights = d, data = data.frame(d)),
                                 upper = cap, strict = TRUE))
  if (!is.null(trimmed)) put(weights(trimmed), folder, "trimmed")
}
"""


def random_problem(seed: int) -> dict[str, np.ndarray]:
    """Counts and totals of 30 to 250 records, of each kind in turn."""
    rng = np.random.default_rng(1_000 + seed)
    kind = KINDS[seed % len(KINDS)]
    n_records, n_counts = int(rng.integers(30, 250)), int(rng.integers(2, 6))
    index = np.arange(n_records)
    if kind == "clusters":
        index = np.sort(rng.integers(n_records // 3, size=n_records))
    weights = rng.lognormal(3, rng.uniform(0.1, 0.8), n_records)[index]
    counts = np.eye(n_counts)[rng.integers(n_counts, size=n_records)]
    counts[:n_counts] = np.eye(n_counts)
    amounts = rng.lognormal(0, 0.5, (n_records, int(rng.integers(1, 4))))
    columns = np.hstack([counts, amounts])
    if kind == "collinear":
        columns = np.column_stack([columns, counts[:, 0] + counts[:, 1], 2 * amounts[:, 0]])
    if kind == "badly scaled columns":
        columns = columns * 10.0 ** rng.uniform(-3, 6, columns.shape[1])
    totals = columns.T @ (weights * rng.uniform(0.7, 1.4, n_records)[index])
    if kind == "badly scaled weights":
        weights = weights / 1_000
    return {
        "d": weights,
        "x": columns,
        "t": totals,
        "h": index.astype(float),
        "q": rng.uniform(0.5, 2, n_records),
        "bounds": np.array([rng.uniform(0.5, 0.9), rng.uniform(1.15, 1.8)]),
    }


def is_bounded(seed: int) -> bool:
    """R rescales weights that are far off: its bounds, and its variances, then mean others."""
    return KINDS[seed % len(KINDS)] != "badly scaled weights"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all problems, answered by one R process."""
    folder = tmp_path_factory.mktemp("problems")
    for seed in range(N_PROBLEMS):
        place = folder / f"{seed:03}"
        write_problem(place, random_problem(seed))
        if is_bounded(seed):
            (place / "bounded").touch()
        if KINDS[seed % len(KINDS)] == "clusters":
            (place / "clustered").touch()
    run_r(SCRIPT, folder)
    return folder


def options_of(method: str, problem: dict[str, np.ndarray]) -> dict[str, Any]:
    """Our options for a method of R's."""
    low, high = problem["bounds"]
    within = {"min_weight_ratio": low, "max_weight_ratio": high}
    unbounded = {"min_weight_ratio": -np.inf}
    q = {"heteroscedasticity": problem["q"]}
    return {
        "linear": {"distance": "chi2", **unbounded},
        "raking": {"distance": "raking"},
        "linear_variance": {"distance": "chi2", **unbounded, **q},
        "raking_variance": {"distance": "raking", **q},
        "linear_bounded": {"distance": "truncated_linear", **within},
        "raking_bounded": {"distance": "raking", **within},
        "logit_bounded": {"distance": "logit", **within},
        "sinh": {"distance": "sinh", "min_weight_ratio": 0.01, "max_weight_ratio": 100},
        "sampling_truncated": {"distance": "truncated_linear", **within, **q},
        "sampling_logit": {"distance": "logit", **within, **q},
        "linear_clusters": {"distance": "chi2", **unbounded, "cluster": problem["h"]},
        "raking_clusters": {"distance": "raking", "cluster": problem["h"]},
    }[method]


def methods_for(seed: int) -> list[str]:
    methods = ["linear", "raking"]
    if is_bounded(seed):
        methods += ["linear_variance", "raking_variance"]
        methods += ["linear_bounded", "raking_bounded", "logit_bounded", "sinh"]
        methods += ["sampling_truncated", "sampling_logit"]
    if KINDS[seed % len(KINDS)] == "clusters":
        methods += ["linear_clusters", "raking_clusters"]
    return methods


@pytest.mark.parametrize("seed", range(N_PROBLEMS), ids=lambda seed: f"{seed}-{KINDS[seed % 5]}")
def test_g_weights_are_those_of_r_wherever_it_has_any(seed: int, answers: Path) -> None:
    problem = random_problem(seed)
    for method in methods_for(seed):
        answer = answers / f"{seed:03}" / method
        if not answer.exists():
            continue
        expected = np.loadtxt(answer)
        # `sampling` stops at a misfit of 1e-6, which is a little more on the ratios.
        tolerance = 1e-6 if not method.startswith("sampling_logit") else 2e-5
        found = ratio_of(problem, **options_of(method, problem))

        assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=method)


def is_feasible(problem: dict[str, np.ndarray]) -> bool:
    """Whether some ratios within the bounds meet the targets, by a linear program."""
    columns = problem["x"] * problem["d"][:, None] / problem["t"]
    found = so.linprog(
        np.zeros(len(columns)),
        A_eq=columns.T,
        b_eq=np.ones(columns.shape[1]),
        bounds=[tuple(problem["bounds"])] * len(columns),
    )
    return bool(found.status == 0)


def test_where_r_fails_the_answer_is_certified_or_the_conflict_is_named(answers: Path) -> None:
    certified = infeasible = 0
    for seed in range(N_PROBLEMS):
        problem = random_problem(seed)
        for method in methods_for(seed):
            if (answers / f"{seed:03}" / method).exists() or method == "sinh":
                continue
            if method.startswith("sampling") and not any(answers.glob("*/sampling_*")):
                continue
            options = options_of(method, problem)
            if "max_weight_ratio" in options and not is_feasible(problem):
                with pytest.raises(InfeasibleTargets) as caught:
                    ratio_of(problem, **options)
                assert caught.value.conflict
                assert caught.value.relaxation
                infeasible += 1
                continue
            ratio = ratio_of(problem, **options)
            certified += 1
            assert_allclose(problem["x"].T @ (ratio * problem["d"]), problem["t"], rtol=1e-8)

    print(f"R has no answer to {certified + infeasible} questions: {certified} have one, "
          f"{infeasible} have none")  # fmt: skip
    assert certified + infeasible > 0


def test_r_has_answers_to_most_questions(answers: Path) -> None:
    """The comparison is no empty one."""
    asked = sum(len(methods_for(seed)) for seed in range(N_PROBLEMS))
    answered = sum(
        (answers / f"{seed:03}" / method).exists()
        for seed in range(N_PROBLEMS)
        for method in methods_for(seed)
        if not method.startswith("sampling")
    )

    assert answered > 0.5 * asked


@pytest.mark.parametrize("seed", range(N_PROBLEMS))
def test_trimmed_weights_are_those_of_r(seed: int, answers: Path) -> None:
    """R shares out what it cuts off in equal parts, and keeps the sum of the weights alone."""
    answer = answers / f"{seed:03}" / "trimmed"
    if not answer.exists():
        pytest.skip("R trimmed no weights")
    weights = random_problem(seed)["d"]
    found = trim(weights, np.ones((len(weights), 1)), quantile=0.9, heteroscedasticity=1 / weights)

    assert_allclose(found.weights, np.loadtxt(answer), rtol=1e-6)
