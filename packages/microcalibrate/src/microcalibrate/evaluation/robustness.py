"""How far a calibration holds beyond its own targets, and how stable its answer is.

Targets are held out in folds (Stone 1974 for cross-validation; Roberts et al. 2017 for folds of
whole groups), draws are repeated with other seeds, and records are reweighted by the Bayesian
bootstrap (Rubin 1981), which leaves every target the records that it needs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.arrays import Vector, checked_matrix
from microcalibrate.calibration import Calibration, NotConvergedWarning
from microcalibrate.clusters import clustered, mean_rows
from microcalibrate.errors import InvalidOption
from microcalibrate.evaluation.folds import target_folds, target_groups
from microcalibrate.evaluation.held_out import (
    FoldSolve,
    Plan,
    Refit,
    Runs,
    draws_table,
    folds_table,
    refit_row,
    solve_folds,
    targets_table,
)
from microcalibrate.evaluation.robustness_result import RobustnessResult
from microcalibrate.evaluation.tables import (
    INFEASIBLE,
    RandomComparison,
    compared,
    known_mean,
    robustness_figures,
)
from microcalibrate.problem import Problem
from microcalibrate.progress import Bar, ProgressBar

if TYPE_CHECKING:
    import pandas as pd

# Folds, where there are as many groups of targets and no other number is asked for.
FOLDS = 5
# Seeds of repeated draws, where records are drawn at all.
DRAWS = 3
# Options of a calibration that are about its targets or bounds: a problem holds them.
ABOUT_TARGETS = {
    "tolerances",
    "importances",
    "scales",
    "min_weight_ratio",
    "max_weight_ratio",
    "min_weight",
    "max_weight",
    "frozen",
    "heteroscedasticity",
    "cluster",
    "quotients",
}


def evaluate_robustness(
    weights: Any,
    targets: Any,
    estimate_matrix: Any,
    l0_lambda: float = 0.0,
    n_folds: int | None = None,
    *,
    target_names: Sequence[str] | None = None,
    target_records: int | None = None,
    groups: Any = "correlation",
    families: Sequence[str | None] | None = None,
    n_draws: int | None = None,
    n_bootstrap: int = 0,
    untargeted: Any = None,
    compare_with_random: bool = True,
    seed: int = 0,
    progress: bool | None = False,
    max_iter: int = 1000,
    **options: Any,
) -> RobustnessResult:
    """Measure how well a calibration does on targets that it did not see, and how stable it is.

    Each fold of targets is left out in turn: the dense solve on the others is done once, every
    draw and refit starts from it, and the targets left out are then looked at.

    Args:
        weights: Design weights, shape `(n_records,)`, persons (or households) per record.
        targets: Population totals, shape `(n_targets,)`, or a mapping by target name.
        estimate_matrix: What each record adds to each target per unit of weight, shape
            `(n_records, n_targets)`: DataFrame, array or SciPy sparse matrix.
        l0_lambda: Price of records, as in `Calibration`; 0 keeps all.
        n_folds: How many folds, from 2 to the number of groups of targets; None is 5, or as many
            as there are groups.
        target_names: Names of the targets, where the matrix has no column names.
        target_records: Exact number of records to keep, instead of a price.
        groups: Which targets are held out together: "correlation" of their columns (a target and
            its copy are never parted), "family", "names", None, or one label per target; see
            `microcalibrate.evaluation.target_groups`.
        families: A family per target, for `groups="family"`.
        n_draws: Draws with seeds from `seed` on, in each fold and on all targets; 3 where None
            and records are drawn, 1 where all stay.
        n_bootstrap: Replicates of the whole calibration with design weights times exponential
            random numbers of mean 1 (Rubin 1981). Each costs a dense solve.
        untargeted: Further variables whose totals are followed but not targeted, per unit of
            weight: DataFrame, array or SciPy sparse matrix, shape `(n_records, n_variables)`.
        compare_with_random: Whether simple random samples of as many records are refitted in the
            same folds; where all records stay there is nothing to compare.
        seed: Of folds, draws and replicates.
        progress: Whether to show a bar; None shows it on a terminal.
        max_iter: Most Newton steps of each solve.
        **options: Further options of `Calibration`: tolerances, importances, scales,
            min_weight_ratio, max_weight_ratio, min_weight, max_weight, frozen,
            heteroscedasticity, cluster (whose records are kept, left out and counted as one),
            quotients, distance, loss, closeness, refit_closeness, kappa, selection,
            temperature, device.

    Returns:
        Figures by name, tables, and a verdict in words.

    Raises:
        InvalidProblem: If weights, targets or matrix do not fit together.
        InvalidOption: If an option is out of its range, or there are fewer groups than folds.
        InfeasibleTargets: If exact or banded targets cannot all hold, on all records or on those
            drawn.
        KeyboardInterrupt: If Ctrl-C ended a solve: half a comparison is none.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> matrix = rng.lognormal(size=(200, 10))
        >>> robustness = evaluate_robustness(
        ...     weights=np.ones(200), targets=matrix.sum(axis=0) * 1.1, estimate_matrix=matrix
        ... )
        >>> robustness["mean_error"] < 0.1
        True
        >>> len(robustness.folds)
        5
    """
    if options.get("partition") is not None:
        raise InvalidOption(
            "partition is no option of an evaluation: it changes no answer. Leave it out."
        )
    # Everything is checked here once, as a calibration would.
    asked: Any = {"target_records": target_records, "target_names": target_names, "seed": seed}
    calibration = Calibration(weights, targets, estimate_matrix, l0_lambda, **options | asked)
    problem, drawn = calibration.problem, calibration.settings.budget is not None
    index = calibration.cluster_index
    draws = _checked_count("n_draws", n_draws, DRAWS if drawn else 1, 1)
    replicates = _checked_count("n_bootstrap", n_bootstrap, 0, 0)
    if draws > 1 and not drawn:
        raise InvalidOption(
            f"n_draws={draws} needs records to be drawn, and all stay. Give l0_lambda or "
            "target_records, or leave n_draws out."
        )
    extra = _checked_variables(untargeted, problem.n_records)
    if index is not None:
        # From here on, clusters are the records.
        extra = mean_rows(extra[0], problem.design_weights, index), extra[1]
        problem = clustered(problem, index)
    labels = target_groups(problem, None, groups=groups, families=families)
    if n_folds is None:
        n_folds = max(min(FOLDS, len(set(labels.tolist()))), 2)
    folds = target_folds(problem, None, n_folds, groups=labels, seed=seed)
    engine = {name: value for name, value in options.items() if name not in ABOUT_TARGETS}
    seeds = tuple(range(int(seed), int(seed) + draws))
    plan = Plan(l0_lambda, target_records, seeds, drawn and compare_with_random)

    with ProgressBar(progress) as bar:
        shared: dict[str, Any] = {"max_iter": max_iter, "bar": bar, **engine}
        # The bar shows the engine's steps; whoever listens hears of whole runs, too.
        runs = Bar(False, "folds", "runs", total=1 + len(folds) + replicates)
        with runs:
            whole = plan.run(FoldSolve(problem, np.array([], dtype=np.int64), **shared))
            runs.advance()
            parts, boot = [], []
            for solved in solve_folds(problem, folds, **shared):
                parts.append(plan.run(solved))
                runs.advance()
            for number in range(replicates):
                boot.append(plan.replicate(problem, number + 1, **shared))
                runs.advance()
    _warn_of_open_ends([whole, *parts])

    tables = {
        "folds": folds_table(problem, whole, parts),
        "targets": targets_table(problem, labels, parts).assign(target=calibration.states.targets),
        "draws": draws_table([whole, *parts]),
        "bootstrap": _bootstrap_table(boot),
        "drift": _drift_table(problem, extra, whole, parts, boot),
    }
    random = compared(tables["folds"], tables["draws"]) if plan.with_random else None
    figures = robustness_figures(tables, random)
    settings = {
        **calibration.settings.as_plain(problem, max_iter),
        "n_folds": len(folds),
        "groups": groups if groups is None or isinstance(groups, str) else "labels",
        "n_draws": draws,
        "n_bootstrap": replicates,
    }
    verdict = _verdict(figures, tables, random, settings)
    return RobustnessResult(figures, **tables, random=random, verdict=verdict, settings=settings)


def _checked_count(name: str, given: int | None, default: int, least: int) -> int:
    count = default if given is None else given
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < least:
        raise InvalidOption(f"{name}={given!r} must be a whole number from {least}.")
    return int(count)


def _checked_variables(untargeted: Any, n_records: int) -> tuple[Any, tuple[str, ...]]:
    if untargeted is None:
        return np.zeros((n_records, 0)), ()
    matrix, names = checked_matrix(untargeted, n_records, ())
    return matrix, names or tuple(f"variable_{column}" for column in range(matrix.shape[1]))


def _warn_of_open_ends(runs: Sequence[Runs]) -> None:
    ends = [run.dense_status for run in runs]
    ends += [r.status for run in runs for r in run.drawn if r.weights is not run.dense_weights]
    open_ends = [status for status in ends if not status.is_certified]
    if open_ends:
        warnings.warn(
            f"{len(open_ends)} of {len(ends)} solves have no certificate: {open_ends[0].value}",
            NotConvergedWarning,
            stacklevel=3,
        )


def _bootstrap_table(replicates: Sequence[Refit | None]) -> pd.DataFrame:
    import pandas as pd

    rows = [{"replicate": n, **refit_row(refit)} for n, refit in enumerate(replicates, 1)]
    columns = ["replicate", "records", "kish", "train_error", "status"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"train_error": "error"})


def _drift_table(
    problem: Problem,
    untargeted: tuple[Any, tuple[str, ...]],
    whole: Runs,
    parts: Sequence[Runs],
    replicates: Sequence[Refit | None],
) -> pd.DataFrame:
    import pandas as pd

    matrix, names = untargeted
    dense = np.asarray(matrix.T @ whole.dense_weights)
    size = np.asarray(abs(matrix).T @ np.abs(whole.dense_weights))
    scale = np.where(dense != 0, np.abs(dense), np.where(size > 0, size, 1.0))

    def changes(weights: Iterable[Vector]) -> Vector:
        found = [(matrix.T @ each - dense) / scale for each in weights]
        return np.array(found) if found else np.full((1, len(names)), np.nan)

    random = [refit for refit in whole.random if refit is not None]
    again = changes(refit.weights for refit in replicates if refit is not None)
    return pd.DataFrame(
        {
            "variable": list(names),
            "design_total": np.asarray(matrix.T @ problem.design_weights),
            "dense_total": dense,
            "draw_drift": np.abs(changes(refit.weights for refit in whole.drawn)).mean(axis=0),
            "fold_drift": np.abs(changes(part.dense_weights for part in parts)).mean(axis=0),
            "random_drift": np.abs(changes(refit.weights for refit in random)).mean(axis=0),
            "bootstrap_std": again.std(axis=0, ddof=1) if len(again) > 1 else math.nan,
        }
    )


def _verdict(
    figures: Mapping[str, float],
    tables: dict[str, pd.DataFrame],
    random: RandomComparison | None,
    settings: Mapping[str, Any],
) -> tuple[str, ...]:
    """What to make of it, one sentence each."""
    worst = tables["targets"].nlargest(1, "held_out_error").iloc[0]
    helps = "brings" if figures["mean_error"] < figures["design_error"] else "does not bring"
    said = [
        f"Held-out targets are missed by {figures['mean_error']:.2%} on average (standard "
        f"deviation over {figures['n_folds']:.0f} folds: {figures['std_error']:.2%}), those "
        f"calibrated to by {figures['train_error']:.2%}: a gap of {figures['gap']:.2%}.",
        f"The design weights miss the same targets by {figures['design_error']:.2%}: calibrating "
        f"to the other targets {helps} held-out ones closer.",
        f'The held-out target missed most is "{worst["name"]}" ({worst.held_out_error:.2%}); '
        f"{figures['within_10_percent']:.0%} are within 10%.",
        f"Leaving out a fold moves {figures['weight_change']:.2%} of the weight.",
    ]
    if "draw_std" in figures:
        said.append(
            f"Over {settings['n_draws']} draws of about {figures['records']:,.0f} records the "
            f"held-out error has a standard deviation of {figures['draw_std']:.2%}."
        )
    if random is not None:
        said.append(_against_random(random, figures))
    boot = tables["bootstrap"]
    if "bootstrap_std" in figures:
        said.append(
            f"Over {len(boot)} reweightings of the records the error on all targets is on average "
            f"{known_mean(boot.error):.2%} (standard deviation {figures['bootstrap_std']:.2%})."
        )
    if infeasible := int((boot.status == INFEASIBLE).sum()):
        said.append(f"{infeasible} of {len(boot)} reweightings could not meet the hard targets.")
    drift = tables["drift"]
    if len(drift):
        said.append(
            f"Totals of {len(drift)} untargeted variables change by {drift.draw_drift.median():.2%}"
            f" (median) against the dense weights through draw and refit, and by "
            f"{drift.fold_drift.median():.2%} when a fold is left out."
        )
    if settings["groups"] is None:
        said.append("Targets were held out one by one: like ones may have leaked between folds.")
    return tuple(said)


def _against_random(random: RandomComparison, figures: Mapping[str, float]) -> str:
    if not random.n_folds:
        return "No simple random sample of as many records could meet the hard targets."
    word = "no clear difference from random"
    if abs(random.advantage) > 2 * random.advantage_standard_error:
        word = "better than random" if random.advantage > 0 else "worse than random"
    return (
        f"Simple random samples of as many records ({figures['records']:,.0f}) miss held-out "
        f"targets by {random.mean_error:.2%}: this is {word}, with {random.error_ratio:.2f} times "
        f"the error, and the smaller one in {random.folds_won} of {random.n_folds} folds."
    )
