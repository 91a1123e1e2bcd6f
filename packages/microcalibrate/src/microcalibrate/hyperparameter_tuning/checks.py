"""Options of tuning, checked before any work is done, and what a study keeps of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from microcalibrate.calibration import Calibration
from microcalibrate.clusters import clustered
from microcalibrate.engine.distances import DISTANCES
from microcalibrate.engine.losses import loss_named
from microcalibrate.errors import InvalidOption
from microcalibrate.evaluation.folds import Index, target_folds, target_groups
from microcalibrate.hyperparameter_tuning.scoring import AGGREGATES
from microcalibrate.hyperparameter_tuning.search_space import SearchSpace
from microcalibrate.hyperparameter_tuning.storage import fingerprint
from microcalibrate.hyperparameter_tuning.tables import FORMAT, OBJECTIVES, PARETO
from microcalibrate.hyperparameter_tuning.trials import Plan
from microcalibrate.hyperparameter_tuning.workers import check_handover
from microcalibrate.problem import Problem
from microcalibrate.selection.drawing import SAMPLED_GATES

FOLDS = 5
# Options of a calibration that trials leave as they are.
ABOUT_TARGETS = (
    "tolerances",
    "importances",
    "scales",
    "min_weight_ratio",
    "min_weight",
    "max_weight",
    "frozen",
    "heteroscedasticity",
    "cluster",
)
SOLVE_OPTIONS = ("distance", "loss", "refit_closeness")
GATE_OPTIONS = ("temperature", "device")


def check_counts(**counts: Any) -> None:
    """Each is a whole number from 1, or an InvalidOption names the one that is not."""
    for name, count in counts.items():
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
            raise InvalidOption(f"{name}={count!r} must be a whole number from 1.")


def check_ways(objective: str, aggregate: str, score_weights: Any, one_standard_error: Any) -> None:
    """How trials are judged: known, and not at odds with each other."""
    if objective not in OBJECTIVES:
        raise InvalidOption(f"objective={objective!r} is not known. Use one of {list(OBJECTIVES)}.")
    if aggregate not in AGGREGATES:
        raise InvalidOption(f"aggregate={aggregate!r} is not known. Use one of {list(AGGREGATES)}.")
    if objective == PARETO and score_weights is not None:
        raise InvalidOption(
            'score_weights are parts of the balanced score, and objective="pareto" has none. '
            "Leave them out."
        )
    if not isinstance(one_standard_error, (bool, np.bool_)):
        raise InvalidOption(f"one_standard_error={one_standard_error!r} must be True or False.")


def checked_timeout(timeout: Any) -> float:
    """A positive number of seconds."""
    real = isinstance(timeout, (int, float, np.integer, np.floating))
    if not real or isinstance(timeout, bool) or not 0 < timeout < math.inf:
        raise InvalidOption(f"timeout={timeout!r} must be a positive number of seconds, or None.")
    return float(timeout)


def checked_problem(
    weights: Any,
    targets: Any,
    estimate_matrix: Any,
    target_names: Any,
    space: SearchSpace,
    seed: Any,
    options: Mapping[str, Any],
) -> Problem:
    """The problem, that of clusters if any, once every option is checked as a calibration does."""
    known = (*ABOUT_TARGETS, *SOLVE_OPTIONS, *GATE_OPTIONS)
    if unknown := [name for name in options if name not in known]:
        searched = {"l0_lambda", "target_records"} & set(unknown)
        raise InvalidOption(
            f"{unknown[0]} is no option of tuning. "
            + (
                "Prices of records are searched from lambda_min to lambda_max."
                if searched
                else f"Besides the named ones there are: {', '.join(known)}."
            )
        )
    by_gates = SAMPLED_GATES in space.selection
    low, _ = space.lambda_range
    fixed_kappa = space.kappa if isinstance(space.kappa, float) else space.kappa[0]
    problem: Problem | None = None
    for bound in space.max_weight_ratio:
        # Each bound is checked against the least ratios; the problem keeps the first.
        calibration = Calibration(
            weights,
            targets,
            estimate_matrix,
            low,
            target_names=target_names,
            kappa=fixed_kappa,
            closeness=space.closeness[0],
            max_weight_ratio=bound,
            selection=SAMPLED_GATES if by_gates else space.selection[0],
            seed=seed,
            **options,
        )
        problem, index = problem or calibration.problem, calibration.cluster_index
    assert problem is not None
    return problem if index is None else clustered(problem, index)


def checked_folds(
    problem: Problem, n_folds: int | None, groups: Any, families: Any, seed: int
) -> tuple[Index, ...]:
    """The folds, and how many if that was not said."""
    labels = target_groups(problem, None, groups=groups, families=families)
    wanted = min(FOLDS, max(2, int(labels.max()) + 1)) if n_folds is None else n_folds
    return target_folds(problem, None, wanted, groups=labels, seed=seed)


def check_plan_handover(storage: Any, plan: Plan) -> None:
    """Everything in the plan can be given to another process."""
    distance = plan.solve_options.get("distance", "chi2")
    if not isinstance(distance, str) and DISTANCES.get(distance.name) is not distance:
        raise InvalidOption(
            f"distance={distance.name!r} is one of your own, and its functions cannot be handed "
            "over to other processes. Set n_jobs=1."
        )
    check_handover(storage=storage, sampler=plan.sampler)


def study_attributes(
    problem: Problem,
    folds: Sequence[Index],
    plan: Plan,
    groups: Any,
    one_standard_error: bool,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What the study keeps about itself, in plain types."""
    distance = options.get("distance", "chi2")
    own = isinstance(plan.sampler, str)
    settings = {
        **plan.space.as_plain(),
        "groups": groups if groups is None or isinstance(groups, str) else "labels",
        "sampler": plan.sampler if own else type(plan.sampler).__name__,
        "n_draws": plan.n_draws,
        "distance": distance if isinstance(distance, str) else distance.name,
        "loss": str(loss_named(options.get("loss", "squared"))),
        "min_weight_ratio": _plain(problem.min_ratio),
        "refit_closeness": options.get("refit_closeness"),
        "temperature": options.get("temperature"),
        "device": options.get("device"),
        "max_iter": plan.max_iter,
    }
    judged = {
        "objective": plan.objective,
        "aggregate": plan.aggregate,
        "score_weights": plan.score_weights.as_plain(),
    }
    return {
        "format": FORMAT,
        **judged,
        "n_records": problem.n_records,
        "n_targets": problem.n_targets,
        "n_folds": len(folds),
        "fold_sizes": [len(fold) for fold in folds],
        "seed": plan.seed,
        "settings": settings,
        "one_standard_error": one_standard_error,
        "fingerprint": fingerprint(
            problem=problem,
            folds=folds,
            seed={"seed": plan.seed},
            settings=settings,
            objective=judged,
        ),
    }


def _plain(ratio: Any) -> float | str:
    if np.any(ratio != ratio[0]):
        return "per record"
    return float(ratio[0]) if np.isfinite(ratio[0]) else "-inf"
