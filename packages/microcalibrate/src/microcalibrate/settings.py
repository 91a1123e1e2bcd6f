"""The options of a calibration: checked once, together with the problem that they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from microcalibrate.arrays import Vector
from microcalibrate.engine.distances import Distance
from microcalibrate.engine.losses import SQUARED, Loss
from microcalibrate.errors import InvalidOption
from microcalibrate.problem import Problem
from microcalibrate.selection.drawing import SAMPLED_GATES, SELECTIONS, Budget

# Refitted weights may be less close to where they start: few records must do the work of many.
REFIT_CLOSENESS = 10.0
# What `Calibration` has where nobody says otherwise.
DEFAULT_KAPPA, DEFAULT_SELECTION = 1.0, "closed_form"


@dataclass(frozen=True)
class Settings:
    """What a calibration was asked for; `Calibration` says what each option means.

    Attributes:
        budget: How many records stay, or None for all.
        distance: What closeness to design weights means.
        loss: What errors of soft targets cost.
        closeness: Price of distance in the dense solve.
        refit_closeness: Price of distance in the refit.
        selection: Name of the way in which records are chosen.
        temperature: Final temperature of trained gates.
        seed: Of the draw.
        device: Torch device of trained gates.
    """

    budget: Budget | None
    distance: Distance
    loss: Loss
    closeness: float
    refit_closeness: float
    selection: str
    temperature: float | None
    seed: int
    device: str | None

    @classmethod
    def checked(
        cls,
        problem: Problem,
        *,
        l0_lambda: float,
        target_records: int | None,
        kappa: float,
        distance: Distance,
        loss: Loss = SQUARED,
        closeness: float,
        refit_closeness: float | None,
        selection: str,
        temperature: float | None,
        seed: int,
        device: str | None,
    ) -> Settings:
        """Check every option, alone and against the others.

        Raises:
            InvalidOption: If one is out of its range, or cannot be honoured with the others.
        """
        closeness = _positive("closeness", closeness)
        if refit_closeness is None:
            refit_closeness = REFIT_CLOSENESS * closeness
        if not _is_whole(seed) or seed < 0:
            raise InvalidOption(f"seed={seed!r} must be a whole number that is not negative.")
        _check_selection(problem, selection, temperature, device, loss)
        free = (problem.design_weights > 0) & (problem.lower_ratio < problem.upper_ratio)
        # Refuses here, not in the middle of a solve, bounds that a distance cannot do with.
        _check_bounds(distance, problem.lower_ratio[free], problem.upper_ratio[free])
        if loss is not SQUARED and not problem.is_soft.any():
            raise InvalidOption(
                f'loss="{loss}" is about soft targets, and none is soft. Leave it out, or leave '
                "some tolerances out."
            )
        return cls(
            budget=_checked_budget(problem, target_records, l0_lambda, kappa),
            distance=distance,
            loss=loss,
            closeness=closeness,
            refit_closeness=_positive("refit_closeness", refit_closeness),
            selection=selection,
            temperature=temperature,
            seed=int(seed),
            device=device,
        )

    def as_plain(self, problem: Problem, max_iter: int) -> dict[str, Any]:
        """Every option in plain types; bounds given per record are named as such."""
        budget = self.budget
        return {
            "l0_lambda": budget.l0_lambda if budget else 0.0,
            "target_records": budget.records if budget else None,
            "kappa": budget.kappa if budget else None,
            "min_weight_ratio": _plain_bound(problem.min_ratio),
            "max_weight_ratio": _plain_bound(problem.max_ratio),
            "min_weight": _plain_bound(problem.min_weight, unbounded=-np.inf),
            "max_weight": _plain_bound(problem.max_weight),
            "n_frozen": int(problem.frozen.sum()),
            "heteroscedasticity": None if np.all(problem.heteroscedasticity == 1) else "per record",
            "distance": self.distance.name,
            "loss": str(self.loss),
            "closeness": self.closeness,
            "refit_closeness": self.refit_closeness,
            "selection": self.selection if self.budget else None,
            "temperature": self.temperature,
            "seed": self.seed,
            "device": self.device,
            "max_iter": max_iter,
            "n_records": problem.n_records,
            "n_targets": problem.n_targets,
        }


def refuse_idle(
    settings: Settings, kappa: float, selection: str, refit_closeness: float | None
) -> None:
    """Refuse options on the choice of records where all of them stay.

    Args:
        settings: Those of the calibration.
        kappa: As it was given.
        selection: As it was given.
        refit_closeness: As it was given.

    Raises:
        InvalidOption: If one differs from its default and would be ignored.
    """
    if settings.budget is not None:
        return
    idle = {
        "kappa": kappa if kappa != DEFAULT_KAPPA else None,
        "selection": selection if selection != DEFAULT_SELECTION else None,
        "refit_closeness": refit_closeness,
    }
    for name, value in idle.items():
        if value is not None:
            raise InvalidOption(
                f"{name}={value!r} acts only where records are chosen, and all of them stay: add "
                f"target_records or l0_lambda, or leave {name} out."
            )


def _check_bounds(distance: Distance, lower: Vector, upper: Vector) -> None:
    """Refuse bounds on ratios between which a distance is not defined."""
    distance.between(lower, upper)
    outside = np.flatnonzero((upper < distance.lower) | (lower > distance.upper))
    if outside.size:
        first = int(outside[0])
        raise InvalidOption(
            f'distance="{distance.name}" knows ratios from {np.max(distance.lower):g} to '
            f"{np.min(distance.upper):g}, and bounds leave {outside.size} records between "
            f"{lower[first]:g} and {upper[first]:g}. Choose another distance, or wider bounds."
        )


def _checked_budget(
    problem: Problem, target_records: int | None, l0_lambda: float, kappa: float
) -> Budget | None:
    if not _is_number(l0_lambda) or l0_lambda < 0:
        raise InvalidOption(
            f"l0_lambda={l0_lambda!r} must be 0 (keep all records) or a positive price."
        )
    if not _is_number(kappa) or kappa < 0:
        raise InvalidOption(f"kappa={kappa!r} must be finite and not negative.")
    if target_records is None and l0_lambda == 0:
        return None
    if problem.frozen.any():
        raise InvalidOption(
            "records cannot be selected while some are frozen: a record that is kept stands for "
            "those that are not. Leave frozen out, or calibrate all records."
        )
    if np.any(problem.min_ratio < 0):
        raise InvalidOption(
            "records cannot be selected while weights may turn negative: set min_weight_ratio to "
            "0 or more."
        )
    if target_records is None:
        return Budget(None, float(l0_lambda), float(kappa))
    if l0_lambda > 0:
        raise InvalidOption(
            "give either l0_lambda (a price) or target_records (a count), not both."
        )
    available = int((problem.design_weights > 0).sum())
    if not _is_whole(target_records) or not 1 <= target_records <= available:
        raise InvalidOption(
            f"target_records={target_records!r} must be a whole number from 1 to {available}, the "
            "records with positive design weight."
        )
    return Budget(int(target_records), 0.0, float(kappa))


def _check_selection(
    problem: Problem, selection: str, temperature: float | None, device: str | None, loss: Loss
) -> None:
    known = [*SELECTIONS, SAMPLED_GATES]
    if selection not in known:
        raise InvalidOption(f"selection={selection!r} is not known. Use one of {known}.")
    for name, value in (("temperature", temperature), ("device", device)):
        if value is not None and selection != SAMPLED_GATES:
            raise InvalidOption(
                f"{name} acts on trained gates only, and selection={selection!r} needs no "
                f"training. Leave {name} out, or set selection={SAMPLED_GATES!r}."
            )
    if temperature is not None and not (_is_number(temperature) and temperature > 0):
        raise InvalidOption(f"temperature={temperature!r} must be positive.")
    if selection == SAMPLED_GATES and not problem.is_soft.any():
        raise InvalidOption(
            'gates are trained on soft targets, and none is soft. Use selection="closed_form", '
            "or leave some tolerances out."
        )
    if selection == SAMPLED_GATES and loss is not SQUARED:
        raise InvalidOption(
            f'gates are trained on squared errors, not on loss="{loss}". Use '
            'selection="closed_form", or leave loss out.'
        )


def _is_number(value: Any) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and bool(np.isfinite(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _positive(name: str, value: float) -> float:
    if not _is_number(value) or value <= 0:
        raise InvalidOption(f"{name}={value!r} must be a positive number.")
    return float(value)


def _plain_bound(values: Vector, unbounded: float = np.inf) -> float | str | None:
    if np.any(values != values[0]):
        return "per record"
    if values[0] == unbounded:
        return None
    # JSON has no infinities; no upper bound is None, as it is given.
    return float(values[0]) if np.isfinite(values[0]) else (None if values[0] > 0 else "-inf")
