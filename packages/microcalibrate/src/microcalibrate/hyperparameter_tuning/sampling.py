"""Which trial is whose, and the Optuna sampler, made anew for each trial.

Note [Seed and rank]: a sampler that lives as long as a run has drawn other random numbers after a
resume than in a run that was never interrupted. So each trial gets a sampler of its own, seeded by
the seed of the study and the rank of the trial: the least whole number that no earlier trial has,
trials that failed left out. A killed trial leaves its rank to the one that replaces it, which sees
the same finished trials, draws the same numbers, and so tries the same options.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.errors import InvalidOption
from microcalibrate.hyperparameter_tuning.liveness import Watch, Worker
from microcalibrate.hyperparameter_tuning.tables import load_optuna

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "nsga2", "random")
"""Samplers that are known by name."""

# Generations of NSGA-II: the 50 of the default would leave no more than one to most studies.
POPULATION = 12
SECONDS_BETWEEN_LOOKS = 0.02


def checked_sampler(sampler: Any) -> str | BaseSampler:
    """A name of a sampler, or an Optuna sampler.

    Raises:
        InvalidOption: If it is neither.
    """
    samplers = load_optuna().samplers
    if isinstance(sampler, (samplers.GridSampler, samplers.BruteForceSampler)):
        raise InvalidOption(
            f"sampler={type(sampler).__name__} ends a study by itself, and prices are a range, not "
            'a list. Use sampler="random", or lists of closeness, max_weight_ratio and selection.'
        )
    if isinstance(sampler, samplers.BaseSampler):
        return sampler  # type: ignore[no-any-return]
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise InvalidOption(
            f"sampler={sampler!r} is not known. Use one of {list(SAMPLERS)}, or an Optuna sampler."
        )
    return sampler


def sampler_of_trial(sampler: str | BaseSampler, seed: int, rank: int) -> BaseSampler:
    """The sampler of one trial; see Note [Seed and rank].

    Args:
        sampler: A name, or an Optuna sampler, which is taken as it is.
        seed: Of the study.
        rank: Of the trial.
    """
    if not isinstance(sampler, str):
        return sampler
    samplers = load_optuna().samplers
    own_seed = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    made: dict[str, Any] = {
        "tpe": lambda: samplers.TPESampler(seed=own_seed),
        "nsga2": lambda: samplers.NSGAIISampler(seed=own_seed, population_size=POPULATION),
        "random": lambda: samplers.RandomSampler(seed=own_seed),
    }
    return made[sampler]()  # type: ignore[no-any-return]


def next_trial(
    study: Study, worker: Worker, watch: Watch, n_trials: int, sampler: Any, seed: int
) -> Any:
    """Begin a trial of one's own, if the study is to have another one.

    Args:
        study: The study.
        worker: Who signs the trial.
        watch: Which finds the trials that dead workers left.
        n_trials: How many trials the study is to have.
        sampler: See `sampler_of_trial`.
        seed: Of the study.

    Returns:
        An Optuna trial, whose options are still to be suggested; None where others were faster
        and the study has all its trials. That trial then counts as failed.
    """
    from optuna.trial import TrialState

    if not isinstance(sampler, str):
        study.sampler = sampler
    trial = worker.claim(study)
    earlier = _ranks_before(study, trial.number)
    while None in earlier:
        # Whoever came earlier chooses first; all would choose the same rank otherwise.
        time.sleep(SECONDS_BETWEEN_LOOKS)
        watch.fail_abandoned(study)
        earlier = _ranks_before(study, trial.number)
    rank = next(number for number in range(len(earlier) + 1) if number not in earlier)
    if rank >= n_trials:
        with worker.finishing():
            study.tell(trial, state=TrialState.FAIL)
        return None
    trial.set_user_attr("rank", rank)
    # Optuna asks the study for its sampler again when the first option is suggested.
    study.sampler = sampler_of_trial(sampler, seed, rank)
    return trial


def _ranks_before(study: Study, number: int) -> list[int | None]:
    """Ranks of the trials before that one which did not fail; None for those without one yet."""
    from optuna.trial import TrialState

    states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial.user_attrs.get("rank") for trial in trials if trial.number < number]
